import { join } from "node:path";
import { readLine } from "../daemon/audit/line.ts";
import { beginOf } from "../daemon/audit/parts.ts";
import type { Begin } from "../daemon/audit/verify.ts";
import { firstLineOf, segmentFiles } from "./log-files.ts";

/**
 * The segment that a tree of so many records ends in, and what its first record says of the time before it. That is as
 * true as the tree: the record is one of its leaves. Null where it has to be read from the log's beginning on.
 */
export async function segmentOf(
  directory: string,
  size: number,
  origin: string,
): Promise<{ readonly file: string; readonly begin: Begin } | null> {
  const files = await segmentFiles(directory);
  const file = files.findLast(({ name }) => Number.parseInt(name, 10) < size)?.name;
  const begin = file === undefined ? null : await beginIn(join(directory, file), origin);
  return file === undefined || begin === null ? null : { file, begin };
}

/** What a segment's first record says; null where it says too little. Throws BoundaryError("log-unsafe"). */
export async function beginIn(file: string, origin: string): Promise<Begin | null> {
  const line = await firstLineOf(file);
  const read = line === null ? null : readLine(line);
  return read?.ok ? beginOf(read.record, origin) : null;
}
