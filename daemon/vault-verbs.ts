import type { z } from "zod";
import type { Daemon } from "./daemon.ts";
import type { Peer } from "./ports.ts";
import type { MessageReply, PARAMS, SecretReply, VaultReply, Verb } from "./protocol/messages.ts";
import type { Vault } from "./vault.ts";

type Params<V extends Verb> = z.output<(typeof PARAMS)[V]>;

/** Values come as base64 text, and are bytes from here on: the vault overwrites them. */
export function putSecret(
  vault: Vault,
  as: "put" | "rotate",
  { workspace, name, value }: Params<"secret.put">,
  by: string,
): Promise<SecretReply> {
  return vault.put({
    workspace,
    name,
    kind: "secret",
    value: Buffer.from(value, "base64"),
    peer: null,
    as,
    by,
  });
}

export function addPeer(
  vault: Vault,
  { workspace, name, value, replace, peer }: Params<"peer.add">,
  by: string,
): Promise<SecretReply> {
  const text = Buffer.from(value, "base64");
  return vault.addPeer({ workspace, name, text, peer, as: replace ? "rotate" : "put", by });
}

export function unlock(vault: Vault, params: Params<"vault.unlock">, by: string): Promise<VaultReply> {
  const { workspace, passphrase, create = null, forMs = null } = params;
  return vault.unlock({ workspace, passphrase: bytesOf(passphrase), create, forMs, by });
}

export function rewrap(vault: Vault, params: Params<"vault.rewrap">, by: string): Promise<VaultReply> {
  const { workspace, kind = null, passphrase } = params;
  return vault.rewrap({ workspace, kind, passphrase: bytesOf(passphrase), by });
}

function bytesOf(passphrase: string | undefined): Buffer | null {
  return passphrase === undefined ? null : Buffer.from(passphrase, "base64");
}

/** Looks for secrets in a text, and answers when the answer is on disk. What cannot be recorded is a no. */
export async function checkMessage(
  { daemon, vault }: { readonly daemon: Daemon; readonly vault: Vault },
  { text }: Params<"check.message">,
  peer: Peer,
): Promise<MessageReply> {
  const seen = vault.checkMessage(text);
  const isFull = daemon.state().room === "low";
  const decision = seen.verdict === "clean" && !isFull;
  const data = {
    subject: { type: "uid", id: String(peer.uid), pid: peer.pid },
    action: "message.check",
    resource: { type: "message", id: "", properties: { length: text.length } },
    decision: decision ? "allow" : "deny",
    reason: isFull ? ["log-unavailable"] : [`message.${seen.verdict}`, ...seen.found],
    mode: daemon.state().wanted,
    assurance: daemon.assurance(),
  };
  const key = JSON.stringify([peer.uid, data.action, data.reason]);
  const receipt = isFull ? daemon.denied(key, data) : daemon.record({ kind: "decision", data });
  const correlationId = receipt.seq === -1 ? "" : String(receipt.seq);
  const recorded = await receipt.durable.then(
    () => true,
    () => false,
  );
  if (decision && recorded) return { decision, ...seen, correlationId };
  const verdict = seen.verdict === "clean" ? "unscanned" : seen.verdict;
  const why = seen.verdict === "clean" ? "the answer could not be recorded" : seen.why;
  return { decision: false, verdict, found: seen.found, why, correlationId };
}
