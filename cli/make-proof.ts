import { createProver, type Made, type Wanted } from "../daemon/audit/prove.ts";
import { BoundaryError } from "../daemon/core/errors.ts";
import { readLogFiles } from "./log-files.ts";

/**
 * Makes a proof from the log in a directory (or one file), in one pass; a daemon may be writing it. It has been checked
 * with the key, or with the one that the log's first record names. Throws BoundaryError("proof-impossible"),
 * ("log-broken") and ("log-unsafe").
 */
export async function makeProof(
  path: string,
  wanted: Wanted,
  genesis: string | null,
): Promise<Extract<Made, { ok: true }>> {
  const prover = createProver(wanted);
  for await (const chunk of readLogFiles(path)) {
    if (prover.feed(chunk) === "stop") break;
  }
  const made = prover.finish(genesis);
  if (!made.ok) throw new BoundaryError(made.code, `making a proof from ${path}: ${made.why}`);
  return made;
}

/** Any proof will do: what is wanted is the newest checkpoint, and the keys that lead to it. */
export const NEWEST: Wanted = { kind: "older", size: 0, root: null };
