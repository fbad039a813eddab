import type { Config } from "./core/config.ts";
import { BoundaryError } from "./core/errors.ts";
import type { Flow } from "./core/flow.ts";
import { renderFlow, sameFlow } from "./core/flow-text.ts";
import type { Mode } from "./core/mode.ts";
import { denialOf, flowPasses, type Outlook, preflight } from "./core/preflight.ts";
import { normalFlow } from "./core/proc-net.ts";
import type { State } from "./core/state.ts";
import type { HostSockets } from "./ports.ts";
import type { CappedOutlooks, FlowClaim, PreflightReply, UsbOutlook } from "./protocol/messages.ts";

type Parts = {
  readonly sockets: HostSockets;
  readonly network: Config["network"];
  readonly usb: (mode: Mode) => readonly UsbOutlook[];
  /** What it would suspend. */
  readonly leases: (mode: Mode) => readonly string[];
};

/** What a mode would cut of what is in use at this instant: bounded, so that it fits into a frame. */
export function preflightReply(
  parts: Parts,
  state: Pick<State, "wanted" | "held">,
  asked: { readonly mode: Mode; readonly session: FlowClaim | null; readonly keep: boolean },
): PreflightReply {
  const session = asked.session && normalFlow(asked.session);
  const host = parts.sockets.network();
  const found = preflight(asked.mode, parts.network, host, { session, keep: asked.keep ? session : null });
  const usb = parts.usb(asked.mode);
  const leases = parts.leases(asked.mode);
  return {
    mode: asked.mode,
    wanted: state.wanted,
    hold: state.held.hold,
    session: found.session,
    flows: cap(found.flows),
    listeners: cap(found.listeners),
    usb: { shown: usb.slice(0, MAX_USB), more: Math.max(0, usb.length - MAX_USB) },
    leases: { shown: leases.slice(0, MAX_LEASES), more: Math.max(0, leases.length - MAX_LEASES) },
    unread: host.unread,
  };
}

/**
 * The flow that a person wants to keep, which has to exist, and to be none that the configuration denies. Throws
 * BoundaryError("flow-unknown" | "flow-denied").
 */
export function flowToKeep(
  parts: Omit<Parts, "usb" | "leases">,
  wanted: Mode,
  claim: FlowClaim,
): { readonly flow: Flow; readonly passes: boolean } {
  const flow = normalFlow(claim);
  const host = parts.sockets.network();
  if (flow === null || !host.flows.some((each) => sameFlow(each, flow)))
    throw new BoundaryError("flow-unknown", "the connection to keep is none of this host's");
  const denied = denialOf(parts.network, host, flow);
  if (denied !== null) {
    const why = `network.${denied} refuses ${renderFlow(flow)} in every mode that would keep it`;
    throw new BoundaryError("flow-denied", why);
  }
  return { flow, passes: flowPasses(wanted, parts.network, host, flow).verdict === "kept" };
}

/** Three lists of a frame's 64 KiB, with room for the rest. */
const MAX_LIST_BYTES = 14 * 1024;
const MAX_USB = 100;
const MAX_LEASES = 50;

/** What would be cut comes first: it is what was asked for. */
function cap(outlooks: readonly Outlook[]): CappedOutlooks {
  const sorted = outlooks.toSorted((a, b) => Number(a.verdict === "kept") - Number(b.verdict === "kept"));
  const shown: Outlook[] = [];
  let bytes = 0;
  for (const each of sorted) {
    bytes += Buffer.byteLength(JSON.stringify(each)) + 1;
    if (bytes > MAX_LIST_BYTES) break;
    shown.push(each);
  }
  const cut = outlooks.filter(({ verdict }) => verdict === "cut").length;
  return { shown, cut, kept: outlooks.length - cut };
}
