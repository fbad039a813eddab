import type {
  UsbChallengeReply,
  UsbDeviceView,
  UsbExplanationReply,
  UsbGrantReply,
  UsbList,
} from "../../daemon/protocol/messages.ts";
import { askAndShow } from "../ask.ts";
import { type CliCommand, define, defineBare, group } from "../command.ts";
import { parseDuration } from "../duration.ts";
import { usageError } from "../exit.ts";
import { plain, renderTable } from "../output.ts";
import { check, importRules } from "../usb-files.ts";

const list = defineBare({
  usage: "list",
  describe: "Show what is plugged in, what is decided about it, and what the kernel holds",
  examples: [["boundaryctl usb list", "devices by port"]],
  run: (args) =>
    askAndShow(
      args,
      { verb: "usb.list", params: {} },
      { render: renderUsbList, exitCode: ({ control }) => (control.state === "failed" ? 1 : 0) },
    ),
});

/** What `usb list` shows, safe for a terminal. */
export function renderUsbList(found: UsbList): readonly string[] {
  const { control, devices, controllers, rules } = found;
  return [
    `usb        ${plain(control.state)}: ${plain(control.detail)}`,
    `rules      ${rules.permanent} permanent, then ${rules.configured} of the configuration`,
    ...controllers.map(
      ({ port, newDevices, newInterfaces }) =>
        `controller ${plain(port)}: new devices ${plain(newDevices)}, new interfaces ${plain(newInterfaces)}`,
    ),
    ...renderTable(devices.map(deviceRow)),
    ...(found.more > 0 ? [`… and ${found.more} more`] : []),
  ];
}

function deviceRow(one: UsbDeviceView): readonly string[] {
  const without = one.refused.length === 0 ? "" : ` without ${one.refused.map(plain).join(" ")}`;
  const held = `${STATE[one.authorized]}${without}`;
  const named = [one.name, one.serial === "" ? "" : `serial ${one.serial}`].filter(Boolean).join(", ");
  const fault = one.failure === "" ? "" : ` FAILED: ${one.failure}`;
  return [
    `  ${plain(one.port)}`,
    plain(one.id),
    plain(held),
    plain(one.interfaces.join(" ")),
    plain(`${named === "" ? "" : `${named}: `}${one.why}${fault}`),
  ];
}

const STATE = { yes: "authorised", no: "blocked", unknown: "unknown" } as const;

const explain = define({
  usage: "explain <device>",
  describe: "Say why a device is let in or not, rule by rule",
  examples: [["boundaryctl usb explain 1-2", "why is it blocked?"]],
  options: (yargs) => yargs.positional("device", DEVICE),
  run: (args) =>
    askAndShow(args, { verb: "usb.explain", params: { device: args.device } }, { render: renderExplanation }),
});

const DEVICE = {
  type: "string",
  demandOption: true,
  describe: "Its port, or its id or hash where that is one device's only",
} as const;

function renderExplanation({ device, rules, more }: UsbExplanationReply): readonly string[] {
  return [
    `device     ${plain(device.port)}: ${plain(device.id)} ${plain(device.name)}`,
    `decided    ${plain(device.target)}: ${plain(device.why)}`,
    ...(device.rule === "" ? [] : [`by         ${plain(device.rule)}`]),
    ...(device.until === "" ? [] : [`until      ${plain(device.until)}`]),
    `hash       ${plain(device.hash)}`,
    ...rules.flatMap(({ rule, matched, because }) => [
      `${matched ? "matches   " : "not       "} ${plain(rule)}`,
      `           ${plain(because)}`,
    ]),
    ...(more > 0 ? [`           … and ${more} more rules`] : []),
  ];
}

const VERBS = { allow: "usb.allow", block: "usb.block", reject: "usb.reject" } as const;

/** allow, block, reject: the same wish with another word. */
function say(word: keyof typeof VERBS, describe: string, example: string): CliCommand {
  return define({
    usage: `${word} <device>`,
    describe,
    examples: [[`boundaryctl usb ${word} 1-2 --for 10m`, example]],
    options: (yargs) =>
      yargs
        .positional("device", DEVICE)
        .option("permanent", { type: "boolean", default: false, describe: "By a rule of its own, for good" })
        .option("for", {
          type: "string",
          requiresArg: true,
          describe: "For 90s, 10m, 2h, through any re-plugging",
        }),
    run: (args) => {
      if (args.permanent && args.for !== undefined) throw usageError("give --permanent or --for, not both");
      const forMs = args.for === undefined ? {} : { forMs: parseDuration(args.for) };
      const params = { device: args.device, permanent: args.permanent, ...forMs };
      return askAndShow(args, { verb: VERBS[word], params }, { render: renderGrant });
    },
  });
}

function renderGrant({ device, until, rule }: UsbGrantReply): readonly string[] {
  const lasts = until !== "" ? `until ${plain(until)}` : rule === "" ? "until it is unplugged" : "for good";
  return [
    `${plain(device.target)}      ${plain(device.port)} ${plain(device.id)}, ${lasts}`,
    ...(device.why === "" ? [] : [`why        ${plain(device.why)}`]),
    ...(rule === "" ? [] : [`rule       ${plain(rule)}`]),
  ];
}

const challenge = define({
  usage: "challenge <device>",
  describe: "Show a code that is to be typed on a new keyboard before it is let in",
  examples: [["boundaryctl usb challenge 1-2", "then type the code on that keyboard"]],
  options: (yargs) => yargs.positional("device", DEVICE),
  run: (args) =>
    askAndShow(args, { verb: "usb.challenge", params: { device: args.device } }, { render: renderChallenge }),
});

function renderChallenge({ port, id, code, until }: UsbChallengeReply): readonly string[] {
  return [
    `code       ${plain(code)}`,
    `type it    on ${plain(port)} ${plain(id)}, until ${plain(until)}`,
    `outcome    boundaryctl usb explain ${plain(port)}`,
  ];
}

const generate = define({
  usage: "generate-policy",
  describe: "Propose rules that allow what is plugged in now, and nothing else",
  examples: [["boundaryctl usb generate-policy > usb.rules", "then read it, and name it as usb.rulesFile"]],
  options: (yargs) =>
    yargs
      .option("with-ports", {
        type: "boolean",
        default: false,
        describe: "Each device at its present port only",
      })
      .option("no-hashes", { type: "boolean", default: false, describe: "Without the hashes of devices" }),
  run: (args) =>
    askAndShow(
      args,
      { verb: "usb.generate", params: { ports: args.withPorts, hashes: !args.noHashes } },
      { render: ({ text }) => text.replace(/\n$/, "").split("\n").map(plain) },
    ),
});

/** `boundaryctl usb …`. */
export const command = group({
  usage: "usb",
  describe: "See and decide which USB devices are let in",
  examples: [
    ["boundaryctl usb list", "what is there"],
    ["boundaryctl usb allow 1-2 --for 10m", "a stick, for ten minutes"],
    ["boundaryctl usb check usb.rules", "before it is used"],
  ],
  children: [
    list,
    explain,
    say("allow", "Let a device in, so far as the mode has it", "for ten minutes"),
    say("block", "Keep a device out", "for ten minutes"),
    say("reject", "Take a device off the bus", "for ten minutes"),
    challenge,
    generate,
    importRules,
    check,
  ],
  alone: null,
});
