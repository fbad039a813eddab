import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { jitteredMs } from "../core/backoff.ts";
import type { Comparison } from "../core/nft-compare.ts";
import { createNftEvents, type NftEvent } from "../core/nft-events.ts";
import type { Facts, Signal, SignalKind } from "../core/signal.ts";
import type { SensorHealth, SignalSource } from "../ports.ts";
import { type Following, findProgram, follow } from "./run.ts";

type Settings = {
  /** Compares the kernel's rules with the confirmed ones (null: none are). null: nothing is enforced, nothing to watch. */
  readonly check: (() => Comparison | null) | null;
  /** `Enforcer.claim`: whether a transaction with this mark is our own. */
  readonly claim: (mark: string) => boolean;
  /** Told that somebody else touched the domains' table; null: that nobody could see whether. */
  readonly isolation?: (detail: string | null) => void;
};

type Emit = (signal: Signal) => void;

/** A rule with a set of thousands of addresses is one line. */
const MAX_LINE_BYTES = 4 * 1024 * 1024;
const SUBSCRIBE_POLL_MS = 5;
const SUBSCRIBE_DEADLINE_MS = 5_000;
const RETRY = { firstMs: 100, mostMs: 30_000 };
/** A monitor that lived this long is not failing at start: the back-off begins anew. */
const STEADY_MS = 10_000;
const VIA = "nft monitor";

/**
 * Notices when somebody else changes our tables or adds to others, by `nft monitor`. The event is the evidence: a transaction that touched
 * our tables without a mark of ours is a signal even if everything is as it was by the time we look. Looks once after
 * each (re)start, for what happened before it could see. A monitor that lost events has also lost track of the sets
 * that exist, and may leave out their elements: it is blind, and started again.
 */
export function createRulesWatch({ check, claim, isolation }: Settings): SignalSource {
  let state: SensorHealth = { state: "absent", why: "nothing is enforced" };
  let emit: Emit | null = null;
  let following: Following | null = null;
  let retry: NodeJS.Timeout | null = null;
  let pending: NodeJS.Immediate | null = null;
  let failures = 0;
  let stopped = false;
  let beginning: Promise<void> = Promise.resolve();
  let foreign: Foreign | null = null;

  const look = () => {
    pending = null;
    const found = check?.() ?? null;
    const seen = foreign;
    foreign = null;
    if (found === null) return; // no rules are confirmed: there is nothing that could have been changed
    if (!found.same) emit?.(signal("rules.changed", { what: found.what, detail: found.detail }));
    else if (seen !== null) emit?.(signal("rules.changed", { what: seen.what, detail: seen.detail }));
  };
  const foreignSeen = (event: Foreign) => {
    foreign ??= event;
    pending ??= setImmediate(look); // one look for all that came together
  };
  const besideSeen = ({ what, table, detail }: Extract<NftEvent, { kind: "beside" }>) =>
    emit?.(signal("rules.foreign", { what, table, detail }));
  const blind = (why: string) => {
    if (stopped) return;
    if (state.state !== "blind") emit?.(signal("sensor.blind", { sensor: "rules", why: oneLine(why) }));
    state = { state: "blind", why };
    following = null;
    failures += 1;
    retry = setTimeout(
      () => {
        beginning = begin();
      },
      jitteredMs(RETRY, failures, Math.random()),
    );
  };
  const begin = async () => {
    const startedMs = performance.now();
    let ended: string | null = null;
    const onEnd = (why: string) => {
      if (ended !== null) return;
      ended = why;
      if (performance.now() - startedMs > STEADY_MS) failures = 0;
      if (following !== null) blind(why);
    };
    const lost = (why: string) => {
      const deaf = following?.stop();
      onEnd(`nft monitor lost events: ${why}`);
      if (deaf !== undefined) beginning = deaf;
    };
    const read = createNftEvents(claim);
    const onLine = (line: string) => {
      if (stopped || ended !== null) return;
      for (const event of read(line)) {
        if (event.kind === "foreign") foreignSeen(event);
        else if (event.kind === "beside") besideSeen(event);
        else if (event.kind === "isolation") isolation?.(event.detail);
        else lost(event.why);
      }
    };
    const child = startMonitor(onLine, onEnd);
    if (child === null) return blind("nft or setpriv: no such program");
    const subscribed = await untilSubscribed(child, () => ended !== null || stopped);
    if (stopped || ended !== null || !subscribed) {
      await child.stop();
      return blind(ended ?? "nft monitor did not subscribe in time");
    }
    following = child;
    state = { state: "watching", via: VIA };
    look();
    isolation?.(null);
  };

  return {
    name: "rules",
    start: async (emitSignal) => {
      emit = emitSignal;
      if (check === null) return;
      beginning = begin();
      await beginning;
    },
    stop: async () => {
      stopped = true;
      if (retry !== null) clearTimeout(retry);
      if (pending !== null) clearImmediate(pending);
      await beginning; // it ends the program it started once it sees that we stopped
      await following?.stop();
    },
    health: () => state,
  };
}

type Foreign = Extract<NftEvent, { kind: "foreign" }>;

function startMonitor(onLine: (line: string) => void, onEnd: (why: string) => void): Following | null {
  if (findProgram("nft") === null || findProgram("setpriv") === null) return null;
  return follow("nft", ["monitor"], { onLine, onEnd, maxLineBytes: MAX_LINE_BYTES });
}

async function untilSubscribed(child: Following, given: () => boolean): Promise<boolean> {
  const deadlineMs = performance.now() + SUBSCRIBE_DEADLINE_MS;
  while (child.pid !== null && !given() && performance.now() < deadlineMs) {
    if (isSubscribed(child.pid)) return true;
    await new Promise((resolve) => setTimeout(resolve, SUBSCRIBE_POLL_MS));
  }
  return false;
}

/** nft says nothing when it has subscribed; the kernel does: a netlink socket of the process is in a multicast group. */
function isSubscribed(pid: number): boolean {
  try {
    const fds = readdirSync(`/proc/${pid}/fd`).map((fd) => linkOf(`/proc/${pid}/fd/${fd}`));
    const sockets = readFileSync("/proc/self/net/netlink", "utf8").split("\n").slice(1);
    return sockets.some((line) => {
      const [, protocol, , groups, , , , , , inode] = line.trim().split(/\s+/);
      return (
        protocol === NETLINK_NETFILTER &&
        Number.parseInt(groups ?? "0", 16) !== 0 &&
        fds.includes(`socket:[${inode}]`)
      );
    });
  } catch {
    return false; // gone, or not yet ours to look at: the deadline decides
  }
}

const NETLINK_NETFILTER = "12";

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return ""; // closed between the two calls
  }
}

function oneLine(text: string): string {
  return text.replace(/[^ -~]/g, "?").slice(0, 200);
}

function signal(kind: SignalKind, facts: Facts): Signal {
  return { kind, facts, seenNs: process.hrtime.bigint() };
}
