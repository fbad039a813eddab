import { type Backoff, jitteredMs } from "./core/backoff.ts";
import type { CedarQuestion, Ruling } from "./policy/cedar-question.ts";
import type { PolicySet } from "./policy/policy-set.ts";
import { policyTexts } from "./policy/read-policies.ts";
import { disagreement, readJudged } from "./policy/referee.ts";
import type { CedarProcess } from "./ports.ts";

export type RefereeState = {
  /** idle: nothing to do. working: Cedar is asked, or about to be. failed: it cannot be asked now. */
  readonly state: "idle" | "working" | "failed";
  readonly judged: number;
  /** Answers that were picked and never judged: the queue was full, or Cedar died over them. */
  readonly dropped: number;
  readonly why: string;
};

/** Two engines came to different answers. `question` is its JSON text. */
export type Dispute = { readonly set: PolicySet; readonly question: string; readonly detail: string };

/** A question that Cedar does not take: it should not have been asked, and says nothing of the policies. */
export type Untaken = { readonly set: PolicySet; readonly question: CedarQuestion; readonly why: string };

export type Referee = {
  /** Takes an answer to be judged some time soon; drops it when there are too many. */
  readonly hold: (set: PolicySet, question: CedarQuestion, ruling: Ruling) => void;
  /** There is another set: what waits is of no use any more. */
  readonly forget: () => void;
  readonly state: () => RefereeState;
  readonly stop: () => void;
};

type Held = { readonly set: PolicySet; readonly question: CedarQuestion; readonly ruling: Ruling };

const MAX_HELD = 64;
const IDLE_MS = 30_000;
const BACKOFF: Backoff = { firstMs: 1_000, mostMs: 300_000 };

/** Holds answers against Cedar's own, in a process that is there while there is something to judge. */
export function createReferee(parts: {
  readonly open: () => CedarProcess;
  /** In [0, 1). */
  readonly random: () => number;
  readonly onDispute: (dispute: Dispute) => void;
  readonly onUntaken: (untaken: Untaken) => void;
  /** `first`: it worked until now. */
  readonly onFailed: (error: unknown, first: boolean) => void;
  readonly onWorks: () => void;
}): Referee {
  let waiting: Held[] = [];
  let open: { readonly cedar: CedarProcess; readonly digest: string } | null = null;
  let running = false;
  let stopped = false;
  let failures = 0;
  let paused = false;
  let why = "";
  let judged = 0;
  let dropped = 0;
  let timer: NodeJS.Timeout | undefined;

  function close(): void {
    open?.cedar.end();
    open = null;
  }

  async function processFor(set: PolicySet): Promise<CedarProcess> {
    if (open?.digest === set.digest) return open.cedar;
    close();
    const cedar = parts.open();
    open = { cedar, digest: set.digest };
    await cedar.ask({ kind: "load", schema: set.schema, policies: policyTexts(set) });
    return cedar;
  }

  async function judge(batch: readonly Held[], set: PolicySet): Promise<void> {
    const cedar = await processFor(set);
    const questions = JSON.stringify(batch.map(({ question }) => question));
    const theirs = readJudged(JSON.parse(await cedar.ask({ kind: "judge", questions })), batch.length);
    judged += batch.length;
    for (const [index, { question, ruling }] of batch.entries()) {
      const said = theirs[index];
      if (said !== undefined && "refused" in said) {
        parts.onUntaken({ set, question, why: said.refused });
        continue;
      }
      const detail = said === undefined ? "it was not judged" : disagreement(ruling, said);
      if (detail !== "") parts.onDispute({ set, question: JSON.stringify(question), detail });
    }
  }

  async function work(): Promise<void> {
    running = true;
    clearTimeout(timer);
    while (waiting.length > 0 && !stopped) {
      const set = waiting[0]?.set;
      if (set === undefined) break;
      const batch = waiting.filter((held) => held.set === set);
      waiting = waiting.filter((held) => held.set !== set);
      try {
        await judge(batch, set);
        if (failures > 0) parts.onWorks();
        failures = 0;
        why = "";
      } catch (error) {
        if (stopped) break;
        close();
        dropped += batch.length;
        failures++;
        paused = true;
        why = error instanceof Error ? error.message : String(error);
        parts.onFailed(error, failures === 1);
        break;
      }
    }
    running = false;
    if (stopped) return;
    timer = paused
      ? setTimeout(resume, jitteredMs(BACKOFF, failures, parts.random()))
      : setTimeout(close, IDLE_MS);
    timer.unref();
  }

  function resume(): void {
    paused = false;
    begin();
  }

  function begin(): void {
    if (!running && !paused && !stopped && waiting.length > 0) void work();
  }

  return {
    hold: (set, question, ruling) => {
      if (stopped) return;
      if (waiting.length >= MAX_HELD) {
        dropped++;
        return;
      }
      waiting.push({ set, question, ruling });
      begin();
    },
    forget: () => {
      waiting = [];
    },
    state: () => ({
      state: failures > 0 ? "failed" : running || waiting.length > 0 ? "working" : "idle",
      judged,
      dropped,
      why,
    }),
    stop: () => {
      stopped = true;
      waiting = [];
      clearTimeout(timer);
      close();
    },
  };
}
