import { spawnSync } from "node:child_process";
import { join } from "node:path";

export const VERIFY_PY = join(import.meta.dirname, "../foreign/verify.py");
/** A Python that has the cryptography package; null when there is none. */
export const PYTHON = ["/usr/bin/python3", "python3"].find((python) => has(python)) ?? null;
/** Why the second verifier cannot run here, or "". Goes into the name of what is skipped. */
export const NO_PYTHON = PYTHON === null ? "needs python3-cryptography" : "";

/** What verify.py said. `code` is the fault's, "" when the log is not broken. */
export type Foreign = {
  readonly exit: number | null;
  readonly verdict: string;
  readonly code: string;
  readonly line: string;
};

/** Runs tests/foreign/verify.py on a log. `head`: "SIZE ROOT". */
export function foreignVerify(log: string, key: string, head?: string): Foreign {
  const args = [VERIFY_PY, log, "--key", key, ...(head === undefined ? [] : ["--head", head])];
  const ran = spawnSync(PYTHON ?? "python3", args, { encoding: "utf8", timeout: 60_000 });
  const line = ran.stdout.trim();
  const [, verdict = "", code = ""] = /^(\w+): (?:([a-z0-9-]+): )?/.exec(line) ?? [];
  return { exit: ran.status, verdict, code: verdict === "broken" ? code : "", line: line || ran.stderr };
}

function has(python: string): boolean {
  return spawnSync(python, ["-c", "import cryptography"], { timeout: 20_000 }).status === 0;
}
