import { randomBytes } from "node:crypto";
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { openExecWorker } from "../../daemon/adapters/exec-worker.ts";
import { peerOf } from "../../daemon/adapters/peer.ts";
import { createFrameReader, renderFrame } from "../../daemon/core/frames.ts";
import { type RunOrder, readOrder, readOrderKey } from "../../daemon/exec/run-order.ts";
import type { ExecWorker, WorkerEvent } from "../../daemon/ports.ts";

/** The daemon's side of the connection, against a worker that does as it likes. */
const SANDBOX = { namespaces: true, seccomp: true, cgroup: true, readOnlyRoot: true, missing: [] };
const READY = { kind: "ready", sandbox: SANDBOX };
const ORDER: RunOrder = {
  v: 1,
  id: randomBytes(16).toString("hex"),
  boot: "01234567-89ab-cdef-0123-456789abcdef",
  notAfterMs: 1,
  argv: ["true"],
  program: { path: "/usr/bin/true", sha256: "0".repeat(64) },
  cwd: "/srv/work",
  workspace: "/srv/work",
  environment: [],
  profile: "p",
  mode: "OPEN",
  network: "none",
  proxySocket: "",
  readable: [],
  stdinDigest: "0".repeat(64),
  limits: { timeoutMs: 1, graceMs: 0, outputBytes: 0, memoryBytes: 1_048_576, pids: 1, cpus: 1 },
};

let base: string;
let directory: string;
let worker: ExecWorker;
let server: Server | null = null;
const sockets: Socket[] = [];
const heard: { kind: string; [key: string]: unknown }[] = [];
const events: WorkerEvent[] = [];
const told: string[] = [];

beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), "boundary-exec-worker-"));
  directory = join(base, "worker");
  mkdirSync(directory, { mode: 0o750 });
  const tell = (fields: object, message: string) => void told.push(`${message} ${JSON.stringify(fields)}`);
  worker = openExecWorker({
    path: join(directory, "worker.sock"),
    peerOf,
    random: () => 0.5,
    opLog: { info: tell, warn: tell, error: tell },
  });
});
afterEach(() => {
  worker.stop();
  for (const socket of sockets.splice(0)) socket.destroy();
  server?.close();
  for (const list of [heard, events, told]) list.splice(0);
  rmSync(base, { recursive: true, force: true });
});

/** Listens, says this to each who connects, and keeps what it hears. */
function listen(says: readonly (object | Buffer)[], reads = true): Promise<void> {
  const made = createServer((socket) => {
    sockets.push(socket);
    socket.on("error", () => undefined);
    const reader = createFrameReader();
    if (reads)
      socket.on("data", (chunk) => {
        for (const one of reader.push(chunk)) if (one.ok) heard.push(one.value as (typeof heard)[number]);
      });
    for (const one of says) socket.write(Buffer.isBuffer(one) ? one : renderFrame(one));
  });
  server = made;
  return new Promise((resolve) => made.listen(join(directory, "worker.sock"), () => resolve()));
}
const start = () => worker.start((event) => events.push(event));
const isReady = () => vi.waitFor(() => expect(worker.state().kind).toBe("ready"));

describe("a worker that is one", () => {
  test("is told the key first, gets orders that this key signed, and is connected to again when it was gone", async () => {
    expect(worker.run(ORDER, Buffer.alloc(0))).toBe(false);
    await listen([READY]);
    start();
    await isReady();
    expect(worker.run(ORDER, Buffer.from("in"))).toBe(true);
    await vi.waitFor(() => expect(heard).toHaveLength(2));
    const [hello, run] = heard;
    const key = readOrderKey(String(hello?.["publicKey"]));
    if (key === null) throw new Error("no key");
    expect(readOrder(String(run?.["order"]), String(run?.["signature"]), key)).toEqual({
      ok: true,
      order: ORDER,
    });
    expect(run).toMatchObject({ kind: "run", stdin: Buffer.from("in").toString("base64") });
    sockets[0]?.destroy();
    await vi.waitFor(() => expect(events.at(-1)).toMatchObject({ kind: "ready" }));
    await vi.waitFor(() => expect(events.map(({ kind }) => kind)).toEqual(["ready", "gone", "ready"]));
  });

  test("gets nothing that it would not read, and stays", async () => {
    await listen([READY]);
    start();
    await isReady();
    for (const bad of [
      { ...ORDER, workspace: "/" },
      { ...ORDER, argv: ["\0"] },
      { ...ORDER, environment: [["LD_PRELOAD", "/x"]] as const },
    ])
      expect(worker.run(bad, Buffer.alloc(0))).toBe(false);
    expect(worker.run(ORDER, Buffer.alloc(4_194_304))).toBe(false); // more than a frame
    expect(worker.state().kind).toBe("ready");
    expect(told.filter((line) => line.includes("no worker would read"))).toHaveLength(4);
    expect(worker.run(ORDER, Buffer.alloc(0))).toBe(true);
  });
});

describe("is no worker any more, nor believed, who", () => {
  const ENDED = { kind: "ended", id: ORDER.id, exitCode: 0 };
  test.each([
    ["is ready twice", [READY, READY], true],
    [
      "tells of runs before it is ready",
      [{ kind: "refused", id: ORDER.id, code: "exec-order", why: "" }],
      false,
    ],
    ["sends no JSON", [READY, Buffer.from([0, 0, 0, 1, 0x7b])], true],
    ["sends a frame that is too long", [Buffer.from([0xff, 0xff, 0xff, 0xff])], false],
    ["sends an end that is none", [READY, ENDED], true],
    ["sends what it may not", [READY, { kind: "hello", publicKey: "" }], true],
    ["has a code that is not known", [READY, { kind: "refused", id: ORDER.id, code: "root", why: "" }], true],
  ])("%s", async (_, says, wasReady) => {
    await listen(says);
    start();
    await vi.waitFor(() => expect(told.some((line) => line.startsWith("no worker"))).toBe(true));
    expect(events.slice(0, 2).map(({ kind }) => kind)).toEqual(wasReady ? ["ready", "gone"] : []);
    await vi.waitFor(() => expect(sockets[0]?.destroyed).toBe(true));
  });

  test("does not read: what waits for him has an end", async () => {
    await listen([READY], false);
    start();
    await isReady();
    let sent = 0;
    const stdin = Buffer.alloc(1_048_576);
    while (sent < 100 && worker.run(ORDER, stdin)) sent++;
    expect(sent).toBeLessThan(20);
    expect(worker.state().kind).toBe("absent");
    expect(events.at(-1)).toMatchObject({ kind: "gone", why: "it does not read" });
  });

  test("listens in a directory that others may write", async () => {
    chmodSync(directory, 0o770);
    await listen([READY]);
    start();
    await vi.waitFor(() => expect(told.join()).toContain("others may write"));
    expect([heard, worker.state().kind]).toEqual([[], "absent"]);
  });

  test.skipIf(process.getuid?.() !== 0)("is another user than the directory's (needs root)", async () => {
    await listen([READY]);
    chownSync(directory, 61_234, 61_234);
    start();
    await vi.waitFor(() => expect(told.join()).toContain("the directory is uid 61234's"));
    expect([heard, worker.state().kind]).toEqual([[], "absent"]);
  });
});
