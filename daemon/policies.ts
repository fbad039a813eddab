import { createHash } from "node:crypto";
import type { Entry } from "./audit/record.ts";
import type { AccessRequest } from "./core/access.ts";
import { BoundaryError, renderErrorChain } from "./core/errors.ts";
import { answerRequest, type PolicyAnswer, refusal } from "./policy/answer.ts";
import type { AskedSituation, Principal } from "./policy/entities.ts";
import { type RawFile, renderFileProblem } from "./policy/policy-files.ts";
import type { PolicySet } from "./policy/policy-set.ts";
import { type Registry, withKnown } from "./policy/registry.ts";
import { loadPolicies } from "./policy-load.ts";
import { createReferee, type Dispute, type RefereeState } from "./policy-referee.ts";
import type { CedarThread, OpLog } from "./ports.ts";

export type PoliciesParts = {
  /** The files of the policy directory. Throws BoundaryError. */
  readonly files: () => readonly RawFile[];
  /** The registry's text; null where none is configured. Throws BoundaryError. */
  readonly entities: () => { readonly path: string; readonly text: string } | null;
  readonly openCedar: () => CedarThread;
  /** One in so many answers is held against Cedar's own. */
  readonly refereeEvery: number;
  /** In [0, 1). */
  readonly random: () => number;
  readonly record: (entry: Entry) => void;
  /** The compiled policies and Cedar have answered differently. */
  readonly disagreed: (digest: string, detail: string) => void;
  readonly opLog: OpLog;
};

/** What the status shows of policy. */
export type PoliciesState = {
  /** loading: none is there yet. unavailable: none could be loaded. disagreed: nothing is allowed any more. */
  readonly state: "loading" | "ready" | "unavailable" | "disagreed";
  /** Of the set that answers; "" when none does. */
  readonly digest: string;
  readonly policies: number;
  /** Why the last load was refused, or what was disagreed about; "" when nothing is wrong. */
  readonly why: string;
  readonly referee: RefereeState;
};

export type LoadedPolicies = {
  readonly digest: string;
  readonly policies: number;
  readonly changed: boolean;
};

/** The policies: one set at a time, whole or not at all. */
export type Policies = {
  /** Answers on the set of this instant. Never throws; denies whatever cannot be asked. */
  readonly answer: (request: AccessRequest, principal: Principal, situation: AskedSituation) => PolicyAnswer;
  /**
   * Reads everything anew and takes it up, or changes nothing; one at a time. `by` is recorded. Rejects BoundaryError
   * "policy-invalid" with every fault and its place.
   */
  readonly load: (by: string) => Promise<LoadedPolicies>;
  /** Settles when the first load has, whatever came of it: until then every answer is "policy-unavailable". */
  readonly settled: () => Promise<void>;
  /** SHA-256 of the set that answers, hex; "" when none does. */
  readonly digest: () => string;
  readonly state: () => PoliciesState;
  /** Who and what is known, and the set that answers; null when none does. */
  readonly current: () => { readonly set: PolicySet; readonly registry: Registry } | null;
  /** The question with what is known of its resource: for the ceilings. `answer` takes the question as it came. */
  readonly withKnown: (request: AccessRequest) => AccessRequest;
  readonly stop: () => void;
};

type Current = { readonly set: PolicySet; readonly registry: Registry };

const MAX_TOLD = 20;
const MAX_LINE = 500;
const MAX_QUESTION = 16_384;

/** Nothing is loaded yet: call `load`. */
export function createPolicies(parts: PoliciesParts): Policies {
  let current: Current | null = null;
  let attempted = false;
  let why = "";
  let disputed: { readonly digest: string; readonly why: string } | null = null;
  let counted = 0;
  let before: Promise<unknown> = Promise.resolve();
  const first = Promise.withResolvers<void>();
  const referee = createReferee({
    open: parts.openCedar,
    random: parts.random,
    onDispute,
    onFailed: (error) => parts.opLog.warn({ err: renderErrorChain(error) }, "the policy referee cannot work"),
  });

  function onDispute({ set, question, detail }: Dispute): void {
    if (disputed !== null) return;
    disputed = { digest: set.digest, why: detail };
    const asked = question.length > MAX_QUESTION ? `${question.slice(0, MAX_QUESTION)} …` : question;
    parts.opLog.error(
      { digest: set.digest, detail },
      "policy disagreed with Cedar: nothing is allowed any more",
    );
    parts.record({ kind: "policy.disagreed", data: { digest: set.digest, detail: clip(detail), asked } });
    parts.disagreed(set.digest, clip(detail));
  }

  function answer(request: AccessRequest, principal: Principal, situation: AskedSituation): PolicyAnswer {
    if (disputed !== null) return refusal(new BoundaryError("policy-disagreed", ""));
    if (current === null) return refusal(new BoundaryError("policy-unavailable", ""));
    const { set, registry } = current;
    const found = answerRequest(set, registry, request, principal, situation);
    if (found.asked !== null && ++counted >= parts.refereeEvery) {
      counted = 0;
      referee.hold(set, found.asked.question, found.asked.ruling);
    }
    return found.answer;
  }

  async function loadOne(by: string): Promise<LoadedPolicies> {
    const made = await make(parts);
    attempted = true;
    if ("problems" in made) {
      const lines = made.problems.slice(0, MAX_TOLD).map(clip);
      why = made.problems[0] ?? "";
      const more = Math.max(0, made.problems.length - lines.length);
      parts.record({ kind: "policy.refused", data: { by, problems: lines, more } });
      parts.opLog.error(
        { problems: lines, more, kept: current?.set.digest ?? "" },
        "the policies are not taken up",
      );
      throw new BoundaryError(
        "policy-invalid",
        [...lines, ...(more > 0 ? [`… and ${more} more`] : [])].join("\n"),
      );
    }
    const { set, registry, entities, files } = made;
    const changed = current?.set.digest !== set.digest;
    // what was disagreed about stays: the same policies would be answered in the same way
    if (disputed !== null && disputed.digest !== set.digest) disputed = null;
    current = { set, registry };
    why = "";
    referee.forget();
    const { digest, notes } = set;
    parts.record({ kind: "policy.loaded", data: { by, digest, files, policies: notes.size, entities } });
    return { digest, policies: notes.size, changed };
  }

  return {
    answer,
    load: (by) => {
      const mine = before.then(() => loadOne(by));
      before = mine.then(
        () => first.resolve(),
        () => first.resolve(),
      );
      return mine;
    },
    settled: () => first.promise,
    digest: () => current?.set.digest ?? "",
    current: () => current,
    withKnown: (request) =>
      current === null ? request : withKnown(current.set.shapes, current.registry, request),
    state: () => ({
      state:
        disputed !== null ? "disagreed" : current !== null ? "ready" : attempted ? "unavailable" : "loading",
      digest: current?.set.digest ?? "",
      policies: current?.set.notes.size ?? 0,
      why: disputed?.why ?? why,
      referee: referee.state(),
    }),
    stop: referee.stop,
  };
}

type Made =
  | (Current & { readonly entities: string; readonly files: number })
  | { readonly problems: readonly string[] };

async function make({ files: read, entities: readEntities, openCedar }: PoliciesParts): Promise<Made> {
  try {
    const files = read();
    const entities = readEntities();
    const loaded = await loadPolicies(files, entities, openCedar);
    if (!loaded.ok) return { problems: loaded.problems.map(renderFileProblem) };
    const digest = entities === null ? "" : createHash("sha256").update(entities.text).digest("hex");
    return { set: loaded.set, registry: loaded.registry, entities: digest, files: files.length };
  } catch (error) {
    return { problems: [renderErrorChain(error)] };
  }
}

function clip(text: string): string {
  return text.length > MAX_LINE ? `${text.slice(0, MAX_LINE)} …` : text;
}

/** The status's row. */
export function policyClaim({ state, digest, policies, why, referee }: PoliciesState): {
  readonly state: "observed" | "failed";
  readonly detail: string;
} {
  const judged = `referee ${referee.state}, ${referee.judged} judged${referee.why === "" ? "" : `: ${referee.why}`}`;
  switch (state) {
    case "loading":
      return { state: "observed", detail: "being loaded; what policy is asked about is denied until then" };
    case "unavailable":
      return { state: "failed", detail: `what policy is asked about is denied: ${why}` };
    case "disagreed":
      return { state: "failed", detail: `what policy is asked about is denied; Cedar disagreed: ${why}` };
    case "ready": {
      const kept = why === "" ? "" : `; the last load was refused: ${why}`;
      return {
        state: referee.state === "failed" ? "failed" : "observed",
        detail: `${policies} policies, set ${digest.slice(0, 16)}; ${judged}${kept}`,
      };
    }
  }
}
