import { existsSync } from "node:fs";
import { placeOf } from "../../client/places.ts";
import type { VerifierKey } from "../../daemon/audit/checkpoint.ts";
import { BoundaryError } from "../../daemon/core/errors.ts";
import { askWitness } from "../ask-witness.ts";
import { define } from "../command.ts";
import { dropFile } from "../drop-file.ts";
import { headOfNote } from "../head.ts";
import { readKeyArgument } from "../key-argument.ts";
import { makeProof } from "../make-proof.ts";
import { plain, printJson, printLines } from "../output.ts";
import { sendToWitness } from "../witness-client.ts";
import { parseWitnessUrl } from "../witness-url.ts";
import { readWitnessArgument, readWitnessedHead, renderTime, witnessFile } from "../witnessed-head.ts";

/** `boundaryctl log witness [DIR] --url URL --witness VKEY`. */
export const witness = define({
  usage: "witness [dir]",
  describe: "Have a witness (C2SP tlog-witness) cosign the newest checkpoint",
  examples: [
    [
      "boundaryctl log witness --url https://witness.example/ --witness @witness.vkey",
      "now and then, by a timer",
    ],
    [
      "boundaryctl log witness ./copy --url unix:/run/witness.sock --witness VKEY --out head.note",
      "of a copy",
    ],
  ],
  options: (yargs) =>
    yargs
      .positional("dir", { type: "string", describe: "The log's directory" })
      .option("url", {
        type: "string",
        requiresArg: true,
        demandOption: true,
        describe: "https://…, http:// on the loopback, or unix:/path",
      })
      .option("witness", {
        type: "string",
        requiresArg: true,
        demandOption: true,
        describe: "The witness's verifier key, or @FILE",
      })
      .option("out", {
        type: "string",
        requiresArg: true,
        describe: "Where the cosigned note goes; else witness.<name> in the state directory",
      })
      .option("key", {
        type: "string",
        requiresArg: true,
        describe: "The genesis key, or @FILE; needed for a pruned log",
      })
      .option("state-dir", {
        type: "string",
        requiresArg: true,
        describe: "Where the note goes without --out",
      }),
  run: async (args) => {
    const place = parseWitnessUrl(args.url);
    const key = readWitnessArgument(args.witness);
    const out = args.out ?? witnessFile(placeOf("state", args.stateDir), key);
    const genesis = args.key === undefined ? null : readKeyArgument(args.key);
    const log = placeOf("log", args.dir);
    const parts = {
      witness: key,
      send: (request: Parameters<typeof sendToWitness>[1]) => sendToWitness(place, request),
      prove: async (size: number) =>
        (await makeProof(log, { kind: "older", size, root: null }, genesis)).proof,
    };
    const { note, at } = await askWitness(parts, sizeKept(out, key));
    dropFile(out, note);
    const { size, root } = headOfNote(note);
    const when = renderTime(at);
    if (args.json) printJson({ size, root, witness: key.name, at: when, out });
    else printLines([`${size} ${root}`, `cosigned by ${plain(key.name)} at ${when}, kept in ${plain(out)}`]);
    return 0;
  },
});

/** What the witness is thought to have cosigned last: what we kept. It says so when that is wrong. */
function sizeKept(out: string, key: VerifierKey): number {
  if (!existsSync(out)) return 0;
  try {
    return readWitnessedHead(out, key).size;
  } catch (error) {
    if (error instanceof BoundaryError) return 0;
    throw error;
  }
}
