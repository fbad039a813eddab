import { placeOf } from "../../client/places.ts";
import type { LogProof } from "../../daemon/audit/proof.ts";
import { renderProof } from "../../daemon/audit/proof.ts";
import type { Wanted } from "../../daemon/audit/prove.ts";
import { renderTlogProof } from "../../daemon/audit/tlog-proof.ts";
import { define } from "../command.ts";
import { dropFile } from "../drop-file.ts";
import { type ExitCode, usageError } from "../exit.ts";
import { headOfNote, readHeadArgument } from "../head.ts";
import { readKeyArgument } from "../key-argument.ts";
import { makeProof } from "../make-proof.ts";
import { isPlain, printJson } from "../output.ts";

type Form = "json" | "c2sp";

/** `boundaryctl log prove SEQ [DIR]`, `boundaryctl log prove --from CHECKPOINT [DIR]`. */
export const prove = define({
  usage: "prove [seq] [dir]",
  describe: "Prove that the log has a record, or goes on from an older checkpoint",
  examples: [
    ["boundaryctl log prove 1234 --out 1234.proof", "record 1234 of this host's log (root only)"],
    ["boundaryctl log prove 1234 ./copy --format c2sp", "for verifiers of C2SP tlog-proof"],
    ['boundaryctl log prove --from "1000 9f86…" ./copy', "nothing before was changed since that head"],
  ],
  options: (yargs) =>
    yargs
      .positional("seq", {
        type: "string",
        describe: "The record's number; with --from, the directory stands here",
      })
      .positional("dir", { type: "string", describe: "The log's directory" })
      .option("from", {
        type: "string",
        requiresArg: true,
        describe: 'An older checkpoint: "SIZE ROOT", or a file with that or with a note',
      })
      .option("format", {
        choices: ["json", "c2sp"] as const,
        default: "json" as const,
        describe: "c2sp: C2SP tlog-proof, of a record only",
      })
      .option("key", {
        type: "string",
        requiresArg: true,
        describe: "The genesis key, or @FILE; needed for a pruned log",
      })
      .option("out", { type: "string", requiresArg: true, describe: "Write it to this file" }),
  run: async (args) => {
    const [wanted, dir] =
      args.from === undefined
        ? ([recordWanted(args.seq), args.dir] as const)
        : ([olderWanted(args.from, args.format), onlyDirectory(args.seq, args.dir)] as const);
    const genesis = args.key === undefined ? null : readKeyArgument(args.key);
    const { proof } = await makeProof(placeOf("log", dir), wanted, genesis);
    return put(renderAs(args.format, proof), args);
  },
});

function recordWanted(seq: string | undefined): Wanted {
  if (seq === undefined) throw usageError("name a record's number, or an older checkpoint with --from");
  if (!/^(0|[1-9][0-9]{0,14})$/.test(seq)) throw usageError(`${seq} is no record's number`);
  return { kind: "record", seq: Number(seq) };
}

function olderWanted(from: string, form: Form): Wanted {
  if (form === "c2sp") throw usageError("a tlog-proof is of a record: --from has only the form json");
  const head = readHeadArgument(from);
  const { size, root } = typeof head === "string" ? headOfNote(head, "person") : head;
  return { kind: "older", size, root };
}

function onlyDirectory(first: string | undefined, second: string | undefined): string | undefined {
  if (second !== undefined) throw usageError("give a record's number or --from, not both");
  return first;
}

function renderAs(form: Form, { keys, checkpoint, claim }: LogProof): string {
  if (form === "json") return renderProof({ keys, checkpoint, claim });
  if (claim.kind !== "record") throw usageError("a tlog-proof is of a record");
  return renderTlogProof({ checkpoint, claim });
}

function put(text: string, args: { out: string | undefined; json: boolean; format: Form }): ExitCode {
  if (args.out !== undefined) {
    dropFile(args.out, text);
    if (args.json) printJson({ out: args.out, bytes: Buffer.byteLength(text, "utf8") });
  } else if (args.json && args.format === "c2sp") {
    printJson({ format: args.format, proof: text });
  } else {
    // its bytes are what is proven: they cannot be escaped
    if (process.stdout.isTTY && !isPlain(text))
      throw usageError("the record could steer the terminal: use --out");
    process.stdout.write(text);
  }
  return 0;
}
