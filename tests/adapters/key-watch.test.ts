import { spawnSync } from "node:child_process";
import {
  closeSync,
  constants,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createClock } from "../../daemon/adapters/clock.ts";
import { createKeySensor, type KeySensorOptions } from "../../daemon/adapters/key-watch.ts";
import type { Signal } from "../../daemon/core/signal.ts";
import type { SignalSource } from "../../daemon/ports.ts";

const patience = { timeout: 10_000, interval: 5 };
const KEYBOARD = "1000000000007 ff9f207ac14057ff febeffdfffefffff fffffffffffffffe";
const MOUSE = "70000 0 0 0 0";
const clock = createClock();

let top: string;
let signals: Signal[];
let injected: string[];
let sensor: SignalSource;
let open: number[];

beforeEach(() => {
  top = mkdtempSync(join(tmpdir(), "boundary-keys-"));
  mkdirSync(join(top, "class"), { recursive: true });
  mkdirSync(join(top, "input"));
  signals = [];
  injected = [];
  open = [];
});

afterEach(async () => {
  await sensor.stop();
  for (const fd of open) closeSync(fd);
  rmSync(top, { recursive: true, force: true });
});

async function start(options: Partial<KeySensorOptions> = {}): Promise<void> {
  sensor = createKeySensor({
    clock,
    maxPerSecond: 40,
    exempt: [],
    devRoot: join(top, "input"),
    sysRoot: join(top, "class"),
    pollMs: 10,
    onInjected: (port) => injected.push(port),
    prepare: () => undefined, // a pipe has no clock
    ...options,
  });
  await sensor.start((signal) => signals.push(signal));
}

/** An input device as sysfs shows it, its device file a pipe; gives a way to write events into it. */
function plug(name: string, port: string | null, key = KEYBOARD): (events: Buffer) => void {
  const usb = join(top, "sys/usb1", port ?? "");
  const place = port === null ? join(top, "sys/i8042") : join(usb, `${port}:1.0`, "0003:16C0:27DB.0001");
  const input = join(place, "input", `of-${name}`);
  mkdirSync(join(input, name), { recursive: true });
  mkdirSync(join(input, "capabilities"));
  writeFileSync(join(input, "capabilities/key"), `${key}\n`);
  if (port !== null) {
    writeFileSync(join(usb, "idVendor"), "16c0\n");
    writeFileSync(join(usb, "idProduct"), "27db\n");
  }
  symlinkSync(input, join(input, name, "device"));
  symlinkSync(join(input, name), join(top, "class", name));
  expect(spawnSync("mkfifo", [join(top, "input", name)]).status).toBe(0);
  const fd = openSync(join(top, "input", name), constants.O_RDWR);
  open.push(fd);
  return (events) => void writeSync(fd, events);
}

/** Keys down and up, `everyMs` apart. */
function keys(count: number, everyMs: number, fromMs = 1_000, value = 1): Buffer {
  const one = (us: number, type: number, code: number, what: number) => {
    const event = Buffer.alloc(24);
    event.writeBigInt64LE(BigInt(Math.floor(us / 1_000_000)), 0);
    event.writeBigInt64LE(BigInt(us % 1_000_000), 8);
    event.writeUInt16LE(type, 16);
    event.writeUInt16LE(code, 18);
    event.writeInt32LE(what, 20);
    return event;
  };
  return Buffer.concat(
    Array.from({ length: count }, (_, index) => {
      const us = Math.round((fromMs + index * everyMs) * 1_000);
      return Buffer.concat([one(us, 1, 30, value), one(us, 0, 0, 0), one(us + 400, 1, 30, 0)]);
    }),
  );
}

async function watching(count: number): Promise<void> {
  await expect
    .poll(() => sensor.health(), patience)
    .toEqual({
      state: "watching",
      via: `${count} event devices of USB keyboards`,
    });
}

describe("a USB keyboard", () => {
  test("that types as a device does is signalled with its port, its id, and nothing of its keys", async () => {
    const type = plug("event3", "1-2");
    await start();
    type(keys(20, 8));
    await expect.poll(() => signals, patience).toHaveLength(1);
    const facts = { port: "1-2", id: "16c0:27db", keys: "20", milliseconds: "152", why: "too fast" };
    expect(signals[0]).toMatchObject({ kind: "usb.keystrokes", facts });
    expect(injected).toEqual(["1-2"]);
  });

  test("that types as a person does is not, nor one that repeats a key", async () => {
    const type = plug("event3", "1-2");
    await start();
    for (let second = 0; second < 20; second += 1)
      type(keys(10, 71 + (second % 7) * 9, 1_000 + second * 1_500));
    type(keys(60, 5, 100_000, 2));
    type(keys(20, 8, 200_000)); // so that we know when all has been read
    await expect.poll(() => signals, patience).toHaveLength(1);
    expect(signals[0]?.facts["milliseconds"]).toBe("152");
  });

  test("is one typist, whatever its interfaces: half of the keys on each is seen", async () => {
    const one = plug("event3", "1-2");
    const two = plug("event4", "1-2");
    await start();
    one(keys(10, 30, 1_000));
    two(keys(10, 30, 1_015));
    await expect.poll(() => injected, patience).toEqual(["1-2"]);
  });

  test("that comes later is watched, and unplugged no more, however often", async () => {
    await start();
    await watching(0);
    for (let round = 0; round < 3; round += 1) {
      const type = plug("event5", "1-3.1");
      await watching(1);
      type(keys(19, 8));
      await sleep(30);
      rmSync(join(top, "input/event5"));
      rmSync(join(top, "class/event5"));
      rmSync(join(top, "sys"), { recursive: true });
      await watching(0);
    }
    expect(signals).toEqual([]); // 19 of one device and 19 of the next are not 38 of one
  });

  test("that is exempt is not even opened", async () => {
    plug("event3", "1-2");
    await start({ exempt: ["16c0:*"] });
    expect(sensor.health()).toMatchObject({ via: "0 event devices of USB keyboards" });
  });
});

test("mice, and keyboards that do not hang on USB, are not watched", async () => {
  plug("event1", null);
  plug("event2", "1-1", MOUSE);
  plug("event3", "1-2");
  await start();
  expect(sensor.health()).toMatchObject({ via: "1 event devices of USB keyboards" });
});

test("a host without input devices is absent; one that gets some is watched", async () => {
  rmSync(join(top, "input"), { recursive: true });
  await start();
  expect(sensor.health().state).toBe("absent");
  mkdirSync(join(top, "input"));
  plug("event3", "1-2");
  await watching(1);
  expect(signals).toEqual([]);
});

test("a keyboard that may not be read makes the sensor blind when that lasts, and no longer than it lasts", async () => {
  plug("event3", "1-2");
  let why: Error | null = new Error("EACCES: permission denied");
  const prepare = () => {
    if (why !== null) throw why;
  };
  await start({ prepare });
  expect(signals).toEqual([]); // udev may be about to give it its group
  await expect.poll(() => sensor.health().state, patience).toBe("blind");
  expect(signals).toMatchObject([
    { kind: "sensor.blind", facts: { sensor: "keys", why: "event3: EACCES: permission denied" } },
  ]);
  why = null;
  await watching(1);
});

test("a device whose times are of no clock that we know is not relied on", async () => {
  plug("event3", "1-2");
  sensor = createKeySensor({
    clock,
    maxPerSecond: 40,
    exempt: [],
    devRoot: join(top, "input"),
    sysRoot: join(top, "class"),
    pollMs: 10,
  });
  await sensor.start((signal) => signals.push(signal));
  await expect.poll(() => sensor.health(), patience).toMatchObject({ state: "blind" });
  expect(signals[0]?.facts["why"]).toContain("EVIOCSCLOCKID");
});

test("a stop ends the wait at once, and a start after it works", async () => {
  const type = plug("event3", "1-2");
  await start();
  await watching(1);
  await sensor.stop();
  expect(sensor.health().state).toBe("blind");
  await sensor.start((signal) => signals.push(signal));
  type(keys(20, 8));
  await expect.poll(() => signals, patience).toHaveLength(1);
});
