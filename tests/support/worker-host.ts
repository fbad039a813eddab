import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { generateKeyPairSync, hash, type KeyObject, randomBytes } from "node:crypto";
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
} from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createClock } from "../../daemon/adapters/clock.ts";
import { createFrameReader, renderFrame } from "../../daemon/core/frames.ts";
import { ORDER_LIFETIME_MS, type RunOrder, renderOrder, signOrder } from "../../daemon/exec/run-order.ts";
import type { Sandbox, ToDaemon } from "../../daemon/worker/messages.ts";

const MAIN = join(import.meta.dirname, "../../daemon/worker/main.ts");
const BRIDGE = join(import.meta.dirname, "worker-bridge.ts");
const READY_MS = 15_000;
/** Whom the worker runs as when the tests run as root: nobody's number. */
const WORKER_UID = 61_234;
const ROOT = process.getuid?.() === 0;
export const UID = ROOT ? WORKER_UID : (process.getuid?.() ?? 0);

/** Why no sandbox can be made here; "" when one can. */
export const NO_SANDBOX = whyNot();

function whyNot(): string {
  if (!existsSync("/usr/bin/bwrap")) return "bubblewrap is not installed";
  const [command, ...args] = asWorker([
    "/usr/bin/bwrap",
    "--unshare-user",
    "--ro-bind",
    "/",
    "/",
    "/usr/bin/true",
  ]);
  const ran = spawnSync(command ?? "", args, { encoding: "utf8" });
  return ran.status === 0 ? "" : `bwrap makes no sandbox here: ${ran.stderr.trim()}`;
}

export function asWorker(command: readonly string[]): readonly string[] {
  const ids = [`--reuid=${UID}`, `--regid=${UID}`, "--clear-groups", "--no-new-privs", "--pdeathsig=KILL"];
  return ROOT ? ["/usr/bin/setpriv", ...ids, "--", ...command] : command;
}

export type Outcome = {
  readonly messages: readonly ToDaemon[];
  readonly last: ToDaemon;
  readonly stdout: string;
  readonly stderr: string;
};

export type Asked = Partial<Omit<RunOrder, "limits">> & {
  readonly limits?: Partial<RunOrder["limits"]>;
  /** Signed with another key. */
  readonly by?: KeyObject;
  readonly stdin?: Buffer | string;
  /** What is sent instead of that stdin. */
  readonly sentStdin?: Buffer;
};

/** One connection to a worker, as the daemon has it. */
export type Link = {
  readonly sandbox: Sandbox;
  readonly socket: Socket;
  readonly closed: Promise<void>;
  /** Resolves with the last message about the run. */
  run(argv: readonly string[], asked?: Asked): Promise<Outcome>;
  /** As `run`, with the id at once. */
  begin(argv: readonly string[], asked?: Asked): { readonly id: string; readonly over: Promise<Outcome> };
  send(message: object): void;
  /** Resolves when a run's stdout has this text. */
  said(id: string, text: string): Promise<void>;
  order(argv: readonly string[], asked?: Asked): RunOrder;
  sign(order: RunOrder, asked?: Asked): object;
  /** What has come about a run so far. */
  about(id: string): readonly ToDaemon[];
  end(): Promise<void>;
};

export type WorkerHost = {
  readonly path: string;
  readonly workspace: string;
  readonly socketPath: string;
  readonly pid: number;
  readonly lines: readonly string[];
  link(): Promise<Link>;
  /** A file of a test made executable, outside of the workspace, not root's. */
  install(source: string, name: string): string;
  /** Compiles a C file of tests/worker/inside to a program of that name. */
  compile(name: string): string;
  /** Gives the exit code, null after a signal. */
  kill(signal: NodeJS.Signals): Promise<number | null>;
  stop(): Promise<void>;
};

const clock = createClock();
const keys = generateKeyPairSync("ed25519");
export const STRANGER = generateKeyPairSync("ed25519").privateKey;
const children = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of children) child.kill("SIGKILL");
});

/** A worker of its own, with a workspace. `through`: what starts it, as a command that becomes it. `at`: its socket. */
export async function startWorker(
  args: readonly string[] = [],
  through: readonly string[] = [],
  at: string | null = null,
): Promise<WorkerHost> {
  const path = mkdtempSync(join(tmpdir(), "boundary-worker-"));
  chmodSync(path, 0o755);
  const [workspace, run, bin] = ["work", "run", "bin"].map((name) => {
    const made = join(path, name);
    mkdirSync(made, { mode: 0o755 });
    chownSync(made, UID, UID);
    return made;
  }) as [string, string, string];
  const socketPath = at ?? join(run, "worker.sock");
  const daemonUid = process.getuid?.() ?? 0;
  const [command, ...rest] = asWorker([
    realpathSync(process.execPath),
    "--disallow-code-generation-from-strings",
    MAIN,
    `--socket=${socketPath}`,
    `--daemon-uid=${daemonUid}`,
    `--bridge=${BRIDGE}`,
    ...args,
  ]);
  const [first = "", ...others] = [...through, command ?? "", ...rest];
  const child = spawn(first, others, { stdio: ["ignore", "ignore", "pipe"], env: {}, cwd: "/" });
  children.add(child);
  const lines: string[] = [];
  let text = "";
  child.stderr.on("data", (chunk: Buffer) => {
    text += chunk.toString("utf8");
    lines.splice(0, lines.length, ...text.split("\n"));
  });
  const exited = new Promise<number | null>((resolve) => child.once("exit", (code) => resolve(code)));
  void exited.then(() => children.delete(child));
  await until(() => existsSync(socketPath) || child.exitCode !== null, READY_MS);
  if (child.exitCode !== null) throw new Error(`the worker ended: ${text}`);

  const kill = (signal: NodeJS.Signals): Promise<number | null> => {
    child.kill(signal);
    return exited;
  };
  return {
    path,
    workspace,
    socketPath,
    pid: child.pid ?? 0,
    lines,
    link: () => openLink(socketPath, workspace),
    install: (source, name) => {
      const to = join(bin, name);
      copyFileSync(source, to);
      chmodSync(to, 0o755);
      chownSync(to, UID, UID);
      return to;
    },
    compile: (name) => {
      const to = join(bin, name);
      const source = join(import.meta.dirname, `../worker/inside/${name}.c`);
      const ran = spawnSync("cc", ["-O1", "-Wall", "-o", to, source, "-lpthread"], { encoding: "utf8" });
      if (ran.status !== 0) throw new Error(`cc: ${ran.stderr}`);
      return to;
    },
    kill,
    stop: async () => {
      await kill("SIGTERM");
      rmSync(path, { recursive: true, force: true });
    },
  };
}

export async function until(holds: () => boolean, withinMs = 5_000): Promise<void> {
  const untilMs = performance.now() + withinMs;
  while (!holds()) {
    if (performance.now() > untilMs) throw new Error(`not so after ${withinMs} ms: ${String(holds)}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

function programAt(found: string): RunOrder["program"] {
  const path = realpathSync(found);
  return { path, sha256: hash("sha256", readFileSync(path), "hex") };
}

async function openLink(socketPath: string, workspace: string): Promise<Link> {
  const socket = connect({ path: socketPath });
  const reader = createFrameReader();
  const messages: ToDaemon[] = [];
  const waiting = new Set<() => void>();
  const { promise: closed, resolve: tellClosed } = Promise.withResolvers<void>();
  socket.on("data", (chunk: Buffer) => {
    for (const read of reader.push(chunk)) if (read.ok) messages.push(read.value as ToDaemon);
    for (const look of waiting) look();
  });
  socket.on("error", () => {});
  socket.on("close", () => {
    tellClosed();
    for (const look of waiting) look();
  });
  await new Promise((resolve) => socket.once("connect", resolve));

  /** The first that `find` gives; rejects when the connection ends before. */
  function wait<T>(find: () => T | undefined): Promise<T> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        const found = find();
        if (found !== undefined) resolve(found);
        else if (socket.destroyed) reject(new Error("the worker ended the connection"));
        else return;
        waiting.delete(look);
      };
      waiting.add(look);
      look();
    });
  }

  const send = (message: object): void => void socket.write(renderFrame(message));
  const raw = keys.publicKey.export({ format: "der", type: "spki" }).subarray(-32);
  send({ kind: "hello", publicKey: raw.toString("base64") });
  const ready = await wait(() => messages.find((one) => one.kind === "ready"));
  const about = (id: string) => messages.filter((one) => "id" in one && one.id === id);
  const textOf = (id: string, stream: string): string =>
    Buffer.concat(
      about(id).flatMap((one) =>
        one.kind === "output" && one.stream === stream ? [Buffer.from(one.data, "base64")] : [],
      ),
    ).toString("utf8");

  function order(argv: readonly string[], asked: Asked = {}): RunOrder {
    const { by: _, stdin = "", sentStdin: __, limits, ...rest } = asked;
    const program = rest.program ?? programAt(argv[0]?.includes("/") ? argv[0] : `/usr/bin/${argv[0]}`);
    return {
      v: 1,
      id: randomBytes(16).toString("hex"),
      boot: clock.bootId(),
      notAfterMs: Math.floor(clock.bootMs()) + ORDER_LIFETIME_MS,
      argv,
      program,
      cwd: workspace,
      workspace,
      environment: [],
      profile: "test",
      mode: "OPEN",
      network: "none",
      proxySocket: "",
      readable: [],
      stdinDigest: hash("sha256", stdin, "hex"),
      ...rest,
      limits: {
        timeoutMs: 10_000,
        graceMs: 500,
        outputBytes: 51_200,
        memoryBytes: 268_435_456,
        pids: 32,
        cpus: 1,
        ...limits,
      },
    };
  }

  function sign(signed: RunOrder, { by = keys.privateKey, stdin = "", sentStdin }: Asked = {}): object {
    const text = renderOrder(signed);
    const bytes = sentStdin ?? Buffer.from(stdin);
    return { kind: "run", order: text, signature: signOrder(text, by), stdin: bytes.toString("base64") };
  }

  function begin(argv: readonly string[], asked: Asked = {}): { id: string; over: Promise<Outcome> } {
    const made = order(argv, asked);
    send(sign(made, asked));
    const { id } = made;
    const over = wait(() => about(id).find((one) => one.kind === "ended" || one.kind === "refused"));
    return {
      id,
      over: over.then((last) => ({
        messages: about(id),
        last,
        stdout: textOf(id, "stdout"),
        stderr: textOf(id, "stderr"),
      })),
    };
  }

  return {
    sandbox: ready.sandbox,
    socket,
    closed,
    run: (argv, asked) => begin(argv, asked).over,
    begin,
    send,
    said: async (id, text) =>
      void (await wait(() => (textOf(id, "stdout").includes(text) ? true : undefined))),
    order,
    sign,
    about,
    end: async () => {
      socket.destroy();
      await closed;
    },
  };
}
