import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createClock } from "../../daemon/adapters/clock.ts";
import { openHeadFile } from "../../daemon/adapters/head-file.ts";
import { prepareStateDirectory } from "../../daemon/adapters/keys.ts";
import { createSegment, prepareLogDirectory, segmentName } from "../../daemon/adapters/log-file.ts";
import { emptyTail, openLog } from "../../daemon/audit/log.ts";
import type { Data } from "../../daemon/audit/record.ts";
import { ringIn } from "./key-ring.ts";

export type SampleLog = {
  readonly logDir: string;
  readonly stateDir: string;
  /** The one segment. */
  readonly file: string;
  readonly vkey: string;
  readonly head: { readonly size: number; readonly root: string; readonly note: string };
  remove(): void;
};

/** A log on disk as the daemon writes it: `batches` batches of three records, each with its seal. */
export async function sampleLog(
  batches: number,
  dataOf: (batch: number, n: number) => Data = (batch, n) => ({ batch, n }),
): Promise<SampleLog> {
  const base = mkdtempSync(join(tmpdir(), "boundary-sample-"));
  const remove = (): void => rmSync(base, { recursive: true, force: true });
  const logDir = join(base, "log");
  const stateDir = join(base, "state");
  prepareLogDirectory(logDir);
  prepareStateDirectory(stateDir);
  const ring = ringIn(stateDir);
  const { origin } = ring;
  const signer = ring.current();
  const headFile = openHeadFile(stateDir);
  const log = openLog({
    store: createSegment(logDir, 0),
    signer,
    origin,
    head: headFile,
    clock: createClock(),
    tail: emptyTail(),
    onFailed: (cause) => {
      throw cause;
    },
  });
  for (let batch = 0; batch < batches; batch++) {
    for (let n = 0; n < 3; n++) log.append({ kind: "decision", data: dataOf(batch, n) });
    await log.drain();
  }
  const head = log.head();
  await log.close();
  headFile.close();
  return { logDir, stateDir, file: join(logDir, segmentName(0)), vkey: signer.vkey, head, remove };
}
