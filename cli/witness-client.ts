import * as http from "node:http";
import * as https from "node:https";
import type { Answer, Request } from "../daemon/audit/witness-exchange.ts";
import { BoundaryError } from "../daemon/core/errors.ts";
import { decodeUtf8 } from "../daemon/core/json.ts";
import type { WitnessPlace } from "./witness-url.ts";

const DEADLINE_MS = 10_000;
/** Signature lines of 16 keys, post-quantum ones among them, are under this. */
const MAX_ANSWER_BYTES = 128 * 1024;

/**
 * Sends one request to a witness. No redirect is followed; a certificate has to be good. Throws
 * BoundaryError("witness-unreachable") for whatever is no answer, one too long or too late included.
 */
export async function sendToWitness(
  place: WitnessPlace,
  request: Request,
  deadlineMs: number = DEADLINE_MS,
): Promise<Answer> {
  try {
    return await post(place, request, AbortSignal.timeout(deadlineMs));
  } catch (cause) {
    throw new BoundaryError("witness-unreachable", `asking the witness (${request.path})`, { cause });
  }
}

function post(place: WitnessPlace, request: Request, signal: AbortSignal): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const options = { ...optionsOf(place, request), signal };
    const take = (response: http.IncomingMessage): void => {
      readAnswer(response).then(resolve, reject);
    };
    const sent = place.kind === "https" ? https.request(options, take) : http.request(options, take);
    sent.on("error", reject);
    sent.end(request.body);
  });
}

function optionsOf(place: WitnessPlace, request: Request): https.RequestOptions {
  const common = {
    method: "POST",
    path: `${place.base}${request.path}`,
    agent: false,
    headers: {
      "content-type": "text/plain; charset=utf-8",
      "content-length": Buffer.byteLength(request.body, "utf8"),
    },
  };
  if (place.kind === "unix") return { ...common, socketPath: place.socket };
  // said aloud: an environment variable may not switch it off
  return { ...common, host: place.host, port: place.port, rejectUnauthorized: true };
}

async function readAnswer(response: http.IncomingMessage): Promise<Answer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > MAX_ANSWER_BYTES) throw new Error("its answer is too long");
    chunks.push(chunk);
  }
  const text = decodeUtf8(Buffer.concat(chunks));
  if (!text.ok) throw new Error("its answer is not UTF-8");
  return { status: response.statusCode ?? 0, body: text.value };
}
