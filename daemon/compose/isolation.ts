import { sendCanary } from "../adapters/canary.ts";
import { createClock } from "../adapters/clock.ts";
import { createSurroundings } from "../adapters/surroundings.ts";
import { type Config, toIsolation } from "../core/config.ts";
import { BoundaryError } from "../core/errors.ts";
import type { Hold } from "../core/hold.ts";
import { createIsolation, type IsolationControl, type IsolationParts } from "../isolation.ts";
import { isolationProbes } from "../isolation-probe.ts";
import type { Firewall } from "../ports.ts";
import type { Probe } from "../selftest.ts";
import { opLog } from "./journal.ts";

/** The domains of a configuration, and what tries them out. */
export function openIsolation(
  config: Config["isolation"],
  parts: Omit<IsolationParts, "isolation" | "links" | "opLog">,
): { readonly control: IsolationControl; readonly probes: readonly Probe[] } {
  const isolation = config === undefined ? null : toIsolation(config);
  const control = createIsolation({ ...parts, isolation, links: createSurroundings().links, opLog });
  const probes = isolation === null ? [] : isolationProbes({ control, isolation, send: sendCanary });
  return { control, probes };
}

/**
 * Without a daemon (`--close`): the configured domains, where the hold is enforcing. What is not configured is left as
 * it is. Throws "nft-failed".
 */
export function closeDomains(config: Config["isolation"], firewall: Firewall | null, hold: Hold): void {
  if (config === undefined || firewall === null) return;
  const { control } = openIsolation(config, {
    firewall,
    missing: [],
    // nobody records here: the next start does
    record: () => ({ seq: -1, durable: Promise.resolve() }),
    submit: () => undefined,
    clock: createClock(),
  });
  control.begin(hold);
  if (control.failure() !== "")
    throw new BoundaryError("nft-failed", `loading the rules of the domains: ${control.failure()}`);
  if (hold === "enforcing") process.stdout.write("the domains are isolated\n");
}
