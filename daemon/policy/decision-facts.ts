import { z } from "zod";
import type { Data } from "../audit/record.ts";
import type { AccessRequest } from "../core/access.ts";
import { parseStrictJson } from "../core/json.ts";
import { MODES } from "../core/mode.ts";
import type { PolicyAnswer } from "./answer.ts";
import type { AskedSituation, Principal } from "./entities.ts";
import { PropertiesSchema } from "./properties-schema.ts";

/** A longer question is not kept whole; its record cannot be replayed. */
const MAX_ASKED = 16_384;
const MAX_DEPTH = 32;

/**
 * What a `decision` record keeps of policy, as its field `policy`: the answer, and all that it was given on, so that
 * another set can be asked the same later. `digest`: of the set that answered. What the log redacts in a question (a
 * key in a command line) is asked redacted, too.
 */
export function decisionFacts(
  digest: string,
  request: AccessRequest,
  { type, id, roles }: Principal,
  situation: AskedSituation,
  answer: PolicyAnswer,
): Data {
  const { action, resource, context } = request;
  const asked = JSON.stringify({ action, resource, context });
  return {
    digest,
    answer: answer.decision,
    code: answer.code,
    by: answer.reasons,
    type,
    id,
    roles,
    wanted: situation.wanted,
    applied: situation.applied ?? "none",
    assurance: situation.assurance,
    frozen: yesNo(situation.frozen),
    interfaces: situation.trustedInterfaces,
    leases: situation.leases,
    approved: yesNo(situation.approved),
    // not "token": the log takes what stands under that name for one
    identified: situation.token ? "by-token" : "by-peer",
    wallMs: situation.wallMs,
    asked: asked.length > MAX_ASKED ? "" : asked,
  };
}

export type RecordedDecision = {
  readonly answer: "allow" | "deny";
  readonly by: readonly string[];
  readonly request: AccessRequest;
  readonly principal: Principal;
  readonly situation: AskedSituation;
};

const YesNo = z.enum(["yes", "no"]).transform((word) => word === "yes");
const FactsSchema = z.object({
  answer: z.enum(["allow", "deny"]),
  by: z.array(z.string()),
  type: z.string(),
  id: z.string(),
  roles: z.array(z.string()),
  wanted: z.enum(MODES),
  applied: z.union([z.enum(MODES), z.literal("none")]),
  assurance: z.enum(["enforced", "observed", "failed"]),
  frozen: YesNo,
  interfaces: z.array(z.string()),
  leases: z.array(z.string()),
  approved: YesNo,
  identified: z.enum(["by-token", "by-peer"]),
  wallMs: z.number().int(),
  asked: z.string(),
});
const AskedSchema = z.strictObject({
  action: z.strictObject({ name: z.string(), properties: PropertiesSchema }),
  resource: z.strictObject({ type: z.string(), id: z.string(), properties: PropertiesSchema }),
  context: PropertiesSchema,
});

/** Reads a record's field `policy`; null when it is none, or does not say all. */
export function readDecisionFacts(data: unknown): RecordedDecision | null {
  const facts = FactsSchema.safeParse(data);
  if (!facts.success) return null;
  const json = parseStrictJson(facts.data.asked, { maxDepth: MAX_DEPTH });
  const asked = AskedSchema.safeParse(json.ok ? json.value : null);
  if (!asked.success) return null;
  const { answer, by, type, id, roles, applied, interfaces, ...rest } = facts.data;
  const { action, resource, context } = asked.data;
  return {
    answer,
    by,
    request: {
      subject: { type, id, properties: {} },
      action,
      resource,
      context,
    },
    principal: { type, id, roles },
    situation: {
      wanted: rest.wanted,
      applied: applied === "none" ? null : applied,
      assurance: rest.assurance,
      frozen: rest.frozen,
      trustedInterfaces: interfaces,
      leases: rest.leases,
      approved: rest.approved,
      token: rest.identified === "by-token",
      wallMs: rest.wallMs,
    },
  };
}

function yesNo(value: boolean): string {
  return value ? "yes" : "no";
}
