import { type CedarAnswer, type Compiled, compilePolicies } from "../../daemon/policy/cedar-decide.ts";
import { createEntities, type Entities } from "../../daemon/policy/cedar-entities.ts";
import { parseExact } from "../../daemon/policy/cedar-exact.ts";
import { readRecord } from "../../daemon/policy/cedar-read.ts";
import { type CedarSchema, readSchema } from "../../daemon/policy/cedar-schema.ts";
import { entityKey } from "../../daemon/policy/cedar-value.ts";
import { type Case, type Corpus, readCorpus } from "./cases.ts";
import type { Parsed } from "./cedar-thread.ts";
import { type Parser, startParser } from "./parser.ts";

/**
 * `npm run test:corpus`: the compiled evaluator on all of Cedar's published integration tests, hand-written and
 * generated. Each request is a test: decision, reasons and the ids of the policies that err have to be those published.
 *
 * cedar-wasm only parses: the policies to JSON, the schema to JSON. With the schema, plainly written extension values
 * and entities are read as their types say, and the actions get their groups, as Cedar's own runner has it.
 * `shouldValidate` is a test of its own for each file: what we hold as validator has to say the same.
 * `validateRequest` asks Cedar's runner to hold the request against the schema before it is answered. All generated
 * requests pass that with cedar-wasm too (tried once); our answer does not depend on it, so such a request is answered like any other.
 */
type Request = Case["requests"][number];
type Loaded = { readonly compiled: Compiled; readonly entities: Entities; readonly schema: CedarSchema };

const PROGRESS_EVERY = 1_000;

const started = performance.now();
const corpus = readCorpus();
const parser = startParser();
const failed: string[] = [];
let passed = 0;
let validated = 0;
for (const [at, one] of corpus.cases.entries()) {
  if (at > 0 && at % PROGRESS_EVERY === 0) console.log(`${at} files, ${failed.length} failures so far`);
  await runCase(one, corpus, parser);
}
await parser.close();
const seconds = ((performance.now() - started) / 1000).toFixed(0);
console.log(`${corpus.cases.length} files, ${validated} of them validated as published, in ${seconds} s`);
for (const failure of failed) console.log(`FAILED ${failure}`);
console.log(`${passed} passed, ${failed.length} failed`);
process.exitCode = failed.length === 0 && passed > 0 ? 0 : 1;

async function runCase(one: Case, { text }: Corpus, { parse }: Parser): Promise<void> {
  try {
    const parsed = await parse(text(one.policies), text(one.schema));
    if (parsed.valid === one.shouldValidate) validated++;
    else failed.push(`${one.name}: validation: ${parsed.valid}, published ${one.shouldValidate}`);
    const loaded = load(parsed, parseExact(text(one.entities)) as readonly unknown[]);
    for (const request of one.requests) check(one, request, loaded);
  } catch (error) {
    // none of its requests was answered: each of them failed
    for (const { description } of one.requests) failed.push(`${one.name}: ${description}: ${String(error)}`);
  }
}

function load(parsed: Parsed, entities: readonly unknown[]): Loaded {
  const ids = parsed.policies.map((_, at) => `policy${at}`).sort();
  const policies = parsed.policies.map((text, at) => [ids[at] ?? "", answered(text)] as const);
  const schema = readSchema(answered(parsed.schema));
  const isInSchema = (entity: unknown) => {
    const { type, id } = (entity as { uid: { type: string; id: string } }).uid;
    return schema.contexts.has(entityKey(type, id));
  };
  const known = entities.filter((entity) => !isInSchema(entity));
  return {
    compiled: compilePolicies({ staticPolicies: Object.fromEntries(policies) }),
    entities: createEntities([...schema.actions, ...known], { types: schema.types }),
    schema,
  };
}

function answered(text: string): unknown {
  const answer = parseExact(text) as { readonly type: string; readonly json: unknown };
  if (answer.type !== "success") throw new Error(`cedar-wasm: ${text}`);
  return answer.json;
}

function check(one: Case, request: Request, { compiled, entities, schema }: Loaded): void {
  const { principal, action, resource } = request;
  const type = schema.contexts.get(entityKey(action.type, action.id)) ?? null;
  try {
    const context = readRecord(request.context, "context", type);
    const got = compiled.decide({ principal, action, resource, context }, entities);
    if (told(got) === published(request)) passed++;
    else failed.push(`${one.name}: ${request.description}: ${told(got)}, published ${published(request)}`);
  } catch (error) {
    failed.push(`${one.name}: ${request.description}: ${String(error)}`);
  }
}

function told({ decision, reasons, errors }: CedarAnswer): string {
  return line(
    decision,
    reasons,
    errors.map(({ policy }) => policy),
  );
}

function published({ decision, reason, errors }: Request): string {
  return line(decision, reason, errors);
}

function line(decision: string, reasons: readonly string[], errors: readonly string[]): string {
  return `${decision} by [${reasons.toSorted().join()}], errors in [${errors.toSorted().join()}]`;
}
