import { describe, expect, test } from "vitest";
import { ConfigSchema } from "../../daemon/core/config.ts";
import {
  faultsOf,
  markAfterStart,
  networkObstacles,
  type Obstacle,
  readSwitches,
  usbObstacles,
} from "../../daemon/core/switches.ts";

const off = ConfigSchema.parse({}).enforcement;
const on = ConfigSchema.parse({ enforcement: { network: true } }).enforcement;

describe("readSwitches", () => {
  test.each([
    ["off by default", off, {}, false],
    ["on by configuration", on, {}, true],
    ["on by environment", off, { BOUNDARY_NETWORK_ENFORCE: "1" }, true],
    ["the environment decides over the configuration", on, { BOUNDARY_NETWORK_ENFORCE: "0" }, false],
    ["an empty variable says nothing", on, { BOUNDARY_NETWORK_ENFORCE: "" }, true],
  ])("%s", (_name, config, env, network) => {
    expect(readSwitches(config, env)).toMatchObject({ ok: true, value: { network } });
  });

  test("what is neither yes nor no is an error, not a guess", () => {
    expect(readSwitches(off, { BOUNDARY_USB_ENFORCE: "maybe" })).toMatchObject({ ok: false });
  });
});

describe("networkObstacles", () => {
  const fine = {
    switchedOn: true,
    missingPrivilege: [],
    inInitNetns: false,
    allowInitNetns: false,
    firewall: null,
  } as const;

  test("nothing stands in the way where everything is there", () => {
    expect(networkObstacles(fine)).toEqual([]);
    expect(networkObstacles({ ...fine, inInitNetns: true, allowInitNetns: true })).toEqual([]);
  });

  test.each([
    ["the switch", { switchedOn: false }, /BOUNDARY_NETWORK_ENFORCE/],
    ["the privilege", { missingPrivilege: ["CAP_NET_ADMIN"] }, /CAP_NET_ADMIN/],
    ["consent in the host's own namespace", { inInitNetns: true }, /allowInitNetns/],
    ["consent where the namespace is not known", { inInitNetns: "unknown" }, /allowInitNetns/],
    ["nftables", { firewall: "no such program" }, /no such program/],
  ] as const)("names %s when it is missing", (_name, change, expected) => {
    const obstacles = networkObstacles({ ...fine, ...change });
    expect(obstacles).toHaveLength(1);
    expect(obstacles[0]?.what).toMatch(expected);
  });
});

describe("what stands between USB and the kernel", () => {
  test("is the switch, and what of sysfs cannot be written", () => {
    expect(usbObstacles({ switchedOn: true, missingPrivilege: [] })).toEqual([]);
    const both = usbObstacles({ switchedOn: false, missingPrivilege: ["writing x"] });
    expect(both.map(({ kind }) => kind)).toEqual(["switch", "privilege"]);
    expect(both[0]?.what).toContain("BOUNDARY_USB_ENFORCE");
  });
});

describe("what stands in the way", () => {
  test.each([
    ["nothing", [], [], "keep"],
    ["the switch", ["switch"], [], "forget"],
    ["the consent", ["consent"], [], "forget"],
    ["the privilege", ["privilege"], ["privilege"], "leave"],
    ["nftables", ["nftables"], ["nftables"], "leave"],
    ["both means", ["privilege", "nftables"], ["privilege", "nftables"], "leave"],
    ["the consent and a means", ["privilege", "consent"], ["privilege"], "forget"],
    ["the switch and everything else", ["switch", "privilege", "consent", "nftables"], [], "forget"],
  ] as const)("%s: whether it is a fault, and what a start remembers", (_name, kinds, faults, mark) => {
    const obstacles = kinds.map((kind): Obstacle => ({ kind, what: kind }));
    expect(faultsOf(obstacles).map(({ kind }) => kind)).toEqual(faults);
    expect(markAfterStart(obstacles)).toBe(mark);
  });
});
