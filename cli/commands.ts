import type { CliCommand } from "./command.ts";

/** A top-level word. Its module is loaded when the word is used, or when all are shown. */
export type Row = {
  readonly word: string;
  readonly describe: string;
  readonly load: () => Promise<{ readonly command: CliCommand }>;
};

/** Every command, in the order of the help. */
export const ROWS: readonly Row[] = [
  row(
    "status",
    "Show the mode, the controls behind it, the sensors and the log",
    () => import("./commands/status.ts"),
  ),
  row("mode", "Show or change the mode", () => import("./commands/mode.ts")),
  row("ceremony", "Leave LOCKDOWN", () => import("./commands/ceremony.ts")),
  row(
    "enforce",
    "Have the kernel hold the mode, after shadow or a release",
    () => import("./commands/enforce.ts"),
  ),
  row("release", "Take our rules out of the kernel, by ceremony", () => import("./commands/release.ts")),
  row("network", "Look at what the network is used for", () => import("./commands/network.ts")),
  row("isolation", "Keep domains apart: apply, validate, status", () => import("./commands/isolation.ts")),
  row("usb", "See and decide which USB devices are let in", () => import("./commands/usb.ts")),
  row("watch", "Follow what happens, live, until Ctrl-C", () => import("./commands/watch.ts")),
  row("events", "Show the newest records, oldest first", () => import("./commands/events.ts")),
  row(
    "selftest",
    "Try out what status claims: packets, files, log, events",
    () => import("./commands/selftest.ts"),
  ),
  row("tripwire", "Look at the tripwires", () => import("./commands/tripwire.ts")),
  row("token", "Make, narrow, see and revoke capability tokens", () => import("./commands/token.ts")),
  row("lease", "Ask for exceptions for a time, and answer who asks", () => import("./commands/lease.ts")),
  row("check", "Ask whether something is allowed now", () => import("./commands/check.ts")),
  row("secret", "Seal, list, change, revoke and inject secrets", () => import("./commands/secret.ts")),
  row("vault", "Lock and unlock the workspaces of secrets", () => import("./commands/vault.ts")),
  row("peer", "Keep pre-shared keys, and write them out for strongSwan", () => import("./commands/peer.ts")),
  row("approvals", "See and decide what policy leaves to a person", () => import("./commands/approvals.ts")),
  row("hook", "Answer an agent's PreToolUse hook: allow, deny or ask", () => import("./commands/hook.ts")),
  row("mcp", "Serve status, check and request-approval as MCP tools", () => import("./commands/mcp.ts")),
  row("exec", "Judge commands, and run them under guard", () => import("./commands/exec.ts")),
  row("policy", "Check, try, explain, compare and reload the policies", () => import("./commands/policy.ts")),
  row(
    "verify-log",
    "Verify a log offline, with the public key alone",
    () => import("./commands/verify-log.ts"),
  ),
  row(
    "verify",
    "Look at everything at once: log, head, permissions, baseline, rules",
    () => import("./commands/verify.ts"),
  ),
  row(
    "log",
    "Work with the signed log: head, proofs, witnesses, replay, pruning, shipping",
    () => import("./commands/log.ts"),
  ),
  row("audit", "Read the audit stream, and hold it against the log", () => import("./commands/audit.ts")),
  row("key", "Show the log's public key, or all its keys", () => import("./commands/key.ts")),
  row("clock", "Deal with a clock that moved", () => import("./commands/clock.ts")),
  row("doctor", "Say what this host can enforce, and what is missing", () => import("./commands/doctor.ts")),
  row("completion", "Print the shell's completion script", () => import("./commands/completion.ts")),
];

function row(word: string, describe: string, load: Row["load"]): Row {
  return { word, describe, load };
}
