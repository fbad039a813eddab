import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import { type ClientHello, createHelloReader } from "../egress/client-hello.ts";
import type { Judged, Refused } from "../egress/gate.ts";
import { parseAuthority } from "../egress/host.ts";
import type { Asked, Flow } from "../egress/ledger.ts";
import { refusal } from "../protocol/authzen-reply.ts";
import { createIdle, type Exchange, pump } from "./egress-exchange.ts";
import { headFault, renderAnswer } from "./http-message.ts";

const ESTABLISHED = "HTTP/1.1 200 Connection Established\r\n\r\n";
/** RFC 8446, section 6: what a TLS client understands where an answer of HTTP would come too late. */
const ALERT = { denied: 49, failed: 80 } as const;

/**
 * CONNECT. With TLS the tunnel is said to stand before anybody was connected to: the ClientHello has to be seen first,
 * and not a byte goes out before it was.
 */
export async function serveConnect(
  request: IncomingMessage,
  socket: Socket,
  head: Buffer,
  exchange: Exchange,
): Promise<void> {
  const asked = askedOf(request, exchange);
  if (!("way" in asked)) return answer(socket, asked);
  const judged = await exchange.gate.judge(asked);
  if (socket.destroyed) return;
  if (!judged.ok) return answer(socket, judged);
  if (asked.way === "tls") await serveTls(judged, socket, head, exchange);
  else await servePlain(judged, socket, head, exchange);
}

function askedOf(request: IncomingMessage, { gate, plainPorts }: Exchange): Asked | Refused {
  const fault = headFault(request);
  if (fault !== null) return gate.refuse(null, fault.code, fault.why);
  const { headers } = request;
  if (headers["content-length"] !== undefined || headers["transfer-encoding"] !== undefined)
    return gate.refuse(null, "http-invalid", "CONNECT has no body");
  const authority = parseAuthority(request.url ?? "", null);
  if (authority === null) return gate.refuse(null, "http-invalid", "CONNECT takes HOST:PORT");
  const asked = { ...authority, way: plainPorts.includes(authority.port) ? "plain" : "tls" } as const;
  const named = headers.host === undefined ? authority : parseAuthority(headers.host, authority.port);
  if (named?.host.text !== authority.host.text || named.port !== authority.port)
    return gate.refuse(asked, "http-invalid", "the header host is another host's");
  return asked;
}

async function serveTls(judged: Judged, socket: Socket, head: Buffer, exchange: Exchange): Promise<void> {
  const { gate, limits } = exchange;
  socket.write(ESTABLISHED);
  const read = await readHello(socket, head, limits.headMs);
  if (!read.ok) {
    gate.refuse(judged.asked, "egress-name", read.why);
    return alert(socket, "denied");
  }
  const opened = await gate.open(judged, read.hello);
  if (!opened.ok) return alert(socket, "denied");
  const upstream = await reach(opened, judged, exchange);
  if (upstream === null) return alert(socket, "failed");
  join({ socket, upstream, first: read.bytes, flow: opened.flow, exchange });
}

async function servePlain(judged: Judged, socket: Socket, head: Buffer, exchange: Exchange): Promise<void> {
  const opened = await exchange.gate.open(judged, null);
  if (!opened.ok) return answer(socket, opened);
  const upstream = await reach(opened, judged, exchange);
  if (upstream === null)
    return answer(socket, {
      ok: false,
      code: "egress-unreachable",
      why: "the host does not take the connection",
    });
  socket.write(ESTABLISHED);
  join({ socket, upstream, first: head, flow: opened.flow, exchange });
}

async function reach(
  { flow, addresses }: { readonly flow: Flow; readonly addresses: readonly string[] },
  { asked }: Judged,
  { dial, limits, signal }: Exchange,
): Promise<Socket | null> {
  try {
    return await dial({ addresses, port: asked.port, deadlineMs: limits.connectMs, signal });
  } catch {
    flow.close("not reached");
    return null;
  }
}

type HelloRead =
  | { readonly ok: true; readonly hello: ClientHello; readonly bytes: Buffer }
  | { readonly ok: false; readonly why: string };

/** What came up to the end of the ClientHello, and what came with it. The socket is paused then. */
function readHello(socket: Socket, head: Buffer, deadlineMs: number): Promise<HelloRead> {
  return new Promise((resolve) => {
    const reader = createHelloReader();
    const chunks: Buffer[] = [];
    const settle = (read: HelloRead): void => {
      clearTimeout(late);
      socket.pause();
      socket.off("data", take);
      socket.off("end", ended);
      socket.off("close", ended);
      resolve(read);
    };
    const take = (chunk: Buffer): void => {
      chunks.push(chunk);
      const read = reader.push(chunk);
      if (read.kind === "hello") settle({ ok: true, hello: read, bytes: Buffer.concat(chunks) });
      else if (read.kind === "invalid") settle({ ok: false, why: `its ClientHello: ${read.why}` });
    };
    const ended = (): void => settle({ ok: false, why: "it ended without a ClientHello" });
    const late = setTimeout(
      () => settle({ ok: false, why: `no ClientHello within ${deadlineMs} ms` }),
      deadlineMs,
    );
    socket.on("data", take);
    socket.once("end", ended);
    socket.once("close", ended);
    if (socket.destroyed) ended();
    else if (head.length > 0) take(head);
  });
}

type Joined = {
  readonly socket: Socket;
  readonly upstream: Socket;
  /** What the client has sent already. */
  readonly first: Buffer;
  readonly flow: Flow;
  readonly exchange: Exchange;
};

/** Two connections become one, until one of them breaks, both have ended, or nothing passes any more. */
function join({ socket, upstream, first, flow, exchange }: Joined): void {
  const idle = createIdle(exchange.limits.idleMs, () => stop("idle"));
  let open = 2;
  function stop(why: string): void {
    idle.clear();
    flow.close(why);
    socket.destroy();
    upstream.destroy();
  }
  for (const [one, other] of [
    [socket, upstream],
    [upstream, socket],
  ] as const) {
    one.once("close", (failed: boolean) => {
      open -= 1;
      if (failed || !one.readableEnded) stop("broken off");
      else other.end();
      if (open > 0) return;
      idle.clear();
      flow.close("");
    });
  }
  if (socket.destroyed || upstream.destroyed) {
    stop("broken off");
    return;
  }
  pump({ from: socket, to: upstream, count: flow.sent, idle, stop });
  pump({ from: upstream, to: socket, count: flow.received, idle, stop });
  if (first.length > 0) {
    if (flow.sent(first.length)) upstream.write(first);
    else stop("the run has had all its bytes");
  }
  socket.resume();
}

function answer(socket: Socket, { code, why }: Refused): void {
  if (!socket.destroyed) socket.end(renderAnswer(refusal(code, why)));
  socket.destroySoon();
}

function alert(socket: Socket, kind: keyof typeof ALERT): void {
  if (!socket.destroyed) socket.end(Buffer.from([21, 3, 3, 0, 2, 2, ALERT[kind]]));
  socket.destroySoon();
}
