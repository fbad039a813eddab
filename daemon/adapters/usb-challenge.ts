import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  writeSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { BOOT_REPORT_BYTES } from "../core/boot-report.ts";
import { BoundaryError } from "../core/errors.ts";
import { awaitReport, beginChallenge, type ChallengeStep, takeReport } from "../core/usb-challenge.ts";
import { isInterfaceOf } from "../core/usb-device.ts";
import type { Clock, KeyboardChallenge, UsbPlace } from "../ports.ts";

export type KeyboardChallengeOptions = {
  readonly clock: Clock;
  /** The directory of devices in sysfs; `drivers` is beside it. */
  readonly root?: string;
  /** Writes to a file that is there. A test's own also does what the kernel would do then. */
  readonly write?: (path: string, text: string) => void;
  readonly openKeyboard?: OpenKeyboard;
  /** How long udev may take: it loads the keyboard driver for the first keyboard, and gives us each interface's file. */
  readonly udevMs?: number;
  readonly mayWrite?: (path: string) => boolean;
};

/** A device opened through usbfs (/dev/bus/usb/BBB/DDD). Rejects when it is not there or may not be opened. */
export type OpenKeyboard = (bus: number, address: number) => Promise<OpenedKeyboard>;

export type OpenedKeyboard = {
  /** Takes an interface, and the endpoint that it reports through. Rejects when a driver or somebody else has it. */
  claim(number: number, endpoint: number): Promise<void>;
  /** A class request to the claimed interface, without data. */
  request(request: number, value: number): Promise<void>;
  /** The next report; null when none came in time. Rejects when the device is gone. */
  report(timeoutMs: number): Promise<Buffer | null>;
  close(): Promise<void>;
};

type Keyboard = { readonly path: string; readonly number: number; readonly endpoint: number };

/** USB HID 1.11, section 7.2. */
const SET_IDLE = 0x0a;
const SET_PROTOCOL = 0x0b;
const BOOT = 0;
const REPORT = 1;
const BOOT_KEYBOARD = "03:01:01";
/** The time is looked at this often. */
const REPORT_MS = 200;
const LOOK_MS = 20;
const REQUEST_MS = 1_000;

/**
 * Lets a person type a code on a keyboard that no driver has. What it rests on, tried on Linux 6.1: an interface that is
 * authorised gets no driver by that alone, only when something has the kernel look for one; one that is claimed through
 * usbfs gets none at all, and one that is let go stays without. A driver that is loaded just then would take it: so the
 * keyboard driver has to be there before, and the claim has to succeed.
 */
export function createKeyboardChallenge(options: KeyboardChallengeOptions): KeyboardChallenge {
  const { clock, root = "/sys/bus/usb/devices", udevMs = 5_000 } = options;
  const { write = writeFile, mayWrite = isWritable, openKeyboard = openUsbfs } = options;

  const nowUs = () => Number(clock.monoNs() / 1_000n);
  const read = (...path: readonly string[]) => readShort(join(root, ...path));

  function put(path: string, text: "0" | "1"): void {
    try {
      write(join(root, path), text);
    } catch (cause) {
      throw impossible(`writing ${text} to ${path}`, cause);
    }
    const found = read(path);
    if (found !== text) throw impossible(`writing ${text} to ${path}`, `it reads ${found ?? "nothing"}`);
  }

  /** Throws when it is not (any more) the device that is meant, is in use, or would be let in whole. */
  function requireOutside({ port, number }: UsbPlace): void {
    if (read(port, "devnum") !== number) throw impossible(`challenging ${port}`, "it is gone");
    if (read(port, "authorized") !== "0") throw impossible(`challenging ${port}`, "it is authorised already");
    const controller = `usb${/^\d+/.exec(port)?.[0] ?? ""}`;
    const byItself = read(controller, "interface_authorized_default");
    if (byItself !== "0")
      throw impossible(
        `challenging ${port}`,
        `${controller} authorises new interfaces by itself (${byItself})`,
      );
  }

  /** Its first boot keyboard. Throws when it has none, or when anything of it is authorised. */
  function keyboardOf(port: string): Keyboard {
    const paths = readdirSync(join(root, port))
      .filter((name) => isInterfaceOf(port, name))
      .toSorted()
      .map((name) => `${port}/${name}`);
    const open = paths.find((path) => read(path, "authorized") !== "0" || driverOf(path) !== "");
    if (open !== undefined) throw impossible(`challenging ${port}`, `${open} is authorised already`);
    const path = paths.find((one) => {
      const codes = ["bInterfaceClass", "bInterfaceSubClass", "bInterfaceProtocol"];
      return codes.map((file) => read(one, file)).join(":") === BOOT_KEYBOARD;
    });
    if (path === undefined)
      throw impossible(`challenging ${port}`, "it has no keyboard that speaks the boot protocol");
    return { path, number: byteOf(path, "bInterfaceNumber"), endpoint: endpointOf(path) };
  }

  /** The one that it reports through. */
  function endpointOf(path: string): number {
    const found = readdirSync(join(root, path)).find((one) => {
      const is = (file: string) => read(path, one, file);
      return one.startsWith("ep_") && is("direction") === "in" && is("type") === "Interrupt";
    });
    return byteOf(path, `${found ?? "ep"}/bEndpointAddress`) & 0x0f;
  }

  function byteOf(path: string, file: string): number {
    const text = read(path, file) ?? "";
    if (!/^[0-9a-f]{2}$/.test(text)) throw impossible(`reading ${path}/${file}`, "it is no number");
    return Number.parseInt(text, 16);
  }

  function driverOf(path: string): string {
    try {
      return basename(readlinkSync(join(root, path, "driver")));
    } catch {
      return "";
    }
  }

  /** The driver that would take it: loaded now, so that it is not loaded, and does not take it, in between. */
  async function keyboardDriver(): Promise<void> {
    const place = join(dirname(root), "drivers/usbhid");
    await fromUdev(() => existsSync(place), "the kernel's keyboard driver (usbhid) is not loaded");
  }

  async function fromUdev(isThere: () => boolean, whyNot: string): Promise<void> {
    const endUs = nowUs() + udevMs * 1_000;
    while (!isThere()) {
      if (nowUs() >= endUs) throw impossible("challenging a keyboard", whyNot);
      await sleep(LOOK_MS);
    }
  }

  async function converse(
    keyboard: OpenedKeyboard,
    asked: Parameters<KeyboardChallenge["run"]>[1],
  ): Promise<Awaited<ReturnType<KeyboardChallenge["run"]>>> {
    const { code, timeoutMs, maxPerSecond } = asked;
    const challenge = beginChallenge({ code, maxPerSecond, deadlineUs: nowUs() + timeoutMs * 1_000 });
    let step: ChallengeStep = { kind: "going", challenge };
    while (step.kind === "going") {
      try {
        const report = await keyboard.report(REPORT_MS);
        if (report === null) step = awaitReport(step.challenge, nowUs());
        else step = takeReport(step.challenge, report, nowUs());
        report?.fill(0); // it held which keys they were
      } catch (error) {
        return { kind: "gone", why: error instanceof Error ? error.message : String(error) };
      }
    }
    return step.end;
  }

  return {
    async run(place, asked) {
      const { port, number } = place;
      let keyboard: OpenedKeyboard | null = null;
      requireOutside(place);
      try {
        put(`${port}/authorized`, "1");
        await keyboardDriver();
        const target = keyboardOf(port);
        const file = `${target.path}/authorized`;
        await fromUdev(() => mayWrite(join(root, file)), `${file} may not be written`);
        // opened before: between the next two lines nothing is waited for but the claim
        keyboard = await openKeyboard(Number(read(port, "busnum")), Number(number));
        put(file, "1");
        await keyboard.claim(target.number, target.endpoint).catch((cause: unknown) => {
          throw impossible(`claiming ${target.path}`, cause);
        });
        await keyboard.request(SET_PROTOCOL, BOOT).catch((cause: unknown) => {
          throw impossible(`asking ${target.path} for the boot protocol`, cause);
        });
        await keyboard.request(SET_IDLE, 0).catch(() => undefined); // many do not know it: then they repeat reports
        const end = await converse(keyboard, asked);
        // as drivers expect it
        if (end.kind === "passed") await keyboard.request(SET_PROTOCOL, REPORT).catch(() => undefined);
        return end;
      } finally {
        try {
          deauthorize(place); // before it is let go
        } finally {
          await keyboard?.close().catch(() => undefined);
        }
      }
    },
  };

  function deauthorize({ port, number }: UsbPlace): void {
    if (read(port, "devnum") !== number) return; // unplugged: whatever is there now is another one
    put(`${port}/authorized`, "0");
  }
}

/** Through `usb` (nusb), which claims an interface only when nobody has it. */
const openUsbfs: OpenKeyboard = async (bus, address) => {
  const { WebUSB } = await import("usb");
  const devices = await new WebUSB({ allowAllDevices: true }).getDevices();
  const device = devices.find((one) => Number(one.bus) === bus && one.address === address);
  if (device === undefined) throw impossible(`opening device ${address} of bus ${bus}`, "it is gone");
  await device.open().catch((cause: unknown) => {
    throw impossible(`opening device ${address} of bus ${bus}`, cause);
  });
  let claimed = -1;
  let input = -1;
  return {
    async claim(number, endpoint) {
      await device.claimInterface(number);
      claimed = number;
      input = endpoint;
    },
    async request(request, value) {
      const setup = { requestType: "class", recipient: "interface", request, value, index: claimed } as const;
      await device.nativeControlTransferOut(setup, REQUEST_MS, new Uint8Array(0));
    },
    async report(timeoutMs) {
      try {
        const bytes = await device.nativeTransferIn(input, timeoutMs, BOOT_REPORT_BYTES);
        if (bytes === null) throw new Error("its endpoint has stalled");
        return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      } catch (error) {
        if (error instanceof Error && error.message.endsWith("Cancelled")) return null; // its time was up
        throw error;
      }
    },
    async close() {
      // closing alone leaves the claim until the object is collected
      if (claimed !== -1) await device.releaseInterface(claimed).catch(() => undefined);
      await device.close();
    },
  };
};

function writeFile(path: string, text: string): void {
  const fd = openSync(path, constants.O_WRONLY | constants.O_NOFOLLOW);
  try {
    writeSync(fd, text);
  } finally {
    closeSync(fd);
  }
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

function readShort(path: string): string | null {
  try {
    return readFileSync(path, "latin1").slice(0, 64).trim();
  } catch {
    return null;
  }
}

function impossible(doing: string, cause: unknown): BoundaryError {
  return new BoundaryError("usb-challenge-failed", doing, {
    cause: cause instanceof Error ? cause : new Error(String(cause)),
  });
}
