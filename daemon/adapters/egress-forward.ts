import {
  type ClientRequest,
  type IncomingMessage,
  request as requestOf,
  type ServerResponse,
} from "node:http";
import type { Socket } from "node:net";
import type { Refused } from "../egress/gate.ts";
import { parseAuthority, renderHost } from "../egress/host.ts";
import type { Asked, Flow } from "../egress/ledger.ts";
import { refusal } from "../protocol/authzen-reply.ts";
import { createIdle, type Exchange, pump } from "./egress-exchange.ts";
import { headFault } from "./http-message.ts";

/** RFC 9110, section 7.6.1: of one connection, not of the message; and what is the proxy's own. */
const OF_THE_CONNECTION = new Set([
  "connection",
  "keep-alive",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "expect",
]);
const TARGET = /^http:\/\/([^/?#]+)(\/[^#]*|\?[^#]*)?$/i;

type Target = { readonly asked: Asked; readonly path: string };

/**
 * One request of plain HTTP, over a connection of its own to the host. `refused` is called, in the same turn where the
 * request itself is at fault, when nothing more may be read from the client's connection.
 */
export async function serveRequest(
  request: IncomingMessage,
  response: ServerResponse,
  exchange: Exchange,
  refused: () => void,
): Promise<void> {
  const { gate, limits, signal } = exchange;
  const answer = (why: Refused): void => {
    refused();
    tell(response, why);
  };
  const target = targetOf(request, exchange);
  if (!("asked" in target)) return answer(target);
  const judged = await gate.judge(target.asked);
  if (!judged.ok) return answer(judged);
  if (response.destroyed) return;
  const opened = await gate.open(judged, null);
  if (!opened.ok) return answer(opened);
  const { flow, addresses } = opened;
  let upstream: Socket;
  try {
    const order = { addresses, port: target.asked.port, deadlineMs: limits.connectMs, signal };
    upstream = await exchange.dial(order);
  } catch {
    flow.close("not reached");
    return answer(unreachable("the host does not take the connection"));
  }
  pass({ request, response, upstream, flow, target, exchange });
}

function targetOf(request: IncomingMessage, { gate }: Exchange): Target | Refused {
  const fault = headFault(request) ?? framingFault(request);
  if (fault !== null) return gate.refuse(null, fault.code, fault.why);
  const [, authorityText = "", rest = ""] = TARGET.exec(request.url ?? "") ?? [];
  const authority = parseAuthority(authorityText, 80);
  if (authority === null)
    return gate.refuse(null, "http-invalid", "a proxy takes http://HOST/…, and CONNECT for the rest");
  const asked = { ...authority, way: "http" } as const;
  const named = parseAuthority(request.headers.host ?? "", 80);
  if (named?.host.text !== authority.host.text || named.port !== authority.port)
    return gate.refuse(asked, "http-invalid", "the header host is another host's");
  return { asked, path: rest.startsWith("/") ? rest : `/${rest}` };
}

/** Node's parser refuses most of these; what is left is what two readers could take for two requests. */
function framingFault({
  headers,
  httpVersion,
}: IncomingMessage): { readonly code: "http-invalid"; readonly why: string } | null {
  const [length, coding] = [headers["content-length"], headers["transfer-encoding"]];
  const bad = (why: string) => ({ code: "http-invalid", why }) as const;
  if (httpVersion !== "1.1" && httpVersion !== "1.0") return bad("this is not HTTP/1.1");
  if (length !== undefined && coding !== undefined) return bad("a body has one length");
  if (length !== undefined && !/^\d{1,15}$/.test(length)) return bad("its length cannot be read");
  if (coding === undefined) return null;
  return coding.toLowerCase() === "chunked" && httpVersion === "1.1" ? null : bad("its transfer coding");
}

type Passing = {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly upstream: Socket;
  readonly flow: Flow;
  readonly target: Target;
  readonly exchange: Exchange;
};

function pass({ request, response, upstream, flow, target, exchange }: Passing): void {
  const idle = createIdle(exchange.limits.idleMs, () => stop("idle"));
  const { asked, path } = target;
  const host = `${renderHost(asked.host)}${asked.port === 80 ? "" : `:${asked.port}`}`;
  const headers: string[] = ["Host", host, ...passedOn(request), ...framingOf(request)];
  let outgoing: ClientRequest | null = null;
  let heard = false;

  function stop(why: string): void {
    idle.clear();
    flow.close(why);
    outgoing?.destroy();
    upstream.destroy();
    if (heard || response.headersSent) response.destroy();
    else tell(response, unreachable(why));
  }

  response.once("close", () => {
    if (!response.writableFinished) stop("broken off");
    else idle.clear();
    flow.close("");
    upstream.destroy();
  });
  if (response.destroyed || upstream.destroyed) {
    stop("broken off");
    return;
  }
  if (!flow.sent(path.length + lengthOf(headers))) {
    stop("the run has had all its bytes");
    return;
  }
  try {
    outgoing = requestOf({
      createConnection: () => upstream,
      method: request.method ?? "",
      path,
      headers,
      setHost: false,
      insecureHTTPParser: false,
    });
  } catch {
    stop("it cannot be passed on");
    return;
  }
  outgoing.on("error", () => stop("the host broke off"));
  outgoing.on("response", (incoming) => {
    heard = true;
    idle.touch();
    incoming.on("error", () => stop("the host broke off"));
    const told = passedOn(incoming);
    const length = incoming.headers["content-length"];
    const framed: string[] = length === undefined ? [...told] : [...told, "Content-Length", length];
    if (!flow.received(lengthOf(framed))) {
      stop("the run has had all its bytes");
      return;
    }
    try {
      response.sendDate = false;
      response.writeHead(incoming.statusCode ?? 502, incoming.statusMessage ?? "", framed);
    } catch {
      stop("its answer cannot be passed on");
      return;
    }
    pump({ from: incoming, to: response, count: flow.received, idle, stop });
  });
  request.on("error", () => undefined); // "close" of the response tells
  pump({ from: request, to: outgoing, count: flow.sent, idle, stop });
}

/** Names and values in turn, without what is of the connection, of its framing, or said to the proxy. */
function passedOn({ rawHeaders, headers }: IncomingMessage): readonly string[] {
  const named = new Set((headers.connection ?? "").split(",").map((name) => name.trim().toLowerCase()));
  const kept: string[] = [];
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    const [name = "", value = ""] = [rawHeaders[at], rawHeaders[at + 1]];
    const lower = name.toLowerCase();
    if (OF_THE_CONNECTION.has(lower) || named.has(lower) || lower.startsWith("proxy-")) continue;
    if (lower === "host" || lower === "content-length") continue;
    kept.push(name, value);
  }
  return kept;
}

/** How the body is delimited is said anew, by what was read. */
function framingOf({ headers }: IncomingMessage): readonly string[] {
  if (headers["transfer-encoding"] !== undefined) return ["Transfer-Encoding", "chunked"];
  const length = headers["content-length"];
  return length === undefined ? [] : ["Content-Length", length];
}

function lengthOf(headers: readonly string[]): number {
  return headers.reduce((sum, text) => sum + text.length + 2, 0);
}

function unreachable(why: string): Refused {
  return { ok: false, code: "egress-unreachable", why };
}

/** The connection ends with it: what was still to come of the request is not read. */
function tell(response: ServerResponse, { code, why }: Refused): void {
  if (response.destroyed || response.headersSent) return;
  const { status, headers, body } = refusal(code, why);
  const text = JSON.stringify(body);
  const length = Buffer.byteLength(text);
  response.writeHead(status, {
    ...headers,
    "Content-Length": length,
    "Cache-Control": "no-store",
    Connection: "close",
  });
  response.end(text);
}
