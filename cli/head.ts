import { parseCheckpoint, parseNote } from "../daemon/audit/checkpoint.ts";
import type { Head } from "../daemon/audit/verify.ts";
import { BoundaryError } from "../daemon/core/errors.ts";
import { readSmallFile } from "./read-file.ts";

const MAX_HEAD_BYTES = 4_096;

/** "SIZE ROOT" as `log head` prints it (root in hex or base64); null for anything else. */
export function parseHeadLine(text: string): Head | null {
  const found = /^([0-9]{1,15})\s+(?:([0-9a-fA-F]{64})|([A-Za-z0-9+/]{43}=))$/.exec(text.trim());
  if (found === null) return null;
  const root = found[2]?.toLowerCase() ?? Buffer.from(found[3] ?? "", "base64").toString("hex");
  return { size: Number(found[1]), root };
}

/** What --head gives: a size and root, or a file with those or with a signed note. Throws BoundaryError("head-invalid"). */
export function readHeadArgument(argument: string): Head | string {
  const line = parseHeadLine(argument);
  if (line !== null) return line;
  let bytes: Buffer | null;
  try {
    bytes = readSmallFile(argument, MAX_HEAD_BYTES);
  } catch (cause) {
    throw new BoundaryError("head-invalid", `reading the head ${argument}`, { cause });
  }
  if (bytes === null)
    throw new BoundaryError("head-invalid", `${argument} is neither "SIZE ROOT" nor a file`);
  const text = bytes.toString("utf8").replace(/\0+$/, "");
  return parseHeadLine(text) ?? text;
}

/** Size and root (hex) of a signed note, its signature unseen. Throws BoundaryError: "reply-invalid" when the daemon sent it, else "head-invalid". */
export function headOfNote(note: string, from: "daemon" | "person" = "daemon"): Head {
  const parsed = parseNote(note);
  const checkpoint = parsed.ok ? parseCheckpoint(parsed.value.text) : parsed;
  if (checkpoint.ok) return { size: checkpoint.value.size, root: checkpoint.value.root };
  const code = from === "daemon" ? "reply-invalid" : "head-invalid";
  throw new BoundaryError(code, `reading the log's head: ${checkpoint.why}`);
}
