import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createUsbGate } from "../../daemon/adapters/usb-gate.ts";
import { usbHash } from "../../daemon/core/usb-hash.ts";
import type { UsbGate, UsbLook } from "../../daemon/ports.ts";
import { descriptorsOf, type TreeDevice, type UsbTree, usbTree } from "../support/usb-tree.ts";

const KEYBOARD: TreeDevice = {
  port: "1-1",
  id: "046d:c31c",
  name: "Keyboard",
  interfaces: [{ number: 0, code: "03:01:01" }],
};
const BOTH: TreeDevice = {
  port: "1-2",
  id: "1234:5678",
  name: "Both",
  serial: "77",
  interfaces: [
    { number: 0, code: "03:01:01" },
    { number: 1, code: "08:06:50" },
  ],
};

let tree: UsbTree;
let gate: UsbGate;

beforeEach(() => {
  tree = usbTree();
  gate = createUsbGate({ root: tree.root, write: (path, text) => tree.write(path, text) });
});

afterEach(() => tree.remove());

function look(port: string): UsbLook {
  const found = gate.list().find((each) => each.port === port);
  if (!found) throw new Error(`${port} is not there`);
  return found;
}

const some = (...names: string[]) => ({ device: "allow", interfaces: new Set(names) }) as const;
const NONE = { device: "block", interfaces: new Set<string>() } as const;

describe("what it sees", () => {
  test("a device with its facts, its interfaces and its drivers; the controller first", () => {
    tree.plug(BOTH);
    const [controller, device] = gate.list();
    expect(controller).toMatchObject({
      port: "usb1",
      authorized: true,
      defaults: { device: "1", interface: "1" },
      interfaces: [{ name: "1-0:1.0", authorized: true, driver: "hub" }],
      described: [{ name: "1-0:1.0", codes: ["09:00:00"] }],
    });
    expect(device).toMatchObject({
      port: "1-2",
      authorized: true,
      problem: null,
      defaults: null,
      facts: {
        port: "1-2",
        id: "1234:5678",
        name: "Both",
        serial: "77",
        hash: usbHash({ id: "1234:5678", name: "Both", serial: "77" }, descriptorsOf(BOTH)),
        parentHash: controller?.facts.hash,
        interfaces: ["03:01:01", "08:06:50"],
        connectType: "hotplug",
      },
      interfaces: [
        { name: "1-2:1.0", authorized: true, driver: "usbhid" },
        { name: "1-2:1.1", authorized: true, driver: "usb-storage" },
      ],
    });
    expect(gate.glance()).toMatchObject([{ port: "usb1" }, { port: "1-2", number: device?.number }]);
  });

  test("what a device that is not authorised has, from its descriptors: alternate settings too", () => {
    gate.setDefaults("usb1", "closed");
    tree.plug({
      ...KEYBOARD,
      interfaces: [
        { number: 0, code: "ff:00:00" },
        { number: 0, alternate: 1, code: "08:06:50" },
      ],
    });
    expect(look("1-1")).toMatchObject({
      authorized: false,
      interfaces: [],
      described: [{ name: "1-1:1.0", codes: ["ff:00:00", "08:06:50"] }],
    });
  });

  test("a hub behind a hub, with the hashes of what they hang on", () => {
    tree.plug({ port: "1-3", id: "05e3:0610", interfaces: [{ number: 0, code: "09:00:00" }] });
    tree.plug({ ...KEYBOARD, port: "1-3.4" });
    expect(gate.list().map(({ port }) => port)).toEqual(["usb1", "1-3", "1-3.4"]);
    expect(look("1-3.4").facts.parentHash).toBe(look("1-3").facts.hash);
  });

  test.each([
    ["descriptors that are cut", { descriptors: descriptorsOf(BOTH).subarray(0, 30) }],
    ["no descriptors", { descriptors: new Uint8Array() }],
    ["descriptors that are longer than the kernel gives out", { descriptors: new Uint8Array(70_000) }],
    ["an id that is none", { id: "zzzz:5678" }],
    ["a name of 600 bytes", { name: "x".repeat(600) }],
  ])("%s: a device that cannot be understood has a problem and no hash", (_what, over) => {
    tree.plug({ ...BOTH, ...over });
    expect(look("1-2")).toMatchObject({ problem: expect.any(String), facts: { hash: "" } });
  });

  test("a serial number that is no UTF-8, or a pipe, is a problem and holds up nothing", () => {
    tree.plug(BOTH);
    writeFileSync(join(tree.root, "1-2/serial"), Buffer.from([0xff, 0xfe]));
    expect(look("1-2").problem).toContain("serial");
    mkdirSync(join(tree.root, "1-9"));
    expect(look("1-9").problem).not.toBeNull();
  });

  test("names that are no devices are passed over; where there is no USB there is nothing", () => {
    mkdirSync(join(tree.root, "1-1;rm"));
    symlinkSync("/etc", join(tree.root, "..."));
    expect(gate.list().map(({ port }) => port)).toEqual(["usb1"]);
    expect(createUsbGate({ root: join(tree.top, "nowhere") }).list()).toEqual([]);
  });
});

describe("what it writes", () => {
  test("closed controllers authorise nothing by themselves; opened ones do", () => {
    gate.setDefaults("usb1", "closed");
    tree.plug(KEYBOARD);
    expect(look("1-1").authorized).toBe(false);
    gate.setDefaults("usb1", "open");
    expect(tree.writes).toEqual([
      "usb1/interface_authorized_default 0",
      "usb1/authorized_default 0",
      "usb1/authorized_default 1",
      "usb1/interface_authorized_default 1",
    ]);
  });

  test("a device is authorised without the interface that is refused, which no driver ever gets", () => {
    gate.setDefaults("usb1", "closed");
    tree.plug(BOTH);
    gate.set(look("1-2"), some("1-2:1.0"));
    expect(look("1-2").interfaces).toEqual([
      { name: "1-2:1.0", authorized: true, driver: "usbhid" },
      { name: "1-2:1.1", authorized: false, driver: "" },
    ]);
    expect(tree.writes.slice(2)).toEqual([
      "1-2/authorized 1",
      "1-2:1.0/authorized 1",
      "usb/drivers_probe 1-2:1.0",
    ]);
  });

  test("an interface that is in use is taken away, and the driver with it; all come back when asked", () => {
    tree.plug(BOTH);
    gate.set(look("1-2"), some("1-2:1.0"));
    expect(look("1-2").interfaces[1]).toEqual({ name: "1-2:1.1", authorized: false, driver: "" });
    gate.set(look("1-2"), { device: "allow", interfaces: "all" });
    expect(look("1-2").interfaces[1]).toEqual({ name: "1-2:1.1", authorized: true, driver: "usb-storage" });
  });

  test("a block takes the device's interfaces; a reject takes it off the bus", () => {
    tree.plug(BOTH);
    tree.plug(KEYBOARD);
    gate.set(look("1-2"), NONE);
    expect(look("1-2")).toMatchObject({ authorized: false, interfaces: [] });
    gate.set(look("1-1"), { device: "reject", interfaces: new Set() });
    expect(gate.list().map(({ port }) => port)).toEqual(["usb1", "1-2"]);
  });

  test("nothing is let in while the controller would let in the refused interface too", () => {
    tree.put("usb1", "authorized_default", "0");
    tree.plug(BOTH);
    expect(() => gate.set(look("1-2"), some("1-2:1.0"))).toThrow(
      expect.objectContaining({ code: "usb-failed" }),
    );
    expect(look("1-2").authorized).toBe(false);
  });

  test("what reads back otherwise has failed", () => {
    tree.plug(KEYBOARD);
    const lying = createUsbGate({ root: tree.root, write: () => undefined });
    expect(() => lying.set(look("1-1"), NONE)).toThrow(expect.objectContaining({ code: "usb-failed" }));
    expect(() => lying.setDefaults("usb1", "closed")).toThrow(
      expect.objectContaining({ code: "usb-failed" }),
    );
  });

  test("through its own writer it takes the files as they are, and never makes one", () => {
    tree.plug(KEYBOARD);
    const own = createUsbGate({ root: tree.root });
    const seen = look("1-1");
    own.set(seen, NONE);
    expect(tree.read("1-1", "authorized")).toContain("0");
    tree.unplug("1-1");
    own.set(seen, NONE); // gone is blocked
    expect(() => own.set(seen, some("1-1:1.0"))).toThrow(expect.objectContaining({ code: "usb-failed" }));
    expect(tree.exists("1-1", "authorized")).toBe(false);
  });
});

describe("another device at the same port", () => {
  test("is not let in on what was said of the one before", () => {
    gate.setDefaults("usb1", "closed");
    tree.plug(KEYBOARD);
    const seen = look("1-1");
    tree.unplug("1-1");
    tree.plug({ ...BOTH, port: "1-1" });
    expect(() => gate.set(seen, some("1-1:1.0"))).toThrow(expect.objectContaining({ code: "usb-failed" }));
    expect(tree.read("1-1", "authorized")).toBe("0");
  });

  test("nor with the same number and descriptors in another directory of sysfs", () => {
    tree.plug({ ...KEYBOARD, number: 9 });
    const one = look("1-1");
    expect(one.instance).toMatch(/^[1-9]\d*$/);
    expect(gate.glance().find(({ port }) => port === "1-1")?.instance).toBe(one.instance);
    expect(() => gate.set({ ...one, instance: `${one.instance}0` }, NONE)).toThrow(
      expect.objectContaining({ code: "usb-failed" }),
    );
    expect(() => gate.set(one, NONE)).not.toThrow();
  });

  test("nor with the same number and other descriptors", () => {
    gate.setDefaults("usb1", "closed");
    tree.plug({ ...KEYBOARD, number: 9 });
    const seen = look("1-1");
    tree.unplug("1-1");
    tree.plug({ ...BOTH, port: "1-1", number: 9 });
    expect(() => gate.set(seen, some("1-1:1.0"))).toThrow(expect.objectContaining({ code: "usb-failed" }));
  });

  test("that comes between the look and the write gets nothing of it", () => {
    gate.setDefaults("usb1", "closed");
    tree.plug(KEYBOARD);
    const seen = look("1-1");
    let swapped = false;
    tree.before = (path) => {
      if (swapped || !path.endsWith("/authorized")) return;
      swapped = true;
      tree.unplug("1-1");
      tree.plug({ ...BOTH, port: "1-1" });
    };
    expect(() => gate.set(seen, some("1-1:1.0"))).toThrow(expect.objectContaining({ code: "usb-failed" }));
    expect(swapped).toBe(true);
    expect(tree.read("1-1", "authorized")).toBe("0");
    expect(tree.read("1-1", "idVendor")).toBe("1234");
  });
});
