import * as fs from "node:fs";
import { join } from "node:path";
import type { Chunk } from "../audit/split.ts";
import { BoundaryError } from "../core/errors.ts";
import { directoryFault, fileFault, type Look } from "../core/ownership.ts";
import type { LogStore, Protection } from "../ports.ts";
import { protect, readProtection, unprotect, unprotectFile } from "./file-attributes.ts";
import { freeBytes, keepReserve, type Reserve } from "./file-reserve.ts";
import { makeDirectory, syncDirectory } from "./own-directory.ts";

/**
 * The log's files: segments `<first seq, 20 digits>.jsonl` in a directory of our own. Whoever writes here holds the
 * directory's lock (log-lock.ts); reading needs none.
 */
const SEGMENT = /^\d{20}\.jsonl$/;
/** What is left of a segment that was pruned: three lines. */
const TOMBSTONE = /^\d{20}\.tombstone$/;
/** Three records at most, and their "\n". */
const MAX_TOMBSTONE_BYTES = 3 * 65_536;
const READ_BYTES = 1024 * 1024;
const { O_APPEND, O_CREAT, O_DSYNC, O_EXCL, O_NOFOLLOW, O_RDONLY, O_WRONLY } = fs.constants;
// O_DSYNC makes each write durable as write + fdatasync would, in one turn of the thread pool instead of two
// (measured: 0.18 against 0.25 ms for a small batch).
const APPEND = O_WRONLY | O_APPEND | O_DSYNC | O_NOFOLLOW;

/**
 * Makes the directory (0700), durably, or checks the one that is there: real, ours, writable by nobody else.
 * Throws BoundaryError("log-unsafe").
 */
export function prepareLogDirectory(directory: string): void {
  const doing = `preparing the log directory ${directory}`;
  try {
    makeDirectory(directory);
    const fault = directoryFault(lookAt(fs.lstatSync(directory)), ourUid());
    if (fault) throw new BoundaryError("log-unsafe", `${doing}: it ${fault}`);
  } catch (cause) {
    throw asError("log-unsafe", doing, cause);
  }
}

/** "00000000000000000000.jsonl" for the segment that begins with record 0. */
export function segmentName(firstSeq: number): string {
  return `${String(firstSeq).padStart(20, "0")}.jsonl`;
}

/** How a segment is kept. */
export type Keeping = {
  /** "append-only": the open segment is made so (chattr +a), and a finished one immutable (+i), where that can be. */
  readonly protect: "append-only" | "plain";
  /** Room on the disk that only this segment's records can take; 0: none. */
  readonly reserveBytes: number;
};

const UNKEPT: Keeping = { protect: "plain", reserveBytes: 0 };

const PLAIN: Protection = { kind: "none", why: "not asked for" };

/** A segment that is open, and what the file system holds for it. */
export type OpenSegment = LogStore & {
  protection(): Protection;
  /** What is left of the file system's room, for others (null: it does not say), and of the log's own reserve. */
  room(): { readonly freeBytes: number | null; readonly reserve: ReturnType<Reserve["state"]> };
};

/** A new segment (0600), its name durable. An empty one, left by a crash, is taken over. Throws BoundaryError("log-unavailable"). */
export function createSegment(directory: string, firstSeq: number, keeping: Keeping = UNKEPT): OpenSegment {
  const file = segmentName(firstSeq);
  try {
    fs.closeSync(fs.openSync(join(directory, file), APPEND | O_CREAT | O_EXCL, 0o600));
  } catch (cause) {
    if (!isCode(cause, "EEXIST")) throw asError("log-unavailable", `creating ${file}`, cause);
  }
  const store = openSegment(directory, file, 0, keeping);
  syncDirectory(directory);
  return store;
}

/**
 * Opens a segment to append to. `size`: the bytes that verification has read; any other size is refused
 * (BoundaryError("log-broken")), as is a file that is not ours alone ("log-unsafe").
 */
export function openSegment(
  directory: string,
  file: string,
  size: number,
  keeping: Keeping = UNKEPT,
): OpenSegment {
  const path = join(directory, checkedName(file));
  let fd: number;
  try {
    fd = fs.openSync(path, APPEND);
  } catch (cause) {
    throw asError("log-unavailable", `opening ${file}`, cause);
  }
  try {
    const stat = fs.fstatSync(fd);
    const fault = fileFault(lookAt(stat), ourUid(), "secret");
    if (fault) throw new BoundaryError("log-unsafe", `opening ${file}: it ${fault}`);
    if (stat.size !== size)
      throw new BoundaryError(
        "log-broken",
        `opening ${file}: ${stat.size} bytes, of which ${size} are verified`,
      );
    const asked = keeping.protect === "append-only" ? protect(fd, "append-only") : PLAIN;
    const reserve = keepReserve(fd, directory, keeping.reserveBytes, size);
    return storeOn(fd, path, size, { asked, reserve, directory });
  } catch (error) {
    fs.closeSync(fd);
    throw error;
  }
}

type Kept = { readonly asked: Protection; readonly reserve: Reserve; readonly directory: string };

function storeOn(fd: number, path: string, sizeAtOpen: number, kept: Kept): OpenSegment {
  const { asked, reserve } = kept;
  const { dev, ino } = fs.fstatSync(fd);
  let size = sizeAtOpen; // what is certainly written
  let underWay = 0;
  let closed = false;
  const close = () => {
    closed = true;
    fs.closeSync(fd);
  };
  return {
    async write(chunk) {
      underWay = chunk.length;
      await writeAll((from) => writeWithRoom(fd, chunk, from, reserve), chunk.length);
      size += chunk.length;
      underWay = 0;
      reserve.grown(size);
    },
    damage() {
      if (closed) return null; // the number may be another file's by now
      const open = fs.fstatSync(fd);
      if (open.size < size) return { what: "truncated", detail: `${open.size} bytes, ${size} were written` };
      if (open.size > size + underWay)
        return { what: "grown", detail: `${open.size} bytes, ${size} were written` };
      const there = fs.lstatSync(path, { throwIfNoEntry: false });
      if (!there) return { what: "replaced", detail: "the file is gone" };
      if (there.dev !== dev || there.ino !== ino)
        return { what: "replaced", detail: "another file has its name" };
      return open.nlink === 1 ? null : { what: "replaced", detail: `the file has ${open.nlink} names` };
    },
    room: () => ({ freeBytes: freeBytes(kept.directory), reserve: reserve.state() }),
    protection() {
      if (closed) return { kind: "none", why: "the segment is closed" };
      const now = readProtection(fd);
      return now.kind === "none" && asked.kind === "none" ? asked : now; // it knows why
    },
    close,
    finish() {
      if (!closed) complete(fd, reserve, asked);
      close();
    },
  };
}

/** The reserve goes first: blocks behind the end cannot be given back by what may only be appended to. */
function complete(fd: number, reserve: Reserve, asked: Protection): void {
  try {
    unprotect(fd);
  } catch {
    // then it stays append-only, and keeps its blocks
  }
  reserve.release();
  if (asked !== PLAIN) protect(fd, "immutable");
}

/** Writes until everything is written: one write may take only part. `once` writes from an offset and says how much it took. */
export async function writeAll(once: (from: number) => Promise<number>, length: number): Promise<void> {
  let written = 0;
  while (written < length) {
    const taken = await once(written).catch((error: unknown) => {
      if (isCode(error, "EINTR")) return 0;
      throw error;
    });
    written += taken;
  }
}

/** A full disk is no failure while there is a reserve to give up. */
function writeWithRoom(fd: number, chunk: Buffer, from: number, reserve: Reserve): Promise<number> {
  return writeOnce(fd, chunk, from).catch((error: unknown) => {
    if (isCode(error, "ENOSPC") && reserve.makeRoom()) return 0; // and the write goes on
    throw error;
  });
}

function writeOnce(fd: number, chunk: Buffer, from: number): Promise<number> {
  return new Promise((resolve, reject) => {
    fs.write(fd, chunk, from, chunk.length - from, null, (error, taken) =>
      error ? reject(error) : resolve(taken),
    );
  });
}

/**
 * The bytes of all tombstones and then all segments, in order, as far as they go at the moment each is opened: a daemon
 * may be writing. A tombstone whose segment is still there is passed over. Yields nothing when there is no directory.
 * Throws the system's error when something cannot be read.
 */
export async function* readLog(directory: string): AsyncGenerator<Chunk> {
  const segments = segmentsIn(directory);
  const kept = new Set(segments.map(firstSeqIn));
  for (const file of namesIn(directory, TOMBSTONE))
    if (!kept.has(firstSeqIn(file))) yield* readFrom(directory, file, 0);
  for (const file of segments) yield* readFrom(directory, file, 0);
}

/** A line of a segment, and where it stands. `byte` is the line's first. */
export type PlacedLine = { readonly file: string; readonly byte: number; readonly line: string };

/**
 * The bytes of one segment from a byte on, then of all later segments: what comes after a snapshot. Throws as `readLog`,
 * and BoundaryError("log-broken") when there is no such segment.
 */
export async function* readLogFrom(
  directory: string,
  place: { readonly file: string; readonly byte: number },
): AsyncGenerator<Chunk> {
  const segments = segmentsIn(directory);
  const first = segments.indexOf(checkedName(place.file));
  if (first === -1) throw new BoundaryError("log-broken", `reading ${place.file}: it is not there`);
  yield* readFrom(directory, place.file, place.byte);
  for (const file of segments.slice(first + 1)) yield* readFrom(directory, file, 0);
}

async function* readFrom(directory: string, file: string, from: number): AsyncGenerator<Chunk> {
  const handle = await fs.promises.open(join(directory, file), O_RDONLY | O_NOFOLLOW);
  try {
    const { size } = await handle.stat();
    let at = from;
    let reading = readAt(handle, at, size);
    let next = await reading;
    while (next.length > 0) {
      const chunk = { file, bytes: next, at };
      at += next.length;
      reading = readAt(handle, at, size); // while the reader works on this one
      reading.catch(() => undefined); // seen when awaited; a reader who stops before needs no more
      yield chunk;
      next = await reading;
    }
  } finally {
    await handle.close();
  }
}

/**
 * The last whole line of the last segment that `isSnapshot` says yes to; null when there is none. Searched backwards from
 * the end, so the cost is that of the tail. `isSnapshot` gets only lines that hold the bytes of such a kind, and judges:
 * the bytes may stand in another record's data. Throws the system's error, or BoundaryError("log-unsafe").
 */
export function lastSnapshot(directory: string, isSnapshot: (line: string) => boolean): PlacedLine | null {
  const file = segmentsIn(directory).at(-1);
  if (file === undefined) return null;
  const fd = fs.openSync(join(directory, file), O_RDONLY | O_NOFOLLOW);
  try {
    const stat = fs.fstatSync(fd);
    if (!stat.isFile()) throw new BoundaryError("log-unsafe", `reading ${file}: it is no regular file`);
    return searchBackwards(fd, file, stat.size, isSnapshot);
  } finally {
    fs.closeSync(fd);
  }
}

/** As they stand in a record: the field after `kind` follows, so that a kind that only begins like one is not meant. */
const SNAPSHOT_KINDS = ["log.snapshot", "log.segment"].map((kind) =>
  Buffer.from(`"kind":"${kind}","mono":"`),
);
/** A line and its "\n". */
const MAX_LINE_BYTES = 65_536;
const BACK_BYTES = 256 * 1024;

function searchBackwards(
  fd: number,
  file: string,
  size: number,
  isSnapshot: (line: string) => boolean,
): PlacedLine | null {
  let end = size; // everything from here on has been searched
  while (end > 0) {
    const from = Math.max(0, end - BACK_BYTES);
    // so much more that a line with a kind before `end` is whole, and the line before it can be seen to end
    const bytes = readPiece(fd, Math.max(0, from - MAX_LINE_BYTES), Math.min(size, end + MAX_LINE_BYTES));
    const found = lastIn(bytes.bytes, { from: from - bytes.at, end: end - bytes.at }, isSnapshot);
    if (found) return { file, byte: bytes.at + found.byte, line: found.line };
    end = from;
  }
  return null;
}

/** The last good line in the bytes whose kind begins in [from, end). */
function lastIn(
  bytes: Buffer,
  range: { readonly from: number; readonly end: number },
  isSnapshot: (line: string) => boolean,
): { readonly byte: number; readonly line: string } | null {
  for (let at = lastKind(bytes, range.end - 1); at >= range.from; at = lastKind(bytes, at - 1)) {
    const start = bytes.lastIndexOf(NEWLINE, at) + 1;
    const stop = bytes.indexOf(NEWLINE, at);
    if (stop === -1) continue; // torn: not a line
    const line = bytes.toString("utf8", start, stop);
    if (isSnapshot(line)) return { byte: start, line };
  }
  return null;
}

function lastKind(bytes: Buffer, before: number): number {
  if (before < 0) return -1; // to lastIndexOf that would be an offset from the end
  return Math.max(...SNAPSHOT_KINDS.map((kind) => bytes.lastIndexOf(kind, before)));
}

const NEWLINE = 0x0a;

function readPiece(fd: number, from: number, to: number): { readonly at: number; readonly bytes: Buffer } {
  const bytes = Buffer.allocUnsafe(to - from);
  let read = 0;
  while (read < bytes.length) {
    const taken = fs.readSync(fd, bytes, read, bytes.length - read, from + read);
    if (taken === 0) break; // cut while we read: the verdict says what is missing
    read += taken;
  }
  return { at: from, bytes: bytes.subarray(0, read) };
}

/** A segment's first line, without its "\n"; null when it has none. Throws the system's error. */
export function firstLineOf(directory: string, file: string): string | null {
  const fd = fs.openSync(join(directory, checkedName(file)), O_RDONLY | O_NOFOLLOW);
  try {
    const { bytes } = readPiece(fd, 0, MAX_LINE_BYTES);
    const end = bytes.indexOf(NEWLINE);
    return end === -1 ? null : bytes.toString("utf8", 0, end);
  } finally {
    fs.closeSync(fd);
  }
}

/** A segment as it lies in the directory. */
export type Segment = { readonly file: string; readonly firstSeq: number; readonly bytes: number };

/**
 * What the file system holds for the segments now, the open one last. `ended`: those that were seen to be immutable and
 * need no other look; kept up here. Never throws: what cannot be looked at is held by nothing, as far as we know.
 */
export function protectionOf(directory: string, ended: Set<string> = new Set()): readonly Protection[] {
  const held = <T>(look: () => T): T | Protection => {
    try {
      return look();
    } catch (error) {
      return { kind: "none", why: error instanceof Error ? error.message : "it cannot be looked at" };
    }
  };
  const segments = held(() => segmentsIn(directory));
  if ("kind" in segments) return [segments];
  return segments.map((file, at) => {
    if (ended.has(file)) return { kind: "immutable" };
    const protection = held(() => onSegment(directory, file, readProtection));
    if (protection.kind === "immutable" && at < segments.length - 1) ended.add(file);
    return protection;
  });
}

/** Makes the ended segments immutable that a crash left otherwise. Never throws: `protectionOf` says what holds. */
export function protectEnded(directory: string): void {
  for (const file of segmentsIn(directory).slice(0, -1)) {
    try {
      onSegment(directory, file, (fd) => readProtection(fd).kind === "immutable" || protect(fd, "immutable"));
    } catch {
      // shown by status
    }
  }
}

function onSegment<T>(directory: string, file: string, look: (fd: number) => T): T {
  const fd = fs.openSync(join(directory, file), O_RDONLY | O_NOFOLLOW);
  try {
    return look(fd);
  } finally {
    fs.closeSync(fd);
  }
}

/** All segments, in order. Throws the system's error. */
export function segmentsOf(directory: string): readonly Segment[] {
  return segmentsIn(directory).map((file) => ({
    file,
    firstSeq: firstSeqIn(file),
    bytes: fs.lstatSync(join(directory, file)).size,
  }));
}

/**
 * Writes the tombstone of a segment (docs/LOG_FORMAT.md, Pruning), durable when it returns; one that a crash left is
 * written anew. Throws BoundaryError("log-unavailable").
 */
export function saveTombstone(directory: string, firstSeq: number, bytes: Uint8Array): void {
  const file = tombstoneName(firstSeq);
  try {
    if (bytes.length > MAX_TOMBSTONE_BYTES) throw new Error(`${bytes.length} bytes are no tombstone`);
    fs.rmSync(join(directory, `${file}.new`), { force: true });
    saveNew(directory, `${file}.new`, bytes);
    fs.renameSync(join(directory, `${file}.new`), join(directory, file));
    syncDirectory(directory);
  } catch (cause) {
    throw asError("log-unavailable", `writing ${file}`, cause);
  }
}

/**
 * Removes a pruned segment, durably; nothing when it is gone. Throws BoundaryError("log-broken") for one without a
 * tombstone and for the newest, which are never pruned; "log-unavailable" when it cannot be removed.
 */
export function removeSegment(directory: string, firstSeq: number): void {
  const file = segmentName(firstSeq);
  const segments = segmentsIn(directory);
  if (!segments.includes(file)) return;
  if (segments.at(-1) === file) throw new BoundaryError("log-broken", `removing ${file}: it is the newest`);
  if (!namesIn(directory, TOMBSTONE).includes(tombstoneName(firstSeq)))
    throw new BoundaryError("log-broken", `removing ${file}: it has no tombstone`);
  try {
    unprotectFile(join(directory, file));
    fs.unlinkSync(join(directory, file));
    syncDirectory(directory);
  } catch (cause) {
    throw asError("log-unavailable", `removing ${file}`, cause);
  }
}

function tombstoneName(firstSeq: number): string {
  return `${String(firstSeq).padStart(20, "0")}.tombstone`;
}

function firstSeqIn(file: string): number {
  return Number(file.slice(0, 20));
}

/** Whether there is a log. Throws the system's error when the directory cannot be read. */
export function hasSegments(directory: string): boolean {
  return segmentsIn(directory).length > 0;
}

/** Whether all there is is a first segment without a byte: what a start leaves that failed before its first batch. */
export function isUnwritten(directory: string): boolean {
  const [first, ...more] = segmentsOf(directory);
  return first?.firstSeq === 0 && first.bytes === 0 && more.length === 0;
}

/** Empty at the end, also when the file was cut while we read: the verdict says what is missing. */
async function readAt(handle: fs.promises.FileHandle, at: number, size: number): Promise<Buffer> {
  // A buffer for each: the reader may keep it while the next is read.
  const buffer = Buffer.allocUnsafe(Math.min(READ_BYTES, size - at));
  const { bytesRead } = await handle.read(buffer, 0, buffer.length, at);
  return buffer.subarray(0, bytesRead);
}

/** Segment names, in order. Other names are not the log's: locks, saved pieces, quarantined logs. */
function segmentsIn(directory: string): readonly string[] {
  return namesIn(directory, SEGMENT);
}

function namesIn(directory: string, form: RegExp): readonly string[] {
  try {
    return fs
      .readdirSync(directory)
      .filter((name) => form.test(name))
      .sort();
  } catch (error) {
    if (isCode(error, "ENOENT")) return [];
    throw error;
  }
}

/**
 * Cuts the last segment at a byte. What is cut is first saved, durably, as `torn-<seq>-<time>.bin`; returns that
 * name. Throws BoundaryError("log-broken") when it is not the last segment, or the system's error.
 */
export function cutTail(
  directory: string,
  place: { readonly file: string; readonly byte: number; readonly seq: number },
  atMs: number,
): string {
  if (segmentsIn(directory).at(-1) !== place.file) {
    throw new BoundaryError("log-broken", `cutting ${place.file}: it is not the last segment`);
  }
  const path = join(directory, checkedName(place.file));
  unprotectFile(path); // whoever opens the segment next makes it append-only again
  const fd = fs.openSync(path, fs.constants.O_RDWR | O_NOFOLLOW);
  try {
    const size = Math.max(place.byte, fs.fstatSync(fd).size);
    const piece = readPiece(fd, place.byte, size).bytes;
    if (piece.length < size - place.byte)
      throw new BoundaryError("log-broken", "reading what is to be cut: the file has shrunk");
    const savedAs = `torn-${String(place.seq).padStart(20, "0")}-${fileTime(atMs)}.bin`;
    saveNew(directory, savedAs, piece);
    fs.ftruncateSync(fd, place.byte);
    fs.fsyncSync(fd);
    return savedAs;
  } finally {
    fs.closeSync(fd);
  }
}

/** Moves all segments and tombstones into `broken-<time>/` and returns its name. Nothing is deleted: they are evidence. */
export function quarantine(directory: string, atMs: number): string {
  const name = `broken-${fileTime(atMs)}`;
  const target = join(directory, name);
  fs.mkdirSync(target, { mode: 0o700 });
  const files = [...namesIn(directory, TOMBSTONE), ...segmentsIn(directory)];
  for (const file of files) setAside(join(directory, file), join(target, file));
  syncDirectory(target);
  syncDirectory(directory);
  return name;
}

function saveNew(directory: string, name: string, bytes: Uint8Array): void {
  const fd = fs.openSync(join(directory, name), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  try {
    fs.writeFileSync(fd, bytes);
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
  syncDirectory(directory);
}

function checkedName(file: string): string {
  if (SEGMENT.test(file)) return file;
  throw new BoundaryError("log-broken", `${file} is not the name of a segment`);
}

/** What cannot be changed cannot be renamed either; what was protected is so again in its new place, for good. */
function setAside(from: string, to: string): void {
  const fd = fs.openSync(from, O_RDONLY | O_NOFOLLOW | fs.constants.O_NONBLOCK);
  try {
    const wasProtected = readProtection(fd).kind !== "none";
    if (wasProtected) unprotect(fd);
    fs.renameSync(from, to);
    if (wasProtected) protect(fd, "immutable");
  } catch (cause) {
    throw asError("log-unavailable", `moving ${from} aside`, cause);
  } finally {
    fs.closeSync(fd);
  }
}

/** "20260102T030405.678Z" */
function fileTime(atMs: number): string {
  return new Date(atMs).toISOString().replaceAll(/[-:]/g, "");
}

function lookAt(stat: fs.Stats): Look {
  const kind = stat.isFile()
    ? "file"
    : stat.isDirectory()
      ? "directory"
      : stat.isSymbolicLink()
        ? "symlink"
        : "other";
  return { kind, uid: stat.uid, mode: stat.mode & 0o7777, links: stat.nlink };
}

function ourUid(): number {
  return process.geteuid?.() ?? -1;
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}

function asError(code: "log-unsafe" | "log-unavailable", doing: string, cause: unknown): BoundaryError {
  return cause instanceof BoundaryError ? cause : new BoundaryError(code, doing, { cause });
}
