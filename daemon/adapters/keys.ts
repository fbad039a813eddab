import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  hash,
  type KeyObject,
  sign,
} from "node:crypto";
import * as fs from "node:fs";
import { join } from "node:path";
import { parseVkey, renderVkey } from "../audit/checkpoint.ts";
import { BoundaryError } from "../core/errors.ts";
import { directoryFault, fileFault, type Look } from "../core/ownership.ts";
import type { FileChange } from "../core/signal.ts";
import type { KeyRing, Signer } from "../ports.ts";
import { collectGarbage } from "./garbage.ts";
import { makeDirectory, syncDirectory } from "./own-directory.ts";
import {
  eraseSecret,
  finishErasing,
  forgetSecondName,
  nameNew,
  readSecret,
  replaceAndDoom,
  writeBeside,
} from "./secret-file.ts";

/**
 * The log's keys, in the state directory, readable by us alone. All have the genesis key's name; a private key is
 * PKCS #8, in DER since it need not be a string (the first version wrote PEM, which is still read).
 */
const CURRENT = "log.key";
/** There while a rotation is under way. It has this name only when it is whole. */
const NEXT = "log.key.next";
/** The genesis key, as text. A directory of the first version has none: there the current key is it. */
const GENESIS = "log.vkey";
const MAX_KEY_BYTES = 1024;
const MAX_VKEY_BYTES = 512;

/** "empty": a file of no bytes, which is no key and never was one (a power cut while an older version made it). */
export type KeyRingLoad =
  | { readonly kind: "loaded"; readonly ring: KeyRing }
  | { readonly kind: "missing" }
  | { readonly kind: "empty" };

/** Makes the state directory (0700), durably, or checks the one there. Throws BoundaryError("key-unreadable") when it is not safe. */
export function prepareStateDirectory(directory: string): void {
  attempt("key-unreadable", `preparing the state directory ${directory}`, () => {
    makeDirectory(directory);
    const fault = directoryFault(lookAt(fs.lstatSync(directory)), ourUid());
    if (fault) throw new Error(`it ${fault}`);
  });
}

/**
 * Loads the keys, and finishes the erasing that a crash cut off: only the one that writes the log may call it. "missing"
 * only when there is no current key; anything else that is wrong throws BoundaryError("key-unreadable").
 */
export function loadKeyRing(stateDirectory: string): KeyRingLoad {
  return attempt("key-unreadable", `reading the log's keys in ${stateDirectory}`, () => {
    finishErasing(stateDirectory);
    for (const name of [CURRENT, NEXT]) forgetSecondName(stateDirectory, name);
    eraseSecret(stateDirectory, `${NEXT}.new`); // a rotation that got no further: nobody has certified it
    const current = readKey(stateDirectory, CURRENT);
    if (current === null) return { kind: "missing" };
    if (current === "empty") return { kind: "empty" };
    const next = readKey(stateDirectory, NEXT);
    if (next === "empty") throw new Error(`${NEXT} is empty`);
    const genesis = readGenesis(stateDirectory) ?? writeGenesis(stateDirectory, genesisOf(current));
    return { kind: "loaded", ring: ringOf(stateDirectory, { genesis, current, next }) };
  });
}

/**
 * Makes the keys of a new log: a first start. Never takes the place of a key (an empty file is none). Throws
 * BoundaryError("key-unreadable").
 */
export function createKeyRing(stateDirectory: string): KeyRing {
  return attempt("key-unreadable", `creating the log's key in ${stateDirectory}`, () => {
    const path = join(stateDirectory, CURRENT);
    if (fs.lstatSync(path, { throwIfNoEntry: false })?.size === 0) fs.unlinkSync(path);
    eraseSecret(stateDirectory, NEXT);
    // before the key: a key without it is its own genesis key, a key with another's is none
    fs.rmSync(join(stateDirectory, GENESIS), { force: true });
    syncDirectory(stateDirectory);
    const current = makeKey(stateDirectory, CURRENT);
    const genesis = writeGenesis(stateDirectory, genesisOf(current));
    return ringOf(stateDirectory, { genesis, current, next: null });
  });
}

/** One private key, until it is dropped. */
type Held = {
  readonly publicKey: Buffer;
  sign(message: Buffer): Buffer;
  /** The only reference goes. */
  drop(): void;
};

type Keys = { readonly genesis: string; readonly current: Held; readonly next: Held | null };

function ringOf(directory: string, loaded: Keys): KeyRing {
  let { genesis, current, next } = loaded;
  let file = lookAtKey(directory); // as we left it
  const origin = () => nameIn(genesis);

  function dropNext(): void {
    eraseSecret(directory, NEXT);
    forget(next);
    next = null;
  }

  return {
    get genesis() {
      return genesis;
    },
    get origin() {
      return origin();
    },
    current: () => signerOf(current, origin()),
    next: () => (next === null ? null : signerOf(next, origin())),
    prepareNext: () =>
      attempt("state-unwritable", "making the log's next key", () => {
        // first: without it the key that comes next would be taken for the genesis key
        if (readGenesis(directory) !== genesis) writeGenesis(directory, genesis);
        dropNext();
        next = makeKey(directory, NEXT);
        return signerOf(next, origin());
      }),
    promote: () =>
      attempt("state-unwritable", "taking up the log's next key", () => {
        if (next === null) throw new BoundaryError("internal", "taking up a key that is not there");
        replaceAndDoom(directory, NEXT, CURRENT);
        const old = current;
        current = next;
        next = null;
        forget(old);
        finishErasing(directory);
        file = lookAtKey(directory);
      }),
    damage: () => changeBetween(file, lookAtKey(directory)),
    discardNext: () => attempt("state-unwritable", "erasing the log's next key", dropNext),
    rebase: () =>
      attempt("state-unwritable", "making the current key a new log's genesis key", () => {
        dropNext();
        genesis = writeGenesis(directory, genesisOf(current));
      }),
  };
}

type KeyFile = { readonly inode: string; readonly touched: string };

/** Null when it is not there, or cannot be looked at. */
function lookAtKey(directory: string): KeyFile | null {
  try {
    const { dev, ino, ctimeNs, size } = fs.lstatSync(join(directory, CURRENT), { bigint: true });
    return { inode: `${dev}:${ino}`, touched: `${ctimeNs} ${size}` };
  } catch {
    return null;
  }
}

/** The kernel sets ctime at every change of content, permissions and names, and nobody can set it back. */
function changeBetween(before: KeyFile | null, now: KeyFile | null): FileChange | null {
  if (now === null) return before === null ? null : "deleted";
  if (now.inode !== before?.inode) return "replaced";
  return now.touched === before.touched ? null : "modified";
}

/** Makes a key and writes it, durable under its name when it returns. */
function makeKey(directory: string, name: string): Held {
  const { privateKey } = generateKeyPairSync("ed25519");
  const der = privateKey.export({ format: "der", type: "pkcs8" });
  try {
    writeBeside(directory, name, der);
    nameNew(directory, name);
    return hold(privateKey);
  } finally {
    der.fill(0);
  }
}

function readKey(directory: string, name: string): Held | "empty" | null {
  const bytes = readSecret(join(directory, name), MAX_KEY_BYTES);
  if (bytes === null) return null;
  try {
    return bytes.length === 0 ? "empty" : hold(parseKey(bytes));
  } catch (cause) {
    throw new Error(`${name} is not a key`, { cause });
  } finally {
    bytes.fill(0);
  }
}

/** What comes before the 32 bytes of an Ed25519 key in PKCS #8 (RFC 8410, section 7). */
const DER_PREFIX = Buffer.from("302e020100300506032b657004220420", "hex");

function parseKey(bytes: Buffer): KeyObject {
  if (bytes[0] === "-".charCodeAt(0)) return createPrivateKey(bytes);
  const isWhole = bytes.length === DER_PREFIX.length + 32 && DER_PREFIX.equals(bytes.subarray(0, 16));
  if (!isWhole) throw new TypeError("not an Ed25519 key in PKCS #8");
  return createPrivateKey({ key: bytes, format: "der", type: "pkcs8" });
}

function hold(privateKey: KeyObject): Held {
  if (privateKey.asymmetricKeyType !== "ed25519") throw new TypeError("not an Ed25519 key");
  let key: KeyObject | null = privateKey;
  return {
    publicKey: createPublicKey(privateKey).export({ format: "der", type: "spki" }).subarray(-32),
    sign: (message) => {
      if (key === null) throw new BoundaryError("internal", "signing with a key that was erased");
      return sign(null, message, key);
    },
    drop: () => {
      key = null;
    },
  };
}

/** From here on no copy is in this process, but for the moment until the garbage is collected. */
function forget(held: Held | null): void {
  if (held === null) return;
  held.drop();
  void collectGarbage();
}

function signerOf(held: Held, name: string): Signer {
  return { vkey: renderVkey(name, held.publicKey), sign: held.sign };
}

/** A genesis key's name comes from itself: "boundary-daemon/" and 8 hex digits. */
function genesisOf({ publicKey }: Held): string {
  return renderVkey(nameOf(publicKey), publicKey);
}

function nameOf(publicKey: Uint8Array): string {
  return `boundary-daemon/${hash("sha256", publicKey, "hex").slice(0, 8)}`;
}

function nameIn(vkey: string): string {
  return vkey.slice(0, vkey.indexOf("+"));
}

/** Null when there is no file. */
function readGenesis(directory: string): string | null {
  const path = join(directory, GENESIS);
  if (!fs.lstatSync(path, { throwIfNoEntry: false })) return null;
  const fd = fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW);
  try {
    const stat = fs.fstatSync(fd);
    const fault = fileFault(lookAt(stat), ourUid(), "plain");
    if (fault) throw new Error(`${GENESIS} ${fault}`);
    if (stat.size > MAX_VKEY_BYTES) throw new Error(`${GENESIS} has ${stat.size} bytes`);
    return checkedGenesis(fs.readFileSync(fd, "utf8"));
  } finally {
    fs.closeSync(fd);
  }
}

function checkedGenesis(text: string): string {
  const vkey = text.replace(/\n$/, "");
  const parsed = parseVkey(vkey);
  if (!parsed.ok) throw new Error(`${GENESIS}: ${parsed.why}`);
  const publicKey = Buffer.from(vkey.slice(vkey.indexOf("+", vkey.indexOf("+") + 1) + 1), "base64").subarray(
    1,
  );
  if (parsed.value.name !== nameOf(publicKey)) throw new Error(`${GENESIS}: the name is not the key's own`);
  return vkey;
}

/** Durable when it returns; either the old or the new one is there at any moment. Returns it. */
function writeGenesis(directory: string, vkey: string): string {
  fs.renameSync(writeBeside(directory, GENESIS, Buffer.from(`${vkey}\n`)), join(directory, GENESIS));
  syncDirectory(directory);
  return vkey;
}

function attempt<T>(code: "key-unreadable" | "state-unwritable", doing: string, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    throw cause instanceof BoundaryError ? cause : new BoundaryError(code, doing, { cause });
  }
}

function lookAt(stat: fs.Stats): Look {
  const kind = stat.isFile()
    ? "file"
    : stat.isDirectory()
      ? "directory"
      : stat.isSymbolicLink()
        ? "symlink"
        : "other";
  return { kind, uid: stat.uid, mode: stat.mode & 0o7777, links: stat.nlink };
}

function ourUid(): number {
  return process.geteuid?.() ?? -1;
}
