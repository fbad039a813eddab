import { type Backoff, jitteredMs } from "../daemon/core/backoff.ts";
import { BoundaryError } from "../daemon/core/errors.ts";
import type { Client as Control } from "./control.ts";

/** A connection that is made again whenever it is lost, until `close`. */
export type Link = {
  readonly state: () => LinkState;
  close(): void;
};

/** down: there is no connection, and no attempt under way; `why` is what the last one failed with. */
export type LinkState =
  | { readonly kind: "up"; readonly control: Control }
  | { readonly kind: "trying" }
  | { readonly kind: "down"; readonly why: BoundaryError };

type LinkMeans = {
  /** Makes one attempt. Rejects with BoundaryError. */
  readonly open: () => Promise<Control>;
  /** The state has become "up" or "down". */
  readonly changed: (state: LinkState) => void;
};

const BACKOFF: Backoff = { firstMs: 25, mostMs: 1_000 };
/** A connection that ends sooner counts as a failed attempt, or one that is refused at once would be a loop. */
const GOOD_AFTER_MS = 1_000;

/** Begins the first attempt at once; later ones follow with back-off and full jitter. */
export function createLink({ open, changed }: LinkMeans): Link {
  let state: LinkState = { kind: "trying" };
  let failures = 0;
  let timer: NodeJS.Timeout | undefined;
  let closed = false;

  function move(next: LinkState): void {
    state = next;
    changed(next);
  }

  function attempt(): void {
    state = { kind: "trying" };
    open().then(up, down);
  }

  function up(control: Control): void {
    if (closed) {
      control.close();
      return;
    }
    const sinceMs = performance.now();
    const lost = (why: unknown): void => {
      if (performance.now() - sinceMs >= GOOD_AFTER_MS) failures = 0;
      down(why);
    };
    move({ kind: "up", control });
    control.ended.then(() => lost(new BoundaryError("no-daemon", "the connection was closed")), lost);
  }

  function down(error: unknown): void {
    if (closed) return;
    const why =
      error instanceof BoundaryError ? error : new BoundaryError("internal", "connecting", { cause: error });
    failures += 1;
    timer = setTimeout(attempt, jitteredMs(BACKOFF, failures, Math.random()));
    move({ kind: "down", why });
  }

  function close(): void {
    if (closed) return;
    closed = true;
    clearTimeout(timer);
    const control = state.kind === "up" ? state.control : null;
    move({ kind: "down", why: new BoundaryError("cancelled", "the client was closed") });
    control?.close();
  }

  attempt();
  return { state: () => state, close };
}
