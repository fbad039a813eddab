import { createServer, type Socket } from "node:net";
import { listenAt } from "./listen-at.ts";
import { peerOf } from "./peer.ts";
import { descriptorOf } from "./socket-descriptor.ts";
import { claimSocketPath } from "./socket-path.ts";

/** One connection that is served. */
export type Served = {
  /** Ends it, and all that hangs on it. Resolves when nothing of it is left. */
  stop(): Promise<void>;
};

export type Listening = {
  /** Ends what is served, and withdraws the socket. */
  stop(): Promise<void>;
};

export type ListenSettings = {
  readonly path: string;
  readonly daemonUid: number;
  readonly serve: (socket: Socket) => Served;
  readonly onRefused: (why: string) => void;
};

/** How long a second connection may wait for the first one to be over. */
const TURN_MS = 1_000;

/**
 * Listens for the daemon: one connection at a time, of the one user that was named. The socket has the group of its
 * directory (set-group-id), so that who listens need not be a member of the daemon's group.
 * Throws BoundaryError "socket-in-use" or "socket-unsafe".
 */
export async function listenForOne(settings: ListenSettings): Promise<Listening> {
  const { path, daemonUid, serve, onRefused } = settings;
  let current: Served | null = null;
  /** The connection that is next, while what the one before it left is ending. */
  let next: Socket | null = null;
  /** Resolves when the connection that is served is over, and nothing of it is left. */
  let rest: Promise<void> = Promise.resolve();
  let busy = false;

  function accept(socket: Socket): void {
    socket.on("error", () => {}); // its close is what counts
    const fd = descriptorOf(socket);
    const peer = fd === null ? null : peerOf(fd);
    if (peer?.uid !== daemonUid) refuse(socket, `user ${peer?.uid ?? "unknown"} is not the daemon`);
    else if (next !== null) refuse(socket, "another connection waits already");
    else void admit(socket);
  }

  /** A daemon that connects again may be here before we have heard that it had gone. */
  async function admit(socket: Socket): Promise<void> {
    next = socket;
    await Promise.race([rest, new Promise((resolve) => setTimeout(resolve, TURN_MS).unref())]);
    next = null;
    if (busy) refuse(socket, "the daemon is connected already");
    else if (!socket.destroyed) rest = served(socket);
  }

  async function served(socket: Socket): Promise<void> {
    busy = true;
    const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
    current = serve(socket);
    await closed;
    await current.stop();
    busy = false;
  }

  function refuse(socket: Socket, why: string): void {
    socket.destroy();
    onRefused(why);
  }

  const place = await claimSocketPath(path, { mode: 0o660, group: null });
  const server = createServer(accept);
  await listenAt(server, place);
  return {
    stop: async () => {
      place.withdraw();
      server.close();
      next?.destroy();
      await current?.stop();
    },
  };
}
