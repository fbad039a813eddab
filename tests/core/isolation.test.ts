import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { toIsolation } from "../../daemon/core/config.ts";
import { parseConfig } from "../../daemon/core/config-parse.ts";
import {
  type Isolation,
  type IsolationInput,
  missingInterfaces,
  readIsolation,
  renderPass,
} from "../../daemon/core/isolation.ts";
import {
  isolationCanaries,
  renderIsolation,
  renderIsolationRemoval,
} from "../../daemon/core/isolation-rules.ts";
import { PROTOCOL_NAMES, PROTOCOLS } from "../../daemon/core/net-entry.ts";
import { compareRules } from "../../daemon/core/nft-compare.ts";
import { type Listing, parseRendered } from "../../daemon/core/nft-listing.ts";
import { type DomainPacket, passesDomains } from "../support/isolation-model.ts";

const EXAMPLE = readFileSync(new URL("../../policies/isolation.example.yaml", import.meta.url), "utf8");

function good(input: IsolationInput): Isolation {
  const read = readIsolation(input);
  if (!read.ok) throw new Error(JSON.stringify(read.problems));
  return read.value;
}

function tableOf(isolation: Isolation): Listing {
  const [table] = parseRendered(renderIsolation(isolation));
  if (table === undefined) throw new Error("nothing was rendered");
  return table;
}

const PACKET: DomainPacket = {
  from: "ct0",
  to: "pt0",
  protocol: PROTOCOLS.udp,
  sourcePort: 40_000,
  port: 500,
  answer: false,
  neighbours: false,
};

describe("the shipped example", () => {
  const config = parseConfig(EXAMPLE);
  if (!config.ok || config.value.isolation === undefined) throw new Error("it cannot be read");
  const isolation = toIsolation(config.value.isolation);
  const table = tableOf(isolation);
  const passes = (over: Partial<DomainPacket>) => passesDomains(table, { ...PACKET, ...over });

  test.each([
    [{}, true],
    [{ port: 4_500 }, true],
    [{ protocol: PROTOCOLS.esp, port: 0, sourcePort: 0 }, true],
    [{ port: 9_999 }, false],
    [{ port: 501 }, false],
    [{ protocol: PROTOCOLS.tcp }, false],
    [{ protocol: PROTOCOLS.icmp, port: 0, sourcePort: 0 }, false],
    [{ protocol: PROTOCOLS.ah, port: 0, sourcePort: 0 }, false],
    // the source port is anybody's to choose, and an answer to IKE comes to port 500 again
    [{ sourcePort: 500, port: 9_999 }, false],
    [{ sourcePort: 500, port: 9_999, answer: true }, false],
  ])("%j between CT and PT, both ways: %s", (over, expected) => {
    expect(passes(over)).toBe(expected);
    expect(passes({ ...over, from: "pt0", to: "ct0" })).toBe(expected);
  });

  test("MGMT is unaffected, and so is this router and what no domain has", () => {
    for (const [from, to] of [
      ["mgmt0", "ct0"],
      ["pt0", "mgmt0"],
      ["mgmt0", "eth9"],
      ["eth9", "eth8"],
      ["ct0", ""],
      ["", "pt0"],
    ] as const)
      expect(passes({ from, to, port: 9_999 })).toBe(true);
  });

  test("nothing passes between a confined domain and an interface of none", () => {
    expect(passes({ from: "eth9", to: "ct0" })).toBe(false);
    expect(passes({ from: "pt0", to: "eth9" })).toBe(false);
  });

  test("names every interface that is not there", () => {
    expect(missingInterfaces(isolation, ["lo", "ct0", "mgmt0"])).toEqual(["pt0"]);
  });
});

const domain = (name: string, over: object = {}) => ({
  name,
  interfaces: [`${name.toLowerCase()}0`],
  host: false,
  unaffected: false,
  ...over,
});
const TWO = [domain("A"), domain("B")];

test.each<[string, IsolationInput, (string | number)[]]>([
  [
    "twice",
    { domains: [domain("A"), domain("A", { interfaces: ["x"] })], passes: [] },
    ["domains", 1, "name"],
  ],
  ["begins", { domains: [domain("1A")], passes: [] }, ["domains", 0, "name"]],
  ["begins", { domains: [domain("A-B")], passes: [] }, ["domains", 0, "name"]],
  ["nowhere", { domains: [domain("A", { interfaces: [] })], passes: [] }, ["domains", 0, "interfaces"]],
  [
    "already",
    { domains: [domain("A"), domain("B", { interfaces: ["a0"] })], passes: [] },
    ["domains", 1, "interfaces"],
  ],
  ["loopback", { domains: [domain("A", { interfaces: ["lo"] })], passes: [] }, ["domains", 0, "interfaces"]],
  ["plain", { domains: [domain("A", { interfaces: ["a b"] })], passes: [] }, ["domains", 0, "interfaces"]],
  ["plain", { domains: [domain("A", { interfaces: ["ct*"] })], passes: [] }, ["domains", 0, "interfaces"]],
  [
    "already",
    { domains: [domain("A", { host: true }), domain("B", { host: true })], passes: [] },
    ["domains", 1, "host"],
  ],
  [
    "unaffected",
    { domains: [domain("A", { host: true, unaffected: true })], passes: [] },
    ["domains", 0, "host"],
  ],
  ["no domain", { domains: TWO, passes: [{ between: ["A", "C"], protocol: "esp" }] }, ["passes", 0]],
  ["name two", { domains: TWO, passes: [{ between: ["A", "A"], protocol: "esp" }] }, ["passes", 0]],
  ["both ends", { domains: TWO, passes: [{ protocol: "esp" }] }, ["passes", 0]],
  ["both ends", { domains: TWO, passes: [{ from: "A", protocol: "esp" }] }, ["passes", 0]],
  ["both ends", { domains: TWO, passes: [{ between: ["A"], protocol: "esp" }] }, ["passes", 0]],
  [
    "both ends",
    { domains: TWO, passes: [{ between: ["A", "B"], from: "A", to: "B", protocol: "esp" }] },
    ["passes", 0],
  ],
  ["needs a port", { domains: TWO, passes: [{ between: ["A", "B"], protocol: "udp" }] }, ["passes", 0]],
  [
    "a port needs",
    { domains: TWO, passes: [{ between: ["A", "B"], protocol: "esp", port: 1 }] },
    ["passes", 0],
  ],
  [
    "no port",
    { domains: TWO, passes: [{ between: ["A", "B"], protocol: "udp", port: "9-1" }] },
    ["passes", 0],
  ],
  [
    "unaffected",
    {
      domains: [...TWO, domain("M", { unaffected: true })],
      passes: [{ from: "M", to: "A", protocol: "esp" }],
    },
    ["passes", 0],
  ],
])("refuses what says %s: %j", (words, input, path) => {
  const read = readIsolation(input);
  expect(read.ok).toBe(false);
  if (read.ok) return;
  expect(read.problems).toHaveLength(1);
  expect(read.problems[0]?.path).toEqual(path);
  expect(read.problems[0]?.problem).toContain(words);
});

test("a mistake is told with its line, and an unknown key is one", () => {
  const bad = parseConfig(EXAMPLE.replace("port: 4500", "port: 0").replace("unaffected:", "unafected:"));
  if (bad.ok) throw new Error("it was taken");
  expect(bad.problems.map(({ problem }) => problem)).toContain("unknown key");
  const port = parseConfig(EXAMPLE.replace("port: 4500", "port: 0"));
  if (port.ok) throw new Error("it was taken");
  expect(port.problems).toHaveLength(1);
  expect(port.problems[0]).toMatchObject({ line: 10, at: "isolation.passes[1]" });
});

test("passes are told to people", () => {
  const { passes } = good({
    domains: TWO,
    passes: [
      { between: ["A", "B"], protocol: "udp", port: "500-510" },
      { from: "B", to: "A", protocol: "tcp", port: 22 },
      { from: "B", to: "A", protocol: "tcp", port: 22 },
    ],
  });
  expect(passes.map(renderPass)).toEqual([
    "A > B udp 500-510",
    "B > A udp 500-510",
    "B > A tcp 22 and its answers",
  ]);
});

// Properties: interfaces x0 to x7, of which some are in domains

const LINKS = Array.from({ length: 8 }, (_, i) => `x${i}`);
const NAMES = ["A", "B", "C", "D"];

const INPUTS: fc.Arbitrary<IsolationInput> = fc
  .record({
    owners: fc.array(fc.constantFrom(0, 1, 2, 3, null), { minLength: LINKS.length, maxLength: LINKS.length }),
    host: fc.constantFrom(0, 1, 2, 3, null),
    unaffected: fc.constantFrom(0, 1, 2, 3, null),
    passes: fc.array(
      fc.record({
        ends: fc.shuffledSubarray(NAMES, { minLength: 2, maxLength: 2 }),
        both: fc.boolean(),
        protocol: fc.constantFrom(...PROTOCOL_NAMES),
        first: fc.integer({ min: 1, max: 12 }),
        more: fc.integer({ min: 0, max: 3 }),
      }),
      { maxLength: 6 },
    ),
  })
  .map(({ owners, host, unaffected, passes }) => {
    const domains = NAMES.flatMap((name, at) => {
      const interfaces = LINKS.filter((_, link) => owners[link] === at);
      const isHost = host === at && unaffected !== at;
      return interfaces.length === 0 && !isHost
        ? []
        : [{ name, interfaces, host: isHost, unaffected: unaffected === at }];
    });
    const confined = domains.filter((each) => !each.unaffected).map(({ name }) => name);
    return {
      domains,
      passes: passes
        .filter(({ ends }) => ends.every((name) => confined.includes(name)))
        .map(({ ends: [one = "", other = ""], both, protocol, first, more }) => ({
          ...(both ? { between: [one, other] } : { from: one, to: other }),
          protocol,
          ...(protocol === "tcp" || protocol === "udp" ? { port: `${first}-${first + more}` } : {}),
        })),
    };
  });

const PACKETS: fc.Arbitrary<DomainPacket> = fc
  .record({
    from: fc.constantFrom("", ...LINKS),
    to: fc.constantFrom("", ...LINKS),
    protocol: fc.constantFrom(...Object.values(PROTOCOLS)),
    sourcePort: fc.integer({ min: 1, max: 16 }),
    port: fc.integer({ min: 1, max: 16 }),
    answer: fc.boolean(),
  })
  .filter(({ from, to }) => from !== "" || to !== "")
  .map((packet) => ({ ...packet, neighbours: false }));

/** What the configuration says, read without its rules. null: it says nothing of this packet. */
function named(input: IsolationInput, packet: DomainPacket): boolean | null {
  const ownerOf = (link: string) =>
    link === ""
      ? input.domains.find(({ host }) => host)
      : input.domains.find(({ interfaces }) => interfaces.includes(link));
  const [from, to] = [ownerOf(packet.from), ownerOf(packet.to)];
  if (from?.unaffected || to?.unaffected) return null;
  const isLocal = packet.from === "" || packet.to === "";
  // between the host and an interface of no domain, or a host of none: not ours to say
  if (isLocal ? from === undefined || to === undefined : from === undefined && to === undefined) return null;
  if (from === undefined || to === undefined) return false;
  if (from.name === to.name) return isLocal ? null : true;
  return input.passes.some((pass) => {
    if (PROTOCOLS[pass.protocol] !== packet.protocol) return false;
    const [first = 0, last = 0] = String(pass.port ?? "0-0")
      .split("-")
      .map(Number);
    const fits = (port: number) => pass.port === undefined || (first <= port && port <= last);
    const [one, other] = pass.between ?? [pass.from, pass.to];
    const forth = one === from.name && other === to.name && fits(packet.port);
    if (forth) return true;
    const isBack = one === to.name && other === from.name;
    if (!isBack) return false;
    return pass.between === undefined ? packet.answer && fits(packet.sourcePort) : fits(packet.port);
  });
}

describe("the rules of any domains", () => {
  test("let pass what the configuration names, and nothing else of what it speaks of", () => {
    let told = 0;
    fc.assert(
      fc.property(INPUTS, fc.array(PACKETS, { minLength: 20, maxLength: 20 }), (input, packets) => {
        fc.pre(input.domains.length > 0);
        const table = tableOf(good(input));
        for (const packet of packets) {
          const expected = named(input, packet);
          if (expected === false) told++;
          expect(passesDomains(table, packet), JSON.stringify(packet)).toBe(expected ?? true);
        }
      }),
      { numRuns: 500 },
    );
    expect(told).toBeGreaterThan(500);
  });

  test("are one transaction about one table, and the same for the same", () => {
    fc.assert(
      fc.property(INPUTS, (input) => {
        fc.pre(input.domains.length > 0);
        const script = renderIsolation(good(input));
        const [first, second, third] = script.split("\n");
        expect([first, second, third]).toEqual([
          "add table inet boundary_isolation",
          "delete table inet boundary_isolation",
          "table inet boundary_isolation {",
        ]);
        expect(script.match(/^(?:add|delete|table|flush|include|define)\b.*$/gm)).toHaveLength(3);
        expect(renderIsolation(good(input))).toBe(script);
        expect(compareRules(parseRendered(script), parseRendered(script))).toMatchObject({ same: true });
      }),
    );
  });

  test("send each self-test packet to the end of its domain's chain", () => {
    fc.assert(
      fc.property(INPUTS, (input) => {
        fc.pre(input.domains.length > 0);
        const isolation = good(input);
        const statements = tableOf(isolation).blocks.get("chain selftest")?.statements ?? [];
        const canaries = isolationCanaries(isolation);
        expect(statements.slice(2)).toEqual(
          canaries.map(
            ({ family, address, port, domain: name }) =>
              `${family} daddr ${address} udp dport ${port} jump from_${name}`,
          ),
        );
        expect(new Set(canaries.map(({ domain: name }) => name)).size).toBe(isolation.confined.length);
      }),
    );
  });

  test("never throw over what is no configuration of domains", () => {
    const text = fc.oneof(
      fc.string({ maxLength: 20 }),
      fc.constantFrom("A", "ct0", "lo", 'x"; flush ruleset'),
    );
    const anything = fc.record({
      domains: fc.array(
        fc.record({
          name: text,
          interfaces: fc.array(text, { maxLength: 3 }),
          host: fc.boolean(),
          unaffected: fc.boolean(),
        }),
        { maxLength: 4 },
      ),
      passes: fc.array(
        fc.record(
          {
            between: fc.array(text, { maxLength: 3 }),
            from: text,
            to: text,
            protocol: fc.constantFrom(...PROTOCOL_NAMES),
            port: fc.oneof(fc.integer(), text),
          },
          { requiredKeys: ["protocol"] },
        ),
        { maxLength: 4 },
      ),
    });
    fc.assert(
      fc.property(anything, (input) => {
        const read = readIsolation(input);
        if (!read.ok) expect(read.problems.length).toBeGreaterThan(0);
        // what was taken cannot leave its quotes
        else expect(renderIsolation(read.value)).not.toContain("flush");
      }),
    );
  });
});

test("taking it away names one table", () => {
  expect(renderIsolationRemoval()).toBe(
    "add table inet boundary_isolation\ndelete table inet boundary_isolation\n",
  );
});
