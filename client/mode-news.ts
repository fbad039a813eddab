import type { Assurance } from "../daemon/core/assurance.ts";
import { BoundaryError, renderErrorChain } from "../daemon/core/errors.ts";
import { MODES, type Mode } from "../daemon/core/mode.ts";
import type { Client as Control, Outcome } from "./control.ts";
import { createLink, type LinkState } from "./link.ts";
import { refusalOf } from "./refusal.ts";

/**
 * What is known of the mode. `missed`: changes may have come and gone since the last news, for the connection was lost
 * meanwhile. "unknown": the connection is lost now; whoever keeps an answer of the daemon's should keep it no longer.
 */
export type ModeNews =
  | {
      readonly kind: "mode";
      readonly wanted: Mode;
      readonly applied: Mode | null;
      readonly assurance: Assurance;
      readonly missed: boolean;
    }
  | { readonly kind: "unknown"; readonly why: string };

type Seen = { readonly wanted: Mode; readonly applied: Mode | null; readonly assurance: Assurance };

/**
 * Follows the mode over a connection of its own (one event comes per record of the log, and must not hold up
 * decisions), until the function it gives back is called. News come in order, never from within a call of ours.
 */
export function followMode(open: () => Promise<Control>, tell: (news: ModeNews) => void): () => void {
  let told: ModeNews | null = null;
  let hadMode = false;

  function say(news: ModeNews): void {
    told = news;
    // what the caller's function throws is the caller's, and must not end up in our connection
    queueMicrotask(() => tell(news));
  }

  function saw(seen: Seen): void {
    if (told?.kind === "mode" && isSame(told, seen)) return;
    const missed = told?.kind === "unknown" && hadMode;
    hadMode = true;
    say({ kind: "mode", ...seen, missed });
  }

  // subscribed before it is looked at, so that nothing falls between; a failure of either is a failed attempt
  async function follow(): Promise<Control> {
    const control = await open();
    const look = lookAgain(control, saw);
    control.onEvent((event) => {
      if (event.kind.startsWith("mode.") || event.kind.startsWith("hold.")) look();
    });
    try {
      dataOf(await control.call("events.subscribe", {}));
      saw(await seenOf(control));
      return control;
    } catch (error) {
      control.close();
      throw error;
    }
  }

  function changed(state: LinkState): void {
    if (state.kind !== "down" || told?.kind === "unknown" || state.why.code === "cancelled") return;
    say({ kind: "unknown", why: renderErrorChain(state.why) });
  }

  const link = createLink({ open: follow, changed });
  return link.close;
}

/** Asks for the status, once more after the one under way when it is called meanwhile. */
function lookAgain(control: Control, saw: (seen: Seen) => void): () => void {
  let looking = false;
  let again = false;
  async function look(): Promise<void> {
    looking = true;
    do {
      again = false;
      saw(await seenOf(control));
    } while (again);
    looking = false;
  }
  return () => {
    again = true;
    // what cannot be read here is not ours to go on with: the connection is made anew
    if (!looking) look().catch(() => control.close());
  };
}

async function seenOf(control: Control): Promise<Seen> {
  const { mode, assurance } = dataOf(await control.call("status", {}));
  const wanted = MODES.find((one) => one === mode.wanted);
  const applied = mode.applied === null ? null : MODES.find((one) => one === mode.applied);
  const known = (["enforced", "observed", "failed"] as const).find((one) => one === assurance);
  if (wanted === undefined || applied === undefined || known === undefined)
    throw new BoundaryError("reply-invalid", "reading the reply to status: it has no mode or assurance");
  return { wanted, applied, assurance: known };
}

function dataOf<T>(outcome: Outcome<T>): T {
  if (outcome.ok) return outcome.data;
  throw refusalOf(outcome.problem);
}

function isSame(one: Seen, other: Seen): boolean {
  return one.wanted === other.wanted && one.applied === other.applied && one.assurance === other.assurance;
}
