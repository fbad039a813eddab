import { isUtf8 } from "node:buffer";
import { findSecretSpans, marker, redactText } from "../core/redact.ts";

/** Known secrets in bytes. null: they could not be looked for in full. */
export type Known = {
  locate(bytes: Uint8Array): readonly { readonly start: number; readonly end: number }[] | null;
  /** Whether one of them goes over more than one line. */
  spansLines(): boolean;
};

/**
 * Takes the secrets out of a stream of output as it comes, wherever it is cut into chunks. Told are whole lines; a line
 * that grows too long is told up to some way before its end. What was told stays at hand for a while, so that a secret
 * that goes on over a line's end, or a private key of many lines, is seen as a whole.
 *
 * A part of a secret can be told in one case: a secret that has only a form, and is broken by a line's end within its
 * first characters.
 */
export type OutputRedactor = {
  /** Gives what can be told by now. */
  push(bytes: Uint8Array): Buffer;
  /** Nothing more comes: gives the rest. */
  end(): Buffer;
  /** Nothing more is looked at, and so nothing more is told. Gives what stands for it. */
  giveUp(): Buffer;
  /** How many secrets were taken out. */
  taken(): number;
  /** Whether something was kept back because it could not be looked at in full. */
  failed(): boolean;
};

/** What is told of a line that does not end: all but so much. */
const MAX_LINE = 8_192;
const HOLD = 4_096;
/** Longer than any piece that a known secret is found by. */
const HOLD_LINES = 64;
/** What is kept of what was told: usually, and at most, for a secret that goes on. */
const CONTEXT = 4_096;
const MAX_CONTEXT = 16_384;

type Span = { readonly start: number; readonly end: number; readonly kind: string };

export function createOutputRedactor(known: Known): OutputRedactor {
  let context = Buffer.alloc(0);
  let pending = Buffer.alloc(0);
  /** The last byte that was passed belongs to a secret whose marker stands already. */
  let within = false;
  let taken = 0;
  let failed = false;
  let hasGivenUp = false;

  function tell(cut: number): Buffer {
    if (cut === 0 || hasGivenUp) return Buffer.alloc(0);
    const whole = Buffer.concat([context, pending]);
    const from = context.length;
    const to = from + cut;
    const located = known.locate(whole);
    const spans =
      located === null
        ? [{ start: from, end: to, kind: "unscanned" }]
        : merged([...located.map((one) => ({ ...one, kind: "known" })), ...spansIn(whole)]);
    if (located === null) failed = true;
    const told = written(whole, spans, from, to);
    const open = spans.find(({ start, end }) => start < to && end >= to);
    const start = Math.max(
      to - MAX_CONTEXT,
      Math.min(open === undefined || located === null ? to : open.start, to - CONTEXT),
      0,
    );
    context = whole.subarray(firstOf(whole, start), to);
    pending = whole.subarray(to);
    return told;
  }

  /** The bytes between two places, with a marker for each secret. */
  function written(whole: Buffer, spans: readonly Span[], from: number, to: number): Buffer {
    const parts: Buffer[] = [];
    let at = from;
    for (const { start, end, kind } of spans) {
      if (end <= from || start >= to) continue;
      if (start > at) {
        parts.push(whole.subarray(at, start));
        within = false;
      }
      if (!(within && start <= from)) {
        parts.push(Buffer.from(marker(kind)));
        taken++;
      }
      at = Math.min(end, to);
      within = true;
    }
    if (at < to) {
      parts.push(whole.subarray(at, to));
      within = false;
    }
    const told = Buffer.concat(parts);
    // what a marker leaves behind may look different beside it
    const isMarked = spans.some(({ start, end }) => start < to && end > from);
    return isMarked && isUtf8(told) ? Buffer.from(redactText(told.toString("utf8"))) : told;
  }

  return {
    push(bytes) {
      if (hasGivenUp) return Buffer.alloc(0);
      pending = Buffer.concat([pending, bytes]);
      return tell(cutOf(pending, known.spansLines() ? HOLD_LINES : 0));
    },
    end: () => tell(pending.length),
    giveUp() {
      if (hasGivenUp) return Buffer.alloc(0);
      hasGivenUp = true;
      failed = true;
      context = Buffer.alloc(0);
      pending = Buffer.alloc(0);
      return Buffer.from(marker("unscanned"));
    },
    taken: () => taken,
    failed: () => failed,
  };
}

/** How much can be told. */
function cutOf(pending: Buffer, hold: number): number {
  const sure = pending.subarray(0, Math.max(0, pending.length - hold));
  const line = Math.max(sure.lastIndexOf(0x0a), sure.lastIndexOf(0x0d)) + 1;
  if (pending.length - line <= MAX_LINE) return line;
  return Math.max(line, lastOf(pending, pending.length - HOLD));
}

/** Where characters begin: never in the middle of one. */
function firstOf(bytes: Buffer, at: number): number {
  let start = at;
  while (start < bytes.length && start < at + 4 && ((bytes[start] ?? 0) & 0xc0) === 0x80) start++;
  return start;
}

function lastOf(bytes: Buffer, at: number): number {
  let end = at;
  while (end > 0 && end > at - 4 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end--;
  return end;
}

/** Secrets by their form, in bytes. What is not UTF-8 is looked at byte by byte: secrets are ASCII. */
function spansIn(bytes: Buffer): readonly Span[] {
  if (!isUtf8(bytes)) return findSecretSpans(bytes.toString("latin1"));
  const text = bytes.toString("utf8");
  const found = findSecretSpans(text);
  if (text.length === bytes.length || found.length === 0) return found;
  const places = bytePlaces(text);
  return found.map(({ start, end, kind }) => ({
    start: places[start] ?? bytes.length,
    end: places[end] ?? bytes.length,
    kind,
  }));
}

/** Of each UTF-16 unit of a text, where its character begins in UTF-8. */
function bytePlaces(text: string): Uint32Array {
  const places = new Uint32Array(text.length + 1);
  let at = 0;
  for (let unit = 0; unit < text.length; unit++) {
    places[unit] = at;
    const code = text.codePointAt(unit) ?? 0;
    if (code > 0xffff) places[++unit] = at;
    at += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  }
  places[text.length] = at;
  return places;
}

/** In order, none within or across another. */
function merged(spans: readonly Span[]): readonly Span[] {
  const all: Span[] = [];
  for (const one of spans.toSorted((a, b) => a.start - b.start || b.end - a.end)) {
    const last = all.at(-1);
    if (last === undefined || one.start >= last.end) all.push(one);
    else if (one.end > last.end) all[all.length - 1] = { ...last, end: one.end };
  }
  return all;
}
