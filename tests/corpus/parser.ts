import { Worker } from "node:worker_threads";
import type { Parsed, ParseJob } from "./cedar-thread.ts";

export type Parser = {
  readonly parse: (policies: string, schema: string) => Promise<Parsed>;
  readonly close: () => Promise<void>;
};

/** cedar-wasm, one job at a time. A trap rejects the job at hand and ends the thread: the next one gets a new thread. */
export function startParser(): Parser {
  let thread: Worker | null = null;
  let last: Promise<unknown> = Promise.resolve();
  let id = 0;

  function run(job: ParseJob): Promise<Parsed> {
    thread ??= new Worker(new URL("./cedar-thread.ts", import.meta.url));
    const used = thread;
    return new Promise((resolve, reject) => {
      used.removeAllListeners();
      used.on("message", resolve);
      used.on("error", (error) => {
        thread = null;
        reject(error);
      });
      // oxlint-disable-next-line unicorn/require-post-message-target-origin -- to a thread, not to a window
      used.postMessage(job);
    });
  }

  return {
    parse: (policies, schema) => {
      const job = { id: id++, policies, schema };
      const result = last.then(() => run(job));
      last = result.catch(() => null);
      return result;
    },
    close: async () => {
      await last;
      await thread?.terminate();
    },
  };
}
