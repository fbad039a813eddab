import type { Data, Entry } from "../audit/record.ts";
import { elapsedMs, type Moment } from "./elapsed.ts";
import type { ErrorCode } from "./errors.ts";

/**
 * What waits for a person, or was answered by one. A question is bound to the digest of the exact request and to who asked;
 * what was approved is good once, for him, for a time, and not beyond a tightening (the epoch). docs/APPROVALS.md.
 */
export type Approval = {
  readonly id: string;
  /** Of the request: core/access-text.ts. */
  readonly digest: string;
  readonly by: Asker;
  /** What would be allowed, for a person to read: plain lines. "" once it has been denied. */
  readonly what: string;
  readonly asked: Moment;
  readonly lifeMs: number;
  readonly answer:
    | { readonly kind: "pending" }
    | {
        readonly kind: "approved";
        readonly by: string;
        readonly at: Moment;
        readonly useMs: number;
        readonly epoch: number;
      }
    | { readonly kind: "denied"; readonly by: string };
};

/** Who asked. `tokenId`, `tree`: "" without a token; `tree` is the id of the token at the root of the one that was shown. */
export type Asker = {
  readonly uid: number;
  readonly tokenId: string;
  readonly tree: string;
  readonly principal: string;
};

/** Who answers, as the kernel says, with the token he showed. */
export type Decider = Omit<Asker, "principal"> & { readonly name: string; readonly terminal: string };

/** An instant, and what of the mode matters to approvals: its epoch, and whether it is LOCKDOWN, wanted or applied. */
export type Instant = Moment & { readonly epoch: number; readonly lockdown: boolean };

export type Bounds = { readonly lifeMs: number; readonly maxPending: number; readonly maxPerCaller: number };

/** How one ended. `answer` is what it was before. */
export type Ended = {
  readonly approval: Approval;
  readonly how: "used" | "expired" | "denied";
  /** "denied": the time is over in which the same question is not asked again. */
  readonly why: "" | "timeout" | "unused" | "tightened" | "lockdown" | "denied";
};

export type Next<A> = {
  readonly held: readonly Approval[];
  readonly records: readonly Entry[];
  readonly ended: readonly Ended[];
  readonly answer: A;
};

export type No = {
  readonly ok: false;
  readonly code: ErrorCode;
  readonly why: string;
  readonly retryAfterMs: number;
};
type Yes<T> = { readonly ok: true } & T;

/** What time and the mode have ended. Everything below does this first. */
export function settle(held: readonly Approval[], now: Instant): Next<null> {
  const ended = held.flatMap((one) => endOf(one, now));
  const gone = new Set(ended.map(({ approval }) => approval));
  return {
    held: held.filter((one) => !gone.has(one)),
    records: ended.map(endRecord),
    ended,
    answer: null,
  };
}

/**
 * Somebody asks. The same question of the same caller is the one that is there already: also when it was denied, as long
 * as it would have waited. What is refused is not asked.
 */
export function ask(
  held: readonly Approval[],
  asked: { readonly id: string; readonly digest: string; readonly what: string; readonly by: Asker },
  now: Instant,
  bounds: Bounds,
): Next<Yes<{ readonly approval: Approval }> | No> {
  const before = settle(held, now);
  const known = before.held.find((one) => one.digest === asked.digest && isSameCaller(one.by, asked.by));
  if (known !== undefined) return { ...before, answer: { ok: true, approval: known } };
  if (now.lockdown) return { ...before, answer: no("approval-lockdown", "LOCKDOWN: nobody is asked") };
  if (Buffer.byteLength(JSON.stringify(asked.what)) > MAX_WHAT_BYTES)
    return {
      ...before,
      answer: no("approval-too-long", `to read it takes more than ${MAX_WHAT_BYTES} bytes`),
    };
  const own = before.held.filter((one) => one.by.uid === asked.by.uid || isSameTree(one.by, asked.by));
  if (own.length >= bounds.maxPerCaller)
    return { ...before, answer: tooMany(own, now, `${own.length} questions of this caller are open`) };
  if (before.held.length >= bounds.maxPending)
    return { ...before, answer: tooMany(before.held, now, `${before.held.length} questions are open`) };
  const { wallMs, monoMs, boot } = now;
  const moment = { wallMs, monoMs: Math.floor(monoMs), boot };
  const by = { ...asked.by, principal: asked.by.principal.slice(0, MAX_PRINCIPAL) };
  const approval: Approval = {
    ...asked,
    by,
    asked: moment,
    lifeMs: bounds.lifeMs,
    answer: { kind: "pending" },
  };
  return {
    ...before,
    held: [...before.held, approval],
    records: [...before.records, requestedRecord(approval)],
    answer: { ok: true, approval },
  };
}

/** A person says yes. Never whoever asked: not his uid, not his token, no token of the same tree. */
export function approve(
  held: readonly Approval[],
  said: {
    readonly id: string;
    readonly by: Decider;
    readonly useMs: number;
    readonly requireTerminal: boolean;
  },
  now: Instant,
): Next<Yes<{ readonly approval: Approval }> | No> {
  const before = settle(held, now);
  const found = before.held.find(({ id }) => id === said.id);
  const obstacle = obstacleTo(found, said);
  if (found === undefined || obstacle !== null)
    return { ...before, answer: obstacle ?? no("approval-unknown", `there is no approval ${said.id}`) };
  const { wallMs, monoMs, boot, epoch } = now;
  const at = { wallMs, monoMs: Math.floor(monoMs), boot };
  const answer = { kind: "approved", by: said.by.name, at, useMs: said.useMs, epoch } as const;
  const approval: Approval = { ...found, answer };
  const record: Entry = {
    kind: "approval.approved",
    data: { ...decidedData(said.id, said.by), useMs: said.useMs, epoch, ...at },
  };
  return {
    ...before,
    held: before.held.map((one) => (one === found ? approval : one)),
    records: [...before.records, record],
    answer: { ok: true, approval },
  };
}

/** A person says no: also of what he or another had approved, as long as it was not used. Anybody may, whoever asked too. */
export function deny(
  held: readonly Approval[],
  said: { readonly id: string; readonly by: Decider },
  now: Instant,
): Next<Yes<{ readonly approval: Approval }> | No> {
  const before = settle(held, now);
  const found = before.held.find(({ id }) => id === said.id);
  if (found === undefined)
    return { ...before, answer: no("approval-unknown", `there is no approval ${said.id}`) };
  if (found.answer.kind === "denied")
    return { ...before, answer: no("approval-over", `${said.id} has been denied`) };
  const approval: Approval = { ...found, what: "", answer: { kind: "denied", by: said.by.name } };
  return {
    held: before.held.map((one) => (one === found ? approval : one)),
    records: [...before.records, { kind: "approval.denied", data: decidedData(said.id, said.by) }],
    ended: [...before.ended, { approval: found, how: "denied", why: "" }],
    answer: { ok: true, approval },
  };
}

/** Whether this caller may do this now, because a person said so: true once. */
export function redeem(
  held: readonly Approval[],
  asked: { readonly digest: string; readonly by: Pick<Asker, "uid" | "tokenId"> },
  now: Instant,
): Next<Approval | null> {
  const before = settle(held, now);
  const found = before.held.find(
    ({ digest, by, answer }) =>
      digest === asked.digest && isSameCaller(by, asked.by) && answer.kind === "approved",
  );
  if (found === undefined) return { ...before, answer: null };
  const end: Ended = { approval: found, how: "used", why: "" };
  return {
    held: before.held.filter((one) => one !== found),
    records: [...before.records, endRecord(end)],
    ended: [...before.ended, end],
    answer: found,
  };
}

/** As JSON. So much can be read before it is approved; and the fold, with all that is open, has to fit into a snapshot. */
const MAX_WHAT_BYTES = 1_024;
/** Of a name that stands in `what` as a whole. */
const MAX_PRINCIPAL = 160;

/** Whether what began then is over: when either clock says so, or the wall clock was set to before it began. */
function isOver(since: Moment, ms: number, now: Moment): boolean {
  const byWall = now.wallMs >= since.wallMs + ms || now.wallMs < since.wallMs - MAX_BACK_MS;
  return byWall || elapsedMs(since, now) >= ms;
}

/** A clock that is corrected by this much is not set back. */
const MAX_BACK_MS = 1_000;

function isSameCaller(a: Pick<Asker, "uid" | "tokenId">, b: Pick<Asker, "uid" | "tokenId">): boolean {
  return a.uid === b.uid && a.tokenId === b.tokenId;
}

function isSameTree(a: Pick<Asker, "tree">, b: Pick<Asker, "tree">): boolean {
  return a.tree !== "" && a.tree === b.tree;
}

function obstacleTo(
  found: Approval | undefined,
  {
    id,
    by,
    requireTerminal,
  }: { readonly id: string; readonly by: Decider; readonly requireTerminal: boolean },
): No | null {
  if (found === undefined) return no("approval-unknown", `there is no approval ${id}`);
  if (found.answer.kind !== "pending") return no("approval-over", `${id} has been ${found.answer.kind}`);
  const isOwn = found.by.uid === by.uid || isSameTree(found.by, by);
  if (isOwn || (by.tokenId !== "" && by.tokenId === found.by.tokenId))
    return no("approval-own", `${id} was asked for by the same user or with a token of the same tree`);
  return requireTerminal && by.terminal === ""
    ? no("approval-no-terminal", "the caller has no controlling terminal")
    : null;
}

function endOf(one: Approval, now: Instant): readonly Ended[] {
  const { answer } = one;
  if (answer.kind === "denied")
    // moving the wall clock does not shorten that
    return elapsedMs(one.asked, now) >= one.lifeMs ? [{ approval: one, how: "expired", why: "denied" }] : [];
  if (answer.kind === "pending") {
    if (now.lockdown) return [{ approval: one, how: "expired", why: "lockdown" }];
    return isOver(one.asked, one.lifeMs, now) ? [{ approval: one, how: "expired", why: "timeout" }] : [];
  }
  if (now.lockdown) return [{ approval: one, how: "expired", why: "lockdown" }];
  if (answer.epoch !== now.epoch) return [{ approval: one, how: "expired", why: "tightened" }];
  return isOver(answer.at, answer.useMs, now) ? [{ approval: one, how: "expired", why: "unused" }] : [];
}

function tooMany(open: readonly Approval[], now: Moment, why: string): No {
  const left = open.map(({ asked, lifeMs }) => lifeMs - elapsedMs(asked, now));
  return { ...no("approval-too-many", why), retryAfterMs: Math.max(1, Math.min(...left)) };
}

function no(code: ErrorCode, why: string): No {
  return { ok: false, code, why, retryAfterMs: 0 };
}

function requestedRecord({ id, digest, by, what, asked, lifeMs }: Approval): Entry {
  return { kind: "approval.requested", data: { id, digest, ...by, what, ...asked, lifeMs } };
}

function decidedData(id: string, { name, uid, tokenId, terminal }: Decider): Data {
  return { id, by: name, uid, tokenId, terminal };
}

function endRecord({ approval: { id }, how, why }: Ended): Entry {
  return how === "used"
    ? { kind: "approval.used", data: { id } }
    : { kind: "approval.expired", data: { id, why } };
}
