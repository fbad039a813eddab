import { parseCheckpoint, parseNote } from "../../daemon/audit/checkpoint.ts";
import { BoundaryError } from "../../daemon/core/errors.ts";
import { parseStrictJson } from "../../daemon/core/json.ts";
import { readSmallFile } from "../read-file.ts";
import { replaceFile } from "./replace-file.ts";

/**
 * How far the log was handed over: up to and including the seal with this signed note. `to` is where; `file` and
 * `byte` say for a person where that seal ends.
 */
export type Cursor = {
  readonly note: string;
  readonly size: number;
  readonly to: string;
  readonly file: string;
  readonly byte: number;
};

/** Keeps the cursor; file: a JSON object on one line. */
export type CursorStore = {
  /** The cursor; null when there is none; a text when there is one that cannot be used: why. */
  load(): Cursor | null | string;
  /** Durable when it returns. Throws BoundaryError("state-unwritable"). */
  save(cursor: Cursor): void;
};

const MAX_BYTES = 16_384;
const VERSION = 1;

/** The cursor in a file, for one destination. */
export function openCursor(path: string, to: string): CursorStore {
  return {
    load() {
      const cursor = readCursorFile(path);
      if (cursor === null || typeof cursor === "string") return cursor;
      return cursor.to === to ? cursor : `it is of another destination, ${cursor.to}`;
    },
    save({ note, to: where, file, byte }) {
      const text = `${JSON.stringify({ byte, file, note, to: where, v: VERSION })}\n`;
      try {
        replaceFile(path, text);
      } catch (cause) {
        throw new BoundaryError("state-unwritable", `writing the cursor ${path}`, { cause });
      }
    },
  };
}

function readCursorFile(path: string): Cursor | null | string {
  try {
    const bytes = readSmallFile(path, MAX_BYTES);
    return bytes === null ? null : parseCursor(bytes.toString("utf8"));
  } catch (error) {
    return error instanceof Error ? error.message : "it cannot be read";
  }
}

/** Reads a cursor's text; the note's signature is checked where the key is known. A text: why it is none. */
export function parseCursor(text: string): Cursor | string {
  const parsed = parseStrictJson(text, { maxDepth: 2 });
  if (!parsed.ok || typeof parsed.value !== "object" || parsed.value === null) return "it is no JSON object";
  const { v, note, to, file, byte } = parsed.value as Readonly<Record<string, unknown>>;
  if (v !== VERSION || typeof note !== "string" || typeof to !== "string") return "it is not of our form";
  if (typeof file !== "string" || typeof byte !== "number" || !Number.isSafeInteger(byte))
    return "it is not of our form";
  const read = parseNote(note);
  const checkpoint = read.ok ? parseCheckpoint(read.value.text) : read;
  return checkpoint.ok ? { note, size: checkpoint.value.size, to, file, byte } : checkpoint.why;
}
