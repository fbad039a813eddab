#!/usr/bin/env -S node --disallow-code-generation-from-strings --no-memory-protection-keys --max-semi-space-size=1 --optimize-for-size
import { randomInt } from "node:crypto";
import { readFileSync } from "node:fs";
import { openBaselineFile } from "./adapters/baseline-file.ts";
import { openCanaryFile, sendCanary } from "./adapters/canary.ts";
import { createClock } from "./adapters/clock.ts";
import { createClockSensor } from "./adapters/clock-watch.ts";
import { type DecideSocket, listenDecide } from "./adapters/decide-http.ts";
import { createDirectoryWatch } from "./adapters/directory-watch.ts";
import { hasUsbMark } from "./adapters/enforced-mark.ts";
import { openExportFile } from "./adapters/export-file.ts";
import { freeBytes } from "./adapters/file-reserve.ts";
import { createFileReader } from "./adapters/file-state.ts";
import { createFileSensor } from "./adapters/file-watch.ts";
import { openHeadFile } from "./adapters/head-file.ts";
import { createInventory } from "./adapters/inventory.ts";
import { type ControlSocket, listenControl } from "./adapters/ipc.ts";
import { fileKek } from "./adapters/kek-file.ts";
import { systemdKek } from "./adapters/kek-systemd.ts";
import { createKeySensor } from "./adapters/key-watch.ts";
import { prepareStateDirectory } from "./adapters/keys.ts";
import { createSegment, prepareLogDirectory, protectEnded, protectionOf } from "./adapters/log-file.ts";
import { lockLogDirectory } from "./adapters/log-lock.ts";
import { createNetworkSensor } from "./adapters/net-watch.ts";
import { peerOf } from "./adapters/peer.ts";
import { pkcs11Process } from "./adapters/pkcs11-process.ts";
import { missingUsbPrivilege } from "./adapters/privilege.ts";
import { createPeerFacts } from "./adapters/proc.ts";
import { guardDescriptors, guardMemory } from "./adapters/process-guard.ts";
import { createRulesWatch } from "./adapters/rules-watch.ts";
import { claimSocketPath, prepareRuntimeDir } from "./adapters/socket-path.ts";
import { createNotifier } from "./adapters/systemd.ts";
import { createKeyboardChallenge } from "./adapters/usb-challenge.ts";
import { createUsbGate } from "./adapters/usb-gate.ts";
import { openUsbRulesFile } from "./adapters/usb-rules-file.ts";
import { createUsbSensor } from "./adapters/usb-watch.ts";
import { openVaultFiles } from "./adapters/vault-files.ts";
import { createApprovals } from "./approvals.ts";
import { openLog } from "./audit/log.ts";
import type { Entry } from "./audit/record.ts";
import { createAuditStream } from "./audit-stream.ts";
import { createBaseline } from "./baseline.ts";
import { close, holdFacts, lastHold, readSetupOrClose, SOCKETS } from "./compose/close.ts";
import { openDecisions } from "./compose/decide.ts";
import { openExec } from "./compose/exec.ts";
import { EXIT } from "./compose/exit.ts";
import { openIsolation } from "./compose/isolation.ts";
import { opLog } from "./compose/journal.ts";
import { closeKernel, type Host, heldAs, openKernel, rememberEnforcement } from "./compose/kernel.ts";
import {
  keepingOf,
  lineOf,
  logPlaceOf,
  prunePlaceOf,
  readBackPlaceOf,
  streamPlaceOf,
} from "./compose/places.ts";
import { openPolicies } from "./compose/policies.ts";
import { ownFiles, readRoles, readSetup, type Setup } from "./compose/setup.ts";
import { privilegeMode } from "./core/authority.ts";
import { clockWhileStopped } from "./core/clock-drift.ts";
import { BoundaryError, renderErrorChain } from "./core/errors.ts";
import { sameFlow } from "./core/flow-text.ts";
import type { Hold } from "./core/hold.ts";
import { probingTripwires } from "./core/probing.ts";
import { redactText } from "./core/redact.ts";
import { heldSoFar, holdIn, startIn } from "./core/start.ts";
import { fullDisk } from "./core/steps.ts";
import { usbObstacles } from "./core/switches.ts";
import { watchedPaths } from "./core/tripwire.ts";
import { readUsbMemory } from "./core/usb-memory.ts";
import { createDaemon, type Daemon } from "./daemon.ts";
import { createEndpoints } from "./decide-endpoints.ts";
import { createDenials } from "./denials.ts";
import type { Enforcer } from "./enforce.ts";
import { createFeed } from "./feed.ts";
import { createGrants } from "./grants.ts";
import { createLimitDesk } from "./limits.ts";
import { networkProbes } from "./network-probe.ts";
import { openHistory } from "./open-log.ts";
import { HELP, parseCommand } from "./options.ts";
import { readPolicyMemory } from "./policies.ts";
import { prune } from "./prune.ts";
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
import { createUsbPeople } from "./usb-people.ts";
import { usbProbe } from "./usb-probe.ts";
import { createRulebook } from "./usb-rulebook.ts";
import { passphraseKek, RECOMMENDED } from "./vault/kek-passphrase.ts";
import { createVault, vaultClaim } from "./vault.ts";

/**
 * The composition root: reads what this run is to be, builds the parts and joins them. Nothing is decided here but
 * what to do when there can be no daemon: then the kernel is closed, where we may, and the exit code says why.
 */
const VERSION = packageVersion();
const MAX_WATCHED_FILES = 20_000;
const MAX_HASH_BYTES = 64 * 1024 * 1024;
const STREAM_STOP_MS = 2_000;
/** A host under load is slow, and that is no fault of its own. */
const PROBE_DEADLINE_MS = 10_000;
const MILLION = 1_000_000;
/** Another daemon has the socket or the log: the kernel's rules are its own, and not ours to close. */
const NOT_OURS = new Set(["socket-in-use", "log-locked"]);

/** What SIGHUP does, once there is something to read anew. */
let reread = (): void => undefined;

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
      // the signal's own way is to end us, and that before anything is closed
      process.on("SIGHUP", () => reread());
      return run(await readSetupOrClose(command.options));
  }
}

async function run(setup: Setup): Promise<void> {
  const clock = createClock();
  const { enforcer, obstacles, via, firewall } = openKernel(setup);
  const known: { hold: Hold | null } = { hold: null };
  try {
    await start(setup, { clock, enforcer, obstacles, via, firewall, known });
  } catch (error) {
    if (!(error instanceof BoundaryError && NOT_OURS.has(error.code)))
      closeKernel(enforcer, known.hold ?? (await lastHold(setup)));
    throw error;
  }
}

async function start(setup: Setup, host: Host): Promise<void> {
  const { options, config } = setup;
  const tripwires = [...setup.tripwires, ...probingTripwires(config.limits.probing), SELFTEST_TRIPWIRE];
  const { clock, enforcer } = host;
  for (const what of guardMemory()) opLog.warn({ what }, "a core dump could hold secrets");
  for (const what of guardDescriptors()) opLog.warn({ what }, "our programs could inherit descriptors");
  const startedAtMs = clock.wallMs();
  process.umask(0o077);
  const roles = readRoles(config);
  prepareRuntimeDir(options.runtimeDir, 0o755);
  const place = await claimSocketPath(`${options.runtimeDir}/control.sock`, {
    mode: roles.group === null ? 0o600 : 0o660,
    group: roles.group,
  });
  const decidePlace = await claimSocketPath(`${options.runtimeDir}/decide.sock`, {
    mode: 0o666,
    group: null,
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
  const domains = openIsolation(config.isolation, {
    firewall: host.firewall,
    missing,
    record: (entry) => daemon.record(entry),
    submit: (signal) => daemon.submit(signal),
    clock,
  });
  const isolation = domains.control;
  const rules = createRulesWatch({
    check: enforcer.how === "kernel" ? enforcer.check : null,
    claim: (mark) => enforcer.claim(mark) || isolation.claimMark(mark),
    isolation: isolation.touched,
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
      ...domains.probes,
    ],
    record: (entry) => beforeStop(entry),
    wallMs: clock.wallMs,
    monoMs: () => Number(clock.monoNs() / 1_000_000n),
    everyMs: config.selftest.everyMs,
    deadlineMs: PROBE_DEADLINE_MS,
  });
  const append = (entry: Entry) => daemon.record(entry);
  const limits = createLimitDesk({ settings: config.limits, memory: opened.fold.limits, clock, append });
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
    memory: opened.fold.approvals,
    clock,
    mode: () => {
      const { epoch, wanted, applied } = daemon.state();
      return { epoch, lockdown: wanted === "LOCKDOWN" || applied === "LOCKDOWN" };
    },
    obstacle: () => obstacle(),
    append,
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
      isolation,
      baseline,
      sensors,
      clerks: [limits, denials, approvals, isolation, { tick: () => exec.tick(), stop: () => exec.stop() }],
      notifier,
      exists: (flow) => SOCKETS.flows().some((each) => sameFlow(each, flow)),
      hearers: [(mode) => vault.modeIs(mode), (mode) => exec.modeIs(mode)],
      // behind this turn, in which the others hear of it, too: a crash, which closes the kernel
      mustEnd: (error) =>
        setImmediate(() => {
          throw error;
        }),
      heldAs: (held) => {
        heldAs(setup, host, held);
        isolation.holdIs(held);
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
  let decisions: DecideSocket | null = null;
  const ticking = setInterval(() => {
    daemon.tick();
    vault.tick();
    stream.tick();
    if (!daemon.stopping()) grants.tick();
  }, config.enforcement.heartbeatMs);
  endWith(daemon, enforcer, {
    ticks: () => {
      clearInterval(ticking);
      vault.stop();
    },
    // the core log is closed by then; a disk that does not answer keeps nobody
    audit: () => Promise.race([stream.close(), alarm(STREAM_STOP_MS)]),
    control: () => {
      policies.stop();
      return Promise.all([control?.stop(), decisions?.stop()]);
    },
  });

  /** The stop is the last record: another one after it would make a crash of it. */
  const beforeStop = (entry: Entry) => {
    if (daemon.stopping()) throw new BoundaryError("stopping", `appending a record of kind ${entry.kind}`);
    return daemon.record(entry);
  };
  const policies = openPolicies(config.policy, {
    version: VERSION,
    stateDir: options.stateDir,
    memory: readPolicyMemory(opened.fold.policies),
    random: () => randomInt(MILLION) / MILLION,
    record: (entry) => {
      if (!daemon.stopping()) daemon.record(entry);
    },
    disagreed: (digest, detail) =>
      daemon.submit({ kind: "policy.disagreed", facts: { digest, detail }, seenNs: clock.monoNs() }),
    unjudged: (why) => daemon.submit({ kind: "policy.unjudged", facts: { why }, seenNs: clock.monoNs() }),
  });
  // a bad set is told and recorded by then, and the one before it stays
  const loadPolicies = (by: string) => void policies.load(by).catch(() => undefined);
  reread = () => {
    if (control !== null) loadPolicies("SIGHUP"); // before that, the first load is still to come
  };
  const obstacle = () => {
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
    obstacle,
    opLog,
  });
  const usbPeople = createUsbPeople({
    control: usb,
    rules: usbRules,
    challenges: usbChallenges,
    append: beforeStop,
    wallMs: clock.wallMs,
    mode: () => daemon.state().wanted,
    obstacle,
    requireTerminal: config.ceremony.requireTerminal,
  });
  const vault = createVault({
    files: openVaultFiles(`${options.stateDir}/vault`),
    sources: [
      passphraseKek(RECOMMENDED),
      fileKek(config.vault.keyDirectory ?? `${options.stateDir}/vault-keys`),
      systemdKek(),
      pkcs11Process(config.vault.pkcs11 ?? null),
    ],
    exported: openExportFile(options.runtimeDir, "swanctl.conf"),
    clock,
    mode: () => privilegeMode(daemon.state()),
    obstacle,
    append: beforeStop,
    autoLockMs: config.vault.autoLockMs,
    opLog,
  });
  vault.begin();
  const grants = createGrants({
    fold: log.fold,
    record: beforeStop,
    state: daemon.state,
    clock,
    config,
    policy: {
      settled: policies.settled,
      permit: (...asked) => governor.permit(...asked),
      permits: (...asked) => governor.permits(...asked),
    },
  });
  const { evaluator, governor, service } = openDecisions({
    daemon,
    trustedInterfaces: config.network.trustedInterfaces,
    roles: roles.table,
    ownUid: process.getuid?.() ?? 0,
    ...grants,
    limits,
    policies,
    approvals,
    denials,
    wallMs: clock.wallMs,
    opLog,
  });
  const exec = openExec(
    {
      settings: config.exec,
      profiles: setup.execProfiles,
      evaluator,
      daemon,
      trustedInterfaces: config.network.trustedInterfaces,
      denials,
      vault,
      clock,
      opLog,
    },
    { runtimeDir: options.runtimeDir, random: () => randomInt(MILLION) / MILLION, egress: config.egress },
  );
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
    limits,
    denials,
    approvals,
    audit: stream,
    selftest,
    isolation: domains,
    sockets: SOCKETS,
    wouldBlock: () => enforcer.wouldBlock(),
    usb: usbPeople,
    vault,
    exec,
    tokens: grants.tokens,
    leases: grants.leases,
    evaluator,
    governor,
    policies,
    tightened: { count: 0 },
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
        isolation: isolation.claim,
        policy: policies.state,
        vault: () => vaultClaim(vault.status()),
        exec: exec.status,
        egress: exec.egressStatus,
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
  isolation.begin(host.known.hold);
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
  decisions = await listenDecide({
    place: decidePlace,
    limits: config.limits,
    peerOf,
    endpoints: createEndpoints({ service, identifier: config.decide.identifier, opLog }),
    log: opLog,
  });
  notifier.ready();
  loadPolicies("start"); // beside the loop: until it is there, what policy is asked about is denied
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
  process.on("uncaughtException", crash);
  process.on("unhandledRejection", crash);
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
