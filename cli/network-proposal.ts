import type { Listener } from "../daemon/core/proc-net.ts";
import type { ShadowReply } from "../daemon/protocol/messages.ts";
import { plain } from "./output.ts";
import type { InUse } from "./own-network.ts";

const MOST = 200;

/**
 * A fragment of the configuration (YAML) that would let pass in TRUSTED what is in use now. For a person to read and
 * shorten: what is in use is not what is needed, and what is quiet at this moment is not in it. `notes`: what shadow's
 * list lacks. Pure.
 */
export function renderProposal(
  inUse: InUse,
  blocked: ShadowReply["blocked"],
  notes: ShadowReply["notes"] = [],
): readonly string[] {
  const entries = [...servedEntries(inUse), ...usedEntries(inUse), ...blockedEntries(blocked)];
  const unique = [...new Map(entries.map((entry) => [entry.yaml, entry])).values()];
  return [
    "# What this host had in use when this was written, as `boundaryctl network propose` saw it.",
    "# Read each line: in use is not needed, and what was quiet is missing. TRUSTED lets pass what stands here;",
    "# OPEN and RESTRICTED do not ask it, AIRGAP and stricter let none of it through.",
    `# Default route over: ${names(inUse.defaults) || "none"}. Not proposed as trusted: that would trust the whole network behind it.`,
    ...notes.map((note) => `# Of what shadow has seen: ${plain(note)}.`),
    "network:",
    ...(inUse.tunnels.length === 0
      ? ["  # no tun, tap or WireGuard interface is here", "  trustedInterfaces: []"]
      : ["  # these look like a VPN's", `  trustedInterfaces: [${names(inUse.tunnels)}]`]),
    ...(unique.length === 0
      ? ["  # nothing is served and no connection is open", "  allow: []"]
      : ["  allow:", ...unique.slice(0, MOST).map(({ yaml, why }) => `    - ${yaml} # ${why}`)]),
    ...(unique.length > MOST ? [`    # … and ${unique.length - MOST} more`] : []),
    ...(inUse.unread > 0 ? [`# ${inUse.unread} lines of the kernel's tables could not be read.`] : []),
  ];
}

type Proposed = { readonly yaml: string; readonly why: string };

function servedEntries({ listeners, links }: InUse): readonly Proposed[] {
  return listeners
    .filter((each) => !isLoopback(each, links))
    .map(({ protocol, port }) => ({
      yaml: `{ direction: in, protocol: ${protocol}, port: ${port} }`,
      why: "a service listens",
    }));
}

function usedEntries({ flows, listeners, links }: InUse): readonly Proposed[] {
  return flows
    .filter((flow) => !links.get(flow.localAddress)?.loopback && !links.has(flow.remoteAddress))
    .filter((flow) => !listeners.some((each) => each.protocol === "tcp" && each.port === flow.localPort))
    .map(({ remoteAddress, remotePort }) => ({
      yaml: `{ direction: out, address: "${plain(remoteAddress)}", protocol: tcp, port: ${remotePort} }`,
      why: "a connection is open",
    }));
}

function blockedEntries(blocked: ShadowReply["blocked"]): readonly Proposed[] {
  return blocked
    .filter(({ direction }) => direction !== "forward")
    .map(({ direction, address, protocol, port }) => ({
      yaml: `{ direction: ${direction}, address: "${plain(address)}", protocol: ${plain(protocol)}${port === null ? "" : `, port: ${port}`} }`,
      why: "shadow would have refused it",
    }));
}

function isLoopback({ address }: Listener, links: InUse["links"]): boolean {
  return (
    address.startsWith("127.") || address === "0:0:0:0:0:0:0:1" || (links.get(address)?.loopback ?? false)
  );
}

function names(all: readonly string[]): string {
  return all.map((name) => plain(name)).join(", ");
}
