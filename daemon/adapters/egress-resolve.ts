import { Resolver } from "node:dns/promises";

/**
 * All IPv4 and IPv6 addresses of a name, from the DNS alone: no hosts file, no search list, no other source, and nothing
 * is kept. One question for each family, within the deadline. Rejects where no address came.
 */
export function createResolve(options: {
  /** "ADDRESS", "ADDRESS:PORT" or "[ADDRESS]:PORT"; none: the system's. */
  readonly servers: readonly string[];
  readonly deadlineMs: number;
}): (name: string) => Promise<readonly string[]> {
  const { servers, deadlineMs } = options;
  return async (name) => {
    // of its own: a cancelled question takes all others of its resolver with it
    const resolver = new Resolver({ timeout: Math.ceil(deadlineMs / 2), tries: 2 });
    if (servers.length > 0) resolver.setServers([...servers]);
    const deadline = setTimeout(() => resolver.cancel(), deadlineMs);
    try {
      const absolute = `${name}.`;
      const families = [resolver.resolve4(absolute), resolver.resolve6(absolute)] as const;
      const found = await Promise.allSettled(families);
      const addresses = found.flatMap((one) => (one.status === "fulfilled" ? one.value : []));
      if (addresses.length > 0) return addresses;
      throw found.find((one) => one.status === "rejected")?.reason;
    } finally {
      clearTimeout(deadline);
    }
  };
}
