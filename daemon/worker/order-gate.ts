import { createHash } from "node:crypto";
import { ORDER_LIFETIME_MS, type OrderKey, type RunOrder, readOrder } from "../exec/run-order.ts";
import type { RefusalCode } from "./messages.ts";

/** What the gate is given of the host. Milliseconds of CLOCK_BOOTTIME. */
export type GateSettings = {
  readonly boot: string;
  readonly nowMs: () => number;
};

export type Admission =
  | { readonly ok: true; readonly order: RunOrder }
  | { readonly ok: false; readonly code: RefusalCode; readonly why: string };

export type OrderGate = {
  /** Whether this order may be run, now. An order that was admitted is used up, whatever comes of it. */
  admit(text: string, signature: string, stdin: Uint8Array, key: OrderKey): Admission;
  /** Whether it is too late for it by now: looking at its program takes time, and a host can sleep meanwhile. */
  isLate(order: Pick<RunOrder, "notAfterMs">): boolean;
};

/** Orders that may be remembered at a time: as many as can be live, a long way beyond what a daemon sends. */
const MAX_REMEMBERED = 65_536;
/** An order is dated before it arrives, on the same clock; this is for rounding. */
const ROUNDING_MS = 2;

/**
 * Looks at orders: the signature, the boot, the time, whether it was used, and whether this is the stdin it is for. What is
 * remembered is lost when the worker ends: so nothing is admitted that may have been signed before it began.
 */
export function createOrderGate({ boot, nowMs }: GateSettings): OrderGate {
  const beganMs = nowMs();
  /** Ids that were admitted, with the time from which they are too late in any case. */
  const used = new Map<string, number>();

  function forget(now: number): void {
    for (const [id, notAfterMs] of used) if (notAfterMs < now) used.delete(id);
  }

  function faultOf(order: RunOrder, stdin: Uint8Array, now: number): string | null {
    if (order.boot !== boot) return "it is of another boot";
    if (order.notAfterMs < now) return "it is too late for it";
    if (order.notAfterMs > now + ORDER_LIFETIME_MS + ROUNDING_MS) return "it would be good for too long";
    if (order.notAfterMs + ROUNDING_MS < beganMs + ORDER_LIFETIME_MS)
      return "it may be from before the worker began";
    if (used.has(order.id)) return "it was used already";
    if (createHash("sha256").update(stdin).digest("hex") !== order.stdinDigest)
      return "it is for another stdin";
    if (used.size >= MAX_REMEMBERED) return "too many orders are remembered";
    return null;
  }

  function admit(text: string, signature: string, stdin: Uint8Array, key: OrderKey): Admission {
    const read = readOrder(text, signature, key);
    if (!read.ok) return refused(read.why);
    const now = nowMs();
    forget(now);
    const fault = faultOf(read.order, stdin, now);
    if (fault !== null) return refused(fault);
    used.set(read.order.id, read.order.notAfterMs);
    return read;
  }

  return { admit, isLate: ({ notAfterMs }) => notAfterMs < nowMs() };
}

/** The id that an order says it has, to answer with; "" where it says none. Nothing is believed of it. */
export function claimedId(text: string): string {
  return /"id":"([0-9a-f]{32})"/.exec(text)?.[1] ?? "";
}

function refused(why: string): Admission {
  return { ok: false, code: "exec-order", why };
}
