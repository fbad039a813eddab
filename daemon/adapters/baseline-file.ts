import { closeSync, fsyncSync, openSync, readFileSync, renameSync, statSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import { z } from "zod";
import { BoundaryError } from "../core/errors.ts";
import type { BaselineStore } from "../ports.ts";

const MAX_BYTES = 64 * 1024 * 1024;

const StatesSchema = z.array(
  z.strictObject({
    path: z.string(),
    kind: z.enum(["file", "directory", "link", "missing", "other", "unreadable"]),
    sha256: z.string(),
    size: z.number().int(),
    mode: z.number().int(),
    uid: z.number().int(),
    gid: z.number().int(),
    inode: z.string(),
  }),
);

/** The accepted states as JSON in the state directory, replaced whole. Trusted only when its digest is the one the log signed. */
export function openBaselineFile(stateDir: string): BaselineStore {
  const path = join(stateDir, "baseline.json");
  return {
    path,
    load() {
      try {
        if (statSync(path).size > MAX_BYTES) return { kind: "unreadable", why: "is too large" };
        const parsed = StatesSchema.safeParse(JSON.parse(readFileSync(path, "utf8")));
        return parsed.success
          ? { kind: "states", states: parsed.data }
          : { kind: "unreadable", why: "does not hold file states" };
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        return code === "ENOENT"
          ? { kind: "missing" }
          : { kind: "unreadable", why: `cannot be read (${code ?? "not JSON"})` };
      }
    },
    save(states) {
      try {
        replaceFile(path, JSON.stringify(states));
      } catch (cause) {
        throw new BoundaryError("state-unwritable", `writing ${path}`, { cause });
      }
    },
  };
}

/** Write beside it, sync, rename over it, sync the directory: a reader sees the old or the new, whole. */
function replaceFile(path: string, text: string): void {
  const beside = `${path}.new`;
  const fd = openSync(beside, "w", 0o600);
  try {
    writeWhole(fd, Buffer.from(text));
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(beside, path);
  const directory = openSync(dirname(path), "r");
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}

function writeWhole(fd: number, bytes: Buffer): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
}
