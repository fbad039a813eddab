import { BoundaryError } from "./errors.ts";
import { FAMILIES } from "./nft.ts";

/** What nft said to some commands. */
export type NftAnswer = { readonly ok: boolean; readonly output: string; readonly complaint: string };

const MAX_MESSAGE_CHARS = 2_000;

/**
 * Lists our tables, with as few calls as can be: it asks for those that were there last time, and which tables there are.
 * nft refuses the whole where one is absent; then it asks what there is, rather than reading the wording of a message.
 */
export function createTableList(nft: (commands: string) => NftAnswer): () => string {
  let families: readonly string[] = [];
  return () => {
    for (let tries = 0; tries < MOST_TRIES; tries++) {
      const answer = nft(listCommands(families));
      if (!answer.ok && families.length === 0) throw failed(answer, "listing the tables");
      const found = splitTables(
        answer.ok ? answer.output : required(nft(listCommands([])), "listing the tables"),
      );
      const same = answer.ok && found.families.join() === families.join();
      families = found.families;
      if (same) return found.listings;
    }
    throw new BoundaryError("nft-failed", "listing our tables", { cause: new Error("they come and go") });
  };
}

const MOST_TRIES = 4;

/** The output, or BoundaryError("nft-failed") with nft's reason. */
export function required(answer: NftAnswer, doing: string): string {
  if (answer.ok) return answer.output;
  throw failed(answer, doing);
}

function failed({ complaint }: NftAnswer, doing: string): BoundaryError {
  const why = complaint.trim().slice(0, MAX_MESSAGE_CHARS);
  return new BoundaryError("nft-failed", doing, { cause: new Error(why || "nft gave no reason") });
}

function listCommands(families: readonly string[]): string {
  return `${["list tables", ...families.map((family) => `list table ${family} boundary`)].join("\n")}\n`;
}

/** In which families there is a table of ours, and the listings. */
function splitTables(output: string): { readonly families: readonly string[]; readonly listings: string } {
  const lines = output.split("\n");
  const isName = (line: string) => /^table [a-z0-9]+ [^\s{]+$/.test(line);
  const names = new Set(lines.filter(isName));
  const families = FAMILIES.filter((family) => names.has(`table ${family} boundary`));
  return { families, listings: lines.filter((line) => !isName(line)).join("\n") };
}
