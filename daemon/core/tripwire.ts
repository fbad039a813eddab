import type { Mode } from "./mode.ts";
import type { Facts, Signal, SignalKind } from "./signal.ts";

/**
 * A tripwire: which signals, in which modes, and what then. It can only note or tighten: no tripwire loosens.
 * `match` narrows by facts; every named fact must match. A missing fact name means "any".
 */
export type Tripwire = {
  readonly id: string;
  readonly on: SignalKind;
  readonly match: Readonly<Record<string, Matcher>>;
  readonly armed: readonly Mode[];
  readonly action: { readonly kind: "note" } | { readonly kind: "trip"; readonly to: Mode };
  /** What it means when the sensor behind it cannot see: as if it fired, or the assurance drops to "observed". */
  readonly whenBlind: "trip" | "degrade";
  /** What a difference found after an unwatched interval (the daemon was stopped cleanly) means. */
  readonly acrossStop: "trip" | "note";
};

/**
 * Values compare literally. For the fact "path", a value ending in "/" means everything below that directory.
 * `not` matches anything but the values.
 */
export type Matcher = { readonly values: readonly string[]; readonly negate: boolean };

/** The tripwires that a signal sets off in a mode, in the order of the file. Disarmed ones do not appear. */
export function match(tripwires: readonly Tripwire[], signal: Signal, mode: Mode): readonly Tripwire[] {
  return tripwires.filter(
    (wire) => wire.on === signal.kind && wire.armed.includes(mode) && factsMatch(wire.match, signal.facts),
  );
}

/** Which sensor a kind of signal comes from: what goes blind with it. */
export function sensorOf(
  kind: SignalKind,
): "files" | "network" | "usb" | "keys" | "rules" | "clock" | "none" {
  switch (kind) {
    case "file.changed":
    case "self.changed":
      return "files";
    case "network.link":
    case "network.address":
    case "network.route":
      return "network";
    case "usb.device":
    case "usb.changed":
      return "usb";
    case "usb.keystrokes":
      return "keys";
    case "rules.changed":
    case "rules.foreign":
      return "rules";
    case "clock.moved":
      return "clock";
    case "log.damaged":
    case "peer.probing":
    case "policy.disagreed":
    case "sensor.blind":
    case "selftest.event":
      return "none";
  }
}

/** The tripwires behind a blind sensor that are armed in a mode. */
export function behind(tripwires: readonly Tripwire[], sensor: string, mode: Mode): readonly Tripwire[] {
  return tripwires.filter((wire) => sensorOf(wire.on) === sensor && wire.armed.includes(mode));
}

/** The absolute paths that file tripwires name: what the file sensor has to watch. */
export function watchedPaths(tripwires: readonly Tripwire[]): readonly string[] {
  const paths = tripwires
    .filter((wire) => wire.on === "file.changed")
    .flatMap((wire) => wire.match["path"]?.values ?? []);
  return [...new Set(paths)];
}

function factsMatch(matchers: Tripwire["match"], facts: Facts): boolean {
  return Object.entries(matchers).every(([name, matcher]) => {
    const value = facts[name];
    if (value === undefined) return false; // a fact we did not get never satisfies a condition…
    const hit = matcher.values.some((wantedValue) => valueMatches(name, wantedValue, value));
    return hit !== matcher.negate;
  });
}

function valueMatches(name: string, wanted: string, value: string): boolean {
  if (name === "path" && wanted.endsWith("/")) return value.startsWith(wanted) || `${value}/` === wanted;
  return value === wanted;
}
