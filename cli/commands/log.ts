import { group } from "../command.ts";
import { prune } from "./log-prune.ts";
import { replay } from "./log-replay.ts";

/** `boundaryctl log …`: what one does with a log beside verifying it. */
export const command = group({
  usage: "log",
  describe: "Work with the signed log",
  examples: [["boundaryctl log replay --at 1234", "the state at a record"]],
  children: [replay, prune],
  alone: null,
});
