import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { IPCModule } from "node-ipc";

/** A bare node-ipc server and its clients, guarded profile, nothing of ours: what the control socket is held against. */
export type EchoServer = { readonly path: string; stop(): Promise<void> };

/** Starts a server that sends `request` frames back as `reply` frames. */
export async function startEchoServer(): Promise<EchoServer> {
  const directory = mkdtempSync(join(tmpdir(), "boundary-echo-"));
  const path = join(directory, "echo.sock");
  const ipc = new IPCModule();
  Object.assign(ipc.config, {
    silent: true,
    parser: "guarded",
    maxMessageSize: 65_536,
    messageTimeout: 5_000,
    maxConnections: 256,
    socketRoot: "/nonexistent/",
  });
  await new Promise<void>((resolve) => {
    ipc.serve(path, resolve);
    ipc.server.on("request", (data: never, socket: never) => void ipc.server.emit(socket, "reply", data));
    ipc.server.start();
  });
  const stop = async (): Promise<void> => {
    const { server } = ipc.server;
    const closed = new Promise<void>((resolve) => {
      if (server === false) resolve();
      else server.once("close", () => resolve());
    });
    ipc.server.stop();
    await closed;
    rmSync(directory, { recursive: true, force: true });
  };
  return { path, stop };
}

export type Round = { readonly perSecond: number; readonly p50Ms: number; readonly p99Ms: number };

/**
 * `clients` connections, each asking the next thing when the last was answered, `requests` in all. `renderRequest`:
 * the frame to send, delimiter included. Any frame that comes back counts as the answer.
 */
export async function measureRoundTrips(
  path: string,
  load: {
    readonly clients: number;
    readonly requests: number;
    readonly renderRequest: (n: number) => string;
    /** Whether that is a whole answer; without it, whether it ends with a frame's delimiter. */
    readonly isWhole?: (heard: Buffer) => boolean;
  },
): Promise<Round> {
  const tookMs: number[] = [];
  let asked = 0;
  const startMs = performance.now();
  const takeNext = (): number | null => (asked < load.requests ? asked++ : null);
  await Promise.all(
    Array.from({ length: load.clients }, () =>
      askAll(
        path,
        takeNext,
        { renderRequest: load.renderRequest, isWhole: load.isWhole ?? endsFrame },
        tookMs,
      ),
    ),
  );
  const seconds = (performance.now() - startMs) / 1_000;
  tookMs.sort((a, b) => a - b);
  const at = (share: number): number =>
    tookMs[Math.min(tookMs.length - 1, Math.floor(tookMs.length * share))] ?? 0;
  return { perSecond: tookMs.length / seconds, p50Ms: at(0.5), p99Ms: at(0.99) };
}

function askAll(
  path: string,
  takeNext: () => number | null,
  {
    renderRequest,
    isWhole,
  }: { readonly renderRequest: (n: number) => string; readonly isWhole: (heard: Buffer) => boolean },
  tookMs: number[],
): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path });
    let sentAtMs = 0;
    let heard: Buffer | null = null;
    const ask = (): void => {
      const n = takeNext();
      if (n === null) {
        socket.destroy();
        resolve();
        return;
      }
      sentAtMs = performance.now();
      socket.write(renderRequest(n));
    };
    socket.on("connect", ask);
    socket.on("error", reject);
    socket.on("data", (chunk: Buffer) => {
      // one request under way: what has come since is its answer
      heard = heard === null ? chunk : Buffer.concat([heard, chunk]);
      if (!isWhole(heard)) return;
      heard = null;
      tookMs.push(performance.now() - sentAtMs);
      ask();
    });
  });
}

function endsFrame(heard: Buffer): boolean {
  return heard.at(-1) === 0x0c;
}

/** The server as a process of its own, as the daemon is: `node bench/socket-echo.ts` prints its socket's path. */
if (import.meta.main) {
  const server = await startEchoServer();
  console.log(server.path);
  process.on("SIGTERM", () => void server.stop().then(() => process.exit(0)));
}
