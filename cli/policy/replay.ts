import { verifyLog } from "../../daemon/audit/verify.ts";
import { type Flip, replayDecision } from "../../daemon/policy/replay.ts";
import { define } from "../command.ts";
import { parseDuration } from "../duration.ts";
import { usageError } from "../exit.ts";
import { knownLog, logArguments } from "../log-arguments.ts";
import { readLogFiles } from "../log-files.ts";
import { plain, printJson, printLines } from "../output.ts";
import { goodSet } from "./policy-sets.ts";

/** `boundaryctl policy replay CANDIDATE`: exit code 0 where nothing flips, 1 where something does or the log is broken. */
export const replay = define({
  usage: "replay <candidate> [dir]",
  describe:
    "Ask a directory of policies every question that the signed log has, and list each decision that flips",
  examples: [
    ["boundaryctl policy replay ./candidate --since 24h", "against the last day"],
    ["boundaryctl policy replay ./candidate ./copy --key @boundary.vkey", "against a copy of a log"],
  ],
  options: (yargs) =>
    logArguments(yargs)
      .positional("candidate", { type: "string", demandOption: true, describe: "The directory of policies" })
      .option("since", {
        type: "string",
        requiresArg: true,
        describe: "Records from then on: a time (RFC 3339) or so long ago (24h)",
      })
      .option("entities", {
        type: "string",
        requiresArg: true,
        describe: "The registry (policy.entitiesFile)",
      }),
  run: async (args) => {
    const since = args.since === undefined ? 0 : sinceOf(args.since, Date.now());
    const { set, registry } = await goodSet(args.candidate, args.entities);
    const { directory, known } = knownLog(args);
    const found: Flip[] = [];
    let unasked = 0;
    let asked = 0;
    const verdict = await verifyLog(readLogFiles(directory), {
      vkey: known.vkey,
      head: known.heads,
      onRecord: (record) => {
        if (record.kind !== "decision" || Date.parse(record.at) < since) return;
        const replayed = replayDecision(set, registry, record);
        if (replayed.kind === "unasked") unasked++;
        else asked++;
        if (replayed.kind === "flipped") found.push(replayed.flip);
      },
    });
    const proven = verdict.trustworthyUpTo?.seq ?? -1;
    const flips = found.filter(({ seq }) => seq <= proven);
    const isBroken = verdict.verdict === "broken";
    if (args.json) {
      printJson({ asked, notAsked: unasked, provenUpTo: proven, verdict: verdict.verdict, flips });
    } else {
      printLines([
        ...flips.map(render),
        `${asked} decisions asked anew, ${flips.length} flip; ${unasked} on which policy was not asked, or which do not say all`,
        ...(isBroken ? [`the log is broken after record ${proven}: ${plain(verdict.bad?.what ?? "")}`] : []),
      ]);
    }
    return flips.length > 0 || isBroken ? 1 : 0;
  },
});

function render(flip: Flip): string {
  const question = `${flip.who} ${flip.action} ${flip.resource}`;
  const was = `${flip.was} by ${flip.wasBy.join(", ")}`;
  return plain(
    `${flip.seq} ${flip.at} ${question}: ${was}; would be ${flip.would} by ${flip.wouldBy.join(", ")}`,
  );
}

/** Milliseconds since 1970. Throws a usage error. */
function sinceOf(text: string, nowMs: number): number {
  if (/^[0-9]+[smh]$/.test(text)) return nowMs - parseDuration(text);
  const at = /^[0-9]{4}-[0-9]{2}-[0-9]{2}/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(at)) throw usageError("--since takes a time (2026-01-31T12:00:00Z) or so long ago (24h)");
  return at;
}
