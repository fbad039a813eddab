import { ENFORCING, type Held, type Holding, type HoldMemory, lasting } from "./held.ts";
import type { Hold } from "./hold.ts";
import { isStricter, type Mode } from "./mode.ts";
import type { Cause } from "./state.ts";

/** What the log and the remembered head say of the time before this start. Missing and unreadable are different things. */
export type History =
  | { readonly kind: "none" }
  | {
      readonly kind: "clean";
      readonly wanted: Mode;
      readonly epoch: number;
      readonly frozen: string;
      readonly held: HoldMemory;
    }
  | {
      readonly kind: "crash";
      readonly wanted: Mode;
      readonly epoch: number;
      readonly frozen: string;
      readonly held: HoldMemory;
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

/** The hold of a start, and whether it has to be recorded before anything is opened. */
export type StartHold =
  | (Holding & {
      /** The log says it already. */
      readonly change: null;
    })
  | {
      readonly held: Held;
      /** `from`: what the log says so far. Beneath a release of this boot it stays. */
      readonly change: { readonly from: Hold; readonly by: "first-start" | "boot-parameter" };
    };

/** The hold that a start takes up, and beneath it the one of the next boot. */
export function takenUp(start: StartHold): Holding {
  if (start.change === null) return start;
  const { held, change } = start;
  return { held, base: held.lasts === "boot" ? change.from : held.hold };
}

/** The hold of a start while what it takes up is no record yet: what the log says so far. */
export function heldSoFar(start: StartHold): Holding {
  return start.change === null ? start : lasting({ hold: start.change.from, lasts: "always" });
}

/**
 * How firmly a start holds its mode. A first start as it is configured; later ones as the log says, after a crash too: a
 * crash opens nothing that was closed, and closes nothing that a person opened. Where the log cannot be believed:
 * enforcing. The boot parameter counts once a boot, so that a person's `enforce` after it outlives a restart.
 */
export function holdIn(
  history: History,
  asked: { readonly firstStart: "enforce" | "shadow"; readonly parameter: boolean; readonly boot: string },
): StartHold {
  switch (history.kind) {
    case "none":
      if (asked.parameter) return released("enforcing");
      return asked.firstStart === "shadow"
        ? { held: { hold: "shadow", lasts: "always" }, change: { from: "enforcing", by: "first-start" } }
        : { ...lasting(ENFORCING), change: null };
    case "clean":
    case "crash": {
      const { hold, parameterBoot, releasedBoot } = history.held;
      if (!asked.parameter) return { ...lasting({ hold, lasts: "always" }), change: null };
      if (parameterBoot !== asked.boot) return released(hold);
      const held: Held =
        releasedBoot === asked.boot ? { hold: "released", lasts: "boot" } : { hold, lasts: "always" };
      return { held, base: hold, change: null };
    }
    case "broken":
    case "unreadable":
      return { ...lasting(ENFORCING), change: null };
  }
}

/** For the record, and for a person. */
export const WHY_HELD = {
  "first-start": "a first start, with enforcement.firstStart: shadow",
  "boot-parameter": "boundary.release=1 on the kernel's command line",
} as const;

function released(from: Hold): StartHold {
  return { held: { hold: "released", lasts: "boot" }, change: { from, by: "boot-parameter" } };
}
