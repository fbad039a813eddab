import { BoundaryError } from "../core/errors.ts";
import type { Firewall } from "../ports.ts";
import { findProgram, type RunResult, runSync } from "./run.ts";

const DEADLINE_MS = 5_000;
const MAX_OUTPUT_BYTES = 4 * 1024 * 1024;
const MAX_MESSAGE_CHARS = 2_000;

/**
 * The packet filter through the nft program: where libnftables cannot be loaded. Every call starts a process and blocks
 * until it ends (12 to 23 ms measured). Gives what is missing where there is no nft. Rights are not tested here.
 */
export function openNftProgram(): Firewall | { readonly unavailable: string } {
  if (findProgram("nft") === null) return { unavailable: "nft: no such program" };
  return {
    via: "nft",
    run: (script) => void required(nft(["-f", "-"], script), "loading rules"),
    list,
  };
}

function list(): string | null {
  const listing = nft(["list", "table", "inet", "boundary"]);
  if (listing.code === 0) return listing.stdout;
  // absent, or an error? asked of the kernel rather than of the wording of a message
  const tables = required(nft(["list", "tables", "inet"]), "listing the tables");
  if (!tables.split("\n").includes("table inet boundary")) return null;
  required(listing, "listing our table");
  return null;
}

function nft(args: readonly string[], input = ""): RunResult {
  try {
    return runSync("nft", args, { deadlineMs: DEADLINE_MS, maxOutputBytes: MAX_OUTPUT_BYTES, input });
  } catch (cause) {
    throw new BoundaryError("nft-failed", "running nft", { cause });
  }
}

function required(result: RunResult, doing: string): string {
  if (result.code === 0) return result.stdout;
  const complaint = result.stderr.trim().slice(0, MAX_MESSAGE_CHARS);
  throw new BoundaryError("nft-failed", doing, {
    cause: new Error(complaint || `nft exit code ${result.code}`),
  });
}
