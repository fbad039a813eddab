import { BoundaryError } from "../daemon/core/errors.ts";
import { usageError } from "./exit.ts";
import { readOwnVkey } from "./own-state.ts";
import { readSmallFile } from "./read-file.ts";

const MAX_KEY_BYTES = 4_096;

/** The key that --key gives, else this host's own. Throws a usage error, or BoundaryError("key-invalid"). */
export function readKeyOrOwn(argument: string | undefined, stateDir: string): string {
  return argument === undefined ? ownKey(stateDir) : readKeyArgument(argument);
}

function ownKey(stateDir: string): string {
  let found: string | null = null;
  try {
    found = readOwnVkey(stateDir);
  } catch (error) {
    throw usageError(
      `give the key with --key: ${error instanceof Error ? error.message : "it cannot be read"}`,
    );
  }
  if (found === null) throw usageError(`give the key with --key: there is none in ${stateDir}`);
  return found;
}

/** What --key and --witness give: a verifier key, or @FILE with one. Throws BoundaryError("key-invalid") when the file cannot be read. */
export function readKeyArgument(argument: string): string {
  if (!argument.startsWith("@")) return argument.trim();
  const path = argument.slice(1);
  try {
    const text = readSmallFile(path, MAX_KEY_BYTES)?.toString("utf8").trim();
    if (text !== undefined) return text;
  } catch (cause) {
    throw new BoundaryError("key-invalid", `reading the key ${path}`, { cause });
  }
  throw new BoundaryError("key-invalid", `reading the key ${path}: there is no such file`);
}
