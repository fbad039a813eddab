import { randomBytes } from "node:crypto";
import type { Config } from "./core/config.ts";
import { renderErrorChain } from "./core/errors.ts";
import type { Flow } from "./core/flow.ts";
import type { Hold } from "./core/hold.ts";
import type { Mode } from "./core/mode.ts";
import { type DeadMan, renderHeartbeat, renderRules } from "./core/nft.ts";
import { type Comparison, compareRules } from "./core/nft-compare.ts";
import { type Listing, parseListing, parseRendered } from "./core/nft-listing.ts";
import { createMarks } from "./core/nft-marks.ts";
import { posture } from "./core/posture.ts";
import type { Firewall } from "./ports.ts";

/** "kernel": read back from it and found to be what was asked. "observed": log-only, nothing is enforced. */
export type Applied =
  | { readonly ok: true; readonly how: "kernel" | "observed" }
  | { readonly ok: false; readonly why: string };

/** How firmly, and the one connection that passes all the same. */
export type How = { readonly hold: Hold; readonly keep: Flow | null };

/** What shadow would have refused: one line of what was seen. */
export type Blocked = {
  readonly direction: "in" | "out" | "forward";
  readonly address: string;
  readonly protocol: string;
  readonly port: number | null;
};

export type Heartbeat =
  | { readonly ok: true }
  | {
      readonly ok: false;
      /** "failed": nft did not do it. The others are what `compareRules` found instead of our rules. */
      readonly what: "missing" | "differs" | "dead-man" | "failed";
      readonly detail: string;
    };

/** Brings modes into the kernel and says what the kernel confirmed. Every call is synchronous; none of them throws. */
export type Enforcer = {
  readonly how: "kernel" | "observed";
  /**
   * Loads a mode's rules with the dead-man running, and reads them back. Renews the dead-man, since it loads it anew.
   * Without `how`: enforcing, and no flow is kept. "observed" in shadow, and when released.
   */
  apply(mode: Mode, how?: How): Applied;
  /** The same rules without the dead-man: for a clean stop, after which nobody renews. */
  settle(mode: Mode, how?: How): Applied;
  /**
   * Renews the dead-man, if the rules are still what the last `apply` confirmed; otherwise leaves it to run out.
   * Call only while the confirmed mode is the wanted one.
   */
  heartbeat(): Heartbeat;
  /** Compares what the kernel holds with what was confirmed last; null while nothing is confirmed. */
  check(): Comparison | null;
  /** Whether a mark seen in the kernel's events is that of a transaction made here, seen for the first time. */
  claim(mark: string): boolean;
  /** What shadow would have refused since it was loaded, as far as it was counted. */
  wouldBlock?(): readonly Blocked[];
};

type Settings = {
  /** null: log-only. */
  readonly firewall: Firewall | null;
  readonly network: Config["network"];
  /** How long traffic lives without a heartbeat. */
  readonly timeoutMs: number;
};

export function createEnforcer({ firewall, network, timeoutMs }: Settings): Enforcer {
  if (firewall === null) return OBSERVER;
  let confirmed: Listing | null = null;
  let open = false; // in shadow or released: there is nothing to renew
  const rendered = new Map<string, Rendered>();
  const marks = createMarks(() => randomBytes(16).toString("hex"));

  const load = (mode: Mode, dead: DeadMan, how: How = ENFORCING): Applied => {
    confirmed = null; // whatever happens below, the old rules are not what we want any more
    open = how.hold !== "enforcing";
    try {
      if (open) {
        firewall.run(marks.mark(REMOVE));
        return firewall.list() === null
          ? { ok: true, how: "observed" }
          : { ok: false, why: "read back a table that was removed" };
      }
      // kept: nothing they depend on changes, and a long deny list takes milliseconds to render
      const key = `${mode} ${dead.kind}`;
      const { script, wanted } = rendered.get(key) ?? render(mode, network, dead);
      rendered.set(key, { script, wanted });
      firewall.run(marks.mark(script));
      const result = compareRules(wanted, read(firewall));
      if (!result.same) return { ok: false, why: `read back ${result.what}: ${result.detail}` };
      confirmed = wanted;
      return { ok: true, how: "kernel" };
    } catch (error) {
      return { ok: false, why: renderErrorChain(error) };
    }
  };
  const check = (): Comparison | null => {
    if (confirmed === null) return null;
    try {
      return compareRules(confirmed, read(firewall));
    } catch (error) {
      // what cannot be read is not what we confirmed
      return { same: false, what: "differs", detail: renderErrorChain(error) };
    }
  };
  return {
    how: "kernel",
    apply: (mode, how) => load(mode, { kind: "dead-man", timeoutMs }, how),
    settle: (mode, how) => load(mode, { kind: "settled" }, how),
    check,
    claim: marks.claim,
    heartbeat: () => {
      if (open) return { ok: true };
      const result = check();
      if (result === null) return { ok: false, what: "failed", detail: "no rules have been confirmed" };
      if (!result.same) return { ok: false, what: result.what, detail: result.detail };
      return confirmed?.blocks.has("set alive")
        ? renew(firewall, marks.mark(renderHeartbeat(timeoutMs)))
        : { ok: true };
    },
  };
}

const ENFORCING: How = { hold: "enforcing", keep: null };
/** A lone delete fails where there is no table. */
const REMOVE = "add table inet boundary\ndelete table inet boundary\n";

const OBSERVER: Enforcer = {
  how: "observed",
  apply: () => ({ ok: true, how: "observed" }),
  settle: () => ({ ok: true, how: "observed" }),
  heartbeat: () => ({ ok: true }),
  check: () => ({ same: true, drops: {} }),
  claim: () => false,
};

type Rendered = { readonly script: string; readonly wanted: Listing };

function render(mode: Mode, network: Config["network"], dead: DeadMan): Rendered {
  const script = renderRules(posture(mode), network, dead);
  return { script, wanted: parseRendered(script) };
}

function read(firewall: Firewall): Listing | null {
  const text = firewall.list();
  return text === null ? null : parseListing(text);
}

function renew(firewall: Firewall, script: string): Heartbeat {
  try {
    firewall.run(script);
    return { ok: true };
  } catch (error) {
    return { ok: false, what: "failed", detail: renderErrorChain(error) };
  }
}
