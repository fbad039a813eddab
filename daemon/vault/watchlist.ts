import { hmac } from "./fingerprint.ts";

/**
 * Finds known secrets in a text without holding them: what is held are keyed hashes of pieces of each secret, as it is,
 * in hex and base64, and escaped as in a URL or in JSON. A piece is looked for at every place of the text with a rolling hash, and what the hash finds is
 * confirmed by an HMAC. So the time grows with the length of the text, however many secrets there are.
 *
 * A secret of 8 to 63 bytes is found as a whole, anywhere; a longer one by any 32 of its first 2,048 bytes that begin at
 * a multiple of 32; one of 4 to 7 bytes as a word of its own. A shorter one is not looked for.
 */
export type Watchlist = {
  /** Takes a secret up; `label` is what a find is told as. The bytes are not kept. */
  add(label: string, secret: Uint8Array): void;
  remove(label: string): void;
  /** Labels of what is in the bytes. null: so much had to be confirmed that it was given up, and nothing is known. */
  find(bytes: Uint8Array): ReadonlySet<string> | null;
  /**
   * Where in the bytes it is, in no order; null as above. Of a long secret all that it would cover is told, also where only a
   * piece of it stands.
   */
  locate(bytes: Uint8Array): readonly Located[] | null;
  /** Whether a secret in it goes over more than one line: then a line alone says nothing of it. */
  spansLines(): boolean;
  /** Overwrites its key; nothing is found from then on. */
  forget(): void;
};

/** By what pieces are looked for. Bytes. */
const WIDTHS = [8, 16, 32] as const;
const LONG = 64;
const MAX_BLOCKS = 64;
const SHORTEST_WORD = 4;
/** Some 20 µs each. Only a text that is made to look like a secret needs more than a few. */
const MAX_CONFIRMED = 1_024;
const LEAST_DISTINCT = 8;

export type Located = { readonly label: string; readonly start: number; readonly end: number };

/** `before` and `after`: how much of the form that it is a piece of stands on either side of it. */
type Piece = {
  readonly label: string;
  readonly length: number;
  readonly mac: string;
  readonly before: number;
  readonly after: number;
};
/** Takes what was confirmed at a place; `wants` says whether that is asked for at all. */
type Finds = { wants(piece: Piece): boolean; take(piece: Piece, at: number): void };
/** By rolling hash; a word's is that of the whole word. */
type Table = Map<number, Piece[]>;

/** `key`: 32 bytes, taken over and overwritten by `forget`. */
export function createWatchlist(key: Buffer): Watchlist {
  const spread = hmacStream(key);
  const multiplier = (spread[256] ?? 0) | 1;
  const tables = new Map<number, Table>([
    [0, new Map()],
    ...WIDTHS.map((width): [number, Table] => [width, new Map()]),
  ]);
  const leaving = new Map(WIDTHS.map((width) => [width, power(multiplier, width)]));
  /** Those that go over more than one line. */
  const multiline = new Set<string>();
  let forgotten = false;

  function hashOf(bytes: Uint8Array, start: number, end: number): number {
    let value = 0;
    for (let at = start; at < end; at++)
      value = (Math.imul(value, multiplier) + (spread[bytes[at] ?? 0] ?? 0)) | 0;
    return value;
  }

  function macOf(bytes: Uint8Array): string {
    return hmac(key, "piece", bytes).toString("latin1");
  }

  function put(width: number, label: string, piece: Uint8Array, before = 0, after = 0): void {
    const table = tables.get(width);
    const hash = hashOf(piece, 0, width === 0 ? piece.length : width);
    const entry = { label, length: piece.length, mac: macOf(piece), before, after };
    const others = table?.get(hash) ?? [];
    if (!others.some((each) => each.label === label && each.mac === entry.mac))
      table?.set(hash, [...others, entry]);
  }

  function addForm(label: string, form: Uint8Array): void {
    if (form.length < SHORTEST_WORD) return;
    if (form.length < LONG) {
      put(form.length < WIDTHS[0] ? 0 : form.length < 16 ? 8 : 16, label, form);
      return;
    }
    const blocks = Math.min(MAX_BLOCKS, Math.floor(form.length / 32));
    for (let block = 0; block < blocks; block++) {
      const piece = form.subarray(32 * block, 32 * (block + 1));
      if (new Set(piece).size >= LEAST_DISTINCT)
        put(32, label, piece, 32 * block, form.length - 32 * (block + 1));
    }
  }

  /** Counts down: a budget for the whole of one search. */
  function confirm(
    bytes: Uint8Array,
    at: number,
    pieces: readonly Piece[],
    finds: Finds,
    left: number,
  ): number {
    const macs = new Map<number, string>();
    for (const piece of pieces) {
      if (!finds.wants(piece) || at + piece.length > bytes.length) continue;
      let mac = macs.get(piece.length);
      if (mac === undefined) {
        if (left-- <= 0) return left;
        mac = macOf(bytes.subarray(at, at + piece.length));
        macs.set(piece.length, mac);
      }
      if (mac === piece.mac) finds.take(piece, at);
    }
    return left;
  }

  function roll(bytes: Uint8Array, width: (typeof WIDTHS)[number], finds: Finds, budget: number): number {
    const table = tables.get(width);
    if (table === undefined || table.size === 0 || bytes.length < width) return budget;
    const out = leaving.get(width) ?? 0;
    let left = budget;
    let value = hashOf(bytes, 0, width);
    for (let at = 0; ; at++) {
      const pieces = table.get(value);
      if (pieces !== undefined) left = confirm(bytes, at, pieces, finds, left);
      if (left < 0 || at + width >= bytes.length) return left;
      const next = (Math.imul(value, multiplier) + (spread[bytes[at + width] ?? 0] ?? 0)) | 0;
      value = (next - Math.imul(spread[bytes[at] ?? 0] ?? 0, out)) | 0;
    }
  }

  function words(bytes: Uint8Array, finds: Finds, budget: number): number {
    const table = tables.get(0);
    if (table === undefined || table.size === 0) return budget;
    let left = budget;
    let start = 0;
    for (let at = 0; at <= bytes.length && left >= 0; at++) {
      if (at < bytes.length && !ENDS_WORD[bytes[at] ?? 0]) continue;
      const length = at - start;
      const pieces =
        length >= SHORTEST_WORD && length < WIDTHS[0] ? table.get(hashOf(bytes, start, at)) : undefined;
      const whole = pieces?.filter((piece) => piece.length === length) ?? [];
      if (whole.length > 0) left = confirm(bytes, start, whole, finds, left);
      start = at + 1;
    }
    return left;
  }

  /** Whether all of it was looked at. */
  function search(bytes: Uint8Array, finds: Finds): boolean {
    let left = words(bytes, finds, MAX_CONFIRMED);
    for (const width of WIDTHS) if (left >= 0) left = roll(bytes, width, finds, left);
    return left >= 0;
  }

  return {
    add(label, secret) {
      if (secret.some((byte) => byte === 0x0a || byte === 0x0d)) multiline.add(label);
      const forms = formsOf(secret);
      for (const form of forms) {
        addForm(label, form);
        if (form !== secret) form.fill(0);
      }
    },
    remove(label) {
      multiline.delete(label);
      for (const table of tables.values()) {
        for (const [hash, pieces] of table) {
          const others = pieces.filter((piece) => piece.label !== label);
          if (others.length === 0) table.delete(hash);
          else if (others.length < pieces.length) table.set(hash, others);
        }
      }
    },
    find(bytes) {
      if (forgotten) return null;
      const found = new Set<string>();
      const isWhole = search(bytes, {
        wants: ({ label }) => !found.has(label),
        take: ({ label }) => void found.add(label),
      });
      return isWhole ? found : null;
    },
    locate(bytes) {
      if (forgotten) return null;
      const found: Located[] = [];
      const isWhole = search(bytes, {
        wants: () => true,
        take: ({ label, length, before, after }, at) =>
          void found.push({
            label,
            start: Math.max(0, at - before),
            end: Math.min(bytes.length, at + length + after),
          }),
      });
      return isWhole ? found : null;
    },
    spansLines: () => multiline.size > 0,
    forget() {
      forgotten = true;
      key.fill(0);
      spread.fill(0);
      for (const table of tables.values()) table.clear();
    },
  };
}

/**
 * As it is; in hex, lower and upper case; in base64, for each of the three places it may have in a longer text; and, where
 * there is something to escape, as in a URL (both cases) and in JSON.
 */
function formsOf(secret: Uint8Array): readonly Uint8Array[] {
  if (secret.length < WIDTHS[0]) return [secret];
  const bytes = Buffer.from(secret.buffer, secret.byteOffset, secret.byteLength);
  const ascii = (encoding: "hex" | "base64", from: Buffer) => Buffer.from(from.toString(encoding), "latin1");
  const lower = ascii("hex", bytes);
  const upper = Buffer.from(lower.map((byte) => (byte >= 0x61 ? byte - 0x20 : byte)));
  const forms: Uint8Array[] = [secret, lower, upper];
  for (const before of [0, 1, 2]) {
    const placed = Buffer.concat([Buffer.alloc(before), bytes]);
    // the digits that are this secret's alone: the others depend on what stands beside it
    const core = ascii("base64", placed).subarray(
      Math.ceil((before * 8) / 6),
      Math.floor((placed.length * 8) / 6),
    );
    placed.fill(0);
    if (core.length < WIDTHS[0]) continue;
    forms.push(core);
    if (core.some((byte) => byte === 0x2b || byte === 0x2f))
      forms.push(Buffer.from(core.map((byte) => (byte === 0x2b ? 0x2d : byte === 0x2f ? 0x5f : byte))));
  }
  for (const way of [urlEscape("0123456789ABCDEF"), urlEscape("0123456789abcdef"), jsonEscape]) {
    const form = escaped(bytes, way);
    if (form.length > bytes.length) forms.push(form);
  }
  return forms;
}

/** Each byte as these are written; null: as it is. Without a text in between, which could not be wiped. */
function escaped(bytes: Uint8Array, way: (byte: number) => string | null): Buffer {
  const form = Buffer.alloc(6 * bytes.length);
  let at = 0;
  for (const byte of bytes) {
    const written = way(byte);
    if (written === null) form[at++] = byte;
    else at += form.write(written, at, "latin1");
  }
  return form.subarray(0, at);
}

/** As encodeURIComponent does it. */
function urlEscape(digits: string): (byte: number) => string | null {
  return (byte) =>
    /[A-Za-z0-9_.!~*'()-]/.test(String.fromCharCode(byte))
      ? null
      : `%${digits[byte >> 4] ?? ""}${digits[byte & 15] ?? ""}`;
}

/** As JSON.stringify does it: what is no ASCII stays. */
function jsonEscape(byte: number): string | null {
  if (byte === 0x22 || byte === 0x5c) return `\\${String.fromCharCode(byte)}`;
  if (byte >= 0x20) return null;
  return JSON.stringify(String.fromCharCode(byte)).slice(1, -1);
}

/** A secret number for each byte, and one to multiply with: who does not know them cannot make texts that collide. */
function hmacStream(key: Uint8Array): Int32Array {
  const numbers = new Int32Array(264);
  for (let block = 0; block < 33; block++) {
    const bytes = hmac(key, "roll", Buffer.from([block]));
    for (let at = 0; at < 8; at++) numbers[8 * block + at] = bytes.readInt32LE(4 * at);
  }
  return numbers;
}

function power(base: number, exponent: number): number {
  let value = 1;
  for (let at = 0; at < exponent; at++) value = Math.imul(value, base);
  return value;
}

/** Blanks, control characters and what stands around a value; not what is usual within a password. */
const ENDS_WORD = Uint8Array.from({ length: 256 }, (_, byte) =>
  byte <= 0x20 || "\"'`,;:=()<>[]{}|".includes(String.fromCharCode(byte)) ? 1 : 0,
);
