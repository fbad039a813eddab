import { describe, expect, test } from "vitest";
import { step } from "../../daemon/core/machine.ts";
import { isLooser, type Mode, rank } from "../../daemon/core/mode.ts";
import {
  type Input,
  initialState,
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
  readonly kernel: readonly { readonly mode: Mode; readonly attempt: number }[];
  /** How many trips and tightenings there were: a loosening asked for before one must not take effect after it. */
  readonly tightenings: number;
  /** What the kernel last confirmed for the newest order, if it has; what `applied` may say. */
  readonly confirmed: Mode | null;
  /** Whether a fold of the log would say that loosening is frozen. */
  readonly foldedFrozen: boolean;
  /** The `wanted` of the newest record, as a fold of the log would have it; null once a record was lost. */
  readonly folded: Mode | null;
};
type Move = { readonly name: string; readonly input: Input | null; readonly next: (world: World) => World };

const SETTINGS: Settings = { coolDownMs: 10, ceremonyLifeMs: 20, people: 1, requireTerminal: false };
const BY: Person = { uid: 0, name: "root", terminal: "" };
const CODE = "c".repeat(64);
const MAX_UNDER_WAY = 2;
const MAX_WORLDS = 60_000;

const same = (world: World): World => world;

function moves(world: World): readonly Move[] {
  const settled = (w: World) => w.log.slice(1);
  const always: Input[] = [
    { kind: "trip", tripwire: "t", to: "AIRGAP", why: "w", facts: {} },
    { kind: "trip", tripwire: "t", to: "LOCKDOWN", why: "w", facts: {} },
    { kind: "set-mode", request: 1, to: "OPEN", by: BY, reason: "r", forMs: null },
    { kind: "set-mode", request: 2, to: "AIRGAP", by: BY, reason: "r", forMs: 15 },
    { kind: "set-mode", request: 3, to: "LOCKDOWN", by: BY, reason: "r", forMs: null },
    { kind: "set-mode", request: 4, to: "OPEN", by: BY, reason: "r", forMs: 15 },
    { kind: "ceremony-begin", request: 5, id: "c", codeDigest: CODE, by: BY, reason: "r" },
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
      input: { kind: "enforced", attempt: order.attempt, mode: order.mode, how: "kernel" },
      next: (w) => ({
        ...w,
        kernel: rest(w),
        confirmed: order.attempt === w.state.attempt ? order.mode : w.confirmed,
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
  return "to" in input ? `${input.kind} ${input.to}` : input.kind;
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
  const recorded = result.records.flatMap((record) =>
    typeof record.data["wanted"] === "string" ? [record.data["wanted"] as Mode] : [],
  );
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
    foldedFrozen: result.records.reduce(
      (frozen, record) =>
        record.kind === "clock.frozen" ? true : record.kind === "clock.cleared" ? false : frozen,
      world.foldedFrozen,
    ),
    folded: world.folded === null ? null : (recorded.at(-1) ?? world.folded),
  };
}

function confirmedAfter(world: World, input: Input, result: Step): Mode | null {
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
  if (to.applied !== null && to.applied !== after.confirmed)
    throw new Error(`applied ${to.applied} was not confirmed: ${where}`);
  if (
    from.deadline &&
    rank(from.deadline.to) > rank(from.wanted) &&
    rank(to.wanted) < rank(from.deadline.to)
  ) {
    const kept = to.deadline?.to === from.deadline.to && to.deadline.atMs === from.deadline.atMs;
    if (!kept && (move.input?.kind !== "logged" || from.frozen))
      throw new Error(`a scheduled tightening was dropped: ${where}`);
  }
  if (after.log.length === 0 && after.folded !== null && after.foldedFrozen !== (to.frozen !== null)) {
    throw new Error(`the log says frozen ${after.foldedFrozen}, the machine ${to.frozen !== null}: ${where}`);
  }
  if (to.wanted !== from.wanted && !result.enforce)
    throw new Error(`a change gave no order to the kernel: ${where}`);
  if (from.frozen && !to.frozen && move.input?.kind !== "logged")
    throw new Error(`unfrozen without a durable record: ${where}`);
  if (after.log.length === 0 && after.folded !== null && after.folded !== to.wanted) {
    throw new Error(`the log says ${after.folded}, the machine ${to.wanted}: ${where}`);
  }
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
          ]
        : "unfreeze",
    ],
    state.ceremony && [
      state.ceremony.epoch === state.epoch,
      relative(state.ceremony.readyAtMs),
      state.ceremony.wrongCodes,
    ],
    state.deadline && [relative(state.deadline.atMs), state.deadline.to],
    world.log.map((entry) => [
      entry.loosening === state.loosening?.number,
      entry.tightenings === world.tightenings,
    ]),
    world.kernel.map((order) => [order.mode, order.attempt === state.attempt]),
    world.confirmed,
    world.folded,
    world.foldedFrozen,
  ]);
}

function explore(start: World): {
  worlds: number;
  moves: number;
  seen: ReadonlySet<string>;
  complete: boolean;
} {
  const seen = new Set([keyOf(start)]);
  const names = new Set<string>();
  let frontier: World[] = [start];
  let count = 0;
  while (frontier.length > 0 && seen.size < MAX_WORLDS) {
    const next: World[] = [];
    for (const world of frontier) {
      for (const move of moves(world)) {
        const reached = advance(world, move);
        count++;
        names.add(`${move.name} -> ${reached.state.wanted}`);
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

function startWorld(mode: Mode): World {
  const state = initialState(mode, 0, { kind: "initial", why: "test" });
  return {
    state,
    nowMs: 1_000,
    log: [],
    kernel: [],
    tightenings: 0,
    confirmed: null,
    folded: mode,
    foldedFrozen: false,
  };
}

describe("the mode machine, over every interleaving", () => {
  test.each(["RESTRICTED", "LOCKDOWN"] as const)(
    "holds its invariants in every world reached from %s",
    (mode) => {
      const result = explore(startWorld(mode));
      console.log(
        `${mode}: ${result.worlds} worlds, ${result.moves} moves, ${result.complete ? "all of them" : "cut off"}`,
      );
      expect(result.worlds).toBeGreaterThan(1_000);
      // The walk is worth something only if it gets to where things go wrong.
      expect(result.seen).toContain("logged request 6 -> RESTRICTED");
      expect(result.seen).toContain("logged request 1 -> OPEN");
      expect(result.seen).toContain("logged a lapsed one -> LOCKDOWN");
      expect(result.seen).toContain("log-failed request 6 -> LOCKDOWN");
    },
  );
});
