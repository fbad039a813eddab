import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openExportFile } from "../../daemon/adapters/export-file.ts";
import { fileKek } from "../../daemon/adapters/kek-file.ts";
import { openVaultFiles } from "../../daemon/adapters/vault-files.ts";
import type { Entry } from "../../daemon/audit/record.ts";
import type { Mode } from "../../daemon/core/mode.ts";
import type { KekSource } from "../../daemon/ports.ts";
import { type Argon2Cost, passphraseKek } from "../../daemon/vault/kek-passphrase.ts";
import { createVault, type Vault } from "../../daemon/vault.ts";

/** Cheap enough for tests. */
export const CHEAP: Argon2Cost = { memoryKiB: 64, passes: 1, parallelism: 1 };
const AUTO_LOCK_MS = 60_000;

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
  const exported = openExportFile(join(home, "run"), "swanctl.conf");
  const tell = (fields: object, message: string) => void told.push(`${message} ${JSON.stringify(fields)}`);
  const vault: Vault = createVault({
    files: openVaultFiles(join(home, "vault")),
    sources: [passphraseKek(options.cost ?? CHEAP), fileKek(keyDirectory), ...(options.sources ?? [])],
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
    exported,
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
    make: (workspace: string, kind = "file", passphrase: string | null = null) =>
      vault.unlock({ workspace, passphrase: bytes(passphrase), create: kind, forMs: null, by: "ana" }),
    unlock: (workspace: string, passphrase: string | null = null) =>
      vault.unlock({ workspace, passphrase: bytes(passphrase), create: null, forMs: null, by: "ana" }),
    put: (workspace: string, name: string, value: string, as: "put" | "rotate" = "put") =>
      vault.put({ workspace, name, kind: "secret", value: Buffer.from(value), peer: null, as, by: "ana" }),
    /** What a worker gets on its stdin. */
    inject: async (workspace: string, name: string): Promise<string> => {
      let got = "";
      await vault.inject({ workspace, name, by: "worker", use: "test" }, async (value) => {
        got = value.toString();
      });
      return got;
    },
  };
}

function bytes(text: string | null): Buffer | null {
  return text === null ? null : Buffer.from(text);
}
