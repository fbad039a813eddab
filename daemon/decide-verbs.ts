import type { AccessRequest, Caller, Governor, Permitted, Situation, VerbQuestion } from "./core/access.ts";
import { accessDigest } from "./core/access-text.ts";
import type { Token } from "./core/token.ts";
import {
  ALLOWED,
  type DecideParts,
  dataOf,
  deny,
  evaluationOf,
  fault,
  type Ruling,
  rolesOfUser,
  showing,
  situationOf,
} from "./decide.ts";
import { decisionFacts } from "./policy/decision-facts.ts";

export type GovernorParts = Pick<
  DecideParts,
  "daemon" | "trustedInterfaces" | "roles" | "ownUid" | "tokens" | "policies" | "denials" | "wallMs" | "opLog"
>;

type Asked = { readonly request: AccessRequest; readonly ruling: Ruling };

/**
 * The pipeline of decide.ts for what the daemon asks itself, before a verb is done. Who may use it, and what mode, clock and
 * disk forbid, is plain code around it, so scopes and ceilings are not asked here. Leases are for questions, and a person's
 * approval is bound to the exact question, which says less than the verb does: neither opens a verb.
 */
export function createGovernor(parts: GovernorParts): Governor {
  return {
    permit: (caller, verb, question) => {
      const situation = situationOf(parts);
      return told(parts, caller, verb, situation, asked(parts, caller, question, situation));
    },
    permits: (caller, question) =>
      asked(parts, caller, question, situationOf(parts)).ruling.code === "allowed",
  };
}

function told(
  parts: GovernorParts,
  caller: Caller,
  verb: string,
  situation: Situation,
  { request, ruling }: Asked,
): Permitted {
  const evaluation = evaluationOf(situation, ruling);
  const data = { ...dataOf(caller, request, evaluation, ruling), verb };
  if (ruling.code === "allowed") {
    // not waited for: the verb's own record, which is waited for, comes after it
    const { seq, durable } = parts.daemon.record({ kind: "decision", data });
    durable.catch(() => undefined);
    if (seq !== -1) return { ok: true };
    return { ok: false, code: "log-unavailable", why: "what policy says of it could not be recorded" };
  }
  const { code, reason, mode, assurance } = evaluation;
  const answer = [verb, code, ...reason, mode, assurance].join(" ");
  parts.denials.record(caller, { digest: accessDigest(request), answer, data });
  const instead = ruling.instead === "" ? "" : `; it permits: ${ruling.instead}`;
  const why = `policy does not permit ${request.action.name} in ${mode}: ${reason.join(", ")}${instead}`;
  return { ok: false, code: ruling.code, why };
}

/** A fault of ours permits nothing. */
function asked(
  parts: GovernorParts,
  caller: Pick<Caller, "uid" | "groups" | "token">,
  question: VerbQuestion,
  situation: Situation,
): Asked {
  try {
    return ask(parts, caller, question, situation);
  } catch (error) {
    fault(parts, error);
    return { request: requestOf(caller, null, question), ruling: deny("internal") };
  }
}

function ask(
  { policies, tokens, roles, ownUid }: GovernorParts,
  caller: Pick<Caller, "uid" | "groups" | "token">,
  question: VerbQuestion,
  situation: Situation,
): Asked {
  const shown = caller.token === null ? null : tokens.standing(caller.token, showing(caller, situation));
  if (shown?.ok === false) {
    const ruling = { ...deny(shown.code), instead: shown.wouldAllow };
    return { request: requestOf(caller, null, question), ruling };
  }
  const token = shown?.token ?? null;
  const request = requestOf(caller, token, question);
  const held = token ? [token.role] : rolesOfUser(caller, roles, ownUid);
  const principal = { type: request.subject.type, id: request.subject.id, roles: held };
  const circumstances = { ...situation, leases: [], approved: false, token: token !== null };
  const found = policies.answer(request, principal, circumstances);
  const facts = { policy: decisionFacts(policies.digest(), request, principal, circumstances, found) };
  if (found.decision === "allow") return { request, ruling: { ...ALLOWED, reason: found.reasons, facts } };
  const code = found.code === "allowed" ? "internal" : found.code;
  return { request, ruling: { ...deny(code), reason: found.reasons, instead: found.advice, facts } };
}

/** Who uses a verb asks for himself: with a token as whom it stands for. */
function requestOf(
  { uid }: Pick<Caller, "uid">,
  token: Token | null,
  { action, type, id, properties }: VerbQuestion,
): AccessRequest {
  const subject = token?.principal ?? { type: "User", id: String(uid) };
  return {
    subject: { type: subject.type, id: subject.id, properties: {} },
    action: { name: action, properties: {} },
    resource: { type, id, properties },
    context: {},
  };
}
