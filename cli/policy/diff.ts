import { diffSets, type SetDiff } from "../../daemon/policy/set-diff.ts";
import { define } from "../command.ts";
import { plain, printJson, printLines } from "../output.ts";
import { goodSet } from "./policy-sets.ts";

/** `boundaryctl policy diff A B`: exit code 0 alike, 1 not. */
export const diff = define({
  usage: "diff <a> <b>",
  describe:
    "Compare two directories of policies: what differs, and which cases flip; exit code 1 where any does",
  examples: [["boundaryctl policy diff /etc/boundary-daemon/policies ./candidate", "before it is taken up"]],
  options: (yargs) =>
    yargs
      .positional("a", { type: "string", demandOption: true, describe: "The one" })
      .positional("b", { type: "string", demandOption: true, describe: "The other" }),
  run: async (args) => {
    // one after the other: each has a process with Cedar in it
    const a = await goodSet(args.a);
    const b = await goodSet(args.b);
    const found = diffSets(a.set, b.set, { a: a.cases, b: b.cases });
    if (args.json) printJson(found);
    else printLines(render(found));
    const { added, removed, changed, schemaChanged, flips } = found;
    return [added, removed, changed, flips].every(({ length }) => length === 0) && !schemaChanged ? 0 : 1;
  },
});

function render({ added, removed, changed, schemaChanged, flips }: SetDiff): readonly string[] {
  const lines = [
    ...added.map((id) => `added    ${plain(id)}`),
    ...removed.map((id) => `removed  ${plain(id)}`),
    ...changed.map((id) => `changed  ${plain(id)}`),
    ...(schemaChanged ? ["changed  the schema"] : []),
    ...flips.map((flip) => {
      const question = `${flip.who} ${flip.action} ${flip.resource}`;
      const was = `${flip.before} by ${flip.beforeBy.join(", ")}`;
      return plain(
        `flips    ${flip.file} ${flip.index}: ${question}: ${was}; then ${flip.after} by ${flip.afterBy.join(", ")}`,
      );
    }),
  ];
  return lines.length === 0 ? ["no difference"] : lines;
}
