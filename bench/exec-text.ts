import { createHash, randomBytes } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createOutputRedactor } from "../daemon/exec/output-redactor.ts";
import { scanText } from "../daemon/exec/secret-scan.ts";
import { judged, readCorpus } from "../tests/support/exec-host.ts";
import type { BenchRow } from "./row.ts";

const ROUNDS = 5;
const TEXT_BYTES = 4_194_304;
const CHUNK_BYTES = 8_192;
const AIM_MS = 1;

/** What is done with a command's text: the verdict without a start, the search for secrets, and the redaction of output. */
export function benchExecText(): readonly BenchRow[] {
  const texts = {
    source: sourceText(),
    "base64 in lines": randomBytes(TEXT_BYTES)
      .toString("base64")
      .replaceAll(/.{76}/g, "$&\n")
      .slice(0, TEXT_BYTES),
  };
  return [
    verdicts(),
    ...Object.entries(texts).flatMap(([name, text]) => {
      const bytes = Buffer.from(text);
      // what any look at each byte costs at least
      const hashing = fastest(() => void createHash("sha256").update(bytes).digest());
      return [
        speed(
          `secret scan of ${name}`,
          bytes.length,
          fastest(() => scan(text)),
          hashing,
        ),
        speed(
          `redaction of ${name}`,
          bytes.length,
          fastest(() => redact(bytes)),
          hashing,
        ),
      ];
    }),
  ];
}

/** Every command of the corpora, once a round; the slower half of a warm-up is not in it. */
function verdicts(): BenchRow {
  const corpus = [...readCorpus("tests/exec/honest.yaml"), ...readCorpus("tests/exec/attack.yaml")];
  const times: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    for (const one of corpus) {
      const startMs = performance.now();
      judged(one.command, one);
      if (round > 0) times.push(performance.now() - startMs);
    }
  }
  times.sort((a, b) => a - b);
  const at = (share: number) => Number((times[Math.floor((times.length - 1) * share)] ?? 0).toFixed(3));
  return {
    what: `a verdict without a start, over ${corpus.length} commands (p99 ${at(0.99)} ms, most ${at(1)} ms)`,
    value: at(0.5),
    unit: "ms p50",
    rival: "",
    ratio: null,
    aim: `≤ ${AIM_MS} ms p99`,
    met: at(0.99) <= AIM_MS,
  };
}

function scan(text: string): void {
  const steps = scanText(text, "file");
  while (steps.next().done !== true);
}

function redact(bytes: Buffer): void {
  const redactor = createOutputRedactor({ locate: () => [], spansLines: () => false });
  for (let at = 0; at < bytes.length; at += CHUNK_BYTES) redactor.push(bytes.subarray(at, at + CHUNK_BYTES));
  redactor.end();
}

/** This project's own sources, again and again. */
function sourceText(): string {
  const root = join(import.meta.dirname, "../daemon");
  const files = readdirSync(root, { recursive: true, encoding: "utf8" }).filter((name) =>
    name.endsWith(".ts"),
  );
  const once = files.map((name) => readFileSync(join(root, name), "utf8")).join("\n");
  return once.repeat(Math.ceil(TEXT_BYTES / once.length)).slice(0, TEXT_BYTES);
}

function fastest(work: () => void): number {
  let leastMs = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS; round++) {
    const startMs = performance.now();
    work();
    leastMs = Math.min(leastMs, performance.now() - startMs);
  }
  return leastMs;
}

function speed(what: string, bytes: number, ms: number, hashingMs: number): BenchRow {
  return {
    what,
    value: Number((bytes / 1_000 / ms).toFixed(1)),
    unit: "MB/s",
    rival: "SHA-256 of it",
    ratio: ms / hashingMs,
    aim: "",
    met: null,
  };
}
