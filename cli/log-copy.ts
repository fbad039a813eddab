import { constants, promises as fs } from "node:fs";
import { join } from "node:path";
import { readLine } from "../daemon/audit/line.ts";
import { leafHash } from "../daemon/audit/merkle.ts";
import { FIRST_PREV, MAX_RECORD_BYTES } from "../daemon/audit/record.ts";
import { BoundaryError } from "../daemon/core/errors.ts";
import { firstLineOf, segmentFiles } from "./log-files.ts";

/** A copy of a log that grows: the same segments, byte for byte. */
export type LogCopy = {
  /** The number of the next line. */
  next(): number;
  /**
   * Puts lines behind the others. Throws BoundaryError("log-broken"), and has written what came before, when one does
   * not follow: the copy is of another log, or somebody changed one of the two.
   */
  append(lines: readonly string[]): Promise<void>;
  close(): Promise<void>;
};

const { O_APPEND, O_CREAT, O_NOFOLLOW, O_RDWR, O_WRONLY } = constants;

/**
 * Opens a directory (0700 when it is made) to copy a log into, or to go on where it ends. A piece of a line at its end,
 * which a copying left that was broken off, is cut. `key`: the log's genesis key. Throws BoundaryError("log-broken")
 * when the directory holds another log, and the system's error when it cannot be written.
 */
export async function openLogCopy(directory: string, key: string): Promise<LogCopy> {
  await fs.mkdir(directory, { recursive: true, mode: 0o700 });
  const end = await endOf(directory, key);
  let { next, prev, file } = end;
  let handle: fs.FileHandle | null = null;

  async function append(lines: readonly string[]): Promise<void> {
    let pending = "";
    for (const line of lines) {
      const read = readLine(line);
      if (!read.ok || read.record.seq !== next || read.record.prev !== prev) {
        await put(pending);
        throw notFollowing(directory, next);
      }
      const { kind } = read.record;
      if (kind === "log.genesis" || kind === "log.segment") {
        await put(pending);
        pending = "";
        await handle?.close();
        handle = null;
        file = `${String(next).padStart(20, "0")}.jsonl`;
      }
      pending += `${line}\n`;
      prev = leafHash(Buffer.from(line));
      next++;
    }
    await put(pending);
    await handle?.datasync();
  }

  async function put(text: string): Promise<void> {
    if (text === "") return;
    if (file === "") throw notFollowing(directory, next);
    handle ??= await fs.open(join(directory, file), O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW, 0o600);
    await handle.writeFile(text);
  }

  return {
    next: () => next,
    append,
    close: async () => {
      await handle?.close();
    },
  };
}

function notFollowing(directory: string, seq: number): BoundaryError {
  return new BoundaryError(
    "log-broken",
    `copying to ${directory}: record ${seq} does not follow what is there`,
  );
}

type End = { readonly next: number; readonly prev: string; readonly file: string };

async function endOf(directory: string, key: string): Promise<End> {
  const files = await segmentFiles(directory);
  const [first] = files;
  if (first === undefined) return { next: 0, prev: FIRST_PREV, file: "" };
  const line = await firstLineOf(join(directory, first.name));
  const read = line === null ? null : readLine(line);
  if (read?.ok && read.record.data["key"] !== key)
    throw new BoundaryError("log-broken", `copying to ${directory}: it holds another log`);
  for (const { name } of files.toReversed()) {
    const last = await lastLineOf(join(directory, name));
    if (last === null) continue; // a segment that had just begun
    const end = readLine(last);
    if (!end.ok)
      throw new BoundaryError("log-broken", `copying to ${directory}: ${name} ends with no record`);
    return { next: end.record.seq + 1, prev: leafHash(Buffer.from(last)), file: name };
  }
  return { next: 0, prev: FIRST_PREV, file: "" };
}

/** A file's last whole line, and nothing after it: what is more is cut off. Null when there is none. */
async function lastLineOf(path: string): Promise<string | null> {
  const handle = await fs.open(path, O_RDWR | O_NOFOLLOW);
  try {
    const { size } = await handle.stat();
    const from = Math.max(0, size - 2 * (MAX_RECORD_BYTES + 1));
    const bytes = Buffer.alloc(size - from);
    const { bytesRead } = await handle.read(bytes, 0, bytes.length, from);
    const end = bytes.subarray(0, bytesRead).lastIndexOf("\n");
    if (from + end + 1 < size) await handle.truncate(from + end + 1);
    if (end === -1) return null;
    const start = end === 0 ? 0 : bytes.lastIndexOf("\n", end - 1) + 1;
    return bytes.toString("utf8", start, end);
  } finally {
    await handle.close();
  }
}
