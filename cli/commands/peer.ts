import { askAndShow } from "../ask.ts";
import { define, group } from "../command.ts";
import { usageError } from "../exit.ts";
import { plain } from "../output.ts";
import { keepStdin, readSecretInput } from "../secret-input.ts";
import { NAME, WORKSPACE } from "../vault-arguments.ts";
import { renderSecret, renderSecrets } from "./secret.ts";

const MAX_KEY_TEXT_BYTES = 1_024;
const TEXT = { type: "string", requiresArg: true } as const;
const SUBNET = { type: "string", requiresArg: true, array: true, default: [] as string[] } as const;

const add = define({
  usage: "add <name>",
  describe: "Keep a pre-shared key of 32 bytes, in hex or base64: typed unseen, or by stdin",
  examples: [
    [
      "boundaryctl peer add ct --local-id pt.example --remote-id ct.example --remote-address 192.0.2.7 < key.hex",
      "one peer",
    ],
  ],
  options: (yargs) =>
    yargs
      .positional("name", NAME)
      .option("workspace", WORKSPACE)
      .option("local-id", { ...TEXT, describe: "Who we are" })
      .option("remote-id", { ...TEXT, describe: "Who the peer is" })
      .option("local-address", { ...TEXT, default: "%any", describe: "Ours" })
      .option("remote-address", { ...TEXT, default: "%any", describe: "The peer's" })
      .option("local-subnet", { ...SUBNET, describe: "What we let through the tunnel" })
      .option("remote-subnet", { ...SUBNET, describe: "What is behind the peer" })
      .option("replace", {
        type: "boolean",
        default: false,
        describe: "It is there already, and gets a new key",
      }),
  run: async (args) => {
    // yargs cannot demand an option with a dash in its name when it strips dashed names
    const { localId, remoteId } = args;
    keepStdin(args);
    if (localId === undefined || remoteId === undefined)
      throw usageError("name both ends: --local-id and --remote-id");
    const text = await readSecretInput("pre-shared key (not shown): ", { mostBytes: MAX_KEY_TEXT_BYTES });
    const value = text.toString("base64");
    text.fill(0);
    const peer = {
      localAddress: args.localAddress,
      remoteAddress: args.remoteAddress,
      localId,
      remoteId,
      localSubnets: args.localSubnet,
      remoteSubnets: args.remoteSubnet,
    };
    const params = { workspace: args.workspace, name: args.name, value, replace: args.replace, peer };
    return askAndShow(args, { verb: "peer.add", params }, { render: renderSecret });
  },
});

const list = define({
  usage: "list",
  describe: "Show the peers; never their keys",
  examples: [["boundaryctl peer list", "by name and fingerprint"]],
  options: (yargs) =>
    yargs.option("workspace", { type: "string", requiresArg: true, describe: "Of this one alone" }),
  run: (args) =>
    askAndShow(
      args,
      { verb: "peer.list", params: args.workspace === undefined ? {} : { workspace: args.workspace } },
      { render: renderSecrets },
    ),
});

const exporting = define({
  usage: "export",
  describe:
    "Have the daemon write a strongSwan configuration that root alone can read, until the vault is locked",
  examples: [["boundaryctl peer export --workspace site", "then: swanctl --load-all --file PATH"]],
  options: (yargs) => yargs.option("workspace", WORKSPACE),
  run: (args) =>
    askAndShow(
      args,
      { verb: "peer.export", params: { workspace: args.workspace } },
      {
        render: ({ path, peers }) => [
          `written    ${plain(path)}`,
          `peers      ${peers.map((each) => plain(each)).join(", ")}`,
          `load it    swanctl --load-all --file ${plain(path)}`,
        ],
      },
    ),
});

/** `boundaryctl peer add|list|export`. */
export const command = group({
  usage: "peer",
  describe: "Keep pre-shared keys, and write them out for strongSwan",
  examples: [["boundaryctl peer list", "who shares a key with us"]],
  children: [add, list, exporting],
  alone: null,
});
