import * as fs from "node:fs";
import { join } from "node:path";
import { BoundaryError } from "../core/errors.ts";
import type { KeptPolicies } from "../ports.ts";
import { syncDirectory } from "./own-directory.ts";

const MAX_BYTES = 16 * 1024 * 1024;
const { O_CREAT, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_TRUNC, O_WRONLY } = fs.constants;

/** `policies.json` in the state directory (0600). It can be lost at any time: it is made anew of the policies. */
export function openKeptPolicies(stateDir: string): KeptPolicies {
  const path = join(stateDir, "policies.json");
  return {
    load() {
      try {
        return read(path);
      } catch {
        return null;
      }
    },
    save(text) {
      if (this.load() === text) return;
      const beside = `${path}.new`;
      try {
        write(beside, text);
        fs.renameSync(beside, path);
        syncDirectory(stateDir);
      } catch (cause) {
        throw new BoundaryError("state-unwritable", `writing ${path}`, { cause });
      }
    },
  };
}

function read(path: string): string | null {
  const fd = fs.openSync(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  try {
    const stat = fs.fstatSync(fd);
    return stat.isFile() && stat.size <= MAX_BYTES ? fs.readFileSync(fd, "utf8") : null;
  } finally {
    fs.closeSync(fd);
  }
}

function write(path: string, text: string): void {
  const fd = fs.openSync(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0o600);
  try {
    fs.writeFileSync(fd, text);
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}
