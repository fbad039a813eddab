import { randomBytes } from "node:crypto";
import type { Entry } from "./audit/record.ts";
import { BoundaryError, renderErrorChain } from "./core/errors.ts";
import type { Hold } from "./core/hold.ts";
import { type Isolation, missingInterfaces, renderPass } from "./core/isolation.ts";
import {
  ISOLATION_TABLE,
  REFUSED_OUTSIDE,
  refusedCounter,
  renderIsolation,
  renderIsolationRemoval,
} from "./core/isolation-rules.ts";
import { type Comparison, compareRules } from "./core/nft-compare.ts";
import { type Listing, parseListings, parseRendered } from "./core/nft-listing.ts";
import { createMarks } from "./core/nft-marks.ts";
import type { Signal } from "./core/signal.ts";
import type { Clock, Firewall, OpLog } from "./ports.ts";
import type { Control, IsolationCheck, IsolationStatus } from "./protocol/messages.ts";

export type IsolationParts = {
  /** null: log-only, for what `missing` says. */
  readonly firewall: Firewall | null;
  readonly missing: readonly string[];
  /** null: the configuration names no domains, and a table that is there is taken away. */
  readonly isolation: Isolation | null;
  /** The links of our network namespace. May throw. */
  readonly links: () => readonly string[];
  /** From the first tick on, until the stop. */
  readonly record: (entry: Entry) => { readonly seq: number; readonly durable: Promise<unknown> };
  readonly submit: (signal: Signal) => void;
  readonly clock: Clock;
  readonly opLog: OpLog;
};

/** What came of an order: whether the kernel held something else before, and the record of it (null: there is none). */
export type IsolationOutcome = { readonly changed: boolean; readonly durable: Promise<unknown> | null };

/**
 * Keeps the domains' table in the kernel: loaded in one transaction, read back and compared, looked at when somebody
 * touched it and every ten seconds, and put back. It is there while the hold is enforcing, in every mode, and stays when
 * the daemon ends. Synchronous, as the enforcer is; nothing but `apply` throws.
 */
export type IsolationControl = {
  /** Before the daemon begins: what is recorded of it waits for the first tick. */
  begin(hold: Hold): void;
  /** The hold has become another one. */
  holdIs(hold: Hold): void;
  /**
   * Sees to it that the kernel holds what is configured. Throws BoundaryError("isolation-none"), "isolation-observed"
   * where nothing is enforced, and "nft-failed" where the kernel does not take it (and then it has what it had).
   */
  apply(by: string): IsolationOutcome;
  /** Somebody else touched the table (what they did), or may have unseen (null). */
  touched(detail: string | null): void;
  /** Reads the table back; null where nothing is to be held. */
  check(): Comparison | null;
  validate(): IsolationCheck;
  status(): IsolationStatus;
  /** The row of the status. */
  claim(): Omit<Control, "testedAt">;
  /** Why what is to be in the kernel is not; "" when it is, or nothing is to be. */
  failure(): string;
  /** Whether a mark in the kernel's events is of a transaction made here. */
  claimMark(mark: string): boolean;
  /** Once a heartbeat. */
  tick(): void;
  /** No records from here on. The table stays. */
  stop(): void;
  /** Why nothing is held here, or "". */
  idle(): string;
};

const LOOK_EVERY_MS = 10_000;
const MOST_NAMED = 8;

type Kept =
  /** Nothing has been ordered yet, or nothing is to be held. */
  | { readonly kind: "idle" }
  | { readonly kind: "held"; readonly checkedAt: string; readonly drops: Readonly<Record<string, number>> }
  | { readonly kind: "failed"; readonly why: string; readonly checkedAt: string };

export function createIsolation(parts: IsolationParts): IsolationControl {
  const { firewall, isolation, clock, opLog } = parts;
  const marks = createMarks(() => randomBytes(16).toString("hex"), ISOLATION_TABLE);
  const script = isolation === null ? renderIsolationRemoval() : renderIsolation(isolation);
  const configured = isolation === null ? [] : parseRendered(script);
  let hold: Hold = "enforcing";
  let kept: Kept = { kind: "idle" };
  let lookedMs = Number.NEGATIVE_INFINITY;
  let phase: "starting" | "running" | "stopped" = "starting";
  let pending: Entry[] = [];
  /** A table that nothing asks for, of an earlier configuration or somebody else's: taken away once that is on disk. */
  let leftover: "no" | "owed" | "on-its-way" = "no";
  let toldFailure = "";

  const nowMs = () => Number(clock.monoNs() / 1_000_000n);
  const iso = () => new Date(clock.wallMs()).toISOString();
  const wanted = (): readonly Listing[] => (hold === "enforcing" ? configured : []);

  function compare(nft: Firewall): Comparison {
    lookedMs = nowMs();
    const result = compareRules(wanted(), parseListings(nft.list(ISOLATION_TABLE)));
    if (result.same) {
      kept =
        wanted().length === 0 ? { kind: "idle" } : { kind: "held", checkedAt: iso(), drops: result.drops };
      toldFailure = "";
    }
    return result;
  }

  /** What cannot be read is not what we want. */
  function look(nft: Firewall): Comparison {
    try {
      return compare(nft);
    } catch (error) {
      return { same: false, what: "differs", detail: renderErrorChain(error) };
    }
  }

  /** One transaction, where there is anything to do. Throws what nft says; what was in the kernel is then there still. */
  function bring(nft: Firewall): boolean {
    try {
      if (look(nft).same) return false;
      nft.run(marks.mark(wanted().length === 0 ? renderIsolationRemoval() : script));
      const after = compare(nft);
      if (!after.same) throw new Error(`read back ${after.what}: ${after.detail}`);
      return true;
    } catch (error) {
      failed(renderErrorChain(error));
      if (error instanceof BoundaryError) throw error;
      throw new BoundaryError("nft-failed", "loading the rules of the domains", { cause: error });
    }
  }

  function failed(why: string): void {
    kept = { kind: "failed", why, checkedAt: kept.kind === "idle" ? "" : kept.checkedAt };
    if (toldFailure === why) return;
    toldFailure = why;
    opLog.error({ why }, "the domains are NOT isolated");
    void note({ kind: "isolation.failed", data: { why } });
  }

  /** A failure to record is told by whoever keeps the log. */
  function note(entry: Entry): Promise<unknown> | null {
    if (phase === "stopped") return null;
    if (phase === "starting") {
      pending.push(entry);
      return null;
    }
    const { durable } = parts.record(entry);
    durable.catch(() => undefined);
    return durable;
  }

  /** Ordered by us: a failure is in the status and in the log. */
  function order(by: string): void {
    if (firewall === null) return;
    try {
      if (bring(firewall)) void applied(by);
    } catch {
      // failed() has told
    }
  }

  function applied(by: string): Promise<unknown> | null {
    const what = wanted().length === 0 ? "removed" : "loaded";
    opLog.info({ by, what }, "the domains' table");
    return note({
      kind: "isolation.applied",
      data: { by, what, domains: names(), passes: isolation?.passes.map(renderPass) ?? [] },
    });
  }

  function names(): readonly string[] {
    return isolation === null ? [] : [...isolation.confined, ...isolation.unaffected].map(({ name }) => name);
  }

  function clearLeftover(nft: Firewall): void {
    if (look(nft).same) {
      leftover = "no";
      return;
    }
    leftover = "on-its-way";
    const durable = applied("start") ?? Promise.reject(new Error("stopped"));
    durable.then(
      () => {
        leftover = "no";
        try {
          bring(nft);
        } catch {
          // failed() has told
        }
      },
      () => {
        leftover = "owed"; // asked again at a tick
      },
    );
  }

  function touched(detail: string | null): void {
    if (firewall === null || phase === "stopped" || leftover !== "no") return;
    const [before, was] = [kept.kind, look(firewall)];
    if (was.same) {
      if (detail !== null && before === "held") tell("touched", detail, "back");
      return;
    }
    if (wanted().length === 0) {
      leftover = "owed";
      return;
    }
    let put: "back" | "failed" = "back";
    try {
      bring(firewall);
    } catch {
      put = "failed";
    }
    if (before !== "held") {
      // what was not there has not changed
      if (put === "back") void applied("retry");
      return;
    }
    tell(was.what === "missing" ? "missing" : "differs", detail ?? was.detail, put);
  }

  function tell(what: string, detail: string, put: "back" | "failed"): void {
    parts.submit({ kind: "isolation.changed", facts: { what, detail, put }, seenNs: clock.monoNs() });
  }

  function absent(): readonly string[] {
    return isolation === null ? [] : missingInterfaces(isolation, linksNow());
  }

  function linksNow(): readonly string[] {
    try {
      return parts.links();
    } catch {
      return []; // then none of them is known to be there
    }
  }

  function idle(): string {
    if (isolation === null) return "no domains are configured";
    if (firewall === null) return `log-only; missing: ${parts.missing.join("; ")}`;
    return hold === "enforcing" ? "" : `${hold}: nothing is refused`;
  }

  function claim(): Omit<Control, "testedAt"> {
    const row = (state: Control["state"], detail: string, checkedAt = "") =>
      ({ name: "isolation", state, detail, checkedAt }) as const;
    if (isolation === null || firewall === null)
      return row(isolation === null ? "absent" : "observed", idle());
    if (kept.kind === "failed")
      return row("failed", `the domains are NOT isolated: ${kept.why}`, kept.checkedAt);
    if (kept.kind === "idle") return row("observed", idle() || "not loaded yet");
    const gone = absent();
    const detail = `${describe(isolation)}; table inet ${ISOLATION_TABLE} through ${firewall.via}`;
    if (gone.length === 0) return row("enforced", detail, kept.checkedAt);
    return row("observed", `interfaces that are not there: ${few(gone)}; ${detail}`, kept.checkedAt);
  }

  return {
    begin: (given) => {
      hold = given;
      if (wanted().length > 0) order("start");
      else if (firewall !== null) leftover = "owed";
    },
    holdIs: (given) => {
      if (given === hold) return;
      hold = given;
      leftover = "no"; // this is on record
      order(`hold ${given}`);
    },
    apply: (by) => {
      if (isolation === null) throw new BoundaryError("isolation-none", "the configuration names no domains");
      if (firewall === null || hold !== "enforcing") throw new BoundaryError("isolation-observed", idle());
      const changed = bring(firewall);
      return { changed, durable: changed ? applied(by) : null };
    },
    touched,
    check: () => (firewall === null || wanted().length === 0 ? null : look(firewall)),
    validate: () => {
      const problems = [
        ...(isolation === null ? ["no domains are configured"] : []),
        ...(firewall === null ? parts.missing.map((what) => `missing: ${what}`) : []),
        ...absent().map((name) => `there is no interface ${name}`),
      ];
      return { ok: problems.length === 0, via: firewall?.via ?? "", problems };
    },
    status: () => {
      if (firewall !== null && wanted().length > 0 && kept.kind === "held") touched(null);
      const { state, detail, checkedAt } = claim();
      const drops = kept.kind === "held" ? kept.drops : {};
      const there = linksNow();
      const view = (unaffected: boolean) => (domain: Isolation["confined"][number]) => ({
        name: domain.name,
        interfaces: domain.interfaces.map((name) => ({ name, present: there.includes(name) })),
        host: domain.host,
        unaffected,
        refused: drops[refusedCounter(domain.name)] ?? 0,
      });
      return {
        state,
        detail,
        checkedAt,
        domains: [
          ...(isolation?.confined ?? []).map(view(false)),
          ...(isolation?.unaffected ?? []).map(view(true)),
        ],
        passes: isolation?.passes.map(renderPass) ?? [],
        refusedOutside: drops[REFUSED_OUTSIDE] ?? 0,
      };
    },
    claim,
    failure: () => (kept.kind === "failed" ? kept.why : ""),
    claimMark: marks.claim,
    tick: () => {
      if (phase === "stopped") return;
      phase = "running";
      const entries = pending;
      pending = [];
      for (const entry of entries) void note(entry);
      if (leftover === "owed" && firewall !== null) clearLeftover(firewall);
      if (nowMs() - lookedMs >= LOOK_EVERY_MS) touched(null);
    },
    stop: () => {
      phase = "stopped";
    },
    idle,
  };
}

function describe({ confined, unaffected, passes }: Isolation): string {
  const all = confined.map(({ name, interfaces, host }) => {
    return `${name} (${few([...(host ? ["this host"] : []), ...interfaces])})`;
  });
  const free =
    unaffected.length === 0 ? "" : `; unaffected: ${unaffected.map(({ name }) => name).join(", ")}`;
  return `${all.join(", ")}: ${passes.length} ways between them${free}`;
}

function few(names: readonly string[]): string {
  const more = names.length - MOST_NAMED;
  return `${names.slice(0, MOST_NAMED).join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
}
