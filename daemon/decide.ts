import type { Approvals } from "./approvals.ts";
import type { Data } from "./audit/record.ts";
import type { AccessRequest, Caller, Evaluation, Evaluator, Situation, Terms } from "./core/access.ts";
import { accessDigest } from "./core/access-text.ts";
import { ceilingOf, privilegeMode } from "./core/authority.ts";
import { ERRORS, type ErrorCode, renderErrorChain } from "./core/errors.ts";
import type { Mode } from "./core/mode.ts";
import { renderPrincipal } from "./core/principal.ts";
import { type RoleTable, rightsOf } from "./core/roles.ts";
import type { Token } from "./core/token.ts";
import type { Daemon } from "./daemon.ts";
import type { Denials } from "./denials.ts";
import type { Leases } from "./leases.ts";
import type { LimitDesk } from "./limits.ts";
import type { Policies } from "./policies.ts";
import type { PolicyAnswer } from "./policy/answer.ts";
import { decisionFacts } from "./policy/decision-facts.ts";
import type { AskedSituation, Principal } from "./policy/entities.ts";
import type { OpLog } from "./ports.ts";
import type { Tokens } from "./tokens.ts";

/** What decides, joined. Each part answers at once: between the state that is looked at and the record nothing waits. */
export type DecideParts = {
  readonly daemon: Pick<Daemon, "state" | "assurance" | "stopping" | "record">;
  readonly trustedInterfaces: readonly string[];
  readonly roles: RoleTable;
  readonly ownUid: number;
  readonly tokens: Pick<Tokens, "authorize" | "useOf" | "rootOf" | "lineOf" | "standing">;
  readonly leases: Pick<Leases, "live" | "used">;
  readonly policies: Pick<Policies, "answer" | "digest" | "withKnown" | "settled">;
  readonly approvals: Pick<Approvals, "ask" | "redeem">;
  readonly denials: Pick<Denials, "record">;
  readonly wallMs: () => number;
  readonly opLog: OpLog;
};

/** What an answer is made of. */
export type Ruling = {
  readonly code: Evaluation["code"];
  readonly reason: readonly string[];
  readonly instead: string;
  readonly askPerson: boolean;
  readonly approval: string;
  readonly retryAfterMs: number;
  /** What a record keeps of who it was decided for, and of the policies' answer. */
  readonly facts: Data;
};

/**
 * The one way to an answer, for both sockets: who asks, the mode's ceilings, leases, policy, a person's approval, record.
 * Whether he may ask at all (limits) is decided before, at the door. It is decided on the state of one instant, and
 * answered when the record is on disk: an allow only while the mode is still that one and the token still stands.
 */
export function createEvaluator(parts: DecideParts): Evaluator & {
  /** Whether it would be allowed now. Nothing is recorded, asked or used up. */
  probe(caller: Caller, request: AccessRequest): boolean;
  /** The same where a person's approval may be had: "person" where it would be allowed with one alone. */
  outlook(caller: Caller, request: AccessRequest): "allow" | "person" | "deny";
} {
  const loaded = { yes: false };
  void parts.policies.settled().then(() => {
    loaded.yes = true;
  });
  return {
    evaluate: async (caller, request, terms = {}) => {
      if (!loaded.yes) await parts.policies.settled();
      const situation = situationOf(parts);
      return answer(parts, caller, request, situation, ruled(parts, caller, request, situation, terms));
    },
    probe: (caller, request) => outlookOf(parts, caller, request) === "allow",
    outlook: (caller, request) => outlookOf(parts, caller, request),
  };
}

/** As whom a token is shown, and in which mode. */
export function showing(
  { uid }: Pick<Caller, "uid">,
  situation: Situation,
): { uid: number; privilege: Mode } {
  return { uid, privilege: privilegeMode(situation) };
}

function outlookOf(parts: DecideParts, caller: Caller, request: AccessRequest): "allow" | "person" | "deny" {
  try {
    const ruling = asFarAsPolicy(parts, caller, request, situationOf(parts));
    if ("code" in ruling) return "deny";
    const { principal, asked } = ruling;
    const first = parts.policies.answer(request, principal, asked);
    if (first.decision === "allow") return "allow";
    if (!first.needsPerson) return "deny";
    const second = parts.policies.answer(request, principal, { ...asked, approved: true });
    return second.decision === "allow" ? "person" : "deny";
  } catch (error) {
    fault(parts, error);
    return "deny";
  }
}

/**
 * The door of decide.sock: one request of it, or one item of several, counts as one question. A token that is not live, or
 * another user's, costs those of its tree nothing: then it is its bearer's.
 */
export function limited(
  evaluator: Evaluator,
  limits: Pick<LimitDesk, "take">,
  parts: DecideParts,
): Evaluator {
  return {
    evaluate: async (caller, request) => {
      const taken = charge({ ...parts, limits }, caller);
      if (taken.ok) return evaluator.evaluate(caller, request);
      const ruling = { ...deny(taken.code), instead: taken.why, retryAfterMs: taken.retryAfterMs };
      return answer(parts, caller, request, situationOf(parts), ruling);
    },
  };
}

/** Counts one question of decide.sock against the limits of who asks. */
export function charge(
  {
    daemon,
    tokens,
    limits,
  }: { readonly limits: Pick<LimitDesk, "take"> } & Pick<Moments, "daemon" | "tokens">,
  { uid, token }: Pick<Caller, "uid" | "token">,
): ReturnType<LimitDesk["take"]> {
  const privilege = privilegeMode(daemon.state());
  // one that is not live is nobody's tree: it uses up nothing of those that are
  const isLive = token !== null && tokens.standing(token, { uid, privilege }).ok;
  const root = isLive ? tokens.rootOf(token) : null;
  const counted = { uid, token: root?.id ?? null, tokenLabel: root?.label ?? "" };
  const kind = token !== null && !isLive ? "stranger" : "decision";
  return limits.take({ ...counted, verb: "check", kind });
}

/** What a moment is seen by. */
export type Moments = Pick<DecideParts, "trustedInterfaces" | "wallMs"> & {
  readonly daemon: Pick<Daemon, "state" | "assurance">;
  readonly tokens: Pick<Tokens, "standing" | "rootOf">;
};

/** What an answer was found on. */
export type Moment = { readonly situation: Situation; readonly epoch: number };

export function momentOf(parts: Pick<Moments, "daemon" | "trustedInterfaces" | "wallMs">): Moment {
  return { situation: situationOf(parts), epoch: parts.daemon.state().epoch };
}

/** Why what was found then is not told any more: how the host is held is not what it was. null: it is. */
export function changedSince(then: Moment, now: Moment): string | null {
  const { wanted, applied, assurance } = then.situation;
  if (now.epoch !== then.epoch || now.situation.wanted !== wanted || now.situation.applied !== applied)
    return "the mode has changed";
  return now.situation.assurance === assurance ? null : "how firmly the mode is held has changed";
}

/** The state of this instant. */
export function situationOf({
  daemon,
  trustedInterfaces,
  wallMs,
}: Pick<Moments, "daemon" | "trustedInterfaces" | "wallMs">): Situation {
  const { wanted, applied, frozen } = daemon.state();
  return {
    wanted,
    applied,
    assurance: daemon.assurance(),
    frozen: frozen !== null,
    trustedInterfaces,
    wallMs: wallMs(),
  };
}

/** A fault of ours allows nothing. */
function ruled(
  parts: DecideParts,
  caller: Caller,
  request: AccessRequest,
  situation: Situation,
  terms: Terms,
): Ruling {
  try {
    return rule(parts, caller, request, situation, terms);
  } catch (error) {
    fault(parts, error);
    return deny("internal");
  }
}

/** Said once, here: whoever asked hears "internal". */
export function fault({ opLog }: Pick<DecideParts, "opLog">, error: unknown): void {
  opLog.error({ err: renderErrorChain(error) }, "a question could not be answered");
}

function rule(
  parts: DecideParts,
  caller: Caller,
  request: AccessRequest,
  situation: Situation,
  terms: Terms,
): Ruling {
  const ruling = asFarAsPolicy(parts, caller, request, situation);
  return "code" in ruling ? ruling : byPolicy(parts, caller, request, ruling.principal, ruling.asked, terms);
}

/** All that is plain code: a denial, or what policy is to be asked. */
function asFarAsPolicy(
  parts: DecideParts,
  caller: Caller,
  request: AccessRequest,
  situation: Situation,
): Ruling | { readonly principal: Principal; readonly asked: AskedSituation } {
  if (parts.daemon.stopping()) return deny("stopping");
  const who = whoActs(parts, caller, request, situation);
  if (!who.ok) return { ...deny(who.code), instead: who.wouldAllow === "" ? who.why : who.wouldAllow };
  // what is known of the resource goes before what the caller says of it
  const ceiling = ceilingOf(situation, parts.policies.withKnown(request));
  if (!ceiling.allow)
    return {
      ...deny(ceiling.rule.startsWith("request.") ? "request-invalid" : "mode-ceiling"),
      reason: [ceiling.rule],
      instead: ceiling.instead,
      askPerson: ceiling.askPerson,
    };
  const leases = parts.leases.live(caller, privilegeMode(situation), request);
  const asked = { ...situation, leases, approved: false, token: caller.token !== null };
  return { principal: who.principal, asked };
}

type Who =
  | { readonly ok: true; readonly principal: Principal }
  | { readonly ok: false; readonly code: ErrorCode; readonly why: string; readonly wouldAllow: string };

/** For whom it is decided. Without a token a caller is his uid and nobody else (B12). */
function whoActs(
  { tokens, roles, ownUid }: DecideParts,
  caller: Caller,
  request: AccessRequest,
  situation: Situation,
): Who {
  const { type, id } = request.subject;
  if (caller.token !== null) {
    const standing = tokens.authorize(caller.token, { request, ...showing(caller, situation) });
    if (!standing.ok) return standing;
    return { ok: true, principal: { type, id, roles: rolesOf(tokens.lineOf(caller.token), type, id) } };
  }
  if (type !== "User" || id !== String(caller.uid))
    return {
      ok: false,
      code: "token-needed",
      why: `without a token uid ${caller.uid} asks for himself alone`,
      wouldAllow: `the subject User::${caller.uid}, or another one with a token that stands for it`,
    };
  return { ok: true, principal: { type, id, roles: rolesOfUser(caller, roles, ownUid) } };
}

/** Of somebody who shows no token. */
export function rolesOfUser(
  caller: Pick<Caller, "uid" | "groups">,
  roles: RoleTable,
  ownUid: number,
): readonly string[] {
  const { role, auditor } = rightsOf(caller, roles, ownUid);
  return [role, ...(auditor ? ["auditor"] : [])];
}

/**
 * A token's role is its own principal's: in somebody else's name it gives none. Nor does a child's for another principal
 * than its parent's: the parent stood for that one without a role.
 */
function rolesOf(line: readonly Token[], type: string, id: string): readonly string[] {
  const isHis = line.every(({ principal }) => principal.type === type && principal.id === id);
  return isHis ? line.slice(0, 1).map(({ role }) => role) : [];
}

function byPolicy(
  parts: DecideParts,
  caller: Caller,
  request: AccessRequest,
  principal: Principal,
  situation: AskedSituation,
  { person = [], approval }: Terms,
): Ruling {
  const { policies, approvals, daemon } = parts;
  const factsOf = (asked: AskedSituation, policy: PolicyAnswer): Data => ({
    policy: decisionFacts(policies.digest(), request, principal, asked, policy),
  });
  const first = policies.answer(request, principal, situation);
  const facts = factsOf(situation, first);
  const hasRoom = daemon.state().room === "ok"; // of the log's disk: without, nothing is allowed
  const isDemanded = first.decision === "allow" && person.length > 0;
  if (first.decision === "allow" && !isDemanded)
    return hasRoom
      ? { ...ALLOWED, reason: first.reasons, facts: { ...facts, ...uses(parts, caller, request, situation) } }
      : { ...deny("log-unavailable"), facts };
  const denial: Ruling = isDemanded
    ? { ...deny("policy-denied"), reason: person, instead: "it with a person's approval", facts }
    : {
        ...deny(first.code === "allowed" ? "internal" : first.code),
        reason: first.reasons,
        instead: first.advice,
        facts,
      };
  if (!(first.needsPerson || isDemanded) || !hasRoom) return denial;
  const approved = { ...situation, approved: true };
  const second = policies.answer(request, principal, approved);
  if (second.decision !== "allow") return denial;
  const asker = askerOf(parts, caller, principal);
  const given = approval ?? approvals.redeem(asker, request);
  if (given !== null) {
    const used = uses(parts, caller, request, situation);
    return {
      ...ALLOWED,
      reason: second.reasons,
      approval: given,
      facts: { ...factsOf(approved, second), ...used },
    };
  }
  const waits = approvals.ask(asker, request);
  if (!waits.ok) return { ...denial, retryAfterMs: waits.retryAfterMs };
  return { ...denial, code: "approval-required", askPerson: true, approval: waits.id };
}

/** What an allowed answer uses up: it counts from the moment that its record is appended. */
function uses(
  { tokens, leases }: DecideParts,
  caller: Caller,
  request: AccessRequest,
  situation: Situation,
): Data {
  const used = leases.used(caller, privilegeMode(situation), request);
  return { ...tokens.useOf(caller.token), ...(used.length === 0 ? {} : { leases: used }) };
}

function askerOf({ tokens }: DecideParts, { uid, token }: Caller, principal: Principal) {
  const tree = token === null ? "" : (tokens.rootOf(token)?.id ?? "");
  return { uid, tokenId: token ?? "", tree, principal: renderPrincipal(principal) };
}

/** An allow that says nothing of why. */
export const ALLOWED: Ruling = {
  code: "allowed",
  reason: [],
  instead: "",
  askPerson: false,
  approval: "",
  retryAfterMs: 0,
  facts: {},
};

/** A denial that says no more than its code. */
export function deny(code: ErrorCode): Ruling {
  return { ...ALLOWED, code, reason: [code] };
}

async function answer(
  parts: DecideParts,
  caller: Caller,
  request: AccessRequest,
  situation: Situation,
  ruling: Ruling,
): Promise<Evaluation> {
  const evaluation = evaluationOf(situation, ruling);
  const data = dataOf(caller, request, evaluation, ruling);
  if (ruling.code !== "allowed") {
    const { code } = ruling;
    // without room, what is denied is told apart by its action alone
    const digest = code === "log-unavailable" ? request.action.name : accessDigest(request);
    const told = [code, ...ruling.reason, evaluation.mode, evaluation.assurance].join(" ");
    const receipt = parts.denials.record(caller, { digest, answer: told, data });
    await receipt.durable;
    return { ...evaluation, correlationId: receipt.seq === -1 ? "" : String(receipt.seq) };
  }
  const { epoch } = parts.daemon.state();
  const receipt = parts.daemon.record({ kind: "decision", data });
  try {
    await receipt.durable;
  } catch {
    const correlationId = receipt.seq === -1 ? "" : String(receipt.seq);
    return { ...evaluationOf(situation, deny("log-unavailable")), correlationId };
  }
  const now = momentOf(parts);
  const lapse = lapseOf(parts, caller, request, { situation, epoch }, now);
  if (lapse === null) return { ...evaluation, correlationId: String(receipt.seq) };
  const instead = `ask again: ${lapse}`;
  return answer(parts, caller, request, now.situation, {
    ...deny("answer-lapsed"),
    instead,
    facts: { lapsed: receipt.seq },
  });
}

/** Why an allow whose record took its time is not told any more; null when it is. A disk may be slow, a trip is not. */
function lapseOf(
  { tokens }: DecideParts,
  { uid, token }: Caller,
  request: AccessRequest,
  then: Moment,
  now: Moment,
): string | null {
  const changed = changedSince(then, now);
  if (changed !== null || token === null) return changed;
  const standing = tokens.authorize(token, { request, uid, privilege: privilegeMode(now.situation) });
  // used up is no lapse: this answer's use may have been the last
  return standing.ok || standing.code === "token-spent" ? null : standing.why;
}

/** A ruling as whoever asked hears it; its record has no number yet. */
export function evaluationOf(situation: Situation, ruling: Ruling): Evaluation {
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

/** What a record says of an answer. All of the question, for replaying it, is in `policy`, where policy was asked. */
export function dataOf(
  { uid, pid, token }: Caller,
  { subject, action, resource }: AccessRequest,
  { decision, code, reason, mode, assurance, approval }: Evaluation,
  { facts }: Ruling,
): Data {
  return {
    subject: { type: subject.type, id: subject.id },
    by: { uid, pid, ...(token === null ? {} : { tokenId: token }) },
    action: action.name,
    resource: { type: resource.type, id: resource.id },
    decision: decision ? "allow" : "deny",
    code,
    reason,
    mode,
    assurance,
    ...(approval === "" ? {} : { approval }),
    ...facts,
  };
}
