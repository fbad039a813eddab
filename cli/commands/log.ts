import { group } from "../command.ts";
import { checkProofCommand } from "../log/check-proof.ts";
import { head } from "../log/head.ts";
import { prove } from "../log/prove.ts";
import { witness } from "../log/witness.ts";

/** `boundaryctl log head|prove|check-proof|witness`. */
export const command = group({
  usage: "log",
  describe: "Evidence: the log's head, proofs that need no log, cosignatures of witnesses",
  examples: [
    ["boundaryctl log head", "size and root, short enough to copy down"],
    ["boundaryctl log prove 1234 --out 1234.proof", "that record 1234 is in the log"],
  ],
  children: [head, prove, checkProofCommand, witness],
  alone: null,
});
