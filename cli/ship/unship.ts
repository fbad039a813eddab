import { isUtf8 } from "node:buffer";
import { closeSync, constants, promises as fs, fsyncSync, openSync, writeSync } from "node:fs";
import { readLine } from "../../daemon/audit/line.ts";
import { BoundaryError } from "../../daemon/core/errors.ts";

/** What was found in files that a syslog server wrote. */
export type Unshipped = {
  /** Different records, which were written. */
  readonly records: number;
  readonly first: number | null;
  readonly last: number | null;
  /** Lines that hold a record that was there already, byte for byte. */
  readonly duplicates: number;
  /** Lines of others. */
  readonly foreign: number;
  /** Numbers that two different lines claim; both are written, so that verify-log sees them. The first 100. */
  readonly conflicts: readonly number[];
  /** Lines that begin as a record and are none. They are not written. The first 100. */
  readonly unreadable: readonly { readonly file: string; readonly byte: number; readonly why: string }[];
  /** Stretches of numbers that are not there, between the first and the last. The first 100. */
  readonly missing: readonly { readonly from: number; readonly to: number }[];
};

/** Where lines are: one entry a line, in the order found. As numbers in arrays: millions of them fit. */
type Index = {
  readonly seqs: number[];
  readonly files: number[];
  readonly bytes: number[];
  readonly lengths: number[];
};

const MAX_TOLD = 100;
const READ_BYTES = 1_048_576;
/** A record, and what a server may put before it. */
const MAX_LINE_BYTES = 131_072;
const NEWLINE = 0x0a;
const CARRIAGE_RETURN = 0x0d;
/** Every record begins so, and nothing that we put before one holds it. */
const BEGINNING = Buffer.from('{"at":"');

/**
 * Takes the log's lines out of what a syslog server wrote (bare, as RFC 5424, or behind a traditional header), removes
 * what came twice, puts them in order and writes them to a new file (0600) that verify-log reads. It vouches for
 * nothing: verify-log does. Throws BoundaryError("unship-failed").
 */
export async function unship(paths: readonly string[], out: string): Promise<Unshipped> {
  const handles: fs.FileHandle[] = [];
  try {
    for (const path of paths) handles.push(await fs.open(path, constants.O_RDONLY | constants.O_NONBLOCK));
    return await collect(paths, handles, out);
  } catch (cause) {
    throw new BoundaryError("unship-failed", `taking the log out of ${paths.join(", ")}`, { cause });
  } finally {
    await Promise.all(handles.map((handle) => handle.close()));
  }
}

async function collect(
  paths: readonly string[],
  handles: readonly fs.FileHandle[],
  out: string,
): Promise<Unshipped> {
  const index: Index = { seqs: [], files: [], bytes: [], lengths: [] };
  const unreadable: { file: string; byte: number; why: string }[] = [];
  let foreign = 0;
  for (const [file, handle] of handles.entries()) {
    if (!(await handle.stat()).isFile()) throw new Error(`${paths[file] ?? ""} is no regular file`);
    for await (const line of linesOf(handle)) {
      const start = line.bytes.indexOf(BEGINNING);
      const read = start === -1 ? null : readRecordLine(line.bytes.subarray(start));
      if (read === null) foreign++;
      else if ("why" in read) {
        if (unreadable.length < MAX_TOLD)
          unreadable.push({ file: paths[file] ?? "", byte: line.at, why: read.why });
      } else {
        index.seqs.push(read.seq);
        index.files.push(file);
        index.bytes.push(line.at + start);
        index.lengths.push(read.length);
      }
    }
  }
  return { ...(await writeInOrder(index, handles, out)), foreign, unreadable };
}

function readRecordLine(
  bytes: Buffer,
): { readonly seq: number; readonly length: number } | { readonly why: string } {
  if (!isUtf8(bytes)) return { why: "not UTF-8" };
  const read = readLine(bytes.toString("utf8"));
  return read.ok ? { seq: read.record.seq, length: bytes.length } : { why: read.why };
}

async function writeInOrder(
  index: Index,
  handles: readonly fs.FileHandle[],
  out: string,
): Promise<Omit<Unshipped, "foreign" | "unreadable">> {
  const { seqs } = index;
  const order = Uint32Array.from(seqs.keys()).sort((a, b) => (seqs[a] ?? 0) - (seqs[b] ?? 0) || a - b);
  const conflicts: number[] = [];
  const missing: { from: number; to: number }[] = [];
  let [records, duplicates] = [0, 0];
  let last: number | null = null;
  let same: Buffer[] = []; // the different lines that claim the last number
  const fd = openSync(
    out,
    constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
    0o600,
  );
  const write = bufferedWriter(fd);
  try {
    for (const entry of order) {
      const line = await readAt(index, handles, entry);
      const seq = seqs[entry] ?? 0;
      if (seq === last && same.some((one) => one.equals(line))) {
        duplicates++;
        continue;
      }
      if (seq === last && conflicts.at(-1) !== seq && conflicts.length < MAX_TOLD) conflicts.push(seq);
      if (last !== null && seq > last + 1 && missing.length < MAX_TOLD)
        missing.push({ from: last + 1, to: seq - 1 });
      same = seq === last ? [...same, line] : [line];
      last = seq;
      records++;
      write.line(line);
    }
    write.flush();
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  const first = order[0] === undefined ? null : (seqs[order[0]] ?? null);
  return { records, first, last, duplicates, conflicts, missing };
}

async function readAt(index: Index, handles: readonly fs.FileHandle[], entry: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(index.lengths[entry] ?? 0);
  const handle = handles[index.files[entry] ?? 0];
  const read = await handle?.read(bytes, 0, bytes.length, index.bytes[entry] ?? 0);
  if (read?.bytesRead !== bytes.length) throw new Error("a file was cut while it was read");
  return bytes;
}

function bufferedWriter(fd: number): { line(bytes: Buffer): void; flush(): void } {
  let waiting: Buffer[] = [];
  let size = 0;
  function flush(): void {
    const all = Buffer.concat(waiting);
    for (let at = 0; at < all.length; ) at += writeSync(fd, all, at);
    [waiting, size] = [[], 0];
  }
  return {
    line(bytes) {
      waiting.push(bytes, Buffer.from([NEWLINE]));
      size += bytes.length + 1;
      if (size >= READ_BYTES) flush();
    },
    flush,
  };
}

/** Lines with the offset of their first byte, without line end. Of one that is too long, the beginning. */
async function* linesOf(
  handle: fs.FileHandle,
): AsyncGenerator<{ readonly at: number; readonly bytes: Buffer }> {
  let held: Buffer = Buffer.alloc(0);
  let heldAt = 0;
  let skipping = false;
  for (let at = 0; ; ) {
    const chunk = Buffer.allocUnsafe(READ_BYTES);
    const { bytesRead } = await handle.read(chunk, 0, chunk.length, at);
    if (bytesRead === 0) break;
    at += bytesRead;
    held = Buffer.concat([held, chunk.subarray(0, bytesRead)]);
    let start = 0;
    for (let end = held.indexOf(NEWLINE); end !== -1; end = held.indexOf(NEWLINE, start)) {
      if (!skipping) yield { at: heldAt + start, bytes: withoutReturn(held.subarray(start, end)) };
      skipping = false;
      start = end + 1;
    }
    [held, heldAt] = [held.subarray(start), heldAt + start];
    if (held.length <= MAX_LINE_BYTES) continue;
    if (!skipping) yield { at: heldAt, bytes: held.subarray(0, MAX_LINE_BYTES) };
    skipping = true;
    [held, heldAt] = [Buffer.alloc(0), heldAt + held.length];
  }
  if (held.length > 0 && !skipping) yield { at: heldAt, bytes: withoutReturn(held) };
}

function withoutReturn(bytes: Buffer): Buffer {
  return bytes.at(-1) === CARRIAGE_RETURN ? bytes.subarray(0, -1) : bytes;
}
