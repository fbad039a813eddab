import * as fs from "node:fs";
import { join } from "node:path";
import koffi from "koffi";

/** linux/falloc.h: the size stays; works on append-only files too. */
const FALLOC_FL_KEEP_SIZE = 0x01;
const { O_CREAT, O_NOFOLLOW, O_TRUNC, O_WRONLY } = fs.constants;

const fallocate = koffi.load(null).func("int fallocate(int fd, int mode, int64_t offset, int64_t length)");

/** Where a file's reserve is: blocks behind its end, a file beside it that is removed when there is need, or nowhere. */
export type ReserveKind = "blocks" | "ballast" | "none";

/** Room on the disk that others cannot take: for the records of a fall. */
export type Reserve = {
  /** After each write: `size` is the file's. Renews the reserve when half of it is used up. Never throws. */
  grown(size: number): void;
  /** No space left for a write: true when room was made, and the write is worth another try. Never throws. */
  makeRoom(): boolean;
  /** What is left of it. */
  state(): { readonly kind: ReserveKind; readonly bytes: number };
  /** Gives all of it back: the file is complete. Never throws. */
  release(): void;
};

const BALLAST = "reserve.ballast";

/**
 * Keeps `bytes` free for a file that is appended to. Blocks are allocated behind its end (they do not show in its size);
 * where the file system refuses that, a ballast file in the directory holds the room. `fd`: open for writing.
 */
export function keepReserve(fd: number, directory: string, bytes: number, sizeAtOpen: number): Reserve {
  const ballast = join(directory, BALLAST);
  let size = sizeAtOpen;
  let kind: ReserveKind = "none";
  let end = size; // of what is allocated behind the file, or would be: size + what is left

  function renew(): void {
    if (kind !== "ballast" && allocate(fd, size, bytes)) {
      kind = "blocks";
      end = size + bytes;
    } else if (end <= size) {
      kind = writeBallast(ballast, bytes) ? "ballast" : "none";
    }
  }

  if (bytes > 0) {
    fs.rmSync(ballast, { force: true }); // of another run
    renew();
  }
  return {
    grown(now) {
      size = now;
      if (bytes === 0) return;
      if (kind === "none" || (kind === "blocks" && end - size < bytes / 2)) renew();
    },
    makeRoom() {
      if (kind !== "ballast") return false;
      fs.rmSync(ballast, { force: true });
      kind = "none";
      return true;
    },
    state() {
      const left = kind === "ballast" ? bytes : kind === "blocks" ? Math.max(0, end - size) : 0;
      return { kind, bytes: left };
    },
    release() {
      try {
        fs.rmSync(ballast, { force: true });
        if (kind === "blocks") fs.ftruncateSync(fd, size);
      } catch {
        // blocks that stay allocated cost room, and nothing else
      }
      kind = "none";
    },
  };
}

function allocate(fd: number, from: number, bytes: number): boolean {
  return fallocate(fd, FALLOC_FL_KEEP_SIZE, from, bytes) === 0;
}

/** Bytes, not a hole. When they do not fit it takes no room at all: a reserve in part would only make others fail sooner. */
function writeBallast(path: string, bytes: number): boolean {
  try {
    const fd = fs.openSync(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0o600);
    try {
      const piece = Buffer.alloc(Math.min(bytes, 1024 * 1024), 0x2e);
      for (let at = 0; at < bytes; ) at += fs.writeSync(fd, piece, 0, Math.min(piece.length, bytes - at));
      fs.fsyncSync(fd);
    } finally {
      fs.closeSync(fd);
    }
    return true;
  } catch {
    fs.rmSync(path, { force: true });
    return false;
  }
}

/** What an ordinary user can still write on the directory's file system; null when it does not say. Never throws. */
export function freeBytes(directory: string): number | null {
  try {
    const { bavail, bsize } = fs.statfsSync(directory);
    return bavail * bsize;
  } catch {
    return null;
  }
}
