import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

const MAIN = fileURLToPath(new URL("../../cli/main.ts", import.meta.url));

export type Ran = { readonly code: number | null; readonly stdout: string; readonly stderr: string };

/** A running boundaryctl. */
export type Running = {
  readonly child: ChildProcess;
  readonly done: Promise<Ran>;
  /** Resolves once stdout has held the text. */
  saw(text: string): Promise<void>;
};

/** Starts boundaryctl as its shebang would, without a terminal. */
export function startBoundaryctl(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  /** What it reads: all of it and the end; null: nothing, and no end. Without it there is no stdin. */
  stdin?: string | Buffer | null,
): Running {
  const child = spawn(
    process.execPath,
    ["--disallow-code-generation-from-strings", "--no-memory-protection-keys", MAIN, ...args],
    {
      env: { PATH: process.env["PATH"] ?? "", HOME: "/nonexistent", ...env },
      stdio: [stdin === undefined ? "ignore" : "pipe", "pipe", "pipe"],
    },
  );
  child.stdin?.on("error", () => undefined); // it may end without having read all
  if (stdin !== undefined && stdin !== null) child.stdin?.end(stdin);
  let stdout = "";
  let stderr = "";
  const watchers: (() => void)[] = [];
  child.stdout?.on("data", (text: Buffer) => {
    stdout += text.toString();
    for (const watcher of watchers) watcher();
  });
  child.stderr?.on("data", (text: Buffer) => {
    stderr += text.toString();
  });
  const done = new Promise<Ran>((resolve) => {
    child.on("close", (code) => resolve({ code, stdout, stderr }));
  });
  const saw = (text: string): Promise<void> =>
    new Promise((resolve, reject) => {
      const look = (): void => (stdout.includes(text) ? resolve() : undefined);
      watchers.push(look);
      look();
      void done.then(() => reject(new Error(`ended without ${JSON.stringify(text)}: ${stdout}${stderr}`)));
    });
  return { child, done, saw };
}

export function boundaryctl(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  stdin?: string | Buffer | null,
): Promise<Ran> {
  return startBoundaryctl(args, env, stdin).done;
}
