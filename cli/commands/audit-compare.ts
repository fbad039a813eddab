import { join } from "node:path";
import {
  type Comparison,
  createComparison,
  createSections,
  type Difference,
  sectionOf,
} from "../../daemon/audit/compare.ts";
import { readLine } from "../../daemon/audit/line.ts";
import { leafHash } from "../../daemon/audit/merkle.ts";
import type { Verdict } from "../../daemon/audit/verdict.ts";
import { verifyLog } from "../../daemon/audit/verify.ts";
import { define } from "../command.ts";
import { usageError } from "../exit.ts";
import { readKeyArgument } from "../key-argument.ts";
import { firstLineOf, readLogFiles, segmentFiles } from "../log-files.ts";
import { painter, plain, printJson, printLines } from "../output.ts";

/** `boundaryctl audit compare`: for whoever has both the stream and the log. Needs no daemon. */
export const compare = define({
  usage: "compare <dir>",
  describe:
    "Hold a copy of the audit stream against the log: numbers, kinds, checkpoints; exit code 1 when they differ",
  examples: [
    [
      "boundaryctl audit compare ./stream --key @stream.vkey --core ./copy --core-key @boundary.vkey",
      "both copies, both keys written down before",
    ],
  ],
  options: (yargs) =>
    yargs
      .positional("dir", { type: "string", demandOption: true, describe: "The stream's copy" })
      .option("key", key("The stream's public key, or @FILE"))
      .option("core", key("The log's directory"))
      .option("core-key", key("The log's public key, or @FILE")),
  run: async (args) => {
    const result = await compareLogs(
      { path: args.dir, vkey: readKeyArgument(given("--key", args.key)) },
      { path: given("--core", args.core), vkey: readKeyArgument(given("--core-key", args.coreKey)) },
    );
    if (args.json) printJson(asData(result));
    else printLines(render(result));
    return isSame(result) ? 0 : 1;
  },
});

function key(describe: string) {
  return { type: "string", requiresArg: true, describe } as const;
}

// not by demandOption: with our parser's settings yargs looks for the dashed name after it has taken that away
function given(name: string, value: string | undefined): string {
  if (value === undefined) throw usageError(`give ${name}`);
  return value;
}

type Place = { readonly path: string; readonly vkey: string };

type Result = {
  readonly stream: Verdict;
  readonly core: Verdict;
  /** Null: the stream has nothing to say of this log. */
  readonly comparison: Comparison | null;
  readonly difference: Difference | null;
};

/** The stream first, whole: what it says is held in memory, a few bytes for each run of records. */
async function compareLogs(streamPlace: Place, corePlace: Place): Promise<Result> {
  const found = createSections();
  const stream = await verifyLog(readLogFiles(streamPlace.path), {
    vkey: streamPlace.vkey,
    onRecord: found.take,
  });
  const began = await beganOf(corePlace.path);
  const section = sectionOf(found.sections(), { key: corePlace.vkey, began });
  const comparing = section && createComparison(section);
  const core = await verifyLog(readLogFiles(corePlace.path), {
    vkey: corePlace.vkey,
    ...(comparing && { onRecord: comparing.take }),
  });
  const comparison = comparing?.end() ?? null;
  return { stream, core, comparison, difference: found.fault() ?? comparison?.difference ?? null };
}

/** Leaf hash of record 0; null when it is not there. */
async function beganOf(path: string): Promise<string | null> {
  const [first] = await segmentFiles(path);
  const line = await firstLineOf(first === undefined ? path : join(path, first.name)).catch(() => null);
  const read = line === null ? null : readLine(line);
  return line !== null && read?.ok && read.record.seq === 0 ? leafHash(Buffer.from(line)) : null;
}

function isSame({ stream, core, comparison, difference }: Result): boolean {
  return stream.bad === null && core.bad === null && comparison !== null && difference === null;
}

function asData(result: Result): object {
  const { stream, core, comparison, difference } = result;
  return {
    same: isSame(result),
    stream: { verdict: stream.verdict, bad: stream.bad, records: stream.records },
    core: { verdict: core.verdict, bad: core.bad, records: core.records },
    compared: comparison?.compared ?? 0,
    ahead: comparison?.ahead ?? 0,
    pruned: comparison?.pruned ?? 0,
    difference,
  };
}

function render(result: Result): readonly string[] {
  const { stream, core, comparison, difference } = result;
  const { paint } = painter(process.stdout);
  return [
    verdictLine("stream", stream),
    verdictLine("log", core),
    ...(comparison === null ? [paint("red", "DIFFERS  the stream says nothing of this log")] : []),
    ...(difference === null
      ? []
      : [
          paint(
            "red",
            `DIFFERS  record ${difference.core} (stream record ${difference.stream}): ${plain(difference.what)}`,
          ),
        ]),
    ...(isSame(result)
      ? [paint("green", `same     ${comparison?.compared} records and their checkpoints`)]
      : []),
    ...(comparison && comparison.pruned > 0 ? [`pruned   ${comparison.pruned} records: not compared`] : []),
    ...(comparison && comparison.ahead > 0
      ? [`after    ${comparison.ahead} records of the log that the stream does not cover yet`]
      : []),
  ];
}

function verdictLine(name: string, { verdict, bad, records }: Verdict): string {
  const why = bad === null ? "" : `: ${plain(bad.what)} (${bad.code}), record ${bad.seq}`;
  return `${name.padEnd(8)} ${verdict}, ${records} records${why}`;
}
