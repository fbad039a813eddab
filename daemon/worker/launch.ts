import { spawn } from "node:child_process";
import { closeSync } from "node:fs";
import { Socket } from "node:net";
import { hasEnded, makePipe, memoryFile, openProcess, signalProcess } from "./kernel.ts";
import { isIn, signalTree } from "./process-tree.ts";
import { OPTIONS_FD, renderOptions, type SandboxPlan, sandboxOptions } from "./sandbox-args.ts";

/** What makes the sandbox. It needs no rights where users may make user namespaces. */
export const BUBBLEWRAP = "/usr/bin/bwrap";

const SIGTERM = 15;
const SIGKILL = 9;
const STATUS_KEPT_BYTES = 16_384;
/** How long a start that is broken off may take to say which process it has made. */
const FIRST_WAIT_MS = 1_000;
const GONE_STEP_MS = 5;

/** The first process in the sandbox: its pid as we see it, and the numbers of its namespaces, of pids and all. */
export type First = {
  readonly pid: number;
  readonly namespace: number;
  readonly namespaces: ReadonlyMap<string, number>;
};

export type Ended = {
  /** What the command ended with; null when it was never begun, or when the sandbox was killed. */
  readonly exitCode: number | null;
};

export type Launched = {
  readonly stdin: Socket;
  readonly stdout: Socket;
  readonly stderr: Socket;
  /** null when it ended without one: the sandbox could not be made. */
  readonly first: Promise<First | null>;
  /** Resolves when bwrap has ended. Output may be left to read. */
  readonly ended: Promise<Ended>;
  /** Asks every process in the sandbox to end. */
  terminate(): void;
  /** Ends every process in the sandbox, now. */
  kill(): void;
  /** Resolves with true when nothing of the sandbox runs any more, with false when that took longer. */
  gone(withinMs: number): Promise<boolean>;
};

/** The program of a run: bwrap, with the options of the plan, and a command. The plan's descriptors stay the caller's. */
export function launch(plan: SandboxPlan, command: readonly string[]): Launched {
  const { options, descriptors } = sandboxOptions(plan);
  const opened: number[] = [];
  const pipe = (): readonly [number, number] => {
    const ends = makePipe();
    opened.push(...ends);
    return ends;
  };
  const kept = new Set<number>();
  try {
    const [stdinRead, stdinWrite] = pipe();
    const [stdoutRead, stdoutWrite] = pipe();
    const [stderrRead, stderrWrite] = pipe();
    const [statusRead, statusWrite] = pipe();
    const optionsFd = memoryFile("options", renderOptions(options));
    opened.push(optionsFd);
    const child = spawn(BUBBLEWRAP, ["--args", String(OPTIONS_FD), "--", ...command], {
      env: {},
      cwd: "/",
      stdio: [stdinRead, stdoutWrite, stderrWrite, statusWrite, optionsFd, ...descriptors],
    });
    for (const fd of [stdinWrite, stdoutRead, stderrRead, statusRead]) kept.add(fd);
    return watch(child, {
      stdin: new Socket({ fd: stdinWrite, readable: false, writable: true }),
      stdout: new Socket({ fd: stdoutRead, readable: true, writable: false }),
      stderr: new Socket({ fd: stderrRead, readable: true, writable: false }),
      status: new Socket({ fd: statusRead, readable: true, writable: false }),
    });
  } finally {
    for (const fd of opened) if (!kept.has(fd)) closeSync(fd);
  }
}

type Pipes = Readonly<Record<"stdin" | "stdout" | "stderr" | "status", Socket>>;

function watch(child: ReturnType<typeof spawn>, { stdin, stdout, stderr, status }: Pipes): Launched {
  let first: First | null = null;
  let firstFd: number | null = null;
  let exited = false;
  let killed = false;
  let text = "";
  const { promise: firstKnown, resolve: tellFirst } = Promise.withResolvers<First | null>();
  const { promise: ended, resolve: tellEnded } = Promise.withResolvers<Ended>();
  const { promise: statusRead, resolve: statusOver } = Promise.withResolvers<void>();

  status.on("data", (chunk: Buffer) => {
    text = (text + chunk.toString("utf8")).slice(0, STATUS_KEPT_BYTES);
    if (first !== null) return;
    first = readFirst(text);
    if (first === null) return;
    firstFd = openFirst(first);
    if (killed) kill();
    tellFirst(first);
  });
  status.on("error", () => statusOver());
  status.on("close", () => statusOver());
  // the command need not read its input
  stdin.on("error", () => {});
  child.on("error", () => void over());
  child.on("exit", () => void over());

  async function over(): Promise<void> {
    if (exited) return;
    exited = true;
    if (firstFd !== null) signalProcess(firstFd, SIGKILL);
    stdin.destroy();
    await Promise.race([statusRead, delay(FIRST_WAIT_MS)]);
    tellFirst(first);
    tellEnded({ exitCode: readExit(text) });
  }

  function terminate(): void {
    if (first !== null && firstFd !== null && !exited) signalTree(first.pid, first.namespace, SIGTERM);
  }

  // without the first process everything in its namespace ends, by the kernel's own doing
  function kill(): void {
    killed = true;
    if (firstFd !== null) signalProcess(firstFd, SIGKILL);
    if (firstFd === null && !exited) setTimeout(endBwrap, FIRST_WAIT_MS).unref();
    else endBwrap();
  }

  function endBwrap(): void {
    if (!exited) child.kill("SIGKILL");
  }

  async function gone(withinMs: number): Promise<boolean> {
    await ended;
    let left = withinMs;
    for (; firstFd !== null && !hasEnded(firstFd) && left > 0; left -= GONE_STEP_MS)
      await delay(GONE_STEP_MS);
    const isGone = firstFd === null || hasEnded(firstFd);
    // what the kernel has not ended yet was killed: there is nothing more to say to it
    if (firstFd !== null) closeSync(firstFd);
    firstFd = null;
    return isGone;
  }

  return { stdin, stdout, stderr, first: firstKnown, ended, terminate, kill, gone };
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}

/** bwrap says it first, as soon as it has made the namespaces. */
function readFirst(text: string): First | null {
  const facts = text.includes("}") ? parseObject(text.slice(0, text.indexOf("}") + 1)) : null;
  const pid = facts?.get("child-pid");
  if (facts === null || pid === undefined) return null;
  const namespaces = [...facts].flatMap(([key, value]): [string, number][] => {
    const name = /^([a-z]+)-namespace$/.exec(key)?.[1];
    return name === undefined ? [] : [[name, value]];
  });
  return { pid, namespace: facts.get("pid-namespace") ?? -1, namespaces: new Map(namespaces) };
}

/** null when it has ended already, and its number is perhaps another's. */
function openFirst({ pid, namespace }: First): number | null {
  const fd = openProcess(pid);
  if (fd === null || isIn(pid, namespace)) return fd;
  closeSync(fd);
  return null;
}

/** bwrap says it last, and only when the command was begun. */
function readExit(text: string): number | null {
  const found = /"exit-code": (\d{1,3})\b/.exec(text)?.[1];
  return found === undefined ? null : Number(found);
}

function parseObject(text: string): ReadonlyMap<string, number> | null {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== "object" || value === null) return null;
    return new Map(
      Object.entries(value).filter((entry): entry is [string, number] => typeof entry[1] === "number"),
    );
  } catch {
    return null; // not whole yet
  }
}
