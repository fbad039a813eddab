import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from "node:http";
import { type AddressInfo, connect, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer as createTlsServer, type TLSSocket, connect as tlsConnect } from "node:tls";
import { type Dial, type DialOrder, dial } from "../../daemon/adapters/egress-dial.ts";
import { listenEgress } from "../../daemon/adapters/egress-listen.ts";
import { prepareRuntimeDir } from "../../daemon/adapters/socket-path.ts";
import type { Entry } from "../../daemon/audit/record.ts";
import { ConfigSchema } from "../../daemon/core/config.ts";
import { parseIpRange } from "../../daemon/core/ip-range.ts";
import { type Allowlists, parseAllowlist } from "../../daemon/egress/allowlist.ts";
import type { EgressVerdict } from "../../daemon/egress/gate.ts";
import { type Egress, openEgress } from "../../daemon/egress/proxy.ts";
import { type RawHttp, rawHttp } from "./raw-http.ts";

export const RUN_ID = "00112233445566778899aabbccddeeff";
/** A public address, which in these tests is nobody's. */
export const PUBLIC = "93.184.216.34";

type Limits = ReturnType<typeof ConfigSchema.parse>["egress"]["limits"];

export type EgressTest = {
  readonly path: string;
  readonly egress: Egress;
  readonly records: readonly Entry[];
  /** What was connected to. */
  readonly dialled: readonly DialOrder[];
  readonly asked: readonly string[];
  kinds(): readonly string[];
  stop(): Promise<void>;
};

export type EgressTestOptions = {
  readonly allow?: readonly string[];
  readonly limits?: Partial<Limits>;
  readonly plainPorts?: readonly number[];
  readonly addresses?: readonly string[];
  readonly resolve?: (name: string) => Promise<readonly string[]>;
  readonly policy?: (host: string, port: number) => Promise<EgressVerdict>;
  readonly admits?: (fd: number) => boolean;
  /** Where a judged port of a judged address is in this test. */
  readonly portAt?: (port: number) => number;
};

/** A run's proxy at a place of its own. What it may connect to is on this host's loopback, whatever was judged. */
export async function startEgress(options: EgressTestOptions = {}): Promise<EgressTest> {
  const base = mkdtempSync(join(tmpdir(), "boundary-egress-"));
  const directory = join(base, "egress");
  prepareRuntimeDir(directory, 0o700);
  const records: Entry[] = [];
  const dialled: DialOrder[] = [];
  const asked: string[] = [];
  const { portAt } = options;
  const elsewhere: Dial = (order) => {
    dialled.push(order);
    if (portAt === undefined) throw new Error("nothing may be connected to");
    return dial({ ...order, addresses: ["127.0.0.1"], port: portAt(order.port) });
  };
  const read = parseAllowlist(options.allow ?? ["example.com"]);
  if (!read.ok) throw new Error("a list of the test");
  const allowlists: Allowlists = { global: read.value, project: null, blueprint: null, session: null };
  const limits: Limits = { ...ConfigSchema.parse({}).egress.limits, ...options.limits };
  const settings = {
    limits,
    plainPorts: options.plainPorts ?? [],
    addresses: (options.addresses ?? []).flatMap((text) => parseIpRange(text) ?? []),
  };
  const egress = await openEgress(
    {
      id: RUN_ID,
      allowlists,
      settings,
      policy: (host, port) => {
        asked.push(`${host}:${port}`);
        return options.policy?.(host, port) ?? Promise.resolve({ allow: true, why: "", seq: 5 });
      },
      record: (entry) => {
        records.push(entry);
        return { seq: records.length, durable: Promise.resolve() };
      },
    },
    {
      listen: (order) =>
        listenEgress(order, {
          directory,
          access: { mode: 0o600, group: null },
          admits: options.admits ?? (() => true),
          dial: elsewhere,
          log: { info: () => undefined, warn: () => undefined, error: (fields) => console.error(fields) },
        }),
      resolve: options.resolve ?? (async () => [PUBLIC]),
      ownAddresses: () => [],
      nowMs: () => performance.now(),
    },
  );
  return {
    path: egress.socketPath,
    egress,
    records,
    dialled,
    asked,
    kinds: () => records.map(({ kind, data }) => (data["code"] ? `${kind} ${String(data["code"])}` : kind)),
    stop: async () => {
      await egress.end("the test is over");
      rmSync(base, { recursive: true, force: true });
    },
  };
}

/** What a raw request is answered, when the connection has ended. */
export async function tellRaw(
  path: string,
  bytes: string | Buffer,
): Promise<RawHttp & { readonly told: string }> {
  const client = await rawHttp(path);
  client.send(bytes);
  return { ...client, told: await client.ended };
}

export type Origin = { readonly port: number; readonly sockets: Set<Socket>; stop(): Promise<void> };

export async function startOrigin(
  handle: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<Origin> {
  return originOf(createHttpServer(handle));
}

export async function startTlsOrigin(
  pair: { readonly cert: string; readonly key: string },
  handle: (socket: TLSSocket) => void,
): Promise<Origin> {
  const files = { cert: readFileSync(pair.cert), key: readFileSync(pair.key) };
  const server = createTlsServer({ ...files, allowHalfOpen: true }, (socket) => {
    socket.on("error", () => undefined);
    handle(socket);
  });
  server.on("tlsClientError", () => undefined);
  return originOf(server);
}

export async function originOf(server: Server): Promise<Origin> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.once("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const stop = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => resolve());
      for (const socket of sockets) socket.destroy();
    });
  return { port, sockets, stop };
}

/** A tunnel that is said to stand, or the answer that refuses it. */
export async function tunnelTo(
  path: string,
  target: string,
): Promise<{ readonly socket: Socket; readonly answer: string }> {
  const socket = connect({ path });
  socket.on("error", () => undefined);
  socket.write(`CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n\r\n`);
  const answer = await new Promise<string>((resolve) => {
    socket.once("data", (chunk: Buffer) => {
      socket.pause();
      resolve(chunk.toString("latin1"));
    });
    socket.once("close", () => resolve(""));
  });
  return { socket, answer };
}

/** TLS through a tunnel; null where it came to nothing. */
export async function tlsThrough(
  path: string,
  target: string,
  options: { readonly ca: string; readonly servername?: string },
): Promise<TLSSocket | string> {
  const { socket, answer } = await tunnelTo(path, target);
  if (!answer.startsWith("HTTP/1.1 200 ")) return answer;
  const secure = tlsConnect({ socket, ca: readFileSync(options.ca), servername: options.servername ?? "" });
  return new Promise((resolve) => {
    secure.once("secureConnect", () => resolve(secure));
    secure.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    secure.once("close", () => resolve("closed"));
  });
}
