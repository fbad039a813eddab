import { closeSync, fstatSync } from "node:fs";
import { renderErrorChain } from "../core/errors.ts";
import type { RunBounds, RunOrder } from "../exec/run-order.ts";
import { memoryFile, openPlace } from "./kernel.ts";
import type { RefusalCode } from "./messages.ts";
import { openPlaces } from "./places.ts";
import type { ProgramOpener } from "./program.ts";
import {
  calledAs,
  type HostLayout,
  limitCommand,
  type Mount,
  OWN_DIRECTORY,
  ownFiles,
  type SandboxPlan,
} from "./sandbox-args.ts";

/** What a worker makes its sandboxes with. */
export type Kit = {
  readonly host: HostLayout;
  /** The filter of system calls, as the kernel takes it. */
  readonly filter: Uint8Array;
  readonly programs: ProgramOpener;
  /** What speaks with the proxy inside the sandbox; null where it is not there. */
  readonly bridge: Bridge | null;
};

export type Bridge = {
  /** Node, and the script it runs. */
  readonly node: string;
  readonly script: string;
  /** Directories and files that these need, beside /usr. */
  readonly needs: readonly string[];
};

export type Prepared = {
  readonly plan: Omit<SandboxPlan, "holdFd">;
  readonly command: readonly string[];
  /** What the run as a whole may use: the order's, and what the bridge needs. */
  readonly bounds: RunBounds;
  /** Closes everything that the plan holds open. */
  close(): void;
};

export type PreparedOrNot =
  | { readonly ok: true; readonly prepared: Prepared }
  | { readonly ok: false; readonly code: RefusalCode; readonly why: string };

/** Where the proxy's socket stands in every sandbox that has one. */
const PROXY_SOCKET = `${OWN_DIRECTORY}/proxy.sock`;
/** What the bridge's Node takes: its threads, and its memory. */
const BRIDGE = { pids: 24, memoryBytes: 100_663_296 } as const;

/** Opens all that an order names, and says how its sandbox is to be made. `alone`: there is no cgroup to bound it. */
export async function prepare(order: RunOrder, kit: Kit, alone: boolean): Promise<PreparedOrNot> {
  const open: number[] = [];
  const close = (): void => {
    for (const fd of open.splice(0)) closeSync(fd);
  };
  const refused = (code: RefusalCode, why: string): PreparedOrNot => {
    close();
    return { ok: false, code, why };
  };
  try {
    const found = openPlaces(order);
    if (!found.ok) return found;
    const { workspace, readable, cwd } = found.places;
    open.push(workspace.fd, ...readable.map(({ fd }) => fd));
    const opened = await kit.programs.open(order);
    if (!opened.ok) return refused("exec-order", opened.why);
    const { program } = opened;
    if (program.kind !== "path") open.push(program.fd);
    const proxied = openProxy(order, kit.bridge);
    if (!proxied.ok) return refused("exec-isolation", proxied.why);
    open.push(...proxied.mounts.map(({ fd }) => fd));
    const own = openOwnFiles(kit, open);
    const called = calledAs(order.argv[0] ?? "", program.path);
    const mounts: readonly Mount[] = [
      ...own.mounts,
      ...readable.map(({ fd, path }): Mount => ({ fd, path, how: "read-only" })),
      ...proxied.mounts,
      { ...workspace, how: "bind" },
      ...(program.kind === "path"
        ? []
        : [{ ...program, how: program.kind === "copy" ? "data" : "read-only" } as const]),
    ];
    const plan = {
      host: kit.host,
      mounts,
      links: called.link ? [{ path: called.run, to: program.path }] : [],
      cwd,
      environment: order.environment,
      seccompFd: own.seccompFd,
      memoryBytes: order.limits.memoryBytes,
    };
    const bounds = order.network === "proxy" ? withBridge(order.limits) : order.limits;
    const command = [...limitCommand(bounds, alone), ...proxied.command, called.run, ...order.argv.slice(1)];
    return { ok: true, prepared: { plan, command, bounds, close } };
  } catch (error) {
    return refused("exec-isolation", renderErrorChain(error));
  }
}

/** What every sandbox has of ours: users and hosts, and the filter. Each run reads its own, from the beginning. */
export function openOwnFiles(
  { host, filter }: Pick<Kit, "host" | "filter">,
  open: number[],
): { readonly mounts: readonly Mount[]; readonly seccompFd: number } {
  const mounts = ownFiles(host).map(({ path, text }): Mount => {
    const fd = memoryFile("file", Buffer.from(text));
    open.push(fd);
    return { fd, path, how: "data" };
  });
  const seccompFd = memoryFile("filter", filter);
  open.push(seccompFd);
  return { mounts, seccompFd };
}

function withBridge(limits: RunBounds): RunBounds {
  return {
    ...limits,
    pids: limits.pids + BRIDGE.pids,
    memoryBytes: limits.memoryBytes + BRIDGE.memoryBytes,
  };
}

type Proxied =
  | { readonly ok: true; readonly mounts: readonly Mount[]; readonly command: readonly string[] }
  | { readonly ok: false; readonly why: string };

function openProxy(order: RunOrder, bridge: Bridge | null): Proxied {
  if (order.network === "none") return { ok: true, mounts: [], command: [] };
  if (bridge === null) return { ok: false, why: "this worker has no bridge to a proxy" };
  const mounts: Mount[] = [];
  const failed = (why: string): Proxied => {
    for (const { fd } of mounts) closeSync(fd);
    return { ok: false, why };
  };
  const socket = openPlace(null, order.proxySocket, { following: "no-links", kind: "any" });
  if (typeof socket !== "number") return failed(`the proxy's socket cannot be opened (${socket.errno})`);
  mounts.push({ fd: socket, path: PROXY_SOCKET, how: "read-only" });
  if (!fstatSync(socket).isSocket()) return failed("the proxy's socket is none");
  for (const path of bridge.needs) {
    const fd = openPlace(null, path, { following: "no-links", kind: "any" });
    if (typeof fd !== "number") return failed(`${path} cannot be opened (${fd.errno})`);
    mounts.push({ fd, path, how: "read-only" });
  }
  return { ok: true, mounts, command: [bridge.node, bridge.script, PROXY_SOCKET, "--"] };
}
