import { mkdirSync } from "node:fs";
import { openHeadFile } from "../../daemon/adapters/head-file.ts";
import { createKeyRing, prepareStateDirectory } from "../../daemon/adapters/keys.ts";
import { createSegment, prepareLogDirectory } from "../../daemon/adapters/log-file.ts";
import { emptyTail, openLog } from "../../daemon/audit/log.ts";
import { testClock } from "../audit/fixture.ts";
import type { DaemonHome } from "./daemon-process.ts";

/** A log of four segments whose records are so many days old, stopped cleanly on another boot. */
export async function oldLog(at: DaemonHome, days: number): Promise<void> {
  mkdirSync(at.path, { recursive: true });
  prepareLogDirectory(at.logDir);
  prepareStateDirectory(at.stateDir);
  const ring = createKeyRing(at.stateDir);
  const head = openHeadFile(at.stateDir);
  const clock = testClock(Date.now() - days * 86_400_000);
  const log = openLog({
    store: createSegment(at.logDir, 0),
    signer: ring.current(),
    origin: ring.origin,
    head,
    clock,
    tail: emptyTail(),
    successor: {
      key: () => ring.prepareNext(),
      store: (firstSeq) => createSegment(at.logDir, firstSeq),
      took: () => ring.promote(),
    },
    onFailed: (cause) => {
      throw cause;
    },
  });
  log.append({ kind: "daemon.started", data: { wanted: "RESTRICTED", epoch: 0, frozen: "" } });
  for (let n = 0; n < 8; n++) {
    await log.append({ kind: "decision", data: { text: `record ${n}` } }).durable;
    if (n % 2 === 1 && n < 7) await log.rotate();
  }
  await log.append({
    kind: "daemon.stopped",
    data: { wanted: "RESTRICTED", epoch: 0, why: "test", frozen: "" },
  }).durable;
  await log.close();
  head.close();
}
