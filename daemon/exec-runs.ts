import { createHash, type Hash } from "node:crypto";
import type { Data, Entry } from "./audit/record.ts";
import { BoundaryError, type ErrorCode } from "./core/errors.ts";
import type { Mode } from "./core/mode.ts";
import { posture } from "./core/posture.ts";
import { createOutputRedactor, type Known, type OutputRedactor } from "./exec/output-redactor.ts";
import type { RunEnd, Sandbox } from "./exec/worker-frames.ts";
import { monoMs } from "./limits.ts";
import type { Clock, ExecWorker, OpLog, WorkerEvent } from "./ports.ts";
import type { ExecEnd, ExecWaitReply } from "./protocol/exec.ts";

/** Whose run it is: his uid, and the tree of the token that he showed ("" without one). */
export type RunOwner = { readonly uid: number; readonly tree: string };

/** A run as it begins: recorded already, and not yet ordered. */
export type NewRun = {
  readonly id: string;
  readonly owner: RunOwner;
  readonly network: boolean;
  readonly limits: { readonly timeoutMs: number; readonly graceMs: number; readonly outputBytes: number };
  /** What its end is recorded with. */
  readonly facts: Data;
  /** Looks for secrets in its output. */
  readonly known: Known;
  /** When it is over, for whatever reason: before what is left of its output is looked at. */
  readonly cutOff: () => void;
  /** After that, when its end is recorded. */
  readonly release: () => void;
};

export type RunsParts = {
  readonly worker: ExecWorker;
  readonly clock: Clock;
  readonly append: (entry: Entry) => { readonly seq: number; readonly durable: Promise<unknown> };
  /** What of a sandbox is missing that has to be there; "" when nothing is. */
  readonly lacking: (sandbox: Sandbox) => string;
  readonly opLog: OpLog;
};

/** What came of an order. */
export type Start =
  | { readonly ok: true; readonly sandbox: Sandbox }
  | { readonly ok: false; readonly code: ErrorCode; readonly why: string };

type Stream = "stdout" | "stderr";
const STREAMS = ["stdout", "stderr"] as const;

type Pipe = {
  readonly redactor: OutputRedactor;
  readonly hash: Hash;
  /** As it came, and not yet looked at. */
  raw: Buffer[];
  rawBytes: number;
  toldBytes: number;
  dropped: number;
};

type Run = NewRun & {
  state: "starting" | "running" | "ended";
  readonly pipes: Readonly<Record<Stream, Pipe>>;
  readonly output: { readonly stream: Stream; readonly bytes: Buffer }[];
  readonly waiting: Set<() => void>;
  /** Why it is to end, by us; "" while it is not. */
  cancelled: string;
  /** Clock.bootMs: by then the worker has to have said something. */
  deadlineMs: number;
  begin: ((start: Start) => void) | null;
  /** When what came is looked at; null while nothing waits. */
  flush: NodeJS.Timeout | NodeJS.Immediate | null;
  /** Of its output the last. */
  lookedAt: Stream;
  /** What looking at its output took. */
  spentMs: number;
  /** It is over, and is told when its output was looked at. */
  over: { readonly told: RunEnd; readonly more: readonly ErrorCode[]; readonly ran: boolean } | null;
  /** The next reply about it leaves then. */
  pace: Promise<void>;
  paced: number;
  end: ExecEnd | null;
  endedMs: number;
  isConcluded: boolean;
};

/** Output is looked at in pieces of so much time: a command that writes a letter at a time is looked at no more often. */
const FLUSH_MS = 30;
/** So much of it in one turn of the loop, which has more to do. */
const SLICE_BYTES = 4_096;
/** What the output of one command may take to be looked at. It is made to be slow then, and the rest is not told. */
const BUDGET_MS = 5_000;
/** Between two replies about one run: whoever waits for it asks without a limit. */
const PACE_MS = 20;
/** From the order to `started`. */
const START_MS = 10_000;
/** Beyond its own time, for the worker to say that it is over. */
const SLACK_MS = 5_000;
/** A run that is over can be asked about for so long. */
const KEPT_MS = 60_000;
const MAX_KEPT = 64;
/** Of output in one reply, before base64. */
const REPLY_BYTES = 65_536;
const MAX_PIECE = 16_384;
const MAX_WAITING = 16;

/** The commands that run, and those that ran a moment ago: their output, their end, and who may ask for it. */
export function createRuns(parts: RunsParts) {
  const { worker, clock, append, opLog } = parts;
  const runs = new Map<string, Run>();

  /** Takes a run in before its order goes out, so that whatever ends commands ends it too. */
  function add(run: NewRun): void {
    const pipe = (): Pipe => ({
      redactor: createOutputRedactor(run.known),
      hash: createHash("sha256"),
      raw: [],
      rawBytes: 0,
      toldBytes: 0,
      dropped: 0,
    });
    runs.set(run.id, {
      ...run,
      state: "starting",
      pipes: { stdout: pipe(), stderr: pipe() },
      output: [],
      waiting: new Set(),
      cancelled: "",
      deadlineMs: clock.bootMs() + START_MS,
      begin: null,
      flush: null,
      lookedAt: "stderr",
      spentMs: 0,
      over: null,
      pace: Promise.resolve(),
      paced: 0,
      end: null,
      endedMs: 0,
      isConcluded: false,
    });
  }

  /** Why a run that was taken in must not begin any more; "" when it may. */
  function cancelled(id: string): string {
    const run = runs.get(id);
    if (run === undefined) return "it is not known";
    // the worker may have gone and come back: what is over is ordered of nobody
    return run.cancelled === "" && run.state === "ended" ? "it is over" : run.cancelled;
  }

  /** It was never ordered: there is nothing to tell but that. */
  function abandon(id: string, why: string): void {
    const run = runs.get(id);
    if (run) finish(run, { ...NOTHING, why, cancelled: run.cancelled !== "" }, []);
    runs.delete(id);
  }

  /** The order has gone out: what comes of it. */
  function started(id: string): Promise<Start> {
    const run = runs.get(id);
    if (run === undefined || run.state === "ended")
      return Promise.resolve({ ok: false, code: "exec-unavailable", why: "it was over before it began" });
    return new Promise((resolve) => {
      run.begin = resolve;
    });
  }

  function heard(event: WorkerEvent): void {
    if (event.kind === "ready") return;
    if (event.kind === "gone") {
      lost(event.why);
      return;
    }
    const run = runs.get(event.id);
    if (run === undefined || run.state === "ended") return; // of one that is over for us
    switch (event.kind) {
      case "started":
        begun(run, event.sandbox);
        break;
      case "output":
        take(run, event.stream, event.data);
        break;
      case "ended":
        finish(run, { ...event, cancelled: event.cancelled || run.cancelled !== "" }, []);
        break;
      case "refused":
        run.begin?.({ ok: false, code: event.code, why: event.why });
        run.begin = null;
        finish(run, { ...NOTHING, why: event.why }, [event.code]);
    }
  }

  function begun(run: Run, sandbox: Sandbox): void {
    if (run.state !== "starting") return;
    const lacks = parts.lacking(sandbox);
    run.state = "running";
    run.deadlineMs = clock.bootMs() + run.limits.timeoutMs + run.limits.graceMs + SLACK_MS;
    if (lacks !== "") {
      // it said otherwise before: what runs there does so without what holds it
      run.begin?.({ ok: false, code: "exec-isolation", why: `the sandbox lacks ${lacks}` });
      end(run, `the sandbox lacks ${lacks}`);
    } else run.begin?.({ ok: true, sandbox });
    run.begin = null;
    wake(run);
  }

  /** The worker keeps to the limit; whoever does not believe it counts again. */
  function take(run: Run, stream: Stream, data: Buffer): void {
    const pipe = run.pipes[stream];
    const room = Math.max(0, run.limits.outputBytes - pipe.rawBytes);
    pipe.dropped += Math.max(0, data.length - room);
    if (room === 0 || data.length === 0) return;
    const kept = data.subarray(0, room);
    pipe.raw.push(kept);
    pipe.rawBytes += kept.length;
    run.flush ??= setTimeout(() => pump(run), FLUSH_MS).unref();
  }

  /** Looks at some of what came, and at the rest in later turns; at the end of a run that is over, concludes it. */
  function pump(run: Run): void {
    run.flush = null;
    // one of them in a turn, and the other one next
    const stream =
      STREAMS.find((one) => one !== run.lookedAt && run.pipes[one].raw.length > 0) ?? run.lookedAt;
    run.lookedAt = stream;
    const pipe = run.pipes[stream];
    if (pipe.raw.length > 0) {
      const [only = Buffer.alloc(0)] = pipe.raw;
      const raw = pipe.raw.length === 1 ? only : Buffer.concat(pipe.raw);
      pipe.raw = raw.length > SLICE_BYTES ? [raw.subarray(SLICE_BYTES)] : [];
      look(run, stream, () => pipe.redactor.push(raw.subarray(0, SLICE_BYTES)));
    }
    if (STREAMS.some((one) => run.pipes[one].raw.length > 0)) run.flush = setImmediate(() => pump(run));
    else if (run.over !== null) {
      for (const one of STREAMS) look(run, one, () => run.pipes[one].redactor.end());
      conclude(run, run.over);
    }
  }

  function look(run: Run, stream: Stream, work: () => Buffer): void {
    const beganMs = monoMs(clock);
    tell(run, stream, work());
    run.spentMs += monoMs(clock) - beganMs;
    if (run.spentMs <= BUDGET_MS) return;
    for (const each of STREAMS) tell(run, each, run.pipes[each].redactor.giveUp());
  }

  function tell(run: Run, stream: Stream, bytes: Buffer): void {
    if (bytes.length === 0) return;
    const pipe = run.pipes[stream];
    pipe.hash.update(bytes);
    pipe.toldBytes += bytes.length;
    for (let at = 0; at < bytes.length; at += MAX_PIECE)
      run.output.push({ stream, bytes: Buffer.from(bytes.subarray(at, at + MAX_PIECE)) });
    wake(run);
  }

  function wake(run: Run): void {
    for (const then of run.waiting) then();
  }

  /** It is over: the rest of its output, its record, and then whoever waits. */
  function finish(run: Run, told: RunEnd, more: readonly ErrorCode[]): void {
    if (run.state === "ended") return;
    run.cutOff();
    run.over = { told, more, ran: run.state === "running" };
    run.state = "ended";
    run.endedMs = clock.bootMs();
    run.begin?.({ ok: false, code: "exec-unavailable", why: told.why });
    run.begin = null;
    stopPump(run);
    pump(run);
  }

  /** The same where there is no time: what of its output was not looked at yet is not told. */
  function finishNow(run: Run, told: RunEnd): void {
    if (run.end !== null) return;
    run.cutOff();
    stopPump(run);
    for (const stream of STREAMS) {
      const pipe = run.pipes[stream];
      tell(run, stream, pipe.raw.length > 0 ? pipe.redactor.giveUp() : pipe.redactor.end());
      pipe.raw = [];
    }
    run.begin?.({ ok: false, code: "exec-unavailable", why: told.why });
    run.begin = null;
    const over = run.over ?? { told, more: [], ran: run.state === "running" };
    run.state = "ended";
    conclude(run, over);
  }

  function stopPump(run: Run): void {
    if (run.flush === null) return;
    clearTimeout(run.flush as NodeJS.Timeout);
    clearImmediate(run.flush as NodeJS.Immediate);
    run.flush = null;
  }

  function conclude(run: Run, { told, more, ran }: NonNullable<Run["over"]>): void {
    if (run.isConcluded) return;
    run.isConcluded = true;
    const { stdout, stderr } = run.pipes;
    const truncated = {
      stdout: told.truncated.stdout + stdout.dropped,
      stderr: told.truncated.stderr + stderr.dropped,
    };
    const codes: readonly ErrorCode[] = [
      ...(told.timedOut ? (["exec-timeout"] as const) : []),
      ...(told.cancelled ? (["cancelled"] as const) : []),
      ...(truncated.stdout + truncated.stderr > 0 ? (["exec-truncated"] as const) : []),
      ...(stdout.redactor.failed() || stderr.redactor.failed() ? (["exec-redaction"] as const) : []),
      ...more,
    ];
    const redacted = stdout.redactor.taken() + stderr.redactor.taken();
    const { exitCode, signal, timedOut, cancelled: wasCancelled, why, durationMs } = told;
    const receipt = append({
      kind: "exec.ended",
      data: {
        ...run.facts,
        ran: yesNo(ran),
        ...(exitCode === null ? {} : { exitCode }),
        signal: signal ?? "",
        durationMs,
        timedOut: yesNo(timedOut),
        cancelled: yesNo(wasCancelled),
        why: run.cancelled === "" ? why : run.cancelled,
        truncated,
        redacted,
        codes: [...codes],
        // of what was handed out: secrets are not in it, so nobody can try them against it
        stdout: { bytes: stdout.toldBytes, sha256: stdout.hash.digest("hex") },
        stderr: { bytes: stderr.toldBytes, sha256: stderr.hash.digest("hex") },
      },
    });
    run.release();
    const settle = (correlationId: string): void => {
      run.end = {
        exitCode,
        signal,
        timedOut,
        cancelled: wasCancelled,
        why: run.cancelled === "" ? why : run.cancelled,
        truncated,
        durationMs,
        redacted,
        codes,
        correlationId,
      };
      wake(run);
    };
    receipt.durable.then(
      () => settle(String(receipt.seq)),
      () => settle(""),
    );
  }

  function lost(why: string): void {
    for (const run of runs.values())
      finish(run, { ...NOTHING, why: `the worker is gone: ${why}` }, ["exec-unavailable"]);
  }

  function end(run: Run, why: string): void {
    if (run.state === "ended") return;
    if (run.cancelled === "") run.cancelled = why;
    if (run.state === "running" || run.begin !== null) worker.end(run.id, why);
    run.deadlineMs = Math.min(run.deadlineMs, clock.bootMs() + run.limits.graceMs + SLACK_MS);
  }

  /** Of a mode that comes to be wanted, or that the kernel holds: what must not run in it is told to end when this returns. */
  function modeIs(mode: Mode): void {
    const { exec } = posture(mode);
    if (exec === "by-policy") return;
    for (const run of runs.values()) {
      if (exec === "running-ended") end(run, `mode ${mode}`);
      else if (run.network) end(run, `mode ${mode}: guarded commands have no network`);
    }
  }

  /** What the worker does not say in time is over for us, and the connection with it: it kills what it still runs. */
  function tick(): void {
    const nowMs = clock.bootMs();
    for (const run of runs.values()) {
      if (run.state === "ended") {
        if (run.end !== null && nowMs - run.endedMs >= KEPT_MS) runs.delete(run.id);
      } else if (run.begin === null && run.state === "starting") {
        // it has not been ordered yet: whoever is about to looks himself
      } else if (nowMs >= run.deadlineMs) {
        opLog.error({ id: run.id }, "the worker does not say that a command is over");
        finish(run, { ...NOTHING, why: "the worker said nothing in time" }, ["exec-unavailable"]);
        worker.drop("it does not say that a command is over");
      }
    }
    const over = [...runs.values()].filter((run) => run.end !== null);
    for (const run of over.slice(0, Math.max(0, over.length - MAX_KEPT))) runs.delete(run.id);
  }

  /** Of his own; null when there is none. */
  function find(id: string, by: RunOwner | "admin"): Run | null {
    const run = runs.get(id);
    if (run === undefined) return null;
    const isHis = by === "admin" || (run.owner.uid === by.uid && run.owner.tree === by.tree);
    return isHis ? run : null;
  }

  async function wait(
    id: string,
    by: RunOwner | "admin",
    { after, forMs }: { readonly after: number; readonly forMs: number },
  ): Promise<ExecWaitReply | null> {
    const run = find(id, by);
    if (run === null) return null;
    await inPace(run);
    if (!isNew(run, after) && run.waiting.size < MAX_WAITING) {
      await new Promise<void>((resolve) => {
        const alarm = setTimeout(done, forMs).unref();
        function done(): void {
          clearTimeout(alarm);
          run?.waiting.delete(done);
          resolve();
        }
        run.waiting.add(done);
      });
    }
    return viewOf(run, after);
  }

  /** One reply about a run after the other, with some time between. */
  async function inPace(run: Run): Promise<void> {
    if (run.paced >= MAX_WAITING) throw new BoundaryError("too-many-requests", "waiting for a command");
    const mine = run.pace;
    run.pace = mine.then(() => new Promise((resolve) => setTimeout(resolve, PACE_MS).unref()));
    run.paced += 1;
    await mine;
    run.paced -= 1;
  }

  return {
    add,
    cancelled,
    abandon,
    started,
    heard,
    modeIs,
    tick,
    wait,
    /** Whether anything of it may still come. */
    isLive: (id: string): boolean => {
      const run = runs.get(id);
      return run !== undefined && run.end === null;
    },
    end: (id: string, by: RunOwner | "admin", why: string): ExecWaitReply["state"] | null => {
      const run = find(id, by);
      if (run === null) return null;
      end(run, why);
      return run.state;
    },
    /** The daemon stops, and its stop is the last record: what runs is told to end, and its end recorded as that. */
    stop(): void {
      for (const run of runs.values()) {
        end(run, "the daemon stops");
        finishNow(run, { ...NOTHING, cancelled: true, why: "the daemon stops" });
      }
    },
  };
}

/** Of a run of which nothing else is known. */
const NOTHING: RunEnd = {
  exitCode: null,
  signal: null,
  timedOut: false,
  cancelled: false,
  why: "",
  truncated: { stdout: 0, stderr: 0 },
  durationMs: 0,
};

function isNew(run: Run, after: number): boolean {
  return run.output.length > after || run.end !== null;
}

function viewOf(run: Run, after: number): ExecWaitReply {
  const output: { stream: Stream; data: string }[] = [];
  let bytes = 0;
  let next = Math.min(after, run.output.length);
  for (; next < run.output.length; next++) {
    const piece = run.output[next];
    if (piece === undefined || bytes + piece.bytes.length > REPLY_BYTES) break;
    bytes += piece.bytes.length;
    output.push({ stream: piece.stream, data: piece.bytes.toString("base64") });
  }
  const isAll = next >= run.output.length;
  return { id: run.id, state: run.state, output, next, end: isAll ? run.end : null };
}

function yesNo(value: boolean): string {
  return value ? "yes" : "no";
}
