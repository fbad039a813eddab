import { createPrivateKey, createPublicKey, hash, type KeyObject } from "node:crypto";
import { join } from "node:path";
import { parseVkey, renderVkey } from "../daemon/audit/checkpoint.ts";
import { BoundaryError } from "../daemon/core/errors.ts";
import { readSmallFile } from "./read-file.ts";

/** Names and forms as in daemon/adapters/keys.ts and head-file.ts. */
const GENESIS_FILE = "log.vkey";
const KEY_FILE = "log.key";
const HEAD_FILE = "log.head";
const MAX_BYTES = 4_096;

/**
 * The genesis key of a state directory's log; null when there is none. Before the first start of this version there is
 * only the private key, and its public one is it.
 * Throws BoundaryError("key-unreadable"): only root and the daemon's own user may read it.
 */
export function readOwnVkey(stateDir: string): string | null {
  return readGenesis(stateDir) ?? readFromPrivateKey(stateDir);
}

function readGenesis(stateDir: string): string | null {
  const path = join(stateDir, GENESIS_FILE);
  try {
    const text = readSmallFile(path, MAX_BYTES)?.toString("utf8").replace(/\n$/, "");
    if (text === undefined) return null;
    const parsed = parseVkey(text);
    if (parsed.ok) return text;
    throw new Error(parsed.why);
  } catch (cause) {
    throw new BoundaryError("key-unreadable", `reading the log's genesis key ${path}`, { cause });
  }
}

function readFromPrivateKey(stateDir: string): string | null {
  const path = join(stateDir, KEY_FILE);
  let bytes: Buffer | null = null;
  try {
    bytes = readSmallFile(path, MAX_BYTES);
    if (bytes === null) return null;
    const publicKey = publicKeyOf(bytes).export({ format: "der", type: "spki" }).subarray(-32);
    return renderVkey(`boundary-daemon/${hash("sha256", publicKey, "hex").slice(0, 8)}`, publicKey);
  } catch (cause) {
    throw new BoundaryError("key-unreadable", `reading the log's key ${path}`, { cause });
  } finally {
    bytes?.fill(0);
  }
}

function publicKeyOf(bytes: Buffer): KeyObject {
  if (bytes[0] === "-".charCodeAt(0)) return createPublicKey(bytes);
  return createPublicKey(createPrivateKey({ key: bytes, format: "der", type: "pkcs8" }));
}

/** The signed note that a state directory remembers; null when there is none. Throws BoundaryError("head-invalid"). */
export function readOwnHead(stateDir: string): string | null {
  const path = join(stateDir, HEAD_FILE);
  try {
    const note = readSmallFile(path, MAX_BYTES)?.toString("utf8").replace(/\0+$/, "");
    return note === undefined || note === "" ? null : note;
  } catch (cause) {
    throw new BoundaryError("head-invalid", `reading the remembered head ${path}`, { cause });
  }
}
