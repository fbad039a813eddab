import type { FlowClaim } from "../daemon/protocol/messages.ts";

/**
 * The connection that an SSH server says this shell came by (SSH_CONNECTION: client address and port, server address and
 * port); null where there is none. It is a claim: the daemon looks it up.
 */
export function sshSession(text: string | undefined): FlowClaim | null {
  const found = /^(\S{2,64}) ([0-9]{1,5}) (\S{2,64}) ([0-9]{1,5})$/.exec(text ?? "");
  const [, remoteAddress, remotePort, localAddress, localPort] = found ?? [];
  if (remoteAddress === undefined || localAddress === undefined) return null;
  const ports = [Number(remotePort), Number(localPort)];
  if (!ports.every((port) => port >= 1 && port <= 65_535)) return null;
  return { localAddress, localPort: ports[1] ?? 0, remoteAddress, remotePort: ports[0] ?? 0 };
}
