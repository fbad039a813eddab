import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { systemdVersion, verifyUnits } from "./units.ts";

/**
 * `npm run check`: everything that can be said without running the program, side by side, in seconds. One line each;
 * the full output of what failed at the end. `--counts=FILE` gets "passed failed skipped", for .ci/run.
 */
type Check = { readonly name: string; readonly run: () => Promise<Outcome> };
type Outcome = { readonly kind: "passed" } | { readonly kind: "skipped" | "failed"; readonly why: string };

const PROJECT = join(import.meta.dirname, "../..");
const DEADLINE_MS = 120_000;

const CHECKS: readonly Check[] = [
  program("form and lint (biome)", "biome", ["check", "--error-on-warnings", "."]),
  program("lint with types (oxlint)", "oxlint", ["--type-aware", "--deny-warnings"]),
  program("types (tsc)", "tsc", ["--noEmit"]),
  program("dead code (knip)", "knip", ["--no-progress"]),
  program("credentials", "node", ["tests/support/credential-scan.ts", "--tracked"]),
  { name: "units (systemd-analyze verify)", run: unitsCheck },
];

function program(name: string, file: string, args: readonly string[]): Check {
  return { name, run: () => outcomeOf(join(PROJECT, "node_modules/.bin", file), args) };
}

function outcomeOf(file: string, args: readonly string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    const bin = join(PROJECT, "node_modules/.bin");
    const child = spawn(file, args, {
      cwd: PROJECT,
      // tools that are scripts find their Node on PATH: it has to be the pinned one
      env: { ...process.env, PATH: `${bin}:${process.env["PATH"] ?? ""}`, NO_COLOR: "1" },
      stdio: ["ignore", "pipe", "pipe"],
      timeout: DEADLINE_MS,
    });
    const output: Buffer[] = [];
    child.stdout.on("data", (chunk: Buffer) => output.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => output.push(chunk));
    child.on("error", (error) => resolve({ kind: "failed", why: error.message }));
    child.on("close", (code, signal) => {
      if (code === 0) resolve({ kind: "passed" });
      else
        resolve({
          kind: "failed",
          why: `${Buffer.concat(output).toString("utf8")}(${signal ?? `exit ${code}`})`,
        });
    });
  });
}

// async: it is run beside the others
async function unitsCheck(): Promise<Outcome> {
  if (systemdVersion() === null) return { kind: "skipped", why: "systemd is not installed" };
  const said = verifyUnits();
  return said === "" ? { kind: "passed" } : { kind: "failed", why: said };
}

async function timed(check: Check): Promise<{ readonly name: string; readonly outcome: Outcome }> {
  const startedAtMs = performance.now();
  const outcome = await check.run();
  const seconds = ((performance.now() - startedAtMs) / 1_000).toFixed(1);
  const note = outcome.kind === "skipped" ? `: ${outcome.why}` : "";
  console.log(`${outcome.kind.padEnd(7)} ${seconds.padStart(5)} s  ${check.name}${note}`);
  return { name: check.name, outcome };
}

const results = await Promise.all(CHECKS.map(timed));
for (const { name, outcome } of results) {
  if (outcome.kind === "failed") console.error(`\n── ${name}\n${outcome.why}`);
}
const count = (kind: Outcome["kind"]) => results.filter((result) => result.outcome.kind === kind).length;
const countsFile = process.argv
  .find((argument) => argument.startsWith("--counts="))
  ?.slice("--counts=".length);
if (countsFile) writeFileSync(countsFile, `${count("passed")} ${count("failed")} ${count("skipped")}\n`);
if (count("failed") > 0) process.exitCode = 1;
