import { randomUUID } from "node:crypto";
import type { Data, Entry } from "./audit/record.ts";
import type { AccessRequest } from "./core/access.ts";
import { accessDigest, describeAccess } from "./core/access-text.ts";
import {
  type Approval,
  type Asker,
  approve,
  ask,
  type Decider,
  deny,
  type Ended,
  type Instant,
  type Next,
  type No,
  redeem,
  settle,
} from "./core/approval.ts";
import { readApprovals } from "./core/approval-memory.ts";
import type { ErrorCode } from "./core/errors.ts";
import { type Clerk, momentNow } from "./limits.ts";
import type { Clock } from "./ports.ts";
import type { ApprovalView } from "./protocol/messages.ts";

/** Questions to a person, and their answers. docs/APPROVALS.md. */
export type Approvals = Clerk & {
  /** The same question of the same caller is asked once. What is refused is not asked. */
  ask(
    by: Asker,
    request: AccessRequest,
  ): { readonly ok: true; readonly id: string; readonly state: ApprovalView["state"] } | No;
  /** The id of the approval when a person has approved exactly this for this caller: once, and null from then on. */
  redeem(by: Pick<Asker, "uid" | "tokenId">, request: AccessRequest): string | null;
  /** Rejects nothing: a refusal is an answer. The record is durable when `durable` resolves. */
  approve(id: string, by: Decider): Said;
  deny(id: string, by: Decider): Said;
  list(): readonly ApprovalView[];
  /** One that is open, or ended not long ago; null when there is none. */
  show(id: string): ApprovalView | null;
  mine(by: Pick<Asker, "uid" | "tokenId">): readonly ApprovalView[];
  /** What has become of it, at the latest after `forMs`. null: there is none of this caller. */
  wait(by: Pick<Asker, "uid" | "tokenId">, id: string, forMs: number): Promise<ApprovalView | null>;
};

export type Said =
  | { readonly ok: true; readonly view: ApprovalView; readonly durable: Promise<unknown> }
  | No;

export type ApprovalParts = {
  readonly settings: {
    readonly lifeMs: number;
    readonly useMs: number;
    readonly maxPending: number;
    readonly maxPerCaller: number;
  };
  readonly requireTerminal: boolean;
  /** What the log says of the time before. */
  readonly memory: readonly Data[];
  readonly clock: Clock;
  readonly mode: () => { readonly epoch: number; readonly lockdown: boolean };
  /** Why nothing may be loosened now: a clock that moved, a disk that is full. */
  readonly obstacle: () => { readonly code: ErrorCode; readonly why: string } | null;
  readonly append: (entry: Entry) => { readonly seq: number; readonly durable: Promise<unknown> };
};

/** What ended is shown for a while: whoever waits for it may come late. */
const MAX_RECENT = 64;
const MAX_WAITING = 256;

export function createApprovals(parts: ApprovalParts): Approvals {
  const { settings, clock, append } = parts;
  let held = readApprovals(parts.memory);
  let recent: readonly ApprovalView[] = [];
  const waiting = new Map<() => void, string>();
  let stopped = false;

  function now(): Instant {
    return { ...momentNow(clock), ...parts.mode() };
  }

  /** What was decided is so at once; an allow that follows from it has its own record behind this one. */
  function take<A>(next: Next<A>): { readonly answer: A; readonly durable: Promise<unknown> } {
    held = next.held;
    recent = [...next.ended.filter(({ why }) => why !== "denied").map(viewOfEnd), ...recent].slice(
      0,
      MAX_RECENT,
    );
    const receipts = next.records.map(append);
    const durable = Promise.all(receipts.map((receipt) => receipt.durable));
    durable.catch(() => undefined); // whoever waits hears of it
    if (next.ended.length > 0) wake(next.ended.map(({ approval }) => approval.id));
    return { answer: next.answer, durable };
  }

  function wake(ids: readonly string[]): void {
    for (const [then, id] of waiting) if (ids.includes(id)) then();
  }

  function tick(): void {
    if (!stopped) take(settle(held, now()));
  }

  function find(id: string): ApprovalView | null {
    tick();
    const open = held.find((one) => one.id === id);
    return open ? viewOf(open) : (recent.find((one) => one.id === id) ?? null);
  }

  function said({ answer, durable }: ReturnType<typeof take<ReturnType<typeof approve>["answer"]>>): Said {
    if (!answer.ok) return answer;
    return { ok: true, view: viewOf(answer.approval), durable };
  }

  return {
    ask(by, request) {
      if (stopped) return STOPPING;
      const asked = { id: newId(), digest: accessDigest(request), what: describeAccess(request), by };
      const { answer } = take(ask(held, asked, now(), settings));
      return answer.ok ? { ok: true, id: answer.approval.id, state: answer.approval.answer.kind } : answer;
    },
    redeem(by, request) {
      if (stopped) return null;
      const { answer } = take(redeem(held, { digest: accessDigest(request), by }, now()));
      return answer?.id ?? null;
    },
    approve(id, by) {
      const obstacle = stopped ? STOPPING : parts.obstacle();
      if (obstacle !== null) return { ok: false, code: obstacle.code, why: obstacle.why, retryAfterMs: 0 };
      const { useMs } = settings;
      const done = take(approve(held, { id, by, useMs, requireTerminal: parts.requireTerminal }, now()));
      // who waits is told when it is on disk
      if (done.answer.ok)
        void done.durable.then(
          () => wake([id]),
          () => undefined,
        );
      return said(done);
    },
    deny: (id, by) => (stopped ? STOPPING : said(take(deny(held, { id, by }, now())))),
    list() {
      tick();
      return held.map(viewOf);
    },
    show: find,
    mine(by) {
      tick();
      const ids = new Set(held.map(({ id }) => id));
      return [...held.map(viewOf), ...recent.filter(({ id }) => !ids.has(id))].filter((one) => isOf(one, by));
    },
    async wait(by, id, forMs) {
      const found = find(id);
      if (found === null || !isOf(found, by)) return null;
      if (found.state !== "pending" || waiting.size >= MAX_WAITING) return found;
      await new Promise<void>((resolve) => {
        const alarm = setTimeout(end, forMs).unref();
        function end(): void {
          clearTimeout(alarm);
          waiting.delete(end);
          resolve();
        }
        waiting.set(end, id);
      });
      return find(id);
    },
    tick,
    stop() {
      tick();
      stopped = true;
      for (const then of waiting.keys()) then();
    },
  };
}

const STOPPING: No = { ok: false, code: "stopping", why: "the daemon is stopping", retryAfterMs: 0 };

/** 48 bits: nobody else's can be guessed, and a person can type it. */
function newId(): string {
  return randomUUID().replaceAll("-", "").slice(0, 12);
}

function isOf(one: ApprovalView, by: Pick<Asker, "uid" | "tokenId">): boolean {
  return one.uid === by.uid && one.tokenId === by.tokenId;
}

function viewOf({ id, digest, by, what, asked, lifeMs, answer }: Approval): ApprovalView {
  const untilMs = answer.kind === "approved" ? answer.at.wallMs + answer.useMs : asked.wallMs + lifeMs;
  return {
    id,
    state: answer.kind,
    what,
    digest,
    uid: by.uid,
    tokenId: by.tokenId,
    principal: by.principal,
    askedAt: new Date(asked.wallMs).toISOString(),
    until: new Date(untilMs).toISOString(),
    by: answer.kind === "pending" ? "" : answer.by,
    why: "",
  };
}

function viewOfEnd({ approval, how, why }: Ended): ApprovalView {
  return { ...viewOf(approval), state: how, why };
}
