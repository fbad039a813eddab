import { hash } from "node:crypto";
import type { Data, Entry } from "./audit/record.ts";
import type { AccessRequest } from "./core/access.ts";
import { BoundaryError, renderErrorChain } from "./core/errors.ts";
import { answerRequest, type PolicyAnswer, refusal } from "./policy/answer.ts";
import type { CedarQuestion } from "./policy/cedar-question.ts";
import type { AskedSituation, Principal } from "./policy/entities.ts";
import { type RawFile, renderFileProblem } from "./policy/policy-files.ts";
import type { PolicySet } from "./policy/policy-set.ts";
import { type Registry, withKnown } from "./policy/registry.ts";
import { loadPolicies, takeUpKept } from "./policy-load.ts";
import { createReferee, type Dispute, type RefereeState, type Untaken } from "./policy-referee.ts";
import type { CedarProcess, KeptPolicies, OpLog } from "./ports.ts";

export type PoliciesParts = {
  /** The files of the policy directory. Throws BoundaryError. */
  readonly files: () => readonly RawFile[];
  /** The registry's text; null where none is configured. Throws BoundaryError. */
  readonly entities: () => { readonly path: string; readonly text: string } | null;
  readonly openCedar: () => CedarProcess;
  /** The set that was taken up last, as text. What it is worth, `memory` says. `load`: null where there is none. */
  readonly kept: KeptPolicies;
  /** Our own: another one may read other policies in the same files, and does not take up what this one has kept. */
  readonly version: string;
  /** What the log says of the time before. */
  readonly memory: PolicyMemory;
  /** One in so many answers is held against Cedar's own. */
  readonly refereeEvery: number;
  /** In [0, 1). */
  readonly random: () => number;
  readonly record: (entry: Entry) => void;
  /** The referee cannot work any more: said once, until it works again. */
  readonly unjudged: (why: string) => void;
  /** The compiled policies and Cedar have answered differently. */
  readonly disagreed: (digest: string, detail: string) => void;
  readonly opLog: OpLog;
};

/** As the fold has it. */
export type PolicyMemory = {
  /** SHA-256 of the version that kept it and the kept text, hex; "" for none. */
  readonly kept: string;
  /** Of the sets that Cedar disagreed with, the newest: what they are compiled of (`compiledDigest`). */
  readonly disputed: readonly string[];
};

/** Reads the fold's `policies`. What cannot be read vouches for nothing. */
export function readPolicyMemory(data: Data): PolicyMemory {
  const { kept, disputed } = data;
  return {
    kept: typeof kept === "string" ? kept : "",
    disputed: Array.isArray(disputed) ? disputed.filter((each) => typeof each === "string") : [],
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
  /** SHA-256 of the registry's text, hex; "" where there is none. */
  readonly entities: string;
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
  /** Settles when the first load has, whatever came of it: who asks waits for it, since until then every answer is "policy-unavailable". */
  readonly settled: () => Promise<void>;
  /** SHA-256 of the set that answers with its registry, hex; "" when none does. */
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
/** Of questions that Cedar does not take: so many are denied without being asked; the oldest is found out again. */
const MAX_UNTAKEN = 256;

/** Nothing is loaded yet: call `load`. */
export function createPolicies(parts: PoliciesParts): Policies {
  let current: Current | null = null;
  let attempted = false;
  let why = "";
  /** What was disagreed about, by what it is compiled of: it stays so, whatever is loaded in between. */
  const disputed = new Map(parts.memory.disputed.map((digest) => [digest, "before this start"]));
  const untaken = new Set<string>();
  let before: Promise<unknown> = Promise.resolve();
  const first = Promise.withResolvers<void>();
  const referee = createReferee({
    open: parts.openCedar,
    random: parts.random,
    onDispute,
    onUntaken,
    onFailed: (error, isFirst) => {
      const told = clip(renderErrorChain(error));
      parts.opLog.warn({ err: told }, "the policy referee cannot work");
      if (!isFirst) return;
      parts.record({ kind: "policy.unjudged", data: { digest: current?.set.digest ?? "", why: told } });
      parts.unjudged(told);
    },
    onWorks: () => parts.record({ kind: "policy.judged", data: { digest: current?.set.digest ?? "" } }),
  });

  function onDispute({ set, question, detail }: Dispute): void {
    const { digest, compiledDigest: compiled } = set;
    if (disputed.has(compiled)) return;
    disputed.set(compiled, detail);
    const asked = clip(question, MAX_QUESTION);
    parts.opLog.error({ digest, detail }, "policy disagreed with Cedar: this set allows nothing any more");
    parts.record({ kind: "policy.disagreed", data: { digest, compiled, detail: clip(detail), asked } });
    // of a set that is gone: it is told, and it will not be taken up again, but it is not what answers
    if (current?.set.compiledDigest === compiled) parts.disagreed(digest, clip(detail));
  }

  /** Any caller may come upon such a question: it is denied from then on, and no other one is. */
  function onUntaken({ set, question, why: told }: Untaken): void {
    const asked = clip(JSON.stringify(question), MAX_QUESTION);
    parts.opLog.error({ digest: set.digest, why: told }, "Cedar does not take a question that was answered");
    parts.record({ kind: "policy.untaken", data: { digest: set.digest, detail: clip(told), asked } });
    if (set !== current?.set) return;
    const [oldest] = untaken;
    if (untaken.size >= MAX_UNTAKEN && oldest !== undefined) untaken.delete(oldest);
    untaken.add(keyOf(question));
  }

  function answer(request: AccessRequest, principal: Principal, situation: AskedSituation): PolicyAnswer {
    if (current === null) return refusal(new BoundaryError("policy-unavailable", ""));
    if (disputed.has(current.set.compiledDigest)) return refusal(new BoundaryError("policy-disagreed", ""));
    const { set, registry } = current;
    const found = answerRequest(set, registry, request, principal, situation);
    if (found.asked !== null && untaken.size > 0 && untaken.has(keyOf(found.asked.question)))
      return refusal(new BoundaryError("policy-unavailable", "Cedar does not take this question"));
    // by chance: who counted along could ask between two that are judged
    if (found.asked !== null && parts.random() * parts.refereeEvery < 1)
      referee.hold(set, found.asked.question, found.asked.ruling);
    return found.answer;
  }

  async function loadOne(by: string): Promise<LoadedPolicies> {
    const made = await make(parts, attempted ? "" : parts.memory.kept);
    attempted = true;
    if ("problems" in made) {
      const lines = made.problems.slice(0, MAX_TOLD).map((line) => clip(line));
      why = lines[0] ?? "";
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
    current = { set, registry };
    why = "";
    untaken.clear();
    referee.forget();
    const { digest, compiledDigest: compiled, notes } = set;
    const data = { by, digest, compiled, files, policies: notes.size, entities, kept: keep(kept) };
    parts.record({ kind: "policy.loaded", data });
    return { digest, entities, policies: notes.size, changed };
  }

  /** For the next start, which reads all anew where this fails. Gives its digest, for the log to sign. */
  function keep(text: string): string {
    try {
      parts.kept.save(text);
      return keptDigest(parts.version, text);
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
        current === null
          ? attempted
            ? "unavailable"
            : "loading"
          : disputed.has(current.set.compiledDigest)
            ? "disagreed"
            : "ready",
      digest: current?.set.digest ?? "",
      policies: current?.set.notes.size ?? 0,
      why: disputed.get(current?.set.compiledDigest ?? "") ?? why,
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
    const isProven = kept !== null && keptDigest(parts.version, kept) === signed;
    const proven = isProven ? takeUpKept(kept, files, entities) : null;
    const loaded = proven ?? (await loadPolicies(files, entities, parts.openCedar));
    if (!loaded.ok) return { problems: loaded.problems.map(renderFileProblem) };
    const { set, registry } = loaded;
    const digest = entities === null ? "" : hash("sha256", entities.text);
    return { set, registry, entities: digest, files: files.length, kept: loaded.kept };
  } catch (error) {
    return { problems: [renderErrorChain(error)] };
  }
}

function keptDigest(version: string, text: string): string {
  return hash("sha256", `${version}\n${text}`);
}

function clip(text: string, most = MAX_LINE): string {
  return text.length > most ? `${text.slice(0, most)} …` : text;
}

/** Who asks what of what, as Cedar is told it; the circumstances, with their clock, are other ones each time. */
function keyOf({ principal, action, resource, entities }: CedarQuestion): string {
  return hash("sha256", JSON.stringify([principal, action, resource, entities]));
}

/** The status's row. */
export function policyClaim({ state, digest, policies, why, referee }: PoliciesState): {
  readonly state: "observed" | "failed";
  readonly detail: string;
} {
  const judged = `referee ${referee.state}, ${referee.judged} judged${referee.why === "" ? "" : `: ${referee.why}`}`;
  switch (state) {
    case "loading":
      return { state: "observed", detail: "being loaded; what policy is asked about waits until then" };
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
