import { networkInterfaces } from "node:os";
import { dial } from "../adapters/egress-dial.ts";
import { type EgressPlace, listenEgress } from "../adapters/egress-listen.ts";
import { createResolve } from "../adapters/egress-resolve.ts";
import { BoundaryError } from "../core/errors.ts";
import type { ListTexts, SettingsText } from "../egress/messages.ts";
import { type Egress, type EgressOptions, type EgressPorts, openEgress } from "../egress/proxy.ts";
import { parseLists, parseSettings } from "../egress/settings.ts";
import type { OpLog } from "../ports.ts";

/** A run that may have a way out. */
export type ProxyOrder = Pick<EgressOptions, "id" | "policy" | "record"> & { readonly lists: ListTexts };

/** The ways out of all runs. */
export type Proxies = {
  /** Throws BoundaryError "egress-ended" where it was ended meanwhile, and what parseLists and openEgress throw. */
  open(order: ProxyOrder): Promise<void>;
  /**
   * In this turn nothing of that run passes any more. Resolves when nothing of it is left; false: it is still being
   * opened, which then comes to nothing.
   */
  end(id: string, why: string): Promise<boolean>;
  endAll(why: string): Promise<void>;
};

export type ProxiesParts = {
  readonly settings: SettingsText;
  /** Of one socket for each run; each has its group. */
  readonly directory: string;
  /** Whether who is behind an accepted descriptor may use a run's socket. */
  readonly admits: (fd: number) => boolean;
  readonly opLog: OpLog;
};

type Entry = { egress: Egress | null; ended: string | null };

/** What opens a proxy for each run, and ends them. */
export function createProxies({ settings, directory, admits, opLog }: ProxiesParts): Proxies {
  const place: EgressPlace = { directory, access: { mode: 0o660, group: null }, admits, dial, log: opLog };
  const ports: EgressPorts = {
    listen: (order) => listenEgress(order, place),
    resolve: createResolve({ servers: settings.resolvers, deadlineMs: settings.limits.resolveMs }),
    ownAddresses: () =>
      Object.values(networkInterfaces()).flatMap((list) => (list ?? []).map(({ address }) => address)),
    nowMs: () => performance.now(),
  };
  const entries = new Map<string, Entry>();

  async function open({ lists, ...order }: ProxyOrder): Promise<void> {
    const { id } = order;
    if (entries.has(id)) throw new BoundaryError("socket-in-use", `opening the egress of run ${id} again`);
    const entry: Entry = { egress: null, ended: null };
    entries.set(id, entry);
    try {
      const allowlists = parseLists(lists);
      entry.egress = await openEgress({ ...order, allowlists, settings: parseSettings(settings) }, ports);
    } catch (error) {
      entries.delete(id);
      throw error;
    }
    if (entry.ended === null) return;
    await end(id, entry.ended);
    throw new BoundaryError("egress-ended", `opening the egress of run ${id}`);
  }

  async function end(id: string, why: string): Promise<boolean> {
    const entry = entries.get(id);
    if (entry === undefined) return true;
    entry.ended ??= why;
    if (entry.egress === null) return false;
    entries.delete(id);
    await entry.egress.end(why);
    return true;
  }

  return {
    open,
    end,
    endAll: async (why) => void (await Promise.allSettled([...entries.keys()].map((id) => end(id, why)))),
  };
}
