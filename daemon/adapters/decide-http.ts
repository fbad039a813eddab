import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { SocketLimits } from "../core/config.ts";
import type { HttpAnswer, HttpEndpoints, OpLog, Peer, SocketPlace } from "../ports.ts";
import { createAdmission } from "../protocol/admission.ts";
import { refusal } from "../protocol/authzen-reply.ts";
import {
  createServer,
  isLong,
  MAX_BODY_BYTES,
  MAX_HEADER_BYTES,
  readBody,
  readHead,
  renderAnswer,
} from "./http-message.ts";
import { listenAt } from "./listen-at.ts";
import { descriptorOf } from "./socket-descriptor.ts";

export type DecideOptions = {
  /** See claimSocketPath in socket-path.ts. */
  readonly place: SocketPlace;
  readonly limits: SocketLimits;
  /** A connection without a request for so long is ended. Milliseconds. */
  readonly idleMs?: number;
  /** Who is behind an accepted descriptor; null refuses the connection. */
  readonly peerOf: (fd: number) => Peer | null;
  readonly endpoints: HttpEndpoints;
  readonly log: OpLog;
};

export type DecideSocket = {
  connections(): number;
  /** Takes the socket away, lets what is under way be answered for a moment, and ends every connection. */
  stop(): Promise<void>;
};

/** Behind our own limit, of which an answer can say more. */
const NODE_HEADER_BYTES = 2 * MAX_HEADER_BYTES;
const IDLE_MS = 60_000;
const TOO_LARGE = refusal("body-too-large", `a body has at most ${MAX_BODY_BYTES} bytes`);
/** What may wait for a slow reader before it is dropped. */
const MAX_PENDING_BYTES = 1_048_576;
/** A refused connection may read why for this long, and so many of them at a time. */
const LINGER_MS = 500;
const MAX_LINGERING = 64;
const STOP_MS = 150;

type Session = {
  readonly peer: Peer;
  /** Has shown a token that is known. Until then it may have to make room for others. */
  known: boolean;
  /** Requests without a whole answer. */
  pending: number;
  /** The newest with a body: what goes wrong with that is told there. */
  reading: {
    readonly request: IncomingMessage;
    readonly response: ServerResponse;
    readonly requestId: string | null;
    /** Its body is here, or was refused: nothing more is done with what still comes of it. */
    over: boolean;
  } | null;
  /** What came after the requests under way cannot be read: told when these are answered. */
  broken: HttpAnswer | null;
  /** An answer that ends the connection is given: nobody would hear one to what comes behind it. */
  ending: boolean;
  flushed: number;
  stuckSinceMs: number | null;
};

const FRESH: Omit<Session, "peer"> = {
  known: false,
  pending: 0,
  reading: null,
  broken: null,
  ending: false,
  flushed: 0,
  stuckSinceMs: null,
};

/**
 * decide.sock: HTTP/1.1 on a Unix socket. Resolves once it listens at its place. Throws BoundaryError "socket-in-use"
 * or "socket-unsafe".
 */
export async function listenDecide(options: DecideOptions): Promise<DecideSocket> {
  const { limits, log, place, endpoints } = options;
  const sessions = new Map<Socket, Session>();
  const lingering = new Set<Socket>();
  const admission = createAdmission(limits);
  let stopping = false;
  const server = createServer({
    maxHeaderSize: NODE_HEADER_BYTES,
    headersTimeout: limits.frameTimeoutMs,
    requestTimeout: limits.frameTimeoutMs,
    keepAliveTimeout: options.idleMs ?? IDLE_MS,
    connectionsCheckingInterval: Math.min(1_000, Math.ceil(limits.frameTimeoutMs / 4)),
    insecureHTTPParser: false,
    requireHostHeader: false, // http-message.ts looks, and says so
  });
  server.maxHeadersCount = 0; // its limit drops headers in silence; ours is in http-message.ts

  function accept(socket: Socket): void {
    const peer = peerBehind(socket, options);
    if (peer === null) {
      refuse(socket, refusal("peer-unknown", "the kernel does not say who connects"));
      return;
    }
    const refused = admit(peer);
    if (refused !== null) {
      refuse(socket, refused);
      return;
    }
    sessions.set(socket, { peer, ...FRESH });
    // until its first request; after that Node's keepAliveTimeout counts
    socket.setTimeout(options.idleMs ?? IDLE_MS);
    socket.once("close", () => leave(socket, peer));
  }

  function leave(socket: Socket, { uid }: Peer): void {
    if (sessions.delete(socket)) admission.release(uid);
  }

  function admit({ uid }: Peer): HttpAnswer | null {
    if (stopping) return refusal("stopping", "the daemon is stopping");
    if (admission.count() >= limits.maxConnections) makeRoomFor(uid);
    const admitted = admission.admit(uid);
    return admitted.ok ? null : refusal(admitted.code, admitted.why);
  }

  /**
   * Anybody on the host may connect, as more users than there is room for. So of those that have shown no token the oldest
   * goes, of the user who has the most of them, for one who has fewer.
   */
  function makeRoomFor(uid: number): void {
    const strangers = [...sessions].filter(([, { known, pending }]) => !known && pending === 0);
    const counts = new Map<number, number>();
    for (const [, { peer }] of strangers) counts.set(peer.uid, (counts.get(peer.uid) ?? 0) + 1);
    const most = Math.max(...counts.values());
    const found = strangers.find(([, { peer }]) => counts.get(peer.uid) === most);
    if (found === undefined || most <= (counts.get(uid) ?? 0)) return;
    const [socket, { peer }] = found;
    leave(socket, peer);
    socket.destroy();
  }

  function take(request: IncomingMessage, response: ServerResponse): void {
    const session = sessions.get(request.socket);
    if (session === undefined || session.broken !== null || session.ending) return; // it is being refused
    request.socket.setTimeout(0);
    session.pending += 1;
    response.once("close", () => {
      session.pending -= 1;
      if (session.pending === 0 && session.broken !== null) refuse(request.socket, session.broken);
    });
    const read = readHead(request);
    const { requestId } = read;
    const refused = read.ok ? obstacle(session, request) : read.answer;
    const next = refused ?? (read.ok ? endpoints(read.head, session.peer) : null);
    if (typeof next === "function") {
      session.known = true;
      const reading = { request, response, requestId, over: false };
      session.reading = reading;
      readBody(request, (body) => {
        if (reading.over) return;
        reading.over = true;
        if (body === null) send(request, response, { requestId, answer: TOO_LARGE, last: true });
        else
          next(body)
            .then((answer) => send(request, response, { requestId, answer, last: false }))
            .catch((error: unknown) => {
              log.error({ err: error }, "an answer could not be sent");
              request.socket.destroy();
            });
      });
    } else if (next !== null) send(request, response, { requestId, answer: next, last: refused !== null });
  }

  function obstacle({ pending }: Session, request: IncomingMessage): HttpAnswer | null {
    if (stopping) return refusal("stopping", "the daemon is stopping");
    const waiting = `${pending - 1} requests of this connection wait for their answers`;
    if (pending > limits.maxPendingRequests) return refusal("too-many-requests", waiting);
    return Number(request.headers["content-length"] ?? 0) > MAX_BODY_BYTES ? TOO_LARGE : null;
  }

  function send(
    request: IncomingMessage,
    response: ServerResponse,
    told: { readonly requestId: string | null; readonly answer: HttpAnswer; readonly last: boolean },
  ): void {
    const { socket } = request;
    if (socket.destroyed || response.headersSent) return;
    const { status, headers, body } = told.answer;
    const text = JSON.stringify(body);
    const last = told.last || stopping || isLong(request);
    const session = sessions.get(socket);
    if (last && session !== undefined) session.ending = true;
    response.writeHead(status, {
      ...headers,
      "Content-Length": Buffer.byteLength(text),
      "Cache-Control": "no-store",
      ...(told.requestId === null ? {} : { "X-Request-ID": told.requestId }),
      ...(last ? { Connection: "close" } : {}),
    });
    response.end(text);
    if (socket.writableLength > MAX_PENDING_BYTES) drop(socket);
  }

  /** What the HTTP parser cannot read, or waited for too long. */
  function unread(error: NodeJS.ErrnoException, socket: Socket): void {
    const session = sessions.get(socket);
    if (session === undefined) return; // it is being refused
    // Node counts a connection that has sent nothing as a request that is late; it is idle
    if (error.code === "ERR_HTTP_REQUEST_TIMEOUT" && socket.bytesRead === 0) return;
    if (!socket.writable || error.code === "ECONNRESET") {
      socket.destroy();
      return;
    }
    const answer = answerTo(error, limits.frameTimeoutMs);
    const { reading } = session;
    if (reading !== null && !reading.over && !reading.request.complete) {
      reading.over = true;
      const { request, response, requestId } = reading;
      send(request, response, { requestId, answer, last: true });
    } else refuseInTurn(socket, session, answer);
  }

  /** After the answers to what came before it. */
  function refuseInTurn(socket: Socket, session: Session, answer: HttpAnswer): void {
    if (session.pending > 0) session.broken ??= answer;
    else refuse(socket, answer);
  }

  function refuse(socket: Socket, answer: HttpAnswer): void {
    if (socket.destroyed) return;
    socket.on("error", () => undefined);
    socket.end(renderAnswer(answer));
    if (lingering.size >= MAX_LINGERING) {
      socket.destroySoon();
      return;
    }
    // what still arrives is read and thrown away: closing over unread bytes would reset the connection, answer and all
    lingering.add(socket);
    const over = setTimeout(() => socket.destroy(), LINGER_MS).unref();
    socket.once("close", () => {
      clearTimeout(over);
      lingering.delete(socket);
    });
  }

  function drop(socket: Socket): void {
    log.warn({ pid: sessions.get(socket)?.peer.pid }, "dropped a connection that reads too slowly");
    socket.destroy();
  }

  /** Who takes nothing of what waits for him for as long as he may send a request is gone, or means harm. */
  function sweep(): void {
    const nowMs = performance.now();
    for (const [socket, session] of sessions) {
      const flushed = socket.bytesWritten - socket.writableLength;
      if (socket.writableLength === 0 || flushed !== session.flushed) session.stuckSinceMs = null;
      else session.stuckSinceMs ??= nowMs;
      session.flushed = flushed;
      if (session.stuckSinceMs !== null && nowMs - session.stuckSinceMs >= limits.frameTimeoutMs)
        drop(socket);
    }
  }

  async function stop(): Promise<void> {
    place.withdraw();
    stopping = true;
    clearInterval(sweeping);
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    for (const [socket, session] of sessions) if (session.pending === 0) socket.destroy();
    const rest = setTimeout(() => {
      for (const socket of [...sessions.keys(), ...lingering]) socket.destroy();
      server.closeAllConnections();
    }, STOP_MS);
    await closed;
    clearTimeout(rest);
  }

  server.prependListener("connection", accept); // before Node's own, so that no request comes without its session
  server.on("request", take);
  server.on("checkExpectation", take); // RFC 9110 lets what is not known of it be ignored
  server.on("clientError", unread);
  server.on("connect", (_request, duplex) => {
    const socket = duplex as Socket;
    const session = sessions.get(socket);
    if (session !== undefined && session.broken === null && !session.ending)
      refuseInTurn(socket, session, refusal("method-unknown", "there is no CONNECT"));
  });
  const sweeping = setInterval(sweep, Math.min(1_000, Math.ceil(limits.frameTimeoutMs / 4))).unref();
  try {
    await listenAt(server, place);
  } catch (error) {
    clearInterval(sweeping);
    throw error;
  }
  return { connections: () => admission.count(), stop };
}

function answerTo({ code = "" }: NodeJS.ErrnoException, timeoutMs: number): HttpAnswer {
  switch (code) {
    case "ERR_HTTP_REQUEST_TIMEOUT":
      return refusal("request-timeout", `a request was not whole in ${timeoutMs} ms`);
    case "HPE_HEADER_OVERFLOW":
      return refusal("headers-too-large", `the headers have at most ${MAX_HEADER_BYTES} bytes`);
    default:
      return refusal("http-invalid", "this is not HTTP/1.1");
  }
}

function peerBehind(socket: Socket, { peerOf, log }: DecideOptions): Peer | null {
  try {
    const fd = descriptorOf(socket);
    return fd === null ? null : peerOf(fd);
  } catch (error) {
    log.error({ err: error }, "peer credentials could not be read");
    return null;
  }
}
