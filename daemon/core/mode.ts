/** The boundary modes, loosest first. A mode's place in this list is its rank (B1); names and order never change. */
export const MODES = ["OPEN", "RESTRICTED", "TRUSTED", "AIRGAP", "COLDROOM", "LOCKDOWN"] as const;

export type Mode = (typeof MODES)[number];

/** 0 (OPEN) to 5 (LOCKDOWN). */
export function rank(mode: Mode): number {
  return MODES.indexOf(mode);
}

/** Reads a mode name in any case; null for anything else. The caller decides what an unknown mode means. */
export function parseMode(text: string): Mode | null {
  const upper = text.toUpperCase();
  return MODES.find((mode) => mode === upper) ?? null;
}

export function stricterOf(a: Mode, b: Mode): Mode {
  return rank(a) >= rank(b) ? a : b;
}

export function looserOf(a: Mode, b: Mode): Mode {
  return rank(a) <= rank(b) ? a : b;
}

export function isStricter(a: Mode, than: Mode): boolean {
  return rank(a) > rank(than);
}

export function isLooser(a: Mode, than: Mode): boolean {
  return rank(a) < rank(than);
}
