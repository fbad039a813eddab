import { createHash } from "node:crypto";
import { type BigIntStats, closeSync, fstatSync, read, statfsSync, writeSync } from "node:fs";
import { promisify } from "node:util";
import { isWithin, type RunOrder } from "../exec/run-order.ts";
import { memoryFile, openPlace } from "./kernel.ts";

/**
 * The file that is to run, after its bytes were compared with the order.
 * inode: this very file is mounted at its path; only root could have changed it since.
 * copy: what was hashed is mounted at its path; the file itself can be changed by somebody else, or is not of this host.
 * path: it is in the workspace, where the command and whoever works there may change it between the look and the run.
 */
export type Program =
  | { readonly kind: "inode"; readonly fd: number; readonly path: string }
  | { readonly kind: "copy"; readonly fd: number; readonly path: string }
  | { readonly kind: "path"; readonly path: string };

export type ProgramFound =
  | { readonly ok: true; readonly program: Program }
  | { readonly ok: false; readonly why: string };

/** Of a program that has to be copied. Larger ones that root does not own are refused. */
const MAX_COPY_BYTES = 268_435_456;
const PIECE_BYTES = 1_048_576;
const MAX_KEPT = 256;
const ANY_EXECUTE = 0o111n;
const OTHERS_WRITE = 0o022n;

/** FUSE, NFS, SMB (both), 9P, Ceph: what they say of an owner is the word of somebody else, who can give other bytes next time. */
const FOREIGN: ReadonlySet<number> = new Set([
  0x6573_5546, 0x6969, 0xff53_4d42, 0xfe53_4d42, 0x0102_1997, 0x00c3_6400,
]);

const readPiece = promisify(read);

/** Opens programs and compares them with their orders. */
export type ProgramOpener = {
  open(order: Pick<RunOrder, "program" | "workspace">): Promise<ProgramFound>;
};

/**
 * Digests of files that only root can change are kept, by all that the kernel says of the file: the time of its last change
 * can be set by nobody.
 */
export function createProgramOpener(): ProgramOpener {
  const kept = new Map<string, string>();

  async function digestOf(fd: number, stat: BigIntStats): Promise<string> {
    if (!isRootsAlone(fd, stat)) return hashFile(fd);
    const key = [stat.dev, stat.ino, stat.size, stat.mtimeNs, stat.ctimeNs].join(":");
    const known = kept.get(key);
    if (known !== undefined) return known;
    const digest = await hashFile(fd);
    if (kept.size >= MAX_KEPT) kept.clear();
    kept.set(key, digest);
    return digest;
  }

  async function open({
    program,
    workspace,
  }: Pick<RunOrder, "program" | "workspace">): Promise<ProgramFound> {
    const { path, sha256 } = program;
    // the path that was judged has no links; one that has them now is another
    const fd = openPlace(null, path, { following: "no-links", kind: "readable" });
    if (typeof fd !== "number") return { ok: false, why: `the program cannot be opened (${fd.errno})` };
    let held = false;
    try {
      const stat = fstatSync(fd, { bigint: true });
      if (!stat.isFile() || (stat.mode & ANY_EXECUTE) === 0n) return { ok: false, why: "it is no program" };
      if (isRootsAlone(fd, stat) || isWithin(path, workspace)) {
        if ((await digestOf(fd, stat)) !== sha256) return CHANGED;
        if (isWithin(path, workspace)) return { ok: true, program: { kind: "path", path } };
        held = true;
        return { ok: true, program: { kind: "inode", fd, path } };
      }
      if (stat.size > MAX_COPY_BYTES)
        return { ok: false, why: "it is too large to be copied, and not root's" };
      return await copyOf(fd, path, sha256);
    } finally {
      if (!held) closeSync(fd);
    }
  }

  return { open };
}

const CHANGED: ProgramFound = { ok: false, why: "the program is not the one that was judged" };

async function copyOf(fd: number, path: string, sha256: string): Promise<ProgramFound> {
  const copy = memoryFile("program", Buffer.alloc(0));
  let kept = false;
  try {
    const hash = createHash("sha256");
    let bytes = 0;
    for await (const piece of piecesOf(fd)) {
      hash.update(piece);
      for (let done = 0; done < piece.length; )
        done += writeSync(copy, piece, done, piece.length - done, bytes + done);
      bytes += piece.length;
      if (bytes > MAX_COPY_BYTES) return CHANGED; // it grows while it is read
    }
    if (hash.digest("hex") !== sha256) return CHANGED;
    kept = true;
    return { ok: true, program: { kind: "copy", fd: copy, path } };
  } finally {
    if (!kept) closeSync(copy);
  }
}

function isRootsAlone(fd: number, stat: BigIntStats): boolean {
  return (
    stat.uid === 0n && (stat.mode & OTHERS_WRITE) === 0n && !isForeign(statfsSync(`/proc/self/fd/${fd}`).type)
  );
}

/** Whether files of a file system of this type (statfs) are as their server says, not as the kernel keeps them. */
export function isForeign(type: number): boolean {
  return FOREIGN.has(type >>> 0);
}

async function hashFile(fd: number): Promise<string> {
  const hash = createHash("sha256");
  for await (const piece of piecesOf(fd)) hash.update(piece);
  return hash.digest("hex");
}

/** In pieces, so that other runs go on meanwhile. */
async function* piecesOf(fd: number): AsyncGenerator<Buffer> {
  for (let at = 0; ; ) {
    const { bytesRead, buffer } = await readPiece(fd, Buffer.allocUnsafe(PIECE_BYTES), 0, PIECE_BYTES, at);
    if (bytesRead === 0) return;
    at += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}
