import { setTimeout as sleep } from "node:timers/promises";
import { type ConnectionOptions, connect, type TLSSocket } from "node:tls";
import { BoundaryError } from "../../daemon/core/errors.ts";

/** Where to, and how the two sides know each other. PEM. */
export type TlsTarget = {
  readonly host: string;
  readonly port: number;
  /** The name the certificate has to be for; the host when undefined. */
  readonly serverName: string | undefined;
  /** The only authorities that count; the system's (Node's) when undefined. */
  readonly ca: Buffer | undefined;
  readonly cert: Buffer | undefined;
  readonly key: Buffer | undefined;
  /** Takes any certificate. For a test bench; whoever sets it warns. */
  readonly insecure: boolean;
};

export type Timing = {
  /** To connect and shake hands. */
  readonly connectMs: number;
  /** For a write to leave our process while the other side takes nothing. */
  readonly writeMs: number;
  /** The connection has to live on this long after the last write, before it is closed. */
  readonly quietMs: number;
  /** For the other side to read to the end and close. */
  readonly finishMs: number;
};

export const TIMING: Timing = { connectMs: 10_000, writeMs: 60_000, quietMs: 1_000, finishMs: 60_000 };

/** One connection. Each call rejects with BoundaryError("ship-failed") once the connection has failed. */
export type Session = {
  /** Resolves when the bytes have left our process: that is the back-pressure. */
  send(bytes: Buffer): Promise<void>;
  /**
   * Closes our direction, and resolves when the other side has closed its own without error. TCP answers with a reset
   * when a side closes with something unread: a close without one says that everything was read.
   */
  finish(): Promise<void>;
  destroy(): void;
};

const KEEP_ALIVE_MS = 15_000;

/**
 * Connects with TLS 1.2 or newer; the other side's certificate is always checked, but for `insecure`.
 * Rejects with BoundaryError: "ship-untrusted" when it is not good, "ship-failed" otherwise.
 */
export async function openSession(target: TlsTarget, timing: Timing = TIMING): Promise<Session> {
  const socket = connect(optionsOf(target));
  await shaken(socket, target, timing.connectMs);
  socket.setKeepAlive(true, KEEP_ALIVE_MS);
  return sessionOn(socket, nameOf(target), timing);
}

export function nameOf({ host, port }: TlsTarget): string {
  return `tls://${host.includes(":") ? `[${host}]` : host}:${port}`;
}

function optionsOf(target: TlsTarget): ConnectionOptions {
  const { host, port, serverName, ca, cert, key } = target;
  return {
    host,
    port,
    minVersion: "TLSv1.2",
    // said here, so that NODE_TLS_REJECT_UNAUTHORIZED in the environment says nothing
    rejectUnauthorized: !target.insecure,
    ...(serverName === undefined ? {} : { servername: serverName }),
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
  };
}

function shaken(socket: TLSSocket, target: TlsTarget, deadlineMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (cause: Error): void => {
      clearTimeout(timer);
      const untrusted = Boolean(socket.authorizationError); // null, or why: undocumented types, documented meaning
      socket.destroy();
      reject(
        new BoundaryError(untrusted ? "ship-untrusted" : "ship-failed", `connecting to ${nameOf(target)}`, {
          cause,
        }),
      );
    };
    const timer = setTimeout(() => fail(new Error(`no TLS connection in ${deadlineMs} ms`)), deadlineMs);
    const onClose = (): void => fail(new Error("the connection was closed in the handshake"));
    socket.once("error", fail);
    socket.once("close", onClose);
    socket.once("secureConnect", () => {
      clearTimeout(timer);
      socket.off("error", fail);
      socket.off("close", onClose);
      resolve();
    });
  });
}

function sessionOn(socket: TLSSocket, name: string, timing: Timing): Session {
  const over = Promise.withResolvers<never>();
  over.promise.catch(() => undefined); // whoever waits for something hears of it
  let failed = false;
  let closing = false;
  const finished = Promise.withResolvers<void>();

  function fail(why: Error): void {
    failed = true;
    socket.destroy();
    over.reject(new BoundaryError("ship-failed", `sending to ${name}`, { cause: why }));
  }

  socket.on("error", fail);
  socket.on("end", () => {
    if (!closing) fail(new Error("the other side closed the connection"));
  });
  socket.on("close", () => {
    if (closing && !failed && socket.readableEnded) finished.resolve();
    else fail(new Error("the connection was lost"));
  });
  socket.resume(); // nothing is expected; what comes is read and dropped

  async function within<T>(work: Promise<T>, ms: number, what: string): Promise<T> {
    const timer = setTimeout(() => fail(new Error(`${what} in ${ms} ms`)), ms);
    try {
      return await Promise.race([work, over.promise]);
    } finally {
      clearTimeout(timer);
    }
  }

  function send(bytes: Buffer): Promise<void> {
    const left = new Promise<void>((resolve) => {
      socket.write(bytes, (error) => {
        if (!error) resolve();
      });
    });
    return within(left, timing.writeMs, "nothing was taken");
  }

  async function finish(): Promise<void> {
    await Promise.race([sleep(timing.quietMs), over.promise]);
    closing = true;
    socket.end();
    await within(finished.promise, timing.finishMs, "the other side did not close");
  }

  return { send, finish, destroy: () => socket.destroy() };
}
