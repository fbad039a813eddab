import { describe, expect, test } from "vitest";
import { emptyFold, type Fold, fold } from "../../daemon/audit/fold.ts";
import { type Entry, FIRST_PREV } from "../../daemon/audit/record.ts";
import type { Flow } from "../../daemon/core/flow.ts";
import { sameFlow } from "../../daemon/core/flow-text.ts";
import { ENFORCING, type Holding, lasting, sameHeld } from "../../daemon/core/held.ts";
import { step } from "../../daemon/core/machine.ts";
import { isLooser, type Mode, rank } from "../../daemon/core/mode.ts";
import {
  type Input,
  initialState,
  type Order,
  type Person,
  type Settings,
  type State,
  type Step,
} from "../../daemon/core/state.ts";

/**
 * Walks every interleaving, breadth first, of trips, requests, ceremonies, clock freezes, log successes and
 * failures, kernel successes and failures and time passing, and holds the invariants in every world it reaches.
 * A world is what the machine knows plus what is under way outside it.
 */
type Asked = { readonly loosening: number; readonly tightenings: number };
type World = {
  readonly state: State;
  readonly nowMs: number;
  /** Loosenings whose records are on their way to the disk, oldest first. */
  readonly log: readonly Asked[];
  /** Orders on their way to the kernel; any of them may be answered, in any order. */
  readonly kernel: readonly Order[];
  /** How many trips and tightenings there were: a loosening asked for before one must not take effect after it. */
  readonly tightenings: number;
  /** What the kernel last confirmed for the newest order, if it has; what `applied` may say. */
  readonly confirmed: Order | null;
  /** What a start would go on from: the fold of all records. null once a record was lost. */
  readonly folded: Fold | null;
};
type Move = { readonly name: string; readonly input: Input | null; readonly next: (world: World) => World };

const SETTINGS: Settings = { coolDownMs: 10, ceremonyLifeMs: 20, people: 1, requireTerminal: false };
const BY: Person = { uid: 0, name: "root", terminal: "" };
const CODE = "c".repeat(64);
const MAX_UNDER_WAY = 2;
const ALL = 60_000;
/** Enough to reach all that the tests name; all of them would take minutes. */
const MANY = 25_000;

const FLOW: Flow = {
  family: 4,
  localAddress: "10.0.0.1",
  localPort: 22,
  remoteAddress: "10.0.0.2",
  remotePort: 50_000,
};
const set = (request: number, to: Mode, over: Partial<Extract<Input, { kind: "set-mode" }>> = {}): Input => ({
  kind: "set-mode",
  request,
  to,
  by: BY,
  reason: "r",
  forMs: null,
  confirmMs: null,
  keep: null,
  ...over,
});

const same = (world: World): World => world;

/** Which of the newer inputs a walk takes: all of them together are more worlds than can be walked. */
type Walk = {
  readonly mode: Mode;
  readonly holding: Holding;
  /** What a start takes up, its record on the way. */
  readonly takesUp?: Holding;
  readonly extra: readonly Input[];
  readonly mostWorlds: number;
};

function moves(world: World, extras: readonly Input[]): readonly Move[] {
  const settled = (w: World) => w.log.slice(1);
  const always: Input[] = [
    { kind: "trip", tripwire: "t", to: "AIRGAP", why: "w", facts: {} },
    { kind: "trip", tripwire: "t", to: "LOCKDOWN", why: "w", facts: {} },
    set(1, "OPEN"),
    set(2, "AIRGAP", { forMs: 15 }),
    set(3, "LOCKDOWN"),
    set(4, "OPEN", { forMs: 15 }),
    ...extras,
    {
      kind: "ceremony-begin",
      request: 5,
      purpose: "leave-lockdown",
      id: "c",
      codeDigest: CODE,
      by: BY,
      reason: "r",
    },
    { kind: "ceremony-confirm", request: 6, codeDigest: CODE, by: BY },
    { kind: "ceremony-confirm", request: 7, codeDigest: "x", by: BY },
    { kind: "freeze", why: "w" },
    { kind: "unfreeze", request: 8, by: BY, reason: "r" },
    { kind: "unconfirmed", why: "w" },
    { kind: "tick" },
    { kind: "stop", why: "w" },
  ];
  const free = world.log.length < MAX_UNDER_WAY && world.kernel.length < MAX_UNDER_WAY;
  const list: Move[] = free ? always.map((input) => ({ name: describeInput(input), input, next: same })) : [];
  for (const entry of world.log.slice(0, 1)) {
    list.push({
      name: `logged ${describeAsked(world)}`,
      input: { kind: "logged", loosening: entry.loosening },
      next: (w) => ({ ...w, log: settled(w) }),
    });
    list.push({
      name: `log-failed ${describeAsked(world)}`,
      input: { kind: "log-failed", loosening: entry.loosening },
      next: (w) => ({ ...w, log: settled(w), folded: null }),
    });
  }
  for (const order of world.kernel) {
    const rest = (w: World) => w.kernel.filter((other) => other !== order);
    list.push({
      name: `enforced ${order.mode}`,
      input: {
        kind: "enforced",
        attempt: order.attempt,
        mode: order.mode,
        how: order.hold === "enforcing" ? "kernel" : "observed",
      },
      next: (w) => ({
        ...w,
        kernel: rest(w),
        confirmed: order.attempt === w.state.attempt ? order : w.confirmed,
      }),
    });
    list.push({
      name: `enforce-failed ${order.mode}`,
      input: { kind: "enforce-failed", attempt: order.attempt, why: "w" },
      next: (w) => ({ ...w, kernel: rest(w) }),
    });
  }
  list.push({ name: "time passes", input: null, next: (w) => ({ ...w, nowMs: w.nowMs + 10 }) });
  return list;
}

function describeInput(input: Input): string {
  return "to" in input && typeof input.to === "string" ? `${input.kind} ${input.to}` : input.kind;
}

function describeAsked(world: World): string {
  const { loosening } = world.state;
  if (!loosening || loosening.number !== world.log[0]?.loosening) return "a lapsed one";
  return loosening.request === null ? "a deadline's" : `request ${loosening.request}`;
}

function advance(world: World, move: Move): World {
  const before = move.next(world);
  if (!move.input) return before;
  const result = step(world.state, move.input, SETTINGS, world.nowMs);
  const after = settle(before, move.input, result);
  holds(world, before, after, move, result);
  return after;
}

/** What the outside does with a step: records go to the log in order, an order goes to the kernel. */
function settle(world: World, input: Input, result: Step): World {
  const tightens =
    input.kind === "trip" ||
    input.kind === "stop" ||
    input.kind === "freeze" ||
    (result.state.epoch !== world.state.epoch && result.records.length > 0);
  const tightenings = world.tightenings + (tightens ? 1 : 0);
  return {
    ...world,
    state: result.state,
    tightenings,
    log: result.awaits === null ? world.log : [...world.log, { loosening: result.awaits, tightenings }],
    kernel: result.enforce ? [...world.kernel, result.enforce] : world.kernel,
    confirmed:
      result.enforce || input.kind === "unconfirmed" || input.kind === "enforce-failed"
        ? confirmedAfter(world, input, result)
        : world.confirmed,
    folded: world.folded && result.records.reduce(withEntry, world.folded),
  };
}

const BOOT = "b007";

function withEntry(before: Fold, { kind, data }: Entry): Fold {
  const record = { v: 1, seq: 0, at: "", mono: "0", boot: BOOT, kind, data, prev: FIRST_PREV } as const;
  return fold(before, record);
}

function confirmedAfter(world: World, input: Input, result: Step): Order | null {
  if (input.kind === "unconfirmed") return null;
  if (input.kind === "enforce-failed") return input.attempt === result.state.attempt ? null : world.confirmed;
  return world.confirmed; // a newer order is out; what was confirmed stays the kernel's until it is answered
}

function holds(was: World, before: World, after: World, move: Move, result: Step): void {
  const from = was.state;
  const to = after.state;
  const loosened = isLooser(to.wanted, from.wanted);
  const where = `${move.name} in ${JSON.stringify(from)}`;
  if (loosened) {
    if (move.input?.kind !== "logged") throw new Error(`loosened without a durable record: ${where}`);
    if (from.frozen) throw new Error(`loosened while frozen: ${where}`);
    const asked = was.log.find(
      (entry) => entry.loosening === (move.input as { loosening: number }).loosening,
    );
    if (!asked || asked.tightenings !== before.tightenings)
      throw new Error(`an older loosening undid a tightening: ${where}`);
    if (from.wanted === "LOCKDOWN" && (to.cause.kind !== "ceremony" || to.wanted !== "RESTRICTED")) {
      throw new Error(`LOCKDOWN left without a ceremony: ${where}`);
    }
  }
  if (move.input?.kind === "trip" && rank(to.wanted) < rank(move.input.to))
    throw new Error(`a trip did not tighten: ${where}`);
  if (move.input?.kind === "freeze" && to.loosening)
    throw new Error(`a loosening outlived a freeze: ${where}`);
  if (move.input?.kind === "trip" && to.epoch !== from.epoch + 1)
    throw new Error(`a trip bumped no epoch: ${where}`);
  if (move.input?.kind === "ceremony-confirm" && result.awaits !== null) {
    const begun = from.ceremony;
    const early = begun === null || was.nowMs < begun.readyAtMs || was.nowMs >= begun.expiresAtMs;
    if (early || move.input.codeDigest !== CODE)
      throw new Error(`a ceremony ended early or with a wrong code: ${where}`);
  }
  if (move.input?.kind === "trip" && (to.loosening || to.ceremony))
    throw new Error(`a loosening outlived a trip: ${where}`);
  if (to.applied !== null && to.applied !== after.confirmed?.mode)
    throw new Error(`applied ${to.applied} was not confirmed: ${where}`);
  if (to.applied === to.wanted) confirmedAsWanted(to, after.confirmed, where);
  holdsTheHold(was, before, after, move, where);
  setsWayBack(was, to, move, result, where);
  if (
    from.deadline &&
    rank(from.deadline.to) > rank(from.wanted) &&
    rank(to.wanted) < rank(from.deadline.to)
  ) {
    const kept = to.deadline?.to === from.deadline.to && to.deadline.atMs === from.deadline.atMs;
    if (!kept && (move.input?.kind !== "logged" || from.frozen))
      throw new Error(`a scheduled tightening was dropped: ${where}`);
  }
  if (to.wanted !== from.wanted && !result.enforce)
    throw new Error(`a change gave no order to the kernel: ${where}`);
  if (from.frozen && !to.frozen && move.input?.kind !== "logged")
    throw new Error(`unfrozen without a durable record: ${where}`);
  foldIsState(after, where);
}

/**
 * At every step, whatever is on its way: what a start would go on from is the state, or what the newest loosening makes of
 * it. But for the epoch, which guards loosenings in memory: one that no record named is made up for by the start's own.
 */
function foldIsState({ state, folded, nowMs }: World, where: string): void {
  if (folded === null) return;
  const promised = state.loosening && ({ kind: "logged", loosening: state.loosening.number } as const);
  const { wanted, frozen, held, base } =
    promised === null ? state : step(state, promised, SETTINGS, nowMs).state;
  const machine = [wanted, frozen?.why ?? "", base, held.lasts === "boot" ? BOOT : ""];
  const log = [folded.wanted, folded.frozen, folded.hold, folded.releasedBoot];
  if (JSON.stringify(log) !== JSON.stringify(machine) || folded.unreadable !== "")
    throw new Error(`the log says ${log.join()}, the machine ${machine.join()}: ${where}`);
  if (held.lasts === "always" && base !== held.hold)
    throw new Error(`a hold that lasts, and ${base} beneath: ${where}`);
}

/** "enforced" is said of a mode only when the kernel confirmed it under this hold and with this flow, or without one. */
function confirmedAsWanted(state: State, confirmed: Order | null, where: string): void {
  if (confirmed === null || confirmed.hold !== state.held.hold || !sameFlow(confirmed.keep, state.keep))
    throw new Error(`applied under another hold or with another flow: ${where}`);
  if ((state.how === "kernel") !== (state.held.hold === "enforcing"))
    throw new Error(`how ${state.how} in ${state.held.hold}: ${where}`);
}

function holdsTheHold(was: World, before: World, after: World, move: Move, where: string): void {
  const [from, to] = [was.state, after.state];
  const input = move.input;
  if (!sameHeld(from.held, to.held) && input?.kind !== "enforce") {
    if (input?.kind !== "logged") throw new Error(`the hold changed without a durable record: ${where}`);
    if (from.frozen) throw new Error(`the hold loosened while frozen: ${where}`);
    const asked = was.log.find((entry) => entry.loosening === input.loosening);
    if (!asked || asked.tightenings !== before.tightenings)
      throw new Error(`an older loosening undid the hold: ${where}`);
  }
  if (input?.kind === "enforce" && to.held.hold !== "enforcing")
    throw new Error(`enforce did not enforce: ${where}`);
  if (input?.kind === "enforce" && to.loosening?.change.kind === "hold")
    throw new Error(`enforce left a loosening of the hold on its way: ${where}`);
  const goesBack = to.loosening?.request === null && to.loosening.change.kind === "hold";
  if (input?.kind === "confirm" && from.trial && (to.trial || goesBack) && !from.deadline)
    throw new Error(`confirmed, and goes back: ${where}`);
  keepsWaysBack(from, to, input, where);
  if (input?.kind === "trip" && (to.keep || to.trial || to.deadline?.keep))
    throw new Error(`a trip left a way back, or a flow: ${where}`);
  if (input?.kind === "stop" && (to.keep || to.trial || to.deadline))
    throw new Error(`a stop left something under way: ${where}`);
  if (to.keep && !["TRUSTED", "AIRGAP", "COLDROOM"].includes(to.wanted))
    throw new Error(`a flow is kept in ${to.wanted}: ${where}`);
  const opened = to.keep !== null && !sameFlow(to.keep, from.keep);
  const passed = input?.kind === "set-mode" && input.keep?.passes === true;
  if (opened && !passed && input?.kind !== "logged")
    throw new Error(`a flow was let through without a durable record: ${where}`);
}

/** What was changed on a condition goes back, and as far as what it was changed on condition before. */
function setsWayBack(was: World, to: State, { input }: Move, { answers }: Step, where: string): void {
  if (input?.kind !== "set-mode") return;
  const ms = input.confirmMs ?? input.forMs;
  const changed = answers.some(({ request, answer }) => {
    return request === input.request && answer.kind === "done" && answer.changed;
  });
  if (ms === null || !changed) return;
  if (to.deadline?.atMs !== was.nowMs + ms || to.deadline.confirmable !== (input.confirmMs !== null))
    throw new Error(`no way back: ${where}`);
  const before = was.state.deadline;
  if (before?.confirmable && rank(to.deadline.to) > rank(before.to))
    throw new Error(`it goes back to what nobody confirmed: ${where}`);
}

/** A way back ends where it leads, or by what calls it off: a trip, a stop, a person, a log that takes no more. */
function keepsWaysBack(from: State, to: State, input: Input | null, where: string): void {
  const ended = { deadline: from.deadline && !to.deadline, trial: from.trial && !to.trial };
  const taken = input?.kind === "logged" ? from.loosening?.change.kind : null;
  const called = ["trip", "stop", "confirm", "log-failed"].includes(input?.kind ?? "");
  if (ended.deadline && !called && input?.kind !== "set-mode" && taken !== "mode")
    if (to.wanted !== from.deadline?.to) throw new Error(`a way back was lost: ${where}`);
  if (ended.trial && !called && input?.kind !== "enforce" && taken !== "hold")
    throw new Error(`a trial's end was lost: ${where}`);
}

/** Worlds that differ only in absolute counters and times are the same world. */
function keyOf(world: World): string {
  const { state, nowMs } = world;
  const relative = (ms: number | undefined) =>
    ms === undefined ? null : Math.max(-30, Math.min(30, ms - nowMs));
  return JSON.stringify([
    state.wanted,
    state.applied,
    state.cause.kind === "ceremony",
    state.frozen !== null,
    state.failure && relative(state.failure.retryAtMs),
    state.loosening && [
      state.loosening.request,
      state.loosening.epoch === state.epoch,
      state.loosening.change.kind === "mode"
        ? [
            state.loosening.change.to,
            relative(state.loosening.change.deadline?.atMs),
            state.loosening.change.deadline?.to,
            state.loosening.change.deadline?.confirmable,
            state.loosening.change.deadline?.keep !== null,
            state.loosening.change.keep !== null,
          ]
        : state.loosening.change,
    ],
    state.how,
    state.held,
    state.base,
    state.keep !== null,
    state.trial && [relative(state.trial.atMs), state.trial.to],
    state.ceremony && [
      state.ceremony.epoch === state.epoch,
      relative(state.ceremony.readyAtMs),
      state.ceremony.wrongCodes,
      state.ceremony.purpose,
    ],
    state.deadline && [
      relative(state.deadline.atMs),
      state.deadline.to,
      state.deadline.confirmable,
      state.deadline.keep !== null,
    ],
    world.log.map((entry) => [
      entry.loosening === state.loosening?.number,
      entry.tightenings === world.tightenings,
    ]),
    world.kernel.map((order) => [
      order.mode,
      order.hold,
      order.keep !== null,
      order.attempt === state.attempt,
    ]),
    world.confirmed && [world.confirmed.mode, world.confirmed.hold, world.confirmed.keep !== null],
    world.folded && [world.folded.wanted, world.folded.frozen, world.folded.hold, world.folded.releasedBoot],
  ]);
}

function explore(walk: Walk): {
  worlds: number;
  moves: number;
  seen: ReadonlySet<string>;
  complete: boolean;
} {
  const start = begun(walk);
  const seen = new Set([keyOf(start)]);
  const names = new Set<string>();
  let frontier: World[] = [start];
  let count = 0;
  while (frontier.length > 0 && seen.size < walk.mostWorlds) {
    const next: World[] = [];
    for (const world of frontier) {
      if (seen.size >= walk.mostWorlds) break;
      for (const move of moves(world, walk.extra)) {
        const reached = advance(world, move);
        count++;
        names.add(`${move.name} -> ${reached.state.wanted}`);
        if (!sameHeld(world.state.held, reached.state.held))
          names.add(`${move.name}: ${world.state.held.hold} -> ${reached.state.held.hold}`);
        if (!sameFlow(world.state.keep, reached.state.keep))
          names.add(`${move.name}: ${reached.state.keep === null ? "ends" : "keeps"} the flow`);
        const key = keyOf(reached);
        if (seen.has(key)) continue;
        seen.add(key);
        next.push(reached);
      }
    }
    frontier = next;
  }
  return { worlds: seen.size, moves: count, seen: names, complete: frontier.length === 0 };
}

function startWorld({ mode, holding }: Walk): World {
  const state = initialState(mode, 0, { kind: "initial", why: "test" }, holding);
  const { held, base } = holding;
  const releasedBoot = held.lasts === "boot" ? BOOT : "";
  return {
    state,
    nowMs: 1_000,
    log: [],
    kernel: [],
    tightenings: 0,
    confirmed: null,
    folded: { ...emptyFold(), wanted: mode, hold: base, releasedBoot, parameterBoot: releasedBoot },
  };
}

function begun(walk: Walk): World {
  const world = startWorld(walk);
  if (walk.takesUp === undefined) return world;
  const input: Input = { kind: "take-up", to: walk.takesUp, by: "boot-parameter", why: "w" };
  return advance(world, { name: "take-up", input, next: same });
}

function walked(walk: Walk): ReadonlySet<string> {
  const result = explore(walk);
  console.log(
    `${walk.mode}, ${walk.holding.held.hold}: ${result.worlds} worlds, ${result.moves} moves, ${result.complete ? "all of them" : "cut off"}`,
  );
  expect(result.worlds).toBeGreaterThan(1_000);
  return result.seen;
}

describe("the mode machine, over every interleaving", { timeout: 60_000 }, () => {
  test.each(["RESTRICTED", "LOCKDOWN"] as const)(
    "holds its invariants in every world reached from %s",
    (mode) => {
      const seen = walked({ mode, holding: lasting(ENFORCING), extra: [], mostWorlds: ALL });
      // The walk is worth something only if it gets to where things go wrong.
      expect(seen).toContain("logged request 6 -> RESTRICTED");
      expect(seen).toContain("logged request 1 -> OPEN");
      expect(seen).toContain("logged a lapsed one -> LOCKDOWN");
      expect(seen).toContain("log-failed request 6 -> LOCKDOWN");
    },
  );

  const booted = { held: { hold: "released", lasts: "boot" } } as const;
  test.each<[string, Holding]>([
    ["shadow", lasting({ hold: "shadow", lasts: "always" })],
    ["released by its boot's parameter over enforcing", { ...booted, base: "enforcing" }],
    ["released by its boot's parameter over shadow", { ...booted, base: "shadow" }],
  ])("and with a hold that begins as %s", (_name, holding) => {
    const { hold } = holding.held;
    const seen = walked({
      mode: "RESTRICTED",
      holding,
      mostWorlds: MANY,
      extra: [
        { kind: "enforce", request: 10, by: BY, reason: "r", confirmMs: 15 },
        { kind: "enforce", request: 11, by: BY, reason: "r", confirmMs: null },
        { kind: "confirm", request: 12, by: BY },
        {
          kind: "ceremony-begin",
          request: 13,
          purpose: "release",
          id: "c",
          codeDigest: CODE,
          by: BY,
          reason: "r",
        },
      ],
    });
    expect(seen).toContain(`enforce: ${hold} -> enforcing`);
    expect(seen).toContain(`logged a deadline's: enforcing -> ${hold}`);
    expect(seen).toContain("logged request 6: enforcing -> released");
  });

  test.each<Holding>([{ ...booted, base: "enforcing" }, lasting({ hold: "shadow", lasts: "always" })])(
    "and while a start takes up %j",
    (takesUp) => {
      const seen = walked({
        mode: "RESTRICTED",
        holding: lasting(ENFORCING),
        takesUp,
        mostWorlds: MANY,
        extra: [{ kind: "enforce", request: 11, by: BY, reason: "r", confirmMs: null }],
      });
      expect(seen).toContain(`logged a deadline's: enforcing -> ${takesUp.held.hold}`);
      expect(seen).toContain("logged a lapsed one -> LOCKDOWN");
      expect(seen).toContain(`enforce: ${takesUp.held.hold} -> enforcing`);
    },
  );

  test("and with modes that wait for a confirmation, and a flow that is kept", () => {
    const seen = walked({
      mode: "RESTRICTED",
      holding: lasting(ENFORCING),
      mostWorlds: ALL,
      extra: [
        set(20, "AIRGAP", { confirmMs: 15, keep: { flow: FLOW, passes: true } }),
        set(21, "COLDROOM", { confirmMs: 15 }),
        set(24, "AIRGAP", { confirmMs: 15 }),
        set(22, "AIRGAP", { keep: { flow: FLOW, passes: false } }),
        { kind: "confirm", request: 23, by: BY },
        { kind: "flow-ended", flow: FLOW },
      ],
    });
    expect(seen).toContain("set-mode AIRGAP: keeps the flow");
    expect(seen).toContain("logged request 22: keeps the flow");
    expect(seen).toContain("logged a deadline's: keeps the flow");
    expect(seen).toContain("flow-ended: ends the flow");
    expect(seen).toContain("trip LOCKDOWN: ends the flow");
    expect(seen).toContain("set-mode AIRGAP: ends the flow");
  });
});
