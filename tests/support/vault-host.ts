import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openExportFile } from "../../daemon/adapters/export-file.ts";
import { fileKek } from "../../daemon/adapters/kek-file.ts";
import { openVaultFiles } from "../../daemon/adapters/vault-files.ts";
import type { Entry } from "../../daemon/audit/record.ts";
import type { Mode } from "../../daemon/core/mode.ts";
import type { KekSource } from "../../daemon/ports.ts";
import { type PeerFacts, parseKeyring, parseSealed, type Read } from "../../daemon/vault/document.ts";
import { unseal } from "../../daemon/vault/envelope.ts";
import { type Argon2Cost, passphraseKek } from "../../daemon/vault/kek-passphrase.ts";
import { createVault, type Vault } from "../../daemon/vault.ts";

/** Cheap enough for tests. */
export const CHEAP: Argon2Cost = { memoryKiB: 64, passes: 1, parallelism: 1 };
const AUTO_LOCK_MS = 60_000;

export const PEER: PeerFacts = {
  localAddress: "192.0.2.1",
  remoteAddress: "192.0.2.2",
  localId: "pt.example",
  remoteId: "ct.example",
  localSubnets: [],
  remoteSubnets: [],
};

/** What keeps a workspace's key where a test names nothing. `ids`: of the keys that are there. */
type Keeper = { readonly source: KekSource; readonly ids: () => readonly string[] };
let keeper: Keeper | null = null;

/** From here on, instead of a file. It may ask nobody for anything. */
export function keepKeysWith(other: Keeper): void {
  keeper = other;
}

type Options = {
  readonly home?: string;
  readonly cost?: Argon2Cost;
  readonly sources?: readonly KekSource[];
};

/** The real vault on real files, with a log in memory and a clock by hand. */
export function vaultHost(options: Options = {}) {
  const home = options.home ?? mkdtempSync(join(tmpdir(), "boundary-vault-"));
  const records: Entry[] = [];
  const told: string[] = [];
  const state = {
    mode: "RESTRICTED" as Mode,
    nowMs: 1_000,
    log: "works" as "works" | "fails" | "holds",
    obstacle: null as { code: "clock-frozen"; why: string } | null,
  };
  const held: (() => void)[] = [];
  const append = (entry: Entry) => {
    if (state.log === "fails") return { seq: -1, durable: Promise.reject(new Error("ENOSPC")) };
    records.push(entry);
    const durable = state.log === "holds" ? new Promise<void>((done) => held.push(done)) : Promise.resolve();
    return { seq: records.length - 1, durable };
  };
  const keyDirectory = join(home, "keys");
  const usual = keeper ?? { source: fileKek(keyDirectory), ids: () => fileIds(keyDirectory) };
  const others = keeper === null ? [] : [fileKek(keyDirectory)];
  const sources = [passphraseKek(options.cost ?? CHEAP), usual.source, ...others, ...(options.sources ?? [])];
  function readDocument<T>(workspace: string, file: string, parse: (bytes: Uint8Array) => Read<T>): T {
    const read = parse(readFileSync(join(home, "vault", workspace, file)));
    if (!read.ok) throw new Error(read.why);
    return read.value;
  }
  const exported = openExportFile(join(home, "run"), "swanctl.conf");
  const tell = (fields: object, message: string) => void told.push(`${message} ${JSON.stringify(fields)}`);
  const vault: Vault = createVault({
    files: openVaultFiles(join(home, "vault")),
    sources,
    exported,
    clock: { wallMs: () => Date.UTC(2026, 0, 1) + state.nowMs, bootMs: () => state.nowMs },
    mode: () => state.mode,
    obstacle: () => state.obstacle,
    append,
    autoLockMs: AUTO_LOCK_MS,
    opLog: { info: tell, warn: tell, error: tell },
  });
  vault.begin();
  return {
    vault,
    home,
    directory: (workspace: string) => join(home, "vault", workspace),
    keyDirectory,
    /** The kind of `make`'s keys, and the ids of those that are there. */
    kind: usual.source.kind,
    keyIds: usual.ids,
    exportPath: exported.path,
    records,
    kinds: () => records.map(({ kind }) => kind),
    told,
    state,
    /** Lets what waits for the log go on. */
    release: () => {
      state.log = "works";
      for (const done of held.splice(0)) done();
    },
    /** Another daemon on the same files. */
    restart: () => vaultHost({ ...options, home }),
    remove: () => rmSync(home, { recursive: true, force: true }),
    make: (workspace: string, kind = usual.source.kind, passphrase: string | null = null) =>
      vault.unlock({ workspace, passphrase: bytes(passphrase), create: kind, forMs: null, by: "ana" }),
    unlock: (workspace: string, passphrase: string | null = null) =>
      vault.unlock({ workspace, passphrase: bytes(passphrase), create: null, forMs: null, by: "ana" }),
    put: (workspace: string, name: string, value: string, as: "put" | "rotate" = "put") =>
      vault.put({ workspace, name, kind: "secret", value: Buffer.from(value), peer: null, as, by: "ana" }),
    addPeer: (workspace: string, name: string, text: string, as: "put" | "rotate" = "put") =>
      vault.addPeer({ workspace, name, text: Buffer.from(text), peer: PEER, as, by: "ana" }),
    /** The one way in which the daemon gives a key away. */
    exported: (workspace: string) => vault.exportPeers({ workspace, by: "ana" }),
    /** Whether the vault has opened a secret of this value. */
    knows: (workspace: string, name: string, value: string): boolean =>
      vault.checkMessage(value).found.includes(`secret ${workspace}/${name}`),
    /** What the newest file of a secret holds: opened from the files alone, beside the vault, locked or not. */
    read: async (workspace: string, name: string, passphrase: string | null = null): Promise<string> => {
      const [file] = readdirSync(join(home, "vault", workspace)).filter((each) =>
        new RegExp(`^secret-${name}[.][0-9]+[.]json$`).test(each),
      );
      if (file === undefined) return "";
      const keyring = readDocument(workspace, "keyring.json", parseKeyring);
      const { id, kind, spec } = keyring.kek;
      const source = sources.find((each) => each.kind === kind);
      if (source === undefined) throw new Error(`no source ${kind}`);
      const { provider } = await source.open(id, spec, bytes(passphrase));
      return (await unseal(readDocument(workspace, file, parseSealed), provider)).toString();
    },
  };
}

function fileIds(directory: string): readonly string[] {
  return existsSync(directory) ? readdirSync(directory).map((name) => name.replace(/\.key$/, "")) : [];
}

function bytes(text: string | null): Buffer | null {
  return text === null ? null : Buffer.from(text);
}
