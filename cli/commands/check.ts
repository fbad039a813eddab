import type { Evaluation } from "../../daemon/core/access.ts";
import { MAX_MESSAGE_BYTES, type MessageReply } from "../../daemon/protocol/messages.ts";
import { askAndShow } from "../ask.ts";
import { type Common, define } from "../command.ts";
import { type ExitCode, usageError } from "../exit.ts";
import { type Paint, painter, plain } from "../output.ts";
import { keepStdin, readStdin } from "../secret-input.ts";
import { upper } from "../upper.ts";

/** What can be asked, and the AuthZEN resource type that goes with it. */
const ACTIONS = {
  recall: { name: "recall", type: "memory" },
  tool: { name: "tool.run", type: "tool" },
  "tool.run": { name: "tool.run", type: "tool" },
  model: { name: "model.call", type: "model" },
  "model.call": { name: "model.call", type: "model" },
  io: { name: "io", type: "io" },
  "file.read": { name: "file.read", type: "file" },
  "file.write": { name: "file.write", type: "file" },
  "network.connect": { name: "network.connect", type: "host" },
  "message.send": { name: "message.send", type: "channel" },
  "command.run": { name: "command.run", type: "command" },
  "process.spawn": { name: "process.spawn", type: "command" },
  "secret.read": { name: "secret.read", type: "secret" },
  "stage.enter": { name: "stage.enter", type: "stage" },
} as const;
const CLASSES = ["PUBLIC", "INTERNAL", "CONFIDENTIAL", "SECRET", "TOP_SECRET", "CROWN_JEWEL"] as const;
const REACHES = ["none", "file", "network", "usb-storage", "usb-input"] as const;
const LOCATIONS = ["local", "external"] as const;
const TAINTS = ["secret", "personal", "untrusted"] as const;

/** `boundaryctl check ACTION RESOURCE`, `boundaryctl check message`: 0 allow, 1 deny. */
export const command = define({
  usage: "check <action> [resource]",
  describe: "Ask whether something is allowed now; exit code 0 allow, 1 deny",
  examples: [
    ["boundaryctl check recall note-1 --class SECRET", "a memory"],
    ["boundaryctl check tool curl --reach network --interface wg0", "a tool, over a VPN"],
    ["boundaryctl check model gpt --location external", "a model"],
    ["boundaryctl check message < prompt.txt", "a text on its way to a prompt: does it hold a secret?"],
    ["boundaryctl check file.read /etc/hosts --taint secret", "a file"],
  ],
  options: (yargs) =>
    yargs
      .positional("action", {
        choices: [...(Object.keys(ACTIONS) as (keyof typeof ACTIONS)[]), "message"] as const,
        demandOption: true,
        describe: "What is to be done",
      })
      .positional("resource", { type: "string", describe: "To what: its name" })
      .option("class", {
        choices: CLASSES,
        coerce: upper,
        requiresArg: true,
        describe: "recall: the memory class",
      })
      .option("reach", {
        choices: REACHES,
        requiresArg: true,
        describe: "tool, io, command, message: what it reaches",
      })
      .option("location", { choices: LOCATIONS, requiresArg: true, describe: "model: where it runs" })
      .option("interface", {
        type: "string",
        requiresArg: true,
        describe: "The interface traffic would take",
      })
      .option("workspace", { type: "string", requiresArg: true, describe: "The workspace it belongs to" })
      .option("taint", {
        choices: TAINTS,
        array: true,
        requiresArg: true,
        describe: "What the asker acts on: may be given again",
      }),
  run: (args) => {
    if (args.action === "message") return checkMessage(args, args.resource);
    if (args.resource === undefined) throw usageError("name a resource: what is it to be done to?");
    const action = ACTIONS[args.action];
    const given = {
      class: args.class,
      reach: args.reach,
      location: args.location,
      interface: args.interface,
      workspace: args.workspace,
    };
    const properties = Object.fromEntries(
      Object.entries(given).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
    );
    const resource = { type: action.type, id: args.resource, properties };
    return askAndShow(
      args,
      { verb: "check", params: { action: { name: action.name }, resource, ...contextOf(args.taint) } },
      {
        render: (decision) => renderDecision(decision, painter(process.stdout).paint),
        exitCode: ({ decision }) => (decision ? 0 : 1),
      },
    );
  },
});

/** What is typed or piped in goes to the daemon and is shown nowhere. */
async function checkMessage(common: Common, resource: string | undefined): Promise<ExitCode> {
  if (resource !== undefined)
    throw usageError("check message reads the text from stdin, and takes no resource");
  keepStdin(common);
  const bytes = await readStdin(MAX_MESSAGE_BYTES);
  if (bytes === null)
    throw usageError(`a text has at most ${MAX_MESSAGE_BYTES} bytes: what is longer is not looked at`);
  const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
  return askAndShow(
    common,
    { verb: "check.message", params: { text } },
    { render: renderMessage, exitCode: ({ decision }) => (decision ? 0 : 1) },
  );
}

function renderMessage({ verdict, found, why, correlationId }: MessageReply): readonly string[] {
  return [
    plain(verdict),
    ...found.map((each) => `found      ${plain(each)}`),
    ...(why === "" ? [] : [`because    ${plain(why)}`]),
    `record     ${plain(correlationId)}`,
  ];
}

function contextOf(taint: readonly string[] | undefined): { context?: { taint: readonly string[] } } {
  return taint === undefined ? {} : { context: { taint } };
}

/** A decision as lines of text, safe for a terminal. */
export function renderDecision(decision: Evaluation, paint: Paint): readonly string[] {
  const allowed = decision.decision;
  const instead = allowed || !decision.wouldAllow ? [] : [`instead    ${plain(decision.wouldAllow)}`];
  const asked = decision.approval === "" ? "a person may be asked" : `waits for  ${plain(decision.approval)}`;
  const person = allowed || !decision.askPerson ? [] : [asked];
  return [
    allowed ? paint("green", "allow") : paint("red", "deny"),
    ...(allowed ? [] : [`code       ${plain(decision.code)}`]),
    `rule       ${decision.reason.map((rule) => plain(rule)).join(", ")}`,
    `mode       ${plain(decision.mode)}`,
    `assurance  ${plain(decision.assurance)}`,
    ...instead,
    ...person,
    `record     ${plain(decision.correlationId)}`,
  ];
}
