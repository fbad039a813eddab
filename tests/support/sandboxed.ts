import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { findProgram } from "../../daemon/adapters/run.ts";

const BRIDGE = join(import.meta.dirname, "../../daemon/worker/bridge.ts");

/** Why nothing can be run in a sandbox here, or "" when it can. */
export const NO_BWRAP =
  process.getuid?.() !== 0 ? "needs root" : findProgram("bwrap") === null ? "needs bwrap" : "";

export type Ended = {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
};

export type Sandboxed = { readonly child: ChildProcess; readonly ended: Promise<Ended> };

export type SandboxOptions = {
  /** Of the proxy; what is not there leads nowhere. */
  readonly socket: string;
  readonly command: readonly string[];
  /** Without the bridge: the command alone. */
  readonly bare?: boolean;
  readonly stdin?: string;
};

/**
 * Runs a command as a worker does: read-only, in namespaces of its own, with no network but the bridge. The directory of
 * the test's temporary files is as it is.
 */
export function runSandboxed({ socket, command, bare, stdin }: SandboxOptions): Sandboxed {
  const around = ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"];
  const apart = ["--unshare-net", "--unshare-pid", "--unshare-ipc", "--die-with-parent", "--new-session"];
  const bridged = bare ? command : [process.execPath, BRIDGE, socket, "--", ...command];
  const child = spawn("bwrap", [...around, ...apart, "--", ...bridged], {
    stdio: ["pipe", "pipe", "pipe"],
    env: { PATH: "/usr/bin:/bin", LC_ALL: "C" },
  });
  child.stdin.on("error", () => undefined);
  child.stdin.end(stdin ?? "");
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  const ended = new Promise<Ended>((resolve) =>
    child.once("close", (code, signal) => resolve({ code, signal, stdout, stderr })),
  );
  return { child, ended };
}

/** A program that says "ready" when it is, and lines after that. */
export async function startSaying(file: string, args: readonly string[]) {
  const child = spawn(file, args, { stdio: ["pipe", "pipe", "inherit"] });
  const lines: string[] = [];
  const gone = new Promise<void>((resolve) => child.once("close", () => resolve()));
  await new Promise<void>((resolve, reject) => {
    createInterface({ input: child.stdout }).on("line", (line) => {
      if (line === "ready") resolve();
      else lines.push(line);
    });
    child.once("close", () => reject(new Error(`${args.join(" ")} ended`)));
  });
  return {
    lines,
    tell: (line: string) => void child.stdin.write(`${line}\n`),
    stop: async () => {
      child.stdin.end();
      const over = setTimeout(() => child.kill("SIGKILL"), 3_000);
      await gone;
      clearTimeout(over);
    },
  };
}
