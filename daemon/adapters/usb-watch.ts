import { closeSync, constants, existsSync, openSync, readdirSync, readSync, statSync } from "node:fs";
import { join } from "node:path";
import { renderErrorChain } from "../core/errors.ts";
import type { Signal } from "../core/signal.ts";
import {
  diffDevices,
  isDeviceName,
  isInterfaceOf,
  toUsbDevice,
  type UsbDevice,
  type UsbFiles,
} from "../core/usb-device.ts";
import { describeInterfaces } from "../core/usb-interfaces.ts";
import type { Clock, SensorHealth, SignalSource } from "../ports.ts";

export type UsbSensorOptions = {
  readonly clock: Clock;
  /** The directory of devices in sysfs. */
  readonly root?: string;
  /** The directory is listed this often, whatever events came. */
  readonly pollMs?: number;
  /** Hot-plug events; a test gives none, or its own. */
  readonly hotplug?: Hotplug;
};

/** Calls back when something is plugged or unplugged. Rejects where there are no such events. Gives the way to stop. */
export type Hotplug = (onChange: () => void) => Promise<() => Promise<void>>;

const MAX_DEVICES = 1_024;
const MAX_FILE_BYTES = 64;
const MAX_DESCRIPTOR_BYTES = 65_553; // what the kernel gives out
const CHUNK_BYTES = 1_024;
/** sysfs shows a device before its interfaces: look again after these. */
const SETTLE_MS = [20, 100, 400];

/**
 * Watches USB devices by comparing sysfs with what was there: at every hot-plug event of `usb` (nusb), and at
 * intervals. Emits `usb.device`, `sensor.blind`. Where the kernel has no USB it is "absent", and keeps looking.
 */
export function createUsbSensor(options: UsbSensorOptions): SignalSource {
  const { clock, root = "/sys/bus/usb/devices", pollMs = 1_000, hotplug = nusbHotplug } = options;
  let emit: ((signal: Signal) => void) | undefined;
  let devices: readonly UsbDevice[] = [];
  let shape = ""; // of the last listing: while it is the same, the rest need not be read
  let present = false;
  let events: "on" | "off" | { readonly why: string } = "off";
  let unplug: (() => Promise<void>) | undefined;
  let blind: string | null = null;
  let timers = new Set<NodeJS.Timeout>();
  let poller: NodeJS.Timeout | undefined;

  function look(depth: "shape" | "all"): void {
    const found = list();
    if (found === null) return;
    const now = shapeOf(root, found);
    if (depth === "shape" && now === shape) return;
    shape = now;
    const after = found.filter(isDeviceName).map((port) => readDevice(root, port, found));
    const seenNs = clock.monoNs();
    for (const facts of diffDevices(devices, after)) emit?.({ kind: "usb.device", facts, seenNs });
    if (depth === "shape") settle();
    devices = after;
  }

  /** The names in the directory; [] where there is no USB; null when it cannot be read, which is a blind spot. */
  function list(): readonly string[] | null {
    try {
      if (statSync(root, { throwIfNoEntry: false }) === undefined) return absent(); // cheaper than an error every second
      const found = readdirSync(root).filter((name) => name.length <= 64);
      if (found.length > MAX_DEVICES) throw new Error(`more than ${MAX_DEVICES} entries`);
      present = true;
      blind = null;
      return found.toSorted();
    } catch (error) {
      if (isAbsence(error)) return absent();
      present = true;
      setBlind(`listing ${root}: ${renderErrorChain(error)}`);
      return null;
    }
  }

  function absent(): readonly string[] {
    present = false;
    blind = null;
    return [];
  }

  function setBlind(why: string): void {
    if (blind === why) return;
    blind = why;
    emit?.({ kind: "sensor.blind", facts: { sensor: "usb", why }, seenNs: clock.monoNs() });
  }

  function settle(): void {
    for (const ms of SETTLE_MS) {
      const timer = setTimeout(() => {
        timers.delete(timer);
        look("all");
      }, ms);
      timer.unref();
      timers.add(timer);
    }
  }

  function poll(): void {
    look("shape");
    if (present && events === "off") void startEvents();
  }

  async function startEvents(): Promise<void> {
    events = "on";
    try {
      const stop = await hotplug(() => {
        look("shape");
        settle();
      });
      if (emit === undefined) await stop();
      else unplug = stop;
    } catch (error) {
      events = { why: renderErrorChain(error) }; // the listing at intervals sees the same, later
    }
  }

  function health(): SensorHealth {
    if (emit === undefined) return { state: "blind", why: "not started" };
    if (blind !== null) return { state: "blind", why: blind };
    if (!present) return { state: "absent", why: `${root} does not exist: the kernel has no USB` };
    const how = typeof events === "object" ? `no hot-plug events (${events.why})` : "hot-plug events";
    return { state: "watching", via: `${how}, sysfs every ${pollMs} ms` };
  }

  return {
    name: "usb",
    start: async (given) => {
      const found = list();
      devices = (found ?? []).filter(isDeviceName).map((port) => readDevice(root, port, found ?? []));
      shape = shapeOf(root, found ?? []);
      emit = given;
      if (blind !== null)
        emit({ kind: "sensor.blind", facts: { sensor: "usb", why: blind }, seenNs: clock.monoNs() });
      if (present) await startEvents();
      look("all"); // plugged in while the events were being set up
      poller = setInterval(poll, pollMs);
      poller.unref();
    },
    stop: async () => {
      emit = undefined;
      clearInterval(poller);
      for (const timer of timers) clearTimeout(timer);
      timers = new Set();
      await unplug?.();
      unplug = undefined;
      events = "off";
    },
    health,
  };
}

/** Names, and the number of each device: the kernel counts it up, so another one at the same port shows. */
function shapeOf(root: string, names: readonly string[]): string {
  const numbers = names.filter(isDeviceName).map((port) => readShort(join(root, port, "devnum")));
  return JSON.stringify([names, numbers]);
}

function readDevice(root: string, port: string, names: readonly string[]): UsbDevice {
  const file = (directory: string, name: string) => readShort(join(root, directory, name));
  return toUsbDevice({
    port,
    idVendor: file(port, "idVendor"),
    idProduct: file(port, "idProduct"),
    devnum: file(port, "devnum"),
    interfaces:
      describedInterfaces(root, port) ??
      names
        .filter((name) => isInterfaceOf(port, name))
        .map((name) => ({
          bInterfaceClass: file(name, "bInterfaceClass"),
          bInterfaceSubClass: file(name, "bInterfaceSubClass"),
          bInterfaceProtocol: file(name, "bInterfaceProtocol"),
        })),
  });
}

/**
 * What the descriptors say: the same whether the device is authorised or not. Its directories of interfaces come and go
 * with that, and a device that we keep out must not look like another one. Null when they cannot be read.
 */
function describedInterfaces(root: string, port: string): UsbFiles["interfaces"] | null {
  const bytes = readBytes(join(root, port, "descriptors"), MAX_DESCRIPTOR_BYTES);
  const described = bytes === null ? null : describeInterfaces(port, bytes);
  if (!described?.ok) return null;
  return described.interfaces
    .flatMap(({ codes }) => codes)
    .map((code) => {
      const [bInterfaceClass = null, bInterfaceSubClass = null, bInterfaceProtocol = null] = code.split(":");
      return { bInterfaceClass, bInterfaceSubClass, bInterfaceProtocol };
    });
}

/** The beginning of a small file; null when it is not there (any more) or cannot be read. */
function readShort(path: string): string | null {
  return readBytes(path, MAX_FILE_BYTES)?.toString("latin1") ?? null;
}

function readBytes(path: string, most: number): Buffer | null {
  try {
    const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const chunks: Buffer[] = [];
      for (let left = most; left > 0; ) {
        const chunk = Buffer.alloc(Math.min(left, CHUNK_BYTES));
        const got = readSync(fd, chunk, 0, chunk.length, null);
        if (got === 0) break;
        chunks.push(chunk.subarray(0, got));
        left -= got;
      }
      return Buffer.concat(chunks);
    } finally {
      closeSync(fd);
    }
  } catch {
    return null;
  }
}

/**
 * The native emitter inside `usb`, which it leaves to subclasses. Its own addEventListener raises an error that nobody
 * can catch when the kernel refuses (no /sys/bus/usb, no netlink socket allowed).
 */
async function nusbHotplug(onChange: () => void): Promise<() => Promise<void>> {
  if (!existsSync("/sys/bus/usb")) throw new Error("/sys/bus/usb does not exist");
  const { WebUSB } = await import("usb");
  class Native extends WebUSB {
    readonly emitter = this.nativeEmitter;
  }
  const { emitter } = new Native();
  await emitter.addAttach(onChange);
  await emitter.addDetach(onChange);
  return async () => {
    await emitter.removeAttach();
    await emitter.removeDetach();
  };
}

function isAbsence(error: unknown): boolean {
  return error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR");
}
