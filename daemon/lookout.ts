import type { Entry } from "./audit/record.ts";
import type { Baseline } from "./baseline.ts";
import type { Mode } from "./core/mode.ts";
import type { Repeats } from "./core/repeats.ts";
import { type Facts, type Signal, signalKey } from "./core/signal.ts";
import type { Input, State } from "./core/state.ts";
import { behind, match, type Tripwire } from "./core/tripwire.ts";
import type { Clock, OpLog } from "./ports.ts";

/** What the lookout needs of the loop that it reports to. */
export type LookoutParts = {
  readonly tripwires: readonly Tripwire[];
  readonly baseline: Baseline;
  readonly clock: Clock;
  readonly opLog: OpLog;
  readonly repeats: Repeats;
  readonly fired: Map<string, number>;
  readonly state: () => State;
  readonly dispatch: (input: Input) => void;
  readonly append: (entry: Entry) => void;
  readonly nowMs: () => number;
};

/** Turns signals into inputs of the machine: which tripwires they set off, in the mode of this instant. */
export type Lookout = {
  submit(signal: Signal): void;
  /** To be called when the mode has changed: it may arm tripwires behind a sensor that is blind already. */
  modeChanged(): void;
  /** Records the return of sensors that were blind and are not any more. */
  restored(sensors: readonly { readonly name: string; readonly isBlind: boolean }[]): void;
};

export function createLookout(parts: LookoutParts): Lookout {
  const { tripwires, baseline, clock, opLog, repeats, fired, state, dispatch, append, nowMs } = parts;
  const blindNow = new Set<string>();

  function submit(signal: Signal): void {
    opLog.info({ signal: signal.kind, ...signal.facts }, "signal");
    if (signal.kind === "clock.moved") dispatch({ kind: "freeze", why: clockWhy(signal.facts) });
    if (signal.kind === "rules.changed") dispatch({ kind: "unconfirmed", why: signal.facts["detail"] ?? "" });
    if (signal.kind === "sensor.blind") blind(signal);
    const wires = armed(signal);
    for (const wire of wires) fire(wire, signal);
    const path = signal.facts["path"];
    if (path === undefined) return;
    if (wires.some((wire) => wire.action.kind === "trip")) baseline.tripped(path);
    else baseline.noted(path);
  }

  /** Armed in the mode we want or in the one the kernel still holds: between the two, both count. */
  function armed(signal: Signal): readonly Tripwire[] {
    return [...new Set(modesNow().flatMap((mode) => match(tripwires, signal, mode)))];
  }

  function modesNow(): readonly Mode[] {
    const { wanted, applied } = state();
    return applied === null || applied === wanted ? [wanted] : [wanted, applied];
  }

  function fire(wire: Tripwire, signal: Signal): void {
    fired.set(wire.id, (fired.get(wire.id) ?? 0) + 1);
    const facts = { signal: signal.kind, seen: String(signal.seenNs), ...signal.facts };
    if (wire.action.kind === "note") {
      const first = repeats.first(wire.id, signalKey(signal), nowMs());
      if (first) append({ kind: "tripwire.noted", data: { tripwire: wire.id, facts } });
      return;
    }
    dispatch({ kind: "trip", tripwire: wire.id, to: wire.action.to, why: describe(signal.facts), facts });
  }

  /** A blind sensor is recorded, and counts as a trip for the tripwires that say so. */
  function blind(signal: Signal): void {
    const sensor = signal.facts["sensor"] ?? "";
    const why = signal.facts["why"] ?? "";
    blindNow.add(sensor);
    if (repeats.first("sensor.blind", signalKey(signal), nowMs()))
      append({ kind: "sensor.blind", data: { sensor, why } });
    tripBehind(sensor, signal);
  }

  function tripBehind(sensor: string, signal: Signal): void {
    const wires = new Set(modesNow().flatMap((mode) => behind(tripwires, sensor, mode)));
    for (const wire of wires) if (wire.whenBlind === "trip") fire(wire, signal);
  }

  /** A mode that arms tripwires behind a sensor that is blind already. */
  function modeChanged(): void {
    for (const sensor of blindNow) {
      const facts = { sensor, why: "blind since before the mode changed" };
      tripBehind(sensor, { kind: "sensor.blind", facts, seenNs: clock.monoNs() });
    }
  }

  function restored(sensors: Parameters<Lookout["restored"]>[0]): void {
    for (const { name, isBlind } of sensors) {
      if (!isBlind && blindNow.delete(name)) append({ kind: "sensor.restored", data: { sensor: name } });
    }
  }

  return { submit, modeChanged, restored };
}

function describe(facts: Facts): string {
  return Object.entries(facts)
    .map(([name, value]) => `${name} ${value}`)
    .join(", ");
}

function clockWhy(facts: Facts): string {
  return `the wall clock moved by ${facts["milliseconds"] ?? "?"} ms (${facts["change"] ?? "?"})`;
}
