import type { z } from "zod";
import type { Daemon } from "./daemon.ts";
import type { Denials } from "./denials.ts";
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

type Asker = { readonly peer: Peer; readonly token: string | null };
type MessageOffice = {
  readonly daemon: Pick<Daemon, "state" | "assurance" | "record">;
  readonly denials: Pick<Denials, "record">;
  readonly vault: Pick<Vault, "checkMessage">;
};

/** Looks for secrets in a text, and answers when the answer is on disk. What cannot be recorded is a no. */
export async function checkMessage(
  { daemon, denials, vault }: MessageOffice,
  { text }: Params<"check.message">,
  { peer: { uid, pid }, token }: Asker,
): Promise<MessageReply> {
  const seen = vault.checkMessage(text);
  if (seen.verdict === "clean" && daemon.state().room === "ok") {
    const { seq, durable } = daemon.record({ kind: "decision", data: dataOf("allow", ["message.clean"]) });
    try {
      await durable;
      return { decision: true, ...seen, correlationId: String(seq) };
    } catch {
      return { ...UNRECORDED, correlationId: String(seq) };
    }
  }
  const isFull = seen.verdict === "clean";
  const { verdict, found, why } = isFull ? UNRECORDED : seen;
  const reason = isFull ? ["log-unavailable"] : [`message.${verdict}`, ...found];
  // no digest of the text: who reads the log could try secrets against it
  const denied = { digest: "message.check", answer: reason.join(" "), data: dataOf("deny", reason) };
  const receipt = denials.record({ uid, token }, denied);
  await receipt.durable;
  return {
    decision: false,
    verdict,
    found,
    why,
    correlationId: receipt.seq === -1 ? "" : String(receipt.seq),
  };

  function dataOf(decision: "allow" | "deny", because: readonly string[]) {
    return {
      subject: { type: "User", id: String(uid) },
      by: { uid, pid, ...(token === null ? {} : { tokenId: token }) },
      action: "message.check",
      resource: { type: "message", id: "", properties: { length: text.length } },
      decision,
      reason: [...because],
      mode: daemon.state().wanted,
      assurance: daemon.assurance(),
    };
  }
}

const UNRECORDED = {
  decision: false,
  verdict: "unscanned",
  found: [],
  why: "the answer could not be recorded",
} as const;
