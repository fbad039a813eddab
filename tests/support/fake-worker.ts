import { mkdirSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { dirname } from "node:path";
import { createFrameReader, renderFrame } from "../../daemon/core/frames.ts";
import { type RunOrder, readOrder, readOrderKey } from "../../daemon/exec/run-order.ts";
import type { Sandbox } from "../../daemon/exec/worker-frames.ts";

export const WHOLE: Sandbox = {
  namespaces: true,
  seccomp: true,
  cgroup: true,
  readOnlyRoot: true,
  missing: [],
};

/** One run, as the fake sees it. */
export type FakeRun = {
  readonly order: RunOrder;
  readonly stdin: Buffer;
  started(sandbox?: Sandbox): void;
  output(stream: "stdout" | "stderr", data: string | Buffer): void;
  ended(over?: object): void;
  refused(code: string, why: string): void;
};

export type FakeWorker = {
  /** Every order, in order; those whose signature was not good are not there. */
  readonly runs: FakeRun[];
  /** Ids that were to end, with the reason. */
  readonly ends: { readonly id: string; readonly why: string }[];
  /** Sends any bytes. */
  raw(bytes: Buffer): void;
  /** Ends the connection. */
  drop(): void;
  stop(): Promise<void>;
};

const ENDED = {
  exitCode: 0,
  signal: null,
  timedOut: false,
  cancelled: false,
  why: "",
  truncated: { stdout: 0, stderr: 0 },
  durationMs: 12,
};

/** A worker that runs nothing: it speaks the contract on a real socket, and `onRun` says what it says. */
export async function fakeWorker(
  path: string,
  onRun: (run: FakeRun) => void,
  sandbox: Sandbox = WHOLE,
): Promise<FakeWorker> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o750 });
  const runs: FakeRun[] = [];
  const ends: { id: string; why: string }[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    const reader = createFrameReader();
    let key: ReturnType<typeof readOrderKey> = null;
    const say = (message: object): void => void socket.write(renderFrame(message));
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => undefined);
    socket.on("data", (chunk: Buffer) => {
      for (const read of reader.push(chunk)) {
        if (!read.ok) throw new Error(read.why);
        const message = read.value as Record<string, string>;
        if (message["kind"] === "hello") {
          key = readOrderKey(message["publicKey"] ?? "");
          say({ kind: "ready", sandbox });
        } else if (message["kind"] === "end")
          ends.push({ id: message["id"] ?? "", why: message["why"] ?? "" });
        else if (key !== null) take(key, message, say);
      }
    });
  });
  function take(
    key: NonNullable<ReturnType<typeof readOrderKey>>,
    message: Record<string, string>,
    say: (message: object) => void,
  ): void {
    const order = readOrder(message["order"] ?? "", message["signature"] ?? "", key);
    if (!order.ok) throw new Error(order.why);
    const { id } = order.order;
    const run: FakeRun = {
      order: order.order,
      stdin: Buffer.from(message["stdin"] ?? "", "base64"),
      started: (held = sandbox) => say({ kind: "started", id, sandbox: held }),
      output: (stream, data) =>
        say({ kind: "output", id, stream, data: Buffer.from(data).toString("base64") }),
      ended: (over = {}) => say({ kind: "ended", id, ...ENDED, ...over }),
      refused: (code, why) => say({ kind: "refused", id, code, why }),
    };
    runs.push(run);
    onRun(run);
  }
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const drop = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    runs,
    ends,
    raw: (bytes) => {
      for (const socket of sockets) socket.write(bytes);
    },
    drop,
    stop: async () => {
      drop();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
