import type { UsbAttributeName, UsbTest } from "./usb-rule.ts";

/**
 * The single values of rules: device ids, interfaces, times, durations, probabilities. Each reader gives null for
 * anything that is not exactly one.
 */

/** How the values of an attribute are written. */
export function isQuoted(name: UsbAttributeName | "label"): boolean {
  return name !== "id" && name !== "with-interface";
}

export const ID_HINT = 'vendor:product, four hex digits each or `*`: "1d6b:0002", "1d6b:*", "*:*"';
export const INTERFACE_HINT =
  'class:subclass:protocol, two hex digits each: "08:06:50", "08:06:*", "08:*:*" (a class has to be given)';
export const TIME_HINT = "local time: `localtime(08:00-17:30)`, `localtime(22:00:00-05:59:59)`";
export const DURATION_HINT = "write `HH:MM:SS`, `HH:MM` or seconds, one second to 23:59:59";
export const PROBABILITY_HINT = "from 0 to 1 with at most six decimals: `random(0.25)`";

/** "1D6B:*" as "1d6b:*". A product of any vendor is none: the number says nothing without its vendor. */
export function parseId(text: string): string | null {
  return /^(?:[0-9a-f]{4}:(?:[0-9a-f]{4}|\*)|\*:\*)$/i.test(text) ? text.toLowerCase() : null;
}

/** "08:*:*" in lower case. */
export function parseInterface(text: string): string | null {
  const found = /^[0-9a-f]{2}:(?:\*:\*|[0-9a-f]{2}:(?:\*|[0-9a-f]{2}))$/i.test(text);
  return found ? text.toLowerCase() : null;
}

/** "HH:MM[:SS]" or two of them with a "-". One alone is that second, as for USBGuard. */
export function parseTimeRange(text: string): Extract<UsbTest, { kind: "localtime" }> | null {
  const [first, last, ...more] = text.split("-").map(parseTime);
  if (first === undefined || first === null || last === null || more.length > 0) return null;
  return { kind: "localtime", from: first, to: last ?? first };
}

/** Seconds, from "HH:MM:SS", "HH:MM" or "SS". */
export function parseDuration(text: string): number | null {
  const seconds = /^[0-9]{1,5}$/.test(text) ? Number(text) : parseTime(text);
  return seconds !== null && seconds >= 1 && seconds < SECONDS_OF_DAY ? seconds : null;
}

/** Millionths, from "0.25". */
export function parseProbability(text: string): number | null {
  const found = /^([01])(?:\.([0-9]{1,6}))?$/.exec(text);
  if (!found) return null;
  const millionths = Number(found[1]) * MILLION + Number((found[2] ?? "0").padEnd(6, "0"));
  return millionths <= MILLION ? millionths : null;
}

/** Seconds of a day as "08:00" or "08:00:30". */
export function renderTime(seconds: number): string {
  const two = (value: number) => String(Math.trunc(value)).padStart(2, "0");
  const minutes = `${two(seconds / 3_600)}:${two((seconds / 60) % 60)}`;
  return seconds % 60 === 0 ? minutes : `${minutes}:${two(seconds % 60)}`;
}

/** Millionths as "0.25". */
export function renderProbability(millionths: number): string {
  const decimals = String(millionths % MILLION)
    .padStart(6, "0")
    .replace(/0+$/, "");
  return `${Math.trunc(millionths / MILLION)}${decimals === "" ? "" : `.${decimals}`}`;
}

export const SECONDS_OF_DAY = 86_400;
export const MILLION = 1_000_000;

function parseTime(text: string): number | null {
  const found = /^([01]?[0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9]))?$/.exec(text);
  if (!found) return null;
  return Number(found[1]) * 3_600 + Number(found[2]) * 60 + Number(found[3] ?? "0");
}
