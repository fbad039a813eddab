import { randomUUID } from "node:crypto";
import type { Entry, LogRecord } from "./audit/record.ts";
import { renderErrorChain } from "./core/errors.ts";
import type { Signal } from "./core/signal.ts";
import type { Tripwire } from "./core/tripwire.ts";
import type { SelftestReply, SelftestResult } from "./protocol/messages.ts";

/** What one probe found. A failure stands until the same probe has passed, or is moot: one that was not run clears nothing. */
export type Finding = Pick<SelftestResult, "outcome" | "detail">;

/** One claim of the daemon's, tried out. `control`: the row of the status that makes the claim. */
export type Probe = {
  readonly name: string;
  readonly control: string;
  /** May take as long as the deadline, and may reject: both are a failed test. */
  run(): Promise<Finding>;
  /** To be called when it has answered, or is not waited for any more. */
  end?(): void;
};

export type SelftestParts = {
  readonly probes: readonly Probe[];
  readonly record: (entry: Entry) => { readonly durable: Promise<unknown> };
  readonly wallMs: () => number;
  readonly monoMs: () => number;
  /** How often all of it is run without being asked. */
  readonly everyMs: number;
  /** A probe that has not answered by then has failed. */
  readonly deadlineMs: number;
};

/** Tries out what the daemon claims, on a schedule and on demand. One run at a time; each one is a record of the log. */
export type Selftest = {
  /** Runs every probe, or joins the run under way. Never rejects. `by`: who asked, or "schedule". */
  run(by: string): Promise<SelftestReply>;
  latest(): SelftestReply | null;
  /** The failures that stand: what rests on these controls is not to be relied on. */
  failures(): readonly SelftestResult[];
  /** Once a heartbeat: starts the run that is due. */
  tick(): void;
};

export function createSelftest(parts: SelftestParts): Selftest {
  let latest: SelftestReply | null = null;
  let running: Promise<SelftestReply> | null = null;
  let dueMs = Number.NEGATIVE_INFINITY;
  const standing = new Map<string, SelftestResult>(); // by probe

  async function runAll(by: string): Promise<SelftestReply> {
    const results: SelftestResult[] = [];
    // one after the other: they count the same counters and touch the same files
    for (const probe of parts.probes) results.push(await runOne(probe));
    for (const result of results) judge(result);
    const report = { at: new Date(parts.wallMs()).toISOString(), by, results };
    latest = report;
    const failed = results.filter(({ outcome }) => outcome === "failed").length;
    if (standing.size > 0) dueMs = Math.min(dueMs, parts.monoMs() + AGAIN_MS);
    await recorded({ kind: "selftest.done", data: { by, failed, results } });
    return report;
  }

  /** What cannot be recorded any more (a stop, a log that failed) has been told by others. */
  async function recorded(entry: Entry): Promise<void> {
    try {
      await parts.record(entry).durable;
    } catch {
      // the report stands without it
    }
  }

  function judge(result: SelftestResult): void {
    if (result.outcome === "failed") standing.set(result.name, result);
    else if (result.outcome !== "not-run") standing.delete(result.name);
  }

  async function runOne({ name, control, run: work, end }: Probe): Promise<SelftestResult> {
    const begunMs = parts.monoMs();
    const finding = await inTime(work, parts.deadlineMs);
    end?.();
    const milliseconds = Math.round(parts.monoMs() - begunMs);
    return { name, control, ...finding, detail: finding.detail.slice(0, MAX_DETAIL_CHARS), milliseconds };
  }

  function run(by: string): Promise<SelftestReply> {
    dueMs = parts.monoMs() + parts.everyMs;
    running ??= runAll(by).finally(() => {
      running = null;
    });
    return running;
  }

  return {
    run,
    latest: () => latest,
    failures: () => [...standing.values()],
    tick: () => {
      if (parts.monoMs() >= dueMs) void run("schedule");
    },
  };
}

const MAX_DETAIL_CHARS = 500;
/** After a failure it is tried again sooner: what it says holds back grants. */
const AGAIN_MS = 30_000;

async function inTime(run: Probe["run"], deadlineMs: number): Promise<Finding> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<Finding>((resolve) => {
    const finding = { outcome: "failed", detail: `no answer within ${deadlineMs} ms` } as const;
    timer = setTimeout(() => resolve(finding), deadlineMs);
    timer.unref();
  });
  const answered = run().catch((error: unknown): Finding => {
    return { outcome: "failed", detail: renderErrorChain(error) };
  });
  return Promise.race([answered, late]).finally(() => clearTimeout(timer));
}

/** Notes the synthetic event of the self-test, in every mode: it is part of the path that is tested. */
export const SELFTEST_TRIPWIRE: Tripwire = {
  id: "selftest",
  on: "selftest.event",
  match: {},
  armed: ["OPEN", "RESTRICTED", "TRUSTED", "AIRGAP", "COLDROOM", "LOCKDOWN"],
  action: { kind: "note" },
  whenBlind: "degrade",
  acrossStop: "note",
};

/** Waits for things that the probes have set off to come out at the other end. */
export type Expectations = {
  /** Whether a probe waits for this signal: then it is its own, and sets off no tripwire. */
  takes(signal: Signal): boolean;
  /** To be told every record that is durable. */
  recorded(record: LogRecord): void;
  /** Resolves when the path's change has been signalled. */
  signalOf(path: string): Promise<void>;
  /** Resolves when the synthetic event's record is durable. */
  recordOf(nonce: string): Promise<number>;
  /** Nothing is awaited any more. */
  forget(): void;
};

/** What setting a file's times comes to; a canary that was removed or replaced is no touched one. */
const TOUCHES: ReadonlySet<string> = new Set(["modified", "metadata", "touched"]);

export function createExpectations(): Expectations {
  const paths = new Map<string, () => void>();
  const nonces = new Map<string, (seq: number) => void>();
  return {
    takes: ({ kind, facts }) => {
      const path = facts["path"] ?? "";
      const isTouch = facts["part"] === "canary" && TOUCHES.has(facts["change"] ?? "");
      const then = kind === "self.changed" && isTouch ? paths.get(path) : undefined;
      if (then === undefined) return false;
      paths.delete(path);
      then();
      return true;
    },
    recorded: ({ kind, data, seq }) => {
      if (kind !== "tripwire.noted" || data["tripwire"] !== SELFTEST_TRIPWIRE.id) return;
      const facts = data["facts"] as { readonly nonce?: unknown } | undefined;
      const nonce = String(facts?.nonce ?? "");
      nonces.get(nonce)?.(seq);
      nonces.delete(nonce);
    },
    signalOf: (path) => new Promise((resolve) => void paths.set(path, resolve)),
    recordOf: (nonce) => new Promise((resolve) => void nonces.set(nonce, resolve)),
    forget: () => {
      paths.clear();
      nonces.clear();
    },
  };
}

/** A synthetic event takes the whole path: signal, tripwire, record, sync. Passed when its record is durable. */
export function pathProbe(expect: Expectations, submit: (nonce: string) => void): Probe {
  return {
    name: "event-to-record",
    control: "tripwires",
    end: expect.forget,
    run: async () => {
      const nonce = randomUUID();
      const recorded = expect.recordOf(nonce);
      submit(nonce);
      return { outcome: "passed", detail: `the synthetic event is record ${await recorded}` };
    },
  };
}

/** A canary file is touched, and the file sensor has to see it. `health`: why it cannot, when it says so itself. */
export function filesProbe(
  expect: Expectations,
  canary: { readonly path: string; touch(): void },
  health: () => string,
): Probe {
  return {
    name: "canary-file",
    control: "files",
    end: expect.forget,
    run: async () => {
      const why = health();
      if (why !== "") return { outcome: "failed", detail: `the file sensor does not see: ${why}` };
      const seen = expect.signalOf(canary.path);
      canary.touch();
      await seen;
      return { outcome: "passed", detail: "the touched canary file was seen" };
    },
  };
}

/** The newest checkpoint is on disk as it was signed, and nobody else has written to the file. */
export function logProbe(log: {
  head(): { readonly note: string; readonly size: number };
  state(): "writing" | "failed";
  damage(): { readonly what: string; readonly detail: string } | null;
  /** One line of the log as it is on disk; null when it is not there. */
  line(seq: number): string | null;
}): Probe {
  return {
    name: "log-read-back",
    control: "log",
    run: async () => {
      if (log.state() === "failed") return { outcome: "failed", detail: "the log cannot be written" };
      const damage = log.damage();
      if (damage !== null) return { outcome: "failed", detail: `${damage.what}: ${damage.detail}` };
      const { note, size } = log.head();
      if (note === "") return { outcome: "not-run", detail: "nothing is sealed yet" };
      // a seal's number is the number of lines before it
      if (log.line(size)?.includes(JSON.stringify(note)) !== true)
        return { outcome: "failed", detail: `record ${size} on disk is not the checkpoint that was signed` };
      return { outcome: "passed", detail: `the checkpoint over ${size} records was read back from disk` };
    },
  };
}
