import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { asWorker, NO_SANDBOX, startWorker } from "../tests/support/worker-host.ts";
import type { BenchRow } from "./row.ts";

const RUNS = 60;
const AIM = 3;

/** bwrap with as many namespaces and as plain a root as a sandbox has to have: what the worker's is held against. */
const PLAIN_SANDBOX = (
  "/usr/bin/bwrap --unshare-all --die-with-parent --ro-bind /usr /usr --symlink usr/bin /bin --symlink usr/lib /lib " +
  "--symlink usr/lib64 /lib64 --proc /proc --dev /dev"
).split(" ");

/** What a guarded /bin/true costs, from the order to its end: against bwrap alone, and against a plain start, in turns. */
export async function benchExec(): Promise<readonly BenchRow[]> {
  if (NO_SANDBOX !== "") {
    console.log(`exec: not measured: ${NO_SANDBOX}`);
    return [];
  }
  const host = await startWorker();
  try {
    const link = await host.link();
    const guarded = async (): Promise<void> => {
      const { last } = await link.run(["true"]);
      if (last.kind !== "ended" || last.exitCode !== 0) throw new Error(JSON.stringify(last));
    };
    const plain = (command: readonly string[]) => () => started(asWorker(command));
    const times = await inTurns([
      guarded,
      plain([...PLAIN_SANDBOX, "/usr/bin/true"]),
      plain(["/usr/bin/true"]),
    ]);
    const [own = [], sandboxed = [], bare = []] = times;
    return [
      row("a guarded true, from order to end", own, "bwrap alone", sandboxed, AIM),
      row("bwrap alone", sandboxed, "a plain start", bare, null),
      row("a guarded true", own, "a plain start", bare, null),
    ];
  } finally {
    await host.stop();
  }
}

function row(
  what: string,
  own: readonly number[],
  rival: string,
  others: readonly number[],
  aim: number | null,
): BenchRow {
  const ratio = at(own, 0.5) / at(others, 0.5);
  return {
    what: `${what} (p99 ${at(own, 0.99)} ms, ${own.length} runs)`,
    value: at(own, 0.5),
    unit: "ms p50",
    rival: `${rival} (p50 ${at(others, 0.5)} ms)`,
    ratio,
    aim: aim === null ? "" : `≤ ${aim}× ${rival}`,
    met: aim === null ? null : ratio <= aim,
  };
}

function at(sorted: readonly number[], share: number): number {
  return Number((sorted[Math.floor((sorted.length - 1) * share)] ?? Number.NaN).toFixed(2));
}

/** Each once, then again, so that a busy moment of the host is everybody's. Sorted times of each. */
async function inTurns(acts: readonly (() => Promise<void>)[]): Promise<readonly (readonly number[])[]> {
  const times = acts.map((): number[] => []);
  for (let run = -5; run < RUNS; run++) {
    for (const [index, act] of acts.entries()) {
      const startMs = performance.now();
      await act();
      if (run >= 0) times[index]?.push(performance.now() - startMs);
    }
  }
  return times.map((each) => each.toSorted((a, b) => a - b));
}

function started([command = "", ...args]: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"], env: {}, cwd: "/" });
    child.on("error", reject);
    child.on("close", (code) =>
      code === 0 ? resolve() : reject(new Error(`${command} ended with ${code}`)),
    );
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) console.table(await benchExec());
