import { connect, type Socket } from "node:net";

/** A connection on which bytes are sent as they are given. The caller destroys its socket. */
export type RawHttp = {
  readonly socket: Socket;
  send(bytes: string | Buffer): void;
  /** What has come so far. */
  text(): string;
  /** The statuses of what has come so far. */
  statuses(): readonly number[];
  /** Resolves with everything that came, when the connection has ended. */
  readonly ended: Promise<string>;
};

export async function rawHttp(path: string, allowHalfOpen = false): Promise<RawHttp> {
  const socket = connect({ path, allowHalfOpen });
  let heard = "";
  socket.setEncoding("latin1");
  socket.on("data", (chunk: string) => {
    heard += chunk;
  });
  socket.on("error", () => undefined);
  const ended = new Promise<string>((resolve) => socket.once("close", () => resolve(heard)));
  await new Promise<void>((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("error", reject);
  });
  return {
    socket,
    ended,
    send: (bytes) => void socket.write(bytes),
    text: () => heard,
    statuses: () => [...heard.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map((hit) => Number(hit[1])),
  };
}
