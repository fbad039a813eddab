import { group } from "../command.ts";
import { ceremonyChildren } from "./ceremony.ts";

/** `boundaryctl release [begin|confirm|cancel]`: our rules out of the kernel, by ceremony. */
export const command = group({
  usage: "release",
  describe: "Take our rules out of the kernel, by ceremony; the mode goes on, and nothing holds it",
  examples: [
    ['boundaryctl release --reason "maintenance"', "begin; on a terminal, wait and confirm"],
    ['boundaryctl enforce --reason "done"', "the way back"],
  ],
  children: ceremonyChildren({
    purpose: "release",
    word: "release",
    to: "release the host",
    isDefault: true,
  }),
  alone: null,
});
