import type { Found } from "./secret-shapes.ts";

/**
 * Private keys in the armour of PEM, OpenSSH, PGP and PuTTY, also cut: what has a beginning and no end goes to the end of
 * the text, what has an end and no beginning goes back to where nothing but such text stands. Linear: each mark is
 * visited once, and what it covers is not looked at again.
 */
const MARK =
  /(BEGIN|END)?([\sA-Z0-9]{0,48})PRIVATE\s{1,4}KEY(?:\s{1,4}BLOCK)?\s{0,4}-{2,}|(PuTTY-User-Key-File-[0-9])/g;
const BODY_BEFORE = /[A-Za-z0-9+/=\s:,\\-]/;

/** For a quick look. */
export const PRIVATE_KEY_HINT = "PRIVATE\\s{1,4}KEY|PuTTY-User-Key-File";
export const PRIVATE_KEY_BEGINNINGS = ["PRIV", "PuTT"];

export function findPrivateKeys(text: string): readonly Found[] {
  const found: Found[] = [];
  let from = 0;
  let open: number | null = null;
  for (const hit of text.matchAll(MARK)) {
    const end = hit.index + hit[0].length;
    if (hit[3] !== undefined) open ??= hit.index;
    else if (hit[1] !== "END") open ??= startOfDashes(text, hit.index, from);
    else {
      found.push({
        start: open ?? startOfBody(text, hit.index, from),
        end: endOfDashes(text, end),
        kind: "private-key",
      });
      from = end;
      open = null;
    }
  }
  if (open !== null) found.push({ start: open, end: text.length, kind: "private-key" });
  return found;
}

/** What a text leaves open: the lines after it, where they are strings of their own, belong to the key. */
export function privateKeyState(text: string): "begins" | "ends" | "neither" {
  const last = [...text.matchAll(MARK)].at(-1);
  if (last === undefined) return "neither";
  return last[1] === "END" ? "ends" : "begins";
}

function startOfDashes(text: string, at: number, from: number): number {
  let start = at;
  while (start > from && text[start - 1] === "-") start--;
  return start;
}

function startOfBody(text: string, at: number, from: number): number {
  let start = at;
  while (start > from && BODY_BEFORE.test(text[start - 1] ?? "")) start--;
  return start;
}

function endOfDashes(text: string, at: number): number {
  let end = at;
  while (text[end] === "-") end++;
  return end;
}
