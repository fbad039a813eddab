import { createPublicKey, hash } from "node:crypto";
import { join } from "node:path";
import { renderVkey } from "../daemon/audit/checkpoint.ts";
import { BoundaryError } from "../daemon/core/errors.ts";
import { readSmallFile } from "./read-file.ts";

/** Names and forms as in daemon/adapters/keys.ts and head-file.ts. */
const KEY_FILE = "log.key";
const HEAD_FILE = "log.head";
const MAX_BYTES = 4_096;

/**
 * The public key that belongs to a state directory's private one; null when there is none.
 * Throws BoundaryError("key-unreadable"): only root and the daemon's own user may read it.
 */
export function readOwnVkey(stateDir: string): string | null {
  const path = join(stateDir, KEY_FILE);
  let pem: Buffer | null = null;
  try {
    pem = readSmallFile(path, MAX_BYTES);
    if (pem === null) return null;
    const publicKey = createPublicKey(pem).export({ format: "der", type: "spki" }).subarray(-32);
    return renderVkey(`boundary-daemon/${hash("sha256", publicKey, "hex").slice(0, 8)}`, publicKey);
  } catch (cause) {
    throw new BoundaryError("key-unreadable", `reading the log's key ${path}`, { cause });
  } finally {
    pem?.fill(0);
  }
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
