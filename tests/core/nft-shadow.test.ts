import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MODES } from "../../daemon/core/mode.ts";
import { renderRelease, renderRules } from "../../daemon/core/nft.ts";
import { compareRules } from "../../daemon/core/nft-compare.ts";
import { parseListings, parseRendered } from "../../daemon/core/nft-listing.ts";
import { limitsOf, readShadow, renderNotes } from "../../daemon/core/nft-shadow.ts";
import { posture } from "../../daemon/core/posture.ts";

const network = {
  trustedInterfaces: ["wg0"],
  deny: ["10.0.0.0/8", { protocol: "tcp" as const, port: 25 }],
  allow: [],
};
const flow = {
  family: 4,
  localAddress: "10.0.0.2",
  localPort: 22,
  remoteAddress: "10.0.0.1",
  remotePort: 40_000,
} as const;
const deadMan = { kind: "dead-man", timeoutMs: 2_000 } as const;
const rules = (mode: (typeof MODES)[number], hold: "enforcing" | "shadow", keep: typeof flow | null = null) =>
  renderRules(posture(mode), network, deadMan, { keep, hold, links: ["lo", "eth0"] });

describe("a mode in shadow", () => {
  test.each(MODES)("%s drops nothing, has no dead-man, and refuses at the same places", (mode) => {
    const shadow = rules(mode, "shadow");
    expect(shadow).not.toMatch(/\bdrop\b|alive|no_heartbeat/);
    const places = (script: string, end: RegExp) =>
      [...script.matchAll(/^(.*)counter name "(refused_(?:in|out|forward))" (.*)$/gm)].map(
        ([, before, name, then]) => {
          expect(then).toMatch(end);
          return `${before} ${name}`;
        },
      );
    expect(places(shadow, /^goto shadow_(in|out|forward)$/)).toEqual(
      places(rules(mode, "enforcing"), /^drop$/),
    );
  });

  test("what the kernel added to the sets is no difference, any other change is", () => {
    const wanted = parseRendered(rules("AIRGAP", "shadow"));
    const script = rules("AIRGAP", "shadow");
    const found = script.slice(script.search(/^table /m));
    const filled = found.replace(
      "timeout 1h\n",
      "timeout 1h\nelements = { 10.0.0.1 . udp . 53 expires 59m }\n",
    );
    expect(filled).not.toBe(found);
    expect(compareRules(wanted, parseListings(filled))).toMatchObject({ same: true });
    const smaller = found.replace("size 1024", "size 65535");
    expect(compareRules(wanted, parseListings(smaller))).toMatchObject({ same: false, what: "differs" });
  });
});

describe("readShadow", () => {
  const inet = (elements: string) => {
    const [table] = parseListings(
      `table inet boundary {\nset would_out4 {\nelements = { ${elements} }\n}\n}\n`,
    );
    if (table === undefined) throw new Error("no table");
    return table;
  };

  test("reads what nft lists, sorted", () => {
    expect(
      readShadow(
        inet(
          "10.0.0.2 . tcp . 443 expires 59m1s, 10.0.0.1 . 47 . 0 timeout 1h expires 1s, fe80::1 . ipv6-icmp . 0",
        ),
      ),
    ).toEqual([
      { direction: "out", address: "10.0.0.1", protocol: "gre", port: null },
      { direction: "out", address: "10.0.0.2", protocol: "tcp", port: 443 },
      { direction: "out", address: "fe80::1", protocol: "icmpv6", port: null },
    ]);
  });

  test("whatever the elements, it throws nothing, and gives short words", () => {
    fc.assert(
      fc.property(fc.array(fc.string()), (elements) => {
        const block = { statements: [], elements };
        const listing = {
          family: "inet",
          name: "boundary",
          statements: [],
          blocks: new Map([["set would_in6", block]]),
        };
        for (const { address, protocol } of readShadow(listing))
          expect(`${address} ${protocol}`).toMatch(/^[ -~]{3,80}$/);
      }),
    );
  });
});

describe("renderNotes", () => {
  const inet = (blocks: readonly (readonly [string, readonly string[]])[]) => ({
    family: "inet",
    name: "boundary",
    statements: [],
    blocks: new Map(blocks.map(([key, elements]) => [key, { statements: [], elements }])),
  });

  test("puts back what has time left, each for that time", () => {
    const listed = inet([
      [
        "set would_in4",
        ["10.0.0.1 . tcp . 22 expires 59m3s500ms", "10.0.0.2 . 47 . 0 timeout 1h expires 5s"],
      ],
      ["set would_out6", ["fd00::1 . ipv6-icmp . 0"]],
      ["set alive", ["ipv4 timeout 2s expires 1s"]],
    ]);
    expect(renderNotes(listed)).toBe(
      "add element inet boundary would_in4 { 10.0.0.1 . tcp . 22 timeout 1h expires 59m3s500ms, 10.0.0.2 . 47 . 0 timeout 1h expires 5s }\n",
    );
    expect(renderNotes(inet([]))).toBe("");
  });

  test("whatever is listed, no other command gets into the script, and no more than a set holds", () => {
    const element = fc.oneof(
      fc.string({ unit: "binary" }),
      fc.string().map((text) => `10.0.0.1 . tcp . 22 expires 5s${text}`),
      fc.string().map((text) => `10.0.0.1 . ${text} . 22 expires 5s`),
    );
    fc.assert(
      fc.property(fc.array(element), (elements) => {
        expect(renderNotes(inet([["set would_in4", elements]]))).toMatch(
          /^(add element inet boundary would_in4 \{ [0-9a-z.: ,-]+ \}\n)?$/,
        );
      }),
    );
    const many = Array.from({ length: 2_000 }, () => "10.0.0.1 . tcp . 22 expires 5s");
    expect(renderNotes(inet([["set would_in4", many]])).match(/expires/g)).toHaveLength(1_024);
  });
});

test("limitsOf says which list is full", () => {
  const seen = (direction: "in" | "out", address: string, count: number) =>
    Array.from({ length: count }, (_, port) => ({ direction, address, protocol: "tcp", port }));
  const all = [
    ...seen("in", "10.0.0.1", 1_024),
    ...seen("out", "10.0.0.1", 1_023),
    ...seen("in", "fd00::1", 9),
  ];
  const full = limitsOf(all).filter((each) => each.startsWith("full"));
  expect(full).toEqual([expect.stringContaining("(in, IPv4)")]);
  expect(limitsOf([]).join()).toMatch(/hour.*ARP/);
});

describe("a kept flow", () => {
  test.each(MODES)("%s", (mode) => {
    const kept = ["TRUSTED", "AIRGAP", "COLDROOM"].includes(mode);
    const script = rules(mode, "enforcing", flow);
    expect(script.includes("tcp sport 22 tcp dport 40000 accept")).toBe(kept);
    expect(script.includes("tcp sport 40000 tcp dport 22 accept")).toBe(kept);
    if (!kept) expect(script).toBe(rules(mode, "enforcing"));
  });

  test("what would begin a connection on its ports is refused before, on every hook that it passes", () => {
    const lines = rules("AIRGAP", "enforcing", flow).split("\n");
    const passes = lines.flatMap((line, at) => (/tcp [sd]port \d+ accept$/.test(line) ? [at] : []));
    expect(passes).toHaveLength(4); // in and out, of the inet table and of the links
    for (const at of passes) {
      const match = lines[at]?.replace(/accept$/, "");
      expect(lines[at - 1]).toMatch(/ counter name "refused_(link_)?(in|out)" drop$/);
      expect(lines[at - 1]).toContain(`${match}tcp flags & (syn | ack) == syn `);
    }
  });
});

test("a release leaves no table", () => {
  expect(parseRendered(renderRelease())).toEqual([]);
  expect(renderRelease().match(/^delete table (inet|arp|netdev) boundary$/gm)).toHaveLength(3);
});
