import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type DecideOptions, type DecideSocket, listenDecide } from "../../daemon/adapters/decide-http.ts";
import { peerOf } from "../../daemon/adapters/peer.ts";
import { claimSocketPath, prepareRuntimeDir } from "../../daemon/adapters/socket-path.ts";
import { createEndpoints } from "../../daemon/decide-endpoints.ts";
import type { DecisionService } from "../../daemon/ports.ts";
import { fixtureService, TOKEN } from "./authzen-fixture.ts";

export const quiet = { info: () => undefined, warn: () => undefined, error: () => undefined };
export const LIMITS = {
  maxConnections: 40,
  maxConnectionsPerUid: 40,
  maxPendingRequests: 8,
  frameTimeoutMs: 400,
};
export const IDENTIFIER = "https://pdp.example.com";

export type DecideServer = { readonly path: string; readonly socket: DecideSocket; stop(): Promise<void> };

/** decide.sock at a place of its own, before the certification fixture unless another service is given. */
export async function startDecide(
  service: DecisionService = fixtureService(),
  more: Partial<DecideOptions> = {},
): Promise<DecideServer> {
  const base = mkdtempSync(join(tmpdir(), "boundary-decide-"));
  chmodSync(base, 0o755);
  const directory = join(base, "run");
  prepareRuntimeDir(directory, 0o755);
  const path = join(directory, "decide.sock");
  const socket = await listenDecide({
    place: await claimSocketPath(path, { mode: 0o666, group: null }),
    limits: LIMITS,
    peerOf,
    endpoints: createEndpoints({ service, identifier: IDENTIFIER, opLog: quiet }),
    log: quiet,
    ...more,
  });
  const stop = async (): Promise<void> => {
    await socket.stop();
    rmSync(base, { recursive: true, force: true });
  };
  return { path, socket, stop };
}

type Told = {
  readonly decision: boolean;
  readonly context: object;
  readonly evaluations: readonly { readonly decision: boolean }[];
  readonly results: readonly Readonly<Record<string, string>>[];
  readonly page: { readonly next_token: string; readonly count: number };
  readonly code: string;
};

export type HttpReply = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
  /** What is there is for the test to look at. */
  readonly json: Told;
};

/** One request on a connection of its own, with the token unless `headers` say something else. */
export function ask(
  path: string,
  target: string,
  body: unknown,
  more: { readonly method?: string; readonly headers?: Readonly<Record<string, string>> } = {},
): Promise<HttpReply> {
  const text =
    body === undefined || typeof body === "string" || Buffer.isBuffer(body) ? body : JSON.stringify(body);
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        socketPath: path,
        path: target,
        method: more.method ?? (body === undefined ? "GET" : "POST"),
        agent: false,
        headers: {
          ...(body === undefined ? {} : { "Content-Type": "application/json" }),
          Authorization: `Bearer ${TOKEN}`,
          ...more.headers,
        },
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("error", reject);
        response.on("end", () => {
          const got = Buffer.concat(chunks).toString("utf8");
          const { statusCode = 0, headers } = response;
          resolve({ status: statusCode, headers, text: got, json: JSON.parse(got || "null") as Told });
        });
      },
    );
    sent.on("error", reject);
    sent.end(text);
  });
}
