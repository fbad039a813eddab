import type { Socket } from "node:net";
import type { EgressListener, EgressOrder } from "../egress/proxy.ts";
import type { OpLog } from "../ports.ts";
import { refusal } from "../protocol/authzen-reply.ts";
import { serveConnect } from "./egress-connect.ts";
import type { Dial } from "./egress-dial.ts";
import type { Exchange } from "./egress-exchange.ts";
import { serveRequest } from "./egress-forward.ts";
import { createServer, MAX_HEADER_BYTES, renderAnswer } from "./http-message.ts";
import { listenAt } from "./listen-at.ts";
import { descriptorOf } from "./socket-descriptor.ts";
import { claimSocketPath } from "./socket-path.ts";

export type EgressPlace = {
  /** Of one socket for each run; see prepareRuntimeDir in socket-path.ts. */
  readonly directory: string;
  readonly access: { readonly mode: 0o600 | 0o660; readonly group: number | null };
  /** Whether who is behind an accepted descriptor may use it. */
  readonly admits: (fd: number) => boolean;
  readonly dial: Dial;
  readonly log: OpLog;
};

type Client = {
  /** Requests without a whole answer. */
  pending: number;
  /** It is a tunnel, or was refused something: no request that comes behind is read. */
  taken: boolean;
  /** Requests that came behind, and were not looked at. */
  behind: number;
};

/** More than a client sends that has not yet seen the refusal. */
const MAX_BEHIND = 16;

/** Behind our own limit, of which an answer can say more. */
const NODE_HEADER_BYTES = 2 * MAX_HEADER_BYTES;

/** Listens for one run: HTTP/1.1 as a forward proxy has it. Throws BoundaryError "socket-in-use" or "socket-unsafe". */
export async function listenEgress(order: EgressOrder, at: EgressPlace): Promise<EgressListener> {
  const { id, gate, limits, plainPorts } = order;
  const path = `${at.directory}/${id}.sock`;
  const place = await claimSocketPath(path, at.access);
  const clients = new Map<Socket, Client>();
  const reached = new Set<Socket>();
  const over = new AbortController();
  const exchange: Exchange = { gate, limits, plainPorts, dial: dialTracked, signal: over.signal };
  const server = createServer({
    maxHeaderSize: NODE_HEADER_BYTES,
    headersTimeout: limits.headMs,
    requestTimeout: 0, // a body may take as long as it moves
    keepAliveTimeout: limits.idleMs,
    connectionsCheckingInterval: Math.min(1_000, Math.ceil(limits.headMs / 4)),
    insecureHTTPParser: false,
    requireHostHeader: false, // looked at with the target
  });
  server.maxHeadersCount = 0; // its limit drops headers in silence

  async function dialTracked(wanted: Parameters<Dial>[0]): Promise<Socket> {
    const socket = await at.dial(wanted);
    reached.add(socket);
    socket.once("close", () => reached.delete(socket));
    if (over.signal.aborted) socket.destroy();
    return socket;
  }

  function accept(socket: Socket): void {
    socket.on("error", () => undefined); // "close" tells
    const fd = descriptorOf(socket);
    if (over.signal.aborted || fd === null || !at.admits(fd)) {
      socket.destroy();
      return;
    }
    if (clients.size >= limits.connections) {
      const { code, why } = gate.refuse(null, "too-many-connections", "the run has all its connections");
      socket.end(renderAnswer(refusal(code, why)));
      socket.destroySoon();
      return;
    }
    clients.set(socket, { pending: 0, taken: false, behind: 0 });
    socket.once("close", () => clients.delete(socket));
  }

  function failed(socket: Socket, error: unknown): void {
    at.log.error({ err: error }, "a connection of a guarded command failed inside the proxy");
    socket.destroy();
  }

  server.prependListener("connection", accept); // before Node's own, so that nobody is read who was refused
  server.on("request", (request, response) => {
    const { socket } = request;
    const client = clients.get(socket);
    if (client === undefined || client.taken) {
      // it is being refused: what is read for nothing is kept until the answers before it are told
      if (client === undefined || ++client.behind > MAX_BEHIND) socket.destroy();
      return;
    }
    client.pending += 1;
    response.once("close", () => {
      client.pending -= 1;
    });
    const refused = (): void => {
      client.taken = true;
    };
    serveRequest(request, response, exchange, refused).catch((error: unknown) => failed(socket, error));
  });
  server.on("connect", (request, duplex, head) => {
    const socket = duplex as Socket;
    const client = clients.get(socket);
    if (client === undefined || client.pending > 0 || client.taken) {
      socket.destroy(); // an answer that is still to come would be read as the host's
      return;
    }
    client.taken = true;
    socket.setTimeout(0);
    serveConnect(request, socket, head, exchange).catch((error: unknown) => failed(socket, error));
  });
  server.on("clientError", (error: NodeJS.ErrnoException, socket) => {
    const client = clients.get(socket as Socket);
    // who has said nothing asked for nothing: a connection made ahead of its use
    const silent = (socket as Socket).bytesRead === 0;
    if (client === undefined || silent || !socket.writable || error.code === "ECONNRESET") {
      socket.destroy();
      return;
    }
    const { code, why } = gate.refuse(null, ...faultOf(error, limits.headMs));
    if (client.pending > 0) socket.destroy();
    else socket.end(renderAnswer(refusal(code, why)), () => socket.destroy());
  });

  async function end(): Promise<void> {
    over.abort(); // from here on nobody is admitted, and nothing is connected to
    for (const socket of [...clients.keys(), ...reached]) socket.destroy();
    server.closeAllConnections();
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    try {
      place.withdraw();
    } finally {
      await closed;
    }
  }

  await listenAt(server, place);
  return { path, end };
}

function faultOf(
  { code = "" }: NodeJS.ErrnoException,
  headMs: number,
): ["request-timeout" | "headers-too-large" | "http-invalid", string] {
  if (code === "ERR_HTTP_REQUEST_TIMEOUT") return ["request-timeout", `no whole request in ${headMs} ms`];
  if (code === "HPE_HEADER_OVERFLOW")
    return ["headers-too-large", `the headers have at most ${MAX_HEADER_BYTES} bytes`];
  return ["http-invalid", "this is not HTTP/1.1"];
}
