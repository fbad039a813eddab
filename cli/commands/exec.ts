import { group } from "../command.ts";
import { check } from "../exec/check.ts";

/** `boundaryctl exec …`: commands, judged. */
export const command = group({
  usage: "exec",
  describe: "Judge commands before they run",
  examples: [["boundaryctl exec check --profile developer -- git status", "without a daemon"]],
  children: [check],
  alone: null,
});
