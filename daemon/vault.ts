import { randomBytes } from "node:crypto";
import { BoundaryError } from "./core/errors.ts";
import {
  type Control,
  MAX_MESSAGE_BYTES,
  type PeerExport,
  type VaultReply,
  type VaultStatus,
} from "./protocol/messages.ts";
import { type Entry, keyOf } from "./vault/catalog.ts";
import type { PeerFacts } from "./vault/document.ts";
import { checkText, type MessageVerdict } from "./vault/message.ts";
import { readKeyText } from "./vault/psk.ts";
import { renderSwanctl, type SharedKey } from "./vault/swanctl.ts";
import { createWatchlist, type Watchlist } from "./vault/watchlist.ts";
import { createLocks } from "./vault-locks.ts";
import { createSecrets, type SecretWish } from "./vault-secrets.ts";
import { createShelf, labelOf, type VaultParts } from "./vault-shelf.ts";

/** The sealed secrets of this host. docs/SECRETS.md says what it holds against whom, and what it does not. */
export type Vault = ReturnType<typeof createVault>;

export function createVault(parts: VaultParts) {
  const shelf = createShelf(parts);
  const locks = createLocks(parts, shelf);
  const secrets = createSecrets(parts, shelf);

  /** Nothing is unlocked by a start, and no configuration of an earlier run is left. */
  function begin(): void {
    shelf.begin();
    shelf.eraseExport();
  }

  function stop(): void {
    locks.stop();
    shelf.eraseExport();
  }

  /** `text` is a key of 32 bytes in hex or base64, for the callee to wipe. */
  async function addPeer(
    wish: SecretWish & { readonly text: Buffer; readonly peer: PeerFacts; readonly as: "put" | "rotate" },
  ) {
    const { text, ...rest } = wish;
    const read = readKeyText(text);
    text.fill(0);
    if (!read.ok) throw new BoundaryError("psk-invalid", `reading the key of ${wish.name}: ${read.why}`);
    return secrets.put({ ...rest, kind: "psk", value: read.key });
  }

  /** Renders the peers of a workspace for strongSwan, into a file that only root and we can read. Recorded first. */
  function exportPeers({
    workspace: name,
    by,
  }: {
    readonly workspace: string;
    readonly by: string;
  }): Promise<PeerExport> {
    return shelf.inTurn(name, async () => {
      const workspace = shelf.find(name);
      const { locks: before } = workspace;
      shelf.opened(workspace);
      const peers = [...workspace.entries.values()].filter(
        ({ kind, state }) => kind === "psk" && state !== "revoked",
      );
      if (peers.length === 0) throw new BoundaryError("secret-unknown", `${name} has no peers`);
      const { path } = parts.exported;
      await shelf.recorded({
        kind: "secret.exported",
        data: { workspace: name, by, path, peers: peers.map((peer) => `${peer.name}.${peer.version}`) },
      });
      const shared: SharedKey[] = [];
      try {
        for (const entry of peers) shared.push(await sharedKey(entry));
        const text = renderSwanctl(shared);
        try {
          shelf.stillOpened(workspace, before);
          shelf.writeExport(text);
        } finally {
          text.fill(0);
        }
      } finally {
        for (const { key } of shared) key.fill(0);
      }
      return { path, peers: shared.map((one) => one.name) };

      function sharedKey(entry: Entry): Promise<SharedKey> {
        return secrets.withPlain(workspace, before, entry, (plain) => {
          if (entry.peer === null)
            throw new BoundaryError("secret-damaged", `${entry.name} has nobody to share it with`);
          return { name: entry.name, peer: entry.peer, key: Buffer.from(plain) };
        });
      }
    });
  }

  /**
   * A secret for as long as `work` takes: for the stdin of a guarded command, which the caller has decided and records. It is
   * wiped then; `known` still finds it in what that command puts out, also when the workspace is locked.
   */
  function withSecret<T>(name: string, which: string, work: (secret: Handed) => Promise<T>): Promise<T> {
    return shelf.inTurn(name, async () => {
      const workspace = shelf.find(name);
      const { locks: before } = workspace;
      shelf.opened(workspace);
      const entry = workspace.entries.get(keyOf("secret", which));
      if (entry === undefined || entry.state === "revoked")
        throw new BoundaryError("secret-unknown", `${name} has no secret ${which}`);
      return secrets.withPlain(workspace, before, entry, (plain) => {
        const own = createWatchlist(randomBytes(32));
        own.add(labelOf(workspace, entry), plain);
        const isOpen = () =>
          workspace.locks === before && workspace.entries.get(keyOf("secret", which)) === entry;
        return work({ plain, version: entry.version, known: own, isOpen });
      });
    });
  }

  /** What looks for the secrets of the workspaces that are open at the moment of the look. */
  function known(): Pick<Watchlist, "locate" | "spansLines"> {
    const open = () => shelf.all().flatMap(({ opened }) => (opened === null ? [] : [opened.watch]));
    return {
      locate: (bytes) => {
        const all = open().map((watch) => watch.locate(bytes));
        return all.some((one) => one === null) ? null : all.flatMap((one) => one ?? []);
      },
      spansLines: () => open().some((watch) => watch.spansLines()),
    };
  }

  /** Whether a text may go to a prompt or a message. What could not be looked at in full may not. */
  function checkMessage(text: string): MessageVerdict {
    const broken = shelf.broken();
    const open = shelf.all().flatMap(({ opened }) => (opened === null ? [] : [opened.watch]));
    const sealed = shelf
      .all()
      .filter(({ opened, entries, fault }) => {
        const living = [...entries.values()].filter(({ state }) => state !== "revoked");
        const isKnown = opened !== null && living.every(({ state }) => state === "sealed");
        return (living.length > 0 && !isKnown) || fault !== "";
      })
      .map(({ name }) => name);
    return checkText(text, { open, sealed: broken === "" ? sealed : ["the vault"] }, MAX_MESSAGE_BYTES);
  }

  return {
    begin,
    stop,
    modeIs: locks.modeIs,
    tick: locks.tick,
    status: locks.status,
    unlock: locks.unlock,
    lock: locks.lock,
    rewrap: locks.rewrap,
    put: secrets.put,
    revoke: secrets.revoke,
    list: secrets.list,
    addPeer,
    exportPeers,
    withSecret,
    known,
    checkMessage,
  };
}

/** A secret on its way into a command. */
type Handed = {
  /** Overwritten when the work is done. */
  readonly plain: Buffer;
  readonly version: number;
  readonly known: Pick<Watchlist, "locate" | "spansLines">;
  /** Whether it may be handed over still: nobody has locked its workspace or changed it. */
  readonly isOpen: () => boolean;
};

/** What the status says of the vault. */
export function vaultClaim({
  fault,
  leftover,
  workspaces,
  more,
}: VaultStatus): Pick<Control, "state" | "detail"> {
  if (leftover !== "") return { state: "failed", detail: `keys in clear are still there: ${leftover}` };
  if (fault !== "") return { state: "failed", detail: `it stays locked: ${fault}` };
  if (workspaces.length === 0) return { state: "absent", detail: "there is no workspace of secrets" };
  const sum = (count: (one: VaultReply) => number) => workspaces.reduce((all, one) => all + count(one), 0);
  const damaged = sum((one) => one.damaged);
  const keyrings = sum((one) => (one.fault === "" ? 0 : 1));
  const open = sum((one) => (one.state === "unlocked" ? 1 : 0));
  const whole = `${workspaces.length}${more > 0 ? ` of ${workspaces.length + more}` : ""} workspaces, ${open} unlocked; ${sum((one) => one.secrets)} secrets`;
  return damaged + keyrings > 0
    ? { state: "failed", detail: `${damaged} damaged secrets, ${keyrings} damaged keyrings; ${whole}` }
    : { state: "observed", detail: whole };
}
