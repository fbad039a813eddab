import { hash } from "node:crypto";
import type { Data, Value } from "./audit/record.ts";
import type {
  AccessRequest,
  Caller,
  Evaluation,
  Evaluator,
  Json,
  Properties,
  Situation,
} from "./core/access.ts";
import { ceilingOf, privilegeMode } from "./core/authority.ts";
import type { Room } from "./core/disk.ts";
import { ERRORS, type ErrorCode } from "./core/errors.ts";
import type { Mode } from "./core/mode.ts";

/** A part's "no": why, and what would be allowed instead. */
type No = { readonly ok: false; readonly code: ErrorCode; readonly why: string; readonly wouldAllow: string };
export type Principal = { readonly type: string; readonly id: string; readonly roles: readonly string[] };

/** What decides, part by part, in the order in which it is asked. Each answers at once: nothing in here waits. */
export type DecideParts = {
  readonly situation: () => Situation;
  readonly room: () => Room;
  readonly stopping: () => boolean;
  /** May this caller ask now? */
  readonly limit: (caller: Caller) => { readonly ok: true } | (No & { readonly retryAfterMs: number });
  /** Who the caller is, and whether he may ask this for this subject. */
  readonly authorize: (
    caller: Caller,
    request: AccessRequest,
    privilege: Mode,
    wallMs: number,
  ) => { readonly ok: true; readonly principal: Principal } | No;
  /** Names of the caller's leases that are live now. */
  readonly leases: (caller: Caller, privilege: Mode) => readonly string[];
  readonly policy: (
    request: AccessRequest,
    principal: Principal,
    situation: Situation & {
      readonly leases: readonly string[];
      readonly approved: boolean;
      readonly hasToken: boolean;
    },
  ) => PolicyAnswer;
  readonly policyDigest: () => string;
  readonly approvals: {
    /** What waits for a person, new or the one that waits already; null when no more may wait. */
    ask(caller: Caller, digest: string, request: AccessRequest): { readonly id: string } | null;
    /** The approval of exactly this, given and not used: used now. "" when there is none. */
    redeem(caller: Caller, digest: string): string;
  };
  /** A use of the caller's token, and of the leases that were live. False: it was the last one that somebody else has taken. */
  readonly consume: (caller: Caller, leases: readonly string[]) => boolean;
  readonly record: (data: Data) => { readonly seq: number; readonly durable: Promise<unknown> };
  /** Counts what is the same again: `seq` is -1 then. */
  readonly denied: (key: string, data: Data) => { readonly seq: number; readonly durable: Promise<unknown> };
  /** Told of a fault of ours, for the operational log. */
  readonly failed: (error: unknown) => void;
  /** Told of every denial: many of them are a probe. */
  readonly refused: (caller: Caller, code: ErrorCode) => void;
};

export type PolicyAnswer = {
  readonly decision: boolean;
  /** Ids of the policies that decided. */
  readonly reasons: readonly string[];
  /** Ids of policies that could not be evaluated: then nothing is allowed. */
  readonly errors: readonly string[];
  /** Whether a person's approval would change it. */
  readonly needsPerson: boolean;
  readonly advice: string;
  /** Set where policy could not be asked at all. */
  readonly code?: ErrorCode;
};

type Ruling = {
  readonly code: Evaluation["code"];
  readonly reason: readonly string[];
  readonly instead: string;
  readonly askPerson: boolean;
  readonly approval: string;
  readonly retryAfterMs: number;
  readonly leases: readonly string[];
  readonly principal: Principal | null;
};

/**
 * The one way to an answer, for both sockets: limits, token, the mode's ceilings, leases, policy, a person's approval,
 * record. It is decided on the state of this instant, and leaves when its record is on disk.
 */
export function createEvaluator(parts: DecideParts): Evaluator {
  return {
    evaluate: async (caller, request) => {
      const situation = parts.situation();
      return answer(parts, caller, request, situation, ruled(parts, caller, request, situation));
    },
  };
}

/** A fault of ours allows nothing. */
function ruled(parts: DecideParts, caller: Caller, request: AccessRequest, situation: Situation): Ruling {
  try {
    return rule(parts, caller, request, situation);
  } catch (error) {
    parts.failed(error);
    return deny("internal");
  }
}

function rule(parts: DecideParts, caller: Caller, request: AccessRequest, situation: Situation): Ruling {
  if (parts.stopping()) return deny("stopping");
  const limit = parts.limit(caller);
  if (!limit.ok) return { ...no(limit, null), retryAfterMs: limit.retryAfterMs };
  const privilege = privilegeMode(situation);
  const who = parts.authorize(caller, request, privilege, situation.wallMs);
  if (!who.ok) return no(who, null);
  const { principal } = who;
  const ceiling = ceilingOf(situation, request);
  if (!ceiling.allow)
    return {
      ...deny(ceiling.rule.startsWith("request.") ? "request-invalid" : "mode-ceiling"),
      reason: [ceiling.rule],
      instead: ceiling.instead,
      askPerson: ceiling.askPerson,
      principal,
    };
  const leases = parts.leases(caller, privilege);
  const asked = (approved: boolean) =>
    parts.policy(request, principal, { ...situation, leases, approved, hasToken: caller.token !== null });
  const ruling = byPolicy(parts, caller, request, asked);
  if (ruling.code !== "allowed") return { ...ruling, leases, principal };
  if (!parts.consume(caller, leases)) return { ...deny("token-spent"), leases, principal };
  return { ...ruling, leases, principal };
}

function byPolicy(
  parts: DecideParts,
  caller: Caller,
  request: AccessRequest,
  asked: (approved: boolean) => PolicyAnswer,
): Ruling {
  const first = asked(false);
  const mayAllow = parts.room() === "ok"; // the log's disk is nearly full: nothing is allowed
  if (allows(first)) return mayAllow ? { ...ALLOWED, reason: first.reasons } : deny("log-unavailable");
  const denial = {
    ...deny(first.code ?? (first.errors.length > 0 ? "policy-error" : "policy-denied")),
    reason: first.errors.length > 0 ? first.errors : first.reasons,
    instead: first.advice,
  };
  if (!first.needsPerson || first.errors.length > 0) return denial;
  const approved = asked(true);
  if (!allows(approved) || !mayAllow) return denial;
  const digest = digestOf(request);
  const given = parts.approvals.redeem(caller, digest);
  if (given !== "") return { ...ALLOWED, reason: approved.reasons, approval: given };
  const waits = parts.approvals.ask(caller, digest, request);
  return waits === null
    ? denial
    : { ...denial, code: "approval-required", askPerson: true, approval: waits.id };
}

/** Stricter than Cedar, which skips a forbid that cannot be evaluated. */
function allows({ decision, errors, code }: PolicyAnswer): boolean {
  return decision && errors.length === 0 && code === undefined;
}

const ALLOWED: Ruling = {
  code: "allowed",
  reason: [],
  instead: "",
  askPerson: false,
  approval: "",
  retryAfterMs: 0,
  leases: [],
  principal: null,
};

function deny(code: ErrorCode): Ruling {
  return { ...ALLOWED, code, reason: [code] };
}

function no({ code, why, wouldAllow }: No, principal: Principal | null): Ruling {
  return { ...deny(code), instead: wouldAllow === "" ? why : wouldAllow, principal };
}

async function answer(
  parts: DecideParts,
  caller: Caller,
  request: AccessRequest,
  situation: Situation,
  ruling: Ruling,
): Promise<Evaluation> {
  const evaluation = evaluationOf(situation, ruling);
  const data = dataOf(parts, caller, request, situation, ruling);
  if (ruling.code === "allowed") {
    const receipt = parts.record(data);
    try {
      await receipt.durable;
    } catch {
      return { ...evaluationOf(situation, deny("log-unavailable")), correlationId: String(receipt.seq) };
    }
    return { ...evaluation, correlationId: String(receipt.seq) };
  }
  parts.refused(caller, ruling.code);
  const key = JSON.stringify([caller.uid, caller.token, digestOf(request), ruling.code, ruling.reason]);
  const receipt = parts.denied(key, data);
  await receipt.durable.catch(() => undefined); // a denial stands without its record
  return { ...evaluation, correlationId: receipt.seq === -1 ? "" : String(receipt.seq) };
}

function evaluationOf(situation: Situation, ruling: Ruling): Evaluation {
  const { code, reason, instead, askPerson, approval, retryAfterMs } = ruling;
  return {
    decision: code === "allowed",
    code,
    reason: reason.toSorted(),
    mode: privilegeMode(situation),
    assurance: situation.assurance,
    correlationId: "",
    wouldAllow: instead,
    askPerson,
    approval,
    retryable: code !== "allowed" && ERRORS[code].lasts === "transient",
    retryAfterMs,
  };
}

/** SHA-256 over the canonical text of exactly what is asked, hex: what an approval is bound to. */
export function digestOf({ subject, action, resource, context }: AccessRequest): string {
  return hash("sha256", sortedText({ subject, action, resource, context } as unknown as Json));
}

/** JSON with its names sorted: the same question has one text. */
function sortedText(value: Json): string {
  if (Array.isArray(value)) return `[${value.map(sortedText).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const names = Object.keys(value).toSorted();
  return `{${names.map((name) => `${JSON.stringify(name)}:${sortedText((value as Properties)[name] ?? null)}`).join(",")}}`;
}

function dataOf(
  parts: DecideParts,
  caller: Caller,
  request: AccessRequest,
  situation: Situation,
  ruling: Ruling,
): Data {
  const { subject, action, resource, context } = request;
  return {
    subject: { type: subject.type, id: subject.id, properties: plain(subject.properties) },
    by: { uid: caller.uid, pid: caller.pid, token: caller.token ?? "" },
    action: action.name,
    actionProperties: plain(action.properties),
    resource: { type: resource.type, id: resource.id, properties: plain(resource.properties) },
    context: plain(context),
    decision: ruling.code === "allowed" ? "allow" : "deny",
    code: ruling.code,
    reason: ruling.reason.toSorted(),
    mode: privilegeMode(situation),
    applied: situation.applied ?? "",
    wanted: situation.wanted,
    assurance: situation.assurance,
    policy: parts.policyDigest(),
    leases: ruling.leases,
    approval: ruling.approval,
  };
}

/** Records hold no booleans and no null: these stand as {"$": "true"}, {"$": "null"}, so that they can be read back. */
function plain(properties: Properties): Data {
  return plainValue(properties) as Data;
}

function plainValue(value: Json): Value {
  if (typeof value === "string") return value;
  if (typeof value === "number") return Number.isSafeInteger(value) ? value : { $: String(value) };
  if (value === null || typeof value === "boolean") return { $: String(value) };
  if (Array.isArray(value)) return value.map(plainValue);
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, plainValue(each)]));
}
