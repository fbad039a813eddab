import { emptyFold, type Fold } from "../../daemon/audit/fold.ts";
import { verifyLog } from "../../daemon/audit/verify.ts";
import { leaseData, tokenData } from "../../daemon/core/grant-data.ts";
import { shardValues } from "../../daemon/core/shards.ts";
import { define } from "../command.ts";
import { usageError } from "../exit.ts";
import { knownLog, logArguments } from "../log-arguments.ts";
import { readLogFiles } from "../log-files.ts";
import { plain, printJson, printLines } from "../output.ts";

/** `boundaryctl log replay`: the state that the log comes to, at any of its records. */
export const replay = define({
  usage: "replay [dir]",
  describe: "Print the state at a record; exit code 1 when it is not proven",
  examples: [
    ["boundaryctl log replay --at 1234", "what mode it was then, and why"],
    ["boundaryctl log replay ./copy --key @boundary.vkey", "at a copy's end"],
  ],
  options: (yargs) =>
    logArguments(yargs).option("at", {
      type: "number",
      requiresArg: true,
      describe: "The record's number; without it, the last one that is proven",
    }),
  run: async (args) => {
    const at = args.at ?? Number.MAX_SAFE_INTEGER;
    if (!Number.isSafeInteger(at) || at < 0) throw usageError("--at takes a record's number");
    const { directory, known } = knownLog(args);
    let state: Fold = emptyFold();
    const verdict = await verifyLog(readLogFiles(directory), {
      vkey: known.vkey,
      head: known.heads,
      onRecord: (record, after) => {
        if (record.seq <= at) state = after;
      },
    });
    const proven = verdict.trustworthyUpTo?.seq ?? -1;
    if (args.at !== undefined && proven < at) {
      const why =
        verdict.bad === null ? "the log does not go that far" : `${verdict.bad.what} (${verdict.bad.code})`;
      if (args.json) printJson({ at, proven: false, provenUpTo: proven, why });
      else printLines([`record ${at} is not proven: ${plain(why)}; proven are 0 to ${proven}`]);
      return 1;
    }
    const shown = args.at === undefined ? verdict.state : state;
    if (args.json)
      printJson({ at: shown.lastSeq, proven: true, state: shownState(shown), verdict: verdict.verdict });
    else printLines(render(shown));
    return verdict.verdict === "broken" && args.at === undefined ? 1 : 0;
  },
});

/** Tokens and leases as records hold them. */
function shownState({ grants, ...state }: Fold): object {
  const tokens = shardValues(grants.tokens).map(tokenData);
  const leases = shardValues(grants.leases).map(leaseData);
  return { ...state, tokens, leases };
}

function render(state: Fold): readonly string[] {
  const fired = Object.entries(state.firedByTripwire);
  return [
    `record    ${state.lastSeq}, ${plain(state.lastAt)}`,
    `mode      ${state.wanted ?? "none yet"}, epoch ${state.epoch}`,
    `hold      ${plain(state.hold)}${state.releasedBoot === "" ? "" : `; released by its parameter for boot ${plain(state.releasedBoot)}`}`,
    `frozen    ${state.frozen === "" ? "no" : plain(state.frozen)}`,
    `daemon    ${STOP[state.stop]}, started ${state.started} times`,
    `baseline  ${state.baselineDigest === "" ? "none yet" : plain(state.baselineDigest)}`,
    `grants    ${state.grants.tokens.size} tokens, ${state.grants.leases.size} leases`,
    ...(fired.length === 0 ? ["tripwires none has fired"] : []),
    ...fired.map(([name, count]) => `tripwire  ${plain(name)} fired ${count} times`),
    ...(state.unreadable === "" ? [] : [`unreadable ${plain(state.unreadable)}: that is LOCKDOWN`]),
  ];
}

const STOP = {
  none: "never started",
  clean: "stopped cleanly",
  running: "running, or ended by a crash",
} as const;
