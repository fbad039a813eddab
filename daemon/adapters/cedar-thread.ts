import { Worker } from "node:worker_threads";
import { BoundaryError, renderErrorChain } from "../core/errors.ts";
import type { CedarOrder, CedarThread } from "../ports.ts";

/** The same file beside this one: .ts in development, .js when built. */
const THREAD = new URL(`./cedar-worker${import.meta.url.slice(-3)}`, import.meta.url);
/** A host under load is slow, and nothing waits for it. */
const DEADLINE_MS = 60_000;
const LIMITS = { maxOldGenerationSizeMb: 256, maxYoungGenerationSizeMb: 16, stackSizeMb: 4 };

type Reply = { readonly ok: boolean; readonly text: string };
type Waiting = { readonly resolve: (text: string) => void; readonly reject: (error: Error) => void };

/**
 * Cedar (WebAssembly) in a thread of its own, with its own memory, no environment and a deadline for every order. Deep
 * nesting kills an instance for good and a policy may take for ever to read: both end the thread, and nothing else.
 */
export function openCedarThread(options: { readonly deadlineMs?: number } = {}): CedarThread {
  const { deadlineMs = DEADLINE_MS } = options;
  const worker = new Worker(THREAD, {
    resourceLimits: LIMITS,
    execArgv: [],
    env: {},
    stdout: true,
    stderr: true,
  });
  worker.unref();
  let dead: BoundaryError | null = null;
  let waiting: Waiting | null = null;
  let timer: NodeJS.Timeout | undefined;

  function settle(work: (waiting: Waiting) => void): void {
    clearTimeout(timer);
    const who = waiting;
    waiting = null;
    worker.unref();
    if (who) work(who);
  }

  function die(why: string): void {
    dead ??= new BoundaryError("policy-trapped", why);
    const error = dead;
    settle(({ reject }) => reject(error));
    void worker.terminate();
  }

  worker.on("message", ({ ok, text }: Reply) =>
    settle(({ resolve, reject }) => (ok ? resolve(text) : reject(new BoundaryError("policy-invalid", text)))),
  );
  worker.on("messageerror", () => die("Cedar's thread said something that cannot be read"));
  worker.on("error", (error) => die(`Cedar's thread died: ${renderErrorChain(error)}`));
  worker.on("exit", () => die("Cedar's thread ended"));

  return {
    ask: (order: CedarOrder) =>
      new Promise((resolve, reject) => {
        if (dead) return reject(dead);
        if (waiting)
          return reject(new BoundaryError("internal", "Cedar's thread is asked one thing at a time"));
        waiting = { resolve, reject };
        // held only while somebody waits
        worker.ref();
        timer = setTimeout(() => die(`Cedar's thread did not answer within ${deadlineMs} ms`), deadlineMs);
        // oxlint-disable-next-line unicorn/require-post-message-target-origin -- to a thread, not to a window
        return worker.postMessage(order);
      }),
    end: () => die("Cedar's thread was ended"),
  };
}
