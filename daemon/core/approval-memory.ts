import type { Data, LogRecord } from "../audit/record.ts";
import type { Approval, Asker } from "./approval.ts";
import { readMoment } from "./limit-memory.ts";
import { isCount, isData } from "./record-value.ts";

/**
 * What the log says of approvals: each `approval.requested` as it is, with its `approved` or `denied` beside it, until an
 * `approval.expired` or `.used` ends it. No more than is told in docs/LOG_FORMAT.md: other verifiers do the same.
 */
export function foldApprovals(held: readonly Data[], { kind, data }: LogRecord): readonly Data[] {
  const { id } = data;
  if (typeof id !== "string") return held;
  const others = held.filter((one) => one["id"] !== id);
  const found = held.find((one) => one["id"] === id);
  switch (kind) {
    case "approval.requested":
      return [...others, data].slice(-MAX_HELD);
    case "approval.approved":
      return found === undefined ? held : [...others, { ...found, approved: data }];
    case "approval.denied":
      return found === undefined ? held : [...others, { ...found, denied: data }];
    default:
      return others;
  }
}

/** The configuration allows no more (`approvals.maxPending`). */
const MAX_HELD = 16;

/** What the fold holds. What cannot be read gives nobody anything: it is left out. */
export function readApprovals(held: readonly Data[]): readonly Approval[] {
  return held.flatMap((one) => readApproval(one) ?? []);
}

function readApproval(data: Data): Approval | null {
  const { id, digest, what, lifeMs, approved, denied } = data;
  const by = readAsker(data);
  const asked = readMoment(data);
  if (typeof id !== "string" || typeof digest !== "string" || typeof what !== "string") return null;
  if (by === null || asked === null || !isCount(lifeMs)) return null;
  const open = { id, digest, by, what, asked, lifeMs } as const;
  if (denied !== undefined) {
    const name = isData(denied) ? denied["by"] : undefined;
    return { ...open, what: "", answer: { kind: "denied", by: typeof name === "string" ? name : "" } };
  }
  if (approved === undefined) return { ...open, answer: { kind: "pending" } };
  const answer = isData(approved) ? readGrant(approved) : null;
  return answer === null ? null : { ...open, answer };
}

function readGrant(data: Data): Extract<Approval["answer"], { kind: "approved" }> | null {
  const { by, useMs, epoch } = data;
  const at = readMoment(data);
  if (at === null || typeof by !== "string" || !isCount(useMs) || !isCount(epoch)) return null;
  return { kind: "approved", by, at, useMs, epoch };
}

function readAsker({ uid, tokenId, tree, principal }: Data): Asker | null {
  if (!isCount(uid) || typeof tokenId !== "string" || typeof tree !== "string") return null;
  return typeof principal === "string" ? { uid, tokenId, tree, principal } : null;
}
