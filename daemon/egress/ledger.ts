import type { Entry } from "../audit/record.ts";
import { createCoalescer } from "../core/coalesce.ts";
import type { ErrorCode } from "../core/errors.ts";
import { redactText } from "../core/redact.ts";
import type { Authority } from "./host.ts";

/** tls: CONNECT, and the ClientHello has to name the host. plain: CONNECT to a port without TLS. http: one request. */
export type Way = "tls" | "plain" | "http";
export type Asked = Authority & { readonly way: Way };

/** One connection that is on record. */
export type Flow = {
  /** Bytes that are to be passed on. False: no more may pass in this run, and these do not. */
  sent(bytes: number): boolean;
  received(bytes: number): boolean;
  /** Once, when it is over. `why`: why it did not end by itself; "" when it did. */
  close(why: string): void;
};

export type Opening = {
  readonly asked: Asked;
  /** Those that were judged, of which one is connected to. */
  readonly addresses: readonly string[];
  readonly serverName: string | null;
  /** The record of the decision; -1 where there is none. */
  readonly decision: number;
};

/** What of a run's connections is on record. */
export type Ledger = {
  /** `durable` resolves when the connection may be made. Connections to one place are one record, and counted. */
  open(opening: Opening): { readonly flow: Flow; readonly durable: Promise<unknown> };
  /** The same refusal again is counted. `asked`: null where that could not be read. */
  refused(asked: Asked | null, code: ErrorCode, why: string): void;
  live(): number;
  total(): number;
  /** The run is over: what was counted is recorded. */
  end(why: string): void;
};

export type LedgerParts = {
  readonly run: string;
  readonly totalBytes: number | null;
  /** May throw, when the daemon is stopping. */
  readonly append: (entry: Entry) => { readonly seq: number; readonly durable: Promise<unknown> };
  /** Milliseconds of a clock that only goes forward. */
  readonly nowMs: () => number;
};

type Place = {
  readonly seq: number;
  readonly durable: Promise<unknown>;
  readonly sinceMs: number;
  readonly asked: Asked;
  connections: number;
  sent: number;
  received: number;
  /** Why the newest that did not end by itself ended. */
  failed: string;
};

const MAX_WHY = 200;

/** The records of one run: egress.opened, egress.refused, egress.repeated, egress.closed. */
export function createLedger({ run, totalBytes, append, nowMs }: LedgerParts): Ledger {
  const places = new Map<string, Place>();
  const refusals = createCoalescer(Number.POSITIVE_INFINITY);
  let [live, total, bytes, ended] = [0, 0, 0, false];

  /** For what stands without its record too: what was refused, or has ended. Its number; -1: there is none. */
  function tell(entry: Entry): number {
    try {
      const { seq, durable } = append(entry);
      durable.catch(() => undefined);
      return seq;
    } catch {
      return -1;
    }
  }

  function placeFor(opening: Opening): Place {
    const { asked, addresses, serverName, decision } = opening;
    // name servers give the same addresses in another order each time
    const key = JSON.stringify([asked.way, asked.host.text, asked.port, addresses.toSorted()]);
    const known = places.get(key);
    if (known !== undefined) return known;
    const { seq, durable } = append({
      kind: "egress.opened",
      data: {
        run,
        ...toldOf(asked),
        addresses,
        ...(serverName === null ? {} : { serverName: withoutSecret(serverName) }),
        ...(decision === -1 ? {} : { decision }),
      },
    });
    const made = { seq, durable, sinceMs: nowMs(), asked, connections: 0, sent: 0, received: 0, failed: "" };
    places.set(key, made);
    // without its record it is not open, and the next one is recorded anew
    durable.catch(() => places.delete(key));
    return made;
  }

  function flowOf(place: Place): Flow {
    let open = true;
    const count = (direction: "sent" | "received") => (more: number) => {
      if (ended || !open || (totalBytes !== null && bytes + more > totalBytes)) return false;
      bytes += more;
      place[direction] += more;
      return true;
    };
    return {
      sent: count("sent"),
      received: count("received"),
      close(why) {
        if (!open) return;
        open = false;
        live -= 1;
        if (why !== "") place.failed = why.slice(0, MAX_WHY);
      },
    };
  }

  return {
    open(opening) {
      const place = placeFor(opening);
      place.connections += 1;
      live += 1;
      total += 1;
      return { flow: flowOf(place), durable: place.durable };
    },
    refused(asked, code, why) {
      if (ended) return;
      const data = {
        run,
        ...(asked === null ? {} : toldOf(asked)),
        code,
        why: redactText(why).slice(0, MAX_WHY),
      };
      refusals.take({ caller: run, key: JSON.stringify(data) }, nowMs(), () => {
        return tell({ kind: "egress.refused", data });
      });
    },
    live: () => live,
    total: () => total,
    end(why) {
      if (ended) return;
      ended = true;
      for (const { seq, count } of refusals.drainAll())
        tell({ kind: "egress.repeated", data: { run, count, ...(seq === -1 ? {} : { first: seq }) } });
      for (const { seq, sinceMs, asked, connections, sent, received, failed } of places.values())
        tell({
          kind: "egress.closed",
          data: {
            run,
            opened: seq,
            ...toldOf(asked),
            connections,
            sent,
            received,
            ms: Math.round(nowMs() - sinceMs),
            why,
            ...(failed === "" ? {} : { failed: redactText(failed) }),
          },
        });
    },
  };
}

function toldOf({ way, host, port }: Asked): { way: Way; host: string; port: number } {
  return { way, host: withoutSecret(host.text), port };
}

/** A name is in small letters, and what is known by its capitals is not found in those. */
export function withoutSecret(name: string): string {
  const capitals = name.toUpperCase();
  return redactText(capitals) === capitals ? redactText(name) : redactText(capitals);
}
