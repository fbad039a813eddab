import { describe, expect, test } from "vitest";
import { ConfigSchema } from "../../daemon/core/config.ts";
import type { Flow } from "../../daemon/core/flow.ts";
import { type HostNetwork, preflight } from "../../daemon/core/preflight.ts";
import { flowToKeep, preflightReply } from "../../daemon/preflight-reply.ts";

const flow = (remoteAddress: string, localPort = 22, remotePort = 50_000): Flow => ({
  family: 4,
  localAddress: "10.0.0.1",
  localPort,
  remoteAddress,
  remotePort,
});
const SSH = flow("10.0.0.9");
const WEB = flow("192.0.2.80", 40_000, 443);
const LOCAL: Flow = { ...flow("127.0.0.1", 5_432), localAddress: "127.0.0.1" };
const HOST: HostNetwork = {
  flows: [SSH, WEB, LOCAL],
  listeners: [
    { protocol: "tcp", family: 4, address: "0.0.0.0", port: 22, everywhere: true },
    { protocol: "tcp", family: 4, address: "127.0.0.1", port: 5_432, everywhere: false },
  ],
  unread: 0,
  links: new Map([
    ["127.0.0.1", { name: "lo", loopback: true }],
    ["10.0.0.1", { name: "eth0", loopback: false }],
    ["10.8.0.2", { name: "wg0", loopback: false }],
  ]),
};
const network = (over: object = {}) => ConfigSchema.parse({ network: over }).network;
const verdicts = (mode: Parameters<typeof preflight>[0], over: object = {}, keep: Flow | null = null) => {
  const { flows, listeners } = preflight(mode, network(over), HOST, { session: SSH, keep });
  return [...flows, ...listeners].map(({ verdict }) => verdict).join(" ");
};

describe("a pre-flight", () => {
  test.each([
    ["OPEN", {}, "kept kept kept kept kept"],
    ["RESTRICTED", {}, "kept kept kept kept kept"],
    ["RESTRICTED", { deny: ["192.0.2.0/24"] }, "kept cut kept kept kept"],
    ["TRUSTED", {}, "cut cut kept cut kept"],
    ["TRUSTED", { trustedInterfaces: ["eth0"] }, "kept kept kept kept kept"],
    ["TRUSTED", { trustedInterfaces: ["wg0"] }, "cut cut kept kept kept"],
    ["TRUSTED", { allow: [{ direction: "in", protocol: "tcp", port: 22 }] }, "kept cut kept kept kept"],
    ["TRUSTED", { allow: [{ direction: "out", protocol: "tcp", port: 443 }] }, "cut kept kept cut kept"],
    ["TRUSTED", { allow: ["172.16.5.0/24"] }, "cut cut kept kept kept"],
    ["AIRGAP", {}, "cut cut kept cut kept"],
    ["LOCKDOWN", {}, "cut cut cut cut cut"],
  ] as const)(
    "%s with %j: the session, a connection out, a local one, two services: %s",
    (mode, over, said) => {
      expect(verdicts(mode, over)).toBe(said);
    },
  );

  test("a flow that would be kept is kept, but in LOCKDOWN", () => {
    expect(verdicts("AIRGAP", {}, SSH)).toBe("kept cut kept cut kept");
    expect(verdicts("LOCKDOWN", {}, SSH)).toBe("cut cut cut cut cut");
  });

  test("a flow that would be kept is cut where the configuration denies it, and is not taken", () => {
    for (const mode of ["TRUSTED", "AIRGAP", "COLDROOM"] as const)
      expect(verdicts(mode, { deny: ["10.0.0.0/8"] }, SSH)).toMatch(/^cut /);
    const parts = (over: object) => ({
      sockets: { network: () => HOST, flows: () => HOST.flows, commandLine: () => "" },
      network: network(over),
    });
    expect(() => flowToKeep(parts({ deny: ["10.0.0.9"] }), "OPEN", SSH)).toThrow(
      /deny\[0\] refuses tcp 10.0.0.1:22/,
    );
    expect(flowToKeep(parts({ deny: ["10.0.0.8"] }), "OPEN", SSH)).toEqual({ flow: SSH, passes: true });
  });

  test("a session that is not there is none", () => {
    const asks = { session: flow("10.0.0.77"), keep: null };
    expect(preflight("AIRGAP", network(), HOST, asks).session).toBeNull();
    expect(preflight("AIRGAP", network(), HOST, { ...asks, session: SSH }).session).toMatchObject({
      what: "tcp 10.0.0.1:22 with 10.0.0.9:50000",
      verdict: "cut",
    });
  });

  test("the reply fits into a frame however much there is, and counts what it leaves off", () => {
    const many = Array.from({ length: 20_000 }, (_, at) => flow(`10.1.${at >> 8}.${at & 255}`));
    const parts = {
      sockets: {
        network: () => ({ ...HOST, flows: [...many, LOCAL] }),
        flows: () => [],
        commandLine: () => "",
      },
      network: network(),
      leases: () => [],
      usb: () => Array.from({ length: 500 }, () => ({ port: "1-1.4", name: "x".repeat(80), verdict: "cut" })),
    };
    const state = { wanted: "OPEN", held: { hold: "enforcing", lasts: "always" } } as const;
    const reply = preflightReply(parts, state, { mode: "AIRGAP", session: null, keep: false });
    expect(Buffer.byteLength(JSON.stringify(reply))).toBeLessThan(60_000);
    expect(reply.flows).toMatchObject({ cut: 20_000, kept: 1 });
    expect(reply.flows.shown.every(({ verdict }) => verdict === "cut")).toBe(true);
    expect(reply.usb.more).toBe(400);
  });
});
