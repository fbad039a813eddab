import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createFrameReader, renderFrame } from "../../daemon/protocol/frame.ts";
import type { Event, Problem, Request } from "../../daemon/protocol/messages.ts";

/** What the fake does with one request. "silent": nothing, for ever. */
export type Behaviour =
  | { readonly data: object; readonly thenEvents?: readonly Event[] }
  | { readonly problem: Problem }
  | { readonly raw: string | Buffer; readonly after?: "close" }
  | "close"
  | "silent";

export type FakeDaemon = {
  readonly runtimeDir: string;
  readonly socket: string;
  /** How many connections there are. */
  connections(): number;
  /** An event to every connection. */
  emit(event: Event): void;
  /** Every request, in order. */
  readonly requests: readonly Request[];
  /** Ends every connection. */
  drop(): void;
  stop(): Promise<void>;
};

/**
 * A daemon that answers from a table, on a real socket. It removes its directory when stopped; another may be started
 * in the same one.
 */
export async function fakeDaemon(
  behaviours: Readonly<Record<string, Behaviour | ((request: Request) => Behaviour | Promise<Behaviour>)>>,
  runtimeDir: string = mkdtempSync(join(tmpdir(), "boundary-fake-")),
): Promise<FakeDaemon> {
  mkdirSync(runtimeDir, { recursive: true });
  const requests: Request[] = [];
  const sockets = new Set<Socket>();

  function serve(socket: Socket): void {
    const reader = createFrameReader({ maxBytes: 65_536, maxDepth: 32 });
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.on("close", () => sockets.delete(socket));
    socket.on("data", (chunk: Buffer) => {
      for (const frame of reader.push(chunk)) {
        if (frame.kind === "message") answer(socket, frame.data as Request);
      }
    });
  }

  function answer(socket: Socket, request: Request): void {
    requests.push(request);
    const found = behaviours[request.verb] ?? "close";
    const behaviour = typeof found === "function" ? found(request) : found;
    if (behaviour instanceof Promise) void behaviour.then((later) => respond(socket, request, later));
    else respond(socket, request, behaviour);
  }

  function respond(socket: Socket, request: Request, behaviour: Behaviour): void {
    if (behaviour === "silent") return;
    if (behaviour === "close") return void socket.destroy();
    if ("raw" in behaviour) {
      socket.write(behaviour.raw);
      if (behaviour.after === "close") socket.end();
      return;
    }
    const outcome =
      "data" in behaviour ? { ok: true, data: behaviour.data } : { ok: false, problem: behaviour.problem };
    socket.write(renderFrame("reply", { id: request.id, ...outcome }));
    if ("data" in behaviour) {
      for (const event of behaviour.thenEvents ?? []) socket.write(renderFrame("event", event));
    }
  }

  const server = createServer(serve);
  const socket = join(runtimeDir, "control.sock");
  await new Promise<void>((resolve) => server.listen(socket, resolve));

  const drop = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  const stop = async (): Promise<void> => {
    drop();
    await new Promise((resolve) => server.close(resolve));
    rmSync(runtimeDir, { recursive: true, force: true });
  };
  const emit = (event: Event): void => {
    for (const one of sockets) one.write(renderFrame("event", event));
  };
  return { runtimeDir, socket, connections: () => sockets.size, emit, requests, drop, stop };
}
