import { MODES, type Mode } from "./mode.ts";
import type { Facts } from "./signal.ts";
import { addTo, emptyTally, settleTally, spanOf, type Tally } from "./tally.ts";
import type { Tripwire } from "./tripwire.ts";

/** As configured (`limits.probing`). 0 denials: nobody is watched for it. */
export type ProbingSettings = {
  readonly denials: number;
  readonly windowMs: number;
  readonly action: "note" | { readonly trip: Mode };
};

/** Who was refused. */
export type Refused = { readonly uid: number; readonly token: string | null };

/** Notices who is refused again and again: whoever looks for a way through. */
export type Probing = {
  /** The facts of a `peer.probing`, once a window and caller; null otherwise. Constant work, bounded room. */
  denied(caller: Refused, nowMs: number): Facts | null;
};

type Held = { readonly tally: Tally; toldMs: number };

const MAX_CALLERS = 1_024;
const OTHERS = "others";

export function createProbing({ denials, windowMs }: ProbingSettings): Probing {
  const span = spanOf(windowMs);
  const callers = new Map<string, Held>();

  function heldOf(name: string, nowMs: number): Held {
    const oldest = callers.entries().next().value;
    if (!callers.has(name) && callers.size >= MAX_CALLERS && oldest !== undefined) {
      settleTally(oldest[1].tally, nowMs);
      if (oldest[1].tally.total > 0) return remember(OTHERS);
      callers.delete(oldest[0]);
    }
    return remember(name);
  }

  function remember(name: string): Held {
    const held = callers.get(name) ?? { tally: emptyTally(span), toldMs: Number.NEGATIVE_INFINITY };
    callers.delete(name);
    callers.set(name, held);
    return held;
  }

  return {
    denied({ uid, token }, nowMs) {
      if (denials === 0) return null;
      const held = heldOf(token === null ? `uid ${uid}` : `token ${token}`, nowMs);
      settleTally(held.tally, nowMs);
      addTo(held.tally, nowMs);
      if (held.tally.total < denials || nowMs - held.toldMs < windowMs) return null;
      held.toldMs = nowMs;
      return {
        uid: String(uid),
        tokenId: token ?? "",
        denials: String(denials),
        milliseconds: String(windowMs),
      };
    },
  };
}

/** The tripwire of `limits.probing.action`, beside those of the file; none for "note", which the shipped ones do. */
export function probingTripwires({ action }: ProbingSettings): readonly Tripwire[] {
  if (action === "note") return [];
  return [
    {
      id: "limits-probing",
      on: "peer.probing",
      match: {},
      armed: MODES,
      action: { kind: "trip", to: action.trip },
      whenBlind: "degrade",
      acrossStop: "note",
    },
  ];
}
