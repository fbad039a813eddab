import type { Entry } from "../../daemon/audit/record.ts";
import { createPolicies, type Policies, type PoliciesParts } from "../../daemon/policies.ts";
import type { CedarOrder, CedarProcess } from "../../daemon/ports.ts";
import { openWarm, question, situation, small, USER } from "./policies.ts";

/** What stands for Cedar's judgement of questions. */
export type Judge = (questions: readonly { readonly resource: { readonly id: string } }[]) => Promise<string>;
/** Everything is allowed, by the policy that is named. */
export const judgeAs =
  (by: string): Judge =>
  (questions) =>
    Promise.resolve(JSON.stringify(questions.map(() => ({ decision: "allow", reasons: [by], errors: [] }))));

export const CASE = (by: string) =>
  `cases: [{ who: "User::1", action: recall, resource: "memory::n", mode: OPEN, answer: allow, by: [${by}] }]`;
/** A set with one policy that allows what ASKED asks. */
export const good = (id: string) =>
  small(`@id("${id}") permit (principal, action == Action::"recall", resource);`, CASE(id));
export const ASKED = question("recall", ["memory", "n"]);

const made: Policies[] = [];

/** For afterEach. */
export function stopPolicies(): void {
  for (const policies of made.splice(0)) policies.stop();
}

/** The real policies, with files and a memory of the test's; read by Cedar itself, judged as the test says. */
export function startPolicies(change: Partial<PoliciesParts> & { judge?: Judge } = {}) {
  const records: Entry[] = [];
  const disagreed: string[] = [];
  const kept = {
    text: null as string | null,
    load: () => kept.text,
    save: (text: string) => {
      kept.text = text;
    },
  };
  const host = { files: good("a"), judge: change.judge ?? judgeAs("a"), opened: 0, kept };
  function openCedar(): CedarProcess {
    const warm = openWarm();
    host.opened++;
    return {
      end: () => undefined,
      ask: (order: CedarOrder) => {
        if (order.kind === "load") return Promise.resolve("{}");
        return order.kind === "judge" ? host.judge(JSON.parse(order.questions)) : warm.ask(order);
      },
    };
  }
  const policies = createPolicies({
    version: "1",
    files: () => host.files,
    entities: () => null,
    openCedar,
    kept: host.kept,
    memory: { kept: "", disputed: [] },
    refereeEvery: 1,
    random: () => 0.5,
    record: (entry) => void records.push(entry),
    disagreed: (digest) => void disagreed.push(digest),
    unjudged: () => undefined,
    opLog: { info: () => undefined, warn: () => undefined, error: () => undefined },
    ...change,
  });
  made.push(policies);
  const answer = () => policies.answer(ASKED, USER, situation());
  const kinds = () => records.map(({ kind }) => kind);
  return { policies, records, kinds, disagreed, host, answer };
}
