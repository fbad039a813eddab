import { isAbsolute, resolve } from "node:path";
import { usageError } from "../exit.ts";

/** Where `--to` points. */
export type Destination =
  | { readonly kind: "tls"; readonly host: string; readonly port: number }
  | { readonly kind: "file"; readonly path: string };

const DEFAULT_PORT = 6_514; // RFC 5425

/** Reads "tls://HOST[:PORT]" or "file:PATH". Throws a usage error: there is no way to ship without TLS. */
export function parseDestination(text: string): Destination {
  const path = /^file:(?!\/\/)(.+)$/s.exec(text)?.[1];
  if (path !== undefined) return { kind: "file", path: isAbsolute(path) ? path : resolve(path) };
  const found = /^tls:\/\/(?:\[([0-9A-Fa-f:.]{2,45})\]|([0-9A-Za-z._-]{1,253}))(?::([0-9]{1,5}))?\/?$/.exec(
    text,
  );
  const host = found?.[1] ?? found?.[2];
  const port = Number(found?.[3] ?? DEFAULT_PORT);
  if (host !== undefined && port > 0 && port <= 65_535) return { kind: "tls", host, port };
  throw usageError("--to is tls://HOST:PORT or file:PATH");
}
