/** The beginning of a list, and how many entries were left off. */
export type CappedList = { readonly shown: readonly string[]; readonly more: number };

/** A list of outside text gets this much of a record (65,535 bytes) or a frame (64 KiB). */
const MAX_LIST_BYTES = 16 * 1024;
/** UTF-16 units; JSON makes six bytes of one at most, so the first entry always fits. */
const MAX_ENTRY_LENGTH = 1_000;
const ENTRY_END_LENGTH = 90;

/** As much of a list as fits into 16 KiB of JSON. A long entry is cut in its middle: both its ends say something. */
export function capList(entries: readonly string[]): CappedList {
  const shown: string[] = [];
  let bytes = 0;
  for (const entry of entries) {
    const short = shorten(entry);
    bytes += utf8Bytes(JSON.stringify(short)) + 2; // the comma, or what else is put between two
    if (bytes > MAX_LIST_BYTES) break;
    shown.push(short);
  }
  return { shown, more: entries.length - shown.length };
}

/** The same as lines, the last of which says how many more there are. */
export function capLines(entries: readonly string[]): readonly string[] {
  const { shown, more } = capList(entries);
  return more === 0 ? shown : [...shown, `… and ${more} more`];
}

function shorten(entry: string): string {
  if (entry.length <= MAX_ENTRY_LENGTH) return entry;
  return `${entry.slice(0, MAX_ENTRY_LENGTH - ENTRY_END_LENGTH - 1)}…${entry.slice(-ENTRY_END_LENGTH)}`;
}

function utf8Bytes(text: string): number {
  return new TextEncoder().encode(text).length;
}
