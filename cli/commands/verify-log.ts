import { setTimeout as sleep } from "node:timers/promises";
import type { Chunk } from "../../daemon/audit/split.ts";
import type { Verdict } from "../../daemon/audit/verdict.ts";
import { type Head, verifyLog } from "../../daemon/audit/verify.ts";
import { define } from "../command.ts";
import { readHeadArgument } from "../head.ts";
import { readKeyOrOwn } from "../key-argument.ts";
import { readLogFiles } from "../log-files.ts";
import { painter, printJson, printLines } from "../output.ts";
import { readOwnHead } from "../own-state.ts";
import { placeOf } from "../places.ts";
import { renderVerdict, verdictData } from "../verdict-text.ts";

/** A daemon may be between a record and its seal: a torn end counts when it is still there after these looks. */
const LOOKS = 4;
const BETWEEN_LOOKS_MS = 100;
const PROGRESS_EVERY_MS = 500;

/** `boundaryctl verify-log [DIR]`: 0 sound, 1 otherwise. */
export const command = define({
  usage: "verify-log [dir]",
  describe: "Verify a log offline, with the public key alone; exit code 0 sound, 1 broken or torn",
  examples: [
    ["boundaryctl verify-log ./copy --key @boundary.vkey", "a copy, with a key written down before"],
    [
      'boundaryctl verify-log ./copy --key @boundary.vkey --head "1234 9f86…"',
      "and its end, from `key head`",
    ],
    ["boundaryctl verify-log", "this host's log, with its own key and head (root only)"],
  ],
  options: (yargs) =>
    yargs
      .positional("dir", { type: "string", describe: "The log's directory, or one segment" })
      .option("key", { type: "string", requiresArg: true, describe: "The public key, or @FILE" })
      .option("head", {
        type: "string",
        requiresArg: true,
        describe: 'A remembered head: "SIZE ROOT" or a file',
      })
      .option("state-dir", {
        type: "string",
        requiresArg: true,
        describe: "Where key and head are without --key",
      }),
  run: async (args) => {
    const state = placeOf("state", args.stateDir);
    const vkey = readKeyOrOwn(args.key, state);
    // before the log is read: a daemon goes on writing, and the head may not be newer than what we read
    const own = args.key === undefined && args.dir === undefined;
    const head = args.head === undefined ? (own ? readOwnHead(state) : null) : readHeadArgument(args.head);
    const verdict = await verifySettled(placeOf("log", args.dir), vkey, head);
    const used = head === null ? "none" : "checked";
    if (args.json) printJson(verdictData(verdict, used));
    else printLines(renderVerdict(verdict, used, painter(process.stdout).paint));
    return verdict.verdict === "sound" ? 0 : 1;
  },
});

async function verifySettled(directory: string, vkey: string, head: Head | string | null): Promise<Verdict> {
  for (let look = 1; ; look++) {
    const chunks = withProgress(readLogFiles(directory));
    const verdict = await verifyLog(chunks, head === null ? { vkey } : { vkey, head });
    if (verdict.verdict !== "torn" || look === LOOKS) return verdict;
    await sleep(BETWEEN_LOOKS_MS);
  }
}

async function* withProgress(chunks: AsyncIterable<Chunk>): AsyncGenerator<Chunk> {
  if (!process.stderr.isTTY) return yield* chunks;
  let bytes = 0;
  let shownAtMs = performance.now();
  try {
    for await (const chunk of chunks) {
      yield chunk;
      bytes += chunk.bytes.length;
      if (performance.now() - shownAtMs < PROGRESS_EVERY_MS) continue;
      process.stderr.write(`\rverified ${Math.floor(bytes / 1_048_576)} MiB`);
      shownAtMs = performance.now();
    }
  } finally {
    process.stderr.write("\r\u001b[K");
  }
}
