import { readFileSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { setTimeout as after } from "node:timers/promises";
import { jitteredMs } from "../core/backoff.ts";
import { BoundaryError, renderErrorChain } from "../core/errors.ts";
import { netlinkDrops, networkDigest } from "../core/net-digest.ts";
import { parseMonitorLine } from "../core/net-events.ts";
import {
  applyEvent,
  diffPictures,
  hasRenamed,
  type NetChange,
  type Picture,
  parseDumps,
} from "../core/net-picture.ts";
import type { Signal } from "../core/signal.ts";
import type { Clock, SensorHealth, SignalSource } from "../ports.ts";
import { type Following, follow, run } from "./run.ts";

export type NetworkSensorOptions = {
  readonly clock: Clock;
  /** Everything is listed anew this often, whatever was seen. */
  readonly relistMs: number;
  /** The cheap sources in /proc are compared this often. */
  readonly pollMs?: number;
};

const MONITOR = ["-o", "-ts", "monitor", "label", "link", "address", "route"];
const LIST_LIMITS = { deadlineMs: 5_000, maxOutputBytes: 16_777_216 };
const LIST_TRIES = 5;
const SUBSCRIBE_NS = 1_000_000_000n;
const RESTART = { firstMs: 250, mostMs: 30_000 };
/** A monitor that ran this long starts over with the shortest back-off. */
const STEADY_NS = 60_000_000_000n;
/** Between two polls. More than that is a flood: the monitor is dropped, and the network listed when it is over. */
const FLOOD_LINES = 10_000;

/**
 * Follows the kernel's link, address and route events through `ip monitor`, and keeps a picture of them. The picture
 * is compared with a fresh listing after every (re)start, when the monitor says something not understood, when the
 * cheap sources move, and at intervals. Emits `network.link`, `network.address`, `network.route`, `sensor.blind`.
 * Never looks anything up in DNS. Watches the network namespace it runs in.
 */
export function createNetworkSensor(options: NetworkSensorOptions): SignalSource {
  const { clock, relistMs, pollMs = 2_000 } = options;
  const troubles = new Map<"monitor" | "listing" | "dropped", string>();
  let emit: ((signal: Signal) => void) | undefined;
  let picture: Picture | null = null; // null until the first listing
  let early: string[] = []; // lines that came before it
  let monitor: Following | undefined;
  let lines = 0;
  let linesSincePoll = 0;
  let notUnderstood = 0;
  let drops = 0;
  let digest = "";
  let failures = 0;
  let relisting: Promise<boolean> | undefined;
  let relistAgain = false;
  let relistOwed = false; // there was no quiet moment for the one that was wanted
  let timers: NodeJS.Timeout[] = [];
  let restarting: NodeJS.Timeout | undefined;
  let connecting: Promise<void> | undefined;

  function tell(changes: readonly NetChange[]): void {
    const seenNs = clock.monoNs();
    for (const { kind, facts } of changes) emit?.({ kind, facts, seenNs });
  }

  function trouble(about: "monitor" | "listing" | "dropped", why: string): void {
    if (troubles.get(about) === why || emit === undefined) return;
    troubles.set(about, why);
    emit({ kind: "sensor.blind", facts: { sensor: "network", why }, seenNs: clock.monoNs() });
  }

  // --- the monitor ---

  async function connect(): Promise<void> {
    if (emit === undefined) return;
    const startedNs = clock.monoNs();
    const lost = (why: string) => {
      trouble("monitor", why);
      if (clock.monoNs() - startedNs > STEADY_NS) failures = 0;
      failures += 1;
      reconnect(jitteredMs(RESTART, failures, Math.random()));
    };
    try {
      const following = follow("ip", MONITOR, { onLine, onEnd: lost, maxLineBytes: 65_536 });
      monitor = following;
      await subscribed(following);
      const listed = await relist(); // after subscribing: nothing falls between
      if (listed && monitor === following) troubles.delete("monitor");
    } catch (error) {
      lost(renderErrorChain(error));
    }
  }

  /** What happens after this call is told: the kernel shows the monitor's socket with its groups. */
  async function subscribed(following: Following): Promise<void> {
    const untilNs = clock.monoNs() + SUBSCRIBE_NS;
    for (;;) {
      if (monitor !== following) return; // ended, or we are stopping
      const seen = following.pid === null ? null : netlinkDrops(read("netlink"), following.pid);
      if (seen !== null) {
        drops = seen;
        return;
      }
      if (clock.monoNs() > untilNs) throw new BoundaryError("sensor-failed", "ip monitor did not subscribe");
      await after(2);
    }
  }

  function reconnect(delayMs: number): void {
    const stopped = monitor?.stop();
    monitor = undefined;
    if (emit === undefined || restarting !== undefined) return;
    restarting = setTimeout(() => {
      restarting = undefined;
      connecting = (stopped ?? Promise.resolve()).then(connect);
    }, delayMs);
    restarting.unref();
  }

  function onLine(line: string): void {
    lines += 1;
    linesSincePoll += 1;
    if (linesSincePoll > FLOOD_LINES) {
      early = [];
      trouble("monitor", `more than ${FLOOD_LINES} network events in ${pollMs} ms`);
      reconnect(pollMs);
    } else if (picture === null) early.push(line);
    else apply(picture, line);
  }

  function apply(before: Picture, line: string): void {
    const event = parseMonitorLine(line);
    const applied = applyEvent(before, event);
    picture = applied.picture;
    tell(applied.changes);
    if (event.kind === "unknown") notUnderstood += 1;
    if (applied.unsure === "renamed") reconnect(0);
    else if (applied.unsure !== null) void relist();
  }

  // --- listings ---

  /** Compares the picture with the kernel's own listing. False when it could not be had, which is a blind spot. */
  function relist(): Promise<boolean> {
    relistAgain = true;
    relisting ??= relistUntilCurrent()
      .then(
        () => {
          troubles.delete("listing");
          troubles.delete("dropped");
          return true;
        },
        (error: unknown) => {
          troubles.delete("listing"); // each change that cannot be looked at is a signal of its own
          trouble("listing", `listing the network: ${renderErrorChain(error)}`);
          return false;
        },
      )
      .finally(() => {
        relisting = undefined;
      });
    return relisting;
  }

  async function relistUntilCurrent(): Promise<void> {
    while (relistAgain) {
      relistAgain = false;
      if (emit === undefined) return;
      const listed = await listWhileQuiet();
      relistOwed = listed === null;
      if (listed === null) continue;
      const before = picture ?? listed;
      picture = listed;
      tell(diffPictures(before, listed));
      if (hasRenamed(before, listed)) reconnect(0);
      const held = early;
      early = [];
      for (const line of held) apply(picture, line);
    }
  }

  /** A listing that no event has overtaken; null when there is no quiet moment: the events then are the newer news. */
  async function listWhileQuiet(): Promise<Picture | null> {
    let listed: Picture | null = null;
    for (let tries = 0; tries < LIST_TRIES; tries += 1) {
      const before = lines;
      const [addresses, routes] = await Promise.all([
        list(["-json", "address", "show"]),
        list(["-json", "route", "show", "table", "all"]),
      ]);
      listed = parseDumps(addresses, routes);
      if (lines === before) return listed;
    }
    return picture === null ? listed : null;
  }

  // --- the cheap sources ---

  function poll(): void {
    linesSincePoll = 0;
    const before = digest;
    digest = networkDigest({
      devices: read("dev"),
      routes: read("route"),
      routes6: read("ipv6_route"),
      interfaces: networkInterfaces(),
    });
    const pid = monitor?.pid ?? null;
    const dropped = pid === null ? null : netlinkDrops(read("netlink"), pid);
    if (dropped !== null && dropped > drops) {
      trouble("dropped", `the kernel dropped ${dropped - drops} network events`);
      drops = dropped;
      void relist();
    } else if (digest !== before || relistOwed) void relist();
  }

  function health(): SensorHealth {
    const [why] = troubles.values();
    if (why !== undefined) return { state: "blind", why };
    if (monitor === undefined && restarting === undefined) return { state: "blind", why: "not started" };
    const odd = notUnderstood === 0 ? "" : `; ${notUnderstood} lines not understood, each looked into`;
    return { state: "watching", via: `ip monitor, /proc every ${pollMs} ms${odd}` };
  }

  return {
    name: "network",
    start: async (given) => {
      emit = given;
      await connect();
      poll();
      timers = [setInterval(poll, pollMs), setInterval(() => void relist(), relistMs)];
      for (const timer of timers) timer.unref();
    },
    stop: async () => {
      emit = undefined;
      for (const timer of timers) clearInterval(timer);
      clearTimeout(restarting);
      restarting = undefined;
      const last = monitor;
      monitor = undefined;
      await Promise.allSettled([last?.stop(), connecting, relisting]);
      picture = null;
      early = [];
      troubles.clear();
    },
    health,
  };
}

async function list(args: readonly string[]): Promise<unknown> {
  const result = await run("ip", args, LIST_LIMITS);
  if (result.code !== 0)
    throw new BoundaryError("run-failed", `ip ${args.join(" ")}: ${result.stderr.trim()}`);
  return JSON.parse(result.stdout) as unknown;
}

function read(name: "dev" | "route" | "ipv6_route" | "netlink"): string {
  try {
    return readFileSync(`/proc/self/net/${name}`, "utf8");
  } catch {
    return ""; // no IPv6, or /proc closed to us: the monitor and the listings are the sensor, this is the cross-check
  }
}
