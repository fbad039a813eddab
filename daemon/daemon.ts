import type { AuditLog } from "./audit/log.ts";
import type { Data, Entry } from "./audit/record.ts";
import type { Baseline, Before } from "./baseline.ts";
import type { Config } from "./core/config.ts";
import { reorder, step } from "./core/machine.ts";
import type { Mode } from "./core/mode.ts";
import { createRepeats } from "./core/repeats.ts";
import { type Facts, type Signal, signalKey } from "./core/signal.ts";
import type { Start } from "./core/start.ts";
import { type Answer, type Input, initialState, type State, type Step } from "./core/state.ts";
import { behind, match, type Tripwire } from "./core/tripwire.ts";
import type { Enforcer } from "./enforce.ts";
import type { Clock, Notifier, OpLog, SignalSource } from "./ports.ts";
import type { Assurance } from "./protocol/messages.ts";

/**
 * The loop. Everything that happens comes in here as an input: `step` decides, the kernel is told, the records are
 * appended, and what came of it is the next input. daemon/README.md tells the life of a signal and of a request.
 *
 * One owner: only `dispatch` writes `state`. Nothing in here waits before a tightening.
 */
export type Parts = {
  readonly config: Config;
  readonly tripwires: readonly Tripwire[];
  readonly clock: Clock;
  readonly log: AuditLog;
  /** What is wrong with the log's file underneath us, or null. */
  readonly logDamage: () => { readonly what: string; readonly detail: string } | null;
  readonly enforcer: Enforcer;
  readonly baseline: Baseline;
  readonly sensors: readonly SignalSource[];
  readonly notifier: Notifier;
  readonly opLog: OpLog;
};

/** What a request gets: the machine's answer, and when everything it recorded is durable. */
export type Outcome = { readonly answer: Answer; readonly durable: Promise<unknown>; readonly seq: number };

export type Daemon = {
  /** Records the start, tells the kernel, looks at what changed while nobody watched, and starts the sensors. */
  begin(started: Data, before: Before): Promise<void>;
  submit(signal: Signal): void;
  /** Asks the machine. Refusals are answers. Never rejects. */
  ask(make: (request: number) => Input): Promise<Outcome>;
  /** Appends a record that is no mode change (a decision, a refusal). Rejects when it cannot be made durable. */
  record(entry: Entry): { readonly seq: number; readonly durable: Promise<unknown> };
  /** Records that somebody asked for what he may not have; repeats are counted. */
  refused(data: Data): void;
  /** Once a heartbeat: the deadlines, the kernel's dead-man, the log, the service manager's watchdog. */
  tick(): void;
  /** A clean stop, recorded first. Resolves when everything is on disk and the kernel keeps the rules without us. */
  stop(why: string): Promise<"recorded" | "not-recorded">;
  state(): State;
  assurance(): Assurance;
  /** RFC 3339: since when the mode is wanted. */
  since(): string;
  /** RFC 3339: when the kernel's rules were last read back and matched; "" when never. */
  rulesCheckedAt(): string;
  fired(): ReadonlyMap<string, number>;
  stopping(): boolean;
};

export function createDaemon(
  parts: Parts,
  start: Start,
  firedBefore: Readonly<Record<string, number>>,
): Daemon {
  const { config, clock, log, enforcer, opLog } = parts;
  const settings = {
    coolDownMs: config.ceremony.coolDownMs,
    ceremonyLifeMs: config.ceremony.lifeMs,
    people: config.ceremony.people,
    requireTerminal: config.ceremony.requireTerminal,
  };
  const nowMs = () => Number(clock.monoNs() / 1_000n) / 1_000;
  const waiting = new Map<number, (outcome: Outcome) => void>();
  const repeats = createRepeats(config.sensors.repeatWindowMs);
  const fired = new Map(Object.entries(firedBefore));
  let state = initialState(start.mode, start.epoch, start.cause); // only dispatch and order write this
  const blindNow = new Set<string>();
  let requests = 0;
  let stopping = false;
  let rulesCheckedMs: number | null = null;
  let sealedMs = 0;
  let tickedMs = nowMs();
  let sinceMs = clock.wallMs();

  function dispatch(input: Input): void {
    carryOut(step(state, input, settings, nowMs()), input);
  }

  /** The kernel first, then the records, then whoever waits; and what the kernel said is the next input. */
  function carryOut(result: Step, input: Input | null): void {
    if (result.state.wanted !== state.wanted) sinceMs = clock.wallMs();
    state = result.state;
    const outcome = result.enforce ? enforcer.apply(result.enforce.mode) : null;
    const told =
      result.repeat && input?.kind === "trip" && !repeats.first(repeatKey(input), nowMs())
        ? []
        : result.records;
    const receipts = told.map(append);
    const durable = Promise.all(receipts.map((receipt) => receipt.durable));
    durable.catch(() => undefined); // every failure is answered by whoever waits, and by log.onFailed
    const seq = receipts.at(-1)?.seq ?? -1;
    for (const { request, answer } of result.answers) settle(request, { answer, durable, seq });
    if (result.awaits !== null) awaitLog(result.awaits, durable);
    if (result.enforce && outcome) dispatch(kernelSaid(result.enforce, outcome));
  }

  function kernelSaid(order: { mode: Mode; attempt: number }, outcome: ReturnType<Enforcer["apply"]>): Input {
    if (!outcome.ok) {
      opLog.error({ mode: order.mode, why: outcome.why }, "the kernel did not take the rules");
      return { kind: "enforce-failed", attempt: order.attempt, why: outcome.why };
    }
    rulesCheckedMs = clock.wallMs();
    return { kind: "enforced", attempt: order.attempt, mode: order.mode, how: outcome.how };
  }

  function awaitLog(loosening: number, durable: Promise<unknown>): void {
    durable.then(
      () => dispatch({ kind: "logged", loosening }),
      () => dispatch({ kind: "log-failed", loosening }),
    );
  }

  function settle(request: number, outcome: Outcome): void {
    waiting.get(request)?.(outcome);
    waiting.delete(request);
  }

  /** Appends; a failure comes as the receipt's rejection, never as an exception in the middle of a step. */
  function append(entry: Entry): { seq: number; durable: Promise<unknown> } {
    try {
      const receipt = log.append(entry);
      receipt.durable.catch(() => undefined);
      return receipt;
    } catch (error) {
      opLog.error({ err: error, kind: entry.kind }, "a record could not be appended");
      const durable = Promise.reject(error);
      durable.catch(() => undefined);
      return { seq: -1, durable };
    }
  }

  function submit(signal: Signal): void {
    opLog.info({ signal: signal.kind, ...signal.facts }, "signal");
    if (signal.kind === "clock.moved") dispatch({ kind: "freeze", why: clockWhy(signal.facts) });
    if (signal.kind === "rules.changed") dispatch({ kind: "unconfirmed", why: signal.facts["detail"] ?? "" });
    if (signal.kind === "sensor.blind") blind(signal);
    const wires = armed(signal);
    for (const wire of wires) fire(wire, signal);
    const path = signal.facts["path"];
    if (path === undefined) return;
    if (wires.some((wire) => wire.action.kind === "trip")) parts.baseline.tripped(path);
    else parts.baseline.noted(path);
  }

  /** Armed in the mode we want or in the one the kernel still holds: between the two, both count. */
  function armed(signal: Signal): readonly Tripwire[] {
    const now = match(parts.tripwires, signal, state.wanted);
    const held =
      state.applied === null || state.applied === state.wanted
        ? []
        : match(parts.tripwires, signal, state.applied);
    return [...new Set([...now, ...held])];
  }

  function fire(wire: Tripwire, signal: Signal): void {
    fired.set(wire.id, (fired.get(wire.id) ?? 0) + 1);
    const facts = { signal: signal.kind, seen: String(signal.seenNs), ...signal.facts };
    if (wire.action.kind === "note") {
      const first = repeats.first(`${wire.id} ${signalKey(signal)}`, nowMs());
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
    if (repeats.first(signalKey(signal), nowMs())) append({ kind: "sensor.blind", data: { sensor, why } });
    for (const wire of behind(parts.tripwires, sensor, state.wanted)) {
      if (wire.whenBlind === "trip") fire(wire, signal);
    }
  }

  function refused(data: Data): void {
    const key = `request.refused ${JSON.stringify([data["uid"] ?? "", data["verb"] ?? ""])}`;
    if (repeats.first(key, nowMs())) append({ kind: "request.refused", data });
  }

  function tick(): void {
    stalled();
    dispatch({ kind: "tick" });
    heartbeat();
    const damage = parts.logDamage();
    if (damage) submit({ kind: "log.damaged", facts: damage, seenNs: clock.monoNs() });
    for (const entry of repeats.drain(nowMs())) append(repeatRecord(entry));
    if (nowMs() - sealedMs >= config.log.sealEveryMs) seal();
    parts.baseline.tick();
    sensorsRestored();
    parts.notifier.watchdog();
  }

  function sensorsRestored(): void {
    for (const sensor of parts.sensors) {
      const isBlind = sensor.health().state === "blind";
      if (!isBlind && blindNow.delete(sensor.name))
        append({ kind: "sensor.restored", data: { sensor: sensor.name } });
    }
  }

  /** A loop that stood still watched nothing, and the kernel has closed meanwhile: the log says how long. */
  function stalled(): void {
    const stoodMs = Math.round(nowMs() - tickedMs);
    tickedMs = nowMs();
    if (stoodMs < config.enforcement.deadManMs) return;
    const since = new Date(clock.wallMs() - stoodMs).toISOString();
    append({ kind: "gap", data: { since, ended: "stall", milliseconds: stoodMs, count: 0, changes: [] } });
  }

  /** The kernel lives on only while what it holds is what we want: anything else is left to the dead-man. */
  function heartbeat(): void {
    if (enforcer.how !== "kernel" || state.applied !== state.wanted) return;
    const beat = enforcer.heartbeat();
    if (beat.ok) rulesCheckedMs = clock.wallMs();
    else
      submit({
        kind: "rules.changed",
        facts: { what: beat.what, detail: beat.detail },
        seenNs: clock.monoNs(),
      });
  }

  function seal(): void {
    sealedMs = nowMs();
    log.seal().catch(() => undefined); // log.onFailed tells it
  }

  async function begin(started: Data, before: Before): Promise<void> {
    if (start.frozen !== "") state = { ...state, frozen: { why: start.frozen, sinceMs: nowMs() } };
    const { kind, why } = start.cause;
    append({
      kind: "daemon.started",
      data: { ...started, wanted: state.wanted, epoch: state.epoch, cause: kind, why, frozen: start.frozen },
    });
    carryOut(reorder(state), null);
    const found = await parts.baseline.begin(before);
    await Promise.all(parts.sensors.map((sensor) => sensor.start((signal) => submitLive(signal))));
    for (const signal of found) submit(signal);
    seal();
  }

  function submitLive(signal: Signal): void {
    if (!stopping) submit(signal);
  }

  async function stop(why: string): Promise<"recorded" | "not-recorded"> {
    if (stopping) return "not-recorded";
    stopping = true;
    parts.notifier.stopping();
    dispatch({ kind: "stop", why });
    for (const entry of repeats.drainAll()) append(repeatRecord(entry));
    const { wanted, epoch, frozen } = state;
    const stopped = append({
      kind: "daemon.stopped",
      data: { wanted, epoch, why, frozen: frozen?.why ?? "" },
    });
    const recorded = await stopped.durable.then(
      () => true,
      () => false,
    );
    // Only a recorded stop may leave rules that nobody renews; otherwise the dead-man closes, and the next start is LOCKDOWN.
    if (recorded && state.applied === wanted) enforcer.settle(wanted);
    await Promise.all(parts.sensors.map((sensor) => sensor.stop()));
    await log.close();
    return recorded ? "recorded" : "not-recorded";
  }

  function assurance(): Assurance {
    if (state.applied !== state.wanted) return "failed";
    if (enforcer.how === "observed") return "observed";
    return degraded() ? "observed" : "enforced";
  }

  function degraded(): boolean {
    const blindSensors = parts.sensors.filter((sensor) => sensor.health().state === "blind");
    return blindSensors.some((sensor) => behind(parts.tripwires, sensor.name, state.wanted).length > 0);
  }

  return {
    begin,
    submit: submitLive,
    ask(make) {
      const request = ++requests;
      return new Promise((resolve) => {
        waiting.set(request, resolve);
        dispatch(make(request));
      });
    },
    record: append,
    refused,
    tick,
    stop,
    state: () => state,
    since: () => new Date(sinceMs).toISOString(),
    assurance,
    rulesCheckedAt: () => (rulesCheckedMs === null ? "" : new Date(rulesCheckedMs).toISOString()),
    fired: () => fired,
    stopping: () => stopping,
  };
}

function repeatKey(input: Extract<Input, { kind: "trip" }>): string {
  const { seen: _seen, ...facts } = input.facts;
  return `${input.tripwire} ${JSON.stringify(facts)}`;
}

function repeatRecord(entry: { key: string; count: number }): Entry {
  return { kind: "tripwire.repeated", data: { cause: entry.key.slice(0, 2_000), count: entry.count } };
}

function describe(facts: Facts): string {
  return Object.entries(facts)
    .map(([name, value]) => `${name} ${value}`)
    .join(", ");
}

function clockWhy(facts: Facts): string {
  return `the wall clock moved by ${facts["milliseconds"] ?? "?"} ms (${facts["change"] ?? "?"})`;
}
