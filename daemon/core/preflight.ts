import type { Config } from "./config.ts";
import type { Flow } from "./flow.ts";
import { renderFlow, sameFlow } from "./flow-text.ts";
import { parseIpRange, renderIpRange } from "./ip-range.ts";
import type { Mode } from "./mode.ts";
import { posture } from "./posture.ts";
import type { Listener, Sockets } from "./proc-net.ts";
import { type Packet, wouldPass } from "./would-pass.ts";

/** What this host has on its network at one instant. */
export type HostNetwork = Sockets & {
  /** Of every address of ours, by its form in core/ip-range.ts. */
  readonly links: ReadonlyMap<string, Link>;
};

export type Link = { readonly name: string; readonly loopback: boolean };

/** What a mode would do with one thing. `rule`: which of its rules, for a person. */
export type Outlook = {
  readonly what: string;
  readonly verdict: "kept" | "cut";
  readonly rule: string;
};

export type Preflight = {
  readonly flows: readonly Outlook[];
  readonly listeners: readonly Outlook[];
  /** The session of whoever asks; null when he named none, or one that is not there. */
  readonly session: Outlook | null;
};

type Network = Config["network"];

/** What a mode would cut of what is in use now. Pure; `keep` is the flow that would be kept. */
export function preflight(
  mode: Mode,
  network: Network,
  host: HostNetwork,
  asks: { readonly session: Flow | null; readonly keep: Flow | null },
): Preflight {
  const look = (flow: Flow) => flowOutlook(mode, network, host, flow, asks.keep);
  const here = asks.session !== null && host.flows.some((flow) => sameFlow(flow, asks.session));
  return {
    flows: host.flows.map(look),
    listeners: host.listeners.map((listener) => listenerOutlook(mode, network, host, listener)),
    session: here && asks.session ? look(asks.session) : null,
  };
}

function flowOutlook(
  mode: Mode,
  network: Network,
  host: HostNetwork,
  flow: Flow,
  keep: Flow | null,
): Outlook {
  const what = renderFlow(flow);
  const passes = flowPasses(mode, network, host, flow);
  if (passes.verdict === "kept" || mode === "LOCKDOWN" || !sameFlow(flow, keep)) return { what, ...passes };
  const denied = denialOf(network, host, flow);
  return denied === null
    ? { what, verdict: "kept", rule: "the connection that is kept" }
    : { what, verdict: "cut", rule: denied };
}

/** The entry of `network.deny` that cuts a flow, also one that is kept: it comes first in the kernel. null: none. */
export function denialOf(network: Network, host: HostNetwork, flow: Flow): string | null {
  const { verdict, rule } = flowPasses("RESTRICTED", network, host, flow); // which refuses what is denied, and no more
  return verdict === "cut" ? rule : null;
}

/** Whether both ways of an established flow pass, by the mode's rules alone. */
export function flowPasses(
  mode: Mode,
  network: Network,
  host: HostNetwork,
  flow: Flow,
): Pick<Outlook, "verdict" | "rule"> {
  const begunByUs = !host.listeners.some((each) => takes(each, flow));
  const link = host.links.get(flow.localAddress);
  const base = {
    family: flow.family,
    localAddress: flow.localAddress,
    remoteAddress: flow.remoteAddress,
    protocol: "tcp",
    interface: link?.name ?? "",
    loopback: (link?.loopback ?? false) || host.links.has(flow.remoteAddress),
  } as const;
  // whose answers are answers: those to whoever began it
  const outwards: Packet = {
    ...base,
    direction: "out",
    port: flow.remotePort,
    ...(begunByUs ? {} : { answersFrom: flow.localPort }),
  };
  const inwards: Packet = {
    ...base,
    direction: "in",
    port: flow.localPort,
    ...(begunByUs ? { answersFrom: flow.remotePort } : {}),
  };
  const verdicts = [outwards, inwards].map((packet) => wouldPass(posture(mode), network, packet));
  const refusal = verdicts.find(({ pass }) => !pass);
  return refusal
    ? { verdict: "cut", rule: refusal.rule }
    : { verdict: "kept", rule: verdicts[0]?.rule ?? "" };
}

function takes(listener: Listener, flow: Flow): boolean {
  return (
    listener.protocol === "tcp" &&
    listener.port === flow.localPort &&
    (listener.everywhere || listener.address === flow.localAddress)
  );
}

/** A service is cut when no packet from outside reaches it any more, by whichever of our links. Who asks is not known. */
function listenerOutlook(mode: Mode, network: Network, host: HostNetwork, listener: Listener): Outlook {
  const end = listener.family === 6 ? `[${listener.address}]` : listener.address;
  const what = `${listener.protocol} ${listener.everywhere ? "*" : end}:${listener.port}`;
  const own = host.links.get(listener.address);
  const outside = [...host.links.values()].filter(({ loopback }) => !loopback);
  const links = listener.everywhere ? outside : [own ?? { name: "", loopback: isLoopback(listener) }];
  const verdicts = links.flatMap((link) =>
    callers(network, listener.family).map((remoteAddress) =>
      wouldPass(posture(mode), network, {
        direction: "in",
        family: listener.family,
        localAddress: listener.address,
        remoteAddress,
        protocol: listener.protocol,
        port: listener.port,
        interface: link.name,
        loopback: link.loopback,
      }),
    ),
  );
  const passing = verdicts.find(({ pass }) => pass);
  if (passing) return { what, verdict: "kept", rule: passing.rule };
  return { what, verdict: "cut", rule: verdicts[0]?.rule ?? `mode ${mode}` };
}

/** Who calls is not known: addresses apart from each other, that no list is likely to deny all, and whom the lists let in. */
const STRANGERS = {
  4: ["10.11.12.13", "93.184.216.34", "203.0.113.77"],
  6: ["fd12::13", "2606:2800::34", "2001:db8::77"],
} as const;

function callers(network: Network, family: 4 | 6): readonly string[] {
  const named = network.allow.flatMap((entry) => {
    const range = parseIpRange((typeof entry === "string" ? entry : entry.address) ?? "");
    return range?.family === family ? [renderIpRange({ ...range, last: range.first })] : [];
  });
  return [...STRANGERS[family], ...named];
}

function isLoopback({ address }: Listener): boolean {
  return address.startsWith("127.") || address === "0:0:0:0:0:0:0:1";
}
