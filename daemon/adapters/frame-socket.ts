import type { Socket } from "node:net";
import { createFrameReader, renderFrame } from "../core/frames.ts";

export type FrameSocketParts = {
  /** A message as it came. Gives what is wrong with it; null when nothing. */
  readonly take: (value: unknown) => string | null;
  /** What the other end may not do; the connection is over then. */
  readonly onFault: (why: string) => void;
  /** Once, in the turn in which it is over, for whatever reason. */
  readonly onEnd: () => void;
};

/** The daemon's connection, as a process beside it has it. */
export type FrameSocket = {
  /** Nothing once it is over. */
  send(message: object): void;
  end(): void;
};

/** Beyond what anybody who reads leaves waiting: somebody asks, and never reads an answer. */
const MOST_WAITING_BYTES = 16_777_216;

/** Serves a connection of frames. Half closed is closed: nobody could say anything on it any more. */
export function serveFrames(socket: Socket, { take, onFault, onEnd }: FrameSocketParts): FrameSocket {
  const reader = createFrameReader();
  let over = false;

  function heard(chunk: Buffer): void {
    for (const read of reader.push(chunk)) {
      if (over) return;
      const fault = read.ok ? take(read.value) : read.why;
      if (fault === null) continue;
      fail(fault);
      return;
    }
  }

  function fail(why: string): void {
    onFault(why);
    end();
  }

  function end(): void {
    if (over) return;
    over = true;
    socket.destroy();
    onEnd();
  }

  socket.on("data", heard);
  for (const event of ["end", "error", "close"] as const) socket.on(event, end);
  return {
    send: (message) => {
      if (over || socket.destroyed) return;
      socket.write(renderFrame(message));
      if (socket.writableLength > MOST_WAITING_BYTES) fail("it does not read");
    },
    end,
  };
}
