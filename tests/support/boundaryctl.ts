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
  stdin: "ignore" | "pipe" = "ignore",
): Running {
  const child: ChildProcess = spawn(
    process.execPath,
    ["--disallow-code-generation-from-strings", MAIN, ...args],
    {
      env: { PATH: process.env["PATH"] ?? "", HOME: "/nonexistent", ...env },
      stdio: [stdin, "pipe", "pipe"],
    },
  );
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

/** boundaryctl with something on its stdin. */
export function boundaryctlWith(input: string, args: readonly string[]): Promise<Ran> {
  const running = startBoundaryctl(args, {}, "pipe");
  running.child.stdin?.on("error", () => undefined); // it need not read it
  running.child.stdin?.end(input);
  return running.done;
}

export function boundaryctl(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Ran> {
  return startBoundaryctl(args, env).done;
}
