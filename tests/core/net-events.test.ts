import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { netlinkDrops, networkDigest } from "../../daemon/core/net-digest.ts";
import { type NetEvent, parseMonitorLine } from "../../daemon/core/net-events.ts";

const AT = "[2026-11-21T03:11:34.910857] ";

/** Printed by iproute2 6.1.0, `ip -o -ts monitor label link address route`. */
const REAL_LINES = [
  `${AT}[LINK]1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN group default \\    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00`,
  `${AT}[LINK]3: v0@v1: <NO-CARRIER,BROADCAST,MULTICAST,UP,M-DOWN> mtu 1500 qdisc noqueue state LOWERLAYERDOWN group default \\    link/ether de:02:54:c7:67:95 brd ff:ff:ff:ff:ff:ff`,
  `${AT}[LINK]Deleted 2: v1@NONE: <BROADCAST,MULTICAST> mtu 1500 qdisc noop state DOWN group default \\    link/ether c6:01:45:b9:ad:18 brd ff:ff:ff:ff:ff:ff`,
  `${AT}[LINK]Deleted 4: v0@v1: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 master br0 state UP \\    link/ether 02:df:b8:6f:b7:bd`,
  `${AT}[ADDR]3: v0    inet 10.9.8.1/24 scope global v0\\       valid_lft forever preferred_lft forever`,
  `${AT}[ADDR]Deleted 3: v0    inet6 2001:db8::1/64 scope global tentative \\       valid_lft forever preferred_lft forever`,
  `${AT}[ADDR]3: v0    inet 10.1.1.1 peer 10.1.1.2/32 scope global v0\\       valid_lft forever preferred_lft forever`,
  `${AT}[ROUTE]local 10.9.8.1 dev v0 table local proto kernel scope host src 10.9.8.1 `,
  `${AT}[ROUTE]multicast ff00::/8 dev v1 table local proto kernel metric 256 pref medium`,
  `${AT}[ROUTE]Deleted fe80::/64 dev v1 proto kernel metric 256 linkdown pref medium`,
  `${AT}[ROUTE]default via 10.9.8.2 dev v0 `,
  `${AT}[ROUTE]default via 2001:db8::2 dev v0 metric 1024 pref medium`,
  `${AT}[ROUTE]default dev tun0 metric 1024 pref medium`,
  `${AT}[ROUTE]blackhole 10.77.0.0/16 `,
  `${AT}[ROUTE]10.66.0.0/16 \\\tnexthop via 10.9.8.3 dev v0 weight 1 \\\tnexthop via 10.9.8.4 dev v0 weight 2 `,
  `${AT}[ROUTE]10.56.0.0/16 via 10.9.8.2 dev v0 table 77 metric 5 `,
  `${AT}[ROUTE]10.57.0.0/16 via inet6 fe80::1 dev v0 `,
  `${AT}[ROUTE]10.1.1.2 dev v0 proto kernel scope link src 10.1.1.1 `,
];

const route = { family: "ipv4", via: "", interface: "v0", table: "main", metric: "" } as const;

const EXPECTED: readonly NetEvent[] = [
  { kind: "link", gone: false, link: { index: 1, shown: "lo", up: true, carrier: true }, enslaved: false },
  {
    kind: "link",
    gone: false,
    link: { index: 3, shown: "v0@v1", up: true, carrier: false },
    enslaved: false,
  },
  {
    kind: "link",
    gone: true,
    link: { index: 2, shown: "v1@NONE", up: false, carrier: false },
    enslaved: false,
  },
  { kind: "link", gone: true, link: { index: 4, shown: "v0@v1", up: true, carrier: true }, enslaved: true },
  address(false, "10.9.8.1/24", "ipv4"),
  address(true, "2001:db8::1/64", "ipv6"),
  address(false, "10.1.1.1/32", "ipv4"),
  { kind: "ignored" },
  { kind: "ignored" },
  routes(true, {
    ...route,
    family: "ipv6",
    destination: "fe80::/64",
    interface: "v1",
    metric: "256",
  }),
  routes(false, { ...route, destination: "0.0.0.0/0", via: "10.9.8.2" }),
  routes(false, { ...route, family: "ipv6", destination: "::/0", via: "2001:db8::2", metric: "1024" }),
  routes(false, { ...route, family: "ipv6", destination: "::/0", interface: "tun0", metric: "1024" }),
  routes(false, { ...route, destination: "10.77.0.0/16", via: "blackhole", interface: "" }),
  routes(
    false,
    { ...route, destination: "10.66.0.0/16", via: "10.9.8.3" },
    { ...route, destination: "10.66.0.0/16", via: "10.9.8.4" },
  ),
  routes(false, { ...route, destination: "10.56.0.0/16", via: "10.9.8.2", table: "77", metric: "5" }),
  routes(false, { ...route, destination: "10.57.0.0/16", via: "fe80::1" }),
  routes(false, { ...route, destination: "10.1.1.2/32" }),
];

function address(gone: boolean, text: string, family: "ipv4" | "ipv6"): NetEvent {
  return { kind: "address", gone, address: { index: 3, name: "v0", address: text, family } };
}

function routes(gone: boolean, ...list: Extract<NetEvent, { kind: "routes" }>["routes"]): NetEvent {
  return { kind: "routes", gone, routes: list };
}

describe("parseMonitorLine", () => {
  test.each(REAL_LINES.map((line, index) => [line, EXPECTED[index]] as const))(
    "reads %s",
    (line, expected) => {
      expect(parseMonitorLine(line)).toEqual(expected);
    },
  );

  test.each([
    "",
    "1: lo: <LOOPBACK,UP> mtu 65536",
    `${AT}[NEIGH]10.9.8.2 dev v0 lladdr 00:00:00:00:00:00`,
    `${AT}[LINK]x: lo: <UP>`,
    `${AT}[ADDR]3: v0    inet 10.9.8.300/24 scope global v0`,
    `${AT}[ADDR]3: v0    inet 10.9.8.3/33 scope global v0`,
    `${AT}[ADDR]3: v0    inet6 10.9.8.3/24 scope global v0`,
    `${AT}[ROUTE]10.0.0.0/8 via somewhere dev v0`,
    `${AT}[ROUTE]10.0.0.0/8`,
    `${AT}[ROUTE]100 as to 200 via inet 10.0.0.1 dev v0`,
    `${AT}[ROUTE]10.0.0.0/8 dev v0 ${"x".repeat(9_000)}`,
  ])("does not understand %j", (line) => {
    expect(parseMonitorLine(line)).toEqual({ kind: "unknown" });
  });

  test("an ordinary route counts in the local table too", () => {
    const event = parseMonitorLine(`${AT}[ROUTE]1.2.3.0/24 via 10.9.8.2 dev v0 table local`);
    expect(event.kind).toBe("routes");
  });

  test("takes any damage to a real line without throwing, and hands on only clean names and addresses", () => {
    const damage = fc.tuple(
      fc.constantFrom(...REAL_LINES),
      fc.nat(200),
      fc.nat(20),
      fc.oneof(
        fc.string({ unit: "binary" }),
        fc.constantFrom(" ", "\\", "@", "Deleted ", "via ", "/", "%", "::"),
      ),
    );
    fc.assert(
      fc.property(damage, ([line, at, cut, insert]) => {
        const event = parseMonitorLine(line.slice(0, at) + insert + line.slice(at + cut));
        if (event.kind === "address") expect(event.address.address).toMatch(/^[0-9a-fA-F.:%\w]+\/\d{1,3}$/);
        if (event.kind === "link") expect(event.link.shown).toMatch(/^[^\s:/]{1,40}$/u);
        if (event.kind === "routes") {
          for (const one of event.routes) expect(one.destination).toMatch(/^\S+\/\d{1,3}$/);
        }
      }),
      { numRuns: 3_000 },
    );
  });
});

describe("the cheap sources", () => {
  const sources = {
    devices: "Inter-|   Receive\n face |bytes\n    lo: 100 1 0\n  eth0: 5 5 5\n",
    routes:
      "Iface Destination Gateway Flags RefCnt Use Metric Mask\neth0 00000000 0308090A 0003 0 0 0 00000000 0 0 0",
    routes6: "20010db8 40 00 00 00 00000100 00000002 00000000 00000001 eth0",
    interfaces: { lo: [{ address: "127.0.0.1" }] },
  };

  test.each([
    ["traffic", { devices: sources.devices.replaceAll("5", "6") }, true],
    ["a route's use", { routes6: sources.routes6.replace("00000002 00000000", "00000003 00000009") }, true],
    ["a link", { devices: `${sources.devices} eth1: 0 0 0\n` }, false],
    ["a gateway", { routes: sources.routes.replace("0308090A", "0408090A") }, false],
    ["an IPv6 route's flags", { routes6: sources.routes6.replace("00000001 eth0", "00000003 eth0") }, false],
    ["an address", { interfaces: { lo: [] } }, false],
  ])("%s: same digest %s", (_what, difference, same) => {
    expect(networkDigest({ ...sources, ...difference }) === networkDigest(sources)).toBe(same);
  });

  test("the drops of a listener are those of its row with groups", () => {
    const table = [
      "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode",
      "000000004f819977 0   9110       00000000 0        0        0     2        9        18208   ",
      "0000000098cce1fc 0   9110       04000551 0        0        0     2        3        18207   ",
      "0000000098cce1fd 15  9110       00000001 0        0        0     2        7        18209   ",
    ].join("\n");
    expect(netlinkDrops(table, 9110)).toBe(3);
    expect(netlinkDrops(table, 9111)).toBeNull();
    expect(netlinkDrops("", 9110)).toBeNull();
  });
});
