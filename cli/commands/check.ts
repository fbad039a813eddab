import type { Evaluation } from "../../daemon/core/access.ts";
import { askAndShow } from "../ask.ts";
import { define } from "../command.ts";
import { type Paint, painter, plain } from "../output.ts";

/** What can be asked, and the AuthZEN resource type that goes with it. */
const ACTIONS = {
  recall: { name: "recall", type: "memory" },
  tool: { name: "tool.run", type: "tool" },
  "tool.run": { name: "tool.run", type: "tool" },
  model: { name: "model.call", type: "model" },
  "model.call": { name: "model.call", type: "model" },
  io: { name: "io", type: "io" },
} as const;
const CLASSES = ["PUBLIC", "INTERNAL", "CONFIDENTIAL", "SECRET", "TOP_SECRET", "CROWN_JEWEL"] as const;
const REACHES = ["none", "file", "network", "usb-storage", "usb-input"] as const;
const LOCATIONS = ["local", "external"] as const;

/** `boundaryctl check ACTION RESOURCE`: 0 allow, 1 deny. */
export const command = define({
  usage: "check <action> <resource>",
  describe: "Ask whether something is allowed now; exit code 0 allow, 1 deny",
  examples: [
    ["boundaryctl check recall note-1 --class SECRET", "a memory"],
    ["boundaryctl check tool curl --reach network --interface wg0", "a tool, over a VPN"],
    ["boundaryctl check model gpt --location external", "a model"],
  ],
  options: (yargs) =>
    yargs
      .positional("action", {
        choices: Object.keys(ACTIONS) as (keyof typeof ACTIONS)[],
        demandOption: true,
        describe: "What is to be done",
      })
      .positional("resource", { type: "string", demandOption: true, describe: "To what: its name" })
      .option("class", {
        choices: CLASSES,
        coerce: upper,
        requiresArg: true,
        describe: "recall: the memory class",
      })
      .option("reach", { choices: REACHES, requiresArg: true, describe: "tool, io: what it reaches" })
      .option("location", { choices: LOCATIONS, requiresArg: true, describe: "model: where it runs" })
      .option("interface", {
        type: "string",
        requiresArg: true,
        describe: "The interface traffic would take",
      }),
  run: (args) => {
    const action = ACTIONS[args.action];
    const given = {
      class: args.class,
      reach: args.reach,
      location: args.location,
      interface: args.interface,
    };
    const properties = Object.fromEntries(
      Object.entries(given).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
    );
    const resource = { type: action.type, id: args.resource, properties };
    return askAndShow(
      args,
      { verb: "check", params: { action: { name: action.name }, resource } },
      {
        render: (decision) => renderDecision(decision, painter(process.stdout).paint),
        exitCode: ({ decision }) => (decision ? 0 : 1),
      },
    );
  },
});

function upper(value: string | undefined): (typeof CLASSES)[number] | undefined {
  // yargs has checked the choice before it is narrowed
  return value?.toUpperCase() as (typeof CLASSES)[number] | undefined;
}

/** A decision as lines of text, safe for a terminal. */
export function renderDecision(decision: Evaluation, paint: Paint): readonly string[] {
  const allowed = decision.decision;
  const instead = allowed || !decision.wouldAllow ? [] : [`instead    ${plain(decision.wouldAllow)}`];
  const person = allowed || !decision.askPerson ? [] : ["a person may be asked"];
  return [
    allowed ? paint("green", "allow") : paint("red", "deny"),
    `rule       ${decision.reason.map((rule) => plain(rule)).join(", ")}`,
    `mode       ${plain(decision.mode)}`,
    `assurance  ${plain(decision.assurance)}`,
    ...instead,
    ...person,
    `record     ${plain(decision.correlationId)}`,
  ];
}
