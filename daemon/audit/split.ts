import { isAscii, isUtf8 } from "node:buffer";
import { hash } from "node:crypto";
import { MAX_RECORD_BYTES } from "./record.ts";

/** `at`: where in its file the first chunk of a file begins; 0 when not said. */
export type Chunk = { readonly file: string; readonly bytes: Uint8Array; readonly at?: number };

/** One line as it stands on disk, without its "\n". */
export type Line = {
  /** Null: not UTF-8. */
  readonly text: string | null;
  /** The bytes, one character each, of a line that is not UTF-8; otherwise "". */
  readonly raw: string;
  /** RFC 6962 leaf hash of the bytes, hex. */
  readonly leaf: string;
  readonly file: string;
  readonly byte: number;
  readonly length: number;
};

/** What keeps a line from being one: too long, or a file that ends within a line although another file follows. */
export type SplitFault = {
  readonly code: "line-too-long" | "line-unfinished";
  readonly file: string;
  readonly byte: number;
};

export type Splitter = {
  /** Gives every whole line to `onLine` until that answers "stop". */
  push(chunk: Chunk): "go-on" | "stop" | SplitFault;
  /** What is left at the end: a piece of a line. `bytes` 0: nothing. */
  rest(): { readonly file: string; readonly byte: number; readonly bytes: number };
};

const NEWLINE = 0x0a;
const LEAF_PREFIX = 0x00;

/** Cuts chunks into lines, holding no more than one chunk and one line. */
export function createSplitter(onLine: (line: Line) => "go-on" | "stop"): Splitter {
  let work = Buffer.alloc(1); // [one spare byte][rest of the last chunk][this chunk]
  let held = 0;
  let file = "";
  let byte = 0; // of the first held byte, in `file`

  function take(chunk: Chunk): number {
    const end = 1 + held + chunk.bytes.length;
    if (work.length < end) {
      const larger = Buffer.allocUnsafe(end);
      work.copy(larger, 1, 1, 1 + held);
      work = larger;
    }
    work.set(chunk.bytes, 1 + held);
    return end;
  }

  function lineAt(start: number, end: number, charset: Charset): Line {
    const text = decode(work, start, end, charset);
    // The byte before a line has been read already: lent to the hash's prefix.
    work[start - 1] = LEAF_PREFIX;
    const leaf = hash("sha256", work.subarray(start - 1, end), "hex");
    const raw = text === null ? work.toString("latin1", start, end) : "";
    return { text, raw, leaf, file, byte: byte + start - 1, length: end - start };
  }

  function push(chunk: Chunk): "go-on" | "stop" | SplitFault {
    if (chunk.file !== file) {
      if (held > 0) return { code: "line-unfinished", file, byte };
      file = chunk.file;
      byte = chunk.at ?? 0;
    }
    const end = take(chunk);
    const last = work.lastIndexOf(NEWLINE, end - 1);
    const charset = charsetOf(work.subarray(1, Math.max(1, last)));
    let start = 1;
    while (start <= last) {
      const lineEnd = work.indexOf(NEWLINE, start);
      if (lineEnd - start > MAX_RECORD_BYTES) return { code: "line-too-long", file, byte: byte + start - 1 };
      if (onLine(lineAt(start, lineEnd, charset)) === "stop") return "stop";
      start = lineEnd + 1;
    }
    work.copyWithin(1, start, end);
    held = end - start;
    byte += start - 1;
    return held > MAX_RECORD_BYTES ? { code: "line-too-long", file, byte } : "go-on";
  }

  return { push, rest: () => ({ file, byte, bytes: held }) };
}

type Charset = "ascii" | "utf8" | "mixed";

function charsetOf(bytes: Buffer): Charset {
  if (isAscii(bytes)) return "ascii";
  return isUtf8(bytes) ? "utf8" : "mixed";
}

function decode(bytes: Buffer, start: number, end: number, charset: Charset): string | null {
  if (charset === "ascii") return bytes.toString("latin1", start, end);
  if (charset === "mixed" && !isUtf8(bytes.subarray(start, end))) return null;
  return bytes.toString("utf8", start, end);
}
