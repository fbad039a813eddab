import type { ErrorCode } from "../core/errors.ts";
import { type AddressRules, judgeAddress } from "./addresses.ts";
import { type Allowlists, judgeListed } from "./allowlist.ts";
import type { Host } from "./host.ts";
import type { Asked, Flow, Ledger } from "./ledger.ts";

export type Refused = { readonly ok: false; readonly code: ErrorCode; readonly why: string };
/** What a connection is refused with, on record. */
export const REFUSALS = [
  "egress-denied",
  "egress-address",
  "egress-name",
  "egress-unresolved",
  "egress-limit",
  "egress-ended",
  "log-unavailable",
  "http-invalid",
  "headers-too-large",
  "request-timeout",
  "too-many-connections",
] as const satisfies readonly ErrorCode[];
export type RefusalCode = (typeof REFUSALS)[number];
/** What policy says to `network.connect`. `seq`: the number of its record; -1 where there is none. */
export type EgressVerdict = { readonly allow: boolean; readonly why: string; readonly seq: number };

/** A connection that may be made, to these addresses and no others. */
export type Judged = {
  readonly ok: true;
  readonly asked: Asked;
  readonly addresses: readonly string[];
  readonly decision: number;
};

export type Opened = { readonly ok: true; readonly flow: Flow; readonly addresses: readonly string[] };

/** Through here goes every connection, in this order: `judge`, then `open`, then it is made. */
export type Gate = {
  /** The lists, policy, the one resolution, the addresses. */
  judge(asked: Asked): Promise<Judged | Refused>;
  /**
   * Holds a ClientHello's name against the host, and has the record durable. `hello`: null where there is no TLS.
   * After it the connection may be made; its flow has to be closed.
   */
  open(judged: Judged, hello: Hello | null): Promise<Opened | Refused>;
  /** For what is refused before anybody is asked, or after. */
  refuse(asked: Asked | null, code: RefusalCode, why: string): Refused;
};

export type Hello = { readonly serverName: string | null; readonly encrypted: boolean };

export type GateParts = {
  readonly allowlists: Allowlists;
  readonly policy: (host: string, port: number) => Promise<EgressVerdict>;
  /** All addresses of a name; rejects where there are none to be had. */
  readonly resolve: (name: string) => Promise<readonly string[]>;
  /** At this moment. */
  readonly addressRules: () => AddressRules;
  readonly ledger: Ledger;
  readonly limits: { readonly connections: number; readonly connectionsInAll: number };
  /** Whether the run has lost the network since. */
  readonly isOver: () => boolean;
};

/** More than these are not tried, but all are judged. */
const MAX_ADDRESSES = 8;
const MAX_ANSWERS = 256;

/** Decides over the connections of one run. Whatever fails on the way refuses. */
export function createGate(parts: GateParts): Gate {
  const { ledger, limits, isOver } = parts;
  let [judging, begun] = [0, 0];

  function refuse(asked: Asked | null, code: RefusalCode, why: string): Refused {
    ledger.refused(asked, code, why);
    return { ok: false, code, why };
  }

  async function judge(asked: Asked): Promise<Judged | Refused> {
    if (isOver()) return refuse(asked, "egress-ended", "the network was taken away");
    if (judging + ledger.live() >= limits.connections)
      return refuse(asked, "egress-limit", `a run has at most ${limits.connections} connections at a time`);
    if (begun >= limits.connectionsInAll)
      return refuse(asked, "egress-limit", `a run has at most ${limits.connectionsInAll} connections`);
    const listed = judgeListed(parts.allowlists, asked);
    if (!listed.ok) return refuse(asked, "egress-denied", listed.why);
    judging += 1;
    begun += 1;
    try {
      return await judgeFurther(asked);
    } finally {
      judging -= 1;
    }
  }

  async function judgeFurther(asked: Asked): Promise<Judged | Refused> {
    const verdict = await parts.policy(asked.host.text, asked.port).catch(() => null);
    if (isOver()) return refuse(asked, "egress-ended", "the network was taken away");
    if (verdict === null) return refuse(asked, "egress-denied", "policy could not be asked");
    if (!verdict.allow) return refuse(asked, "egress-denied", `policy: ${verdict.why}`);
    const found = await addressesOf(asked.host).catch(() => []);
    if (isOver()) return refuse(asked, "egress-ended", "the network was taken away");
    if (found.length === 0 || found.length > MAX_ANSWERS)
      return refuse(asked, "egress-unresolved", "its name has no address that could be had");
    const rules = parts.addressRules();
    for (const address of found) {
      const reachable = judgeAddress(address, rules);
      if (!reachable.ok)
        return refuse(asked, "egress-address", `${address.slice(0, 64)} is ${reachable.why}`);
    }
    return { ok: true, asked, addresses: found.slice(0, MAX_ADDRESSES), decision: verdict.seq };
  }

  async function addressesOf({ kind, text }: Host): Promise<readonly string[]> {
    return kind === "address" ? [text] : [...new Set(await parts.resolve(text))];
  }

  async function open(judged: Judged, hello: Hello | null): Promise<Opened | Refused> {
    const { asked, addresses, decision } = judged;
    const fault = hello === null ? null : nameFault(asked.host, hello);
    if (fault !== null) return refuse(asked, "egress-name", fault);
    if (isOver()) return refuse(asked, "egress-ended", "the network was taken away");
    const serverName = hello?.serverName ?? null;
    let made: ReturnType<Ledger["open"]>;
    try {
      made = ledger.open({ asked, addresses, serverName, decision });
    } catch {
      return refuse(asked, "log-unavailable", "the connection could not be recorded");
    }
    const { flow, durable } = made;
    try {
      await durable;
    } catch {
      flow.close("not recorded");
      return refuse(asked, "log-unavailable", "the connection could not be recorded");
    }
    if (!isOver()) return { ok: true, flow, addresses };
    flow.close("the network was taken away");
    return refuse(asked, "egress-ended", "the network was taken away");
  }

  return { judge, open, refuse };
}

/** What is wrong with the name that a ClientHello wants; null when it is the host that was asked for. */
function nameFault(host: Host, { serverName, encrypted }: Hello): string | null {
  if (encrypted) return "its ClientHello is encrypted: whom it wants cannot be seen";
  // RFC 6066, section 3: an address stands in no server name
  if (host.kind === "address")
    return serverName === null ? null : "it names a host, and asked for an address";
  if (serverName === null) return "its ClientHello names nobody";
  return serverName.toLowerCase() === host.text ? null : "its ClientHello names another host";
}
