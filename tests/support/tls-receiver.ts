import { readFileSync } from "node:fs";
import type { AddressInfo, Socket } from "node:net";
import { createServer, type TLSSocket, type TlsOptions } from "node:tls";
import { createFrameCutter, parseSyslog, type SyslogMessage } from "./syslog-reader.ts";
import type { KeyPair } from "./tls-files.ts";

/** A syslog server that reads strictly, and can misbehave. */
export type Receiver = {
  readonly port: number;
  /** Whole messages, of all connections, in the order of their arrival. */
  readonly messages: SyslogMessage[];
  readonly connections: () => number;
  /** What is wrong in what came; a test expects none. */
  readonly faults: Error[];
  /** read: and close when the other side does. deaf: never reads. hold: reads, and never closes. */
  behave: "read" | "deaf" | "hold";
  /** Cuts all connections with a reset. */
  reset(): void;
  /** Closes all connections in order. */
  hangUp(): void;
  stop(): Promise<void>;
};

export async function startReceiver(pair: KeyPair, more: TlsOptions = {}): Promise<Receiver> {
  const open = new Set<TLSSocket>();
  const raw = new Set<Socket>();
  let connections = 0;
  const pem = { cert: readFileSync(pair.cert), key: readFileSync(pair.key) };
  const server = createServer({ ...pem, ...more, allowHalfOpen: true }, (socket) => {
    connections++;
    open.add(socket);
    socket.on("error", () => undefined);
    socket.on("close", () => open.delete(socket));
    if (receiver.behave === "deaf") return;
    const cut = createFrameCutter((text) => receiver.messages.push(parseSyslog(text)));
    socket.on("data", (bytes: Buffer) => {
      try {
        cut(bytes);
      } catch (error) {
        receiver.faults.push(error instanceof Error ? error : new Error("?"));
      }
    });
    socket.on("end", () => {
      if (receiver.behave === "read") socket.end();
    });
  });
  server.on("connection", (socket: Socket) => {
    raw.add(socket);
    socket.on("close", () => raw.delete(socket));
  });
  server.on("tlsClientError", () => undefined);
  const receiver: Receiver = {
    port: 0,
    messages: [],
    connections: () => connections,
    faults: [],
    behave: "read",
    reset: () => {
      for (const socket of raw) socket.resetAndDestroy();
    },
    hangUp: () => {
      for (const socket of open) socket.end();
    },
    stop: () =>
      new Promise((resolve) => {
        for (const socket of raw) socket.destroy();
        server.close(() => resolve());
      }),
  };
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return Object.assign(receiver, { port: (server.address() as AddressInfo).port });
}
