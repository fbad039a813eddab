import { group } from "../command.ts";
import { checkProofCommand } from "../log/check-proof.ts";
import { head } from "../log/head.ts";
import { prove } from "../log/prove.ts";
import { witness } from "../log/witness.ts";
import { prune } from "./log-prune.ts";
import { replay } from "./log-replay.ts";
import { ship } from "./log-ship.ts";
import { unship } from "./log-unship.ts";

/** `boundaryctl log …`: what one does with a log beside verifying it. */
export const command = group({
  usage: "log",
  describe: "Work with the signed log",
  examples: [
    ["boundaryctl log head", "size and root, short enough to copy down"],
    ["boundaryctl log prove 1234 --out 1234.proof", "that record 1234 is in the log"],
    ["boundaryctl log replay --at 1234", "the state at a record"],
    ["boundaryctl log ship --to tls://logs.example --ca ca.pem", "away from this host, as it grows"],
  ],
  children: [head, prove, checkProofCommand, witness, replay, ship, unship, prune],
  alone: null,
});
