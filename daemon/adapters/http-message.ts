import type { IncomingMessage } from "node:http";
import type { HttpAnswer, HttpHead } from "../ports.ts";
import { refusal } from "../protocol/authzen-reply.ts";

/** node:http. Imported, it would bring undici along with its exports, which takes longer than all of the start's other modules of Node. */
export const { createServer, STATUS_CODES } = process.getBuiltinModule("node:http");

export const MAX_BODY_BYTES = 65_536;
/** Of the request's target, and the names and values of its headers. */
export const MAX_HEADER_BYTES = 8_192;
const MAX_HEADERS = 64;
/** Two of these, and two readers may see two requests. */
const ONCE = new Set([
  "authorization",
  "content-encoding",
  "content-length",
  "content-type",
  "host",
  "transfer-encoding",
  "x-request-id",
]);
const REQUEST_ID = /^[\x21-\x7e](?:[\x20-\x7e]{0,198}[\x21-\x7e])?$/;

/** `requestId`: what the caller called his request, to be said back; null when nothing can be. */
export type ReadHead =
  | { readonly ok: true; readonly head: HttpHead; readonly requestId: string | null }
  | { readonly ok: false; readonly answer: HttpAnswer; readonly requestId: string | null };

export type HeadFault = { readonly code: "http-invalid" | "headers-too-large"; readonly why: string };

/** What is wrong with a request's headers, whatever is asked with it: too many, too long, or there twice. */
export function headFault(request: IncomingMessage): HeadFault | null {
  if (request.rawHeaders.length > 2 * MAX_HEADERS)
    return { code: "headers-too-large", why: `more than ${MAX_HEADERS} headers` };
  if (headerBytes(request) > MAX_HEADER_BYTES)
    return { code: "headers-too-large", why: `the headers have at most ${MAX_HEADER_BYTES} bytes` };
  const twice = firstRepeated(request.rawHeaders);
  return twice === null ? null : { code: "http-invalid", why: `the header ${twice} is there twice` };
}

/** An answer as bytes, with which the connection ends: for a connection that Node's own answers are not for. */
export function renderAnswer({ status, headers, body }: HttpAnswer): string {
  const text = JSON.stringify(body);
  const lines = Object.entries({
    ...headers,
    "Content-Length": String(Buffer.byteLength(text)),
    "Cache-Control": "no-store",
    Connection: "close",
  }).map(([name, value]) => `${name}: ${value}\r\n`);
  return `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}\r\n${lines.join("")}\r\n${text}`;
}

/** What a request says of itself, or the answer where that is not to be had. */
export function readHead(request: IncomingMessage): ReadHead {
  const given = request.headers["x-request-id"];
  const requestId = typeof given === "string" && REQUEST_ID.test(given) ? given : null;
  const refuse = (code: "http-invalid" | "headers-too-large", why: string): ReadHead => ({
    ok: false,
    answer: refusal(code, why),
    requestId,
  });
  const fault = headFault(request);
  if (fault !== null) return refuse(fault.code, fault.why);
  if (given !== undefined && requestId === null)
    return refuse("http-invalid", "X-Request-ID takes 1 to 200 printable ASCII characters");
  const { headers } = request;
  if (headers.host === undefined && request.httpVersion !== "1.0")
    return refuse("http-invalid", "the header host is missing");
  return {
    ok: true,
    requestId,
    head: {
      method: request.method ?? "",
      target: request.url ?? "",
      authorization: headers.authorization ?? null,
      contentType: headers["content-type"] ?? null,
      contentEncoding: headers["content-encoding"] ?? null,
    },
  };
}

// one character of them is one byte: Node reads them as Latin-1
function headerBytes({ url = "", rawHeaders }: IncomingMessage): number {
  return rawHeaders.reduce((sum, text) => sum + text.length, url.length);
}

function firstRepeated(rawHeaders: readonly string[]): string | null {
  const seen = new Set<string>();
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]?.toLowerCase() ?? "";
    if (!ONCE.has(name)) continue;
    if (seen.has(name)) return name;
    seen.add(name);
  }
  return null;
}

/** Gives the whole body, or null where it is too long; nothing where the connection ends before. */
export function readBody(request: IncomingMessage, done: (body: Buffer | null) => void): void {
  const chunks: Buffer[] = [];
  let length = 0;
  request.on("error", () => undefined); // the connection ended
  request.on("data", (chunk: Buffer) => {
    const before = length;
    length += chunk.length;
    if (length <= MAX_BODY_BYTES) chunks.push(chunk);
    else if (before <= MAX_BODY_BYTES) done(null);
  });
  request.on("end", () => {
    if (length <= MAX_BODY_BYTES) done(chunks.length === 1 ? (chunks[0] ?? null) : Buffer.concat(chunks));
  });
}

/** Whether more may be on its way than is worth reading to its end. */
export function isLong({ complete, headers }: IncomingMessage): boolean {
  if (complete) return false;
  return (
    headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > MAX_BODY_BYTES
  );
}
