import { createHash } from "node:crypto";
import type { Data, Value } from "../audit/record.ts";
import { isStricter, type Mode, parseMode, stricterOf } from "./mode.ts";
import type { UsbFacts, UsbTarget } from "./usb-facts.ts";

/** A device as it is remembered: enough to know it again, not to show it. */
export type KnownUsb = {
  readonly port: string;
  readonly id: string;
  /** `usbKey` of it. */
  readonly key: string;
  /** `usbPlug` of it. */
  readonly plug: string;
  readonly authorized: boolean;
  /** What it is: a keyboard or pointer and nothing else, a hub and nothing else, or another thing. */
  readonly kind: UsbKind;
};

export type UsbKind = "input" | "hub" | "other";

/** What was authorised before a reboot, at its port, and has not come back yet. */
export type AwaitedUsb = Pick<KnownUsb, "port" | "id" | "key" | "kind">;

/** By whom it is allowed what was in use when nobody had given rules. */
export const FIRST_START = "present at first start";

/** What a person said of a device. */
export type UsbGrant = {
  readonly key: string;
  readonly target: UsbTarget;
  /** Who: a name, or FIRST_START. */
  readonly by: string;
  /** Wall clock, milliseconds. */
  readonly fromMs: number;
  /** Wall clock: its end; null: none of its own. */
  readonly untilMs: number | null;
  /** When it is for one plugging-in alone: which; "" otherwise. */
  readonly plug: string;
  /** The mode in which it was said. */
  readonly mode: Mode;
  /**
   * Whether an allow reaches storage: by a person at a terminal, by one without, or not. Not of a challenge, and not any
   * more once the mode was tightened.
   */
  readonly storage: "at-terminal" | "from-afar" | "no";
};

/** What the log keeps of USB: the record `usb.state` holds it, and the fold keeps the newest one. */
export type UsbMemory = {
  readonly boot: string;
  /** Whether we have closed the controllers in that boot. */
  readonly closed: boolean;
  readonly known: readonly KnownUsb[];
  /** Known devices that found no room. */
  readonly more: number;
  /** What the boots before had, and this one has not yet let in again. */
  readonly awaited: readonly AwaitedUsb[];
  readonly grants: readonly UsbGrant[];
  /** SHA-256 of the permanent rules, hex; "" when there are none. */
  readonly rules: string;
};

const MAX_KNOWN = 64;
const MAX_AWAITED = 32;
const MAX_GRANTS = 32;
const MAX_TEXT = 64;

/** Tells one device from another wherever it is plugged in: id, serial and hash. 128 bits, hex. */
export function usbKey({ id, serial, hash }: Pick<UsbFacts, "id" | "serial" | "hash">): string {
  return createHash("sha256")
    .update(JSON.stringify([id, serial, hash]))
    .digest("hex")
    .slice(0, 32);
}

/** Tells one plugging-in from the next: `number` comes round after 127 on a bus, `instance` does not. */
export function usbPlug(
  boot: string,
  { port, number, instance }: { readonly port: string; readonly number: string; readonly instance: string },
): string {
  return `${boot} ${port} ${number} ${instance}`;
}

/**
 * As it stands in a record. What is authorised goes first where there is no room for all. A field called "key" would be
 * taken for a secret there, and blacked out (core/redact.ts): it is called "device".
 */
export function renderUsbMemory(memory: UsbMemory): Data {
  const { boot, closed, rules } = memory;
  const sorted = memory.known.toSorted((a, b) => Number(b.authorized) - Number(a.authorized));
  const known = sorted.slice(0, MAX_KNOWN).map(({ key, ...one }) => ({
    ...one,
    device: key,
    authorized: one.authorized ? 1 : 0,
  }));
  const grants = memory.grants.slice(-MAX_GRANTS).map(({ key, ...one }) => ({
    ...one,
    device: key,
    by: one.by.slice(0, MAX_TEXT),
    untilMs: one.untilMs ?? -1,
  }));
  return {
    boot,
    closed: closed ? 1 : 0,
    known,
    more: memory.more + Math.max(0, memory.known.length - MAX_KNOWN),
    awaited: memory.awaited.slice(0, MAX_AWAITED).map(({ key, ...one }) => ({ ...one, device: key })),
    grants,
    rules,
  };
}

/** What a record holds; null when it cannot be read: then nothing is remembered, and nothing granted. */
export function readUsbMemory(data: Data): UsbMemory | null {
  const { boot, closed, known, more, awaited, grants, rules } = data;
  if (typeof boot !== "string" || typeof rules !== "string" || typeof more !== "number") return null;
  const devices = readList(known, readKnown);
  const missed = readList(awaited, readAwaited);
  const given = readList(grants, readGrant);
  if (devices === null || missed === null || given === null) return null;
  return { boot, closed: closed === 1, known: devices, more, awaited: missed, grants: given, rules };
}

function readList<T>(value: Value | undefined, read: (one: Data) => T | null): readonly T[] | null {
  if (!Array.isArray(value)) return null;
  const list: T[] = [];
  for (const one of value as readonly Value[]) {
    const item = typeof one === "object" && !Array.isArray(one) ? read(one as Data) : null;
    if (item === null) return null;
    list.push(item);
  }
  return list;
}

function readKnown(data: Data): KnownUsb | null {
  const { plug, authorized } = data;
  const one = readAwaited(data);
  return one !== null && typeof plug === "string" ? { ...one, plug, authorized: authorized === 1 } : null;
}

function readAwaited({ port, id, device: key, kind }: Data): AwaitedUsb | null {
  if (typeof port !== "string" || typeof id !== "string" || typeof key !== "string") return null;
  return kind === "input" || kind === "hub" || kind === "other" ? { port, id, key, kind } : null;
}

/** What is to come back in this boot. After a reboot that is what was authorised, and what was awaited in vain before. */
export function awaitedIn(memory: UsbMemory | null, boot: string): readonly AwaitedUsb[] {
  if (memory === null) return [];
  if (memory.boot === boot) return memory.awaited;
  const was = memory.known
    .filter(({ authorized, port }) => authorized && !port.startsWith("usb"))
    .map(({ port, id, key, kind }) => ({ port, id, key, kind }));
  const all = new Map([...memory.awaited, ...was].map((one) => [awaitedName(one), one]));
  // keyboards, and what they hang on, first: there may not be room for all
  const order: readonly UsbKind[] = ["input", "hub", "other"];
  return [...all.values()]
    .toSorted((a, b) => order.indexOf(a.kind) - order.indexOf(b.kind))
    .slice(0, MAX_AWAITED);
}

/** The same device at the same port. */
export function awaitedName({ port, key }: Pick<AwaitedUsb, "port" | "key">): string {
  return JSON.stringify([port, key]);
}

function readGrant({ device: key, target, by, fromMs, untilMs, plug, mode, storage }: Data): UsbGrant | null {
  if (typeof key !== "string" || typeof by !== "string" || typeof plug !== "string") return null;
  if (typeof fromMs !== "number" || typeof untilMs !== "number") return null;
  if (target !== "allow" && target !== "block" && target !== "reject") return null;
  const saidIn = typeof mode === "string" ? parseMode(mode) : null;
  if (saidIn === null || (storage !== "at-terminal" && storage !== "from-afar" && storage !== "no"))
    return null;
  return { key, target, by, fromMs, untilMs: untilMs < 0 ? null : untilMs, plug, mode: saidIn, storage };
}

/**
 * The grants that still hold. An allow ends when either clock says so, and when the wall clock was set to before it was
 * given, which would make it last longer; a refusal ends when both clocks say so. `isOver`: whether its end is past by
 * the monotonic clock. `plugs`: what is plugged in now.
 */
export function liveGrants(
  grants: readonly UsbGrant[],
  clocks: { readonly nowMs: number; readonly isOver: (one: UsbGrant) => boolean },
  plugs: ReadonlySet<string>,
): readonly UsbGrant[] {
  const { nowMs, isOver } = clocks;
  const hasEnded = (one: UsbGrant) => {
    const { fromMs, untilMs } = one;
    const byWall = untilMs !== null && nowMs >= untilMs;
    const byBoth = byWall && isOver(one);
    if (one.target !== "allow") return byBoth;
    return byWall || (untilMs !== null && isOver(one)) || nowMs < fromMs - MAX_BACK_MS;
  };
  return grants.filter((one) => !hasEnded(one) && (one.plug === "" || plugs.has(one.plug)));
}

/**
 * The grants as they are once the mode is this one. Where that tightens it (against `before`, or against the mode in which
 * it was said) an allow reaches storage no more, and what then `stays` of none that is plugged in is gone.
 */
export function tightenedGrants(
  grants: readonly UsbGrant[],
  modes: { readonly before: Mode | null; readonly now: Mode },
  stays: (one: UsbGrant) => boolean,
): readonly UsbGrant[] {
  const { before, now } = modes;
  return grants.flatMap((one) => {
    const isTightened = (before !== null && isStricter(now, before)) || isStricter(now, one.mode);
    if (one.target !== "allow" || !isTightened) return [one];
    const left: UsbGrant = { ...one, storage: "no", mode: stricterOf(one.mode, now) };
    return stays(left) ? [left] : [];
  });
}

/** A clock that is corrected by this much is not set back. */
const MAX_BACK_MS = 1_000;

/** What was said of this plugging-in; else of the device, wherever it is plugged in; null when nothing was. */
export function grantFor(grants: readonly UsbGrant[], key: string, plug: string): UsbGrant | null {
  const about = (where: string) => grants.findLast((one) => one.key === key && one.plug === where);
  return about(plug) ?? about("") ?? null;
}

/**
 * The grants with one more, said of the plugging-in `about`. It takes the place of what was said of that before, and
 * leaves others of the same kind as they are: devices that are alike have one key. Only a refusal of a device wherever
 * it is plugged in also ends what allows others of its kind. Bounded: the oldest go, those that allow first.
 */
export function withGrant(
  grants: readonly UsbGrant[],
  given: UsbGrant,
  about: string = given.plug,
): readonly UsbGrant[] {
  const refusesAll = given.plug === "" && given.target !== "allow";
  const replaces = ({ plug, target }: UsbGrant) =>
    plug === given.plug || (plug !== "" && plug === about) || (refusesAll && target === "allow");
  const kept = grants.filter((one) => one.key !== given.key || !replaces(one));
  if (kept.length < MAX_GRANTS) return [...kept, given];
  const oldest = kept.find(({ target }) => target === "allow") ?? kept[0];
  return [...kept.filter((one) => one !== oldest), given];
}

/**
 * What was plugged and unplugged while nobody watched, a line each. After a reboot the kernel counts anew: then a device
 * is the same when it is the same at the same port.
 */
export function usbGap(
  before: UsbMemory,
  now: readonly KnownUsb[],
  boot: "same-boot" | "rebooted",
): readonly string[] {
  const nameOf = (one: KnownUsb) =>
    boot === "same-boot" ? `${one.plug} ${one.key}` : `${one.port} ${one.key}`;
  const was = new Set(before.known.map(nameOf));
  const is = new Set(now.map(nameOf));
  const line = (what: string, { port, id }: KnownUsb) => `usb ${port}: ${id} was ${what}`;
  return [
    ...before.known.filter((one) => !is.has(nameOf(one))).map((one) => line("unplugged", one)),
    ...now.filter((one) => !was.has(nameOf(one))).map((one) => line("plugged in", one)),
    ...(before.more > 0 ? [`usb: ${before.more} more devices were there, and not remembered`] : []),
  ];
}
