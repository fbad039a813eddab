import { closeSync, fsyncSync, openSync, readFileSync, renameSync, statSync } from "node:fs";
import { open, rename } from "node:fs/promises";
import { dirname, join } from "node:path";
import { z } from "zod";
import { BoundaryError } from "../core/errors.ts";
import type { FileState } from "../core/fingerprint.ts";
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

type Loaded = ReturnType<BaselineStore["load"]>;

/**
 * The accepted states as JSON in the state directory. New ones are written to `baseline.json.new`, and renamed over the
 * old when the log has signed them: whatever a crash leaves, one of the two is the one that the log signed.
 */
export function openBaselineFile(stateDir: string): BaselineStore {
  const path = join(stateDir, "baseline.json");
  const beside = `${path}.new`;
  let unfinished = false; // signed states are still beside: they must not be written over

  async function finish(): Promise<void> {
    await rename(beside, path);
    unfinished = false;
    await syncDirectory(dirname(path));
  }

  function finishLoaded(): void {
    try {
      renameSync(beside, path);
      syncDirectoryNow(dirname(path));
    } catch {
      unfinished = true; // what was loaded is good; the next replacement tries again first, and tells its failure
    }
  }

  return {
    path,
    load(isSigned) {
      const present = read(path);
      if (present.kind === "states" && isSigned(present.states)) return present;
      const next = read(beside);
      if (next.kind === "states" && isSigned(next.states)) {
        finishLoaded();
        return next;
      }
      return present.kind === "states"
        ? { kind: "unreadable", why: "is not the one the log signed" }
        : present;
    },
    async prepare(states) {
      try {
        if (unfinished) await finish();
        await writeDurably(beside, renderStates(states));
      } catch (cause) {
        throw new BoundaryError("state-unwritable", `writing ${beside}`, { cause });
      }
      return {
        async commit() {
          unfinished = true;
          try {
            await finish();
          } catch (cause) {
            throw new BoundaryError("state-unwritable", `replacing ${path}`, { cause });
          }
        },
      };
    },
  };
}

function read(path: string): Loaded {
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
}

function renderStates(states: readonly FileState[]): Buffer {
  const bytes = Buffer.from(JSON.stringify(states));
  if (bytes.length > MAX_BYTES) throw new Error(`${bytes.length} bytes are more than can be read back`);
  return bytes;
}

/** Whole, synced, and its name too. */
async function writeDurably(path: string, bytes: Buffer): Promise<void> {
  const file = await open(path, "w", 0o600);
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
  await syncDirectory(dirname(path));
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

function syncDirectoryNow(path: string): void {
  const directory = openSync(path, "r");
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}
