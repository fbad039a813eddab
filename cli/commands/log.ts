import { group } from "../command.ts";
import { ship } from "./log-ship.ts";
import { unship } from "./log-unship.ts";

/** `boundaryctl log ship|unship`. */
export const command = group({
  usage: "log",
  describe: "Ship the log to another place, and take it back from there",
  examples: [["boundaryctl log ship --to tls://logs.example:6514 --ca ca.pem", "until Ctrl-C"]],
  children: [ship, unship],
  alone: null,
});
