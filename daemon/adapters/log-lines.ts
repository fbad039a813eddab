import * as fs from "node:fs";
import { join } from "node:path";
import { BoundaryError } from "../core/errors.ts";

/**
 * Single lines of a log's segments: from a number on, or the last of a sort. The cost is that of what is read, not of
 * the log. Who calls knows which lines are durable.
 */
type Segment = { readonly file: string; readonly firstSeq: number };

export type LinesOrder = {
  /** The first number wanted. */
  readonly from: number;
  /** The last number that may be read: what comes after it may not be on disk yet. */
  readonly through: number;
  readonly maxLines: number;
  /** Of all lines, each written as a JSON string. One line is given in any case. */
  readonly maxBytes: number;
};

const PIECE_BYTES = 128 * 1024;
/** A line and its "\n". */
const MAX_LINE_BYTES = 65_536;
const NEWLINE = 0x0a;
const { O_NOFOLLOW, O_RDONLY } = fs.constants;

/**
 * Lines in order, without their "\n"; none when the log does not go that far, or begins later. `segments`: in order.
 * Throws the system's error, or BoundaryError("log-broken") when what is there is no log.
 */
export function readLines(
  directory: string,
  segments: readonly Segment[],
  order: LinesOrder,
): readonly string[] {
  const lines: string[] = [];
  let room = order.maxBytes;
  const first = segments.findLastIndex(({ firstSeq }) => firstSeq <= order.from);
  if (first === -1 || order.from > order.through) return lines;
  for (const segment of segments.slice(first)) {
    const seq = order.from + lines.length;
    if (seq > order.through || lines.length === order.maxLines) break;
    for (const line of linesFrom(directory, segment, seq)) {
      room -= Buffer.byteLength(JSON.stringify(line)) + 1;
      if (lines.length > 0 && room < 0) return lines;
      lines.push(line);
      if (lines.length === order.maxLines || order.from + lines.length > order.through) return lines;
    }
  }
  return lines;
}

/** The lines of one segment from a number on. */
function* linesFrom(directory: string, segment: Segment, seq: number): Generator<string> {
  const fd = fs.openSync(join(directory, segment.file), O_RDONLY | O_NOFOLLOW);
  try {
    const { size } = fs.fstatSync(fd);
    let at = seq <= segment.firstSeq ? 0 : before(fd, size, seq);
    while (at < size) {
      const bytes = readAt(fd, at, PIECE_BYTES);
      const end = bytes.lastIndexOf(NEWLINE) + 1;
      if (end === 0 && bytes.length === PIECE_BYTES)
        throw new BoundaryError("log-broken", `reading ${segment.file}: a line has no end`);
      if (end === 0) return; // a piece of a line, at the very end
      for (const line of bytes.toString("utf8", 0, end - 1).split("\n")) if (seqOf(line) >= seq) yield line;
      at += end;
    }
  } finally {
    fs.closeSync(fd);
  }
}

/** A byte at which a line begins that is not after the wanted one, and not far before it. */
function before(fd: number, size: number, seq: number): number {
  let [low, high] = [0, size];
  while (high - low > PIECE_BYTES) {
    const middle = low + Math.floor((high - low) / 2);
    const found = firstLineAfter(fd, middle);
    if (found !== null && found.seq <= seq) low = found.byte;
    else high = middle;
  }
  return low;
}

function firstLineAfter(fd: number, byte: number): { readonly byte: number; readonly seq: number } | null {
  const bytes = readAt(fd, byte, 2 * MAX_LINE_BYTES);
  const start = bytes.indexOf(NEWLINE) + 1;
  const end = start === 0 ? -1 : bytes.indexOf(NEWLINE, start);
  return end === -1 ? null : { byte: byte + start, seq: seqOf(bytes.toString("utf8", start, end)) };
}

/** The newest whole line that `wanted` says yes to; null when there is none. Read from the end, segment by segment. */
export function lastLine(
  directory: string,
  segments: readonly Segment[],
  wanted: (line: string) => boolean,
): string | null {
  for (const { file } of segments.toReversed()) {
    const fd = fs.openSync(join(directory, file), O_RDONLY | O_NOFOLLOW);
    try {
      const found = lastIn(fd, fs.fstatSync(fd).size, wanted);
      if (found !== null) return found;
    } finally {
      fs.closeSync(fd);
    }
  }
  return null;
}

function lastIn(fd: number, size: number, wanted: (line: string) => boolean): string | null {
  let end = size; // what begins from here on has been looked at
  while (end > 0) {
    const from = Math.max(0, end - PIECE_BYTES);
    const bytes = readAt(fd, from, end - from);
    // where it begins within a line, that line is left to the piece before
    const start = from === 0 ? 0 : bytes.indexOf(NEWLINE) + 1;
    const whole = bytes.lastIndexOf(NEWLINE);
    if (whole >= start) {
      const lines = bytes.toString("utf8", start, whole).split("\n");
      const found = lines.findLast(wanted);
      if (found !== undefined) return found;
    }
    if (from === 0) return null;
    if (start === 0 || from + start >= end)
      throw new BoundaryError("log-broken", "reading a log backwards: a line has no end");
    end = from + start;
  }
  return null;
}

/** The number at a line's end: `seq` and `v` are the last fields of a record. */
function seqOf(line: string): number {
  const found = /,"seq":(\d{1,16}),"v":1\}$/.exec(line.slice(-40));
  if (found === null) throw new BoundaryError("log-broken", "reading a line of the log: it has no number");
  return Number(found[1]);
}

function readAt(fd: number, at: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  let read = 0;
  while (read < length) {
    const taken = fs.readSync(fd, bytes, read, length - read, at + read);
    if (taken === 0) break;
    read += taken;
  }
  return bytes.subarray(0, read);
}
