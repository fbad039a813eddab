import type { VaultReply, VaultStatus } from "../../daemon/protocol/messages.ts";
import { askAndShow, dataOr, withDaemon } from "../ask.ts";
import { type Common, define, defineBare, group } from "../command.ts";
import { parseDuration } from "../duration.ts";
import { type ExitCode, usageError } from "../exit.ts";
import { plain, renderTable } from "../output.ts";
import { keepStdin, readNewPassphrase, readSecretInput } from "../secret-input.ts";
import { KEK_KINDS, MAX_PASSPHRASE_BYTES, WORKSPACE } from "../vault-arguments.ts";

/** Argon2id takes its time, and every secret is opened once. */
const DEADLINE_MS = 60_000;

const unlock = define({
  usage: "unlock [workspace]",
  describe: "Unlock a workspace for a time; a passphrase is typed unseen, or comes by stdin",
  examples: [
    ["boundaryctl vault unlock build --for 10m", "for ten minutes"],
    ["boundaryctl vault unlock build --create --kek file", "make it"],
  ],
  options: (yargs) =>
    yargs
      .positional("workspace", { type: "string", default: "default", describe: "Which" })
      .option("for", { type: "string", requiresArg: true, describe: "For 90s, 10m, 2h" })
      .option("create", { type: "boolean", default: false, describe: "Make it: it is not there yet" })
      .option("kek", {
        choices: KEK_KINDS,
        requiresArg: true,
        describe: "With --create: what keeps its key",
      }),
  run: async (args) => {
    keepStdin(args);
    if (args.kek !== undefined && !args.create) throw usageError("--kek is for --create; see `vault rewrap`");
    const kind = args.create ? (args.kek ?? "passphrase") : await kindOf(args, args.workspace);
    if (typeof kind === "number") return kind;
    const passphrase = kind === "passphrase" ? await askPassphrase(args.create) : {};
    const create = args.create ? { create: args.kek ?? ("passphrase" as const) } : {};
    const forMs = args.for === undefined ? {} : { forMs: parseDuration(args.for) };
    const params = { workspace: args.workspace, ...passphrase, ...create, ...forMs };
    return askAndShow(
      args,
      { verb: "vault.unlock", params, deadlineMs: DEADLINE_MS },
      { render: renderWorkspace },
    );
  },
});

/** What keeps a workspace's key; an exit code when the daemon refused to say. */
async function kindOf(common: Common, workspace: string): Promise<string | ExitCode> {
  const found = dataOr(common, await withDaemon(common, (client) => client.call("vault.status", {})));
  if ("code" in found) return found.code;
  return found.data.workspaces.find((each) => each.workspace === workspace)?.kind ?? "";
}

async function askPassphrase(isNew: boolean): Promise<{ readonly passphrase: string }> {
  const bytes = isNew
    ? await readNewPassphrase("new passphrase (not shown): ", MAX_PASSPHRASE_BYTES)
    : await readSecretInput("passphrase (not shown): ", { mostBytes: MAX_PASSPHRASE_BYTES });
  const passphrase = bytes.toString("base64");
  bytes.fill(0);
  return { passphrase };
}

function renderWorkspace(one: VaultReply): readonly string[] {
  const { workspace, state, kek, kind, fault, until, secrets, damaged } = one;
  return [
    `${plain(state)}   ${plain(workspace)}${until === "" ? "" : `, until ${plain(until)}`}`,
    `key        ${plain(kek)} (${plain(kind)})`,
    `secrets    ${plain(secrets)}${damaged === 0 ? "" : `, and ${plain(damaged)} damaged`}`,
    ...(fault === "" ? [] : [`FAULT      ${plain(fault)}`]),
  ];
}

const lock = define({
  usage: "lock [workspace]",
  describe: "Drop the keys of a workspace at once; of all, without one",
  examples: [["boundaryctl vault lock", "all of them"]],
  options: (yargs) => yargs.positional("workspace", { type: "string", describe: "Which" }),
  run: (args) =>
    askAndShow(
      args,
      { verb: "vault.lock", params: args.workspace === undefined ? {} : { workspace: args.workspace } },
      { render: renderStatus },
    ),
});

const status = defineBare({
  usage: "status",
  describe: "Show which workspaces there are, and which are unlocked until when",
  examples: [["boundaryctl vault status", "locked or not"]],
  run: (args) =>
    askAndShow(
      args,
      { verb: "vault.status", params: {} },
      { render: renderStatus, exitCode: ({ fault, leftover }) => (fault + leftover === "" ? 0 : 1) },
    ),
});

/** The vault as lines, safe for a terminal. */
export function renderStatus({ fault, leftover, workspaces, more }: VaultStatus): readonly string[] {
  const rows = workspaces.map((one) => [
    plain(one.workspace),
    plain(one.state),
    plain(one.kind),
    `${plain(one.secrets)} secrets${one.damaged === 0 ? "" : `, ${plain(one.damaged)} damaged`}`,
    plain(one.fault === "" ? one.until : one.fault),
  ]);
  return [
    ...(fault === "" ? [] : [`FAULT: ${plain(fault)}`]),
    ...(leftover === "" ? [] : [`KEYS IN CLEAR are still there, to be erased by hand: ${plain(leftover)}`]),
    ...(rows.length === 0
      ? ["no workspace: make one with `boundaryctl vault unlock --create`"]
      : renderTable(rows)),
    ...(more > 0 ? [`… and ${more} more`] : []),
  ];
}

const rewrap = define({
  usage: "rewrap [workspace]",
  describe: "Give a workspace a new key (KEK); it has to be unlocked. No secret is encrypted anew",
  examples: [["boundaryctl vault rewrap build --kek passphrase", "with a new passphrase"]],
  options: (yargs) =>
    yargs
      .positional("workspace", { type: "string", default: WORKSPACE.default, describe: "Which" })
      .option("kek", {
        choices: KEK_KINDS,
        requiresArg: true,
        describe: "What keeps the new key; else as before",
      }),
  run: async (args) => {
    keepStdin(args);
    const kind = args.kek ?? (await kindOf(args, args.workspace));
    if (typeof kind === "number") return kind;
    const passphrase = kind === "passphrase" ? await askPassphrase(true) : {};
    const params = { workspace: args.workspace, ...passphrase, ...(args.kek ? { kind: args.kek } : {}) };
    return askAndShow(
      args,
      { verb: "vault.rewrap", params, deadlineMs: DEADLINE_MS },
      { render: renderWorkspace },
    );
  },
});

/** `boundaryctl vault unlock|lock|status|rewrap`. */
export const command = group({
  usage: "vault",
  describe: "Lock and unlock the workspaces of secrets",
  examples: [["boundaryctl vault status", "locked or not"]],
  children: [unlock, lock, status, rewrap],
  alone: null,
});
