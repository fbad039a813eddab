import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createClock } from "../../daemon/adapters/clock.ts";
import { createUsbGate } from "../../daemon/adapters/usb-gate.ts";
import { createUsbSensor, type Hotplug } from "../../daemon/adapters/usb-watch.ts";
import type { Signal } from "../../daemon/core/signal.ts";
import type { SignalSource } from "../../daemon/ports.ts";
import { usbTree } from "../support/usb-tree.ts";

const clock = createClock();
const noEvents: Hotplug = () => Promise.reject(new Error("none here"));
const patience = { timeout: 10_000, interval: 5 };

let top: string;
let root: string;
let signals: Signal[];
let sensor: SignalSource;

beforeEach(() => {
  top = mkdtempSync(join(tmpdir(), "boundary-usb-"));
  root = join(top, "devices");
  signals = [];
});

afterEach(async () => {
  await sensor.stop();
  rmSync(top, { recursive: true, force: true });
});

async function start(hotplug: Hotplug = noEvents, pollMs = 10): Promise<void> {
  sensor = createUsbSensor({ clock, root, pollMs, hotplug });
  await sensor.start((signal) => signals.push(signal));
}

function plug(port: string, id: string, interfaces: readonly string[], number = "5"): void {
  const [vendor = "", product = ""] = id.split(":");
  // as the kernel does it: the device first, its interfaces after it
  put(port, { idVendor: vendor, idProduct: product, devnum: number });
  interfaces.forEach((text, index) => {
    const [bInterfaceClass = "", bInterfaceSubClass = "", bInterfaceProtocol = ""] = text.split(":");
    const name = `${port.startsWith("usb") ? `${port.slice(3)}-0` : port}:1.${index}`;
    put(name, { bInterfaceClass, bInterfaceSubClass, bInterfaceProtocol });
  });
}

function put(name: string, files: Readonly<Record<string, string>>): void {
  mkdirSync(join(root, name), { recursive: true });
  for (const [file, text] of Object.entries(files)) writeFileSync(join(root, name, file), `${text}\n`);
}

function unplug(port: string, interfaces: number): void {
  for (let index = 0; index < interfaces; index += 1)
    rmSync(join(root, `${port}:1.${index}`), { recursive: true });
  rmSync(join(root, port), { recursive: true });
}

function said(): string[] {
  return signals.map(({ facts }) =>
    [facts["change"], facts["port"], facts["vendor"], facts["product"], facts["classes"], facts["why"]]
      .filter(Boolean)
      .join(" "),
  );
}

describe("a sensor on a tree like sysfs", () => {
  beforeEach(() => plug("usb1", "1d6b:0002", ["09:00:00"], "1"));

  test("says nothing of what is plugged in at the start", async () => {
    await start();
    await sleep(100);
    expect(said()).toEqual([]);
    expect(sensor.health()).toEqual({
      state: "watching",
      via: "no hot-plug events (none here), sysfs every 10 ms",
    });
  });

  test("signals a device plugged in, with its classes, and unplugged", async () => {
    await start();
    plug("1-2", "0781:5581", ["08:06:50"]);
    await expect.poll(said, patience).toContain("attached 1-2 0781 5581 08:06:50");
    unplug("1-2", 1);
    await expect.poll(() => said().at(-1)?.startsWith("detached 1-2 0781 5581"), patience).toBe(true);
  });

  test("knows what a device is that is not authorised, and says nothing when we authorise it or take that back", async () => {
    const tree = usbTree();
    for (const file of ["authorized_default", "interface_authorized_default"]) tree.put("usb1", file, "0");
    sensor = createUsbSensor({ clock, root: tree.root, pollMs: 10, hotplug: noEvents });
    await sensor.start((signal) => signals.push(signal));
    tree.plug({ port: "1-2", id: "0781:5581", interfaces: [{ number: 0, code: "08:06:50" }] });
    const attached = ["attached 1-2 0781 5581 08:06:50"];
    await expect.poll(said, patience).toEqual(attached);
    const gate = createUsbGate({ root: tree.root, write: tree.write });
    const look = () => gate.list().find(({ port }) => port === "1-2");
    for (const device of ["allow", "block"] as const) {
      const found = look();
      if (found) gate.set(found, { device, interfaces: new Set(["1-2:1.0"]) });
      expect(look()?.interfaces.length).toBe(device === "allow" ? 1 : 0);
      await sleep(600); // longer than it takes to settle
    }
    expect(said()).toEqual(attached);
    await sensor.stop();
    tree.remove();
  });

  test("signals all the classes of a composite device, and a hub with what is behind it", async () => {
    await start();
    plug("1-3", "05e3:0610", ["09:00:00"]);
    plug("1-3.1", "046d:c31c", ["03:01:01", "08:06:50"]);
    await expect.poll(said, patience).toContain("attached 1-3 05e3 0610 09:00:00");
    await expect.poll(said, patience).toContain("attached 1-3.1 046d c31c 03:01:01 08:06:50");
  });

  test("signals another device that took the same port between two looks", async () => {
    plug("1-2", "0781:5581", ["08:06:50"], "5");
    await start();
    put("1-2", { devnum: "6" });
    await expect
      .poll(said, patience)
      .toEqual(["detached 1-2 0781 5581 08:06:50", "attached 1-2 0781 5581 08:06:50"]);
  });

  test("looks at once when a hot-plug event comes, and stops listening when stopped", async () => {
    let fire = () => {};
    let stopped = 0;
    await start(async (onChange) => {
      fire = onChange;
      return async () => {
        stopped += 1;
      };
    }, 60_000);
    plug("1-2", "0781:5581", ["08:06:50"]);
    fire();
    expect(said()).toEqual(["attached 1-2 0781 5581 08:06:50"]);
    await sensor.stop();
    expect(stopped).toBe(1);
  });

  test("takes garbage, too much and missing files in a device for a device without those facts", async () => {
    const text = fc.oneof(
      fc.string({ unit: "binary" }),
      fc.constant("0".repeat(10_000)),
      fc.constant("0781"),
    );
    const file = fc.option(text);
    await fc.assert(
      fc.asyncProperty(file, file, file, async (idVendor, idProduct, bInterfaceClass) => {
        signals.length = 0;
        rmSync(root, { recursive: true, force: true });
        mkdirSync(root, { recursive: true });
        let fire = () => {};
        await start(async (onChange) => {
          fire = onChange;
          return async () => {};
        }, 60_000);
        put("1-9:1.0", present({ bInterfaceClass }));
        put("1-9", present({ idVendor, idProduct }));
        fire();
        await sensor.stop();
        expect(said()).toHaveLength(1);
        const classes = String(signals[0]?.facts["classes"]);
        expect(said()[0]).toMatch(/^attached 1-9 (\?{4}|[0-9a-f]{4}) (\?{4}|[0-9a-f]{4}) /);
        expect(classes).toMatch(/^(\?\?|[0-9a-f]{2}):\?\?:\?\?$/);
      }),
      { numRuns: 50 },
    );
  });
});

function present(files: Readonly<Record<string, string | null>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(files).flatMap(([name, text]) => (text === null ? [] : [[name, text]])),
  );
}

test("a host without USB is absent, not blind, and is watched from the moment it has some", async () => {
  await start();
  expect(sensor.health().state).toBe("absent");
  plug("usb1", "1d6b:0002", ["09:00:00"], "1");
  await expect.poll(said, patience).toContain("attached usb1 1d6b 0002 09:00:00");
  expect(sensor.health().state).toBe("watching");
});

test("a directory that cannot be listed makes the sensor blind", async () => {
  writeFileSync(join(top, "loop"), "");
  mkdirSync(root);
  for (let index = 0; index < 1_100; index += 1) mkdirSync(join(root, `x${index}`));
  await start();
  expect(said()[0]).toContain("more than 1024 entries");
  expect(sensor.health().state).toBe("blind");
});

test.skipIf(existsSync("/sys/bus/usb"))(
  "the shipped sensor starts and ends where the kernel has no USB",
  async () => {
    sensor = createUsbSensor({ clock });
    await sensor.start((signal) => signals.push(signal));
    expect(sensor.health().state).toBe("absent");
  },
);

test("the native hot-plug emitter of usb loads under the daemon's flags, refuses catchably, and lets the process end", () => {
  const script = `
    const { WebUSB } = await import("usb");
    const emitter = new (class extends WebUSB { emitter = this.nativeEmitter; })().emitter;
    try { await emitter.addAttach(() => {}); await emitter.addDetach(() => {}); } catch { console.log("refused"); }
    try { await emitter.removeAttach(); await emitter.removeDetach(); } catch { console.log("refused"); }
    console.log("end");
  `;
  const args = ["--disallow-code-generation-from-strings", "--input-type=module", "-e", script];
  const done = spawnSync(process.execPath, args, { encoding: "utf8", timeout: 15_000 });
  expect([done.status, done.stdout.trim().split("\n").at(-1)]).toEqual([0, "end"]);
});
