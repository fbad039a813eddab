import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createClock } from "../../daemon/adapters/clock.ts";
import { createKeyboardChallenge, type OpenKeyboard } from "../../daemon/adapters/usb-challenge.ts";
import { BoundaryError } from "../../daemon/core/errors.ts";

const PLACE = { port: "1-2", number: "7" };
const [BOOT_KEYBOARD, MOUSE, STORAGE] = ["03:01:01", "03:01:02", "08:06:50"];

let top: string;
let root: string;
/** What was done to the kernel and to the device, in order. */
let done: string[];
let reports: (Buffer | Error | null)[];
let interfaces: readonly string[];
let claimFails: Error | null;

beforeEach(() => {
  top = mkdtempSync(join(tmpdir(), "boundary-challenge-"));
  root = join(top, "devices");
  done = [];
  reports = [];
  interfaces = [BOOT_KEYBOARD];
  claimFails = null;
  put("usb1/interface_authorized_default", "0");
  put("1-2/devnum", "7");
  put("1-2/busnum", "1");
  put("1-2/authorized", "0");
  mkdirSync(join(top, "drivers/usbhid"), { recursive: true });
});

afterEach(() => rmSync(top, { recursive: true, force: true }));

function put(path: string, text: string): void {
  mkdirSync(join(root, path, ".."), { recursive: true });
  writeFileSync(join(root, path), `${text}\n`);
}

/** What the kernel does when these files are written. */
function write(path: string, text: string): void {
  const name = path.slice(root.length + 1);
  done.push(`${name}=${text}`);
  if (!existsSync(path)) throw new Error("ENOENT");
  writeFileSync(path, `${text}\n`);
  if (name !== "1-2/authorized") return;
  for (const [index, codes] of interfaces.entries()) {
    const at = `1-2/1-2:1.${index}`;
    if (text === "0") rmSync(join(root, at), { recursive: true, force: true });
    else present(at, index, codes);
  }
}

function present(at: string, index: number, codes: string): void {
  const [kind = "", sub = "", protocol = ""] = codes.split(":");
  put(`${at}/authorized`, "0");
  put(`${at}/bInterfaceNumber`, `0${index}`);
  put(`${at}/bInterfaceClass`, kind);
  put(`${at}/bInterfaceSubClass`, sub);
  put(`${at}/bInterfaceProtocol`, protocol);
  put(`${at}/ep_01/direction`, "out");
  put(`${at}/ep_01/type`, "Interrupt");
  put(`${at}/ep_01/bEndpointAddress`, "01");
  put(`${at}/ep_82/direction`, "in");
  put(`${at}/ep_82/type`, "Interrupt");
  put(`${at}/ep_82/bEndpointAddress`, "82");
}

const openKeyboard: OpenKeyboard = async (bus, address) => {
  done.push(`open ${bus} ${address}`);
  return {
    claim: async (number, endpoint) => {
      done.push(`claim ${number} through ${endpoint}`);
      if (claimFails) throw claimFails;
    },
    request: async (request, value) => {
      done.push(`request ${request} ${value}`);
      if (request === 0x0a) throw new Error("stalled"); // SET_IDLE: many do not know it
    },
    report: async () => {
      const next = reports.shift() ?? null;
      if (next instanceof Error) throw next;
      await sleep(next === null ? 20 : 1);
      return next;
    },
    close: async () => void done.push("close"),
  };
};

function type(digits: string): void {
  for (const digit of digits) {
    const usage = digit === "0" ? 0x27 : 0x1d + Number(digit);
    // as a person does: the clock is the real one
    reports.push(Buffer.from([0, 0, usage, 0, 0, 0, 0, 0]), null, null, Buffer.alloc(8));
  }
}

function challenge(place = PLACE, timeoutMs = 5_000, mayWrite = (_path: string) => true) {
  const clock = createClock();
  const tested = createKeyboardChallenge({ clock, root, write, mayWrite, openKeyboard, udevMs: 60 });
  return tested.run(place, { code: "407319", timeoutMs, maxPerSecond: 40 });
}

const authorized = () => readFileSync(join(root, "1-2/authorized"), "utf8").trim();

async function refusal(given: Promise<unknown>): Promise<string> {
  const error = await given.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(BoundaryError);
  expect(error).toMatchObject({ code: "usb-challenge-failed" });
  return String((error as BoundaryError).cause);
}

test("the right code: claimed without a driver, in boot protocol, and let go as it was, for the rules to let it in", async () => {
  const keyed = Array.from({ length: 3 }, () => Buffer.from([0, 0, 1, 1, 1, 1, 1, 1]));
  reports.push(...keyed);
  type("407319");
  expect(await challenge()).toEqual({ kind: "passed" });
  expect(done).toEqual([
    "1-2/authorized=1",
    "open 1 7",
    "1-2/1-2:1.0/authorized=1",
    "claim 0 through 2",
    "request 11 0",
    "request 10 0",
    "request 11 1",
    "1-2/authorized=0",
    "close",
  ]);
  expect(keyed.every((one) => one.every((byte) => byte === 0))).toBe(true); // overwritten
});

test.each([
  ["wrong codes", () => type("111111222222333333"), { kind: "wrong" }],
  ["no code in time", () => undefined, { kind: "timeout" }],
  [
    "keys faster than people",
    () => Array.from({ length: 8 }, (_, key) => reports.push(Buffer.from([0, 0, 4 + key, 0, 0, 0, 0, 0]))),
    { kind: "injected" },
  ],
  [
    "a device unplugged meanwhile",
    () => reports.push(new Error("endpoint not found")),
    { kind: "gone", why: "endpoint not found" },
  ],
])("%s: it is not authorised any more, before it is let go", async (_, act, end) => {
  act();
  expect(await challenge(PLACE, 3_000)).toMatchObject(end);
  expect(done.slice(-2)).toEqual(["1-2/authorized=0", "close"]);
  expect(authorized()).toBe("0");
});

test("a composite device: the keyboard alone is let in, whatever else it says it is", async () => {
  interfaces = [STORAGE, MOUSE, BOOT_KEYBOARD];
  type("407319");
  expect(await challenge()).toEqual({ kind: "passed" });
  expect(done.filter((one) => one.endsWith("=1"))).toEqual(["1-2/authorized=1", "1-2/1-2:1.2/authorized=1"]);
  expect(done).toContain("claim 2 through 2");
});

describe("what cannot be kept from the host is not begun, and is not authorised afterwards", () => {
  test("where new interfaces are authorised by themselves", async () => {
    put("usb1/interface_authorized_default", "1");
    expect(await refusal(challenge())).toContain("authorises new interfaces by itself");
    expect(done).toEqual([]);
    expect(authorized()).toBe("0");
  });

  test("where the keyboard driver is not loaded: it would take the keyboard when it is", async () => {
    rmSync(join(top, "drivers/usbhid"), { recursive: true });
    expect(await refusal(challenge())).toContain("usbhid");
    expect(authorized()).toBe("0");
    expect(done.some((one) => one.startsWith("claim"))).toBe(false);
  });

  test("where somebody else was quicker", async () => {
    claimFails = new Error("interface is busy");
    expect(await refusal(challenge())).toContain("interface is busy");
    expect(authorized()).toBe("0");
  });

  test("what is in use already, which is left alone", async () => {
    put("1-2/authorized", "1");
    expect(await refusal(challenge())).toContain("authorised already");
    expect(done).toEqual([]);
  });

  test("what is no keyboard", async () => {
    interfaces = [MOUSE, STORAGE];
    expect(await refusal(challenge())).toContain("no keyboard that speaks the boot protocol");
    expect(authorized()).toBe("0");
  });

  test("another device at the same port, which is left alone", async () => {
    expect(await refusal(challenge({ port: "1-2", number: "6" }))).toContain("it is gone");
    expect(done).toEqual([]);
  });
});

describe("a file that udev has not given us yet", () => {
  test("is waited for", async () => {
    let asked = 0;
    type("407319");
    expect(await challenge(PLACE, 5_000, () => ++asked > 2)).toEqual({ kind: "passed" });
    expect(asked).toBe(3);
  });

  test("ends it when it does not come, and the device is taken away again", async () => {
    expect(await refusal(challenge(PLACE, 5_000, () => false))).toContain("may not be written");
    expect(done).not.toContain("open 1 7");
    expect(authorized()).toBe("0");
  });
});
