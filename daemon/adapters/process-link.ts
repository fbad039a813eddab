import { lstatSync, statSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { dirname } from "node:path";
import { type Backoff, jitteredMs } from "../core/backoff.ts";
import { renderErrorChain } from "../core/errors.ts";
import { createFrameReader, renderFrame } from "../core/frames.ts";
import type { OpLog, Peer } from "../ports.ts";
import { descriptorOf } from "./socket-descriptor.ts";

const BACKOFF: Backoff = { firstMs: 100, mostMs: 5_000 };
/** From the connection to `ready`. */
const READY_MS = 5_000;
/** What may wait for a process that does not read. */
const MAX_PENDING = 16 * 1024 * 1024;
const PACE_MS = 1_000;

export type LinkPlace = {
  readonly path: string;
  /** Who listens at the other end of a connected descriptor; null when the kernel does not say. */
  readonly peerOf: (fd: number) => Peer | null;
  readonly random: () => number;
  readonly opLog: OpLog;
};

export type LinkParts<M extends { readonly kind: string }> = LinkPlace & {
  /** What is said first, and once; the process answers `ready`, and before that nothing. */
  readonly hello: () => object;
  /** One of its messages, or why it is none: then the connection is over. */
  readonly read: (
    value: unknown,
  ) => { readonly ok: true; readonly message: M } | { readonly ok: false; readonly why: string };
  /** Every message, in order, `ready` first. */
  readonly heard: (message: M) => void;
  /** The connection is over, after it was ready. */
  readonly gone: (why: string) => void;
  /** For the operational log: what there is none of. */
  readonly missing: string;
  /** Of one of its frames. */
  readonly mostBytes?: number;
  /** It is read no faster. */
  readonly messagesPerSecond?: number;
};

/** The connection to a process beside the daemon. */
export type ProcessLink = {
  /** Connects, and keeps connected, with back-off. */
  start(): void;
  /** null when it is ready; else why it is not. */
  absent(): string | null;
  /** False: nobody is there to hear it. Throws RangeError for more than a frame holds. */
  say(message: object): boolean;
  /** Ends the connection, and begins another one. */
  drop(why: string): void;
  /** For good. What was said last is still to be read. */
  stop(): void;
};

/**
 * Who listens has to be the owner of the socket's directory, which nobody else may write; and nobody but root and we may have
 * put that directory where it is.
 */
export function openProcessLink<M extends { readonly kind: string }>(parts: LinkParts<M>): ProcessLink {
  const { path, opLog, messagesPerSecond = Number.POSITIVE_INFINITY } = parts;
  let socket: Socket | null = null;
  let absent: string | null = "not connected yet";
  let failures = 0;
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;
  let told = "";

  function dial(): void {
    clearTimeout(timer);
    if (stopped || socket !== null) return;
    const one = connect({ path });
    socket = one;
    const reader = createFrameReader(parts.mostBytes);
    const paced = createPace(one, messagesPerSecond);
    timer = setTimeout(() => lose(one, "it does not say that it is ready"), READY_MS).unref();
    one.on("connect", () => {
      const fault = faultOfPeer(one);
      if (fault === null) say(parts.hello());
      else lose(one, fault);
    });
    one.on("data", (chunk: Buffer) => {
      for (const frame of reader.push(chunk)) {
        if (socket !== one) return;
        paced();
        if (frame.ok) take(one, frame.value);
        else lose(one, `it sent ${frame.why}`);
      }
    });
    one.on("error", (error) => lose(one, renderErrorChain(error)));
    one.on("close", () => lose(one, "the connection ended"));
  }

  function take(one: Socket, value: unknown): void {
    const read = parts.read(value);
    if (!read.ok) {
      lose(one, `it sent what cannot be read: ${read.why}`);
      return;
    }
    const { message } = read;
    if ((message.kind === "ready") !== (absent !== null)) {
      lose(one, `${message.kind} out of turn`);
      return;
    }
    if (message.kind === "ready") {
      clearTimeout(timer);
      failures = 0;
      told = "";
      absent = null;
    }
    parts.heard(message);
  }

  /** The connection is over; the process ends what it has when it sees that. */
  function lose(one: Socket, why: string): void {
    if (socket !== one) return;
    clearTimeout(timer);
    socket = null;
    one.destroy();
    const wasReady = absent === null;
    absent = why;
    if (wasReady || (why !== told && !/ENOENT/.test(why))) opLog.warn({ why }, parts.missing);
    told = why;
    if (wasReady) parts.gone(why);
    if (stopped) return;
    failures += 1;
    timer = setTimeout(dial, jitteredMs(BACKOFF, failures, parts.random())).unref();
  }

  function faultOfPeer(one: Socket): string | null {
    const fd = descriptorOf(one);
    const peer = fd === null ? null : parts.peerOf(fd);
    if (peer === null) return "the kernel does not say who listens";
    try {
      const { uid, mode } = statSync(dirname(path));
      if ((mode & 0o022) !== 0) return `others may write ${dirname(path)}`;
      if (peer.uid !== uid) return `uid ${peer.uid} listens, and the directory is uid ${uid}'s`;
      return faultAbove(dirname(path));
    } catch (error) {
      return renderErrorChain(error);
    }
  }

  function say(message: object): boolean {
    if (socket === null) return false;
    socket.write(renderFrame(message));
    if (socket.writableLength > MAX_PENDING) lose(socket, "it does not read");
    return socket !== null;
  }

  return {
    start: dial,
    absent: () => absent,
    say,
    drop: (why) => void (socket !== null && lose(socket, why)),
    stop() {
      stopped = true;
      clearTimeout(timer);
      socket?.end();
      socket?.unref();
      socket = null;
      absent = "stopped";
    },
  };
}

/** Who else could have made that directory, or could put another in its place; null: nobody. */
export function faultAbove(directory: string): string | null {
  const isOurs = (uid: number): boolean => uid === 0 || uid === process.geteuid?.();
  for (let below = directory; dirname(below) !== below; below = dirname(below)) {
    const above = dirname(below);
    const { uid, mode } = statSync(above);
    const others = !isOurs(uid) || (mode & 0o022) !== 0;
    // in a sticky directory nobody moves what is ours
    const isKept = (mode & 0o1000) !== 0 && isOurs(uid) && isOurs(lstatSync(below).uid);
    if (others && !isKept) return `others may have put ${below} into ${above}`;
  }
  return null;
}

/** Counts messages; when there were too many in a second, nothing is read until the next one. */
function createPace(socket: Socket, perSecond: number): () => void {
  let [count, sinceMs] = [0, performance.now()];
  return () => {
    const nowMs = performance.now();
    if (nowMs - sinceMs >= PACE_MS) [count, sinceMs] = [0, nowMs];
    count += 1;
    if (count < perSecond || socket.isPaused()) return;
    socket.pause();
    setTimeout(() => socket.resume(), PACE_MS - (nowMs - sinceMs)).unref();
  };
}
