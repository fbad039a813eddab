import {
  type DetailedError,
  policySetTextToParts,
  policyToJson,
  preparsePolicySet,
  preparseSchema,
  type StatefulAuthorizationCall,
  schemaToJsonWithResolvedTypes,
  statefulIsAuthorized,
  validate,
} from "@cedar-policy/cedar-wasm/nodejs";
import { answerText, parseExact, writable } from "../policy/cedar-exact.ts";
import { type Cedar, readPolicies } from "../policy/read-policies.ts";
import type { CedarOrder } from "../ports.ts";
import { requirePowerless } from "./powerless.ts";

requirePowerless();

/**
 * The process with Cedar in it. Everything goes back as text, so that whatever it is can be measured before it is
 * unpacked. A trap leaves the instance unusable: it is not caught, and ends the process.
 */
const SET = "set";
const SCHEMA = "schema";

type Fault = { readonly message: string; readonly help: string; readonly start: number };

/** The first place that it names; the related errors are told with it. */
function faultOf(error: DetailedError): Fault {
  const related = (error.related ?? []).map(({ message }) => message);
  return {
    message: [error.message, ...related].join(": "),
    help: error.help ?? "",
    start: error.sourceLocations?.[0]?.start ?? -1,
  };
}

function parse(schema: string, statements: readonly string[]): object {
  const read = schemaToJsonWithResolvedTypes(schema);
  if (read.type === "failure")
    return { schema: { faults: read.errors.map(faultOf) }, policies: [], validation: [] };
  const policies = statements.map((text) => {
    // integers of a policy go up to 2^63, and JSON.parse would round them
    const json = parseExact(answerText(() => policyToJson(text))) as ReturnType<typeof policyToJson>;
    return json.type === "success" ? { json: json.json } : { faults: json.errors.map(faultOf) };
  });
  const said = read.warnings.map(faultOf);
  if (said.length > 0) return { schema: { faults: said }, policies: [], validation: [] };
  if (policies.some((policy) => "faults" in policy))
    return { schema: { json: read.json }, policies, validation: [] };
  // our own splitting has to be Cedar's
  const parts = policySetTextToParts(statements.join("\n"));
  if (parts.type === "failure") throw new Error(parts.errors.map(({ message }) => message).join("; "));
  if (parts.policies.length !== statements.length || parts.policy_templates.length > 0)
    throw new Error("Cedar reads other policies in it than there are");
  return { schema: { json: read.json }, policies, validation: validation(schema, statements) };
}

/** Errors and warnings alike: one that says that a policy can never hold is about a policy that does not do its work. */
function validation(schema: string, statements: readonly string[]): readonly (Fault & { policy: number })[] {
  const staticPolicies = Object.fromEntries(statements.map((text, index) => [String(index), text]));
  const found = validate({ schema, policies: { staticPolicies }, validationSettings: { mode: "strict" } });
  if (found.type === "failure") return found.errors.map((error) => ({ ...faultOf(error), policy: -1 }));
  return [
    ...[...found.validationErrors, ...found.validationWarnings].map(({ policyId, error }) => {
      const fault = faultOf(error);
      const message = fault.message.replace(`for policy \`${policyId}\`, `, "");
      return { ...fault, message, policy: Number(policyId) };
    }),
    ...found.otherWarnings.map((error) => ({ ...faultOf(error), policy: -1 })),
  ];
}

function load(schema: string, policies: Readonly<Record<string, string>>): void {
  for (const done of [
    preparseSchema(SCHEMA, schema),
    preparsePolicySet(SET, { staticPolicies: { ...policies } }),
  ])
    if (done.type === "failure") throw new Error(done.errors.map(({ message }) => message).join("; "));
}

function judge(question: object): object {
  const answer = statefulIsAuthorized({
    ...(question as StatefulAuthorizationCall),
    preparsedPolicySetId: SET,
    preparsedSchemaName: SCHEMA,
    validateRequest: true,
  });
  if (answer.type === "failure") return { refused: answer.errors.map(({ message }) => message).join("; ") };
  const { decision, diagnostics } = answer.response;
  return {
    decision,
    reasons: diagnostics.reason,
    errors: diagnostics.errors.map(({ policyId }) => policyId),
  };
}

const CEDAR: Cedar = { parse, load, judge: (questions) => questions.map(judge) };

function execute(order: CedarOrder): object {
  switch (order.kind) {
    case "read":
      return readPolicies(order.files, order.entities, CEDAR);
    case "load":
      load(order.schema, order.policies);
      return {};
    case "judge":
      return (JSON.parse(order.questions) as readonly object[]).map(judge);
  }
}

process.on("message", (order: CedarOrder) => {
  let reply: { ok: boolean; text: string };
  try {
    reply = { ok: true, text: JSON.stringify(writable(execute(order))) };
  } catch (error) {
    // a RuntimeError is a trap, a RangeError a stack that is used up: nothing after it can be trusted
    if (!(error instanceof Error) || error.name === "RuntimeError" || error instanceof RangeError)
      throw error;
    reply = { ok: false, text: error.message };
  }
  process.send?.(reply);
});
// who asked is gone
process.on("disconnect", () => process.exit(0));
