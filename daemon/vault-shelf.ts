import { randomBytes } from "node:crypto";
import type { Entry as LogEntry } from "./audit/record.ts";
import { BoundaryError, type ErrorCode, renderErrorChain } from "./core/errors.ts";
import type { Mode } from "./core/mode.ts";
import { posture } from "./core/posture.ts";
import type { Clock, ExportFile, KekProvider, KekSource, OpLog, VaultFiles } from "./ports.ts";
import { catalogOf, type Entry, fileOf, KEYRING_FILE, keyOf } from "./vault/catalog.ts";
import { type Keyring, parseSealed, renderDocument, type SealedDocument } from "./vault/document.ts";
import { keepWrap, unseal } from "./vault/envelope.ts";
import { hmac } from "./vault/fingerprint.ts";
import { createWatchlist, type Watchlist } from "./vault/watchlist.ts";

export type VaultParts = {
  readonly files: VaultFiles;
  /** Ways to keep KEKs. */
  readonly sources: readonly KekSource[];
  /** What strongSwan loads. */
  readonly exported: ExportFile;
  readonly clock: Pick<Clock, "wallMs" | "bootMs">;
  /** The mode under which a privilege is judged now (core/authority.ts, privilegeMode). */
  readonly mode: () => Mode;
  /** Why nothing may be loosened now; null when it may. */
  readonly obstacle: () => { readonly code: ErrorCode; readonly why: string } | null;
  /** May throw, when the daemon is stopping. */
  readonly append: (entry: LogEntry) => { readonly seq: number; readonly durable: Promise<unknown> };
  readonly autoLockMs: number;
  readonly opLog: OpLog;
};

/** The keys of an unlocked workspace. */
export type Opened = {
  readonly kek: KekProvider;
  readonly fingerprintKey: Buffer;
  readonly watch: Watchlist;
  /** Clock.bootMs: a host that sleeps does not stop it. */
  readonly untilMs: number;
};

export type Workspace = {
  readonly name: string;
  keyring: Keyring | null;
  /** Why the keyring cannot be read; "" when it can. */
  fault: string;
  readonly entries: Map<string, Entry>;
  opened: Opened | null;
  /** Goes up with each lock: who waited for something compares it, and what was locked meanwhile stays so. */
  locks: number;
};

/**
 * What the vault holds, and what keeps it locked. Everything that changes a workspace goes through `inTurn`, one after the
 * other; a workspace whose token does not answer holds up no other. Locking does not wait.
 */
export type Shelf = ReturnType<typeof createShelf>;

export function createShelf(parts: VaultParts) {
  const { files, opLog } = parts;
  const workspaces = new Map<string, Workspace>();
  let broken = "not looked at yet";
  /** Why what was rendered for strongSwan is still there, though it has to go; "" when nothing is left. */
  let leftover = "";
  /** Of each workspace, what was asked of it last. */
  const turns = new Map<string, Promise<unknown>>();

  /** One at a time of a workspace, in order; what one fails with does not keep the next. */
  function inTurn<T>(name: string, work: () => Promise<T>): Promise<T> {
    const mine = (turns.get(name) ?? Promise.resolve()).then(work);
    const over = mine.then(ignore, ignore).then(() => {
      if (turns.get(name) === over) turns.delete(name);
    });
    turns.set(name, over);
    return mine;
  }

  /** Looks at every file: owner, permissions, form. A fault of one is told and is that one's; one of the whole is the vault's. */
  function begin(): void {
    try {
      for (const { workspace, files: found } of files.load()) take(workspace, found);
      broken = "";
    } catch (error) {
      broken = renderErrorChain(error);
      opLog.error({ err: broken }, "the vault is not safe to use, and stays locked");
    }
  }

  function take(name: string, found: Parameters<typeof catalogOf>[1]): void {
    const { keyring, entries, outdated, strange } = catalogOf(name, found);
    const fault = keyring.ok === false ? keyring.why : "";
    const workspace = { name, keyring: keyring.ok ? keyring.value : null, fault, entries: new Map(entries) };
    workspaces.set(name, { ...workspace, opened: null, locks: 0 });
    const damaged = [...entries.values()].filter(({ state }) => state === "damaged");
    for (const { kind, name: which, why } of damaged)
      opLog.warn({ workspace: name, kind, which, why }, "a secret is damaged");
    if (fault !== "") opLog.warn({ workspace: name, why: fault }, "the keyring of a workspace is damaged");
    if (strange.length > 0)
      opLog.warn({ workspace: name, count: strange.length }, "the vault has files that are not its own");
    // what a damaged file stands in the place of may be all there is left
    if (damaged.length === 0) for (const file of outdated) eraseLater(name, file);
  }

  function eraseLater(workspace: string, file: string): void {
    try {
      files.erase(workspace, file);
    } catch (error) {
      opLog.error({ workspace, err: renderErrorChain(error) }, "an outdated file could not be erased");
    }
  }

  function find(name: string): Workspace {
    requireWhole();
    const found = workspaces.get(name);
    if (found === undefined) throw new BoundaryError("workspace-unknown", `there is no workspace ${name}`);
    return found;
  }

  function requireWhole(): void {
    if (broken !== "") throw new BoundaryError("vault-unsafe", `the vault stays locked: ${broken}`);
  }

  /** What only open secrets need, and no mode that seals them has; and what nothing that loosens may pass by. */
  function requireAllowed(): void {
    const mode = parts.mode();
    if (posture(mode).secrets !== "by-policy")
      throw new BoundaryError("vault-ceiling", `${mode} keeps secrets sealed`);
    const obstacle = parts.obstacle();
    if (obstacle) throw new BoundaryError(obstacle.code, obstacle.why);
  }

  /** The keys of a workspace, if it is open now and may be. */
  function opened(workspace: Workspace): Opened {
    requireAllowed();
    if (workspace.opened !== null && parts.clock.bootMs() >= workspace.opened.untilMs)
      void lock(workspace, "time");
    if (workspace.opened === null)
      throw new BoundaryError("vault-locked", `the workspace ${workspace.name} is locked`);
    return workspace.opened;
  }

  /** The same after a wait: what was locked in between is, also when it was unlocked again. */
  function stillOpened(workspace: Workspace, locks: number): Opened {
    if (workspace.locks !== locks)
      throw new BoundaryError("vault-locked", `${workspace.name} was locked meanwhile`);
    return opened(workspace);
  }

  /**
   * Drops the keys of a workspace, at once: when this returns they are overwritten. Then it is recorded. Gives when that
   * is durable; null when it was locked already.
   */
  function lock(workspace: Workspace, why: string): Promise<unknown> | null {
    workspace.locks++;
    const { opened: open } = workspace;
    workspace.opened = null;
    eraseExport();
    if (open === null) return null;
    dropKeys(open);
    return record({ kind: "vault.locked", data: { workspace: workspace.name, why } });
  }

  /**
   * What was rendered for strongSwan holds keys in clear: it goes with the first lock, whichever workspace it is of, and
   * is not there at a start or after a stop. Where it cannot be erased, that is told until it was (`eraseLeftover`).
   */
  function eraseExport(): void {
    try {
      parts.exported.erase();
      leftover = "";
    } catch (error) {
      const why = renderErrorChain(error);
      if (why !== leftover) opLog.error({ err: why }, "the exported configuration could not be erased");
      leftover = why;
    }
  }

  function eraseLeftover(): void {
    if (leftover !== "") eraseExport();
  }

  function writeExport(text: Buffer): void {
    parts.exported.write(text);
    // it stands in the place of what was left
    leftover = "";
  }

  /** Appends, and gives when that is durable. The rejection is marked as seen: who does not wait is told by the log. */
  function record(entry: LogEntry): Promise<unknown> {
    try {
      const { durable } = parts.append(entry);
      durable.catch(() => undefined);
      return durable;
    } catch (error) {
      const durable = Promise.reject(error);
      durable.catch(() => undefined);
      return durable;
    }
  }

  /** For what may only come to be once it is on disk. Rejects with BoundaryError("log-unavailable"). */
  async function recorded(entry: LogEntry): Promise<void> {
    try {
      await record(entry);
    } catch (cause) {
      if (cause instanceof BoundaryError && cause.code === "stopping") throw cause;
      throw new BoundaryError("log-unavailable", `recording ${entry.kind}; nothing was done`, { cause });
    }
  }

  /** The newest version of a secret, read anew. Throws "secret-damaged", and the index says so from then on. */
  function readSealed(workspace: Workspace, entry: Entry): SealedDocument {
    const file = files.read(workspace.name, fileOf(entry));
    const { entries } = catalogOf(workspace.name, [file]);
    const seen = entries.get(keyOf(entry.kind, entry.name));
    const read = file.bytes === null || seen?.state !== "sealed" ? null : parseSealed(file.bytes);
    if (read?.ok) return read.value;
    throw isDamaged(workspace, entry, seen?.why ?? "it cannot be read");
  }

  function isDamaged(workspace: Workspace, entry: Entry, why: string): BoundaryError {
    workspace.entries.set(keyOf(entry.kind, entry.name), { ...entry, state: "damaged", why });
    opLog.warn(
      { workspace: workspace.name, kind: entry.kind, which: entry.name, why },
      "a secret is damaged",
    );
    return new BoundaryError("secret-damaged", `opening ${entry.name} of ${workspace.name}: ${why}`);
  }

  /**
   * Opens every secret once, and wipes it: what is damaged is known then, and what is not can be looked for in messages.
   * What an interrupted change of the KEK left is taken away. Rejects as the provider does where the KEK is not to be had.
   */
  async function takeIn(workspace: Workspace, kek: KekProvider, fingerprintKey: Buffer): Promise<Watchlist> {
    const watch = createWatchlist(hmac(fingerprintKey, "watchlist", Buffer.alloc(0)));
    for (const entry of workspace.entries.values()) {
      if (entry.state === "revoked") continue;
      try {
        const sealed = readSealed(workspace, entry);
        const plain = await unseal(sealed, kek);
        try {
          watch.add(labelOf(workspace, entry), plain);
        } finally {
          plain.fill(0);
        }
        if (sealed.wraps.length > 1) rewrite(workspace, entry, keepWrap(sealed, kek.id));
        if (entry.state === "damaged") healed(workspace, entry, sealed);
      } catch (error) {
        if (error instanceof BoundaryError && error.code === "kek-unavailable") {
          watch.forget(); // whoever has the key does not answer: that says nothing of the secret
          throw error;
        }
        if (workspace.entries.get(keyOf(entry.kind, entry.name))?.state !== "damaged")
          isDamaged(workspace, entry, renderErrorChain(error));
      }
    }
    return watch;
  }

  /** Its file was put right since it was looked at. */
  function healed(workspace: Workspace, entry: Entry, sealed: SealedDocument): void {
    const { created: at, fingerprint, peer } = sealed;
    const whole: Entry = { ...entry, state: "sealed", at, fingerprint, peer: peer ?? null, why: "" };
    workspace.entries.set(keyOf(entry.kind, entry.name), whole);
  }

  function rewrite(workspace: Workspace, entry: Entry, sealed: SealedDocument): void {
    files.replace(workspace.name, fileOf({ ...entry, state: "sealed" }), renderDocument(sealed));
  }

  function saveKeyring(workspace: Workspace, keyring: Keyring): void {
    files.replace(workspace.name, KEYRING_FILE, renderDocument(keyring));
    workspace.keyring = keyring;
    workspace.fault = "";
  }

  function sourceOf(kind: string): KekSource {
    const source = parts.sources.find((each) => each.kind === kind);
    if (source === undefined)
      throw new BoundaryError("kek-unavailable", `there are no keys of the kind ${kind} here`);
    const obstacle = source.obstacle();
    if (obstacle === "") return source;
    throw new BoundaryError("kek-unavailable", `keys of the kind ${kind} cannot be used: ${obstacle}`);
  }

  return {
    inTurn,
    begin,
    find,
    requireWhole,
    requireAllowed,
    opened,
    stillOpened,
    lock,
    record,
    recorded,
    readSealed,
    takeIn,
    rewrite,
    saveKeyring,
    sourceOf,
    eraseExport,
    eraseLeftover,
    writeExport,
    broken: () => broken,
    leftover: () => leftover,
    all: (): readonly Workspace[] => [...workspaces.values()],
    add(name: string): Workspace {
      const workspace = { name, keyring: null, fault: "", entries: new Map(), opened: null, locks: 0 };
      workspaces.set(name, workspace);
      return workspace;
    },
    remove: (name: string) => void workspaces.delete(name),
  };
}

function ignore(): void {
  // who asked is told
}

/** How a find in a message is told, and so what a watchlist calls it. */
export function labelOf(workspace: Workspace, { kind, name }: Pick<Entry, "kind" | "name">): string {
  return `${kind} ${workspace.name}/${name}`;
}

export function dropKeys({ kek, fingerprintKey, watch }: Opened): void {
  kek.drop();
  fingerprintKey.fill(0);
  watch.forget();
}

export function newKekId(): string {
  return `kek-${randomBytes(8).toString("hex")}`;
}
