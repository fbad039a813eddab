import type { Data, LogRecord, Value } from "../audit/record.ts";
import { type Approval, type Asker, isForgotten } from "./approval.ts";
import type { Moment } from "./elapsed.ts";
import { momentOf } from "./limit-memory.ts";
import { isCount, isData, readList } from "./record-value.ts";

/**
 * What the log says of approvals: what waits, what was approved and not used, what was denied lately. A record that cannot
 * be read gives nobody anything: what it is about is gone.
 */
export function foldApprovals(held: readonly Approval[], record: LogRecord): readonly Approval[] {
  const { id } = record.data;
  if (typeof id !== "string") return held;
  const now = momentOf(record);
  const others = held.filter((one) => one.id !== id && !isForgotten(one, now));
  const found = held.find((one) => one.id === id);
  const changed = changedBy(record, found);
  return changed === null ? others : [...others, changed].slice(-MAX_HELD);
}

/** The configuration allows no more (`approvals.maxPending`). */
const MAX_HELD = 16;

function changedBy(record: LogRecord, found: Approval | undefined): Approval | null {
  const { data, boot } = record;
  if (record.kind === "approval.requested") return found === undefined ? readAsked(data, boot) : null;
  if (found === undefined) return null;
  if (record.kind === "approval.approved") return withGrant(found, data, boot);
  if (record.kind !== "approval.denied" || data["why"] !== "person" || typeof data["by"] !== "string")
    return null;
  return { ...found, what: "", answer: { kind: "denied", by: data["by"] } };
}

function readAsked(data: Data, boot: string): Approval | null {
  const { id, digest, what, lifeMs } = data;
  const by = readAsker(data);
  const asked = readMoment(data, boot);
  if (typeof id !== "string" || typeof digest !== "string" || typeof what !== "string") return null;
  if (by === null || asked === null || !isCount(lifeMs)) return null;
  return { id, digest, by, what, asked, lifeMs, answer: { kind: "pending" } };
}

function withGrant(found: Approval, data: Data, boot: string): Approval | null {
  const { by, useMs, epoch } = data;
  const at = readMoment(data, boot);
  if (found.answer.kind !== "pending" || at === null || typeof by !== "string") return null;
  if (!isCount(useMs) || !isCount(epoch)) return null;
  return { ...found, answer: { kind: "approved", by, at, useMs, epoch } };
}

/** As a snapshot holds them. */
export function renderApprovals(held: readonly Approval[]): readonly Data[] {
  return held.map(({ id, digest, by, what, asked, lifeMs, answer }) => ({
    id,
    digest,
    ...by,
    what,
    ...asked,
    lifeMs,
    answer: answer.kind === "approved" ? { ...answer, at: { ...answer.at } } : { ...answer },
  }));
}

/** What a snapshot holds; null when it cannot be read. */
export function readApprovals(value: Value | undefined): readonly Approval[] | null {
  return readList(value, readApproval);
}

function readApproval(data: Data): Approval | null {
  const { boot, answer } = data;
  if (typeof boot !== "string" || !isData(answer)) return null;
  const asked = readAsked(data, boot);
  if (asked === null || answer["kind"] === "pending") return asked;
  if (answer["kind"] === "denied") {
    const { by } = answer;
    return typeof by === "string" ? { ...asked, answer: { kind: "denied", by } } : null;
  }
  const { at } = answer;
  if (answer["kind"] !== "approved" || !isData(at) || typeof at["boot"] !== "string") return null;
  return withGrant(asked, { ...answer, ...at }, at["boot"]);
}

function readAsker({ uid, tokenId, tree, principal }: Data): Asker | null {
  if (!isCount(uid) || typeof tokenId !== "string" || typeof tree !== "string") return null;
  return typeof principal === "string" ? { uid, tokenId, tree, principal } : null;
}

function readMoment({ wallMs, monoMs }: Data, boot: string): Moment | null {
  return isCount(wallMs) && isCount(monoMs) ? { wallMs, monoMs, boot } : null;
}
