import { connect, type Socket } from "node:net";
import { createFrameReader, type Frame, renderFrame } from "../../daemon/protocol/frame.ts";

export type RawClient = {
  readonly socket: Socket;
  /** The next frame, however long it takes; rejects when the connection ends first. */
  next(): Promise<Frame>;
  /** Resolves when the connection has ended. */
  readonly ended: Promise<void>;
  send(bytes: string | Buffer): void;
  request(id: string, verb: string, params?: unknown): void;
};

/** A client that does as it is told, good or bad. The caller destroys its socket. */
export async function rawClient(path: string): Promise<RawClient> {
  const socket = connect({ path });
  const reader = createFrameReader({ maxBytes: 16 * 1_048_576, maxDepth: 64 });
  const frames: Frame[] = [];
  const waiting: { resolve: (frame: Frame) => void; reject: (error: Error) => void }[] = [];
  let over = false;
  socket.on("data", (chunk: Buffer) => {
    for (const frame of reader.push(chunk)) {
      const waiter = waiting.shift();
      if (waiter) waiter.resolve(frame);
      else frames.push(frame);
    }
  });
  socket.on("error", () => undefined);
  const ended = new Promise<void>((resolve) => {
    socket.on("close", () => {
      over = true;
      for (const waiter of waiting.splice(0)) waiter.reject(new Error("the connection ended"));
      resolve();
    });
  });
  await new Promise<void>((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("error", reject);
  });

  function next(): Promise<Frame> {
    const ready = frames.shift();
    if (ready) return Promise.resolve(ready);
    if (over) return Promise.reject(new Error("the connection has ended"));
    return new Promise((resolve, reject) => waiting.push({ resolve, reject }));
  }

  const send = (bytes: string | Buffer): void => void socket.write(bytes);
  const request = (id: string, verb: string, params?: unknown): void =>
    send(renderFrame("request", { id, verb, ...(params === undefined ? {} : { params }) }));
  return { socket, next, ended, send, request };
}
