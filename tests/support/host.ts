import { generateKeyPairSync, sign } from "node:crypto";
import { expect } from "vitest";
import { createApprovals } from "../../daemon/approvals.ts";
import { renderVkey } from "../../daemon/audit/checkpoint.ts";
import { emptyFold, type Fold } from "../../daemon/audit/fold.ts";
import { emptyTail, openLog } from "../../daemon/audit/log.ts";
import type { LogRecord } from "../../daemon/audit/record.ts";
import { verifyLog } from "../../daemon/audit/verify.ts";
import { createBaseline } from "../../daemon/baseline.ts";
import { resolveRoles } from "../../daemon/core/accounts.ts";
import { type Config, ConfigSchema } from "../../daemon/core/config.ts";
import { type FileState, missingState } from "../../daemon/core/fingerprint.ts";
import type { Flow } from "../../daemon/core/flow.ts";
import { sameFlow } from "../../daemon/core/flow-text.ts";
import { ENFORCING, lasting } from "../../daemon/core/held.ts";
import type { Hold } from "../../daemon/core/hold.ts";
import type { Mode } from "../../daemon/core/mode.ts";
import type { Facts, Signal, SignalKind } from "../../daemon/core/signal.ts";
import type { Start, StartHold } from "../../daemon/core/start.ts";
import type { Person } from "../../daemon/core/state.ts";
import type { Tripwire } from "../../daemon/core/tripwire.ts";
import { createDaemon } from "../../daemon/daemon.ts";
import { createEvaluator, type DecideParts } from "../../daemon/decide.ts";
import { createGovernor } from "../../daemon/decide-verbs.ts";
import { createDenials } from "../../daemon/denials.ts";
import { createEnforcer } from "../../daemon/enforce.ts";
import { createGrants } from "../../daemon/grants.ts";
import { createLimitDesk } from "../../daemon/limits.ts";
import type { LogStore, SensorHealth, SignalSource } from "../../daemon/ports.ts";
import type { SelftestResult } from "../../daemon/protocol/messages.ts";
import { FakeFirewall } from "./fake-firewall.ts";
import { fakeSurroundings } from "./surroundings.ts";

export const ANA: Person = { uid: 1000, name: "ana", terminal: "pts/0" };

/** A log in memory whose writes can be held, fail, or fail after they took effect. */
export class FakeStore implements LogStore {
  bytes = Buffer.alloc(0);
  behaviour: "works" | "fails" | "fails-after" | "holds" = "works";
  closed = false;
  private held: (() => void)[] = [];

  async write(chunk: Buffer): Promise<void> {
    const copy = Buffer.from(chunk);
    if (this.behaviour === "holds") await new Promise<void>((resolve) => this.held.push(resolve));
    if (this.behaviour === "fails") throw new Error("ENOSPC");
    this.bytes = Buffer.concat([this.bytes, copy]);
    if (this.behaviour === "fails-after") throw new Error("EIO");
  }

  /** Writes that wait to be released. */
  holding(): number {
    return this.held.length;
  }

  release(): void {
    this.behaviour = "works";
    for (const resolve of this.held.splice(0)) resolve();
  }

  damage(): null {
    return null;
  }

  close(): void {
    this.closed = true;
  }

  finish(): void {
    this.closed = true;
  }
}

export class FakeSensor implements SignalSource {
  readonly name: SignalSource["name"];
  state: SensorHealth = { state: "watching", via: "fake" };
  stopped = false;

  constructor(name: SignalSource["name"]) {
    this.name = name;
  }

  async start(): Promise<void> {}

  async stop(): Promise<void> {
    this.stopped = true;
  }

  health(): SensorHealth {
    return this.state;
  }
}

export class FakeClock {
  monoMs = 1_000;
  realMs = Date.UTC(2026, 0, 1);

  wallMs = (): number => this.realMs;
  monoNs = (): bigint => BigInt(Math.round(this.monoMs * 1e6));
  bootMs = (): number => this.monoMs;
  bootId = (): string => "00000000-0000-0000-0000-000000000000";

  pass(ms: number): void {
    this.monoMs += ms;
    this.realMs += ms;
  }
}

export type HostOptions = {
  readonly mode?: Mode;
  readonly start?: Start;
  readonly tripwires?: readonly Tripwire[];
  readonly config?: Parameters<typeof ConfigSchema.parse>[0];
  readonly enforcing?: false;
  readonly hold?: StartHold;
  /** The log cannot be written from the beginning. */
  readonly storeFails?: true;
  readonly usb?: DaemonParts["usb"];
  readonly policies?: DecideParts["policies"];
  /** What an earlier run's log said of limits and approvals. */
  readonly before?: Pick<Fold, "limits" | "approvals">;
  readonly clock?: FakeClock;
  /** Told of every mode that comes to be wanted. */
  readonly hearers?: readonly ((mode: Mode) => void)[];
  readonly mustEnd?: (error: unknown) => void;
};

type DaemonParts = Parameters<typeof createDaemon>[0];

/** A host without USB. */
const NO_USB: DaemonParts["usb"] = {
  modeIs: () => undefined,
  look: () => undefined,
  tick: () => undefined,
  stop: () => undefined,
  failure: () => "",
};

export const trip = (id: string, on: SignalKind, over: Partial<Tripwire> = {}): Tripwire => ({
  id,
  on,
  match: {},
  armed: ["OPEN", "RESTRICTED", "TRUSTED", "AIRGAP", "COLDROOM", "LOCKDOWN"],
  action: { kind: "trip", to: "LOCKDOWN" },
  whenBlind: "degrade",
  acrossStop: "trip",
  ...over,
});

/** The whole daemon on fakes: the real loop, log, baseline, enforcer and machine. */
/** Policies that allow what the mode does. */
const PERMISSIVE: DecideParts["policies"] = {
  answer: () => ({
    decision: "allow",
    code: "allowed",
    reasons: ["permissive"],
    errors: [],
    needsPerson: false,
    advice: "",
  }),
  digest: () => "",
  withKnown: (request) => request,
  settled: () => Promise.resolve(),
};

export async function startHost(options: HostOptions = {}) {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const raw = Buffer.from(publicKey.export({ format: "der", type: "spki" })).subarray(-32);
  const vkey = renderVkey("test-host", raw);
  const clock = options.clock ?? new FakeClock();
  const store = new FakeStore();
  if (options.storeFails) store.behaviour = "fails";
  const firewall = new FakeFirewall();
  const records: LogRecord[] = [];
  const told: string[] = [];
  const files = new Map<string, FileState>();
  const saved: { states: readonly FileState[] } = { states: [] };
  const config: Config = ConfigSchema.parse({
    ceremony: { coolDownMs: 1_000 },
    ...(options.config as object),
  });
  const tripwires = options.tripwires ?? [
    trip("link", "network.link"),
    trip("files", "file.changed"),
    trip("rules", "rules.changed"),
    trip("log", "log.damaged"),
  ];
  const sensors = [new FakeSensor("network"), new FakeSensor("files")] as const;
  const damaged: { tell: (detail: string) => void } = { tell: () => undefined };
  const log = openLog({
    store,
    signer: { vkey, sign: (message) => sign(null, message, privateKey) },
    head: { remember: async () => undefined },
    clock,
    tail: emptyTail(),
    origin: "test-host",
    onRecord: (record) => records.push(record),
    onFailed: () => damaged.tell("write failed"),
  });
  const baseline = createBaseline({
    memory: () => ({ states: [...files.values()], unsettled: new Set() }),
    snapshot: async () => [...files.values()],
    store: {
      path: "/state/baseline.json",
      load: () => ({ kind: "states", states: saved.states }),
      prepare: async (states) => ({
        commit: async () => {
          saved.states = states;
        },
      }),
    },
    self: [],
    tripwires,
    append: log.append,
    tell: (signal) => daemon.submit(signal),
    seenNs: clock.monoNs,
    renewEveryMs: config.sensors.repeatWindowMs,
    opLog: { info: () => undefined, warn: () => undefined, error: (_, message) => void told.push(message) },
  });
  const enforcer = createEnforcer({
    firewall: options.enforcing === false ? null : firewall,
    network: config.network,
    timeoutMs: 2_000,
    surroundings: fakeSurroundings(),
  });
  const quiet = {
    info: () => undefined,
    warn: () => undefined,
    error: (_fields: object, message: string) => void told.push(message),
  };
  const start: Start = options.start ?? {
    mode: options.mode ?? "RESTRICTED",
    cause: { kind: "initial", why: "test" },
    epoch: 0,
    frozen: "",
  };
  const notified: string[] = [];
  const failing: SelftestResult[] = [];
  const holds: Hold[] = [];
  const flows: Flow[] = [];
  const disk: { freeBytes: number | null } = { freeBytes: 1e12 };
  const before = options.before ?? emptyFold();
  const append: typeof daemon.record = (entry) => daemon.record(entry);
  const limits = createLimitDesk({ settings: config.limits, memory: before.limits, clock, append });
  const denials = createDenials({
    probing: config.limits.probing,
    repeatWindowMs: config.sensors.repeatWindowMs,
    rootOf: (token) => grants.tokens.rootOf(token)?.id ?? null,
    clock,
    append,
    submit: (signal) => daemon.submit(signal),
  });
  const approvals = createApprovals({
    settings: config.approvals,
    requireTerminal: config.ceremony.requireTerminal,
    memory: before.approvals,
    clock,
    mode: () => {
      const { epoch, wanted, applied } = daemon.state();
      return { epoch, lockdown: wanted === "LOCKDOWN" || applied === "LOCKDOWN" };
    },
    obstacle: () => {
      const { frozen } = daemon.state();
      return frozen ? { code: "clock-frozen", why: frozen.why } : null;
    },
    append,
  });
  const daemon = createDaemon(
    {
      clerks: [limits, denials, approvals],
      config,
      tripwires,
      clock,
      log,
      keyDamage: () => null,
      logRoom: () => disk.freeBytes,
      enforcer,
      hearers: options.hearers ?? [],
      ...(options.mustEnd ? { mustEnd: options.mustEnd } : {}),
      exists: (flow) => flows.some((each) => sameFlow(each, flow)),
      heldAs: (hold) => void holds.push(hold),
      usb: options.usb ?? NO_USB,
      isolation: { failure: () => "" },
      baseline,
      selftest: { failures: () => failing, tick: () => undefined },
      isExpected: () => false,
      sensors,
      opLog: quiet,
      notifier: {
        ready: () => undefined,
        watchdog: () => void notified.push("watchdog"),
        stopping: () => void notified.push("stopping"),
        status: () => undefined,
      },
    },
    { ...start, hold: options.hold ?? { ...lasting(ENFORCING), change: null } },
    {},
  );
  const policies = options.policies ?? PERMISSIVE;
  const grants = createGrants({
    fold: log.fold,
    record: daemon.record,
    state: daemon.state,
    clock,
    config,
    policy: {
      settled: () => policies.settled(),
      permit: (...asked) => governor.permit(...asked),
      permits: (...asked) => governor.permits(...asked),
    },
  });
  const deciding: DecideParts = {
    daemon,
    trustedInterfaces: config.network.trustedInterfaces,
    roles: resolveRoles(config, new Map(), new Map()).table,
    ownUid: 0,
    ...grants,
    policies,
    approvals,
    denials,
    wallMs: clock.wallMs,
    opLog: quiet,
  };
  const evaluator = createEvaluator(deciding);
  const governor = createGovernor(deciding);
  damaged.tell = (detail) =>
    daemon.submit(signalOf("log.damaged", { log: "core", what: "write-failed", detail }));
  files.set("/etc/watched", fileState("/etc/watched", "one"));
  await daemon.begin(
    { version: "test" },
    { kind: "first", mode: start.mode, digest: "", lastAt: "", sameBoot: true },
  );
  await settled();

  return {
    daemon,
    grants,
    evaluator,
    governor,
    limits,
    denials,
    approvals,
    baseline,
    failing,
    clock,
    store,
    firewall,
    log,
    records,
    told,
    files,
    saved,
    sensors,
    notified,
    /** What `heldAs` was told, in order. */
    holds,
    /** The connections of the host. */
    flows,
    disk,
    config,
    tripwires,
    refuses,
    kinds: () => records.map((record) => record.kind).filter((kind) => kind !== "seal"),
    last: (kind: string) => records.findLast((record) => record.kind === kind),
    set: (to: Mode, forMs: number | null = null) =>
      daemon.ask((request) => ({
        kind: "set-mode",
        request,
        to,
        by: ANA,
        reason: "test",
        forMs,
        confirmMs: null,
        keep: null,
      })),
    signal: (kind: SignalKind, facts: Facts) => daemon.submit(signalOf(kind, facts)),
    /** What must hold after every flow: the log verifies, and what is reported applied is what the kernel holds. */
    async checkInvariants(): Promise<void> {
      await settled();
      const verdict = await verifyLog(chunks(store.bytes), { vkey });
      expect(verdict.bad).toBeNull();
      const { wanted, applied } = daemon.state();
      const { hold } = daemon.state().held;
      if (options.enforcing !== false && applied !== null) {
        if (hold === "enforcing") expect(firewall.mode).toBe(applied);
        else expect(refuses()).toBe(false);
      }
      if (store.behaviour !== "works" || log.state() !== "writing") return;
      // what a start would go on from is what is so now, in every dimension
      if (daemon.state().loosening !== null) return;
      const { held, base, frozen } = daemon.state();
      expect(verdict.state).toMatchObject({
        wanted,
        frozen: frozen?.why ?? "",
        hold: base,
        releasedBoot: held.lasts === "boot" ? clock.bootId() : "",
        unreadable: "",
      });
      if (held.lasts === "always") expect(base).toBe(held.hold);
    },
  };

  /** Whether what is in the kernel refuses anything: shadow may have a table of its own there. */
  function refuses(): boolean {
    return /policy drop| drop$/m.test(firewall.table ?? "");
  }

  function signalOf(kind: SignalKind, facts: Facts): Signal {
    return { kind, facts, seenNs: clock.monoNs() };
  }
}

export function fileState(path: string, content: string): FileState {
  return {
    ...missingState(path),
    kind: "file",
    sha256: content,
    size: content.length,
    mode: 0o600,
    inode: "1:1",
  };
}

/** Everything that was going to happen by itself has happened. */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 12; turn++) await new Promise((resolve) => setImmediate(resolve));
}

async function* chunks(bytes: Buffer): AsyncGenerator<{ file: string; bytes: Buffer }> {
  yield { file: "00000000000000000000.jsonl", bytes };
}
