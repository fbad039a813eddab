import { toPlainText } from "../core/plain-text.ts";
import { findPrivateKeys } from "../core/private-key-text.ts";
import { redactText } from "../core/redact.ts";
import { findAssigned, findCredentials } from "../core/secret-assignments.ts";
import { findShapes } from "../core/secret-shapes.ts";
import type { Watchlist } from "./watchlist.ts";

export type MessageVerdict = {
  /** unscanned: it could not be looked at in full, which is no better than blocked. */
  readonly verdict: "clean" | "blocked" | "unscanned";
  /** What was found: kinds of secret by their form, and "workspace/name" of known ones. Never what stands there. */
  readonly found: readonly string[];
  /** Why it was not looked at; "" when it was. */
  readonly why: string;
};

/**
 * Whether a text may go to a prompt or a message: not when it holds a secret of an open workspace, or what has the shape
 * of a secret. A longer one than `mostBytes` (UTF-8) is not looked at. `sealed`: workspaces whose secrets cannot be looked for, since they are locked or damaged.
 */
export function checkText(
  text: string,
  known: { readonly open: readonly Watchlist[]; readonly sealed: readonly string[] },
  mostBytes: number,
): MessageVerdict {
  const bytes = Buffer.from(text);
  if (bytes.length > mostBytes) return unscanned(`it has more than ${mostBytes} bytes`);
  const plain = toPlainText(text).text;
  const found = new Set(shapesIn(text, plain));
  const forms =
    plain === text ? [bytes] : [bytes, Buffer.from(plain), Buffer.from(plain.replace(/[\n\v]/g, ""))];
  let isWhole = true;
  for (const list of known.open) {
    for (const form of forms) {
      const labels = list.find(form);
      if (labels === null) isWhole = false;
      for (const label of labels ?? []) found.add(label);
    }
  }
  if (found.size > 0) return { verdict: "blocked", found: [...found].toSorted(), why: "" };
  if (!isWhole) return unscanned("it is made to look like known secrets");
  if (known.sealed.length > 0) return unscanned(`locked or damaged: ${known.sealed.join(", ")}`);
  return { verdict: "clean", found: [], why: "" };
}

function unscanned(why: string): MessageVerdict {
  return { verdict: "unscanned", found: [], why };
}

function shapesIn(text: string, plain: string): readonly string[] {
  const found = [findPrivateKeys, findAssigned, findShapes, findCredentials].flatMap((find) => find(plain));
  if (found.length > 0) return found.map(({ kind }) => kind);
  // what only the redaction sees: secrets that are encoded once more
  return redactText(text) === text ? [] : ["encoded"];
}
