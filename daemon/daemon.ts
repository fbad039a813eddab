import type { AuditLog } from "./audit/log.ts";
import type { Data, Entry } from "./audit/record.ts";
import type { Baseline, Before } from "./baseline.ts";
import type { Assurance } from "./core/assurance.ts";
import type { Config } from "./core/config.ts";
import { roomAfter } from "./core/disk.ts";
import { BoundaryError, renderErrorChain } from "./core/errors.ts";
import type { Flow } from "./core/flow.ts";
import { sameHeld } from "./core/held.ts";
import type { Hold } from "./core/hold.ts";
import { reorder, step } from "./core/machine.ts";
import type { Mode } from "./core/mode.ts";
import { createRepeats, type Repeated } from "./core/repeats.ts";
import { isSegmentFull } from "./core/rotation.ts";
import type { FileChange, Signal } from "./core/signal.ts";
import { heldSoFar, type Start, type StartHold, takenUp, WHY_HELD } from "./core/start.ts";
import { type Answer, type Input, initialState, type Order, type State, type Step } from "./core/state.ts";
import { behind, type Tripwire } from "./core/tripwire.ts";
import type { Enforcer } from "./enforce.ts";
import type { IsolationControl } from "./isolation.ts";
import type { Clerk } from "./limits.ts";
import { createLookout } from "./lookout.ts";
import type { Clock, Notifier, OpLog, SignalSource } from "./ports.ts";
import type { Selftest } from "./selftest.ts";
import type { UsbControl } from "./usb.ts";

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
  /** What somebody else did to the log's key, or null. Rotation changes that file, so no file tripwire watches it. */
  readonly keyDamage: () => { readonly path: string; readonly change: FileChange } | null;
  /** Bytes that are free on the log's file system; null when it does not say. */
  readonly logRoom: () => number | null;
  readonly enforcer: Enforcer;
  readonly usb: Pick<UsbControl, "modeIs" | "look" | "tick" | "stop" | "failure">;
  readonly isolation: Pick<IsolationControl, "failure">;
  readonly baseline: Baseline;
  readonly selftest: Pick<Selftest, "failures" | "tick">;
  /** Whether a signal is the self-test's own doing, and so sets off nothing. */
  readonly isExpected: (signal: Signal) => boolean;
  readonly sensors: readonly SignalSource[];
  /** Whose records are beside the mode's. */
  readonly clerks: readonly Clerk[];
  readonly notifier: Notifier;
  /** Whether a connection of this host exists still. */
  readonly exists: (flow: Flow) => boolean;
  /** Each is told of every mode that comes to be wanted, at once: after the kernel, before the record. */
  readonly hearers?: readonly ((mode: Mode) => void)[];
  /** One of them failed: it may hold open what the mode closes, and only the end of this process is sure to close it. */
  readonly mustEnd?: (error: unknown) => void;
  /** Told whenever the hold has become another one. */
  readonly heldAs: (hold: Hold) => void;
  readonly opLog: OpLog;
};

/** What a request gets: the machine's answer, and when everything it recorded is durable. */
export type Outcome = { readonly answer: Answer; readonly durable: Promise<unknown>; readonly seq: number };

export type Daemon = {
  /** Records the start, tells the kernel, starts the sensors, and looks at what changed while nobody watched. */
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
  /** Packets refused since the present rules were loaded, by counter; empty when nothing is enforced. */
  drops(): Readonly<Record<string, number>>;
  /** RFC 3339: since when the mode is wanted. */
  since(): string;
  /** RFC 3339: when the kernel's rules were last read back and matched; "" when never. */
  rulesCheckedAt(): string;
  fired(): ReadonlyMap<string, number>;
  stopping(): boolean;
  /** RFC 3339: when the sensors were last asked how they are. */
  tickedAt(): string;
};

export function createDaemon(
  parts: Parts,
  start: Start & { readonly hold: StartHold },
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
  // only dispatch and begin write this; what a start opens is taken up by begin
  let state = initialState(start.mode, start.epoch, start.cause, heldSoFar(start.hold));
  let requests = 0;
  let promisedSeq = -1; // of the newest loosening's record
  let newestSeq = -1;
  let loosened: Promise<void> = Promise.resolve(); // the newest loosening has taken effect, or has not
  let stopped: Promise<"recorded" | "not-recorded"> | null = null;
  let closed = false;
  let begun = false;
  let rulesCheckedMs: number | null = null;
  let counted: { readonly atMs: number; readonly drops: Readonly<Record<string, number>> } = {
    atMs: Number.NEGATIVE_INFINITY,
    drops: {},
  };
  let keptLookMs = Number.NEGATIVE_INFINITY;
  let toldLeftOut = "";
  let sealedMs = 0;
  let rotating = false;
  let rotateAfterMs = 0;
  let tickedMs = nowMs();
  let tickedWallMs = clock.wallMs();
  let sinceMs = clock.wallMs();

  const lookout = createLookout({
    tripwires: parts.tripwires,
    baseline: parts.baseline,
    clock,
    opLog,
    repeats,
    fired,
    state: () => state,
    dispatch,
    append,
    nowMs,
  });

  function dispatch(input: Input): void {
    carryOut(step(state, input, settings, nowMs()), input);
  }

  /** The kernel first, then the records, then whoever waits; and what the kernel said is the next input. */
  function carryOut(result: Step, input: Input | null, usb: "too" | "later" = "too"): void {
    const changes = result.state.wanted !== state.wanted;
    const [heldBefore, keptBefore] = [state.held.hold, state.keep];
    if (changes) sinceMs = clock.wallMs();
    state = result.state;
    if (state.keep !== keptBefore) keptLookMs = nowMs();
    const gone = result.enforce && goneFlow(result.enforce);
    const outcome = result.enforce && give(result.enforce, gone);
    if (changes) tellHearers(state.wanted);
    tellLeftOut();
    const told =
      result.repeat && input?.kind === "trip" && !repeats.first(input.tripwire, repeatKey(input), nowMs())
        ? []
        : result.records;
    const receipts = told.map(append);
    const durable = Promise.all(receipts.map((receipt) => receipt.durable));
    durable.catch(() => undefined); // every failure is answered by whoever waits, and by log.onFailed
    if (result.enforce && usb === "too") parts.usb.modeIs(result.enforce.mode);
    if (result.awaits !== null) promisedSeq = receipts.at(-1)?.seq ?? -1;
    const seq = input?.kind === "logged" ? promisedSeq : (receipts.at(-1)?.seq ?? -1);
    for (const { request, answer } of result.answers) settle(request, { answer, durable, seq });
    if (result.awaits !== null) awaitLog(result.awaits, durable);
    if (gone) dispatch({ kind: "flow-ended", flow: gone }); // a newer order: what the kernel said of this one is old then
    if (result.enforce && outcome) dispatch(kernelSaid(result.enforce, outcome));
    if (changes) lookout.modeChanged();
    if (state.held.hold !== heldBefore) parts.heldAs(state.held.hold);
  }

  /** The flow that an order lets through, and nobody has any more: its ports are for whoever takes them next. */
  function goneFlow({ keep }: Order): Flow | null {
    return keep === null || parts.exists(keep) ? null : keep;
  }

  function give({ mode, hold, keep }: Order, gone: Flow | null): ReturnType<Enforcer["apply"]> {
    return enforcer.apply(mode, { hold, keep: gone === null ? keep : null });
  }

  function kernelSaid(order: Order, outcome: ReturnType<Enforcer["apply"]>): Input {
    if (!outcome.ok) {
      opLog.error({ mode: order.mode, why: outcome.why }, "the kernel did not take the rules");
      return { kind: "enforce-failed", attempt: order.attempt, why: outcome.why };
    }
    if (outcome.how === "kernel") rulesCheckedMs = clock.wallMs();
    return { kind: "enforced", attempt: order.attempt, mode: order.mode, how: outcome.how };
  }

  /** What the configuration asks for and the kernel does not have. Once: it goes with every order otherwise. */
  function tellLeftOut(): void {
    const left = enforcer.leftOut();
    if (left.join() === toldLeftOut) return;
    toldLeftOut = left.join();
    if (left.length > 0) opLog.warn({ left }, "the rules leave something out");
  }

  function awaitLog(loosening: number, durable: Promise<unknown>): void {
    loosened = durable.then(
      () => dispatch({ kind: "logged", loosening }),
      () => dispatch({ kind: "log-failed", loosening }),
    );
  }

  function settle(request: number, outcome: Outcome): void {
    waiting.get(request)?.(outcome);
    waiting.delete(request);
  }

  /** One that fails keeps neither the next one nor the record from coming. */
  function tellHearers(mode: Mode): void {
    for (const hear of parts.hearers ?? []) {
      try {
        hear(mode);
      } catch (error) {
        opLog.error({ mode, err: renderErrorChain(error) }, "a part of the daemon did not take up the mode");
        parts.mustEnd?.(error);
      }
    }
  }

  /** Appends; a failure comes as the receipt's rejection, never as an exception in the middle of a step. */
  function append(entry: Entry): { seq: number; durable: Promise<unknown> } {
    try {
      // the stop is the last record, or the next start takes it for a crash
      if (closed) throw new BoundaryError("log-unavailable", `a record of kind ${entry.kind} after the stop`);
      const receipt = log.append(entry);
      receipt.durable.catch(() => undefined);
      newestSeq = receipt.seq;
      return receipt;
    } catch (error) {
      opLog.error({ err: error, kind: entry.kind }, "a record could not be appended");
      const durable = Promise.reject(error);
      durable.catch(() => undefined);
      return { seq: -1, durable };
    }
  }

  function refused(data: Data): void {
    if (stopped !== null) return;
    const { uid = "", verb = "", why = "" } = data;
    // in groups: whoever is refused at decide.sock, which is open to anybody, hides nobody who is refused something else
    const group = ["request.refused", verb, why].map(String).join(" ");
    if (repeats.first(group, JSON.stringify([uid, verb, why]), nowMs()))
      append({ kind: "request.refused", data });
  }

  /** Before the disk is full: then the records of a fall still find room. */
  function lookAtRoom(): void {
    const freeBytes = parts.logRoom();
    const room = roomAfter(state.room, freeBytes, config.log.lowWaterBytes);
    if (room !== state.room) dispatch({ kind: "room", room, freeBytes: freeBytes ?? -1 });
  }

  /** An address and a port that nobody holds any more must not stay open for whoever takes them next. */
  function lookAtKept(): void {
    if (state.keep === null || nowMs() - keptLookMs < KEPT_LOOK_MS) return;
    keptLookMs = nowMs();
    if (!parts.exists(state.keep)) dispatch({ kind: "flow-ended", flow: state.keep });
  }

  function tick(): void {
    if (closed) return;
    stalled();
    lookAtRoom();
    lookAtKept();
    dispatch({ kind: "tick" });
    heartbeat();
    parts.usb.tick();
    const damage = log.damage();
    if (damage)
      lookout.submit({
        kind: "log.damaged",
        facts: { log: "core", ...damage },
        seenNs: clock.monoNs(),
      });
    const harm = parts.keyDamage();
    if (harm)
      lookout.submit({ kind: "self.changed", facts: { ...harm, part: "key" }, seenNs: clock.monoNs() });
    for (const entry of repeats.drain(nowMs())) append(repeatRecord(entry));
    for (const clerk of parts.clerks) clerk.tick();
    if (nowMs() - sealedMs >= config.log.sealEveryMs) seal();
    rotate();
    parts.baseline.tick();
    if (begun && stopped === null) parts.selftest.tick();
    lookout.restored(
      parts.sensors.map((sensor) => ({ name: sensor.name, isBlind: sensor.health().state === "blind" })),
    );
    parts.notifier.watchdog();
  }

  /** A loop that stood still watched nothing, and the kernel has closed meanwhile: the log says how long. */
  function stalled(): void {
    const stoodMs = Math.round(nowMs() - tickedMs);
    tickedMs = nowMs();
    tickedWallMs = clock.wallMs();
    if (stoodMs < config.enforcement.deadManMs) return;
    const since = new Date(clock.wallMs() - stoodMs).toISOString();
    append({ kind: "gap", data: { since, ended: "stall", milliseconds: stoodMs, count: 0, changes: [] } });
  }

  /** The kernel lives on only while what it holds is what we want: anything else is left to the dead-man. */
  function heartbeat(): void {
    if (enforcer.how !== "kernel" || state.applied !== state.wanted) return;
    const beat = enforcer.heartbeat();
    tellLeftOut();
    if (beat.ok) rulesCheckedMs = state.how === "kernel" ? clock.wallMs() : rulesCheckedMs;
    else
      lookout.submit({
        kind: "rules.changed",
        facts: { what: beat.what, detail: beat.detail },
        seenNs: clock.monoNs(),
      });
  }

  function seal(): void {
    sealedMs = nowMs();
    log.seal().catch(() => undefined); // log.onFailed tells it
  }

  /** A full segment ends, and its key with it. Without a next key the log goes on under the present one, and it is tried again. */
  function rotate(): void {
    if (state.room !== "ok") return; // a new file, and a reserve of its own, on a disk that is nearly full
    if (rotating || nowMs() < rotateAfterMs || !isSegmentFull(log.segment(), config.log, clock.wallMs()))
      return;
    rotating = true;
    log
      .rotate()
      .catch((error: unknown) => {
        rotateAfterMs = nowMs() + ROTATE_RETRY_MS;
        opLog.error({ err: renderErrorChain(error) }, "the log's segment could not be ended");
      })
      .finally(() => {
        rotating = false;
      });
  }

  async function begin(started: Data, before: Before): Promise<void> {
    if (start.frozen !== "") state = { ...state, frozen: { why: start.frozen, sinceMs: nowMs() } };
    const { kind, why } = start.cause;
    append({
      kind: "daemon.started",
      data: {
        ...started,
        wanted: state.wanted,
        hold: start.hold.held.hold,
        epoch: state.epoch,
        cause: kind,
        why,
        frozen: start.frozen,
      },
    });
    await orderFirst();
    if (stopped !== null) return;
    lookAtRoom();
    // The sensors first: what changes after their first look has a signal, what changed before it is in the gap.
    await Promise.all(parts.sensors.map(startSensor));
    if (stopped !== null) return;
    for (const signal of await parts.baseline.begin(before)) submitLive(signal);
    begun = true;
    seal();
  }

  /**
   * The first order. A first start in shadow and a boot parameter open: recorded first, and when they cannot be recorded,
   * or something trips meanwhile, not at all. Until then the network is as closed as the log says. Not USB: what were
   * taken away for an instant would not come back as it was.
   */
  async function orderFirst(): Promise<void> {
    const { change } = start.hold;
    if (change === null) return carryOut(reorder(state), null);
    carryOut(reorder(state), null, "later");
    const to = takenUp(start.hold);
    dispatch({ kind: "take-up", to, by: change.by, why: WHY_HELD[change.by] });
    await loosened;
    if (stopped === null && !sameHeld(state.held, to.held)) parts.usb.modeIs(state.wanted);
  }

  /** A sensor that does not come up in time is blind, and holds nothing up. */
  async function startSensor(sensor: SignalSource): Promise<void> {
    const up = sensor.start(submitLive).then(
      () => "",
      (error: unknown) => renderErrorChain(error),
    );
    const why = await Promise.race([up, after(SENSOR_START_MS, "did not start in time")]);
    if (why === "") return;
    const facts = { sensor: sensor.name, why };
    submitLive({ kind: "sensor.blind", facts, seenNs: clock.monoNs() });
  }

  function submitLive(signal: Signal): void {
    if (closed || parts.isExpected(signal)) return;
    // first: what it trips loads rules that name the new link already, and decides about the device too
    lookout.submit(signal);
    if (signal.kind === "network.link") followLinks();
    if (signal.kind === "usb.device") parts.usb.look();
  }

  /** Where the links are closed, the rules name each of them. What cannot be loaded is not confirmed any more, and is ordered anew. */
  function followLinks(): void {
    const outcome = enforcer.refresh();
    if (outcome !== null && !outcome.ok) dispatch({ kind: "unconfirmed", why: outcome.why });
  }

  function stop(why: string): Promise<"recorded" | "not-recorded"> {
    stopped ??= stopOnce(why);
    return stopped;
  }

  async function stopOnce(why: string): Promise<"recorded" | "not-recorded"> {
    parts.notifier.stopping();
    dispatch({ kind: "stop", why });
    for (const entry of repeats.drainAll()) append(repeatRecord(entry));
    for (const clerk of parts.clerks) clerk.stop();
    parts.usb.stop();
    const recorded = await recordStop(why);
    closed = true;
    // Only a recorded stop may leave rules that nobody renews; otherwise the dead-man closes, and the next start is LOCKDOWN.
    if (recorded && state.applied === state.wanted)
      enforcer.settle(state.wanted, { hold: state.held.hold, keep: null });
    const sensorsDown = Promise.allSettled(parts.sensors.map((sensor) => sensor.stop()));
    await Promise.race([sensorsDown, after(SENSOR_STOP_MS, null)]);
    await log.close();
    return recorded ? "recorded" : "not-recorded";
  }

  /** The stop has to be the last record. What comes while it is written, a trip above all, is taken, and the stop recorded again. */
  async function recordStop(why: string): Promise<boolean> {
    for (let tries = 0; tries < STOP_TRIES; tries++) {
      const { wanted, epoch, frozen } = state;
      const data = { wanted, epoch, why, frozen: frozen?.why ?? "" };
      const receipt = append({ kind: "daemon.stopped", data });
      const durable = await receipt.durable.then(
        () => true,
        () => false,
      );
      if (!durable) return false;
      if (newestSeq === receipt.seq) return true;
    }
    return false; // it does not come to rest: as good as a crash
  }

  function assurance(): Assurance {
    const failing =
      parts.selftest.failures().length > 0 || parts.usb.failure() !== "" || parts.isolation.failure() !== "";
    if (state.applied !== state.wanted || failing) return "failed";
    if (enforcer.how === "observed" || state.how === "observed" || state.keep !== null) return "observed";
    return enforcer.leavesOpen() || degraded() ? "observed" : "enforced";
  }

  /** Read from the kernel once a heartbeat at most, however often it is asked for. */
  function drops(): Readonly<Record<string, number>> {
    if (enforcer.how === "observed" || state.how !== "kernel") return {};
    if (nowMs() - counted.atMs >= config.enforcement.heartbeatMs) {
      const seen = enforcer.check();
      counted = { atMs: nowMs(), drops: seen?.same ? seen.drops : {} };
    }
    return counted.drops;
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
    drops,
    rulesCheckedAt: () => (rulesCheckedMs === null ? "" : new Date(rulesCheckedMs).toISOString()),
    fired: () => fired,
    stopping: () => stopped !== null,
    tickedAt: () => new Date(tickedWallMs).toISOString(),
  };
}

const SENSOR_START_MS = 10_000;
const SENSOR_STOP_MS = 1_000;
const STOP_TRIES = 5;
const KEPT_LOOK_MS = 1_000;
const ROTATE_RETRY_MS = 60_000;

/** A timer is an alarm here: it decides only that something takes too long. */
function after<T>(ms: number, value: T): Promise<T> {
  return new Promise((resolve) => setTimeout(resolve, ms, value).unref());
}

function repeatKey(input: Extract<Input, { kind: "trip" }>): string {
  const { seen: _seen, ...facts } = input.facts;
  return `${input.tripwire} ${JSON.stringify(facts)}`;
}

function repeatRecord({ group, key, count }: Repeated): Entry {
  return { kind: "tripwire.repeated", data: { tripwire: group, cause: key.slice(0, 2_000), count } };
}
