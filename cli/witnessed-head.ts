import { join } from "node:path";
import type { VerifierKey } from "../daemon/audit/checkpoint.ts";
import { type Cosigned, parseWitnessVkey, readCosigned } from "../daemon/audit/cosignature.ts";
import { BoundaryError } from "../daemon/core/errors.ts";
import { readHeadArgument } from "./head.ts";
import { readKeyArgument } from "./key-argument.ts";
import { plain } from "./output.ts";

/** What --witness gives: a witness's verifier key, or @FILE. Throws BoundaryError("key-invalid"). */
export function readWitnessArgument(argument: string): VerifierKey {
  const witness = parseWitnessVkey(readKeyArgument(argument));
  if (!witness.ok) throw new BoundaryError("key-invalid", `reading the witness's key: ${witness.why}`);
  return witness.value;
}

/** Where a witness's newest cosigned note is kept: `witness.<name>` in the state directory, "/" and the like as %2F. */
export function witnessFile(stateDir: string, witness: VerifierKey): string {
  return join(stateDir, `witness.${encodeURIComponent(witness.name)}`);
}

export type WitnessedHead = { readonly note: string; readonly size: number; readonly cosigned: Cosigned };

/** What verify-log's --witness and --head give; without --head the note that `log witness` keeps. */
export function witnessedHead(witness: string, head: string | undefined, stateDir: string): WitnessedHead {
  const key = readWitnessArgument(witness);
  return readWitnessedHead(head ?? witnessFile(stateDir, key), key);
}

/** One line of a verdict's text. */
export function renderWitnessed({ size, cosigned }: WitnessedHead): string {
  return `witness     ${plain(cosigned.witness)} cosigned ${size} records at ${renderTime(cosigned.at)}`;
}

/**
 * A note that counts because the witness cosigned it; the log's own signature on it is the verifier's to check. Throws
 * BoundaryError("head-invalid") for anything else.
 */
export function readWitnessedHead(argument: string, witness: VerifierKey): WitnessedHead {
  const head = readHeadArgument(argument);
  if (typeof head !== "string")
    throw new BoundaryError(
      "head-invalid",
      "with --witness a head is a signed note: a size and a root bear no cosignature",
    );
  const read = readCosigned(head, witness);
  if (!read.ok) throw new BoundaryError("head-invalid", `checking the witnessed head: ${read.why}`);
  return { note: head, size: read.value.head.size, cosigned: read.value.cosigned };
}

/** When a witness says it cosigned, `at` in seconds: RFC 3339, or the number where that is no date. */
export function renderTime(at: number): string {
  const date = new Date(at * 1_000);
  return Number.isNaN(date.getTime()) ? String(at) : date.toISOString();
}
