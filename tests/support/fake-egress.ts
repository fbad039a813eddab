import { chmodSync, mkdirSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { dirname } from "node:path";
import { createFrameReader, renderFrame } from "../../daemon/core/frames.ts";

type Message = { readonly kind: string; readonly id?: string; readonly [name: string]: unknown };

export type FakeEgress = {
  /** All that the daemon said, in order. */
  readonly heard: readonly Message[];
  of(kind: string): readonly Message[];
  say(message: object): void;
  /** Sends any bytes. */
  raw(bytes: Buffer): void;
  /** How often it was connected to. */
  connections(): number;
  drop(): void;
  stop(): Promise<void>;
};

/**
 * An egress process that connects nobody: it speaks the protocol on a real socket. `answers`: to which messages it says
 * what is expected of it by itself.
 */
export async function fakeEgress(
  path: string,
  answers: { readonly hello?: boolean; readonly open?: boolean; readonly end?: boolean } = {},
): Promise<FakeEgress> {
  const { hello = true, open = true, end = true } = answers;
  mkdirSync(dirname(path), { recursive: true });
  chmodSync(dirname(path), 0o750);
  const heard: Message[] = [];
  const sockets = new Set<Socket>();
  let connections = 0;
  const send = (bytes: Buffer): void => {
    for (const socket of sockets) socket.write(bytes);
  };
  const say = (message: object): void => send(renderFrame(message));
  function take(message: Message): void {
    heard.push(message);
    const { kind, id } = message;
    if (kind === "hello" && hello) say({ kind: "ready" });
    else if (kind === "open" && open) say({ kind: "opened", id });
    else if (kind === "end" && end) say({ kind: "ended", id });
  }
  const server = createServer((socket) => {
    const reader = createFrameReader();
    connections += 1;
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => undefined);
    socket.on("data", (chunk: Buffer) => {
      for (const read of reader.push(chunk)) if (read.ok) take(read.value as Message);
    });
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const drop = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    heard,
    of: (kind) => heard.filter((one) => one.kind === kind),
    say,
    raw: send,
    connections: () => connections,
    drop,
    stop: async () => {
      drop();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
