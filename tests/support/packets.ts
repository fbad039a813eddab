import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { Netns } from "./netns.ts";
import type { Actions } from "./netns-agent.ts";

const AGENT = fileURLToPath(new URL("./netns-agent.ts", import.meta.url));

type Args<A extends keyof Actions> = Parameters<Actions[A]> extends [infer T] ? [args: T] : [];

/** A process inside a namespace that does one thing after the other. */
export type Agent = {
  readonly pid: number;
  call<A extends keyof Actions>(action: A, ...args: Args<A>): Promise<Awaited<ReturnType<Actions[A]>>>;
  /** SIGKILL, as a crash would. Resolves when it is gone. */
  kill(): Promise<void>;
};

const running = new Set<ChildProcess>();

export function startAgent(netns: Netns): Agent {
  const child = spawn("/usr/sbin/ip", ["netns", "exec", netns.name, process.execPath, AGENT], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  running.add(child);
  const waiting = new Map<
    number,
    { readonly resolve: (value: never) => void; readonly reject: (error: Error) => void }
  >();
  let ids = 0;
  createInterface({ input: child.stdout }).on("line", (line) => {
    const { id, value, error } = JSON.parse(line) as { id: number; value: never; error?: string };
    const waiter = waiting.get(id);
    waiting.delete(id);
    if (error === undefined) waiter?.resolve(value);
    else waiter?.reject(new Error(error));
  });
  const gone = new Promise<void>((resolve) => {
    child.once("exit", () => {
      running.delete(child);
      for (const { reject } of waiting.values()) reject(new Error(`the agent in ${netns.name} ended`));
      resolve();
    });
  });
  child.stdin.on("error", () => {}); // it was killed: its waiters have been told
  return {
    pid: child.pid ?? 0,
    call: (action, ...args) =>
      new Promise((resolve, reject) => {
        ids += 1;
        waiting.set(ids, { resolve, reject });
        child.stdin.write(`${JSON.stringify({ id: ids, action, args: args[0] ?? {} })}\n`);
      }),
    kill: async () => {
      child.kill("SIGKILL");
      await gone;
    },
  };
}

/** Ends every agent that still runs. */
export async function stopAgents(): Promise<void> {
  await Promise.all(
    [...running].map(
      (child) =>
        new Promise<void>((resolve) => {
          child.once("exit", () => resolve());
          child.kill("SIGKILL");
        }),
    ),
  );
}

process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/** Asks until the answer is yes; false after ten seconds of no. */
export async function eventually(question: () => Promise<boolean>): Promise<boolean> {
  const deadlineMs = performance.now() + 10_000;
  while (performance.now() < deadlineMs) {
    if (await question()) return true;
    await delay(20);
  }
  return false;
}

export function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
