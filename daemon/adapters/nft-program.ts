import { BoundaryError } from "../core/errors.ts";
import { listTables, type NftAnswer, required } from "../core/nft-tables.ts";
import type { Firewall } from "../ports.ts";
import { openGeneration } from "./nft-generation.ts";
import { findProgram, type RunResult, runSync } from "./run.ts";

const DEADLINE_MS = 5_000;
const MAX_OUTPUT_BYTES = 4 * 1024 * 1024;

/**
 * The packet filter through the nft program: where libnftables cannot be loaded. Every call starts a process and blocks
 * until it ends (12 to 23 ms measured). Gives what is missing where there is no nft. Rights are not tested here.
 */
export function openNftProgram(): Firewall | { readonly unavailable: string } {
  if (findProgram("nft") === null) return { unavailable: "nft: no such program" };
  return {
    via: "nft",
    run: (script) => void required(nft(script), "loading rules"),
    list: (name) => listTables(nft, name),
    generation: openGeneration(),
  };
}

function nft(script: string): NftAnswer {
  const result = runNft(script);
  const complaint = result.stderr.trim() || `nft exit code ${result.code}`;
  return { ok: result.code === 0, output: result.stdout, complaint };
}

function runNft(script: string): RunResult {
  try {
    return runSync("nft", ["-f", "-"], {
      deadlineMs: DEADLINE_MS,
      maxOutputBytes: MAX_OUTPUT_BYTES,
      input: script,
    });
  } catch (cause) {
    throw new BoundaryError("nft-failed", "running nft", { cause });
  }
}
