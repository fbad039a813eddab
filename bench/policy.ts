import * as cedar from "@cedar-policy/cedar-wasm/nodejs";
import { collectGarbage } from "../daemon/adapters/garbage.ts";
import { type CedarRequest, type Compiled, compilePolicies } from "../daemon/policy/cedar-decide.ts";
import { createEntities, type Entities } from "../daemon/policy/cedar-entities.ts";
import { answerText, parseExact } from "../daemon/policy/cedar-exact.ts";
import { readRecord } from "../daemon/policy/cedar-read.ts";
import type { BenchRow } from "./row.ts";

/**
 * The compiled evaluator against cedar-wasm's stateful call, which has its policies parsed beforehand: the same policies,
 * entities and requests, in turn, in one process. Both have to give the same answers, or there are no figures.
 */
const SIZES = [10, 100, 1_000];
const ACTIONS = [
  "command.run",
  "tool.run",
  "file.read",
  "file.write",
  "network.connect",
  "recall",
  "io",
  "secret.read",
];
const WARM_UP = 20_000;
const ROUNDS = 200_000;
const CEDAR_WARM_UP = 200;
const CEDAR_ROUNDS = 2_000;
/** A single answer takes less than the clock's own cost: so many are timed together. */
const BATCH = 10;
const RATIO_AIM = 50;
const P50_AIM_US = 10;

type Question = { readonly plain: cedar.AuthorizationCall; readonly ours: CedarRequest };
type Loading = { readonly compiled: Compiled; readonly ms: number; readonly kib: number };
type Times = { readonly p50: number; readonly p99: number };

const CONTEXT = {
  privilege: 2,
  isolation: 2,
  assurance: "enforced",
  frozen: false,
  approved: false,
  leases: ["backup", "night-run"],
  taint: ["web"],
  interface: "lan0",
  peer: { __extn: { fn: "ip", arg: "10.1.2.3" } },
};

const ENTITIES = [
  { uid: uid("Agent", "summariser"), attrs: { workspace: "w1" }, parents: [uid("Role", "operator")] },
  { uid: uid("User", "ada"), attrs: { workspace: "w2" }, parents: [uid("Role", "admin")] },
  { uid: uid("Role", "admin"), attrs: {}, parents: [uid("Role", "operator")] },
  { uid: uid("Role", "operator"), attrs: {}, parents: [uid("Role", "readonly")] },
  { uid: uid("Memory", "m1"), attrs: { class: 3, workspace: "w1", path: "/srv/w1/notes" }, parents: [] },
  { uid: uid("Memory", "m2"), attrs: { class: 5, workspace: "w2", path: "/srv/w2/keys" }, parents: [] },
];

export async function benchPolicy(): Promise<readonly BenchRow[]> {
  const rows: BenchRow[] = [];
  for (const size of SIZES) rows.push(...(await rowsOf(size)));
  return rows;
}

async function rowsOf(size: number): Promise<readonly BenchRow[]> {
  const texts = Object.fromEntries(Array.from({ length: size }, (_, at) => [`p${at}`, policyText(at)]));
  const json = {
    staticPolicies: Object.fromEntries(Object.entries(texts).map(([id, text]) => [id, jsonOf(text)])),
  };
  const loading = await loadOf(json);
  const { compiled } = loading;
  const entities = createEntities(ENTITIES);
  const parsing = performance.now();
  cedar.preparsePolicySet("bench", { staticPolicies: texts });
  const parseMs = performance.now() - parsing;
  const questions = questionsOf();
  for (const question of questions) compare(question, compiled, entities);

  const alone = timesOf(WARM_UP, ROUNDS, BATCH, (at) => {
    compiled.decide((questions[at % questions.length] as Question).ours, entities);
  });
  const whole = timesOf(WARM_UP, ROUNDS, BATCH, (at) => {
    const { ours, plain } = questions[at % questions.length] as Question;
    compiled.decide({ ...ours, context: readRecord(plain.context, "context") }, createEntities(ENTITIES));
  });
  const rival = timesOf(CEDAR_WARM_UP, CEDAR_ROUNDS, 1, (at) => {
    ask((questions[at % questions.length] as Question).plain);
  });
  const against = (mine: number, share: keyof Times) => ({
    unit: "µs",
    rival: `cedar-wasm, stateful (${rival[share].toFixed(0)} µs)`,
    ratio: mine / rival[share],
  });
  const what = `${size.toLocaleString("en")} policies`;
  const faster = rival.p50 / alone.p50;
  return [
    {
      ...against(alone.p50, "p50"),
      what: `${what}: decide, p50 (${faster.toFixed(0)} times as fast)`,
      value: round(alone.p50),
      aim: size === 100 ? `≤ ${P50_AIM_US} µs and ≥ ${RATIO_AIM} times` : `≥ ${RATIO_AIM} times`,
      met: faster >= RATIO_AIM && (size !== 100 || alone.p50 <= P50_AIM_US),
    },
    {
      ...against(alone.p99, "p99"),
      what: `${what}: decide, p99`,
      value: round(alone.p99),
      aim: "",
      met: null,
    },
    {
      ...against(whole.p50, "p50"),
      what: `${what}: read context and ${ENTITIES.length} entities, then decide, p50`,
      value: round(whole.p50),
      aim: "",
      met: null,
    },
    {
      what: `${what}: compile`,
      value: round(loading.ms),
      unit: "ms",
      rival: `cedar-wasm's parsing of the text (${parseMs.toFixed(0)} ms)`,
      ratio: loading.ms / parseMs,
      aim: "",
      met: null,
    },
    { what: `${what}: memory`, value: loading.kib, unit: "KiB", rival: "", ratio: null, aim: "", met: null },
  ];
}

/** Five kinds in turn; one in ten forbids. No two name the same role, workspace and rank. */
function policyText(at: number): string {
  const effect = at % 10 === 9 ? "forbid" : "permit";
  const action = `action == Action::"${ACTIONS[at % ACTIONS.length]}"`;
  const role = ["readonly", "operator", "admin"][at % 3];
  const conditions = [
    `context.privilege <= ${at % 6} && context.assurance == "enforced"`,
    `resource.workspace == principal.workspace && resource.class <= ${at % 5}`,
    `context.leases.contains("lease-${at}") || context.approved`,
    `resource.path like "/srv/w${at % 7}/*" && context.peer.isInRange(ip("10.${at % 250}.0.0/16"))`,
    `context has interface && ["lan${at % 4}", "lan9"].contains(context.interface) && !context.taint.contains("secret")`,
  ];
  const unless = effect === "forbid" ? " unless { context.privilege > 0 }" : " unless { context.frozen }";
  return `${effect}(principal in Role::"${role}", ${action}, resource is Memory) when { ${conditions[at % 5]} }${unless};`;
}

function questionsOf(): readonly Question[] {
  return ACTIONS.flatMap((action) =>
    [uid("Agent", "summariser"), uid("User", "ada")].flatMap((principal) =>
      ["m1", "m2"].map((id) => {
        const request = { principal, action: uid("Action", action), resource: uid("Memory", id) };
        const plain = { ...request, context: CONTEXT, entities: ENTITIES, policies: {} };
        return { plain, ours: { ...request, context: readRecord(CONTEXT, "context") } };
      }),
    ),
  );
}

function ask({ principal, action, resource, context, entities }: cedar.AuthorizationCall): cedar.Response {
  const answer = cedar.statefulIsAuthorized({
    principal,
    action,
    resource,
    context,
    entities,
    preparsedPolicySetId: "bench",
  });
  if (answer.type === "failure") throw new Error(answer.errors.map((error) => error.message).join());
  return answer.response;
}

function compare({ plain, ours }: Question, compiled: Compiled, entities: Entities): void {
  const { decision, diagnostics } = ask(plain);
  const answer = compiled.decide(ours, entities);
  const theirs = [
    decision,
    diagnostics.reason.toSorted(),
    diagnostics.errors.map((one) => one.policyId).sort(),
  ];
  const mine = [answer.decision, answer.reasons, answer.errors.map((one) => one.policy)];
  if (JSON.stringify(mine) !== JSON.stringify(theirs))
    throw new Error(`${JSON.stringify(mine)}, not ${JSON.stringify(theirs)}`);
}

async function loadOf(json: unknown): Promise<Loading> {
  await collectGarbage();
  const before = process.memoryUsage().heapUsed;
  const start = performance.now();
  const compiled = compilePolicies(json);
  const ms = performance.now() - start;
  await collectGarbage();
  return { compiled, ms, kib: Math.round((process.memoryUsage().heapUsed - before) / 1024) };
}

function timesOf(warmUp: number, rounds: number, batch: number, once: (at: number) => void): Times {
  for (let at = 0; at < warmUp; at++) once(at);
  const times: number[] = [];
  for (let at = 0; at < rounds; at += batch) {
    const start = performance.now();
    for (let inner = 0; inner < batch; inner++) once(at + inner);
    times.push(((performance.now() - start) * 1000) / batch);
  }
  times.sort((a, b) => a - b);
  const share = (part: number) => times[Math.floor((times.length - 1) * part)] ?? 0;
  return { p50: share(0.5), p99: share(0.99) };
}

function jsonOf(text: string): unknown {
  return (parseExact(answerText(() => cedar.policyToJson(text))) as { readonly json: unknown }).json;
}

function uid(type: string, id: string): { readonly type: string; readonly id: string } {
  return { type, id };
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
