import type { SecretList, SecretReply } from "../../daemon/protocol/messages.ts";
import { askAndShow } from "../ask.ts";
import { type CliCommand, define, group } from "../command.ts";
import { inject } from "../exec/inject.ts";
import { plain, renderTable } from "../output.ts";
import { keepStdin, readSecretInput } from "../secret-input.ts";
import { NAME, WORKSPACE } from "../vault-arguments.ts";

/** What a secret may have. Bytes. */
const MAX_BYTES = 32_768;

const list = define({
  usage: "list",
  describe: "Show what secrets there are, by name, version and fingerprint",
  examples: [["boundaryctl secret list --workspace build", "those of one workspace"]],
  options: (yargs) =>
    yargs.option("workspace", { type: "string", requiresArg: true, describe: "Of this one alone" }),
  run: (args) =>
    askAndShow(
      args,
      { verb: "secret.list", params: args.workspace === undefined ? {} : { workspace: args.workspace } },
      { render: renderSecrets },
    ),
});

/** A list of secrets or peers as lines, safe for a terminal. */
export function renderSecrets({ secrets, more }: SecretList): readonly string[] {
  const rows = secrets.map(({ workspace, name, version, state, at, fingerprint, why }) => [
    plain(`${workspace}/${name}`),
    plain(version),
    plain(state),
    plain(at),
    plain(why === "" ? fingerprint : why),
  ]);
  return [
    ...renderTable([["NAME", "VERSION", "STATE", "SINCE", "FINGERPRINT"], ...rows]),
    ...(more > 0 ? [`… and ${more} more`] : []),
  ];
}

/** put and rotate: the value is typed or piped in. */
function giving(word: "put" | "rotate", describe: string): CliCommand {
  return define({
    usage: `${word} <name>`,
    describe,
    examples: [
      [`boundaryctl secret ${word} deploy-token < token.txt`, "its value comes by stdin, or is typed unseen"],
    ],
    options: (yargs) =>
      yargs.positional("name", NAME).option("workspace", WORKSPACE).option("exact", {
        type: "boolean",
        default: false,
        describe: "Keep a line break at the end of stdin",
      }),
    run: async (args) => {
      keepStdin(args);
      const secret = await readSecretInput("secret (not shown): ", {
        mostBytes: MAX_BYTES,
        exact: args.exact,
      });
      const value = secret.toString("base64");
      secret.fill(0);
      const params = { workspace: args.workspace, name: args.name, value };
      return askAndShow(args, { verb: `secret.${word}`, params }, { render: renderSecret });
    },
  });
}

/** One secret as lines, safe for a terminal. */
export function renderSecret({
  workspace,
  name,
  version,
  state,
  fingerprint,
}: SecretReply): readonly string[] {
  return [
    `${plain(state)}     ${plain(workspace)}/${plain(name)}, version ${plain(version)}`,
    ...(fingerprint === "" ? [] : [`fingerprint ${plain(fingerprint)}`]),
  ];
}

const revoke = define({
  usage: "revoke <name>",
  describe: "Erase a secret, or a pre-shared key, for good; works while the vault is locked, too",
  examples: [["boundaryctl secret revoke deploy-token", "nobody gets it any more"]],
  options: (yargs) =>
    yargs
      .positional("name", NAME)
      .option("workspace", WORKSPACE)
      .option("kind", {
        choices: ["secret", "psk"] as const,
        default: "secret" as const,
        describe: "psk: a peer's key",
      }),
  run: (args) =>
    askAndShow(
      args,
      { verb: "secret.revoke", params: { workspace: args.workspace, name: args.name, kind: args.kind } },
      { render: renderSecret },
    ),
});

/** `boundaryctl secret put|list|rotate|revoke|inject`. No command shows a secret: it is given to a guarded command's stdin alone. */
export const command = group({
  usage: "secret",
  describe: "Seal, list, change, revoke and inject secrets",
  examples: [["boundaryctl secret put deploy-token < token.txt", "seal one"]],
  children: [
    giving("put", "Seal a new secret"),
    list,
    giving("rotate", "Give a secret a new value; the old one is erased"),
    revoke,
    inject,
  ],
  alone: null,
});
