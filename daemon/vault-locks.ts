import { randomBytes } from "node:crypto";
import { BoundaryError } from "./core/errors.ts";
import type { Mode } from "./core/mode.ts";
import { posture } from "./core/posture.ts";
import type { KekProvider } from "./ports.ts";
import type { VaultReply, VaultStatus } from "./protocol/messages.ts";
import type { Keyring, SealedDocument } from "./vault/document.ts";
import { addWrap, keepWrap } from "./vault/envelope.ts";
import { FINGERPRINT_KEY_BYTES } from "./vault/fingerprint.ts";
import {
  dropKeys,
  newKekId,
  type Opened,
  type Shelf,
  type VaultParts,
  type Workspace,
} from "./vault-shelf.ts";

export type UnlockWish = {
  readonly workspace: string;
  /** For the callee to wipe; null when none was given. */
  readonly passphrase: Buffer | null;
  /** Make the workspace, with a KEK of this kind; null: it is there. */
  readonly create: string | null;
  readonly forMs: number | null;
  readonly by: string;
};

export type RewrapWish = {
  readonly workspace: string;
  /** The kind of the new KEK; null: as it was. */
  readonly kind: string | null;
  /** For the callee to wipe. */
  readonly passphrase: Buffer | null;
  readonly by: string;
};

/** Locking, unlocking, and the change of a KEK. */
export function createLocks(parts: VaultParts, shelf: Shelf) {
  async function unlock(wish: UnlockWish): Promise<VaultReply> {
    try {
      return await shelf.inTurn(wish.workspace, () => unlockNow(wish));
    } finally {
      wish.passphrase?.fill(0);
    }
  }

  async function unlockNow({
    workspace: name,
    passphrase,
    create,
    forMs,
    by,
  }: UnlockWish): Promise<VaultReply> {
    shelf.requireWhole();
    shelf.requireAllowed();
    const isThere = shelf.all().some((each) => each.name === name);
    if (create !== null && isThere)
      throw new BoundaryError("workspace-exists", `there is a workspace ${name} already`);
    const workspace = create === null ? shelf.find(name) : shelf.add(name);
    const { locks } = workspace;
    let keys: { kek: KekProvider; fingerprintKey: Buffer; keyring: Keyring } | null = null;
    try {
      keys =
        create === null ? await openKeys(workspace, passphrase) : await makeKeys(name, create, passphrase);
      const { kek, fingerprintKey, keyring } = keys;
      requireNotLocked(workspace, locks);
      const kind = keyring.kek.kind;
      const made = create === null ? "no" : "yes";
      await shelf.recorded({
        kind: "vault.unlocked",
        data: { workspace: name, by, kek: kek.id, kind, made },
      });
      if (keyring !== workspace.keyring) shelf.saveKeyring(workspace, keyring);
      const watch = await shelf.takeIn(workspace, kek, fingerprintKey);
      const lasts = Math.min(forMs ?? parts.autoLockMs, parts.autoLockMs);
      const opened = { kek, fingerprintKey, watch, untilMs: parts.clock.bootMs() + lasts };
      install(workspace, opened, locks);
      return replyOf(workspace);
    } catch (error) {
      if (error instanceof BoundaryError && error.code === "vault-passphrase-wrong")
        void shelf.record({ kind: "vault.refused", data: { workspace: name, by, why: error.code } });
      try {
        if (create !== null && workspace.keyring === null) {
          shelf.remove(name);
          if (keys) await shelf.sourceOf(keys.keyring.kek.kind).retire(keys.kek.id);
        }
      } finally {
        keys?.kek.drop();
        keys?.fingerprintKey.fill(0);
      }
      throw error;
    }
  }

  /** Takes the place of keys that are there. */
  function install(workspace: Workspace, opened: Opened, locks: number): void {
    try {
      requireNotLocked(workspace, locks);
      shelf.requireAllowed();
    } catch (error) {
      dropKeys(opened);
      throw error;
    }
    if (workspace.opened) dropKeys(workspace.opened);
    workspace.opened = opened;
  }

  function requireNotLocked(workspace: Workspace, locks: number): void {
    if (workspace.locks !== locks)
      throw new BoundaryError("vault-locked", `${workspace.name} was locked meanwhile`);
  }

  async function openKeys(workspace: Workspace, passphrase: Buffer | null) {
    const { keyring, fault, name } = workspace;
    if (keyring === null)
      throw new BoundaryError(
        "kek-unavailable",
        `the keyring of ${name} cannot be read: ${fault || "it is not there"}`,
      );
    const { id, kind, spec } = keyring.kek;
    const { provider: kek, spec: kept } = await shelf.sourceOf(kind).open(id, spec, passphrase);
    try {
      const fingerprintKey = await kek.unwrap(Buffer.from(keyring.fingerprintKey, "base64"));
      const same = kept === spec ? keyring : { ...keyring, kek: { id, kind, spec: kept } };
      return { kek, fingerprintKey, keyring: same };
    } catch (cause) {
      kek.drop();
      throw new BoundaryError(
        "kek-unavailable",
        `unlocking ${name}: the key found is not the one its keyring is under`,
        { cause },
      );
    }
  }

  async function makeKeys(workspace: string, kind: string, passphrase: Buffer | null) {
    const source = shelf.sourceOf(kind);
    const id = newKekId();
    const { provider: kek, spec } = await source.create(id, passphrase);
    const fingerprintKey = randomBytes(FINGERPRINT_KEY_BYTES);
    let wrapped: string;
    try {
      wrapped = (await kek.wrap(fingerprintKey)).toString("base64");
    } catch (error) {
      fingerprintKey.fill(0);
      await source.retire(id).finally(() => kek.drop());
      throw error;
    }
    const keyring: Keyring = {
      v: 1,
      workspace,
      kek: { id, kind: source.kind, spec },
      fingerprintKey: wrapped,
    };
    return { kek, fingerprintKey, keyring };
  }

  /** One workspace, or all. Locked when this returns; the promise is about the records. */
  function lock(name: string | null, by: string): Promise<VaultStatus> {
    const which = name === null ? shelf.all() : [shelf.find(name)];
    const records = which.map((workspace) => shelf.lock(workspace, `asked by ${by}`));
    return afterRecords(records.map((record) => record ?? Promise.resolve()));
  }

  async function afterRecords(records: readonly Promise<unknown>[]): Promise<VaultStatus> {
    try {
      await Promise.all(records);
    } catch (cause) {
      throw new BoundaryError("log-unavailable", "recording the lock (it stands)", { cause });
    }
    return status();
  }

  /** Of every mode that comes to be wanted, before its record: where secrets are sealed, the keys are gone when this returns. */
  function modeIs(mode: Mode): void {
    if (posture(mode).secrets === "by-policy") return;
    for (const workspace of shelf.all()) void shelf.lock(workspace, `mode ${mode}`);
  }

  function tick(): void {
    shelf.eraseLeftover();
    const nowMs = parts.clock.bootMs();
    for (const workspace of shelf.all())
      if (workspace.opened !== null && nowMs >= workspace.opened.untilMs) void shelf.lock(workspace, "time");
  }

  async function rewrap(wish: RewrapWish): Promise<VaultReply> {
    try {
      return await shelf.inTurn(wish.workspace, () => rewrapNow(wish));
    } finally {
      wish.passphrase?.fill(0);
    }
  }

  /**
   * Every DEK gets a second wrap, under the new KEK; then the keyring names the new one; then the old wraps go. Cut off
   * anywhere, each secret opens under the KEK that the keyring names. No ciphertext is touched.
   */
  async function rewrapNow({ workspace: name, kind, passphrase, by }: RewrapWish): Promise<VaultReply> {
    const workspace = shelf.find(name);
    const { locks, keyring } = workspace;
    const from = shelf.opened(workspace);
    if (keyring === null) throw new BoundaryError("kek-unavailable", `${name} has no keyring`);
    const source = shelf.sourceOf(kind ?? keyring.kek.kind);
    const id = newKekId();
    const { provider: to, spec } = await source.create(id, passphrase);
    try {
      const done: { entry: Parameters<Shelf["readSealed"]>[1]; sealed: SealedDocument }[] = [];
      for (const entry of workspace.entries.values()) {
        if (entry.state !== "sealed") continue;
        const sealed = await addWrap(
          shelf.readSealed(workspace, entry),
          shelf.stillOpened(workspace, locks).kek,
          to,
        );
        shelf.rewrite(workspace, entry, sealed);
        done.push({ entry, sealed });
      }
      const fingerprintKey = (await to.wrap(from.fingerprintKey)).toString("base64");
      shelf.stillOpened(workspace, locks);
      await shelf.recorded({
        kind: "vault.rewrapped",
        data: { workspace: name, by, from: keyring.kek.id, to: id, kind: source.kind, secrets: done.length },
      });
      // locked meanwhile, the key of the fingerprints may have been overwritten before it was wrapped: it was checked after
      shelf.saveKeyring(workspace, { ...keyring, kek: { id, kind: source.kind, spec }, fingerprintKey });
      for (const { entry, sealed } of done) shelf.rewrite(workspace, entry, keepWrap(sealed, id));
      await shelf.sourceOf(keyring.kek.kind).retire(keyring.kek.id);
    } catch (error) {
      try {
        if (workspace.keyring?.kek.id === id) void shelf.lock(workspace, "the new KEK is half in place");
        else await source.retire(id);
      } finally {
        to.drop();
      }
      throw error;
    }
    if (workspace.locks !== locks || workspace.opened === null) to.drop();
    else {
      workspace.opened.kek.drop();
      workspace.opened = { ...workspace.opened, kek: to };
    }
    return replyOf(workspace);
  }

  function status(): VaultStatus {
    return {
      fault: shelf.broken(),
      leftover: shelf.leftover(),
      asks: parts.sources.filter(({ asks }) => asks).map(({ kind }) => kind),
      workspaces: shelf.all().slice(0, MAX_SHOWN).map(replyOf),
      more: Math.max(0, shelf.all().length - MAX_SHOWN),
    };
  }

  function replyOf(workspace: Workspace): VaultReply {
    const { name, keyring, fault, entries, opened } = workspace;
    const left = opened === null ? 0 : Math.max(0, opened.untilMs - parts.clock.bootMs());
    const count = (state: string) => [...entries.values()].filter((entry) => entry.state === state).length;
    return {
      workspace: name,
      state: opened === null || left === 0 ? "locked" : "unlocked",
      kek: keyring?.kek.id ?? "",
      kind: keyring?.kek.kind ?? "",
      fault,
      until: left === 0 ? "" : new Date(parts.clock.wallMs() + left).toISOString(),
      secrets: count("sealed"),
      damaged: count("damaged"),
    };
  }

  /** The daemon stops, and its stop is the last record: the keys go without one. */
  function stop(): void {
    for (const workspace of shelf.all()) {
      workspace.locks++;
      if (workspace.opened) dropKeys(workspace.opened);
      workspace.opened = null;
    }
  }

  return { unlock, lock, modeIs, tick, rewrap, status, stop };
}

const MAX_SHOWN = 100;
