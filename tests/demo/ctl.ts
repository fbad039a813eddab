import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { boundaryctl, type Ran } from "../support/boundaryctl.ts";
import type { DaemonHome } from "../support/daemon-process.ts";

const MAIN = fileURLToPath(new URL("../../cli/main.ts", import.meta.url));

/** The operator's hands: boundaryctl as a person would run it. */
export type Ctl = {
  run(...args: readonly string[]): Promise<Ran>;
  /** With --json, parsed. */
  json(...args: readonly string[]): Promise<Record<string, never>>;
  /** `ceremony begin` on a terminal of its own: waits for the cool-down and types what it is asked for. */
  ceremony(reason: string): Promise<Ran>;
  /** On a terminal of its own. */
  onTerminal(...args: readonly string[]): Promise<Ran>;
};

export function createCtl(home: DaemonHome): Ctl {
  const run = (...args: readonly string[]) => boundaryctl([...args, "--runtime-dir", home.runtimeDir]);
  return {
    run,
    async json(...args) {
      const { stdout, stderr } = await run(...args, "--json");
      try {
        return JSON.parse(stdout) as Record<string, never>;
      } catch {
        throw new Error(`boundaryctl ${args.join(" ")}: ${stderr || stdout}`);
      }
    },
    ceremony: (reason) =>
      onTerminal([MAIN, "ceremony", "begin", "--reason", reason, "--runtime-dir", home.runtimeDir]),
    onTerminal: (...args) => onTerminal([MAIN, ...args, "--runtime-dir", home.runtimeDir]),
  };
}

/** script(1) gives the program a terminal; the person at it reads the code off the screen and types it. */
function onTerminal(args: readonly string[]): Promise<Ran> {
  const quoted = [process.execPath, ...args].map((arg) => `'${arg.replaceAll("'", "'\\''")}'`).join(" ");
  const child = spawn("/usr/bin/script", ["-qefc", quoted, "/dev/null"], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  let screen = "";
  let answered = 0;
  const answers: readonly { readonly prompt: RegExp; readonly answer: () => string }[] = [
    { prompt: /type the code/, answer: () => /\d{3}-\d{3}-\d{3}/.exec(screen)?.[0] ?? "" },
    { prompt: /type "accept"/, answer: () => "accept" },
  ];
  child.stdout.on("data", (text: Buffer) => {
    screen += text.toString();
    const next = answers[answered];
    if (!next?.prompt.test(screen)) return;
    answered += 1;
    child.stdin.write(`${next.answer()}\n`);
  });
  return new Promise((resolve) => child.on("close", (code) => resolve({ code, stdout: screen, stderr: "" })));
}
