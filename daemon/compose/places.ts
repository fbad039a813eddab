import { forgetHead, openHeadFile, readHead } from "../adapters/head-file.ts";
import { createKeyRing, loadKeyRing, prepareStateDirectory } from "../adapters/keys.ts";
import {
  createSegment,
  cutTail,
  firstLineOf,
  hasSegments,
  isUnwritten,
  type Keeping,
  lastSnapshot,
  openSegment,
  prepareLogDirectory,
  quarantine,
  readLog,
  readLogFrom,
  removeSegment,
  saveTombstone,
  segmentsOf,
} from "../adapters/log-file.ts";
import { lastLine, readLines } from "../adapters/log-lines.ts";
import { tracesIn } from "../adapters/traces.ts";
import type { LogEnd } from "../audit/recover.ts";
import { isSnapshotLine } from "../audit/snapshot.ts";
import type { StreamParts } from "../audit-stream.ts";
import type { Config } from "../core/config.ts";
import type { LogPlace } from "../open-log.ts";
import type { Options } from "../options.ts";
import type { Clock } from "../ports.ts";
import type { PrunePlace } from "../prune.ts";
import type { ReadBackPlace } from "../read-back.ts";

/** Of lines of the audit stream in one reply, which has to fit into a frame with all that is around them. */
const MAX_LINES_BYTES = 60 * 1024;

export function keepingOf({ log }: Config): Keeping {
  return { protect: log.appendOnly ? "append-only" : "plain", reserveBytes: log.reserveBytes };
}

/** The audit stream's directories, below those of the core log. */
export function streamPlaceOf(
  options: Options,
  config: Config,
  clock: Clock,
): Pick<StreamParts, "prepare" | "place" | "head" | "store" | "lines" | "lastLine"> {
  const keeping = { ...keepingOf(config), reserveBytes: 0 }; // the core log's is what the fall needs
  const [logDir, stateDir] = [`${options.logDir}/audit`, `${options.stateDir}/audit`];
  return {
    prepare: () => {
      prepareLogDirectory(logDir);
      prepareStateDirectory(stateDir);
    },
    place: logPlaceOf({ logDir, stateDir }, keeping, clock),
    head: () => openHeadFile(stateDir),
    store: (firstSeq) => createSegment(logDir, firstSeq, keeping),
    lines: (from, through, maxLines) =>
      readLines(logDir, segmentsOf(logDir), { from, through, maxLines, maxBytes: MAX_LINES_BYTES }),
    lastLine: (wanted) => lastLine(logDir, segmentsOf(logDir), wanted),
  };
}

/** One line of the log as it is on disk, or null. */
export function lineOf(logDir: string, seq: number): string | null {
  const order = { from: seq, through: seq, maxLines: 1, maxBytes: MAX_LINES_BYTES };
  return readLines(logDir, segmentsOf(logDir), order)[0] ?? null;
}

export function readBackPlaceOf(logDir: string): ReadBackPlace {
  return {
    segments: () => segmentsOf(logDir),
    firstLine: (file) => firstLineOf(logDir, file),
    snapshot: (wanted) => lastSnapshot(logDir, wanted),
    read: (place) => readLogFrom(logDir, place),
  };
}

export function logPlaceOf(
  options: Pick<Options, "logDir" | "stateDir">,
  keeping: Keeping,
  clock: Clock,
): LogPlace {
  const { logDir, stateDir } = options;
  return {
    read: () => readLog(logDir),
    readEnd: () => readLogEnd(logDir),
    cut: (where) => cutTail(logDir, where, clock.wallMs()),
    quarantine: () => `${logDir}/${quarantine(logDir, clock.wallMs())}`,
    create: (firstSeq) => createSegment(logDir, firstSeq, keeping),
    open: (file, size) => openSegment(logDir, file, size, keeping),
    hasSegments: () => hasSegments(logDir),
    isUnwritten: () => isUnwritten(logDir),
    head: () => readHead(stateDir),
    forgetHead: () => forgetHead(stateDir),
    key: () => loadKeyRing(stateDir),
    traces: () => tracesIn(stateDir, logDir),
    createKey: () => createKeyRing(stateDir),
  };
}

function readLogEnd(logDir: string): LogEnd | null {
  const found = lastSnapshot(logDir, isSnapshotLine);
  const first = found && firstLineOf(logDir, found.file);
  return found && first !== null
    ? { first, snapshot: found.line, chunks: () => readLogFrom(logDir, found) }
    : null;
}

export function prunePlaceOf(logDir: string): PrunePlace {
  return {
    segments: () => segmentsOf(logDir),
    firstLine: (file) => firstLineOf(logDir, file),
    read: (file) => readLogFrom(logDir, { file, byte: 0 }),
    readAll: () => readLog(logDir),
    saveTombstone: (firstSeq, text) => saveTombstone(logDir, firstSeq, Buffer.from(text)),
    removeSegment: (firstSeq) => removeSegment(logDir, firstSeq),
  };
}
