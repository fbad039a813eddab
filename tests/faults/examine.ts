import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { readOwnVkey } from "../../cli/own-state.ts";
import { readHead } from "../../daemon/adapters/head-file.ts";
import { readLog } from "../../daemon/adapters/log-file.ts";
import type { LogRecord } from "../../daemon/audit/record.ts";
import type { Verdict } from "../../daemon/audit/verdict.ts";
import { verifyLog } from "../../daemon/audit/verify.ts";
import { BoundaryError } from "../../daemon/core/errors.ts";
import type { DaemonHome } from "../support/daemon-process.ts";
import type { Allowed } from "./load.ts";

export type Examined = {
  /** Null: no key was ever made, so there can be no log. */
  readonly verdict: Verdict | null;
  /** What must not be, in words; empty when all is well. */
  readonly problems: readonly string[];
};

type Places = Pick<DaemonHome, "logDir" | "stateDir">;

/**
 * The disk of a daemon that is not running: the log is sound or torn with the key and the head that are there, no
 * record was moved aside, and each allow that a client has seen is a proven record.
 */
export async function examine(
  places: Places,
  allowed: readonly Pick<Allowed, "seq" | "id">[],
): Promise<Examined> {
  const vkey = vkeyIn(places.stateDir);
  if (vkey === null) {
    const lost = allowed.length > 0 ? [`${allowed.length} were allowed, and there is no key`] : [];
    return { verdict: null, problems: lost };
  }
  const decisions = new Map<number, LogRecord>();
  const head = readHead(places.stateDir);
  const verdict = await verifyLog(readLog(places.logDir), {
    vkey,
    ...(head.kind === "note" ? { head: head.note } : {}),
    onRecord: (record) => record.kind === "decision" && decisions.set(record.seq, record),
  });
  const problems = [
    ...brokenOf(verdict, allowed.length),
    ...(head.kind === "unreadable" ? [`the remembered head is unreadable: ${head.why}`] : []),
    ...movedAside(places.logDir),
    ...missingFrom(decisions, verdict.trustworthyUpTo?.seq ?? -1, allowed),
  ];
  return { verdict, problems };
}

/** Null also for one that cannot be read: a start refuses it, and closes. */
function vkeyIn(stateDir: string): string | null {
  try {
    return readOwnVkey(stateDir);
  } catch (error) {
    if (error instanceof BoundaryError && error.code === "key-unreadable") return null;
    throw error;
  }
}

/** A log of no bytes is what a start leaves that failed before its first batch. */
function brokenOf({ bad }: Verdict, allowed: number): readonly string[] {
  if (!bad || (bad.code === "log-empty" && allowed === 0)) return [];
  return [`the log is broken: ${bad.code}: ${bad.what} (record ${bad.seq}, ${bad.file}, byte ${bad.byte})`];
}

/** A segment of no bytes may be moved: it is what a start leaves that failed before its first batch. */
function movedAside(logDir: string): readonly string[] {
  const names = existsSync(logDir) ? readdirSync(logDir).filter((name) => name.startsWith("broken-")) : [];
  return names
    .filter((name) => holdsBytes(join(logDir, name)))
    .map((name) => `a log was moved aside to ${name}`);
}

function holdsBytes(directory: string): boolean {
  return readdirSync(directory).some((name) => statSync(join(directory, name)).size > 0);
}

function missingFrom(
  decisions: ReadonlyMap<number, LogRecord>,
  provenUpTo: number,
  allowed: readonly Pick<Allowed, "seq" | "id">[],
): readonly string[] {
  const missing = allowed.filter(({ seq, id }) => {
    const data = decisions.get(seq)?.data;
    const resource = data?.["resource"] as { readonly id?: unknown } | undefined;
    return seq > provenUpTo || data?.["decision"] !== "allow" || resource?.id !== id;
  });
  return missing
    .slice(0, 3)
    .map(({ seq, id }) => `${id.slice(0, 40)} was allowed, and record ${seq} does not say so`);
}
