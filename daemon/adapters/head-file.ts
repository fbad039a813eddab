import * as fs from "node:fs";
import { join } from "node:path";
import { BoundaryError } from "../core/errors.ts";
import { fileFault } from "../core/ownership.ts";
import type { HeadStore } from "../ports.ts";

/** The newest signed note, in the state directory, away from the log: the end that the log has to reach. */
const HEAD_FILE = "log.head";
/** The file is always this long, padded with NUL: one write, one sector, and nothing of an older note shows through. */
const HEAD_BYTES = 512;
const { O_CREAT, O_NOFOLLOW, O_RDONLY, O_RDWR } = fs.constants;

/** Missing and unreadable are different things: a first start has no head; one that cannot be read proves nothing. */
export type RememberedHead =
  | { readonly kind: "missing" }
  | { readonly kind: "note"; readonly note: string }
  | { readonly kind: "unreadable"; readonly why: string };

/** What is remembered. Never throws. The note's signature is the verifier's to check. */
export function readHead(stateDirectory: string): RememberedHead {
  try {
    const fd = fs.openSync(join(stateDirectory, HEAD_FILE), O_RDONLY | O_NOFOLLOW);
    try {
      return readNote(fd);
    } finally {
      fs.closeSync(fd);
    }
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return { kind: "missing" };
    return { kind: "unreadable", why: error instanceof Error ? error.message : String(error) };
  }
}

/** Forgets what is remembered, durably. Throws BoundaryError("state-unwritable"). */
export function forgetHead(stateDirectory: string): void {
  try {
    fs.rmSync(join(stateDirectory, HEAD_FILE), { force: true });
    const directory = fs.openSync(stateDirectory, O_RDONLY | fs.constants.O_DIRECTORY);
    try {
      fs.fsyncSync(directory);
    } finally {
      fs.closeSync(directory);
    }
  } catch (cause) {
    throw new BoundaryError("state-unwritable", "forgetting the remembered head", { cause });
  }
}

function readNote(fd: number): RememberedHead {
  const fault = faultOf(fs.fstatSync(fd));
  if (fault) return { kind: "unreadable", why: `it ${fault}` };
  const text = fs.readFileSync(fd).toString("utf8");
  const note = text.replace(/\0+$/, "");
  // Empty: made, and not written before a crash. The first batch had not been answered then.
  if (note === "") return { kind: "missing" };
  return note.includes("\0") ? { kind: "unreadable", why: "it is damaged" } : { kind: "note", note };
}

/**
 * Opens the file to write heads into. Each is one write in place, not synced: after kill -9 the kernel still has it,
 * and power loss may bring back an older head, which a log that was synced first still extends. A sync here would
 * double the price of every batch to guard against an attacker who needs a power cut.
 * Writes happen beside the loop (a journal that is committing holds even an unsynced write for a good while), one at
 * a time, the newest note always next: for that moment a kill -9 leaves a head that is a batch or two old.
 * Throws BoundaryError("log-unavailable") when the file cannot be made or is not safe.
 */
export function openHeadFile(stateDirectory: string): HeadStore & { close(): void } {
  const path = join(stateDirectory, HEAD_FILE);
  const doing = `opening ${path}`;
  let fd: number;
  try {
    fd = fs.openSync(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0o600);
  } catch (cause) {
    throw new BoundaryError("log-unavailable", doing, { cause });
  }
  const fault = faultOf(fs.fstatSync(fd));
  if (fault) {
    fs.closeSync(fd);
    throw new BoundaryError("log-unavailable", `${doing}: it ${fault}`);
  }
  let next: string | null = null;
  let writing: Promise<void> | null = null;

  async function writeNewest(): Promise<void> {
    while (next !== null) {
      const note = next;
      next = null;
      await writeBlock(fd, note);
    }
  }

  return {
    remember(note) {
      next = note;
      writing ??= writeNewest().finally(() => {
        writing = null;
      });
      return writing;
    },
    close: () => fs.closeSync(fd),
  };
}

function writeBlock(fd: number, note: string): Promise<void> {
  const block = Buffer.alloc(HEAD_BYTES);
  if (Buffer.byteLength(note, "utf8") > HEAD_BYTES)
    return Promise.reject(new BoundaryError("internal", "remembering a head: the note is too long"));
  block.write(note, 0, "utf8");
  return new Promise((resolve, reject) => {
    fs.write(fd, block, 0, HEAD_BYTES, 0, (cause, written) => {
      if (cause) reject(new BoundaryError("log-unavailable", "remembering a head", { cause }));
      else if (written === HEAD_BYTES) resolve();
      else reject(new BoundaryError("log-unavailable", "remembering a head: it was written in part"));
    });
  });
}

function faultOf(stat: fs.Stats): string | null {
  const kind = stat.isFile() ? "file" : "other";
  return fileFault(
    { kind, uid: stat.uid, mode: stat.mode & 0o7777, links: stat.nlink },
    process.geteuid?.() ?? -1,
    "secret",
  );
}
