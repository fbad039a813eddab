import { z } from "zod";
import type { AccessRequest } from "../core/access.ts";
import { type Parsed, parseYaml } from "../core/config-parse.ts";
import { MODES } from "../core/mode.ts";
import type { AskedSituation, Principal } from "./entities.ts";
import { PropertiesSchema } from "./properties-schema.ts";
import { EMPTY_REGISTRY_TEXT, RegistrySchema } from "./registry.ts";
import { ROLE_NAMES } from "./schema-shapes.ts";

const Named = z
  .string()
  .max(2_048)
  .regex(/^[A-Za-z]+::./, 'write "Type::id"');
const Texts = z.array(z.string().max(256)).max(64).default([]);
const ModeName = z.enum(MODES);

/** A question and the answer that it must get. Unwritten circumstances are the usual ones. */
const CaseSchema = z.strictObject({
  /** "User::1000", "Agent::coder". */
  who: Named,
  roles: z.array(z.enum(ROLE_NAMES)).max(4).default([]),
  action: z.string().max(64),
  /** "memory::note-1": the type as in a question. */
  resource: Named,
  properties: PropertiesSchema.default({}),
  taint: Texts,
  mode: ModeName,
  /** What the kernel confirmed: the same mode; "none" for nothing. */
  applied: z.union([ModeName, z.literal("none")]).optional(),
  assurance: z.enum(["enforced", "observed", "failed"]).default("enforced"),
  frozen: z.boolean().default(false),
  trustedInterfaces: Texts,
  leases: Texts,
  approved: z.boolean().default(false),
  token: z.boolean().default(false),
  at: z.iso.datetime({ offset: true }).default("2026-01-01T12:00:00Z"),
  answer: z.enum(["allow", "deny"]),
  /** The ids of the policies that determine it; none where nothing permits. */
  by: z.array(z.string().max(64)).max(64),
  /** Whether a person may be asked. Not looked at when it is not written. */
  person: z.boolean().optional(),
});
const CasesSchema = z.strictObject({
  /** What the cases take for known: the form of `policy.entitiesFile`. */
  registry: RegistrySchema.default(EMPTY_REGISTRY_TEXT),
  cases: z.array(CaseSchema).min(1, "no cases: nothing would be checked").max(10_000),
});

export type Case = z.output<typeof CaseSchema>;
export type CaseFile = z.output<typeof CasesSchema>;

/** Reads a cases file; faults with line and column. */
export function parseCases(text: string): Parsed<CaseFile> {
  return parseYaml(text, CasesSchema);
}

/** A case as the question that the daemon would be asked. */
export function questionOf(one: Case): {
  readonly request: AccessRequest;
  readonly principal: Principal;
  readonly situation: AskedSituation;
} {
  const [type, id] = split(one.who);
  const [resourceType, resourceId] = split(one.resource);
  const applied = one.applied === "none" ? null : (one.applied ?? one.mode);
  return {
    request: {
      subject: { type, id, properties: {} },
      action: { name: one.action, properties: {} },
      resource: { type: resourceType, id: resourceId, properties: one.properties },
      context: one.taint.length === 0 ? {} : { taint: one.taint },
    },
    principal: { type, id, roles: one.roles },
    situation: {
      wanted: one.mode,
      applied,
      assurance: one.assurance,
      frozen: one.frozen,
      trustedInterfaces: one.trustedInterfaces,
      wallMs: Date.parse(one.at),
      leases: one.leases,
      approved: one.approved,
      token: one.token,
    },
  };
}

function split(named: string): readonly [string, string] {
  const at = named.indexOf("::");
  return [named.slice(0, at), named.slice(at + 2)];
}
