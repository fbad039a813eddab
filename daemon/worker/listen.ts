import { createServer, type Socket } from "node:net";
import { peerOf } from "../adapters/peer.ts";
import { descriptorOf } from "../adapters/socket-descriptor.ts";
import { claimSocketPath } from "../adapters/socket-path.ts";
import { BoundaryError } from "../core/errors.ts";
import { type Session, type SessionSettings, serve } from "./session.ts";

export type Listening = {
  /** Ends the session and everything in it, and withdraws the socket. */
  stop(): Promise<void>;
};

export type ListenSettings = {
  readonly path: string;
  readonly daemonUid: number;
  readonly session: SessionSettings;
  readonly onRefused: (why: string) => void;
};

/**
 * Listens for the daemon: one connection at a time, of the one user that was named. The socket has the group of its
 * directory (set-group-id), so that the worker need not be a member of the daemon's group.
 * Throws BoundaryError "socket-in-use" or "socket-unsafe".
 */
export async function listen(settings: ListenSettings): Promise<Listening> {
  const { path, daemonUid, onRefused } = settings;
  let session: Session | null = null;

  function accept(socket: Socket): void {
    const fd = descriptorOf(socket);
    const peer = fd === null ? null : peerOf(fd);
    const refusal =
      peer?.uid !== daemonUid
        ? `user ${peer?.uid ?? "unknown"} is not the daemon`
        : session
          ? "one is here"
          : null;
    if (refusal !== null) {
      socket.on("error", () => {});
      socket.destroy();
      onRefused(refusal);
      return;
    }
    const mine = serve(socket, settings.session);
    session = mine;
    // the next connection comes to a worker with nothing running
    socket.once("close", () => void mine.stop().then(() => (session = session === mine ? null : session)));
  }

  const place = await claimSocketPath(path, { mode: 0o660, group: null });
  const server = createServer(accept);
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause) =>
      reject(new BoundaryError("socket-unsafe", `listening at ${path}`, { cause })),
    );
    const before = process.umask(0o177);
    try {
      server.listen(place.bindPath, () => resolve());
    } finally {
      process.umask(before);
    }
  });
  place.publish();
  return {
    stop: async () => {
      place.withdraw();
      server.close();
      await session?.stop();
    },
  };
}
