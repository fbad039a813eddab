import {
  closeSync,
  constants,
  existsSync,
  type FSWatcher,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  realpathSync,
  watch,
} from "node:fs";
import { join } from "node:path";
import { renderErrorChain } from "../core/errors.ts";
import { isExempt, isKeyboard, usbPlaceOf } from "../core/input-device.ts";
import { INPUT_EVENT_BYTES, keyDownTimes } from "../core/input-event.ts";
import { KEYS_JUDGED, type Keystrokes, keyDown, NO_KEYSTROKES } from "../core/keystrokes.ts";
import type { Signal } from "../core/signal.ts";
import type { Clock, SensorHealth, SignalSource } from "../ports.ts";
import { openPoller, type Poller, prepareInput } from "./input-poll.ts";

export type KeySensorOptions = {
  readonly clock: Clock;
  readonly maxPerSecond: number;
  /** Ids that are not watched ("1050:0407", "1050:*"): devices that type by themselves, and are meant to. */
  readonly exempt: readonly string[];
  /** Called at once, before the signal: the device at this port has injected keystrokes. */
  readonly onInjected?: (port: string) => void;
  /** The directory of device files. */
  readonly devRoot?: string;
  /** The directory of input devices in sysfs. */
  readonly sysRoot?: string;
  /** Both are listed this often, whatever events came. */
  readonly pollMs?: number;
  /** Makes a device's times those of the monotonic clock; throws when they cannot be. */
  readonly prepare?: (fd: number) => void;
};

/** One event device of a keyboard that hangs on USB. */
type Watched = { readonly name: string; readonly port: string; readonly id: string; readonly fd: number };

const MAX_ENTRIES = 1_024;
const MAX_WATCHED = 64;
/** More than the kernel keeps for a reader of a keyboard (64 events). */
const READ_BYTES = INPUT_EVENT_BYTES * 256;
/** udev gives the device file its group after it is there. */
const SETTLE_MS = [50, 200, 600];
const BLIND_AFTER_MS = 2_000;
/** A process that ends without a stop waits for the thread no longer than this. */
const WAIT_MS = 250;

/**
 * Watches when keys go down on USB keyboards, and never which: what is read is looked at for the time alone and
 * overwritten in the same call. Emits `usb.keystrokes`, `sensor.blind`. Without /dev/input it is "absent"; a keyboard
 * that it may not read makes it blind.
 */
export function createKeySensor(options: KeySensorOptions): SignalSource {
  const { clock, maxPerSecond, exempt, onInjected } = options;
  const { devRoot = "/dev/input", sysRoot = "/sys/class/input", pollMs = 1_000 } = options;
  const { prepare = prepareInput } = options;
  const limits = { maxPerSecond, keys: KEYS_JUDGED };
  const watched = new Map<string, Watched>(); // by name
  const strokes = new Map<string, Keystrokes>(); // by port: the interfaces of a device are one typist
  const refused = new Map<string, { readonly sinceMs: number; readonly why: string }>(); // by name
  const buffer = Buffer.alloc(READ_BYTES);
  let emit: ((signal: Signal) => void) | undefined;
  let blind: string | null = null;
  let poller: Poller | null = null;
  let waiting: Promise<void> | null = null;
  let watcher: FSWatcher | undefined;
  let ticking: NodeJS.Timeout | undefined;
  const timers = new Set<NodeJS.Timeout>();

  const nowMs = () => Number(clock.monoNs() / 1_000_000n);

  // --- which devices there are ---

  function look(): void {
    if (emit === undefined) return;
    try {
      const names = existsSync(devRoot) ? list() : [];
      for (const one of watched.values()) if (!names.includes(one.name)) forget(one);
      for (const name of refused.keys()) if (!names.includes(name)) refused.delete(name);
      for (const name of names) if (!watched.has(name)) take(name);
      const lasting = [...refused].find(([, { sinceMs }]) => nowMs() - sinceMs >= BLIND_AFTER_MS);
      setBlind(lasting ? `${lasting[0]}: ${lasting[1].why}` : null);
    } catch (error) {
      setBlind(renderErrorChain(error));
    }
    if (watched.size > 0) waiting ??= follow().finally(() => (waiting = null));
    watchDirectory();
  }

  function list(): readonly string[] {
    const names = readdirSync(devRoot).filter((name) => /^event\d{1,5}$/.test(name));
    if (names.length > MAX_ENTRIES) throw new Error(`${devRoot} has more than ${MAX_ENTRIES} devices`);
    return names;
  }

  function take(name: string): void {
    const found = keyboardAt(join(sysRoot, name, "device"));
    if (found === null || isExempt(found.id, exempt)) return;
    try {
      if (watched.size >= MAX_WATCHED) throw new Error(`more than ${MAX_WATCHED} keyboards`);
      watched.set(name, { name, ...found, fd: openInput(join(devRoot, name)) });
      refused.delete(name);
      poller?.wake();
    } catch (error) {
      const sinceMs = refused.get(name)?.sinceMs ?? nowMs();
      refused.set(name, { sinceMs, why: renderErrorChain(error) });
    }
  }

  function openInput(path: string): number {
    const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
    try {
      prepare(fd);
      return fd;
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  function forget(one: Watched): void {
    watched.delete(one.name);
    closeSync(one.fd);
    if (![...watched.values()].some(({ port }) => port === one.port)) strokes.delete(one.port);
  }

  // --- what they do ---

  async function follow(): Promise<void> {
    try {
      poller ??= openPoller();
      while (emit !== undefined && watched.size > 0) {
        const asked = [...watched.values()];
        const fds = asked.map(({ fd }) => fd);
        // oxlint-disable-next-line no-await-in-loop -- one wait after the other
        const ready = new Set(await poller.wait(fds, WAIT_MS));
        for (const one of asked) if (ready.has(one.fd) && watched.get(one.name) === one) read(one);
      }
    } catch (error) {
      setBlind(`waiting for keys: ${renderErrorChain(error)}`);
    }
  }

  function read(one: Watched): void {
    for (const atUs of downTimes(one)) judge(one, atUs);
  }

  function downTimes(one: Watched): readonly number[] {
    try {
      const length = readSync(one.fd, buffer, 0, READ_BYTES, null);
      if (length === 0) forget(one);
      return keyDownTimes(buffer.subarray(0, length));
    } catch (error) {
      if (!isWaiting(error)) forget(one); // unplugged; what is still there is taken up at the next look
      return [];
    } finally {
      buffer.fill(0); // it held which keys they were
    }
  }

  function judge({ port, id }: Watched, atUs: number): void {
    const { after, injection } = keyDown(strokes.get(port) ?? NO_KEYSTROKES, atUs, limits);
    strokes.set(port, after);
    if (injection === null) return;
    onInjected?.(port);
    const { keys, milliseconds, why } = injection;
    const facts = { port, id, keys: String(keys), milliseconds: String(milliseconds), why };
    emit?.({ kind: "usb.keystrokes", facts, seenNs: clock.monoNs() });
  }

  // --- when to look ---

  function watchDirectory(): void {
    if (watcher !== undefined || !existsSync(devRoot)) return;
    try {
      watcher = watch(devRoot, { persistent: false }, settle);
      watcher.on("error", unwatch);
    } catch {
      unwatch(); // the listing at intervals sees the same, later
    }
  }

  function unwatch(): void {
    watcher?.close();
    watcher = undefined;
  }

  function settle(): void {
    look();
    if (timers.size > 0) return;
    for (const ms of SETTLE_MS) {
      const timer = setTimeout(() => {
        timers.delete(timer);
        look();
      }, ms);
      timer.unref();
      timers.add(timer);
    }
  }

  function setBlind(why: string | null): void {
    if (blind === why) return;
    blind = why;
    if (why !== null)
      emit?.({ kind: "sensor.blind", facts: { sensor: "keys", why }, seenNs: clock.monoNs() });
  }

  function health(): SensorHealth {
    if (emit === undefined) return { state: "blind", why: "not started" };
    if (blind !== null) return { state: "blind", why: blind };
    if (!existsSync(devRoot)) return { state: "absent", why: `${devRoot} does not exist: no input devices` };
    return { state: "watching", via: `${watched.size} event devices of USB keyboards` };
  }

  return {
    name: "keys",
    start: async (given) => {
      emit = given;
      look();
      ticking = setInterval(look, pollMs);
      ticking.unref();
    },
    stop: async () => {
      emit = undefined;
      clearInterval(ticking);
      for (const timer of timers) clearTimeout(timer);
      timers.clear();
      unwatch();
      poller?.wake();
      await waiting;
      poller?.close();
      poller = null;
      for (const one of watched.values()) forget(one);
    },
    health,
  };
}

/** The USB keyboard that an input device in sysfs is; null for anything else. */
function keyboardAt(device: string): { readonly port: string; readonly id: string } | null {
  let path: string;
  try {
    path = realpathSync(device);
  } catch {
    return null; // gone since it was listed
  }
  const place = usbPlaceOf(path);
  if (place === null || !isKeyboard(readShort(join(path, "capabilities/key")))) return null;
  const hex = (name: string) => {
    const text = readShort(join(place.directory, name)) ?? "";
    return /^[0-9a-f]{4}$/.test(text) ? text : "????";
  };
  return { port: place.port, id: `${hex("idVendor")}:${hex("idProduct")}` };
}

function readShort(path: string): string | null {
  try {
    return readFileSync(path, "latin1").slice(0, 1_024).trim();
  } catch {
    return null;
  }
}

function isWaiting(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "EAGAIN";
}
