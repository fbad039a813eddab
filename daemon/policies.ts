import { hash } from "node:crypto";
import type { Data, Entry } from "./audit/record.ts";
import type { AccessRequest } from "./core/access.ts";
import { BoundaryError, renderErrorChain } from "./core/errors.ts";
import { answerRequest, type PolicyAnswer, refusal } from "./policy/answer.ts";
import type { AskedSituation, Principal } from "./policy/entities.ts";
import { type RawFile, renderFileProblem } from "./policy/policy-files.ts";
import type { PolicySet } from "./policy/policy-set.ts";
import { type Registry, withKnown } from "./policy/registry.ts";
import { loadPolicies, takeUpKept } from "./policy-load.ts";
import { createReferee, type Dispute, type RefereeState } from "./policy-referee.ts";
import type { CedarThread, KeptPolicies, OpLog } from "./ports.ts";

export type PoliciesParts = {
  /** The files of the policy directory. Throws BoundaryError. */
  readonly files: () => readonly RawFile[];
  /** The registry's text; null where none is configured. Throws BoundaryError. */
  readonly entities: () => { readonly path: string; readonly text: string } | null;
  readonly openCedar: () => CedarThread;
  /** The set that was taken up last, as text. What it is worth, `memory` says. `load`: null where there is none. */
  readonly kept: KeptPolicies;
  /** What the log says of the time before. */
  readonly memory: PolicyMemory;
  /** One in so many answers is held against Cedar's own. */
  readonly refereeEvery: number;
  /** In [0, 1). */
  readonly random: () => number;
  readonly record: (entry: Entry) => void;
  /** The compiled policies and Cedar have answered differently. */
  readonly disagreed: (digest: string, detail: string) => void;
  readonly opLog: OpLog;
};

/** As the fold has it. */
export type PolicyMemory = {
  /** SHA-256 of the kept text, hex, and the digest of a set that Cedar disagreed with; "" for none. */
  readonly kept: string;
  readonly disputed: string;
};

/** Reads the fold's `policies`. What cannot be read vouches for nothing. */
export function readPolicyMemory(data: Data): PolicyMemory {
  const { kept, disputed } = data;
  return {
    kept: typeof kept === "string" ? kept : "",
    disputed: typeof disputed === "string" ? disputed : "",
  };
}

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
  let disputed: { readonly digest: string; readonly why: string } | null =
    parts.memory.disputed === "" ? null : { digest: parts.memory.disputed, why: "before this start" };
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
    const made = await make(parts, attempted ? "" : parts.memory.kept);
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
    const { set, registry, entities, files, kept } = made;
    const changed = current?.set.digest !== set.digest;
    // what was disagreed about stays: the same policies would be answered in the same way
    if (disputed !== null && disputed.digest !== set.digest) disputed = null;
    current = { set, registry };
    why = "";
    referee.forget();
    const { digest, notes } = set;
    const data = { by, digest, files, policies: notes.size, entities, kept: keep(kept) };
    parts.record({ kind: "policy.loaded", data });
    return { digest, policies: notes.size, changed };
  }

  /** For the next start, which reads all anew where this fails. Gives its digest, for the log to sign. */
  function keep(text: string): string {
    try {
      parts.kept.save(text);
      return hash("sha256", text);
    } catch (error) {
      parts.opLog.warn({ err: renderErrorChain(error) }, "the policies are not kept for the next start");
      return "";
    }
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
  | (Current & { readonly entities: string; readonly files: number; readonly kept: string })
  | { readonly problems: readonly string[] };

async function make(parts: PoliciesParts, signed: string): Promise<Made> {
  try {
    const files = parts.files();
    const entities = parts.entities();
    const kept = signed === "" ? null : parts.kept.load();
    const proven =
      kept !== null && hash("sha256", kept) === signed ? takeUpKept(kept, files, entities) : null;
    const loaded = proven ?? (await loadPolicies(files, entities, parts.openCedar));
    if (!loaded.ok) return { problems: loaded.problems.map(renderFileProblem) };
    const { set, registry } = loaded;
    const digest = entities === null ? "" : hash("sha256", entities.text);
    return { set, registry, entities: digest, files: files.length, kept: loaded.kept };
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
