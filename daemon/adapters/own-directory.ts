import * as fs from "node:fs";
import { dirname } from "node:path";

const { O_DIRECTORY, O_RDONLY } = fs.constants;

/**
 * Makes a directory (0700) and those above it that are missing, durable when it returns: a log whose directory a power
 * cut takes away is gone with it. One that is there is left as it is. Throws the system's error.
 */
export function makeDirectory(directory: string): void {
  const first = fs.mkdirSync(directory, { recursive: true, mode: 0o700 });
  if (first === undefined) return;
  for (let made = directory; ; made = dirname(made)) {
    syncDirectory(dirname(made));
    if (made === first || made === dirname(made)) return;
  }
}

/** Makes the names in a directory durable. Throws the system's error. */
export function syncDirectory(directory: string): void {
  const fd = fs.openSync(directory, O_RDONLY | O_DIRECTORY);
  try {
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}
