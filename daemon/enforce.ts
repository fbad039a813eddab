import { randomBytes } from "node:crypto";
import type { Config } from "./core/config.ts";
import { renderErrorChain } from "./core/errors.ts";
import type { Flow } from "./core/flow.ts";
import type { Hold } from "./core/hold.ts";
import type { Mode } from "./core/mode.ts";
import { FAMILIES, type Family, renderHeartbeat, renderRelease, renderRules } from "./core/nft.ts";
import { type Comparison, compareRules } from "./core/nft-compare.ts";
import {
  FALLBACKS,
  familiesOf,
  type LeftOut,
  lacking,
  NOTHING,
  renderLeftOut,
  type Without,
} from "./core/nft-fallback.ts";
import { nextGeneration } from "./core/nft-generation.ts";
import { type Listing, parseListings, parseRendered } from "./core/nft-listing.ts";
import { createMarks } from "./core/nft-marks.ts";
import type { DeadMan } from "./core/nft-script.ts";
import { readShadow, renderNotes, type WouldBlock } from "./core/nft-shadow.ts";
import { posture } from "./core/posture.ts";
import { type Around, aroundKey, lookAround, plainLinks, presentLists } from "./core/surroundings.ts";
import type { Firewall, Surroundings } from "./ports.ts";

/** "kernel": read back from it and found to be what was asked. "observed": nothing is enforced (log-only, shadow, released). */
export type Applied =
  | { readonly ok: true; readonly how: "kernel" | "observed" }
  | { readonly ok: false; readonly why: string };

export type Heartbeat =
  | { readonly ok: true }
  | {
      readonly ok: false;
      /** "failed": nft did not do it. The others are what `compareRules` found instead of our rules. */
      readonly what: "missing" | "differs" | "dead-man" | "failed";
      readonly detail: string;
    };

/** How firmly, and what is let through all the same. */
export type How = { readonly hold: Hold; readonly keep: Flow | null };

/** Brings modes into the kernel and says what the kernel confirmed. Every call is synchronous; none of them throws. */
export type Enforcer = {
  readonly how: "kernel" | "observed";
  /**
   * Loads a mode's rules with the dead-man running, and reads them back. Renews the dead-man, since it loads it anew.
   * Held in shadow they refuse nothing, and have no dead-man; released, all our tables go.
   */
  apply(mode: Mode, how?: How): Applied;
  /** The same rules without the dead-man: for a clean stop, after which nobody renews. */
  settle(mode: Mode, how?: How): Applied;
  /**
   * Renews the dead-man, if the rules are still what the last `apply` confirmed; otherwise leaves it to run out. They
   * are listed and compared where somebody's transaction has come since the last look (`Firewall.generation`), where
   * that cannot be told, and every `compareEvery` heartbeats.
   * Call only while the confirmed mode is the wanted one.
   */
  heartbeat(): Heartbeat;
  /** Compares what the kernel holds with what was confirmed last; null while nothing is confirmed. */
  check(): Comparison | null;
  /** To be called when links came or went: loads the rules anew if they name links or cgroups that changed. null: nothing to do. */
  refresh(): Applied | null;
  /**
   * Of the rules that were confirmed last: what the mode or the configuration asks for and they leave out, a phrase each.
   * What nft refused is tried again at heartbeats.
   */
  leftOut(): readonly string[];
  /** Whether what they leave out leaves something open that the mode closes. Then it is not enforced. */
  leavesOpen(): boolean;
  /** The families in which the kernel has confirmed a table. */
  tables(): readonly string[];
  /**
   * What a mode held in shadow would have refused, also before its rules were loaded anew; empty otherwise, and where it
   * cannot be read.
   */
  wouldBlock(): readonly WouldBlock[];
  /** Whether a mark seen in the kernel's events is that of a transaction made here, seen for the first time. */
  claim(mark: string): boolean;
};

type Settings = {
  /** null: log-only. */
  readonly firewall: Firewall | null;
  readonly network: Config["network"];
  /** How long traffic lives without a heartbeat. */
  readonly timeoutMs: number;
  readonly surroundings: Surroundings;
  /** Every so many heartbeats compare in full, whatever the generation says. */
  readonly compareEvery?: number;
  /** After so many heartbeats try again what was refused, and after twice as many each time it is refused again. */
  readonly retryEvery?: number;
};

type Order = { readonly mode: Mode; readonly dead: DeadMan; readonly how: How };
type Confirmed = {
  readonly order: Order;
  readonly wanted: readonly Listing[];
  readonly around: string;
  readonly left: readonly LeftOut[];
  /** Which of `FALLBACKS` it is, and what was said to the first. */
  readonly fallback: number;
  readonly why: string;
};

const FIRM: How = { hold: "enforcing", keep: null };
const NOWHERE: Around = { links: [], numbers: [], cgroups: new Map() };
const COMPARE_EVERY = 20;
const RETRY_EVERY = 20;
/** Times as long between tries, at most. */
const MOST_BACKOFF = 64;
/** Scripts kept; links that come and go make new ones. */
const MOST_RENDERED = 32;

export function createEnforcer(settings: Settings): Enforcer {
  const { firewall, network, timeoutMs, surroundings } = settings;
  const { compareEvery = COMPARE_EVERY, retryEvery = RETRY_EVERY } = settings;
  if (firewall === null) return OBSERVER;
  let confirmed: Confirmed | null = null;
  // the generation at which the kernel held what is confirmed, and heartbeats that took its word since; null: not known
  let compared: { readonly generation: number; readonly beats: number } | null = null;
  // of trying again what was refused, in heartbeats: waited, of so many
  let retry = { waited: 0, of: retryEvery };
  // the mode that was loaded last, where that was in shadow: what it has noted goes into its next rules
  let shadowed: Mode | null = null;
  const rendered = new Map<string, Rendered>();
  const marks = createMarks(() => randomBytes(16).toString("hex"));

  const load = (order: Order): Applied => {
    // whatever happens below, the old rules are not what we want any more
    confirmed = null;
    compared = null;
    retry = { waited: 0, of: retryEvery };
    try {
      confirmed = order.how.hold === "released" ? release(order) : bring(order);
      shadowed = order.how.hold === "shadow" ? order.mode : null;
      return { ok: true, how: order.how.hold === "enforcing" ? "kernel" : "observed" };
    } catch (error) {
      return { ok: false, why: renderErrorChain(error) };
    }
  };
  const release = (order: Order): Confirmed => {
    try {
      transact(renderRelease(), []);
    } catch {
      // a kernel that has not all the families refuses to be told of them
      transact(renderRelease(there(firewall)), []);
    }
    return { order, wanted: [], around: aroundKey(NOWHERE), left: [], fallback: 0, why: "" };
  };
  /** As asked; where nft refuses that, closed all the same (`FALLBACKS`). Throws what was said to the first. */
  const bring = (order: Order): Confirmed => {
    let first: unknown = null;
    let around = NOWHERE;
    const notes = notesFor(order);
    for (const [fallback, without] of FALLBACKS.entries()) {
      try {
        if (!without.links) around = look(order);
        const { script, wanted, left } = renderedFor(order, around, without);
        transact(script, wanted, notes);
        const why = first === null ? "" : renderErrorChain(first);
        return { order, wanted, around: aroundKey(around), left, fallback, why };
      } catch (error) {
        first ??= error;
      }
    }
    throw first;
  };
  const notesFor = ({ mode, how }: Order): string => {
    if (how.hold !== "shadow" || shadowed !== mode) return "";
    try {
      const inet = read(firewall).find(({ family }) => family === "inet");
      return inet === undefined ? "" : renderNotes(inet);
    } catch {
      return "";
    }
  };
  const look = ({ mode }: Order): Around => lookAround(posture(mode), network, surroundings);
  /** Whether a try at what was refused is due: a refusal that passes must not stay. */
  const isRetryDue = (): boolean => {
    if (confirmed === null || !confirmed.left.some(({ refused }) => refused)) return false;
    retry = { ...retry, waited: retry.waited + 1 };
    return retry.waited >= retry.of;
  };
  /** What is refused again leaves the rules as they are, or it is told. null: they are as they were. */
  const tryAgain = ({ order, fallback, why }: Confirmed): Heartbeat | null => {
    const of = Math.min(retry.of * 2, retryEvery * MOST_BACKOFF);
    retry = { waited: 0, of };
    const notes = notesFor(order);
    for (const [better, without] of FALLBACKS.slice(0, fallback).entries()) {
      try {
        const around = look(order);
        const { script, wanted, left } = renderedFor(order, around, without);
        transact(script, wanted, notes);
        confirmed = { order, wanted, around: aroundKey(around), left, fallback: better, why };
        return { ok: true };
      } catch {
        // it stays left out
      }
    }
    const result = check();
    return result?.same ? null : differing(result);
  };
  const transact = (script: string, wanted: readonly Listing[], notes = "") => {
    firewall.run(marks.mark(script));
    try {
      if (notes !== "") firewall.run(marks.mark(notes));
    } catch {
      // a transaction of its own: a list that is lost holds up no rules
    }
    const result = compare(wanted, false);
    if (!result.same) throw new Error(`read back ${result.what}: ${result.detail}`);
  };
  /** The generation before the listing: what comes between the two is then one transaction too many. */
  const compare = (wanted: readonly Listing[], moved: boolean): Comparison => {
    compared = null;
    const generation = generationOf(firewall);
    const result = compareRules(wanted, read(firewall), moved);
    // links that went left no generation: what holds while they move is not what holds when they have come to rest
    if (result.same && !moved && generation !== null) compared = { generation, beats: 0 };
    return result;
  };
  /** Whether the kernel must hold what was compared: no transaction, no link or cgroup has come or gone since. */
  const isAsCompared = (): boolean => {
    if (confirmed === null || compared === null || compared.beats >= compareEvery - 1) return false;
    try {
      return generationOf(firewall) === compared.generation && !isMoved(confirmed);
    } catch {
      return false;
    }
  };
  /** Our own transaction is one: one more than that is somebody else's. */
  const renew = (families: readonly ("inet" | "arp")[]): Heartbeat => {
    const before = compared;
    compared = null;
    try {
      firewall.run(marks.mark(renderHeartbeat(timeoutMs, families)));
      const now = generationOf(firewall);
      if (before !== null && now === nextGeneration(before.generation))
        compared = { generation: now, beats: before.beats };
      return { ok: true };
    } catch (error) {
      return { ok: false, what: "failed", detail: renderErrorChain(error) };
    }
  };
  /** null: it holds; what a heartbeat says otherwise. */
  const verify = (): Heartbeat | null => {
    if (isAsCompared() && compared !== null) {
      compared = { ...compared, beats: compared.beats + 1 };
      return null;
    }
    const result = check();
    if (!result?.same) return differing(result);
    const again = refresh();
    if (again === null) return null;
    return again.ok ? { ok: true } : { ok: false, what: "failed", detail: again.why };
  };
  /** Kept: a long deny list takes milliseconds to render. */
  const renderedFor = (order: Order, around: Around, without: Without): Rendered => {
    const old = without === NOTHING ? FAMILIES : there(firewall);
    const key = JSON.stringify([order, aroundKey(around), without, old]);
    const before = rendered.get(key);
    if (before !== undefined) return before;
    if (rendered.size >= MOST_RENDERED) rendered.clear();
    const made = render(order, network, around, { without, old });
    rendered.set(key, made);
    return made;
  };
  const isMoved = ({ order, around }: Confirmed): boolean =>
    order.how.hold !== "released" && aroundKey(look(order)) !== around;
  const check = (): Comparison | null => {
    if (confirmed === null) return null;
    try {
      return compare(confirmed.wanted, isMoved(confirmed));
    } catch (error) {
      // what cannot be read is not what we confirmed
      return { same: false, what: "differs", detail: renderErrorChain(error) };
    }
  };
  const refresh = (): Applied | null => {
    try {
      return confirmed !== null && isMoved(confirmed) ? load(confirmed.order) : null;
    } catch (error) {
      return { ok: false, why: renderErrorChain(error) };
    }
  };
  return {
    how: "kernel",
    apply: (mode, how = FIRM) => load({ mode, dead: { kind: "dead-man", timeoutMs }, how }),
    settle: (mode, how = FIRM) => load({ mode, dead: { kind: "settled" }, how }),
    check,
    refresh,
    leftOut: () => confirmed?.left.map((each) => renderLeftOut(each, confirmed?.why ?? "")) ?? [],
    leavesOpen: () => confirmed?.left.some(({ opens }) => opens) ?? false,
    tables: () => confirmed?.wanted.map(({ family }) => family) ?? [],
    claim: marks.claim,
    wouldBlock: () => {
      if (confirmed?.order.how.hold !== "shadow") return [];
      try {
        return read(firewall).flatMap((table) => (table.family === "inet" ? readShadow(table) : []));
      } catch {
        return [];
      }
    },
    heartbeat: () => {
      const told = verify() ?? (confirmed !== null && isRetryDue() ? tryAgain(confirmed) : null);
      if (told !== null) return told;
      const families = aliveFamilies(confirmed?.wanted ?? []);
      return families.length === 0 ? { ok: true } : renew(families);
    },
  };
}

const OBSERVER: Enforcer = {
  how: "observed",
  apply: () => ({ ok: true, how: "observed" }),
  settle: () => ({ ok: true, how: "observed" }),
  heartbeat: () => ({ ok: true }),
  check: () => ({ same: true, drops: {} }),
  refresh: () => null,
  leftOut: () => [],
  leavesOpen: () => false,
  tables: () => [],
  wouldBlock: () => [],
  claim: () => false,
};

type Rendered = {
  readonly script: string;
  readonly wanted: readonly Listing[];
  readonly left: readonly LeftOut[];
};

function render(
  { mode, dead, how }: Order,
  network: Config["network"],
  around: Around,
  { without, old }: { readonly without: Without; readonly old: readonly Family[] },
): Rendered {
  const present = presentLists(network, around);
  const lists = without.allow ? { ...present.network, allow: [] } : present.network;
  const hold = how.hold === "shadow" ? "shadow" : "enforcing";
  const tables = { families: familiesOf(without), there: old };
  const extra = { keep: how.keep, hold, links: plainLinks(around), ...tables } as const;
  const script = renderRules(posture(mode), lists, dead, extra);
  const left = [...present.left, ...lacking(without, posture(mode), network)];
  return { script, wanted: parseRendered(script), left };
}

function aliveFamilies(tables: readonly Listing[]): readonly ("inet" | "arp")[] {
  return (["inet", "arp"] as const).filter((family) =>
    tables.some((table) => table.family === family && table.blocks.has("set alive")),
  );
}

function differing(result: Exclude<Comparison, { same: true }> | null): Heartbeat {
  if (result === null) return { ok: false, what: "failed", detail: "no rules have been confirmed" };
  return { ok: false, what: result.what, detail: result.detail };
}

/** What fails is not known, and costs a comparison. */
function generationOf(firewall: Firewall): number | null {
  try {
    return firewall.generation();
  } catch {
    return null;
  }
}

/** In which families the kernel has a table of ours. None where that cannot be read: then nothing can be confirmed either. */
function there(firewall: Firewall): readonly Family[] {
  try {
    const found = read(firewall);
    return FAMILIES.filter((family) => found.some((table) => table.family === family));
  } catch {
    return [];
  }
}

function read(firewall: Firewall): readonly Listing[] {
  return parseListings(firewall.list());
}
