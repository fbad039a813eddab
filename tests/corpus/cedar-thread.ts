import { parentPort } from "node:worker_threads";
import * as cedar from "@cedar-policy/cedar-wasm/nodejs";
import { answerText } from "../../daemon/policy/cedar-exact.ts";

/** cedar-wasm in a thread of its own, which may die by a trap: texts in, texts of JSON out. */
export type ParseJob = { readonly id: number; readonly policies: string; readonly schema: string };
/** `policies`: answers of policyToJson in the order of the ids; `schema`, `valid`: of the calls of that name. */
export type Parsed = {
  readonly id: number;
  readonly policies: readonly string[];
  readonly schema: string;
  readonly valid: boolean;
};

/**
 * A policy whose head no action fits was an error to the validator when the tests were published; to 4.13.0 it is a
 * warning. It counts as published: 35 files that must not validate have no other fault.
 */
const ONCE_AN_ERROR = "unable to find an applicable action given the policy scope constraints";

parentPort?.on("message", ({ id, policies, schema }: ParseJob) => {
  const parts = cedar.policySetTextToParts(policies);
  if (parts.type === "failure") throw new Error(parts.errors.map((error) => error.message).join("; "));
  if (parts.policy_templates.length > 0) throw new Error("a template, which no case of the corpus has");
  const validation = cedar.validate({ schema, policies: { staticPolicies: policies } });
  const answer: Parsed = {
    id,
    policies: parts.policies.map((text) => answerText(() => cedar.policyToJson(text))),
    schema: answerText(() => cedar.schemaToJsonWithResolvedTypes(schema)),
    valid: validation.type === "success" && problemsOf(validation).length === 0,
  };
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- to a thread, not to a window
  parentPort?.postMessage(answer);
});

function problemsOf(answer: Extract<cedar.ValidationAnswer, { type: "success" }>): readonly unknown[] {
  const once = answer.validationWarnings.filter(({ error }) => error.message.includes(ONCE_AN_ERROR));
  return [...answer.validationErrors, ...once];
}
