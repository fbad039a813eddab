import { group } from "../command.ts";
import { check } from "../exec/check.ts";
import { run } from "../exec/run.ts";

/** `boundaryctl exec …`: commands, judged and run. */
export const command = group({
  usage: "exec",
  describe: "Judge commands, and run them under guard",
  examples: [
    ["boundaryctl exec check --profile developer -- git status", "judged, without a daemon"],
    ["boundaryctl exec run --profile developer -- npm test", "run in the worker's sandbox"],
  ],
  children: [check, run],
  alone: null,
});
