#!/usr/bin/env -S node --disallow-code-generation-from-strings --max-semi-space-size=1 --optimize-for-size
import { createHash, randomInt } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { openBaselineFile } from "./adapters/baseline-file.ts";
import { openCanaryFile, sendCanary } from "./adapters/canary.ts";
import { createClock } from "./adapters/clock.ts";
import { createClockSensor } from "./adapters/clock-watch.ts";
import { createDirectoryWatch } from "./adapters/directory-watch.ts";
import {
  forgetEnforcedMark,
  forgetUsbMark,
  hasUsbMark,
  keepEnforcedMark,
  keepUsbMark,
  readEnforcedMark,
} from "./adapters/enforced-mark.ts";
import { freeBytes } from "./adapters/file-reserve.ts";
import { createFileReader } from "./adapters/file-state.ts";
import { createFileSensor } from "./adapters/file-watch.ts";
import { createHostSockets } from "./adapters/flows.ts";
import { forgetHead, openHeadFile, readHead } from "./adapters/head-file.ts";
import { createInventory } from "./adapters/inventory.ts";
import { type ControlSocket, listenControl } from "./adapters/ipc.ts";
import { createKeySensor } from "./adapters/key-watch.ts";
import { createKeyRing, loadKeyRing, prepareStateDirectory } from "./adapters/keys.ts";
import { openLibnftables } from "./adapters/libnftables.ts";
import {
  createSegment,
  cutTail,
  firstLineOf,
  hasSegments,
  isUnwritten,
  type Keeping,
  lastSnapshot,
  openSegment,
  prepareLogDirectory,
  protectEnded,
  protectionOf,
  quarantine,
  readLog,
  readLogFrom,
  removeSegment,
  saveTombstone,
  segmentsOf,
} from "./adapters/log-file.ts";
import { lastLine, readLines } from "./adapters/log-lines.ts";
import { lockLogDirectory } from "./adapters/log-lock.ts";
import { createNetworkSensor } from "./adapters/net-watch.ts";
import { openNftProgram } from "./adapters/nft-program.ts";
import { createOpLog } from "./adapters/op-log.ts";
import { peerOf } from "./adapters/peer.ts";
import { missingUsbPrivilege, netPrivilege } from "./adapters/privilege.ts";
import { createPeerFacts } from "./adapters/proc.ts";
import { createRulesWatch } from "./adapters/rules-watch.ts";
import { claimSocketPath, prepareRuntimeDir } from "./adapters/socket-path.ts";
import { createSurroundings } from "./adapters/surroundings.ts";
import { createNotifier } from "./adapters/systemd.ts";
import { tracesIn } from "./adapters/traces.ts";
import { createKeyboardChallenge } from "./adapters/usb-challenge.ts";
import { createUsbGate } from "./adapters/usb-gate.ts";
import { openUsbRulesFile } from "./adapters/usb-rules-file.ts";
import { createUsbSensor } from "./adapters/usb-watch.ts";
import { openLog } from "./audit/log.ts";
import type { Entry } from "./audit/record.ts";
import type { LogEnd } from "./audit/recover.ts";
import { isSnapshotLine } from "./audit/snapshot.ts";
import { createAuditStream, type StreamParts } from "./audit-stream.ts";
import { createBaseline } from "./baseline.ts";
import { parseAccounts, resolveRoles } from "./core/accounts.ts";
import { isReleased } from "./core/boot-parameter.ts";
import { clockWhileStopped } from "./core/clock-drift.ts";
import { type Config, ConfigSchema } from "./core/config.ts";
import { parseConfig, parseTripwires, renderProblems } from "./core/config-parse.ts";
import { BoundaryError, renderErrorChain } from "./core/errors.ts";
import type { SelfPath } from "./core/fingerprint.ts";
import { sameFlow } from "./core/flow-text.ts";
import type { Hold } from "./core/hold.ts";
import { redactText } from "./core/redact.ts";
import { heldSoFar, holdIn, startIn } from "./core/start.ts";
import { fullDisk } from "./core/steps.ts";
import { cgroupsOf } from "./core/surroundings.ts";
import {
  faultsOf,
  markAfterStart,
  networkObstacles,
  type Obstacle,
  readSwitches,
  type SwitchSettings,
  usbObstacles,
} from "./core/switches.ts";
import { type Tripwire, watchedPaths } from "./core/tripwire.ts";
import { readUsbMemory } from "./core/usb-memory.ts";
import type { UsbRule } from "./core/usb-rule.ts";
import { parseUsbRules } from "./core/usb-rule-parse.ts";
import { createDaemon, type Daemon } from "./daemon.ts";
import { createEnforcer, type Enforcer } from "./enforce.ts";
import { createFeed } from "./feed.ts";
import { type LastKnown, lastKnown, UNKNOWN, unrecorded } from "./last-known.ts";
import { networkProbes } from "./network-probe.ts";
import { type LogPlace, openHistory, readHistory } from "./open-log.ts";
import { HELP, type Options, parseCommand } from "./options.ts";
import type { Clock, Firewall } from "./ports.ts";
import { type PrunePlace, prune } from "./prune.ts";
import type { ReadBackPlace } from "./read-back.ts";
import { answer } from "./requests.ts";
import {
  createExpectations,
  createSelftest,
  filesProbe,
  logProbe,
  pathProbe,
  SELFTEST_TRIPWIRE,
} from "./selftest.ts";
import { statusOf } from "./status.ts";
import { createStop } from "./stop-once.ts";
import { createUsbControl } from "./usb.ts";
import { createUsbChallenges } from "./usb-challenges.ts";
import { closeControllers } from "./usb-close.ts";
import { createUsbPeople } from "./usb-people.ts";
import { usbProbe } from "./usb-probe.ts";
import { createRulebook } from "./usb-rulebook.ts";

/**
 * The composition root: reads what this run is to be, builds the parts and joins them. Nothing is decided here but
 * what to do when there can be no daemon: then the kernel is closed, where we may, and the exit code says why.
 */
const VERSION = packageVersion();
const EXIT = { stopped: 0, failed: 1, usage: 2, noStart: 3 } as const;
const MAX_WATCHED_FILES = 20_000;
const MAX_HASH_BYTES = 64 * 1024 * 1024;
/** Of lines of the audit stream in one reply, which has to fit into a frame with all that is around them. */
const MAX_LINES_BYTES = 60 * 1024;
const STREAM_STOP_MS = 2_000;
/** The kernel's rules are listed and compared at least this often. */
const COMPARE_EVERY_MS = 10_000;
/** What the kernel refused is tried again after so long, and after twice as long each time. */
const RETRY_EVERY_MS = 10_000;
const PROBE_DEADLINE_MS = 5_000;
const MILLION = 1_000_000;
/** Another daemon has the socket or the log: the kernel's rules are its own, and not ours to close. */
const NOT_OURS = new Set(["socket-in-use", "log-locked"]);

const opLog = createOpLog({ level: process.env["BOUNDARY_LOG_LEVEL"] ?? "info" });

type Setup = {
  readonly options: Options;
  readonly config: Config;
  readonly tripwires: readonly Tripwire[];
  /** Of the configuration; the permanent ones come before them. */
  readonly usbRules: readonly UsbRule[];
  readonly switches: SwitchSettings;
  readonly digest: string;
};

async function main(): Promise<void> {
  const command = parseCommand(process.argv.slice(2), process.env, process.getuid?.() ?? 0);
  switch (command.kind) {
    case "help":
      process.stdout.write(HELP);
      return;
    case "version":
      process.stdout.write(`boundary-daemon ${VERSION}\n`);
      return;
    case "usage":
      process.stderr.write(`boundary-daemon: ${redactText(command.why)}\n\n${HELP}`);
      process.exitCode = EXIT.usage;
      return;
    case "check-config":
      readSetup(command.options);
      process.stdout.write(`${command.options.configFile}: good\n`);
      return;
    case "close":
      return close(await readSetupOrClose(command.options));
    case "run":
      return run(await readSetupOrClose(command.options));
  }
}

async function run(setup: Setup): Promise<void> {
  const clock = createClock();
  const { enforcer, obstacles, via } = openKernel(setup);
  const known: { hold: Hold | null } = { hold: null };
  try {
    await start(setup, { clock, enforcer, obstacles, via, known });
  } catch (error) {
    if (!(error instanceof BoundaryError && NOT_OURS.has(error.code)))
      closeKernel(enforcer, known.hold ?? (await lastHold(setup)));
    throw error;
  }
}

type Host = {
  readonly clock: Clock;
  readonly enforcer: Enforcer;
  readonly obstacles: readonly Obstacle[];
  readonly via: string;
  /** The hold, once the start knows it: a host that a person opened is not closed by what goes wrong afterwards. */
  readonly known: { hold: Hold | null };
};

async function start(setup: Setup, host: Host): Promise<void> {
  const { options, config } = setup;
  const tripwires = [...setup.tripwires, SELFTEST_TRIPWIRE];
  const { clock, enforcer } = host;
  const startedAtMs = clock.wallMs();
  process.umask(0o077);
  const roles = readRoles(config);
  prepareRuntimeDir(options.runtimeDir, roles.group === null ? 0o700 : 0o755);
  const place = await claimSocketPath(`${options.runtimeDir}/control.sock`, {
    mode: roles.group === null ? 0o600 : 0o660,
    group: roles.group,
  });
  prepareLogDirectory(options.logDir);
  prepareStateDirectory(options.stateDir);
  lockLogDirectory(options.logDir);

  const logPlace = logPlaceOf(options, keepingOf(config), clock);
  const opened = await openHistory(logPlace);
  const feed = createFeed();
  const expected = createExpectations();
  const damaged: { tell: (why: string) => void } = { tell: () => undefined };
  const log = openLog({
    store: opened.store,
    signer: opened.signer,
    head: openHeadFile(options.stateDir),
    clock,
    tail: opened.tail,
    origin: opened.ring.origin,
    successor: {
      key: opened.ring.prepareNext,
      store: (firstSeq) => createSegment(options.logDir, firstSeq, keepingOf(config)),
      took: opened.ring.promote,
    },
    onRecord: (record) => {
      feed.publish(record);
      expected.recorded(record);
      stream.take(record);
    },
    onFailed: (cause) => damaged.tell(renderErrorChain(cause)),
  });
  const stream = createAuditStream({
    ...streamPlaceOf(options, config, clock),
    core: {
      key: opened.ring.genesis,
      origin: opened.ring.origin,
      size: opened.tail.size,
      head: opened.tail.head,
      files: readBackPlaceOf(options.logDir),
    },
    clock,
    limits: config.log,
    damaged: (what, detail) => {
      opLog.error({ what, detail }, "the audit stream is damaged; the core log goes on");
      daemon.submit({ kind: "log.damaged", facts: { log: "audit", what, detail }, seenNs: clock.monoNs() });
    },
    began: (data) => {
      if (!daemon.stopping()) daemon.record({ kind: "audit.began", data });
    },
  });
  for (const finding of opened.findings) log.append(finding);

  const resumed = startIn(opened.history, options.mode, config.initialMode);
  const now = { wallMs: clock.wallMs(), monoNs: clock.monoNs(), boot: clock.bootId() };
  const moved = clockWhileStopped(opened.fold, now, config.clock);
  const hold = holdIn(opened.history, holdFacts(config, clock));
  const begun = { ...resumed, hold, frozen: resumed.frozen === "" ? moved : resumed.frozen };
  host.known.hold = heldSoFar(hold).held.hold;
  const missing = host.obstacles.map(({ what }) => what);
  const canary = openCanaryFile(options.stateDir);
  const self = [...ownFiles(setup), { path: canary.path, part: "canary" } as const];
  const files = createFileSensor({
    paths: watchedPaths(tripwires),
    self,
    rehashMs: config.sensors.rehashMs,
    clock,
    limits: { maxFiles: MAX_WATCHED_FILES },
    reader: createFileReader({ maxHashBytes: MAX_HASH_BYTES, hashConcurrency: 4 }),
    directories: createDirectoryWatch({ maxDirectories: MAX_WATCHED_FILES, sweepMs: 2_000 }),
    onRehashed: () => baseline.recheck(),
  });
  const rules = createRulesWatch({
    check: enforcer.how === "kernel" ? enforcer.check : null,
    claim: enforcer.claim,
  });
  const sensors = [
    rules,
    createNetworkSensor({ clock, relistMs: config.sensors.relistMs }),
    files,
    createUsbSensor({ clock }),
    createKeySensor({
      clock,
      ...config.usb.keystrokes,
      onInjected: (port) => usbChallenges.injected(port),
    }),
    createClockSensor({ clock, limits: config.clock, everyMs: config.enforcement.heartbeatMs }),
  ];
  const baseline = createBaseline({
    memory: files.memory,
    snapshot: files.snapshot,
    store: openBaselineFile(options.stateDir),
    self,
    tripwires,
    append: (entry) => {
      if (daemon.stopping()) throw new BoundaryError("stopping", `appending a record of kind ${entry.kind}`);
      return log.append(entry);
    },
    tell: (signal) => daemon.submit(signal),
    seenNs: clock.monoNs,
    renewEveryMs: config.sensors.repeatWindowMs,
    opLog,
  });
  const usbMemory = readUsbMemory(opened.fold.usb);
  const usbRules = createRulebook({
    store: openUsbRulesFile(options.stateDir),
    configured: { rules: setup.usbRules, chosen: config.usb.rulesFile !== undefined },
    signed: usbMemory?.rules ?? "",
  });
  const usb = createUsbControl({
    gate: createUsbGate(),
    missing: () => usbObstacles({ switchedOn: setup.switches.usb, missingPrivilege: missingUsbPrivilege() }),
    leftClosed: hasUsbMark(options.stateDir),
    onEnforced: () => heldAs(setup, host, daemon.state().held.hold),
    rules: usbRules,
    memory: usbMemory,
    clock,
    localOffsetMinutes: (atMs) => -new Date(atMs).getTimezoneOffset(),
    random: () => randomInt(MILLION) / MILLION,
    hold: () => daemon.state().held.hold,
    mayAllow: () => daemon.state().room === "ok",
    frozen: () => daemon.state().frozen !== null,
    challengeKeyboards: config.usb.challengeKeyboards,
    append: (entry) => daemon.record(entry),
    submit: (signal) => daemon.submit(signal),
    repeatWindowMs: config.sensors.repeatWindowMs,
    opLog,
  });
  const notifier = createNotifier();
  const inventory = createInventory({ everyMs: config.sensors.inventoryMs, wallMs: clock.wallMs });
  const selftest = createSelftest({
    probes: [
      ...networkProbes({ enforcer, state: () => daemon.state(), send: sendCanary }),
      filesProbe(expected, canary, () => {
        const health = files.health();
        return health.state === "watching" ? "" : health.why;
      }),
      pathProbe(expected, (nonce) =>
        daemon.submit({ kind: "selftest.event", facts: { nonce }, seenNs: clock.monoNs() }),
      ),
      logProbe({ ...log, line: (seq) => lineOf(options.logDir, seq) }),
      usbProbe(usb, () => daemon.state().held.hold),
    ],
    record: (entry) => beforeStop(entry),
    wallMs: clock.wallMs,
    monoMs: () => Number(clock.monoNs() / 1_000_000n),
    everyMs: config.selftest.everyMs,
    deadlineMs: PROBE_DEADLINE_MS,
  });
  const daemon = createDaemon(
    {
      config,
      selftest,
      isExpected: expected.takes,
      tripwires,
      clock,
      log,
      logRoom: () => freeBytes(options.logDir),
      keyDamage: () => {
        const change = opened.ring.damage();
        return change && { path: `${options.stateDir}/log.key`, change };
      },
      enforcer,
      usb,
      baseline,
      sensors,
      notifier,
      exists: (flow) => SOCKETS.flows().some((each) => sameFlow(each, flow)),
      heldAs: (held) => {
        heldAs(setup, host, held);
        usb.look();
      },
      opLog,
    },
    begun,
    opened.fold.firedByTripwire,
  );
  damaged.tell = (detail) =>
    daemon.submit({
      kind: "log.damaged",
      facts: { log: "core", what: "write-failed", detail },
      seenNs: clock.monoNs(),
    });
  let control: ControlSocket | null = null;
  const ticking = setInterval(() => {
    daemon.tick();
    stream.tick();
  }, config.enforcement.heartbeatMs);
  endWith(daemon, enforcer, {
    ticks: () => clearInterval(ticking),
    // the core log is closed by then; a disk that does not answer keeps nobody
    audit: () => Promise.race([stream.close(), alarm(STREAM_STOP_MS)]),
    control: async () => control?.stop(),
  });

  /** The stop is the last record: another one after it would make a crash of it. */
  const beforeStop = (entry: Entry) => {
    if (daemon.stopping()) throw new BoundaryError("stopping", `appending a record of kind ${entry.kind}`);
    return daemon.record(entry);
  };
  const usbObstacle = () => {
    const { frozen } = daemon.state();
    if (frozen) return { code: "clock-frozen", why: `nothing is allowed: ${frozen.why}` } as const;
    return fullDisk(daemon.state());
  };
  const usbChallenges = createUsbChallenges({
    control: usb,
    keyboard: createKeyboardChallenge({ clock }),
    clock,
    code: () => String(randomInt(MILLION)).padStart(6, "0"),
    maxPerSecond: config.usb.keystrokes.maxPerSecond,
    append: (entry) => {
      if (!daemon.stopping()) daemon.record(entry);
    },
    submit: (signal) => daemon.submit(signal),
    obstacle: usbObstacle,
    opLog,
  });
  const usbPeople = createUsbPeople({
    control: usb,
    rules: usbRules,
    challenges: usbChallenges,
    append: beforeStop,
    wallMs: clock.wallMs,
    mode: () => daemon.state().wanted,
    obstacle: usbObstacle,
    requireTerminal: config.ceremony.requireTerminal,
  });
  const ended = new Set<string>(); // segments that are known to be immutable
  const office = {
    daemon,
    baseline,
    feed,
    config,
    tripwires,
    roles: roles.table,
    ownUid: process.getuid?.() ?? 0,
    facts: createPeerFacts(),
    opLog,
    audit: stream,
    selftest,
    sockets: SOCKETS,
    wouldBlock: () => enforcer.wouldBlock(),
    usb: usbPeople,
    usbOutlook: usbPeople.outlook,
    prune: oneAtATime((keptDays: number, by: number) =>
      prune(prunePlaceOf(options.logDir), beforeStop, opened.ring.genesis, {
        keptDays,
        by,
        nowMs: clock.wallMs(),
      }),
    ),
    head: () => ({ vkey: opened.ring.genesis, size: log.head().size, note: log.head().note }),
    status: () =>
      statusOf({
        daemon,
        log,
        enforcer,
        sensors,
        baseline,
        selftest,
        stream: stream.state,
        usb: usbPeople.status,
        clock,
        switches: setup.switches,
        obstacles: missing,
        network: `through ${host.via}, dead-man's set of ${config.enforcement.deadManMs} ms`,
        logDir: options.logDir,
        protections: () => protectionOf(options.logDir, ended),
        vkey: opened.ring.genesis,
        version: VERSION,
        startedAtMs,
        inventory: inventory.latest,
      }),
  };
  await daemon.begin(
    {
      version: VERSION,
      pid: process.pid,
      config: setup.digest,
      network:
        enforcer.how === "observed"
          ? `observed; missing: ${missing.join("; ")}`
          : hold.held.hold === "enforcing"
            ? "enforced"
            : `observed; ${hold.held.hold}`,
      usb: usb.how === "enforced" ? "enforced" : `observed; missing: ${usb.missing.join("; ")}`,
    },
    {
      kind: opened.history.kind === "none" ? "first" : opened.history.kind === "clean" ? "clean" : "crash",
      mode: begun.mode,
      digest: opened.fold.baselineDigest,
      lastAt: opened.fold.lastAt,
      sameBoot: opened.fold.lastBoot === clock.bootId(),
      unwatched: usb.gap(),
    },
  );
  host.known.hold = daemon.state().held.hold;
  rememberEnforcement(setup, host.obstacles, host.known.hold);
  control = await listenControl({
    place,
    limits: config.limits,
    peerOf,
    onRequest: (connection, request, reply) => void answer(office, connection, request).then(reply),
    log: opLog,
  });
  notifier.ready();
  inventory.start();
  if (config.log.appendOnly) setImmediate(() => protectEnded(options.logDir));
  void stream.open(); // beside the loop: nobody waits for it
  opLog.info(
    {
      mode: begun.mode,
      cause: begun.cause,
      network: enforcer.how,
      missing,
      socket: options.runtimeDir,
    },
    "ready",
  );
}

/**
 * Loads the last mode's rules without a daemon to renew them, or LOCKDOWN when the last mode is not known for certain.
 * Loads nothing, and takes our rules out, where the log says that the host is in shadow or released.
 */
async function close(setup: Setup): Promise<void> {
  const { enforcer, obstacles } = openKernel(setup);
  const missing = obstacles.map(({ what }) => what).join("; ");
  const isLogOnly = enforcer.how === "observed" && faultsOf(obstacles).length === 0;
  if (isLogOnly && !setup.switches.usb) {
    process.stdout.write(`nothing to close: log-only; missing: ${missing}\n`);
    return;
  }
  if (isTaken(setup.options.logDir)) {
    process.stdout.write("a daemon is running: its rules stay as they are\n");
    return;
  }
  const known = await asLogged(setup, "enforcing");
  try {
    if (isLogOnly) process.stdout.write(`no rules to load: log-only; missing: ${missing}\n`);
    else closeNetwork(enforcer, missing, known);
  } finally {
    // last: it may have to wait
    if (known.hold === "enforcing" && setup.switches.usb) await closeUsb();
  }
}

function closeNetwork(enforcer: Enforcer, missing: string, { mode, hold, why }: LastKnown): void {
  if (enforcer.how === "observed" && hold === "enforcing") {
    // whoever called has to close by other means (OnFailure=)
    process.stderr.write(`boundary-daemon: cannot close, though it is switched on; missing: ${missing}\n`);
    process.exitCode = EXIT.noStart;
    return;
  }
  const settled = enforcer.settle(mode, { hold, keep: null });
  if (!settled.ok) throw new BoundaryError("nft-failed", `loading the rules of ${mode}: ${settled.why}`);
  const because = why === "" ? "" : ` (${why})`;
  process.stdout.write(
    hold === "enforcing"
      ? `${mode} is in the kernel\n`
      : `the hold is ${hold}${because}: nothing is loaded; the mode is ${mode}\n`,
  );
}

/** What is there is for the next start to decide, which knows the rules and the log. */
async function closeUsb(): Promise<void> {
  const why = await closeControllers(createUsbGate(), sleep);
  if (why === "") return;
  process.stderr.write(`boundary-daemon: USB is not closed: ${[why, ...missingUsbPrivilege()].join("; ")}\n`);
  process.exitCode = EXIT.noStart;
}

/** Whether a living daemon has the log: then the kernel's rules are its own. */
function isTaken(logDir: string): boolean {
  if (!existsSync(logDir)) return false;
  try {
    lockLogDirectory(logDir).release();
    return false;
  } catch (error) {
    return error instanceof BoundaryError && error.code === "log-locked";
  }
}

const SOCKETS = createHostSockets();

function holdFacts({ enforcement }: Config, clock: Clock): Parameters<typeof holdIn>[1] {
  const parameter = isReleased(SOCKETS.commandLine());
  return { firstStart: enforcement.firstStart, parameter, boot: clock.bootId() };
}

/** What the log says, with nobody else writing to it meanwhile. */
async function asLogged(
  { options, config }: Pick<Setup, "options" | "config">,
  unrecordedIs: "enforcing" | "released",
): Promise<LastKnown> {
  const clock = createClock();
  const place = logPlaceOf(options, keepingOf(config), clock);
  const lock = existsSync(options.logDir) ? lockLogDirectory(options.logDir) : null;
  try {
    return await lastKnown({
      history: () => readHistory(place),
      reopen: async () => {
        process.umask(0o077);
        const opened = await openHistory(place);
        const { store, signer, tail, ring } = opened;
        const head = openHeadFile(options.stateDir);
        const nobody = { onRecord: () => undefined, onFailed: () => undefined };
        return { opened, log: openLog({ store, signer, head, clock, tail, origin: ring.origin, ...nobody }) };
      },
      initialMode: config.initialMode,
      hold: holdFacts(config, clock),
      unrecorded: unrecordedIs,
      opLog,
    });
  } finally {
    lock?.release();
  }
}

/** For a start that failed before it knew: nothing is recorded then, so what is not in the log yet does not count. */
async function lastHold({ options, config }: Setup): Promise<Hold> {
  const clock = createClock();
  try {
    const history = await readHistory(logPlaceOf(options, keepingOf(config), clock));
    return heldSoFar(holdIn(history, holdFacts(config, clock))).held.hold;
  } catch {
    return UNKNOWN.hold;
  }
}

function openKernel({ config, switches }: Pick<Setup, "config" | "switches">): Omit<Host, "clock" | "known"> {
  const privilege = netPrivilege();
  const surroundings = createSurroundings();
  const firewall = switches.network ? openFirewall() : { unavailable: "" };
  const unavailable = "unavailable" in firewall && switches.network ? firewall.unavailable : null;
  const obstacles = networkObstacles({
    switchedOn: switches.network,
    missingPrivilege: privilege.missing,
    inInitNetns: privilege.inInitNetns,
    allowInitNetns: config.enforcement.allowInitNetns,
    firewall: unavailable,
  });
  const usable = obstacles.length === 0 && !("unavailable" in firewall) ? firewall : null;
  const enforcer = createEnforcer({
    firewall: usable,
    network: config.network,
    timeoutMs: config.enforcement.deadManMs,
    surroundings,
    compareEvery: Math.max(1, Math.round(COMPARE_EVERY_MS / config.enforcement.heartbeatMs)),
    retryEvery: Math.max(1, Math.round(RETRY_EVERY_MS / config.enforcement.heartbeatMs)),
  });
  return { enforcer, obstacles, via: usable?.via ?? "" };
}

/** The library in this process; where it is missing, the nft program (slower: a process for every call). */
function openFirewall(): Firewall | { unavailable: string } {
  const library = openLibnftables();
  if (!("unavailable" in library)) return library;
  const program = openNftProgram();
  return "unavailable" in program
    ? { unavailable: `${library.unavailable}; ${program.unavailable}` }
    : program;
}

/** There is no daemon to renew anything: LOCKDOWN, for good. Nothing where the host was open by a person's hand. */
function closeKernel(enforcer: Enforcer, hold: Hold): void {
  if (enforcer.how === "observed") return;
  const settled = enforcer.settle("LOCKDOWN", { hold, keep: null });
  const what = hold === "enforcing" ? "LOCKDOWN is in the kernel" : `the hold is ${hold}: nothing is loaded`;
  opLog.error({ settled, hold }, `${what}: there is no daemon`);
}

/** For a later start that cannot read its configuration: whether it has to close. Never where a person opened the host. */
function rememberEnforcement(
  { options, config, switches }: Setup,
  obstacles: readonly Obstacle[],
  hold: Hold,
): void {
  const missing = usbObstacles({ switchedOn: switches.usb, missingPrivilege: missingUsbPrivilege() });
  if (hold !== "enforcing" || !switches.usb) forgetUsbMark(options.stateDir);
  else if (missing.length === 0) keepUsbMark(options.stateDir);
  const consent = config.enforcement.allowInitNetns ? "consent" : "no-consent";
  const what = hold === "enforcing" ? markAfterStart(obstacles) : "forget";
  if (what === "keep") keepEnforcedMark(options.stateDir, consent);
  if (what === "forget") forgetEnforcedMark(options.stateDir);
}

/** The loop is not held up by a mark that cannot be written; a start that succeeds writes it again. */
function heldAs(setup: Setup, host: Host, hold: Hold): void {
  host.known.hold = hold;
  try {
    rememberEnforcement(setup, host.obstacles, hold);
  } catch (error) {
    opLog.error({ err: renderErrorChain(error), hold }, "the mark of enforcement could not be changed");
  }
}

/** Where enforcement was on, a configuration that cannot be read is LOCKDOWN: one typo must not leave the host open. */
async function readSetupOrClose(options: Options): Promise<Setup> {
  try {
    return readSetup(options);
  } catch (error) {
    const told = await closeWithoutConfig(options);
    if (told !== "") process.stderr.write(`boundary-daemon: ${told}\n`);
    throw error;
  }
}

/** Says what came of it; "" where there is nothing to close. A boot that its parameter releases is released here too. */
async function closeWithoutConfig(options: Options): Promise<string> {
  const { stateDir, logDir } = options;
  const mark = readEnforcedMark(stateDir);
  if (mark.kind === "none") return "";
  if (isTaken(logDir)) return "a daemon is running: its rules stay as they are";
  const enforcement = { network: true, allowInitNetns: mark.consent };
  const config = ConfigSchema.parse({ enforcement });
  const switches = readSwitches(config.enforcement, process.env);
  if (switches.ok && !switches.value.network) return ""; // switched off, and not by the file that cannot be read
  const on = { network: true, usb: false, process: false };
  const { enforcer, obstacles } = openKernel({ config, switches: on });
  const before = "enforcement was on, and the configuration cannot be read";
  if (enforcer.how === "observed")
    return `${before}: NOT closed; missing: ${obstacles.map(({ what }) => what).join("; ")}`;
  const { hold, why } = isReleased(SOCKETS.commandLine()) ? await asParameter(options, config) : UNKNOWN;
  const settled = enforcer.settle("LOCKDOWN", { hold, keep: null });
  const [what, becauseOf] = hold === "enforcing" ? ["closed", ""] : ["opened", why && ` (${why})`];
  if (!settled.ok) return `${before}: NOT ${what}: ${settled.why}`;
  return hold === "enforcing"
    ? `${before}: LOCKDOWN is in the kernel`
    : `${before}; the hold is ${hold}${becauseOf}: nothing is loaded`;
}

/** Whoever stands at the console may have come for the configuration: what cannot be recorded lets him in all the same. */
async function asParameter(options: Options, config: Config): Promise<LastKnown> {
  try {
    return await asLogged({ options, config }, "released");
  } catch (error) {
    return unrecorded(error);
  }
}

function endWith(
  daemon: Daemon,
  enforcer: Enforcer,
  stops: {
    readonly ticks: () => void;
    readonly audit: () => Promise<unknown>;
    readonly control: () => Promise<unknown>;
  },
): void {
  const crash = (error: unknown) => {
    opLog.error({ err: renderErrorChain(error) }, "crashed; the next start is LOCKDOWN");
    closeKernel(enforcer, daemon.state().held.hold);
    process.exit(EXIT.failed);
  };
  const stop = createStop({ daemon, ...stops, exit: (how) => process.exit(EXIT[how]), crash, opLog });
  process.on("SIGTERM", stop);
  process.on("SIGINT", stop);
  process.on("SIGHUP", () =>
    opLog.warn({}, "SIGHUP: nothing is reloaded; restart to read the configuration again"),
  );
  process.on("uncaughtException", crash);
  process.on("unhandledRejection", crash);
}

function keepingOf({ log }: Config): Keeping {
  return { protect: log.appendOnly ? "append-only" : "plain", reserveBytes: log.reserveBytes };
}

/** The audit stream's directories, below those of the core log. */
function streamPlaceOf(
  options: Options,
  config: Config,
  clock: Clock,
): Pick<StreamParts, "prepare" | "place" | "head" | "store" | "lines" | "lastLine"> {
  const keeping = { ...keepingOf(config), reserveBytes: 0 }; // the core log's is what the fall needs
  const [logDir, stateDir] = [`${options.logDir}/audit`, `${options.stateDir}/audit`];
  return {
    prepare: () => {
      prepareLogDirectory(logDir);
      prepareStateDirectory(stateDir);
    },
    place: logPlaceOf({ logDir, stateDir }, keeping, clock),
    head: () => openHeadFile(stateDir),
    store: (firstSeq) => createSegment(logDir, firstSeq, keeping),
    lines: (from, through, maxLines) =>
      readLines(logDir, segmentsOf(logDir), { from, through, maxLines, maxBytes: MAX_LINES_BYTES }),
    lastLine: (wanted) => lastLine(logDir, segmentsOf(logDir), wanted),
  };
}

/** One line of the log as it is on disk, or null. */
function lineOf(logDir: string, seq: number): string | null {
  const order = { from: seq, through: seq, maxLines: 1, maxBytes: MAX_LINES_BYTES };
  return readLines(logDir, segmentsOf(logDir), order)[0] ?? null;
}

function readBackPlaceOf(logDir: string): ReadBackPlace {
  return {
    segments: () => segmentsOf(logDir),
    firstLine: (file) => firstLineOf(logDir, file),
    snapshot: (wanted) => lastSnapshot(logDir, wanted),
    read: (place) => readLogFrom(logDir, place),
  };
}

function logPlaceOf(options: Pick<Options, "logDir" | "stateDir">, keeping: Keeping, clock: Clock): LogPlace {
  const { logDir, stateDir } = options;
  return {
    read: () => readLog(logDir),
    readEnd: () => readLogEnd(logDir),
    cut: (where) => cutTail(logDir, where, clock.wallMs()),
    quarantine: () => `${logDir}/${quarantine(logDir, clock.wallMs())}`,
    create: (firstSeq) => createSegment(logDir, firstSeq, keeping),
    open: (file, size) => openSegment(logDir, file, size, keeping),
    hasSegments: () => hasSegments(logDir),
    isUnwritten: () => isUnwritten(logDir),
    head: () => readHead(stateDir),
    forgetHead: () => forgetHead(stateDir),
    key: () => loadKeyRing(stateDir),
    traces: () => tracesIn(stateDir, logDir),
    createKey: () => createKeyRing(stateDir),
  };
}

function readLogEnd(logDir: string): LogEnd | null {
  const found = lastSnapshot(logDir, isSnapshotLine);
  const first = found && firstLineOf(logDir, found.file);
  return found && first !== null
    ? { first, snapshot: found.line, chunks: () => readLogFrom(logDir, found) }
    : null;
}

function prunePlaceOf(logDir: string): PrunePlace {
  return {
    segments: () => segmentsOf(logDir),
    firstLine: (file) => firstLineOf(logDir, file),
    read: (file) => readLogFrom(logDir, { file, byte: 0 }),
    readAll: () => readLog(logDir),
    saveTombstone: (firstSeq, text) => saveTombstone(logDir, firstSeq, Buffer.from(text)),
    removeSegment: (firstSeq) => removeSegment(logDir, firstSeq),
  };
}

function alarm(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}

/** Waits for the call before, whatever came of it. */
function oneAtATime<A extends readonly unknown[], T>(
  work: (...args: A) => Promise<T>,
): (...args: A) => Promise<T> {
  let before: Promise<unknown> = Promise.resolve();
  return (...args) => {
    const mine = before.then(() => work(...args));
    before = mine.catch(() => undefined);
    return mine;
  };
}

/**
 * What a change of would change us: a difference here is `self.changed`. Not the packages in node_modules: thousands
 * of files, which would make a start wait for their hashes. SECURITY.md says so.
 */
function ownFiles({ options, config }: Setup): readonly SelfPath[] {
  const root = fileURLToPath(new URL("..", import.meta.url));
  return [
    { path: options.configFile, part: "config" },
    ...(config.tripwiresFile ? [{ path: config.tripwiresFile, part: "config" } as const] : []),
    ...(config.usb.rulesFile ? [{ path: config.usb.rulesFile, part: "config" } as const] : []),
    { path: `${options.stateDir}/log.vkey`, part: "key" },
    { path: `${root}daemon/`, part: "program" },
    { path: `${root}cli/`, part: "program" },
    { path: `${root}policies/`, part: "program" },
    { path: `${root}package.json`, part: "program" },
    { path: process.execPath, part: "program" },
  ];
}

function readRoles(config: Config): {
  table: ReturnType<typeof resolveRoles>["table"];
  group: number | null;
} {
  const users = parseAccounts(readFileSync("/etc/passwd", "utf8"));
  const groups = parseAccounts(readFileSync("/etc/group", "utf8"));
  const { table, unknown, socketGroup } = resolveRoles(config, users, groups);
  for (const name of unknown)
    opLog.warn({ name }, "the configuration gives a role to somebody who does not exist here");
  return { table, group: socketGroup };
}

function readSetup(options: Options): Setup {
  const text = readConfigText(options);
  const config = parseConfig(text);
  if (!config.ok)
    throw new BoundaryError("config-invalid", renderProblems(options.configFile, config.problems));
  const tripwiresFile =
    config.value.tripwiresFile ?? fileURLToPath(new URL("../policies/tripwires.yaml", import.meta.url));
  const tripwiresText = readText(tripwiresFile);
  const tripwires = parseTripwires(tripwiresText);
  if (!tripwires.ok)
    throw new BoundaryError("config-invalid", renderProblems(tripwiresFile, tripwires.problems));
  const switches = readSwitches(config.value.enforcement, process.env);
  if (!switches.ok) throw new BoundaryError("config-invalid", switches.problem);
  if (
    switches.value.network &&
    cgroupsOf(config.value.network.deny).length > 0 &&
    !createSurroundings().hasCgroups()
  ) {
    const why =
      "network.deny names a cgroup, and cgroup v2 is not at /sys/fs/cgroup: nothing would be denied";
    throw new BoundaryError("config-invalid", why);
  }
  const usbFile =
    config.value.usb.rulesFile ?? fileURLToPath(new URL("../policies/usb.rules", import.meta.url));
  const usbText = readText(usbFile);
  const usbRules = readUsbRules(usbFile, usbText);
  const digest = createHash("sha256").update([text, tripwiresText, usbText].join("\0")).digest("hex");
  return {
    options,
    config: config.value,
    tripwires: tripwires.value,
    usbRules,
    switches: switches.value,
    digest,
  };
}

function readUsbRules(file: string, text: string): readonly UsbRule[] {
  const parsed = parseUsbRules(text);
  if (parsed.ok) return parsed.rules;
  const problems = parsed.problems.map(({ line, column, message, hint }) => ({
    line,
    column,
    at: "",
    problem: hint === "" ? message : `${message}: ${hint}`,
  }));
  throw new BoundaryError("config-invalid", renderProblems(file, problems));
}

/** An absent file is the default configuration, unless it was named; one that cannot be read is an error always. */
function readConfigText(options: Options): string {
  try {
    return readText(options.configFile);
  } catch (error) {
    const cause = error instanceof BoundaryError ? error.cause : error;
    if (!options.configNamed && (cause as NodeJS.ErrnoException | undefined)?.code === "ENOENT") return "";
    throw error;
  }
}

function readText(file: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(readFileSync(file));
  } catch (cause) {
    throw new BoundaryError("config-unreadable", `reading ${file}`, { cause });
  }
}

function packageVersion(): string {
  for (const place of ["../package.json", "../../package.json"]) {
    try {
      return String(
        (JSON.parse(readFileSync(new URL(place, import.meta.url), "utf8")) as { version: unknown }).version,
      );
    } catch {
      // built into dist/, the package is one directory further up
    }
  }
  return "unknown";
}

main().catch((error: unknown) => {
  const known = error instanceof BoundaryError;
  process.stderr.write(
    `boundary-daemon: ${renderErrorChain(error)}\n${known ? `${error.code}: ${error.hint}\n` : ""}`,
  );
  process.exit(
    known && (error.code === "config-invalid" || error.code === "config-unreadable")
      ? EXIT.usage
      : EXIT.noStart,
  );
});
