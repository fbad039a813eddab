import { Worker } from "node:worker_threads";
import { renderErrorChain } from "../core/errors.ts";
import type { Inventory } from "../core/inventory.ts";

export type InventoryKeeper = {
  start(): void;
  stop(): Promise<void>;
  /** The newest one, or why there is none yet. */
  latest(): Inventory | { readonly missing: string };
};

/** The same file beside this one: .ts in development, .js when built. */
const WORKER = new URL(`./inventory-worker${import.meta.url.slice(-3)}`, import.meta.url);
const DEADLINE_MS = 30_000;
const HEAP_MB = 64;
/** All of the environment: PATH of whoever started us would choose which programs run, with our rights. */
const ENVIRONMENT = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C" };

/**
 * Takes the inventory by `systeminformation`, at start and every `everyMs`, in a thread that lives only for it: its
 * networkInterfaces() holds its thread for 100 ms (it starts shells and waits for them, some 70 ms of CPU). Of its
 * calls we use that one and system(); neither opens a socket (strace). osInfo() is not used: it runs `hostname -f`,
 * which asks DNS.
 *
 * The one exception to "programs start in run.ts": the library starts its own, by name, through /bin/sh. They find the
 * thread's environment, which holds fixed directories and nothing of the caller's. What it says is for people only: no
 * decision reads it (a test holds that), so a false name of an interface can mislead a reader, and nothing else.
 */
export function createInventory(options: {
  readonly everyMs: number;
  readonly wallMs: () => number;
}): InventoryKeeper {
  let latest: Inventory | { missing: string } = { missing: "not taken yet" };
  let timer: NodeJS.Timeout | undefined;
  let worker: Worker | undefined;
  let deadline: NodeJS.Timeout | undefined;

  function take(): void {
    if (worker) return;
    const resourceLimits = { maxOldGenerationSizeMb: HEAP_MB };
    const started = new Worker(WORKER, { resourceLimits, execArgv: [], env: ENVIRONMENT });
    worker = started;
    started.unref();
    deadline = setTimeout(() => void started.terminate(), DEADLINE_MS);
    deadline.unref();
    started.once("message", (found: Omit<Inventory, "takenAt">) => {
      latest = { takenAt: new Date(options.wallMs()).toISOString(), ...found };
    });
    started.once("error", (error) => {
      latest = { missing: renderErrorChain(error) };
    });
    started.once("exit", () => {
      clearTimeout(deadline);
      worker = undefined;
    });
  }

  return {
    start: () => {
      take();
      timer = setInterval(take, options.everyMs);
      timer.unref();
    },
    stop: async () => {
      clearInterval(timer);
      await worker?.terminate();
    },
    latest: () => latest,
  };
}
