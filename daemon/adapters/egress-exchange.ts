import type { Readable, Writable } from "node:stream";
import type { EgressLimits } from "../core/config.ts";
import type { Gate } from "../egress/gate.ts";
import type { Flow } from "../egress/ledger.ts";
import type { Dial } from "./egress-dial.ts";

/** What every connection through one run's proxy works with. */
export type Exchange = {
  readonly gate: Gate;
  readonly limits: EgressLimits;
  readonly plainPorts: readonly number[];
  readonly dial: Dial;
  /** Aborted when the run has lost the network: whatever is connected ends with it. */
  readonly signal: AbortSignal;
};

/** Ends by itself what stands still. */
export type Idle = { touch(): void; clear(): void };

/** `stop` is called once when nothing was touched for so long. */
export function createIdle(idleMs: number, stop: () => void): Idle {
  const timer = setTimeout(stop, idleMs);
  return { touch: () => void timer.refresh(), clear: () => clearTimeout(timer) };
}

export type Pump = {
  readonly from: Readable;
  readonly to: Writable;
  /** False: these bytes may not pass. */
  readonly count: Flow["sent"];
  readonly idle: Idle;
  readonly stop: (why: string) => void;
};

/** Passes all on, no faster than it is taken, and the end after it. */
export function pump({ from, to, count, idle, stop }: Pump): void {
  from.on("data", (chunk: Buffer) => {
    idle.touch();
    if (!count(chunk.length)) stop("the run has had all its bytes");
    else if (!to.write(chunk)) from.pause();
  });
  to.on("drain", () => {
    idle.touch();
    from.resume();
  });
  from.on("end", () => to.end());
}
