import { generateKeyPairSync } from "node:crypto";
import { statSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { dirname } from "node:path";
import { type Backoff, jitteredMs } from "../core/backoff.ts";
import { renderErrorChain } from "../core/errors.ts";
import { renderOrder, signOrder } from "../exec/run-order.ts";
import { createFrameCutter, readFromWorker, renderToWorker, type ToWorker } from "../exec/worker-frames.ts";
import type { ExecWorker, OpLog, Peer, WorkerEvent, WorkerState } from "../ports.ts";
import { descriptorOf } from "./socket-descriptor.ts";

const BACKOFF: Backoff = { firstMs: 100, mostMs: 5_000 };
/** From the connection to `ready`. */
const READY_MS = 5_000;
/** What may wait for a worker that does not read. */
const MAX_PENDING = 16 * 1024 * 1024;

export type WorkerOptions = {
  readonly path: string;
  /** Who listens at the other end of a connected descriptor; null when the kernel does not say. */
  readonly peerOf: (fd: number) => Peer | null;
  readonly random: () => number;
  readonly opLog: OpLog;
};

/**
 * The worker behind its socket. The connection is kept up, with back-off. Orders are signed with a key that is made here, is
 * in nobody's file, and ends with the process; the worker is told the public half first.
 *
 * Who listens has to be the owner of the socket's directory, which nobody else may write: only who may make directories in
 * our runtime directory can have put another one there.
 */
export function openExecWorker({ path, peerOf, random, opLog }: WorkerOptions): ExecWorker {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const hello = publicKey.export({ format: "der", type: "spki" }).subarray(-32).toString("base64");
  let listener: (event: WorkerEvent) => void = () => undefined;
  let socket: Socket | null = null;
  let state: WorkerState = { kind: "absent", why: "not connected yet" };
  let failures = 0;
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;
  let told = "";

  function dial(): void {
    clearTimeout(timer);
    if (stopped || socket !== null) return;
    const one = connect({ path });
    socket = one;
    const cutter = createFrameCutter();
    timer = setTimeout(() => lose(one, "it does not say that it is ready"), READY_MS).unref();
    one.on("connect", () => {
      const fault = faultOfPeer(one);
      if (fault === null) say({ kind: "hello", publicKey: hello });
      else lose(one, fault);
    });
    one.on("data", (chunk: Buffer) => {
      if (socket !== one) return;
      const frames = cutter.push(chunk);
      if (frames === "dead") lose(one, "it sent a frame that is too long");
      else for (const frame of frames) if (socket === one) take(one, frame);
    });
    one.on("error", (error) => lose(one, renderErrorChain(error)));
    one.on("close", () => lose(one, "the connection ended"));
  }

  function take(one: Socket, frame: Buffer): void {
    const read = readFromWorker(frame);
    if (!read.ok) {
      lose(one, `it sent what cannot be read: ${read.why}`);
      return;
    }
    const { message } = read;
    if ((message.kind === "ready") !== (state.kind === "absent")) {
      lose(one, `${message.kind} out of turn`);
      return;
    }
    if (message.kind === "ready") {
      clearTimeout(timer);
      failures = 0;
      told = "";
      state = { kind: "ready", sandbox: message.sandbox };
      opLog.info({ sandbox: message.sandbox }, "the worker is ready");
    }
    listener(message);
  }

  /** The connection is over; the worker ends what it ran when it sees that. */
  function lose(one: Socket, why: string): void {
    if (socket !== one) return;
    clearTimeout(timer);
    socket = null;
    one.destroy();
    const wasReady = state.kind === "ready";
    state = { kind: "absent", why };
    if (wasReady || (why !== told && !/ENOENT/.test(why)))
      opLog.warn({ why }, "no worker for guarded commands");
    told = why;
    if (wasReady) listener({ kind: "gone", why });
    if (stopped) return;
    failures += 1;
    timer = setTimeout(dial, jitteredMs(BACKOFF, failures, random())).unref();
  }

  function faultOfPeer(one: Socket): string | null {
    const fd = descriptorOf(one);
    const peer = fd === null ? null : peerOf(fd);
    if (peer === null) return "the kernel does not say who listens";
    try {
      const { uid, mode } = statSync(dirname(path));
      if ((mode & 0o022) !== 0) return `others may write ${dirname(path)}`;
      return peer.uid === uid ? null : `uid ${peer.uid} listens, and the directory is uid ${uid}'s`;
    } catch (error) {
      return renderErrorChain(error);
    }
  }

  function say(message: ToWorker): boolean {
    if (socket === null) return false;
    socket.write(renderToWorker(message));
    if (socket.writableLength > MAX_PENDING) lose(socket, "it does not read");
    return socket !== null;
  }

  return {
    start(then) {
      listener = then;
      dial();
    },
    state: () => state,
    run(order, stdin) {
      if (state.kind !== "ready") return false;
      try {
        const text = renderOrder(order);
        const signature = signOrder(text, privateKey);
        return say({ kind: "run", order: text, signature, stdin: stdin.toString("base64") });
      } catch (error) {
        opLog.error({ id: order.id, err: renderErrorChain(error) }, "an order that no worker would read");
        return false;
      }
    },
    end: (id, why) => void (state.kind === "ready" && say({ kind: "end", id, why })),
    drop: (why) => void (socket !== null && lose(socket, why)),
    stop() {
      stopped = true;
      clearTimeout(timer);
      // what was said last, that runs are to end, is to be read
      socket?.end();
      socket?.unref();
      socket = null;
      state = { kind: "absent", why: "stopped" };
    },
  };
}
