import type { ApprovalList, ApprovalView } from "../../daemon/protocol/messages.ts";
import { askAndShow, dataOr, patienceFor, showRefusal, withDaemon } from "../ask.ts";
import { define, defineBare, group } from "../command.ts";
import { usageError } from "../exit.ts";
import { plain, printJson, printLines, renderTable } from "../output.ts";
import { askLine, isInteractive } from "../terminal.ts";

const list = defineBare({
  usage: "list",
  describe: "Show what waits for a person, what was approved and not used, and what was denied lately",
  examples: [["boundaryctl approvals list", "what is there to decide?"]],
  run: (args) => askAndShow(args, { verb: "approvals.list", params: {} }, { render: renderList }),
});

function renderList({ approvals }: ApprovalList): readonly string[] {
  if (approvals.length === 0) return ["nothing waits for a person"];
  return renderTable(
    approvals.map((one) => [
      plain(one.id),
      plain(one.state),
      `until ${plain(one.until)}`,
      `uid ${plain(one.uid)}`,
      one.what.split("\n").slice(1).map(plain).join("; "),
    ]),
  );
}

const ID = { type: "string", demandOption: true, describe: "Its id, as `approvals list` shows it" } as const;

const show = define({
  usage: "show <id>",
  describe: "Show exactly what would be allowed, and who asks",
  examples: [["boundaryctl approvals show 3f2a90c1d4e5", "before it is decided"]],
  options: (yargs) => yargs.positional("id", ID),
  run: (args) =>
    askAndShow(args, { verb: "approvals.show", params: { id: args.id } }, { render: renderApproval }),
});

/** One approval, safe for a terminal: every line of what would be allowed begins with "|". */
function renderApproval(one: ApprovalView): readonly string[] {
  const ended = [one.by === "" ? "" : `by ${one.by}`, one.why].filter(Boolean).join(", ");
  const token = one.tokenId === "" ? "" : `, token ${one.tokenId}`;
  return [
    `approval   ${plain(one.id)}: ${plain(one.state)}${ended === "" ? "" : ` (${plain(ended)})`}`,
    `asked by   ${plain(`uid ${one.uid}${token}, ${one.principal}`)}, ${plain(one.askedAt)}`,
    `until      ${plain(one.until)}`,
    ...(one.what === "" ? [] : ["once       exactly this, and nothing else:"]),
    ...one.what.split("\n").flatMap((line) => (line === "" ? [] : [`  | ${plain(line)}`])),
    `digest     ${plain(one.digest)}`,
  ];
}

const approve = define({
  usage: "approve <id>",
  describe: "Allow it, once, to whoever asked; never what you asked for yourself",
  examples: [["boundaryctl approvals approve 3f2a90c1d4e5", "shows it, and asks"]],
  options: (yargs) =>
    yargs
      .positional("id", ID)
      .option("yes", { type: "boolean", default: false, describe: "Do not ask: it has been read" }),
  run: (args) =>
    withDaemon(args, async (client) => {
      const asked = dataOr(args, await client.call("approvals.show", { id: args.id }));
      if ("code" in asked) return asked.code;
      if (!args.yes) {
        if (!isInteractive() || args.json) throw usageError("without a terminal to ask at, give --yes");
        printLines(renderApproval(asked.data));
        if ((await askLine("allow exactly this, once? type yes: ")) !== "yes") {
          printLines(["not approved; it waits on"]);
          return 1;
        }
      }
      const { id } = asked.data;
      const outcome = await client.call("approvals.approve", { id }, patienceFor("approvals.approve"));
      if (!outcome.ok) return showRefusal(args, outcome.problem);
      if (args.json) printJson(outcome.data);
      else printLines([`approved   ${plain(outcome.data.id)}, once, until ${plain(outcome.data.until)}`]);
      return 0;
    }),
});

const deny = define({
  usage: "deny <id>",
  describe: "Refuse it, also after it was approved, as long as it was not used",
  examples: [["boundaryctl approvals deny 3f2a90c1d4e5", "the same question is not put again for a while"]],
  options: (yargs) => yargs.positional("id", ID),
  run: (args) =>
    askAndShow(
      args,
      { verb: "approvals.deny", params: { id: args.id } },
      { render: ({ id }) => [`denied     ${plain(id)}`] },
    ),
});

/** `boundaryctl approvals …`. */
export const command = group({
  usage: "approvals",
  describe: "See and decide what policy leaves to a person",
  examples: [
    ["boundaryctl approvals list", "what waits"],
    ["boundaryctl approvals approve 3f2a90c1d4e5", "shows it, and asks"],
  ],
  children: [list, show, approve, deny],
  alone: null,
});
