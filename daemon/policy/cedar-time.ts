import { failure } from "./cedar-failure.ts";
import { longOf } from "./cedar-long.ts";
import type { Datetime, Duration } from "./cedar-value.ts";

const DATETIME =
  /^([0-9]{4})-([0-9]{2})-([0-9]{2})(?:T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{3}))?(?:Z|([+-])([0-9]{2})([0-9]{2})))?$/;
const DURATION = /^(-?)(?=[0-9])(?:([0-9]+)d)?(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s)?(?:([0-9]+)ms)?$/;
const UNIT_MS = [86_400_000n, 3_600_000n, 60_000n, 1_000n, 1n];
const LARGEST_NUMBER = 2n ** 64n - 1n;
const MONTH_DAYS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
/** Days from 1 March of year 0 to 1 January 1970. */
const TO_EPOCH_DAYS = 719_468;

/** A date, or a date and time with Z or an offset, as Cedar's `datetime()` takes it. Throws a Failure. */
export function parseDatetime(text: string): Datetime {
  const found = DATETIME.exec(text);
  if (found === null) throw failure(`not a datetime: ${JSON.stringify(text)}`);
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0, ms = 0] = found
    .slice(1, 8)
    .map((part) => Number(part ?? 0));
  const offsetHours = Number(found[9] ?? 0);
  const offsetMinutes = Number(found[10] ?? 0);
  const valid =
    month >= 1 &&
    month <= 12 &&
    day >= 1 &&
    day <= daysOf(year, month) &&
    hour <= 23 &&
    minute <= 59 &&
    second <= 59 &&
    offsetHours <= 23 &&
    offsetMinutes <= 59;
  if (!valid) throw failure(`there is no such datetime: ${JSON.stringify(text)}`);
  const local = ((daysSinceEpoch(year, month, day) * 24 + hour) * 60 + minute) * 60_000 + second * 1_000 + ms;
  const offset = (offsetHours * 60 + offsetMinutes) * 60_000;
  return { kind: "datetime", ms: found[8] === "-" ? local + offset : local - offset };
}

/** Days, hours, minutes, seconds and milliseconds in this order, as Cedar's `duration()` takes them. Throws a Failure. */
export function parseDuration(text: string): Duration {
  const [whole, sign, ...numbers] = DURATION.exec(text) ?? [];
  if (whole === undefined) throw failure(`not a duration: ${JSON.stringify(text)}`);
  let total = 0n;
  for (const [place, digits] of numbers.entries()) {
    const number = BigInt(digits ?? 0);
    if (number > LARGEST_NUMBER) throw failure(`overflow in duration ${JSON.stringify(text)}`);
    total += number * (UNIT_MS[place] ?? 0n);
  }
  const ms = longOf(sign === "-" ? -total : total);
  if (ms === null) throw failure(`overflow in duration ${JSON.stringify(text)}`);
  return { kind: "duration", ms };
}

function daysOf(year: number, month: number): number {
  const leap = year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0);
  return month === 2 && leap ? 29 : (MONTH_DAYS[month - 1] ?? 0);
}

/** In the proleptic Gregorian calendar. Counted from March, so that the leap day is the last of its year. */
function daysSinceEpoch(year: number, month: number, day: number): number {
  const marchYear = month <= 2 ? year - 1 : year;
  const marchMonth = (month + 9) % 12;
  const leapDays = Math.floor(marchYear / 4) - Math.floor(marchYear / 100) + Math.floor(marchYear / 400);
  return marchYear * 365 + leapDays + Math.floor((marchMonth * 153 + 2) / 5) + day - 1 - TO_EPOCH_DAYS;
}
