import type { Entry } from "../audit/record.ts";
import type { EgressLimits } from "../core/config.ts";
import type { EgressVerdict } from "./gate.ts";
import { parseHost } from "./host.ts";
import { withoutSecret } from "./ledger.ts";
import type { Claim } from "./messages.ts";

/**
 * What the egress process may ask and say about one run, held by the daemon. It is believed what a proxy that keeps to its
 * order can have found out, and nothing else: a connection is on record only for a question that was allowed, once, and
 * with the host that was asked about; what closes has been opened. What it may not do is a fault, and nothing of that
 * process is believed any more.
 */
export type RunBook = {
  /** Puts a question to policy. Never rejects: what cannot be answered is denied. */
  ask(n: number, host: string, port: number): Answer | Fault;
  /** Has a record written. `durable`: whether it is, once that is known. */
  record(n: number, claim: Claim): { readonly durable: Promise<boolean> } | Fault;
  /** The run has no network any more: from this turn on nothing is allowed or opened. What was is still told of. */
  ending(why: string): void;
  /** It is over: what was opened and not told of is recorded as closed. */
  close(why: string): void;
};

export type Answer = { readonly answer: Promise<Pick<EgressVerdict, "allow" | "why">> };
export type Fault = { readonly fault: string };

export type RunBookParts = {
  readonly id: string;
  readonly limits: Pick<EgressLimits, "connections" | "connectionsInAll">;
  readonly policy: (host: string, port: number) => Promise<EgressVerdict>;
  /** May throw, when the daemon is stopping. */
  readonly append: (entry: Entry) => { readonly seq: number; readonly durable: Promise<unknown> };
};

type Allowed = { readonly host: string; readonly port: number; readonly seq: number };
type Opened = Pick<ClaimOf<"egress.opened">, "way" | "host" | "port"> & { readonly seq: number };
type ClaimOf<K extends Claim["kind"]> = Extract<Claim, { kind: K }>["data"];

/** The ledger counts what is alike, and has room for 32 that are not, and the rest as one. */
const MAX_REFUSALS = 64;
/** Allowed, and not opened: who asks on without opening has the oldest forgotten, which then opens nothing. */
const MIN_ALLOWED = 256;

export function createRunBook({ id, limits, policy, append }: RunBookParts): RunBook {
  const allowed = new Map<number, Allowed>();
  const opened = new Map<number, Opened>();
  const refused = new Map<number, number>();
  const mostAllowed = Math.max(MIN_ALLOWED, 4 * limits.connections);
  let [last, asked, pending, repeats] = [0, 0, 0, 0];
  let over: string | null = null;

  /** Numbers only go up. */
  function faultOf(n: number): string | null {
    if (n <= last) return `number ${n} after ${last}`;
    last = n;
    return null;
  }

  function ask(n: number, host: string, port: number): Answer | Fault {
    const fault = faultOf(n) ?? askFault(host);
    if (fault !== null) return { fault };
    if (over !== null) return { answer: Promise.resolve({ allow: false, why: over }) };
    asked += 1;
    pending += 1;
    const answer = policy(host, port)
      .catch((): EgressVerdict => ({ allow: false, why: "policy could not be asked", seq: -1 }))
      .then(({ allow, why, seq }) => {
        pending -= 1;
        if (over !== null) return { allow: false, why: over };
        if (allow) admit(n, { host, port, seq });
        return { allow, why };
      });
    return { answer };
  }

  function askFault(host: string): string | null {
    if (parseHost(host)?.text !== host) return "a host that is not in the form that is compared";
    if (over !== null) return null;
    if (asked >= limits.connectionsInAll) return `more than ${limits.connectionsInAll} questions about a run`;
    return pending < limits.connections ? null : `more than ${limits.connections} questions at a time`;
  }

  function admit(n: number, what: Allowed): void {
    allowed.set(n, what);
    if (allowed.size <= mostAllowed) return;
    const [oldest] = allowed.keys();
    if (oldest !== undefined) allowed.delete(oldest);
  }

  function record(n: number, claim: Claim): { readonly durable: Promise<boolean> } | Fault {
    const fault = faultOf(n) ?? (claim.data.run === id ? null : "a record of another run");
    if (fault !== null) return { fault };
    switch (claim.kind) {
      case "egress.opened":
        return open(n, claim.data);
      case "egress.refused":
        return refuse(n, claim.data);
      case "egress.repeated":
        return repeat(claim.data);
      case "egress.closed":
        return closed(claim.data);
    }
  }

  function open(n: number, data: ClaimOf<"egress.opened">): { durable: Promise<boolean> } | Fault {
    const by = allowed.get(data.decision);
    allowed.delete(data.decision);
    if (over !== null || by === undefined) return NOT_WRITTEN;
    const { run, way, host, port, addresses, serverName } = data;
    if (host !== withoutSecret(by.host) || port !== by.port)
      return { fault: "a connection to another host than was asked about" };
    const { seq, durable } = write({
      kind: "egress.opened",
      data: {
        run,
        way,
        host,
        port,
        addresses,
        ...(serverName === undefined ? {} : { serverName }),
        ...(by.seq === -1 ? {} : { decision: by.seq }),
      },
    });
    if (seq !== -1) opened.set(n, { seq, way, host, port });
    return {
      durable: durable.then((isWritten) => {
        if (!isWritten) opened.delete(n);
        return isWritten;
      }),
    };
  }

  function refuse(n: number, data: ClaimOf<"egress.refused">): { durable: Promise<boolean> } | Fault {
    if (refused.size >= MAX_REFUSALS)
      return { fault: `more than ${MAX_REFUSALS} refusals that are not alike` };
    const { run, way, host, port, code, why } = data;
    const { seq, durable } = write({
      kind: "egress.refused",
      data: {
        run,
        ...(way === undefined ? {} : { way }),
        ...(host === undefined ? {} : { host }),
        ...(port === undefined ? {} : { port }),
        code,
        why,
      },
    });
    refused.set(n, seq);
    return { durable };
  }

  function repeat({ run, count, first }: ClaimOf<"egress.repeated">): { durable: Promise<boolean> } | Fault {
    repeats += 1;
    if (over === null || repeats > MAX_REFUSALS)
      return { fault: "refusals counted before the end, or again" };
    const seq = (first === undefined ? undefined : refused.get(first)) ?? -1;
    return write({ kind: "egress.repeated", data: { run, count, ...(seq === -1 ? {} : { first: seq }) } });
  }

  function closed(data: ClaimOf<"egress.closed">): { durable: Promise<boolean> } | Fault {
    if (over === null) return { fault: "a connection closed for good before the end" };
    const was = opened.get(data.opened);
    opened.delete(data.opened);
    // of one whose record could not be written
    if (was === undefined) return NOT_WRITTEN;
    if (was.way !== data.way || was.host !== data.host || was.port !== data.port)
      return { fault: "another connection closed than was opened" };
    const { opened: _, failed, why: __, ...rest } = data;
    return write({
      kind: "egress.closed",
      data: { ...rest, opened: was.seq, why: over, ...(failed === undefined ? {} : { failed }) },
    });
  }

  function write(entry: Entry): { readonly seq: number; readonly durable: Promise<boolean> } {
    try {
      const { seq, durable } = append(entry);
      const isWritten = durable.then(
        () => true,
        () => false,
      );
      return { seq, durable: isWritten };
    } catch {
      return { seq: -1, ...NOT_WRITTEN };
    }
  }

  return {
    ask,
    record,
    ending(why) {
      over ??= why;
    },
    close(why) {
      over ??= why;
      for (const { seq, ...place } of opened.values())
        write({ kind: "egress.closed", data: { run: id, opened: seq, ...place, why: over, failed: UNTOLD } });
      opened.clear();
      allowed.clear();
    },
  };
}

const NOT_WRITTEN = { durable: Promise.resolve(false) };
const UNTOLD = "the egress process did not tell what passed";
