import type { AuditLog } from "./audit/log.ts";
import type { StreamState } from "./audit-stream.ts";
import type { Baseline } from "./baseline.ts";
import type { Room } from "./core/disk.ts";
import { renderFlow } from "./core/flow-text.ts";
import type { SwitchSettings } from "./core/switches.ts";
import type { Daemon } from "./daemon.ts";
import type { Enforcer } from "./enforce.ts";
import { type PoliciesState, policyClaim } from "./policies.ts";
import type { Clock, Protection, SensorHealth, SignalSource } from "./ports.ts";
import type { Control, SelftestReply, Status } from "./protocol/messages.ts";
import type { Selftest } from "./selftest.ts";

export type StatusParts = {
  readonly daemon: Daemon;
  readonly log: AuditLog;
  readonly enforcer: Enforcer;
  readonly sensors: readonly SignalSource[];
  readonly baseline: Baseline;
  readonly selftest: Pick<Selftest, "latest" | "failures">;
  readonly stream: () => StreamState;
  readonly usb: () => Claim;
  readonly isolation: () => Claim;
  readonly policy: () => PoliciesState;
  readonly vault: () => Pick<Control, "state" | "detail">;
  readonly exec: () => Pick<Control, "state" | "detail">;
  readonly egress: () => Pick<Control, "state" | "detail">;
  readonly clock: Clock;
  readonly switches: SwitchSettings;
  /** Why the network is only observed; empty when it is enforced. */
  readonly obstacles: readonly string[];
  /** By what the rules were loaded, and how long they live without us. */
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
      confirmable: state.deadline?.confirmable ?? false,
      hold: state.held.hold,
      holdLasts: state.held.lasts,
      trialUntil: state.trial ? iso(parts.clock.wallMs() + state.trial.atMs - nowMs) : "",
      keep: renderFlow(state.keep),
    },
    assurance: daemon.assurance(),
    frozen: state.frozen?.why ?? "",
    controls: controls(parts, checkedAt).map((control) => tested(control, parts.selftest)),
    selftest: parts.selftest.latest(),
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
      purpose: state.ceremony.purpose,
      by: state.ceremony.by.name,
      readyInMs: Math.max(0, Math.round(state.ceremony.readyAtMs - nowMs)),
    },
  };
}

type Claim = Omit<Control, "testedAt">;

/** What its self-test found overrules what a control says of itself. */
function tested(claim: Claim, selftest: StatusParts["selftest"]): Control {
  const latest = selftest.latest();
  const isOwn = ({ control }: SelftestReply["results"][number]) => control === claim.name;
  const wasTried = latest?.results.some(
    (result) => isOwn(result) && (result.outcome === "passed" || result.outcome === "failed"),
  );
  const testedAt = wasTried ? (latest?.at ?? "") : "";
  const failed = selftest.failures().find(isOwn);
  if (failed === undefined) return { ...claim, testedAt };
  return {
    ...claim,
    state: "failed",
    detail: `self-test ${failed.name} failed: ${failed.detail} (${claim.detail})`,
    testedAt,
  };
}

function controls(parts: StatusParts, checkedAt: string): readonly Claim[] {
  const sensor = (name: string) => parts.sensors.find((one) => one.name === name)?.health();
  return [
    network(parts),
    parts.usb(),
    parts.isolation(),
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
    {
      name: "tripwires",
      state: "observed",
      detail: "signals are held against them, in the mode of the instant",
      checkedAt,
    },
    watched("clock", sensor("clock"), checkedAt),
    { name: "policy", ...policyClaim(parts.policy()), checkedAt },
    { name: "vault", ...parts.vault(), checkedAt },
    { name: "exec", ...parts.exec(), checkedAt },
    { name: "egress", ...parts.egress(), checkedAt },
  ];
}

function network(parts: StatusParts): Claim {
  const checkedAt = parts.daemon.rulesCheckedAt();
  if (parts.enforcer.how === "observed") {
    return {
      name: "network",
      state: "observed",
      detail: `log-only; missing: ${parts.obstacles.join("; ")}`,
      checkedAt: "",
    };
  }
  const { wanted, applied, failure, how, held, keep } = parts.daemon.state();
  if (applied !== wanted) {
    return {
      name: "network",
      state: "failed",
      detail: `the kernel has not confirmed ${wanted}: ${failure?.why ?? "being applied"}`,
      checkedAt,
    };
  }
  if (held.hold !== "enforcing" || how !== "kernel")
    return { name: "network", state: "observed", detail: NOT_HELD[held.hold], checkedAt: "" };
  const { enforcer } = parts;
  const left = enforcer.leftOut();
  const detail = [
    ...(keep === null ? [] : [`enforced but for one flow, ${renderFlow(keep)}`]),
    ...(left.length === 0 ? [] : [`enforced, without: ${renderLeft(left)}`]),
    `tables boundary (${enforcer.tables().join(", ")}) ${parts.network}`,
  ].join("; ");
  const whole = keep === null && !enforcer.leavesOpen();
  return { name: "network", state: whole ? "enforced" : "observed", detail, checkedAt };
}

/** A list may have a thousand entries, and a frame is 64 KiB. */
function renderLeft(left: readonly string[]): string {
  const more = left.length - MOST_LEFT;
  return [...left.slice(0, MOST_LEFT), ...(more > 0 ? [`and ${more} more`] : [])].join("; ");
}

const MOST_LEFT = 8;

const NOT_HELD = {
  shadow: "in shadow: what the mode would refuse passes, until `boundaryctl enforce`",
  released: "released: our rules are out of the kernel, until `boundaryctl enforce`",
  enforcing: "the kernel was not asked to hold it",
} as const;

function switched(detail: string, on: boolean): string {
  return on ? `${detail}; its switch is on and has no effect` : detail;
}

function watched(name: string, health: SensorHealth | undefined, checkedAt: string): Claim {
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

function logControl(log: AuditLog, room: Room): Claim {
  const ok = log.state() === "writing" && room === "ok";
  const bad =
    room === "ok"
      ? "cannot be written: nothing is allowed"
      : "its disk is nearly full: nothing is allowed, nothing loosened";
  const detail = ok ? "hash-chained, sealed and synced with every batch" : bad;
  return { name: "log", state: ok ? "enforced" : "failed", detail, checkedAt: log.head().sealedAt };
}

/** What keeps even root from changing the files by accident, and from changing them without a trace. */
function appendOnly({ protections }: StatusParts, checkedAt: string): Claim {
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
function streamControl({ kind, next, sealedAt, why }: StreamState): Claim {
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
