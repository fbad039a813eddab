import type { LeaseList, LeaseReply, LeaseView } from "../../daemon/protocol/grants.ts";
import { askAndShow, dataOr, withDaemon } from "../ask.ts";
import { define, defineBare, group } from "../command.ts";
import { parseLife } from "../duration.ts";
import { plain, printJson, printLines, renderTable } from "../output.ts";

const ID = { type: "string", demandOption: true, describe: "As `lease list` shows it" } as const;
const REASON = { type: "string", requiresArg: true, describe: "Goes into the log" } as const;

const request = define({
  usage: "request <template>",
  describe: "Ask for an exception that the configuration names",
  examples: [
    ['boundaryctl lease request deploy --reason "the release" --for 10m', "then somebody else approves it"],
  ],
  options: (yargs) =>
    yargs
      .positional("template", { type: "string", demandOption: true, describe: "As `lease list` names it" })
      .option("reason", { ...REASON, demandOption: true })
      .option("for", {
        type: "string",
        requiresArg: true,
        describe: "Not longer than the template allows: 10m, 2h",
      }),
  run: (args) =>
    askAndShow(
      args,
      {
        verb: "lease.request",
        params: {
          template: args.template,
          reason: args.reason,
          ...(args.for === undefined ? {} : { forMs: parseLife(args.for) }),
        },
      },
      { render: renderLease },
    ),
});

const list = defineBare({
  usage: "list",
  describe: "Show the leases, and what may be asked for; your own, if you are no operator",
  examples: [["boundaryctl lease list", "what waits, what is live"]],
  run: (common) =>
    withDaemon(common, async (client) => {
      const leases: LeaseView[] = [];
      let templates: LeaseList["templates"] = [];
      for (let after: string | undefined; ; after = leases.at(-1)?.id) {
        const found = dataOr(common, await client.call("lease.list", after === undefined ? {} : { after }));
        if ("code" in found) return found.code;
        leases.push(...found.data.leases);
        templates = found.data.templates;
        if (found.data.more === 0 || found.data.leases.length === 0) break;
      }
      if (common.json) printJson({ leases, templates });
      else printLines([...renderTable([HEADING, ...leases.map(rowOf)]), ...templates.map(renderTemplate)]);
      return 0;
    }),
});

const HEADING = ["ID", "STATE", "TEMPLATE", "WHO", "UP TO", "UNTIL", "USES", "REASON"];

function rowOf({ id, state, template, by, maxMode, until, uses, reason }: LeaseView): readonly string[] {
  const who = by.tokenId === "" ? `uid ${by.uid}` : `uid ${by.uid}, token ${by.tokenId}`;
  const left = uses === null ? "-" : String(uses);
  return [id, state, template, who, maxMode, until === "" ? "-" : until, left, reason].map(plain);
}

function renderTemplate({ name, needs, maxMode, maxMs, maxUses }: LeaseList["templates"][number]): string {
  const uses = maxUses === null ? "" : `, ${plain(maxUses)} uses`;
  const by = needs === "person" ? "a person approves" : "given at once";
  return `template   ${plain(name)}: up to ${plain(maxMode)}, ${plain(maxMs / 1_000)} s${uses}; ${by}`;
}

const approve = define({
  usage: "approve <id>",
  describe: "Grant what somebody else asked for: it starts now",
  examples: [["boundaryctl lease approve 0123456789abcdef", "as an operator, at a terminal"]],
  options: (yargs) => yargs.positional("id", ID),
  run: (args) =>
    askAndShow(args, { verb: "lease.approve", params: { id: args.id } }, { render: renderLease }),
});

const deny = define({
  usage: "deny <id>",
  describe: "Refuse what was asked for",
  examples: [['boundaryctl lease deny 0123456789abcdef --reason "not today"', "who asked may ask again"]],
  options: (yargs) => yargs.positional("id", ID).option("reason", REASON),
  run: (args) => askAndShow(args, { verb: "lease.deny", params: ending(args) }, { render: renderLease }),
});

const revoke = define({
  usage: "revoke <id>",
  describe: "End a lease before its time: an operator any, anybody his own",
  examples: [["boundaryctl lease revoke 0123456789abcdef", "it is not needed any more"]],
  options: (yargs) => yargs.positional("id", ID).option("reason", REASON),
  run: (args) => askAndShow(args, { verb: "lease.revoke", params: ending(args) }, { render: renderLease }),
});

function ending({ id, reason }: { id: string; reason: string | undefined }): { id: string; reason?: string } {
  return reason === undefined ? { id } : { id, reason };
}

function renderLease({ lease }: LeaseReply): readonly string[] {
  const until = lease.until === "" ? "" : `, until ${plain(lease.until)}`;
  return [
    `lease      ${plain(lease.id)} ${plain(lease.template)}`,
    `state      ${plain(lease.state)}${until}`,
    ...(lease.uses === null ? [] : [`uses       ${plain(lease.uses)} left`]),
    ...(lease.state === "pending" ? ["An operator other than you has to approve it."] : []),
  ];
}

/** `boundaryctl lease`. */
export const command = group({
  usage: "lease",
  describe: "Ask for exceptions for a time, and answer who asks",
  examples: [["boundaryctl lease list", "what waits, what is live"]],
  children: [request, list, approve, deny, revoke],
  alone: null,
});
