import { type ChildProcess, spawn } from "node:child_process";
import { chmodSync, chownSync, existsSync, mkdirSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { UID as WORKER_UID } from "./worker-host.ts";

const MAIN = join(import.meta.dirname, "../../daemon/egress-service/main.ts");
const READY_MS = 15_000;
const ROOT = process.getuid?.() === 0;
/** Whom the process runs as when the tests run as root: nobody's number. */
export const EGRESS_UID = ROOT ? 61_236 : (process.getuid?.() ?? 0);

export type EgressProcess = {
  readonly pid: number;
  /** Where it listens for the daemon, and where runs have their sockets. */
  readonly socket: string;
  readonly runs: string;
  /** What it wrote to stderr. */
  readonly text: () => string;
  signal(name: NodeJS.Signals): void;
  /** Its exit code; null after a signal. */
  readonly exited: Promise<number | null>;
  stop(): Promise<void>;
};

const running = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/** A command as the process's user. */
export function asEgress(command: readonly string[]): readonly string[] {
  const ids = [`--reuid=${EGRESS_UID}`, `--regid=${EGRESS_UID}`, "--clear-groups", "--no-new-privs"];
  return ROOT ? ["/usr/bin/setpriv", ...ids, "--pdeathsig=KILL", "--", ...command] : command;
}

/** How it is called: as in its unit. */
export function egressCommand(base: string): readonly string[] {
  return [
    realpathSync(process.execPath),
    "--disallow-code-generation-from-strings",
    MAIN,
    `--socket=${base}/daemon/egress.sock`,
    `--runs=${base}/runs`,
    `--daemon-uid=${process.getuid?.() ?? 0}`,
    `--worker-uid=${WORKER_UID}`,
  ];
}

/** Makes its two directories as tmpfiles.d does. */
export function egressDirectories(base: string): void {
  const groups = [
    ["daemon", process.getgid?.() ?? 0],
    ["runs", WORKER_UID],
  ] as const;
  for (const [name, group] of groups) {
    const directory = join(base, name);
    mkdirSync(directory, { recursive: true });
    if (ROOT) chownSync(directory, EGRESS_UID, group);
    chmodSync(directory, 0o2750);
  }
}

/** The real process, listening. `through`: what starts it, as a command that becomes it. */
export async function startEgressProcess(
  base: string,
  through: readonly string[] = [],
): Promise<EgressProcess> {
  egressDirectories(base);
  const [command = "", ...args] = [...through, ...asEgress(egressCommand(base))];
  const child = spawn(command, args, { stdio: ["ignore", "ignore", "pipe"], env: {}, cwd: "/" });
  running.add(child);
  let text = "";
  child.stderr.on("data", (chunk: Buffer) => (text += chunk.toString()));
  const exited = new Promise<number | null>((resolve) => child.once("exit", (code) => resolve(code)));
  void exited.then(() => running.delete(child));
  const socket = `${base}/daemon/egress.sock`;
  const untilMs = performance.now() + READY_MS;
  while (!(existsSync(socket) && text.includes("the egress proxy listens"))) {
    if (child.exitCode !== null || performance.now() > untilMs) throw new Error(`no egress process: ${text}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return {
    pid: child.pid ?? 0,
    socket,
    runs: `${base}/runs`,
    text: () => text,
    signal: (name) => void child.kill(name),
    exited,
    stop: async () => {
      child.kill("SIGTERM");
      await exited;
    },
  };
}
