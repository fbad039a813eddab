import { placeOf } from "../../client/places.ts";
import { define } from "../command.ts";
import { knownLog, logArguments } from "../log-arguments.ts";
import { painter, printJson, printLines } from "../output.ts";
import { settled } from "../settled.ts";
import { renderVerdict, verdictData } from "../verdict-text.ts";
import { verifyDirectory, type Watching } from "../verify-directory.ts";
import { renderWitnessed, witnessedHead } from "../witnessed-head.ts";

const PROGRESS_EVERY_MS = 500;

/** `boundaryctl verify-log [DIR]`: 0 sound, 1 otherwise. */
export const command = define({
  usage: "verify-log [dir]",
  describe: "Verify a log offline, with the public key alone; exit code 0 sound, 1 broken or torn",
  examples: [
    ["boundaryctl verify-log ./copy --key @boundary.vkey", "a copy, with a key written down before"],
    [
      'boundaryctl verify-log ./copy --key @boundary.vkey --head "1234 9f86…"',
      "and its end, from `log head`",
    ],
    [
      "boundaryctl verify-log ./copy --key @boundary.vkey --witness @witness.vkey --head head.note",
      "and its end, as a witness cosigned it",
    ],
    [
      'boundaryctl verify-log ./copy --key @boundary.vkey --from "1234 9f86…"',
      "only what came after a checkpoint",
    ],
    ["boundaryctl verify-log", "this host's log, with its own key and head (root only)"],
  ],
  options: (yargs) =>
    logArguments(yargs)
      .option("head", {
        type: "string",
        requiresArg: true,
        describe: 'A remembered head: "SIZE ROOT" or a file',
      })
      .option("witness", {
        type: "string",
        requiresArg: true,
        describe: "The head counts only with this witness's cosignature (verifier key, or @FILE)",
      })
      .option("from", {
        type: "string",
        requiresArg: true,
        describe: 'A checkpoint you trust, "SIZE ROOT" or a file: what is before its segment is not read',
      }),
  run: async (args) => {
    const witnessed =
      args.witness === undefined
        ? null
        : witnessedHead(args.witness, args.head, placeOf("state", args.stateDir));
    const { directory, known } = knownLog(args, {
      head: witnessed === null ? args.head : undefined,
      from: args.from,
      more: witnessed === null ? [] : [witnessed.note],
    });
    const verdict = await settled(() => verifyDirectory(directory, known, progress()));
    const used = known.heads.length === 0 ? "none" : "checked";
    if (args.json)
      printJson({ ...verdictData(verdict, used), ...(witnessed && { witness: witnessed.cosigned }) });
    else
      printLines([
        ...renderVerdict(verdict, used, painter(process.stdout).paint),
        ...(witnessed === null ? [] : [renderWitnessed(witnessed)]),
      ]);
    return verdict.verdict === "sound" ? 0 : 1;
  },
});

/** How far it has come, on a terminal. */
function progress(): Watching {
  let bytes = 0;
  let shownAtMs = performance.now();
  const done = (more: number) => {
    bytes += more;
    if (!process.stderr.isTTY || performance.now() - shownAtMs < PROGRESS_EVERY_MS) return;
    process.stderr.write(`\rverified ${Math.floor(bytes / 1_048_576)} MiB`);
    shownAtMs = performance.now();
  };
  return {
    done,
    chunks: async function* chunks(all) {
      try {
        for await (const chunk of all) {
          yield chunk;
          done(chunk.bytes.length);
        }
      } finally {
        if (process.stderr.isTTY) process.stderr.write("\r\u001b[K");
      }
    },
  };
}
