import { closeSync, writeSync } from "node:fs";
import { renderErrorChain } from "../core/errors.ts";
import type { RunOrder } from "../exec/run-order.ts";
import type { Cgroups, RunCgroup } from "./cgroup.ts";
import { makePipe } from "./kernel.ts";
import { type Launched, launch } from "./launch.ts";
import type { Ending, RefusalCode, Stream } from "./messages.ts";
import { type Kit, type Prepared, prepare } from "./prepare.ts";

/** What a run tells, in this order: started once, output, ended once; or refused, and nothing else. */
export type RunTells = {
  readonly started: () => void;
  readonly output: (stream: Stream, chunk: Uint8Array) => void;
  readonly ended: (ending: Ending) => void;
  readonly refused: (code: RefusalCode, why: string) => void;
  /** Asked, not told, when everything is looked at: then it is begun, or never. */
  readonly isLate: () => boolean;
};

export type Run = {
  /** Ends it in order: TERM, the grace, KILL. */
  cancel(why: string): void;
  /** Ends it at once; nothing more is told of it. */
  kill(): void;
  /** Nobody takes output: what the command writes waits in the kernel, and then it does. */
  pause(): void;
  resume(): void;
  /** When nothing of it is left. */
  readonly over: Promise<void>;
};

/** How long bwrap may take from its start to a sandbox. */
const START_MS = 10_000;
/** Somebody else may hold the pipes, who was handed them: they are not waited for longer than this. */
const DRAIN_MS = 1_000;
const GONE_MS = 5_000;
/** Of what bwrap says before there is a sandbox. */
const MAX_COMPLAINT = 512;
const REMOVE_STEP_MS = 20;
const REMOVE_STEPS = 50;

/** Begins what an order says. The order was admitted; `stdin` is overwritten when it has been passed on. */
export function beginRun(order: RunOrder, stdin: Buffer, kit: Kit, cgroups: Cgroups, tells: RunTells): Run {
  let launched: Launched | null = null;
  let ending: { readonly timedOut: boolean; readonly why: string } | null = null;
  let forced = false;
  let silent = false;
  let paused = false;
  let began = 0;
  let complaint = "";
  const timers = new Set<NodeJS.Timeout>();
  const dropped: Record<Stream, number> = { stdout: 0, stderr: 0 };
  let group: RunCgroup | null = null;

  function after(ms: number, then: () => void): void {
    timers.add(setTimeout(then, ms));
  }

  function end(why: string, timedOut: boolean): void {
    if (ending !== null) return;
    ending = { timedOut, why };
    if (launched === null) return;
    launched.terminate();
    after(order.limits.graceMs, force);
  }

  function force(): void {
    forced = true;
    launched?.kill();
    try {
      group?.kill();
    } catch {
      // it has gone; the pid namespace was killed in any case
    }
  }

  function listen({ stdout, stderr }: Launched): Promise<unknown> {
    return Promise.all([take("stdout", stdout), take("stderr", stderr)]);
  }

  function take(stream: Stream, from: Launched["stdout"]): Promise<void> {
    let left = order.limits.outputBytes;
    from.on("data", (chunk: Buffer) => {
      const passed = chunk.subarray(0, left);
      left -= passed.length;
      dropped[stream] += chunk.length - passed.length;
      if (began === 0) complaint = (complaint + passed.toString("utf8")).slice(-MAX_COMPLAINT);
      if (passed.length > 0 && !silent) tells.output(stream, passed);
    });
    from.on("error", () => from.destroy());
    if (paused) from.pause();
    return new Promise((resolve) => from.once("close", () => resolve()));
  }

  async function drained(outputs: Promise<unknown>, { stdout, stderr }: Launched): Promise<void> {
    const late = Symbol("late");
    for (;;) {
      const first = await Promise.race([
        outputs,
        new Promise((resolve) => setTimeout(resolve, DRAIN_MS, late)),
      ]);
      if (first !== late) return;
      if (!paused || silent) break; // otherwise it is our reader that is slow
    }
    stdout.destroy();
    stderr.destroy();
    await outputs;
  }

  async function go(prepared: Prepared): Promise<void> {
    const hold = cgroups.ok ? makePipe() : null;
    try {
      if (cgroups.ok) group = cgroups.make(order.id, prepared.bounds);
      launched = launch({ ...prepared.plan, holdFd: hold?.[0] ?? null }, prepared.command);
    } catch (error) {
      if (hold !== null) for (const fd of hold) closeSync(fd);
      if (!silent) tells.refused("exec-spawn", renderErrorChain(error));
      return;
    } finally {
      prepared.close();
    }
    const running = launched;
    const outputs = listen(running);
    after(START_MS, () => {
      if (began === 0) force();
    });
    const first = await running.first;
    try {
      if (first !== null) {
        began = performance.now();
        group?.add(first.pid);
        if (!silent) tells.started();
        after(order.limits.timeoutMs, () => end("its time was up", true));
        if (ending !== null || silent) force(); // cancelled before it began
      }
    } catch (error) {
      ending ??= { timedOut: false, why: `it was not bounded: ${renderErrorChain(error)}` };
      force();
    } finally {
      if (hold !== null) release(hold, !forced);
    }
    running.stdin.end(stdin, () => stdin.fill(0));
    const { exitCode } = await running.ended;
    await drained(outputs, running);
    const left = !(await running.gone(GONE_MS));
    if (silent) return;
    if (first === null) tells.refused("exec-spawn", `the sandbox could not be made: ${complaint.trim()}`);
    else tells.ended(endingOf(exitCode, left));
  }

  function endingOf(exitCode: number | null, left: boolean): Ending {
    const signal = signalIn(exitCode, ending !== null, forced);
    const never =
      exitCode === null && !forced ? "the command could not be started in the sandbox" : "it ended";
    return {
      exitCode: signal === null ? exitCode : null,
      signal,
      timedOut: ending?.timedOut ?? false,
      cancelled: ending !== null && !ending.timedOut,
      why: `${ending?.why ?? never}${left ? "; some of it is still ending" : ""}`,
      truncated: { ...dropped },
      durationMs: Math.round(performance.now() - began),
    };
  }

  async function whole(): Promise<void> {
    const found = await prepare(order, kit, !cgroups.ok);
    if (!found.ok) {
      if (!silent) tells.refused(found.code, found.why);
      return;
    }
    if (silent || ending !== null) {
      found.prepared.close();
      began = performance.now();
      if (!silent) tells.ended(endingOf(null, false));
      return;
    }
    if (tells.isLate()) {
      found.prepared.close();
      tells.refused("exec-order", "it was too late for it when its program had been looked at");
      return;
    }
    await go(found.prepared);
  }

  async function finish(): Promise<void> {
    try {
      await whole();
    } catch (error) {
      force();
      if (!silent) tells.refused("exec-spawn", renderErrorChain(error));
    } finally {
      for (const timer of timers) clearTimeout(timer);
      stdin.fill(0);
      await removed(group);
    }
  }

  return {
    cancel: (why) => end(why, false),
    kill: () => {
      silent = true;
      force();
    },
    pause: () => {
      paused = true;
      launched?.stdout.pause();
      launched?.stderr.pause();
    },
    resume: () => {
      paused = false;
      launched?.stdout.resume();
      launched?.stderr.resume();
    },
    over: finish(),
  };
}

/** The command begins once the pipe can be read from; where it is closed unread, it was never to begin, and is killed. */
function release([readFd, writeFd]: readonly [number, number], go: boolean): void {
  if (go) writeSync(writeFd, "1");
  closeSync(readFd);
  closeSync(writeFd);
}

/** The signal of ours that it ended by: bwrap tells 128 and the signal's number, and nothing where it was killed itself. */
function signalIn(exitCode: number | null, ended: boolean, forced: boolean): string | null {
  if (forced && (exitCode === null || exitCode === 137)) return "SIGKILL";
  return ended && exitCode === 143 ? "SIGTERM" : null;
}

async function removed(group: RunCgroup | null): Promise<void> {
  for (let step = 0; group !== null && step < REMOVE_STEPS && !group.remove(); step++) {
    await new Promise((resolve) => setTimeout(resolve, REMOVE_STEP_MS));
  }
}
