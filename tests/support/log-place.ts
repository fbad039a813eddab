import { forgetHead, readHead } from "../../daemon/adapters/head-file.ts";
import { createKeyRing, loadKeyRing } from "../../daemon/adapters/keys.ts";
import {
  createSegment,
  cutTail,
  firstLineOf,
  hasSegments,
  isUnwritten,
  lastSnapshot,
  openSegment,
  quarantine,
  readLog,
  readLogFrom,
} from "../../daemon/adapters/log-file.ts";
import { tracesIn } from "../../daemon/adapters/traces.ts";
import type { LogEnd } from "../../daemon/audit/recover.ts";
import { isSnapshotLine } from "../../daemon/audit/snapshot.ts";
import type { LogPlace } from "../../daemon/open-log.ts";

/** What a start needs of the disk, put together as daemon/main.ts does. */
export function logPlaceAt({ logDir, stateDir }: { logDir: string; stateDir: string }): LogPlace {
  return {
    read: () => readLog(logDir),
    readEnd: () => readEnd(logDir),
    cut: (place) => cutTail(logDir, place, Date.now()),
    quarantine: () => quarantine(logDir, Date.now()),
    create: (firstSeq) => createSegment(logDir, firstSeq),
    open: (file, size) => openSegment(logDir, file, size),
    hasSegments: () => hasSegments(logDir),
    isUnwritten: () => isUnwritten(logDir),
    head: () => readHead(stateDir),
    forgetHead: () => forgetHead(stateDir),
    key: () => loadKeyRing(stateDir),
    traces: () => tracesIn(stateDir, logDir),
    createKey: () => createKeyRing(stateDir),
  };
}

function readEnd(logDir: string): LogEnd | null {
  const found = lastSnapshot(logDir, isSnapshotLine);
  const first = found && firstLineOf(logDir, found.file);
  return found && first !== null
    ? { first, snapshot: found.line, chunks: () => readLogFrom(logDir, found) }
    : null;
}
