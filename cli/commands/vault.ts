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
  describe: "Unlock a workspace for a time; a passphrase or PIN is typed unseen, or comes by stdin",
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
    const kind = args.create ? (args.kek ?? "passphrase") : null;
    const passphrase = await given(args, { workspace: args.workspace, kind, isNew: args.create });
    if (typeof passphrase === "number") return passphrase;
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

/**
 * What a person has to give for a key of this kind (null: the workspace's own): a passphrase, the PIN of a token, or
 * nothing. An exit code when the daemon refused to say which.
 */
async function given(
  common: Common,
  key: { readonly workspace: string; readonly kind: string | null; readonly isNew: boolean },
): Promise<{ readonly passphrase?: string } | ExitCode> {
  if (key.kind === "passphrase") return askPassphrase(key.isNew);
  const found = dataOr(common, await withDaemon(common, (client) => client.call("vault.status", {})));
  if ("code" in found) return found.code;
  const { workspaces, asks } = found.data;
  const kind = key.kind ?? workspaces.find(({ workspace }) => workspace === key.workspace)?.kind ?? "";
  if (!asks.includes(kind)) return {};
  return kind === "pkcs11" ? askPin() : askPassphrase(key.isNew);
}

async function askPassphrase(isNew: boolean): Promise<{ readonly passphrase: string }> {
  return inBase64(
    isNew
      ? await readNewPassphrase("new passphrase (not shown): ", MAX_PASSPHRASE_BYTES)
      : await readSecretInput("passphrase (not shown): ", { mostBytes: MAX_PASSPHRASE_BYTES }),
  );
}

/** Once, also for a new key: the token has its PIN already. */
async function askPin(): Promise<{ readonly passphrase: string }> {
  return inBase64(
    await readSecretInput("PIN of the token (not shown): ", { mostBytes: MAX_PASSPHRASE_BYTES }),
  );
}

function inBase64(bytes: Buffer): { readonly passphrase: string } {
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
    const { workspace, kek = null } = args;
    const passphrase = await given(args, { workspace, kind: kek, isNew: true });
    if (typeof passphrase === "number") return passphrase;
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
