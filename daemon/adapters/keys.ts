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
import { renderVkey } from "../audit/checkpoint.ts";
import { BoundaryError } from "../core/errors.ts";
import { directoryFault, fileFault, type Look } from "../core/ownership.ts";
import type { Signer } from "../ports.ts";

/** The log's private key, in the state directory: PKCS #8 in PEM, readable by us alone. */
const KEY_FILE = "log.key";
/** Where a new key is written first: what has the key's name is whole. */
const UNFINISHED = "log.key.new";
const MAX_KEY_BYTES = 1024;
const { O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_RDONLY, O_WRONLY } = fs.constants;

/** A signer, and the name in its vkey, which is also the origin of the log's checkpoints. */
export type LogKey = { readonly signer: Signer; readonly origin: string };

/** "empty": a file of no bytes, which is no key and never was one (a power cut while an older version made it). */
export type KeyLoad =
  | { readonly kind: "loaded"; readonly key: LogKey }
  | { readonly kind: "missing" }
  | { readonly kind: "empty" };

/** Makes the state directory (0700) or checks the one there. Throws BoundaryError("key-unreadable") when it is not safe. */
export function prepareStateDirectory(directory: string): void {
  const doing = `preparing the state directory ${directory}`;
  try {
    fs.mkdirSync(directory, { recursive: true, mode: 0o700 });
    const fault = directoryFault(lookAt(fs.lstatSync(directory)), ourUid());
    if (fault) throw unreadable(`${doing}: it ${fault}`);
  } catch (cause) {
    throw cause instanceof BoundaryError ? cause : unreadable(doing, cause);
  }
}

/**
 * Loads the key. "missing" only when there is no such file; anything else that is wrong throws
 * BoundaryError("key-unreadable").
 */
export function loadKey(stateDirectory: string): KeyLoad {
  const path = join(stateDirectory, KEY_FILE);
  const doing = `reading the log's key ${path}`;
  forgetSecondName(stateDirectory);
  const pem = readSecret(path, doing);
  if (pem === null) return { kind: "missing" };
  if (pem.length === 0) return { kind: "empty" };
  try {
    return { kind: "loaded", key: keyFrom(createPrivateKey(pem)) };
  } catch (cause) {
    throw unreadable(doing, cause);
  } finally {
    pem.fill(0);
  }
}

/**
 * Loads the key, or makes one for a log that does not exist yet. A log without its key is an error
 * (BoundaryError("key-unreadable")), never a reason to make another key: that would be a new log in the old one's place.
 */
export function loadOrCreateKey(stateDirectory: string, log: "none" | "exists"): LogKey {
  const found = loadKey(stateDirectory);
  if (found.kind === "loaded") return found.key;
  if (log === "exists")
    throw unreadable(`${join(stateDirectory, KEY_FILE)} is ${found.kind}, and there is a log signed with it`);
  if (found.kind === "empty") fs.unlinkSync(join(stateDirectory, KEY_FILE));
  return createKey(stateDirectory);
}

function createKey(stateDirectory: string): LogKey {
  const { privateKey } = generateKeyPairSync("ed25519");
  const pem = Buffer.from(privateKey.export({ format: "pem", type: "pkcs8" }));
  const beside = join(stateDirectory, UNFINISHED);
  try {
    fs.rmSync(beside, { force: true });
    writeNew(beside, pem);
    fs.linkSync(beside, join(stateDirectory, KEY_FILE)); // unlike a rename it never takes the place of a key
    fs.rmSync(beside, { force: true });
    syncDirectory(stateDirectory);
  } catch (cause) {
    throw unreadable(`creating the log's key in ${stateDirectory}`, cause);
  } finally {
    pem.fill(0);
  }
  return keyFrom(privateKey);
}

function writeNew(path: string, bytes: Buffer): void {
  const fd = fs.openSync(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  try {
    fs.writeFileSync(fd, bytes);
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}

/** A crash between linking and unlinking leaves the key under both names, and a key has one. */
function forgetSecondName(stateDirectory: string): void {
  try {
    const [key, beside] = [KEY_FILE, UNFINISHED].map((name) =>
      fs.lstatSync(join(stateDirectory, name), { throwIfNoEntry: false, bigint: true }),
    );
    if (!key || !beside || key.ino !== beside.ino || key.dev !== beside.dev) return;
    fs.rmSync(join(stateDirectory, UNFINISHED), { force: true });
  } catch {
    // reading the key, which comes next, says what is wrong
  }
}

function keyFrom(privateKey: KeyObject): LogKey {
  if (privateKey.asymmetricKeyType !== "ed25519") throw new TypeError("not an Ed25519 key");
  const spki = createPublicKey(privateKey).export({ format: "der", type: "spki" });
  const publicKey = spki.subarray(-32);
  const origin = `boundary-daemon/${hash("sha256", publicKey, "hex").slice(0, 8)}`;
  const vkey = renderVkey(origin, publicKey);
  return { origin, signer: { vkey, sign: (message) => sign(null, message, privateKey) } };
}

/** Null when there is no file. */
function readSecret(path: string, doing: string): Buffer | null {
  let fd: number;
  try {
    fd = fs.openSync(path, O_RDONLY | O_NOFOLLOW);
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return null;
    throw unreadable(doing, cause);
  }
  try {
    const stat = fs.fstatSync(fd);
    const fault = fileFault(lookAt(stat), ourUid(), "secret");
    if (fault) throw unreadable(`${doing}: it ${fault}`);
    if (stat.size > MAX_KEY_BYTES) throw unreadable(`${doing}: ${stat.size} bytes are not a key`);
    return fs.readFileSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}

function syncDirectory(directory: string): void {
  const fd = fs.openSync(directory, O_RDONLY | O_DIRECTORY);
  try {
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
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

function unreadable(doing: string, cause?: unknown): BoundaryError {
  return new BoundaryError("key-unreadable", doing, { cause });
}
