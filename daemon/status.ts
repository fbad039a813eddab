import type { AuditLog } from "./audit/log.ts";
import type { StreamState } from "./audit-stream.ts";
import type { Baseline } from "./baseline.ts";
import type { Room } from "./core/disk.ts";
import type { SwitchSettings } from "./core/switches.ts";
import type { Daemon } from "./daemon.ts";
import type { Enforcer } from "./enforce.ts";
import type { Clock, Protection, SensorHealth, SignalSource } from "./ports.ts";
import type { Control, Status } from "./protocol/messages.ts";

export type StatusParts = {
  readonly daemon: Daemon;
  readonly log: AuditLog;
  readonly enforcer: Enforcer;
  readonly sensors: readonly SignalSource[];
  readonly baseline: Baseline;
  readonly stream: () => StreamState;
  readonly usb: () => Control;
  readonly clock: Clock;
  readonly switches: SwitchSettings;
  /** Why the network is only observed; empty when it is enforced. */
  readonly obstacles: readonly string[];
  readonly network: string;
  readonly logDir: string;
  /** Of the segments, the open one last. */
  readonly protections: () => readonly Protection[];
  readonly vkey: string;
  readonly version: string;
  readonly startedAtMs: number;
  readonly inventory: () => object;
};

/** Everything a person or a program may want to know of the daemon, as it is at this instant. */
export function statusOf(parts: StatusParts): Status {
  const { daemon, log } = parts;
  const state = daemon.state();
  const head = log.head();
  const checkedAt = daemon.tickedAt();
  const nowMs = Number(parts.clock.monoNs() / 1_000_000n);
  return {
    mode: {
      wanted: state.wanted,
      applied: state.applied,
      cause: `${state.cause.kind}: ${state.cause.why}`,
      since: daemon.since(),
      epoch: state.epoch,
      until: state.deadline ? iso(parts.clock.wallMs() + state.deadline.atMs - nowMs) : "",
    },
    assurance: daemon.assurance(),
    frozen: state.frozen?.why ?? "",
    controls: controls(parts, checkedAt),
    sensors: parts.sensors.map((sensor) => ({ name: sensor.name, ...sensor.health() })),
    drops: daemon.drops(),
    log: {
      dir: parts.logDir,
      size: head.size,
      root: head.root,
      sealedAt: head.sealedAt,
      vkey: parts.vkey,
      state: log.state(),
    },
    changedFiles: parts.baseline.pendingChanges(),
    daemon: {
      version: parts.version,
      pid: process.pid,
      startedAt: iso(parts.startedAtMs),
      boot: parts.clock.bootId(),
    },
    inventory: parts.inventory(),
    ceremony: state.ceremony && {
      id: state.ceremony.id,
      by: state.ceremony.by.name,
      readyInMs: Math.max(0, Math.round(state.ceremony.readyAtMs - nowMs)),
    },
  };
}

function controls(parts: StatusParts, checkedAt: string): readonly Control[] {
  const sensor = (name: string) => parts.sensors.find((one) => one.name === name)?.health();
  return [
    network(parts),
    parts.usb(),
    {
      name: "process",
      state: "absent",
      detail: switched("process isolation is not built yet", parts.switches.process),
      checkedAt,
    },
    logControl(parts.log, parts.daemon.state().room),
    appendOnly(parts, checkedAt),
    streamControl(parts.stream()),
    watched("files", sensor("files"), checkedAt),
    watched("clock", sensor("clock"), checkedAt),
  ];
}

function network(parts: StatusParts): Control {
  const checkedAt = parts.daemon.rulesCheckedAt();
  if (parts.enforcer.how === "observed") {
    return {
      name: "network",
      state: "observed",
      detail: `log-only; missing: ${parts.obstacles.join("; ")}`,
      checkedAt: "",
    };
  }
  const { wanted, applied, failure } = parts.daemon.state();
  if (applied !== wanted) {
    return {
      name: "network",
      state: "failed",
      detail: `the kernel has not confirmed ${wanted}: ${failure?.why ?? "being applied"}`,
      checkedAt,
    };
  }
  return { name: "network", state: "enforced", detail: parts.network, checkedAt };
}

function switched(detail: string, on: boolean): string {
  return on ? `${detail}; its switch is on and has no effect` : detail;
}

function watched(name: string, health: SensorHealth | undefined, checkedAt: string): Control {
  if (!health) return { name, state: "absent", detail: "no sensor", checkedAt: "" };
  switch (health.state) {
    case "watching":
      return { name, state: "observed", detail: health.via, checkedAt };
    case "blind":
      return { name, state: "failed", detail: `blind: ${health.why}`, checkedAt };
    case "absent":
      return { name, state: "absent", detail: health.why, checkedAt };
  }
}

function logControl(log: AuditLog, room: Room): Control {
  const ok = log.state() === "writing" && room === "ok";
  const bad =
    room === "ok"
      ? "cannot be written: nothing is allowed"
      : "its disk is nearly full: nothing is allowed, nothing loosened";
  const detail = ok ? "hash-chained, sealed and synced with every batch" : bad;
  return { name: "log", state: ok ? "enforced" : "failed", detail, checkedAt: log.head().sealedAt };
}

/** What keeps even root from changing the files by accident, and from changing them without a trace. */
function appendOnly({ protections }: StatusParts, checkedAt: string): Control {
  const all = protections();
  const wanted = (at: number) => (at === all.length - 1 ? "append-only" : "immutable");
  const missing = all.filter((one, at) => one.kind !== wanted(at));
  const why = missing[0]?.kind === "none" ? missing[0].why : "an ended one is append-only only";
  const detail =
    missing.length === 0
      ? `the open segment is append-only, ${all.length - 1} ended ones are immutable`
      : `${missing.length} of ${all.length} segments are not held by the file system: ${why}`;
  return { name: "append-only", state: missing.length === 0 ? "enforced" : "observed", detail, checkedAt };
}

/** It follows the log, so it is never better than observed while it does not keep up. */
function streamControl({ kind, next, sealedAt, why }: StreamState): Control {
  const name = "audit stream";
  switch (kind) {
    case "writing":
      return { name, state: "enforced", detail: `follows the log up to record ${next}`, checkedAt: sealedAt };
    case "opening":
    case "behind":
      return {
        name,
        state: "observed",
        detail: `${kind}: it will go on at record ${next}`,
        checkedAt: sealedAt,
      };
    case "failed":
      return {
        name,
        state: "failed",
        detail: `ends before record ${next}: ${why}; a restart goes on with it`,
        checkedAt: sealedAt,
      };
  }
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
