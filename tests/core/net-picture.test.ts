import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseMonitorLine } from "../../daemon/core/net-events.ts";
import {
  applyEvent,
  diffPictures,
  hasRenamed,
  MAX_ENTRIES,
  type NetChange,
  type Picture,
  parseDumps,
} from "../../daemon/core/net-picture.ts";

const AT = "[2026-11-21T03:11:34.910857] ";
const EMPTY: Picture = { links: new Map(), addresses: new Map(), routes: new Map() };

const LINK = (index: number, name: string, flags: string) =>
  `${AT}[LINK]${index}: ${name}: <${flags}> mtu 1500 qdisc x`;
const ADDRESS = (index: number, text: string) =>
  `${AT}[ADDR]${index}: v${index}    inet ${text} scope global v0`;
const ROUTE = (text: string) => `${AT}[ROUTE]${text} `;
const GONE = (line: string) => line.replace(/\[(LINK|ADDR|ROUTE)\]/, "$&Deleted ");

function play(lines: readonly string[], from: Picture = EMPTY) {
  let picture = from;
  const changes: NetChange[] = [];
  const unsure: string[] = [];
  for (const line of lines) {
    const applied = applyEvent(picture, parseMonitorLine(line));
    picture = applied.picture;
    changes.push(...applied.changes);
    if (applied.unsure !== null) unsure.push(applied.unsure);
  }
  return { picture, said: changes.map(say), unsure };
}

function say({ kind, facts }: NetChange): string {
  const { interface: name, address, destination, via, change } = facts;
  return [kind.replace("network.", ""), name, address ?? destination, via, change].filter(Boolean).join(" ");
}

const UP = "BROADCAST,UP,LOWER_UP";

describe("applyEvent", () => {
  test.each<[string, readonly string[], readonly string[]]>([
    [
      "a link that comes down and one that comes up",
      [LINK(1, "v1", "BROADCAST"), LINK(2, "v2", UP)],
      ["link v1 added", "link v2 added", "link v2 up"],
    ],
    [
      "a link switched on and off",
      [LINK(1, "v1", ""), LINK(1, "v1", UP), LINK(1, "v1", "")],
      ["link v1 added", "link v1 up", "link v1 down"],
    ],
    [
      "a cable put in and pulled",
      [LINK(1, "v1", "UP"), LINK(1, "v1", UP), LINK(1, "v1", "NO-CARRIER,UP")],
      ["link v1 added", "link v1 up", "link v1 up", "link v1 down"],
    ],
    [
      "repeats",
      [LINK(1, "v1", UP), LINK(1, "v1", UP), ADDRESS(1, "10.0.0.1/8"), ADDRESS(1, "10.0.0.1/8")],
      ["link v1 added", "link v1 up", "address v1 10.0.0.1/8 added"],
    ],
    [
      "the end of something never seen",
      [GONE(LINK(1, "v1", "")), GONE(ADDRESS(1, "10.0.0.1/8")), GONE(ROUTE("10.0.0.0/8 dev v1"))],
      [],
    ],
    [
      "a link that goes takes its addresses and routes along",
      [LINK(1, "v1", ""), ADDRESS(1, "10.0.0.1/8"), ROUTE("10.0.0.0/8 dev v1"), GONE(LINK(1, "v1", ""))],
      [
        "link v1 added",
        "address v1 10.0.0.1/8 added",
        "route v1 10.0.0.0/8 added",
        "link v1 removed",
        "address v1 10.0.0.1/8 removed",
        "route v1 10.0.0.0/8 removed",
      ],
    ],
    [
      "a link switched off loses its IPv4 routes, of which the kernel says nothing",
      [
        LINK(1, "v1", UP),
        ROUTE("10.0.0.0/8 dev v1"),
        ROUTE("fd00::/8 dev v1 metric 1 pref medium"),
        LINK(1, "v1", ""),
      ],
      [
        "link v1 added",
        "link v1 up",
        "route v1 10.0.0.0/8 added",
        "route v1 fd00::/8 added",
        "link v1 down",
        "route v1 10.0.0.0/8 removed",
      ],
    ],
    [
      "routes that differ in their table",
      [ROUTE("10.0.0.0/8 dev v1"), ROUTE("10.0.0.0/8 dev v1 table 7")],
      ["route v1 10.0.0.0/8 added", "route v1 10.0.0.0/8 added"],
    ],
  ])("%s", (_what, lines, expected) => {
    const { said, unsure } = play(lines);
    expect(said).toEqual(expected);
    expect(unsure).toEqual([]);
  });

  test.each<[string, readonly string[], string]>([
    ["a line not understood", ["gibberish"], "not understood"],
    ["a renamed link", [LINK(1, "v1", ""), LINK(1, "v9", "")], "renamed"],
    [
      "a port that leaves its bridge",
      [LINK(1, "v1", ""), `${GONE(LINK(1, "v1", ""))} master br0`],
      "left its bridge",
    ],
  ])("%s makes the picture unsure", (_what, lines, why) => {
    expect(play(lines).unsure).toEqual([why]);
  });

  const VETH = [LINK(2, "d1@NONE", ""), LINK(3, "d0@d1", "")];
  test.each<[string, readonly string[], readonly string[], readonly string[]]>([
    ["a veth pair", VETH, ["link d1 added", "link d0 added"], ["ambiguous", "ambiguous"]],
    ["one end elsewhere", [LINK(2, "d0@if7", "")], ["link d0 added"], ["ambiguous"]],
    ["an @ in a name", [LINK(7, "eth0@evil", "")], ["link eth0@evil added"], ["ambiguous"]],
    [
      "an @ in both names of a pair",
      [LINK(2, "d1@y@NONE", ""), LINK(3, "d0@x@d1@y", "")],
      ["link d1@y added", "link d0@x added"],
      ["ambiguous", "ambiguous"],
    ],
    [
      "a known link is the one we know, and once is enough to ask",
      [...VETH, LINK(3, "d0@d1", UP), LINK(3, "d0@gone", UP)],
      ["link d1 added", "link d0 added", "link d0 up"],
      ["ambiguous", "ambiguous", "ambiguous"],
    ],
    [
      "a new name with an @",
      [LINK(7, "eth0", ""), LINK(7, "eth0@evil", "")],
      ["link eth0 added"],
      ["ambiguous"],
    ],
    ["a plain name", [LINK(7, "eth0", "")], ["link eth0 added"], []],
  ])("the name of a link: %s", (_what, lines, said, unsure) => {
    expect(play(lines)).toMatchObject({ said, unsure });
  });

  test("a new name is a link gone and a link come", () => {
    expect(play([LINK(1, "v1", UP), LINK(1, "v9", UP)]).said.slice(2)).toEqual([
      "link v1 removed",
      "link v9 added",
      "link v9 up",
    ]);
  });

  test("keeps no more than it may", () => {
    const lines = Array.from({ length: MAX_ENTRIES + 1 }, (_, index) =>
      ROUTE(`10.${index >> 8}.${index & 255}.0/24 dev v1`),
    );
    const { picture, unsure } = play(lines);
    expect(picture.routes.size).toBe(MAX_ENTRIES);
    expect(unsure).toEqual(["too many"]);
  });

  test("the changes told always lead from the first picture to the last", () => {
    const line = fc.oneof(
      fc
        .tuple(fc.integer({ min: 1, max: 2 }), fc.constantFrom("", "UP", UP))
        .map(([i, flags]) => LINK(i, `v${i}`, flags)),
      fc
        .tuple(fc.integer({ min: 1, max: 2 }), fc.constantFrom("10.0.0.1/8", "10.0.0.2/8"))
        .map(([i, text]) => ADDRESS(i, text)),
      fc.constantFrom("10.0.0.0/8 dev v1", "default via 10.0.0.9 dev v2").map(ROUTE),
    );
    const history = fc.array(fc.oneof(line, line.map(GONE)), { maxLength: 60 });
    fc.assert(
      fc.property(history, (lines) => {
        const { picture, said } = play(lines);
        const present = new Set<string>();
        for (const words of said) {
          const what = words.split(" ").slice(0, -1).join(" ");
          if (words.endsWith("added")) present.add(what);
          if (words.endsWith("removed")) expect(present.delete(what)).toBe(true);
        }
        expect(present).toEqual(
          new Set(
            diffPictures(EMPTY, picture)
              .filter((one) => one.facts["change"] === "added")
              .map((one) => say(one).split(" ").slice(0, -1).join(" ")),
          ),
        );
      }),
    );
  });
});

describe("parseDumps", () => {
  const addresses = [
    {
      ifindex: 3,
      ifname: "v0",
      link_index: 2,
      flags: ["BROADCAST", "UP", "LOWER_UP"],
      addr_info: [
        { family: "inet", local: "10.1.1.1", address: "10.1.1.2", prefixlen: 32 },
        { family: "inet6", local: "2001:db8::1", prefixlen: 64, tentative: true },
      ],
    },
  ];
  const routes = [
    { dst: "default", gateway: "10.9.8.3", dev: "v0", flags: [] },
    { dst: "default", gateway: "2001:db8::3", dev: "v0", metric: 1024, flags: [], pref: "medium" },
    { dst: "10.57.0.0/16", via: { family: "inet6", host: "fe80::1" }, dev: "v0", flags: [] },
    {
      dst: "10.66.0.0/16",
      flags: [],
      nexthops: [
        { gateway: "10.9.8.3", dev: "v0", weight: 1 },
        { gateway: "10.9.8.4", dev: "v0" },
      ],
    },
    { type: "blackhole", dst: "10.77.0.0/16", flags: [] },
    { type: "local", dst: "10.1.1.1", dev: "v0", table: "local" },
  ];

  test("gives the picture that the same events give", () => {
    const lines = [
      LINK(3, "v0@if2", UP),
      `${AT}[ADDR]3: v0    inet 10.1.1.1 peer 10.1.1.2/32 scope global v0`,
      `${AT}[ADDR]3: v0    inet6 2001:db8::1/64 scope global tentative `,
      ROUTE("default via 10.9.8.3 dev v0"),
      ROUTE("default via 2001:db8::3 dev v0 metric 1024 pref medium"),
      ROUTE("10.57.0.0/16 via inet6 fe80::1 dev v0"),
      ROUTE("10.66.0.0/16 \\\tnexthop via 10.9.8.3 dev v0 weight 1 \\\tnexthop via 10.9.8.4 dev v0 weight 2"),
      ROUTE("blackhole 10.77.0.0/16"),
      ROUTE("local 10.1.1.1 dev v0 table local"),
    ];
    expect(parseDumps(addresses, routes)).toEqual(play(lines).picture);
  });

  test("a listing is sure of the name, and then the same line is", () => {
    const shows = [
      [{ ifname: "eth0@evil" }, "eth0@evil"],
      [{ ifname: "eth0@NONE" }, "eth0@NONE"],
      [{ ifname: "d0", link: "d1@y" }, "d0@d1@y"],
      [{ ifname: "d0@x", link_index: 7 }, "d0@x@if7"],
      [{ ifname: "d0", link: null }, "d0@NONE"],
    ] as const;
    for (const [given, shown] of shows) {
      const picture = parseDumps([{ ifindex: 7, flags: [], ...given }], []);
      expect(picture.links.get(7)).toMatchObject({ name: given.ifname, shown });
      const after = play([LINK(7, shown, UP)], picture);
      expect(after).toMatchObject({ said: [`link ${given.ifname} up`], unsure: [] });
      expect(hasRenamed(picture, after.picture)).toBe(false);
    }
  });

  test("a link that goes by another name in a later listing is renamed", () => {
    const one = (ifname: string) => parseDumps([{ ifindex: 7, flags: [], ifname }], []);
    expect(hasRenamed(one("eth0"), one("eth0@evil"))).toBe(true);
    expect(hasRenamed(one("eth0"), EMPTY)).toBe(false);
    expect(hasRenamed(EMPTY, one("eth0"))).toBe(false);
  });

  test("refuses what is no listing", () => {
    for (const bad of [null, {}, [{}], [1], "x"]) {
      expect(() => parseDumps(bad, routes)).toThrow();
      expect(() => parseDumps(addresses, bad)).toThrow();
    }
    expect(() => parseDumps(addresses, [{ dst: "nowhere", dev: "v0" }])).toThrow();
  });
});

test("diffPictures tells each difference once, and nothing of a picture and itself", () => {
  const before = play([LINK(1, "v1", UP), ADDRESS(1, "10.0.0.1/8")]).picture;
  const after = play([LINK(1, "v1", ""), ADDRESS(1, "10.0.0.2/8"), ROUTE("10.0.0.0/8 dev v1")]).picture;
  expect(diffPictures(before, after).map(say)).toEqual([
    "link v1 down",
    "address v1 10.0.0.1/8 removed",
    "address v1 10.0.0.2/8 added",
    "route v1 10.0.0.0/8 added",
  ]);
  expect(diffPictures(after, after)).toEqual([]);
});
