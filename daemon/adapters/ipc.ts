import { IPCModule, type IpcServer, type IpcSocket } from "node-ipc";
import { GuardedParser, IPCProtocolError } from "node-ipc/parsers";
import type { SocketLimits } from "../core/config.ts";
import { BoundaryError } from "../core/errors.ts";
import type { Connection, OpLog, Peer, SocketPlace } from "../ports.ts";
import { createAdmission } from "../protocol/admission.ts";
import { createFrameReader, type Frame, type FrameReader, renderFrame } from "../protocol/frame.ts";
import { MAX_DEPTH, MAX_FRAME_BYTES, type Problem, type Request } from "../protocol/messages.ts";
import { problem } from "../protocol/problem.ts";
import { parseRequest } from "../protocol/request.ts";
import { descriptorOf } from "./socket-descriptor.ts";

/** What came of a request. The adapter adds the request's id. */
export type Outcome =
  | { readonly ok: true; readonly data: object }
  | { readonly ok: false; readonly problem: Problem };

export type ControlOptions = {
  /** See claimSocketPath in socket-path.ts. */
  readonly place: SocketPlace;
  readonly limits: SocketLimits;
  /** Who is behind an accepted descriptor; null refuses the connection. */
  readonly peerOf: (fd: number) => Peer | null;
  /** Called for every well-formed request. `reply` counts once, and does nothing when the peer has gone. */
  readonly onRequest: (connection: Connection, request: Request, reply: (outcome: Outcome) => void) => void;
  readonly log: OpLog;
};

export type ControlSocket = {
  connections(): number;
  /** Ends every connection, and removes the socket file if it still is ours. */
  stop(): Promise<void>;
};

/** Of a frame we send. Events are records (64 KiB at most); a longer reply becomes "reply-too-large". */
const MAX_SENT_BYTES = 524_288;
/** What may wait for a slow reader before it is dropped. */
const MAX_PENDING_BYTES = 1_048_576;
/** A refused connection may read why for this long, and so many of them at a time. */
const LINGER_MS = 500;
const MAX_LINGERING = 64;

/** The one type that reaches node-ipc's dispatcher: names chosen by a client never do. */
const HEARD = "boundary.heard";
type Heard = { readonly frames: readonly Frame[]; readonly partial: boolean };

/** What is held as a connection's buffer once we no longer read it. */
const DEAF: FrameReader = { push: () => [], state: () => "dead" };

type Session = {
  readonly peer: Peer;
  readonly connection: Connection;
  readonly closeHandlers: (() => void)[];
  pending: number;
  frameTimer: NodeJS.Timeout | null;
};

/**
 * The control socket, on node-ipc 14.0.0 with a reader of our own. Resolves once it listens at its place.
 * Throws BoundaryError "socket-in-use" or "socket-unsafe".
 */
export async function listenControl(options: ControlOptions): Promise<ControlSocket> {
  const { limits, log } = options;
  const sessions = new Map<IpcSocket, Session>();
  const lingering = new Set<IpcSocket>();
  const admission = createAdmission(limits);
  const server = createServer(options.place.bindPath, limits);

  function accept(socket: IpcSocket): void {
    const peer = peerBehind(socket, options);
    if (peer === null) {
      refuse(socket, problem("peer-unknown", "the kernel does not say who connects"));
      return;
    }
    const admitted = admission.admit(peer.uid);
    if (!admitted.ok) {
      refuse(socket, problem(admitted.code, admitted.why));
      return;
    }
    const closeHandlers: (() => void)[] = [];
    const connection: Connection = {
      peer,
      send: (message) => sendEnvelope(socket, message),
      onClose: (then) => {
        closeHandlers.push(then);
      },
    };
    sessions.set(socket, { peer, connection, closeHandlers, pending: 0, frameTimer: null });
  }

  function heard({ frames, partial }: Heard, socket: IpcSocket): void {
    const session = sessions.get(socket);
    if (session === undefined) return;
    for (const frame of frames) {
      if (socket.destroyed) return;
      take(socket, session, frame);
    }
    watchFrame(socket, session, { partial, fresh: frames.length > 0 });
  }

  function take(socket: IpcSocket, session: Session, frame: Frame): void {
    const parsed = parseRequest(frame);
    if (!parsed.ok) {
      if (frame.kind === "bad" && frame.fatal) refuse(socket, parsed.problem);
      else answer(socket, parsed.id, parsed);
      return;
    }
    const { request } = parsed;
    if (session.pending >= limits.maxPendingRequests) {
      const detail = `${session.pending} requests of this connection wait for their replies`;
      answer(socket, request.id, { ok: false, problem: problem("too-many-requests", detail) });
      return;
    }
    handOver(socket, session, request);
  }

  function handOver(socket: IpcSocket, session: Session, request: Request): void {
    let answered = false;
    const reply = (outcome: Outcome): void => {
      if (answered) return;
      answered = true;
      session.pending -= 1;
      answer(socket, request.id, outcome);
    };
    session.pending += 1;
    try {
      options.onRequest(session.connection, request, reply);
    } catch (error) {
      log.error({ err: error, verb: request.verb }, "a request handler threw");
      reply({ ok: false, problem: problem("internal", "the request was not handled") });
    }
  }

  function answer(socket: IpcSocket, id: string, outcome: Outcome): void {
    const told = outcome.ok
      ? { id, ok: true, data: outcome.data }
      : { id, ok: false, problem: outcome.problem };
    try {
      send(socket, "reply", told);
    } catch (error) {
      const code = error instanceof IPCProtocolError ? "reply-too-large" : "internal";
      if (code === "internal") log.error({ err: error }, "a reply could not be written as JSON");
      send(socket, "reply", { id, ok: false, problem: problem(code, "the reply could not be sent") });
    }
  }

  function sendEnvelope(socket: IpcSocket, message: object): boolean {
    const { type, data } = message as { type?: unknown; data?: unknown };
    if ((type === "event" || type === "reply") && typeof data === "object" && data !== null) {
      return send(socket, type, data);
    }
    throw new BoundaryError("internal", 'sending what is not {type: "event" | "reply", data}');
  }

  function send(socket: IpcSocket, type: "reply" | "event", data: object): boolean {
    if (socket.destroyed || !socket.writable) return false;
    server.emit(socket, type, data); // its own false only means "wait"; one that is too slow is destroyed
    if (!socket.destroyed) return true;
    log.warn({ pid: sessions.get(socket)?.peer.pid }, "dropped a connection that reads too slowly");
    return false;
  }

  // our own timer: node-ipc's runs on from one half frame to the next, and ends the connection without a word
  function watchFrame(
    socket: IpcSocket,
    session: Session,
    state: { partial: boolean; fresh: boolean },
  ): void {
    if (session.frameTimer !== null && (state.fresh || !state.partial)) {
      clearTimeout(session.frameTimer);
      session.frameTimer = null;
    }
    if (!state.partial || session.frameTimer !== null || socket.destroyed) return;
    session.frameTimer = setTimeout(() => {
      refuse(socket, problem("frame-timeout", `a frame was not finished in ${limits.frameTimeoutMs} ms`));
    }, limits.frameTimeoutMs);
  }

  function refuse(socket: IpcSocket, why: Problem): void {
    socket.ipcBuffer = DEAF;
    socket.end(renderFrame("reply", { id: "", ok: false, problem: why }));
    if (lingering.size >= MAX_LINGERING) {
      socket.destroySoon();
      return;
    }
    // what still arrives is read and thrown away: closing over unread bytes would reset the connection, reply and all
    lingering.add(socket);
    setTimeout(() => socket.destroy(), LINGER_MS).unref();
  }

  function closed(socket: IpcSocket): void {
    lingering.delete(socket);
    const session = sessions.get(socket);
    if (session === undefined) return;
    sessions.delete(socket);
    admission.release(session.peer.uid);
    if (session.frameTimer !== null) clearTimeout(session.frameTimer);
    for (const then of session.closeHandlers) then();
  }

  server.on("connect", accept);
  server.on("close", closed);
  server.on(HEARD, heard);
  await start(server, options.place);
  return { connections: () => admission.count(), stop: () => stop(server, options.place) };
}

/** The guarded profile with our reader: it keeps the limits and answers what it refuses. */
class ReadingParser extends GuardedParser {
  readonly encoding = "latin1"; // one character a byte, so that what is not UTF-8 reaches us as it came

  override read(held: unknown, data: string, receive: Parameters<GuardedParser["read"]>[2]): unknown {
    const reader = isReader(held)
      ? held
      : createFrameReader({ maxBytes: MAX_FRAME_BYTES, maxDepth: MAX_DEPTH });
    if (reader.state() === "dead") return reader;
    const frames = reader.push(Buffer.from(data, "latin1"));
    const told: Heard = { frames, partial: reader.state() === "partial" };
    receive({ type: HEARD, data: told });
    return reader;
  }

  override encode(type: string, data: unknown): Buffer {
    const frame = Buffer.from(renderFrame(type, data));
    if (frame.length <= MAX_SENT_BYTES) return frame;
    throw new IPCProtocolError("ERR_IPC_FRAME_TOO_LARGE", `${frame.length} bytes to send`);
  }
}

function isReader(held: unknown): held is FrameReader {
  return typeof held === "object" && held !== null;
}

function createServer(path: string, limits: SocketLimits): IpcServer {
  const ipc = new IPCModule();
  Object.assign(ipc.config, {
    silent: true,
    unlink: false, // socket-path.ts has looked, and looks again
    socketRoot: "/nonexistent/", // outside of it node-ipc neither makes nor chmods directories
    secureSocketRoot: true,
    maxConnections: limits.maxConnections + MAX_LINGERING,
    maxMessageSize: MAX_FRAME_BYTES,
    maxPendingBytes: MAX_PENDING_BYTES,
    messageTimeout: limits.frameTimeoutMs,
    allowReservedEvents: false,
    identifyPeer: false,
    logPayloads: false,
  });
  const parser = new ReadingParser(ipc.config);
  parser.messageTimeout = 0; // see watchFrame
  ipc.config["parser"] = parser;
  ipc.serve(path, () => undefined);
  return ipc.server;
}

function start(server: IpcServer, place: SocketPlace): Promise<void> {
  return new Promise((resolve, reject) => {
    let started = false;
    server.on("error", (cause: unknown) => {
      // afterwards these are clients that went away
      if (!started) reject(new BoundaryError("socket-unsafe", `listening at ${place.bindPath}`, { cause }));
    });
    server.on("start", () => {
      try {
        place.publish();
        started = true;
        resolve();
      } catch (error) {
        server.stop();
        reject(error);
      }
    });
    // bind happens inside start(), synchronously: no other file is made under this umask
    const before = process.umask(0o177);
    try {
      server.start();
    } finally {
      process.umask(before);
    }
  });
}

function stop(server: IpcServer, place: SocketPlace): Promise<void> {
  place.withdraw();
  return new Promise((resolve) => {
    if (server.server === false) return resolve();
    server.server.once("close", () => resolve());
    server.stop();
  });
}

function peerBehind(socket: IpcSocket, { peerOf, log }: ControlOptions): Peer | null {
  try {
    const fd = descriptorOf(socket);
    return fd === null ? null : peerOf(fd);
  } catch (error) {
    log.error({ err: error }, "peer credentials could not be read");
    return null;
  }
}
