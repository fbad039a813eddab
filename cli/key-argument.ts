import { BoundaryError } from "../daemon/core/errors.ts";
import { readSmallFile } from "./read-file.ts";

const MAX_KEY_BYTES = 4_096;

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
