import type { Parsed } from "../../daemon/audit/checkpoint.ts";
import { readKey } from "../../daemon/audit/known.ts";
import { checkProof, MAX_PROOF_CHARS, parseProof, type Shown } from "../../daemon/audit/proof.ts";
import { checkTlogProof, parseTlogProof, TLOG_PROOF_HEADER } from "../../daemon/audit/tlog-proof.ts";
import { decodeUtf8 } from "../../daemon/core/json.ts";
import { define } from "../command.ts";
import { usageError } from "../exit.ts";
import { readKeyArgument } from "../key-argument.ts";
import { type Paint, painter, plain, printJson, printLines, renderJson } from "../output.ts";
import { readSmallFile } from "../read-file.ts";

/** What a proof showed; `from` where it was of an older tree. A tlog-proof does not say which segment it is of. */
type Found = Omit<Shown, "segment"> & {
  readonly from: { readonly size: number; readonly root: string } | null;
};

/** `boundaryctl log check-proof FILE --key KEY`: 0 good, 1 not. */
export const checkProofCommand = define({
  usage: "check-proof <file>",
  describe: "Check such a proof, without the log; exit code 0 good, 1 not",
  examples: [
    ["boundaryctl log check-proof 1234.proof --key @boundary.vkey", "with the log's genesis key"],
    [
      "boundaryctl log check-proof 1234.tlog-proof --key KEY",
      "C2SP: with the key that signed the checkpoint",
    ],
  ],
  options: (yargs) =>
    yargs.positional("file", { type: "string", demandOption: true, describe: "The proof" }).option("key", {
      type: "string",
      requiresArg: true,
      demandOption: true,
      describe: "The log's genesis key, or @FILE",
    }),
  run: async (args) => {
    const vkey = readKeyArgument(args.key);
    readKey(vkey); // no proof is bad because the key was mistyped
    const checked = check(readProof(args.file), vkey);
    if (args.json)
      printJson(checked.ok ? { good: true, ...checked.value } : { good: false, why: checked.why });
    else printLines(render(checked, painter(process.stdout).paint));
    return checked.ok ? 0 : 1;
  },
});

function readProof(path: string): Buffer {
  let bytes: Buffer | null = null;
  try {
    bytes = readSmallFile(path, MAX_PROOF_CHARS);
  } catch (error) {
    throw usageError(`reading ${path}: ${error instanceof Error ? error.message : "it cannot be read"}`);
  }
  if (bytes === null) throw usageError(`there is no ${path}`);
  return bytes;
}

function check(bytes: Buffer, vkey: string): Parsed<Found> {
  const text = decodeUtf8(bytes);
  if (!text.ok) return { ok: false, why: "it is not UTF-8" };
  return text.value.startsWith(TLOG_PROOF_HEADER) ? checkC2sp(text.value, vkey) : checkOwn(text.value, vkey);
}

function checkOwn(text: string, vkey: string): Parsed<Found> {
  const proof = parseProof(text);
  const shown = proof.ok ? checkProof(proof.value, vkey) : proof;
  if (!proof.ok || !shown.ok) return shown.ok ? { ok: false, why: "it cannot be read" } : shown;
  const { claim } = proof.value;
  return { ok: true, value: { ...shown.value, from: claim.kind === "older" ? claim.from : null } };
}

function checkC2sp(text: string, vkey: string): Parsed<Found> {
  const proof = parseTlogProof(text);
  const shown = proof.ok ? checkTlogProof(proof.value, vkey) : proof;
  return shown.ok ? { ok: true, value: { ...shown.value, from: null } } : shown;
}

function render(checked: Parsed<Found>, paint: Paint): readonly string[] {
  if (!checked.ok) return [paint("red", `NOT GOOD    ${plain(checked.why)}`)];
  const { checkpoint, record, from, vkey } = checked.value;
  return [
    paint("green", "good        the proof holds"),
    ...(record === null ? [] : [`record      ${record.seq}, ${plain(record.at)}, ${plain(record.kind)}`]),
    ...(record === null ? [] : [`data        ${renderJson(record.data)}`]),
    ...(from === null ? [] : [`goes on     from ${from.size} ${from.root}`]),
    `checkpoint  ${checkpoint.size} ${checkpoint.root}`,
    `of          ${plain(checkpoint.origin)}, signed by ${plain(vkey)}`,
  ];
}
