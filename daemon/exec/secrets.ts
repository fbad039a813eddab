import { findPrivateKeys } from "../core/private-key-text.ts";
import { redactText, redactValue } from "../core/redact.ts";
import { findCredentials } from "../core/secret-assignments.ts";
import { mayHoldSecret } from "../core/secret-hint.ts";
import { findShapes } from "../core/secret-shapes.ts";
import { UNKNOWN } from "./carried.ts";

/** A secret in a command: what kind, and where. Never the secret. */
export type SecretFound = {
  readonly kind: string;
  readonly place: string;
  /** A text that only names something and gives it a value may be prose: a person can tell. */
  readonly sure: boolean;
};

/**
 * Looks for secrets in the words of a command, with the search that redacts our own records (core/redact.ts): each word, an
 * option with the word after it, and all words joined, for a secret that was cut into several.
 */
export function findSecrets(words: readonly string[]): readonly SecretFound[] {
  return look(words).found;
}

/** The same in a text that is not taken apart: a shell line, or what is given to a program's input. */
export function findSecretsInText(text: string): readonly SecretFound[] {
  if (!mayHoldSecret(text)) return [];
  const hits = [...findShapes(text), ...findPrivateKeys(text), ...findCredentials(text)];
  return hits.map(({ kind }) => ({ kind, place: "the line", sure: true }));
}

/** A text that can be shown: without secrets, and without what is not known. */
export function showable(words: readonly string[]): string {
  const { found, redacted } = look(words);
  // one that was cut into several words is in none of them
  if (found.some(({ place }) => !place.startsWith("word"))) return "…";
  const kept = redacted.map((word) => (word === UNKNOWN ? "…" : word));
  return redactText(kept.join(" ").slice(0, MAX_LOOKED_AT)).slice(0, MAX_SHOWN);
}

const MAX_SHOWN = 512;
/** Each word is without secrets already: what is left may look different beside the next. */
const MAX_LOOKED_AT = 4_096;

type Look = { readonly found: readonly SecretFound[]; readonly redacted: readonly string[] };

/** The same words are asked about several times; the search is most of what a judgement takes. Gone with the words. */
const looks = new WeakMap<readonly string[], Look>();

function look(words: readonly string[]): Look {
  const before = looks.get(words);
  if (before !== undefined) return before;
  const redacted = redactValue(words);
  const seen = { found: foundIn(words, redacted), redacted };
  looks.set(words, seen);
  return seen;
}

function foundIn(words: readonly string[], redacted: readonly string[]): readonly SecretFound[] {
  const found = words.flatMap((word, index): readonly SecretFound[] => {
    const after = redacted[index] ?? "";
    if (after === word || word === UNKNOWN) return [];
    return [{ kind: kindIn(after), place: `word ${index + 1}`, sure: isSure(word, words[index - 1] ?? "") }];
  });
  if (found.length > 0) return found;
  const joined = words.join("");
  const [hit] = mayHoldSecret(joined) ? [...findShapes(joined), ...findPrivateKeys(joined)] : [];
  return hit === undefined ? [] : [{ kind: hit.kind, place: "several words, joined", sure: true }];
}

function kindIn(redacted: string): string {
  return /\[redacted:([a-z-]+)\]/.exec(redacted)?.[1] ?? "secret";
}

function isSure(word: string, before: string): boolean {
  if (!/\s/.test(word)) return true;
  if (/^-{1,2}(?:p|pass|password|token|secret|api-?key)/i.test(before)) return true;
  return [...findShapes(word), ...findPrivateKeys(word), ...findCredentials(word)].length > 0;
}
