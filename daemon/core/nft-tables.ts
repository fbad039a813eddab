import { BoundaryError } from "./errors.ts";
import type { ISOLATION_TABLE } from "./isolation-rules.ts";
import { FAMILIES } from "./nft.ts";

/** What nft said to some commands. */
export type NftAnswer = { readonly ok: boolean; readonly output: string; readonly complaint: string };

/** The names of our tables: the modes', and the domains'. */
export type OwnTable = "boundary" | typeof ISOLATION_TABLE;

const MAX_MESSAGE_CHARS = 2_000;

/**
 * Lists our tables, each by a command of its own: nft 1.0.6 loses some when one input lists several. Asks which there
 * are rather than reading the wording of a message. One that goes between the two questions is asked for again.
 */
export function listTables(nft: (command: string) => NftAnswer, name: OwnTable = "boundary"): string {
  for (let tries = 1; ; tries++) {
    const there = familiesIn(required(nft("list tables"), "listing the tables"), name);
    const answers = there.map((family) => nft(`list table ${family} ${name}`));
    const refused = answers.find(({ ok }) => !ok);
    if (refused === undefined) return answers.map(({ output }) => output).join("\n");
    if (tries === MOST_TRIES) throw failed(refused, "listing our tables");
  }
}

const MOST_TRIES = 3;

/** The output, or BoundaryError("nft-failed") with nft's reason. */
export function required(answer: NftAnswer, doing: string): string {
  if (answer.ok) return answer.output;
  throw failed(answer, doing);
}

function failed({ complaint }: NftAnswer, doing: string): BoundaryError {
  const why = complaint.trim().slice(0, MAX_MESSAGE_CHARS);
  return new BoundaryError("nft-failed", doing, { cause: new Error(why || "nft gave no reason") });
}

/** In which families there is a table of ours. */
function familiesIn(listing: string, name: OwnTable): readonly string[] {
  const lines = new Set(listing.split("\n").map((line) => line.trim()));
  return FAMILIES.filter((family) => lines.has(`table ${family} ${name}`));
}
