import { BoundaryError, renderErrorChain } from "./core/errors.ts";
import type { SecretList, SecretReply } from "./protocol/messages.ts";
import { type Entry, fileOf, keyOf } from "./vault/catalog.ts";
import {
  type Kind,
  MAX_SECRET_BYTES,
  type PeerFacts,
  renderDocument,
  type Tombstone,
} from "./vault/document.ts";
import { seal, unseal } from "./vault/envelope.ts";
import { fingerprintOf } from "./vault/fingerprint.ts";
import { labelOf, type Shelf, type VaultParts, type Workspace } from "./vault-shelf.ts";

export type SecretWish = {
  readonly workspace: string;
  readonly name: string;
  readonly by: string;
};

export type PutWish = SecretWish & {
  readonly kind: Kind;
  /** For the callee to wipe. */
  readonly value: Buffer;
  readonly peer: PeerFacts | null;
  /** put: there is none yet. rotate: there is one, and it is erased when the new one is there. */
  readonly as: "put" | "rotate";
};

/** Some 300 bytes each, of a frame's 64 KiB. */
const MAX_LISTED = 150;

/** Putting, changing, revoking and listing secrets. A value is a Buffer that is overwritten when it was used. */
export function createSecrets(parts: VaultParts, shelf: Shelf) {
  async function put(wish: PutWish): Promise<SecretReply> {
    try {
      return await shelf.inTurn(wish.workspace, () => putNow(wish));
    } finally {
      wish.value.fill(0);
    }
  }

  async function putNow({
    workspace: name,
    name: which,
    kind,
    value,
    peer,
    as,
    by,
  }: PutWish): Promise<SecretReply> {
    const workspace = shelf.find(name);
    const { locks } = workspace;
    const { kek, fingerprintKey } = shelf.opened(workspace);
    if (value.length === 0 || value.length > MAX_SECRET_BYTES)
      throw new BoundaryError("secret-invalid", `sealing ${which}: it has ${value.length} bytes`);
    const before = workspace.entries.get(keyOf(kind, which));
    const isThere = before !== undefined && before.state !== "revoked";
    if (as === "put" && isThere)
      throw new BoundaryError("secret-exists", `${name} has a ${kind} ${which} already`);
    if (as === "rotate" && !isThere) throw unknown(workspace, kind, which);
    const version = (before?.version ?? 0) + 1;
    const fingerprint = fingerprintOf(fingerprintKey, value);
    const created = new Date(parts.clock.wallMs()).toISOString();
    const facts = peer ?? (as === "rotate" ? before?.peer : null);
    const header = { kind, workspace: name, name: which, version, created, fingerprint };
    const sealed = await seal(value, facts ? { ...header, peer: facts } : header, kek);
    shelf.stillOpened(workspace, locks);
    const entry: Entry = {
      kind,
      name: which,
      version,
      state: "sealed",
      at: created,
      fingerprint,
      peer: facts ?? null,
      why: "",
    };
    const file = fileOf(entry);
    parts.files.prepare(name, file, renderDocument(sealed));
    try {
      const data = { workspace: name, kind, name: which, version, fingerprint, by };
      await shelf.recorded({ kind: as === "put" ? "secret.put" : "secret.rotated", data });
    } catch (error) {
      parts.files.erase(name, file);
      throw error;
    }
    parts.files.commit(name, file);
    workspace.entries.set(keyOf(kind, which), entry);
    watch(workspace, entry, value);
    if (before !== undefined && before.state !== "revoked") eraseOld(name, before);
    return replyOf(workspace, entry);
  }

  /** The value is looked for in messages from here on, and the one before it no more. */
  function watch(workspace: Workspace, entry: Entry, value: Buffer): void {
    const watched = workspace.opened?.watch; // locked since: the next unlock takes it in
    watched?.remove(labelOf(workspace, entry));
    watched?.add(labelOf(workspace, entry), value);
  }

  /** The newer version counts already: what cannot be erased now is erased by the next start. */
  function eraseOld(workspace: string, before: Entry): void {
    try {
      parts.files.erase(workspace, fileOf({ ...before, state: "sealed" }));
    } catch (error) {
      parts.opLog.error(
        { workspace, err: renderErrorChain(error) },
        "an outdated secret could not be erased",
      );
    }
  }

  /** A tightening: done once what is under way has ended, in any mode, locked or not, and recorded then. */
  function revoke({
    workspace: name,
    name: which,
    kind,
    by,
  }: SecretWish & { readonly kind: Kind }): Promise<SecretReply> {
    return shelf.inTurn(name, async () => {
      const workspace = shelf.find(name);
      const before = workspace.entries.get(keyOf(kind, which));
      if (before === undefined || before.state === "revoked") throw unknown(workspace, kind, which);
      const { version, fingerprint } = before;
      const revoked = new Date(parts.clock.wallMs()).toISOString();
      const entry: Entry = { ...before, state: "revoked", at: revoked, fingerprint: "", peer: null, why: "" };
      workspace.entries.set(keyOf(kind, which), entry);
      workspace.opened?.watch.remove(labelOf(workspace, entry));
      const stone: Tombstone = { v: 1, kind, workspace: name, name: which, version, revoked };
      parts.files.replace(name, fileOf(entry), renderDocument(stone));
      parts.files.erase(name, fileOf({ ...before, state: "sealed" }));
      try {
        await shelf.record({
          kind: "secret.revoked",
          data: { workspace: name, kind, name: which, version, fingerprint, by },
        });
      } catch (cause) {
        throw new BoundaryError("log-unavailable", "recording that the secret was revoked (it is)", {
          cause,
        });
      }
      return replyOf(workspace, entry);
    });
  }

  /** The plain text for as long as `work` takes. What was locked, revoked or changed meanwhile is not given. */
  async function withPlain<T>(
    workspace: Workspace,
    locks: number,
    entry: Entry,
    work: (plain: Buffer) => Promise<T> | T,
  ): Promise<T> {
    const { kek } = shelf.stillOpened(workspace, locks);
    if (workspace.entries.get(keyOf(entry.kind, entry.name)) !== entry)
      throw new BoundaryError("secret-unknown", `${entry.name} was changed or revoked meanwhile`);
    const plain = await unseal(shelf.readSealed(workspace, entry), kek);
    try {
      shelf.stillOpened(workspace, locks);
      return await work(plain);
    } finally {
      plain.fill(0);
    }
  }

  function unknown(workspace: Workspace, kind: Kind, name: string): BoundaryError {
    return new BoundaryError("secret-unknown", `${workspace.name} has no ${kind} ${name}`);
  }

  function list(kind: Kind, workspace: string | null): SecretList {
    shelf.requireWhole();
    const which = workspace === null ? shelf.all() : [shelf.find(workspace)];
    const all = which.flatMap((each) =>
      [...each.entries.values()].filter((entry) => entry.kind === kind).map((entry) => replyOf(each, entry)),
    );
    return { secrets: all.slice(0, MAX_LISTED), more: Math.max(0, all.length - MAX_LISTED) };
  }

  return { put, revoke, withPlain, list };
}

function replyOf(
  { name: workspace }: Workspace,
  { kind, name, version, state, at, fingerprint, why, peer }: Entry,
): SecretReply {
  return { workspace, kind, name, version, state, at, fingerprint, why, ...(peer ? { peer } : {}) };
}
