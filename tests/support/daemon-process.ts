import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { stringify } from "yaml";

const MAIN = fileURLToPath(new URL("../../daemon/main.ts", import.meta.url));
/** As in the unit and in main.ts's first line. */
const NODE_FLAGS = [
  "--disallow-code-generation-from-strings",
  "--no-memory-protection-keys",
  "--max-semi-space-size=1",
  "--optimize-for-size",
];
const READY_MS = 20_000;
/** What Node makes of our TypeScript, kept from start to start: half of what a start costs here. */
const COMPILE_CACHE = fileURLToPath(new URL("../../node_modules/.cache/daemon-tests", import.meta.url));

/** Directories of one daemon: what it keeps between its starts, and its socket. */
export type DaemonHome = {
  readonly path: string;
  readonly logDir: string;
  readonly stateDir: string;
  readonly runtimeDir: string;
  readonly configFile: string;
  remove(): void;
};

export type DaemonProcess = {
  readonly pid: number;
  /** From the spawn to the line that says it is ready. */
  readonly readyMs: number;
  /** What it wrote to stderr, newest last. */
  readonly lines: readonly string[];
  /** SIGTERM; the exit code and how long it took. */
  stop(): Promise<{ readonly code: number | null; readonly ms: number }>;
  /** SIGKILL, and gone. */
  kill(): Promise<void>;
  signal(name: NodeJS.Signals): void;
  readonly exited: Promise<number | null>;
};

const running = new Set<ChildProcess>();

process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/** A fresh home with a configuration (an object, written as YAML; text is written as it is). */
export function createHome(config: object | string): DaemonHome {
  const path = mkdtempSync(join(tmpdir(), "boundary-"));
  chmodSync(path, 0o755);
  mkdirSync(join(path, "etc"), { mode: 0o700 });
  const configFile = join(path, "etc", "config.yaml");
  writeFileSync(configFile, typeof config === "string" ? config : stringify(forTests(config)), {
    mode: 0o600,
  });
  return {
    path,
    logDir: join(path, "log"),
    stateDir: join(path, "state"),
    runtimeDir: join(path, "run"),
    configFile,
    remove: () => {
      spawnSync("chattr", ["-R", "-f", "-i", "-a", path], { stdio: "ignore" });
      rmSync(path, { recursive: true, force: true });
    },
  };
}

/**
 * Tests change segments, as root: append-only is for those that are about it. And they ask more often than anybody who
 * is not flooding: limits are for those that are about them.
 */
function forTests(config: object): object {
  const log = "log" in config && typeof config.log === "object" ? config.log : {};
  const limits = "limits" in config && typeof config.limits === "object" ? config.limits : {};
  return { ...config, log: { appendOnly: false, ...log }, limits: { ...UNLIMITED, ...limits } };
}

const UNLIMITED = Object.fromEntries(
  ["token", "uid", "overall", "loosening"].map((name) => [name, { requests: 0 }]),
);

type StartOptions = {
  /** Name of the network namespace to run in; without one, ours. */
  readonly netns?: string;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** What runs the daemon, in front of node: ["strace", "-f", …]. */
  readonly wrapper?: readonly string[];
  readonly main?: string;
};

export function daemonArguments(home: DaemonHome): readonly string[] {
  const { configFile, logDir, stateDir, runtimeDir } = home;
  return ["--config", configFile, "--log-dir", logDir, "--state-dir", stateDir, "--runtime-dir", runtimeDir];
}

/** Starts the real daemon as its own process. Rejects, with what it said, when it ends before it is ready. */
export async function startDaemon(home: DaemonHome, options: StartOptions = {}): Promise<DaemonProcess> {
  const begunMs = performance.now();
  const child = spawnDaemon(home, options);
  const lines: string[] = [];
  const exited = new Promise<number | null>((resolve) => {
    child.once("exit", (code) => {
      running.delete(child);
      resolve(code);
    });
  });
  const readyMs = await new Promise<number>((resolve, reject) => {
    const deadline = setTimeout(() => reject(new Error(`not ready in time:\n${lines.join("\n")}`)), READY_MS);
    createInterface({ input: child.stderr as NodeJS.ReadableStream }).on("line", (line) => {
      lines.push(line);
      if (lines.length > 2_000) lines.shift();
      if (!line.includes('"msg":"ready"')) return;
      clearTimeout(deadline);
      resolve(performance.now() - begunMs);
    });
    void exited.then((code) => {
      clearTimeout(deadline);
      // what it said last may come after its exit
      setImmediate(() => reject(new Error(`ended with ${code}:\n${lines.join("\n")}`)));
    });
  });
  return {
    pid: child.pid ?? 0,
    readyMs,
    lines,
    exited,
    signal: (name) => void child.kill(name),
    async stop() {
      const askedMs = performance.now();
      child.kill("SIGTERM");
      return { code: await exited, ms: performance.now() - askedMs };
    },
    async kill() {
      child.kill("SIGKILL");
      await exited;
    },
  };
}

function spawnDaemon(
  home: DaemonHome,
  { netns, args = [], env = {}, wrapper = [], main = MAIN }: StartOptions,
): ChildProcess {
  const node = [process.execPath, ...NODE_FLAGS, main, ...daemonArguments(home), ...args];
  // `ip netns exec` replaces itself by what it runs: the pid is the daemon's
  const [program = "", ...rest] = [
    ...(netns ? ["/usr/sbin/ip", "netns", "exec", netns] : []),
    ...wrapper,
    ...node,
  ];
  const child = spawn(program, rest, {
    stdio: ["ignore", "ignore", "pipe"],
    env: { PATH: process.env["PATH"] ?? "", HOME: home.path, NODE_COMPILE_CACHE: COMPILE_CACHE, ...env },
  });
  running.add(child);
  return child;
}
