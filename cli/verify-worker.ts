import { parentPort, workerData } from "node:worker_threads";
import { type Begin, type Head, verifyLog } from "../daemon/audit/verify.ts";
import { readLogFiles } from "./log-files.ts";
import { secondOpinion } from "./second-opinion.ts";

/** One segment, verified in a thread of its own. What it is given comes from verify-directory.ts alone. */
export type SegmentTask = {
  readonly path: string;
  readonly vkey: string;
  readonly begin: Begin | null;
  readonly heads: readonly (Head | string)[];
};

const task = workerData as SegmentTask;
const verdict = await verifyLog(readLogFiles(task.path), {
  vkey: task.vkey,
  begin: task.begin ?? undefined,
  head: task.heads,
  secondOpinion,
});
// oxlint-disable-next-line unicorn/require-post-message-target-origin -- to a thread, not to a window
parentPort?.postMessage(verdict);
