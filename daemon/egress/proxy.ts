import type { Entry } from "../audit/record.ts";
import type { EgressLimits } from "../core/config.ts";
import { BoundaryError } from "../core/errors.ts";
import type { IpRange } from "../core/ip-range.ts";
import type { Allowlists } from "./allowlist.ts";
import { createGate, type EgressVerdict, type Gate } from "./gate.ts";
import { createLedger } from "./ledger.ts";

/** The way out of one run. */
export type Egress = {
  /** What is bound into the run's sandbox. */
  readonly socketPath: string;
  /** Connections of this moment, and all that were opened. */
  counts(): { readonly live: number; readonly total: number };
  /**
   * The run is over, or the mode took the network away: in this turn every connection is ended, and the socket gone.
   * Resolves when nothing of it is left. Can be called again.
   */
  end(why: string): Promise<void>;
};

export type EgressOptions = {
  /** The run's: 32 lower case hex digits. */
  readonly id: string;
  /** `network.connect`, asked for each connection; what it allows has to be on record when it resolves. */
  readonly policy: (host: string, port: number) => Promise<EgressVerdict>;
  readonly allowlists: Allowlists;
  readonly settings: EgressSettings;
  readonly record: (entry: Entry) => { readonly seq: number; readonly durable: Promise<unknown> };
};

export type EgressSettings = {
  /** Not public, and may be reached all the same. */
  readonly addresses: readonly IpRange[];
  /** Where CONNECT may lead to something else than TLS; a list has to name the port too. */
  readonly plainPorts: readonly number[];
  readonly limits: EgressLimits;
};

/** What it works through. */
export type EgressPorts = {
  /** Listens, and asks the gate for everything that comes. */
  readonly listen: (order: EgressOrder) => Promise<EgressListener>;
  /** All addresses of a name, from the DNS, asked once. Has a deadline of its own. */
  readonly resolve: (name: string) => Promise<readonly string[]>;
  /** The addresses of this host's interfaces. */
  readonly ownAddresses: () => readonly string[];
  readonly nowMs: () => number;
};

export type EgressOrder = {
  readonly id: string;
  readonly gate: Gate;
  readonly limits: EgressLimits;
  readonly plainPorts: readonly number[];
};

export type EgressListener = {
  readonly path: string;
  /** Ends every connection in this turn; resolves when all are closed. */
  end(): Promise<void>;
};

const RUN_ID = /^[0-9a-f]{32}$/;

/**
 * Opens the proxy of one run. Throws BoundaryError "argument-invalid" for an id that is none, and what listening throws
 * ("socket-in-use", "socket-unsafe").
 */
export async function openEgress(options: EgressOptions, ports: EgressPorts): Promise<Egress> {
  const { id, settings } = options;
  if (!RUN_ID.test(id)) throw new BoundaryError("argument-invalid", "opening the egress of a run: its id");
  const { limits, plainPorts, addresses } = settings;
  const ledger = createLedger({
    run: id,
    totalBytes: limits.totalBytes,
    append: options.record,
    nowMs: ports.nowMs,
  });
  let over = false;
  const gate = createGate({
    allowlists: options.allowlists,
    policy: options.policy,
    resolve: ports.resolve,
    addressRules: () => ({ listed: addresses, own: ports.ownAddresses() }),
    ledger,
    limits,
    isOver: () => over,
  });
  const listener = await ports.listen({ id, gate, limits, plainPorts });
  let ending: Promise<void> | null = null;

  function end(why: string): Promise<void> {
    over = true;
    ending ??= finish(why);
    return ending;
  }

  async function finish(why: string): Promise<void> {
    const closed = listener.end(); // before the records: nothing passes any more when they are written
    ledger.end(why);
    await closed;
  }

  return {
    socketPath: listener.path,
    counts: () => ({ live: ledger.live(), total: ledger.total() }),
    end,
  };
}
