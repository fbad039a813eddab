import { readdirSync } from "node:fs";
import { join } from "node:path";
import { type Certificate, MAX_CERTIFICATE_CHARS, parseCertificate } from "../daemon/audit/certificate.ts";
import { BoundaryError } from "../daemon/core/errors.ts";
import { readSmallFile } from "./read-file.ts";

const TOMBSTONE = /^([0-9]{20})\.tombstone$/;

/**
 * What is left of a log's pruned segments, in order. Where a segment is there as well, it counts, not its tombstone.
 * None for a log that is one file. Throws BoundaryError("log-unsafe") or ("log-broken") for one that cannot be read.
 */
export function readTombstones(path: string): readonly Certificate[] {
  const names = namesIn(path);
  const left = names.filter((name) => {
    const number = TOMBSTONE.exec(name)?.[1];
    return number !== undefined && !names.includes(`${number}.jsonl`);
  });
  return left.toSorted().map((name) => readTombstone(join(path, name)));
}

function namesIn(path: string): readonly string[] {
  try {
    return readdirSync(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return [];
    throw new BoundaryError("log-unsafe", `reading the log ${path}`, { cause: error });
  }
}

function readTombstone(path: string): Certificate {
  let bytes: Buffer | null;
  try {
    bytes = readSmallFile(path, MAX_CERTIFICATE_CHARS);
  } catch (cause) {
    throw new BoundaryError("log-unsafe", `reading ${path}`, { cause });
  }
  const parsed = parseCertificate(bytes?.toString("utf8") ?? "");
  if (!parsed.ok) throw new BoundaryError("log-broken", `reading ${path}: ${parsed.why}`);
  return parsed.value;
}
