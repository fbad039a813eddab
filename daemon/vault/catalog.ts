import type { VaultFile } from "../ports.ts";
import {
  type Keyring,
  type Kind,
  type PeerFacts,
  parseKeyring,
  parseSealed,
  parseTombstone,
  type Read,
} from "./document.ts";

export const KEYRING_FILE = "keyring.json";
const FILE_NAME = /^(secret|psk)-([a-z0-9][a-z0-9_-]{0,62})\.([1-9][0-9]{0,8})\.(json|revoked)$/;

/** The newest version of one secret, by what its file says. Nothing in it is secret. */
export type Entry = {
  readonly kind: Kind;
  readonly name: string;
  readonly version: number;
  readonly state: "sealed" | "revoked" | "damaged";
  /** RFC 3339: when this version was sealed, or revoked; "" when that cannot be read. */
  readonly at: string;
  readonly fingerprint: string;
  readonly peer: PeerFacts | null;
  /** Of a damaged one. */
  readonly why: string;
};

export type Catalog = {
  readonly keyring: Read<Keyring> | { readonly ok: null };
  /** By `keyOf`. */
  readonly entries: ReadonlyMap<string, Entry>;
  /** Files of older versions: a crash left them, and they are erased. */
  readonly outdated: readonly string[];
  /** Files that are none of the vault's. */
  readonly strange: readonly string[];
};

/** Names a secret within its workspace: a pre-shared key may have the name of a secret. */
export function keyOf(kind: Kind, name: string): string {
  return `${kind}-${name}`;
}

export function fileOf({
  kind,
  name,
  version,
  state,
}: Pick<Entry, "kind" | "name" | "version" | "state">): string {
  return `${keyOf(kind, name)}.${version}.${state === "revoked" ? "revoked" : "json"}`;
}

/**
 * The index of a workspace, made from its files alone: whatever else was kept of it can be thrown away. A file that
 * cannot be read, or is not what its name says, is damaged, and so is that one secret; the others are not.
 */
export function catalogOf(workspace: string, files: readonly VaultFile[]): Catalog {
  const entries = new Map<string, Entry>();
  const outdated: string[] = [];
  const strange: string[] = [];
  let keyring: Catalog["keyring"] = { ok: null };
  for (const file of files) {
    if (file.name === KEYRING_FILE) keyring = readKeyring(workspace, file);
    else {
      const entry = entryOf(workspace, file);
      if (entry === null) strange.push(file.name);
      else supersede(entries, outdated, entry);
    }
  }
  return { keyring, entries, outdated, strange };
}

/** Of a version that was revoked the tombstone counts, whether or not its file is gone already. */
function supersede(entries: Map<string, Entry>, outdated: string[], entry: Entry): void {
  const key = keyOf(entry.kind, entry.name);
  const other = entries.get(key);
  const isNewer =
    other === undefined ||
    entry.version > other.version ||
    (entry.version === other.version && entry.state === "revoked");
  if (isNewer) entries.set(key, entry);
  if (other !== undefined) outdated.push(fileOf(isNewer ? other : entry));
}

function entryOf(workspace: string, file: VaultFile): Entry | null {
  const named = FILE_NAME.exec(file.name);
  if (named === null) return null;
  const kind: Kind = named[1] === "psk" ? "psk" : "secret";
  const base = { kind, name: named[2] ?? "", version: Number(named[3]) };
  const damaged = (why: string): Entry => ({
    ...base,
    state: named[4] === "revoked" ? "revoked" : "damaged",
    at: "",
    fingerprint: "",
    peer: null,
    why,
  });
  if (file.bytes === null) return damaged(file.why);
  const read = named[4] === "revoked" ? parseTombstone(file.bytes) : parseSealed(file.bytes);
  if (!read.ok) return damaged(read.why);
  const told = read.value;
  const isItself =
    told.workspace === workspace &&
    told.kind === kind &&
    told.name === base.name &&
    told.version === base.version;
  if (!isItself) return damaged("it is another secret's file");
  if ("revoked" in told)
    return { ...base, state: "revoked", at: told.revoked, fingerprint: "", peer: null, why: "" };
  const { created: at, fingerprint, peer = null } = told;
  return { ...base, state: "sealed", at, fingerprint, peer, why: "" };
}

function readKeyring(workspace: string, file: VaultFile): Read<Keyring> {
  if (file.bytes === null) return { ok: false, why: file.why };
  const read = parseKeyring(file.bytes);
  if (read.ok && read.value.workspace !== workspace) return { ok: false, why: "it is another workspace's" };
  return read;
}
