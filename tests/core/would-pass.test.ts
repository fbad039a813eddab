import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Config } from "../../daemon/core/config.ts";
import { MODES } from "../../daemon/core/mode.ts";
import { type NetEntryInput, readEntry } from "../../daemon/core/net-entry.ts";
import { renderRules } from "../../daemon/core/nft.ts";
import { parseRendered } from "../../daemon/core/nft-listing.ts";
import { posture } from "../../daemon/core/posture.ts";
import { type Packet, wouldPass } from "../../daemon/core/would-pass.ts";
import { passesRules } from "../support/nft-model.ts";

type Network = Config["network"];

// few values of each, so that what lists name is often what packets have
const link = fc.constantFrom("eth0", "wg0", "tun0");
const cidr = fc.constantFrom("10.0.0.0/8", "10.1.2.3", "0.0.0.0/0", "2001:db8::/32", "2001:db8::1", "::/0");
const cgroup = fc.constantFrom("user.slice", "user.slice/agent", "user.slice/agents");
const uid = fc.constantFrom(0, 1_000);
const object = fc.record(
  {
    address: cidr,
    port: fc.constantFrom<number | string>(22, 443, "1-1024"),
    protocol: fc.constantFrom("tcp" as const, "udp" as const, "icmp" as const, "esp" as const),
    interface: link,
    uid,
    cgroup,
    direction: fc.constantFrom("in" as const, "out" as const),
  },
  { requiredKeys: [] },
);
const entry = fc.oneof(cidr, object).filter((input: NetEntryInput) => typeof readEntry(input) !== "string");
const entries = fc.array(entry, { maxLength: 3 });
const networks: fc.Arbitrary<Network> = fc.record({
  trustedInterfaces: fc.uniqueArray(link, { maxLength: 2 }),
  deny: entries,
  allow: entries,
});
const packets: fc.Arbitrary<Packet> = fc
  .record({
    direction: fc.constantFrom("in" as const, "out" as const, "forward" as const),
    family: fc.constantFrom(4 as const, 6 as const),
    near: fc.nat(2),
    far: fc.nat(2),
    protocol: fc.constantFrom("tcp", "udp", "icmp", "esp", "vrrp"),
    port: fc.constantFrom(22, 443, 8_080, 40_000),
    interface: link,
    outInterface: link,
    loopback: fc.boolean(),
    uid: fc.option(uid),
    cgroup: fc.option(cgroup),
    answersFrom: fc.constantFrom(undefined, undefined, 22, 443, 40_000),
  })
  .map(({ near, far, answersFrom, ...rest }) => {
    const addresses =
      rest.family === 4 ? ["10.1.2.3", "10.9.9.9", "192.0.2.1"] : ["2001:db8::1", "2001:db8::9", "fe80::1"];
    const hasPorts = rest.protocol === "tcp" || rest.protocol === "udp";
    const forwarded = rest.direction === "forward";
    return {
      ...rest,
      localAddress: addresses[near] ?? "",
      remoteAddress: addresses[far] ?? "",
      port: hasPorts ? rest.port : null,
      loopback: rest.loopback && !forwarded,
      // what is forwarded has no socket here, nor has what comes in
      ...(rest.direction === "out" ? {} : { uid: null, cgroup: null }),
      ...(answersFrom === undefined || forwarded ? {} : { answersFrom: hasPorts ? answersFrom : null }),
    };
  });

describe("wouldPass", () => {
  test("a stricter mode passes nothing that a looser one refuses", () => {
    fc.assert(
      fc.property(networks, packets, (network, packet) => {
        const passes = MODES.map((mode) => wouldPass(posture(mode), network, packet).pass);
        expect(passes).toEqual(passes.toSorted((a, b) => Number(b) - Number(a)));
      }),
      { numRuns: 3_000 },
    );
  });

  test("the rules that are rendered decide as it does", () => {
    fc.assert(
      fc.property(networks, packets, (network, packet) => {
        for (const mode of MODES) {
          const extra = { keep: null, hold: "enforcing", links: [] } as const;
          const script = renderRules(posture(mode), network, { kind: "dead-man", timeoutMs: 500 }, extra);
          const [inet] = parseRendered(script);
          if (inet === undefined) throw new Error("no table");
          const model = wouldPass(posture(mode), network, packet);
          expect([mode, passesRules(inet, packet), script]).toEqual([mode, model.pass, script]);
        }
      }),
      { numRuns: 1_500 },
    );
  });

  // what one entry allows and what answers it are too seldom met by chance
  test("the rules for answers decide as it does", () => {
    const port = fc.constantFrom(22, 443);
    const allowed = fc.record(
      {
        protocol: fc.constantFrom("tcp" as const, "udp" as const),
        port,
        direction: fc.constantFrom("in" as const, "out" as const),
      },
      { requiredKeys: ["protocol"] },
    );
    const pairs = fc.tuple(allowed, packets, port, fc.boolean()).map(([input, any, from, answers]) => {
      const { answersFrom: _, ...packet } = any;
      const direction = packet.direction === "forward" ? "in" : packet.direction;
      const met = { ...packet, direction, protocol: input.protocol, port: 40_000, loopback: false } as const;
      return { input, packet: answers ? { ...met, answersFrom: from } : { ...met, port: from } };
    });
    const passed = new Set<boolean>();
    fc.assert(
      fc.property(pairs, ({ input, packet: met }) => {
        const network: Network = { trustedInterfaces: [], deny: [], allow: [input] };
        const extra = { keep: null, hold: "enforcing", links: [] } as const;
        const script = renderRules(posture("TRUSTED"), network, { kind: "settled" }, extra);
        const [inet] = parseRendered(script);
        if (inet === undefined) throw new Error("no table");
        const model = wouldPass(posture("TRUSTED"), network, met).pass;
        passed.add(model);
        expect([passesRules(inet, met), script]).toEqual([model, script]);
      }),
      { numRuns: 500 },
    );
    expect(passed.size).toBe(2);
  });

  test("one more denial never lets through more, one more allowance never less", () => {
    fc.assert(
      fc.property(networks, entry, packets, fc.constantFrom(...MODES), (network, more, packet, mode) => {
        const pass = (lists: Network) => wouldPass(posture(mode), lists, packet).pass;
        expect(Number(pass({ ...network, deny: [...network.deny, more] }))).toBeLessThanOrEqual(
          Number(pass(network)),
        );
        expect(Number(pass({ ...network, allow: [...network.allow, more] }))).toBeGreaterThanOrEqual(
          Number(pass(network)),
        );
      }),
      { numRuns: 2_000 },
    );
  });

  const packet: Packet = {
    direction: "out",
    family: 4,
    localAddress: "10.0.0.2",
    remoteAddress: "10.0.0.1",
    protocol: "tcp",
    port: 443,
    interface: "eth0",
    loopback: false,
  };
  const none: Network = { trustedInterfaces: [], deny: [], allow: [] };

  test.each<[string, Partial<Network>, Partial<Packet>, boolean, string]>([
    ["nothing listed", {}, {}, false, "mode TRUSTED"],
    ["a trusted link", { trustedInterfaces: ["eth0"] }, {}, true, "trusted interface eth0"],
    ["an allowed port", { allow: ["192.0.2.1", { protocol: "tcp", port: 443 }] }, {}, true, "allow[1]"],
    ["a denied uid, not known", { trustedInterfaces: ["eth0"], deny: [{ uid: 5 }] }, {}, false, "deny[0]"],
    [
      "a denied uid, none",
      { trustedInterfaces: ["eth0"], deny: [{ uid: 5 }] },
      { uid: null },
      true,
      "trusted interface eth0",
    ],
    ["an allowed uid, not known", { allow: [{ uid: 5 }] }, {}, false, "mode TRUSTED"],
    ["loopback", { deny: ["0.0.0.0/0"] }, { loopback: true }, true, "loopback"],
    [
      "forwarded between trusted links",
      { trustedInterfaces: ["eth0", "wg0"] },
      { direction: "forward", outInterface: "wg0" },
      true,
      "trusted interface eth0 and wg0",
    ],
    [
      "forwarded to another",
      { trustedInterfaces: ["eth0"] },
      { direction: "forward", outInterface: "wg0" },
      false,
      "mode TRUSTED",
    ],
  ])("TRUSTED, %s", (_, lists, over, pass, rule) => {
    expect(wouldPass(posture("TRUSTED"), { ...none, ...lists }, { ...packet, ...over })).toEqual({
      pass,
      rule,
    });
  });

  test("an entry that cannot be read denies, and allows nothing", () => {
    const odd = { trustedInterfaces: ["eth0"], deny: [{}], allow: [] };
    expect(wouldPass(posture("RESTRICTED"), odd, packet).pass).toBe(false);
    expect(wouldPass(posture("TRUSTED"), { ...none, allow: [{}] }, packet).pass).toBe(false);
  });

  test("a packet without an address is refused as a question", () => {
    const deny = ["10.0.0.0/8"];
    expect(() =>
      wouldPass(posture("RESTRICTED"), { ...none, deny }, { ...packet, remoteAddress: "?" }),
    ).toThrow(expect.objectContaining({ code: "argument-invalid" }));
  });
});

describe("readEntry", () => {
  test.each<[NetEntryInput, RegExp]>([
    [{}, /at least one/],
    [{ direction: "in" }, /at least one/],
    [{ port: 22 }, /needs protocol/],
    [{ port: 22, protocol: "icmp" }, /needs protocol/],
    [{ port: 0, protocol: "tcp" }, /no port/],
    [{ port: "9-2", protocol: "tcp" }, /no port/],
    [{ port: "1-70000", protocol: "tcp" }, /no port/],
    [{ uid: 5, direction: "in" }, /of what leaves/],
    [{ cgroup: "../x" }, /no plain path/],
    [{ cgroup: "/x" }, /no plain path/],
    [{ cgroup: 'x" drop' }, /no plain path/],
    ["10.0.0.0/99", /no address/],
  ])("%j is refused", (input, why) => {
    expect(readEntry(input)).toMatch(why);
  });

  test("whatever the strings, nothing leaves the quotes or the words of a rule", () => {
    const any = fc.record(
      {
        address: fc.string({ unit: "binary" }),
        cgroup: fc.string({ unit: "binary" }),
        port: fc.oneof(fc.string(), fc.double()),
        protocol: fc.constant("tcp" as const),
      },
      { requiredKeys: ["protocol"] },
    );
    fc.assert(
      fc.property(any, (input) => {
        if (typeof readEntry(input) === "string") return;
        const network: Network = { trustedInterfaces: [], deny: [input], allow: [] };
        const extra = { keep: null, hold: "enforcing", links: [] } as const;
        const script = renderRules(posture("RESTRICTED"), network, { kind: "settled" }, extra);
        expect(script).toMatch(/^[ -~\n]*$/);
        expect(parseRendered(script).map(({ family }) => family)).toEqual(["inet", "arp"]);
      }),
    );
  });
});
