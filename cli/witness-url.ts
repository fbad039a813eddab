import { BoundaryError } from "../daemon/core/errors.ts";

/** Where a witness is. `base` is the path before the verbs, without "/" at its end. */
export type WitnessPlace =
  | { readonly kind: "unix"; readonly socket: string; readonly base: string }
  | { readonly kind: "http" | "https"; readonly host: string; readonly port: number; readonly base: string };

/**
 * Reads --url: https://…, http://… to this host's loopback alone, or unix:/path/to/socket. Throws
 * BoundaryError("argument-invalid").
 */
export function parseWitnessUrl(text: string): WitnessPlace {
  if (text.startsWith("unix:")) {
    const socket = text.slice("unix:".length);
    if (!socket.startsWith("/") || socket.includes("\0")) throw refused("unix: takes an absolute path");
    return { kind: "unix", socket, base: "" };
  }
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || (url.protocol !== "https:" && url.protocol !== "http:"))
    throw refused("it has to be https://…, http://127.0.0.1:…, or unix:/path");
  if (url.username || url.password || url.search || url.hash)
    throw refused("it has more than a host and a path");
  const kind = url.protocol === "https:" ? "https" : "http";
  const host = hostOf(url);
  if (kind === "http" && !isLoopback(host))
    throw refused("http is for this host's loopback alone: use https");
  const port = url.port === "" ? (kind === "https" ? 443 : 80) : Number(url.port);
  return { kind, host, port, base: url.pathname.replace(/\/+$/, "") };
}

/** "localhost" is taken as the address it stands for: nobody is asked what it means. */
function hostOf(url: URL): string {
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
  return host === "localhost" && url.protocol === "http:" ? "127.0.0.1" : host;
}

function isLoopback(host: string): boolean {
  return host === "::1" || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host);
}

function refused(what: string): BoundaryError {
  return new BoundaryError("argument-invalid", `reading the witness's URL: ${what}`);
}
