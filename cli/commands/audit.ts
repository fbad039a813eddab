import { askAndShow } from "../ask.ts";
import { defineBare, group } from "../command.ts";
import { headOfNote } from "../head.ts";
import { plain } from "../output.ts";
import { compare } from "./audit-compare.ts";
import { fetch } from "./audit-fetch.ts";
import { list } from "./audit-list.ts";

const head = defineBare({
  usage: "head",
  describe: "Print the audit stream's key, size and root, to be kept elsewhere",
  examples: [["boundaryctl audit head --json", "with the signed note"]],
  run: (args) =>
    askAndShow(
      args,
      { verb: "audit.head", params: {} },
      {
        render: ({ vkey, note }) => {
          const { size, root } = note === "" ? { size: 0, root: "nothing is sealed yet" } : headOfNote(note);
          return [`key   ${plain(vkey)}`, `head  ${size} ${root}`];
        },
      },
    ),
});

/** `boundaryctl audit head|list|fetch|compare`: what an auditor does, who may not read the log. */
export const command = group({
  usage: "audit",
  describe: "Read the audit stream, and hold it against the log",
  examples: [["boundaryctl audit fetch ./stream", "a copy that verify-log verifies"]],
  children: [head, list, fetch, compare],
  alone: null,
});
