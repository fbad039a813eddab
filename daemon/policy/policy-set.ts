import { createHash } from "node:crypto";
import { z } from "zod";
import { BoundaryError, renderErrorChain } from "../core/errors.ts";
import { type Compiled, compilePolicies } from "./cedar-decide.ts";
import { writable } from "./cedar-exact.ts";
import { at, type Draft, type FileProblem, type Statement } from "./policy-files.ts";
import { positionOf, unitsOf } from "./policy-text.ts";
import { readShapes, type Shapes } from "./schema-shapes.ts";

/** What is known of one policy beside what it does. */
export type PolicyNote = {
  readonly effect: "permit" | "forbid";
  /** `@needs("person")`, of a forbid: it gives way to a person's approval. */
  readonly needsPerson: boolean;
  /** `@advice`: what would be allowed; "" for none. */
  readonly advice: string;
  readonly file: string;
  readonly line: number;
  /** The actions that its head names; null for any. */
  readonly actions: readonly string[] | null;
  readonly text: string;
};

/** Policies that can be asked. Nothing in it is changed; a reload makes another one. */
export type PolicySet = {
  readonly compiled: Compiled;
  /** SHA-256 over the files and, where there is one, the registry, hex. */
  readonly digest: string;
  /** SHA-256 over what is compiled, hex: the same policies with other comments, places or advice have the same. */
  readonly compiledDigest: string;
  readonly shapes: Shapes;
  readonly notes: ReadonlyMap<string, PolicyNote>;
  /** By action: what the permits that name it say would be allowed. */
  readonly permitted: ReadonlyMap<string, readonly string[]>;
  /** The schema's text. */
  readonly schema: string;
};

/** What a set is built of: plain data, so that one process can read what another one asks. */
export type SetParts = {
  readonly digest: string;
  readonly schema: string;
  /** Cedar's JSON forms. */
  readonly schemaJson: unknown;
  readonly policies: readonly { readonly id: string; readonly json: unknown; readonly note: PolicyNote }[];
};

const Fault = z.object({
  message: z.string(),
  help: z.string().default(""),
  /** Offset in UTF-8 bytes; -1 where Cedar says none. */
  start: z.number().int(),
});
/** What the process with Cedar in it says of a draft. It is data from outside as much as the draft is. */
const ReadByCedar = z.object({
  schema: z.union([z.object({ json: z.unknown() }), z.object({ faults: z.array(Fault) })]),
  policies: z.array(z.union([z.object({ json: z.unknown() }), z.object({ faults: z.array(Fault) })])),
  /** Of the validator, by the policy's place in the draft. Errors and warnings alike. */
  validation: z.array(Fault.extend({ policy: z.number().int() })),
});

const PolicyHead = z.object({
  effect: z.enum(["permit", "forbid"]),
  annotations: z.record(z.string(), z.string().nullable()).default({}),
  action: z.unknown(),
});
const Annotations = z.strictObject({
  id: z
    .string({ error: 'every policy has an @id("…")' })
    .regex(
      /^[a-z0-9][a-z0-9.-]{0,63}$/,
      "an @id has lower case letters, digits, dots and dashes, 64 at most",
    ),
  advice: z.string().max(500).default(""),
  needs: z.literal("person", { error: '@needs takes "person"' }).optional(),
  description: z.string().max(2_000).optional(),
});

type Made =
  | { readonly parts: SetParts; readonly set: PolicySet }
  | { readonly problems: readonly FileProblem[] };

/** Compiles what Cedar has read and validated, or says what is wrong, and where. Cases are not run yet. */
export function makeSet(draft: Draft, answer: unknown): Made {
  const read = ReadByCedar.safeParse(answer);
  if (!read.success) return { problems: [at("", "what Cedar said of the policies cannot be read")] };
  const { schema, policies, validation } = read.data;
  if ("faults" in schema) return { problems: schema.faults.map((fault) => ofSchema(draft, fault)) };
  const problems: FileProblem[] = [];
  if (policies.length !== draft.statements.length) problems.push(at("", "Cedar has not read all policies"));
  const found = new Map<string, SetParts["policies"][number]>();
  for (const [index, statement] of draft.statements.entries()) {
    const policy = policies[index];
    if (policy === undefined) continue;
    if ("faults" in policy) {
      problems.push(...policy.faults.map((fault) => ofStatement(draft, statement, fault)));
      continue;
    }
    const noted = noteOf(statement, policy.json);
    if ("problem" in noted) problems.push(whole(statement, noted.problem));
    else if (found.has(noted.id)) problems.push(whole(statement, `the @id ${noted.id} is used twice`));
    else found.set(noted.id, { ...noted, json: policy.json });
  }
  for (const fault of validation) {
    const statement = draft.statements[fault.policy];
    problems.push(statement ? ofStatement(draft, statement, fault) : at("", fault.message));
  }
  if (problems.length > 0) return { problems };
  const parts = {
    digest: draft.digest,
    schema: draft.schema.text,
    schemaJson: schema.json,
    policies: [...found.values()],
  };
  const built = buildSet(parts);
  return "set" in built
    ? { parts, set: built.set }
    : { problems: built.problems.map((problem) => at(draft.schema.file, problem)) };
}

/** Builds a set of its parts, or says why none can be built. */
export function buildSet(
  parts: SetParts,
): { readonly set: PolicySet } | { readonly problems: readonly string[] } {
  const shaped = readShapes(parts.schemaJson);
  if ("problems" in shaped) return shaped;
  try {
    const { digest, schema, policies } = parts;
    const compiled = compilePolicies({
      staticPolicies: Object.fromEntries(policies.map(({ id, json }) => [id, json])),
    });
    const notes = new Map(policies.map(({ id, note }) => [id, note]));
    const permitted = permittedBy(notes);
    const compiledDigest = digestOfCompiled(policies);
    return { set: { compiled, compiledDigest, digest, shapes: shaped.shapes, notes, permitted, schema } };
  } catch (error) {
    // a policy so deep that our compiler's stack does not bear it is refused like any other that it cannot compile
    if (!(error instanceof BoundaryError || error instanceof RangeError)) throw error;
    return { problems: [`compiling: ${renderErrorChain(error)}`] };
  }
}

/** Goes up when the compiler would make something else of the same policies: what was disagreed about is mended then. */
const COMPILED_FORM = 1;

function digestOfCompiled(policies: SetParts["policies"]): string {
  const bodies = policies
    .map(({ id, json }) => [id, { ...(json as object), annotations: {} }] as const)
    .toSorted(([a], [b]) => (a < b ? -1 : 1));
  return createHash("sha256")
    .update(JSON.stringify(writable([COMPILED_FORM, bodies])))
    .digest("hex");
}

/** Made once: a flood of denials looks it up each time. */
function permittedBy(notes: PolicySet["notes"]): PolicySet["permitted"] {
  const found = new Map<string, Set<string>>();
  for (const { effect, advice, actions } of notes.values()) {
    if (effect === "forbid" || advice === "") continue;
    for (const action of actions ?? []) {
      const known = found.get(action) ?? new Set();
      found.set(action, known.add(advice));
    }
  }
  return new Map([...found].map(([action, known]) => [action, [...known]]));
}

const PartsSchema = z.strictObject({
  digest: z.string(),
  schema: z.string(),
  schemaJson: z.unknown(),
  policies: z.array(
    z.strictObject({
      id: z.string(),
      json: z.unknown(),
      note: z.strictObject({
        effect: z.enum(["permit", "forbid"]),
        needsPerson: z.boolean(),
        advice: z.string(),
        file: z.string(),
        line: z.number(),
        actions: z.array(z.string()).nullable(),
        text: z.string(),
      }),
    }),
  ),
});

/** Parts as another process sent them; null when they are none. */
export function readParts(json: unknown): SetParts | null {
  return PartsSchema.safeParse(json).data ?? null;
}

function noteOf(
  { file, line, text }: Statement,
  json: unknown,
): { readonly id: string; readonly note: PolicyNote } | { readonly problem: string } {
  const head = PolicyHead.safeParse(json);
  if (!head.success) return { problem: "Cedar's JSON form of it cannot be read" };
  const { effect, annotations, action } = head.data;
  const read = Annotations.safeParse(annotations);
  if (!read.success)
    return { problem: read.error.issues.map((issue) => annotationProblem(issue)).join("; ") };
  const { id, advice, needs } = read.data;
  if (needs !== undefined && effect !== "forbid")
    return { problem: "@needs belongs to a forbid: it says who may lift it" };
  const note = {
    effect,
    needsPerson: needs !== undefined,
    advice,
    file,
    line,
    actions: actionsOf(action),
    text,
  };
  return { id, note };
}

function annotationProblem(issue: z.core.$ZodIssue): string {
  if (issue.code === "unrecognized_keys")
    return `there is no annotation @${issue.keys.join(", @")}; there are @id, @advice, @needs, @description`;
  return issue.message;
}

const ActionScope = z.union([
  z.object({ op: z.enum(["==", "in"]), entity: z.object({ id: z.string() }) }),
  z.object({ op: z.literal("in"), entities: z.array(z.object({ id: z.string() })) }),
]);

function actionsOf(scope: unknown): readonly string[] | null {
  const read = ActionScope.safeParse(scope);
  if (!read.success) return null;
  return "entity" in read.data ? [read.data.entity.id] : read.data.entities.map(({ id }) => id);
}

function ofSchema({ schema }: Draft, fault: z.output<typeof Fault>): FileProblem {
  const place = positionOf(schema.text, unitsOf(schema.text, fault.start));
  return { file: schema.file, ...place, at: "", problem: told(fault) };
}

function ofStatement(draft: Draft, statement: Statement, fault: z.output<typeof Fault>): FileProblem {
  const text = draft.texts.get(statement.file) ?? "";
  const place = positionOf(text, statement.offset + unitsOf(statement.text, fault.start));
  return { file: statement.file, ...place, at: "", problem: told(fault) };
}

function whole({ file, line, column }: Statement, problem: string): FileProblem {
  return { file, line, column, at: "", problem };
}

function told({ message, help }: { readonly message: string; readonly help: string }): string {
  return help === "" ? message : `${message} (${help})`;
}
