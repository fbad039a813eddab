import { isStricter, type Mode } from "./mode.ts";
import type { Cause } from "./state.ts";

/** What the log and the remembered head say of the time before this start. Missing and unreadable are different things. */
export type History =
  | { readonly kind: "none" }
  | { readonly kind: "clean"; readonly wanted: Mode; readonly epoch: number; readonly frozen: string }
  | {
      readonly kind: "crash";
      readonly wanted: Mode;
      readonly epoch: number;
      readonly frozen: string;
      readonly lastAt: string;
    }
  | { readonly kind: "broken"; readonly why: string }
  | {
      readonly kind: "unreadable";
      readonly why: string;
      /** What the log tells for certain all the same: absent when it tells nothing. */
      readonly epoch?: number;
      readonly frozen?: string;
    };

export type Start = {
  readonly mode: Mode;
  readonly cause: Cause;
  readonly epoch: number;
  readonly frozen: string;
};

/**
 * The mode a daemon starts in. A first start takes the mode asked for on the command line, else the configured one.
 * After a clean stop the mode goes on; the command line can only tighten it. Anything else is LOCKDOWN.
 */
export function startIn(history: History, asked: Mode | null, configured: Mode): Start {
  switch (history.kind) {
    case "none":
      return {
        mode: asked ?? configured,
        cause: { kind: "initial", why: "first start: there is no log yet" },
        epoch: 0,
        frozen: "",
      };
    case "clean": {
      const mode = asked && isStricter(asked, history.wanted) ? asked : history.wanted;
      const why =
        asked && asked !== mode
          ? `after a clean stop in ${mode}; --mode ${asked} would loosen it and is passed over`
          : "after a clean stop";
      return { mode, cause: { kind: "resumed", why }, epoch: history.epoch, frozen: history.frozen };
    }
    case "crash":
      return closed(
        "crash",
        `the daemon did not stop cleanly; its last record is of ${history.lastAt}, in ${history.wanted}`,
        history,
      );
    case "broken":
      return closed("tampered", `log-tampered: ${history.why}`, { epoch: 0, frozen: "" });
    case "unreadable":
      return closed("unreadable", history.why, { epoch: history.epoch ?? 0, frozen: history.frozen ?? "" });
  }
}

function closed(kind: Cause["kind"], why: string, before: { epoch: number; frozen: string }): Start {
  return { mode: "LOCKDOWN", cause: { kind, why }, epoch: before.epoch + 1, frozen: before.frozen };
}
