import { randomBytes } from "node:crypto";
import * as fs from "node:fs";
import { join } from "node:path";
import { BoundaryError } from "../core/errors.ts";
import { directoryFault, type Look } from "../core/ownership.ts";
import type { KekSource } from "../ports.ts";
import { KEK_BYTES, localKek } from "../vault/kek-local.ts";
import { readKeyText } from "../vault/psk.ts";
import { makeDirectory } from "./own-directory.ts";
import { eraseSecret, nameNew, readSecret, writeBeside } from "./secret-file.ts";

const MAX_BYTES = 1_024;

/**
 * KEKs as files (0600) of a directory of their own: 32 bytes each, or a key in text (hex or base64) that somebody put
 * there. Who can read the files can open the vault: meant for a disk that the vault is not on.
 */
export function fileKek(directory: string): KekSource {
  const nameOf = (id: string) => `${id}.key`;

  return {
    kind: "file",
    asks: false,
    obstacle: () => "",
    async create(id) {
      const key = randomBytes(KEK_BYTES);
      try {
        makeDirectory(directory);
        requireSafe(directory);
        writeBeside(directory, nameOf(id), key);
        nameNew(directory, nameOf(id));
      } catch (cause) {
        key.fill(0);
        if (cause instanceof BoundaryError) throw cause;
        throw new BoundaryError("state-unwritable", `writing a key to ${directory}`, { cause });
      }
      return { provider: localKek(id, key), spec: "" };
    },
    async open(id, spec) {
      return { provider: localKek(id, read(directory, nameOf(id))), spec };
    },
    async retire(id) {
      try {
        eraseSecret(directory, nameOf(id));
      } catch (cause) {
        throw new BoundaryError("state-unwritable", `erasing the key ${id} in ${directory}`, { cause });
      }
    },
  };
}

function read(directory: string, name: string): Buffer {
  const doing = `reading the key ${join(directory, name)}`;
  try {
    requireSafe(directory);
    const bytes = readSecret(join(directory, name), MAX_BYTES);
    if (bytes === null) throw new BoundaryError("kek-unavailable", `${doing}: it is not there`);
    if (bytes.length === KEK_BYTES) return bytes;
    const text = readKeyText(bytes);
    bytes.fill(0);
    if (text.ok) return text.key;
    throw new BoundaryError("kek-unavailable", `${doing}: ${text.why}`);
  } catch (cause) {
    if (cause instanceof BoundaryError) throw cause;
    throw new BoundaryError("kek-unavailable", doing, { cause });
  }
}

/** Whoever may write there can put a key of his own in the place of ours. */
function requireSafe(directory: string): void {
  const stat = fs.lstatSync(directory);
  const kind: Look["kind"] = stat.isDirectory() ? "directory" : "other";
  const look = { kind, uid: stat.uid, mode: stat.mode & 0o7777, links: stat.nlink };
  const fault = directoryFault(look, process.geteuid?.() ?? -1);
  if (fault !== null) throw new BoundaryError("vault-unsafe", `using ${directory}: it ${fault}`);
}
