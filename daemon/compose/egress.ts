import { networkInterfaces } from "node:os";
import { dial } from "../adapters/egress-dial.ts";
import { type EgressPlace, listenEgress } from "../adapters/egress-listen.ts";
import { createResolve } from "../adapters/egress-resolve.ts";
import { prepareRuntimeDir } from "../adapters/socket-path.ts";
import type { Config } from "../core/config.ts";
import { BoundaryError } from "../core/errors.ts";
import type { EgressVerdict } from "../egress/gate.ts";
import { type Egress, type EgressOptions, type EgressPorts, openEgress } from "../egress/proxy.ts";
import { type RunScope, readEgress } from "../egress/settings.ts";
import type { OpLog } from "../ports.ts";

/** A run that may have a way out. */
export type EgressRun = {
  /** 32 lower case hex digits. */
  readonly id: string;
  readonly scope: RunScope;
  /** `network.connect` for this run's subject; what it allows has to be on record when it resolves. */
  readonly policy: (host: string, port: number) => Promise<EgressVerdict>;
};

/** The ways out of all runs. */
export type EgressHost = {
  /** Throws BoundaryError "egress-ended" where the network was taken away meanwhile, and what openEgress throws. */
  open(run: EgressRun): Promise<Egress>;
  /** The mode has taken the network away: in this turn nothing passes any more, in no run. */
  endAll(why: string): Promise<void>;
  /** Connections of this moment, of all runs. */
  live(): number;
};

export type EgressHostParts = {
  readonly config: Config["egress"];
  readonly runtimeDir: string;
  /** Who may connect to a run's socket: the group, and the uid that the kernel says; null: the daemon's own user alone. */
  readonly worker: { readonly group: number; readonly uid: number } | null;
  readonly peerOf: (fd: number) => { readonly uid: number } | null;
  readonly record: EgressOptions["record"];
  readonly opLog: OpLog;
};

/**
 * Makes the directory of the sockets, and what opens a proxy for each run. Throws BoundaryError "config-invalid" for a
 * list that cannot be read, "socket-unsafe" for a directory that is not as it has to be.
 */
export function createEgressHost(parts: EgressHostParts): EgressHost {
  const { config, worker, peerOf, record, opLog } = parts;
  const rules = readEgress(config);
  const directory = `${parts.runtimeDir}/egress`;
  prepareRuntimeDir(directory, worker === null ? 0o700 : 0o750);
  const uid = worker?.uid ?? process.geteuid?.() ?? -1;
  const place: EgressPlace = {
    directory,
    access: worker === null ? { mode: 0o600, group: null } : { mode: 0o660, group: worker.group },
    admits: (fd: number) => peerOf(fd)?.uid === uid,
    dial,
    log: opLog,
  };
  const ports: EgressPorts = {
    listen: (order) => listenEgress(order, place),
    resolve: createResolve({ servers: config.resolvers, deadlineMs: config.limits.resolveMs }),
    ownAddresses: () =>
      Object.values(networkInterfaces()).flatMap((list) => (list ?? []).map(({ address }) => address)),
    nowMs: () => performance.now(),
  };
  const open = new Set<Egress>();
  let epoch = 0;

  return {
    async open({ id, scope, policy }) {
      const begunIn = epoch;
      const allowlists = rules.listsFor(scope);
      const egress = await openEgress({ id, policy, allowlists, settings: rules.settings, record }, ports);
      const end: Egress["end"] = (why) => {
        open.delete(tracked);
        return egress.end(why);
      };
      const tracked: Egress = { ...egress, end };
      open.add(tracked);
      if (begunIn === epoch) return tracked;
      await end("the network was taken away");
      throw new BoundaryError("egress-ended", `opening the egress of run ${id}`);
    },
    endAll: async (why) => {
      epoch += 1;
      await Promise.all([...open].map((egress) => egress.end(why)));
    },
    live: () => [...open].reduce((sum, egress) => sum + egress.counts().live, 0),
  };
}
