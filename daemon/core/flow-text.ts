import type { Flow } from "./flow.ts";

/** A flow for a person and for the log: "tcp 10.0.0.1:22 with 10.0.0.2:50000"; "" for none. */
export function renderFlow(flow: Flow | null): string {
  if (flow === null) return "";
  const end = (address: string, port: number) =>
    flow.family === 6 ? `[${address}]:${port}` : `${address}:${port}`;
  return `tcp ${end(flow.localAddress, flow.localPort)} with ${end(flow.remoteAddress, flow.remotePort)}`;
}

/** Whether two are the same connection; null is no flow. */
export function sameFlow(a: Flow | null, b: Flow | null): boolean {
  if (a === null || b === null) return a === b;
  return (
    a.family === b.family &&
    a.localAddress === b.localAddress &&
    a.localPort === b.localPort &&
    a.remoteAddress === b.remoteAddress &&
    a.remotePort === b.remotePort
  );
}
