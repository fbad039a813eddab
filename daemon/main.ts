#!/usr/bin/env -S node --disallow-code-generation-from-strings --max-semi-space-size=1 --optimize-for-size
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { openBaselineFile } from "./adapters/baseline-file.ts";
import { createClock } from "./adapters/clock.ts";
import { createClockSensor } from "./adapters/clock-watch.ts";
import { createDirectoryWatch } from "./adapters/directory-watch.ts";
import { createFileReader } from "./adapters/file-state.ts";
import { createFileSensor } from "./adapters/file-watch.ts";
import { openHeadFile, readHead } from "./adapters/head-file.ts";
import { createInventory } from "./adapters/inventory.ts";
import { type ControlSocket, listenControl } from "./adapters/ipc.ts";
import { loadKey, loadOrCreateKey, prepareStateDirectory } from "./adapters/keys.ts";
import { openLibnftables } from "./adapters/libnftables.ts";
import {
  createSegment,
  cutTail,
  hasSegments,
  openSegment,
  prepareLogDirectory,
  quarantine,
  readLog,
} from "./adapters/log-file.ts";
import { lockLogDirectory } from "./adapters/log-lock.ts";
import { createNetworkSensor } from "./adapters/net-watch.ts";
import { openNftProgram } from "./adapters/nft-program.ts";
import { createOpLog } from "./adapters/op-log.ts";
import { peerOf } from "./adapters/peer.ts";
import { netPrivilege } from "./adapters/privilege.ts";
import { createPeerFacts } from "./adapters/proc.ts";
import { createRulesWatch } from "./adapters/rules-watch.ts";
import { claimSocketPath, prepareRuntimeDir } from "./adapters/socket-path.ts";
import { createNotifier } from "./adapters/systemd.ts";
import { createUsbSensor } from "./adapters/usb-watch.ts";
import { openLog } from "./audit/log.ts";
import { createBaseline } from "./baseline.ts";
import { parseAccounts, resolveRoles } from "./core/accounts.ts";
import type { Config } from "./core/config.ts";
import { parseConfig, parseTripwires, renderProblems } from "./core/config-parse.ts";
import { BoundaryError, renderErrorChain } from "./core/errors.ts";
import type { SelfPath } from "./core/fingerprint.ts";
import { startIn } from "./core/start.ts";
import { networkObstacles, readSwitches, type SwitchSettings } from "./core/switches.ts";
import { type Tripwire, watchedPaths } from "./core/tripwire.ts";
import { createDaemon, type Daemon } from "./daemon.ts";
import { createEnforcer, type Enforcer } from "./enforce.ts";
import { createFeed } from "./feed.ts";
import { type LogPlace, openHistory, readHistory } from "./open-log.ts";
import { HELP, type Options, parseCommand } from "./options.ts";
import type { Clock, Firewall } from "./ports.ts";
import { answer } from "./requests.ts";
import { statusOf } from "./status.ts";

/**
 * The composition root: reads what this run is to be, builds the parts and joins them. Nothing is decided here but
 * what to do when there can be no daemon: then the kernel is closed, where we may, and the exit code says why.
 */
const VERSION = packageVersion();
const EXIT = { stopped: 0, failed: 1, usage: 2, noStart: 3 } as const;
const MAX_WATCHED_FILES = 20_000;
const MAX_HASH_BYTES = 64 * 1024 * 1024;
/** Another daemon has the socket or the log: the kernel's rules are its own, and not ours to close. */
const NOT_OURS = new Set(["socket-in-use", "log-locked"]);

const opLog = createOpLog(process.env["BOUNDARY_LOG_LEVEL"] ?? "info");

type Setup = {
  readonly options: Options;
  readonly config: Config;
  readonly tripwires: readonly Tripwire[];
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
      process.stderr.write(`boundary-daemon: ${command.why}\n\n${HELP}`);
      process.exitCode = EXIT.usage;
      return;
    case "check-config":
      readSetup(command.options);
      process.stdout.write(`${command.options.configFile}: good\n`);
      return;
    case "close":
      return close(readSetup(command.options));
    case "run":
      return run(readSetup(command.options));
  }
}

async function run(setup: Setup): Promise<void> {
  const clock = createClock();
  const { enforcer, obstacles, via } = openKernel(setup);
  try {
    await start(setup, { clock, enforcer, obstacles, via });
  } catch (error) {
    if (!(error instanceof BoundaryError && NOT_OURS.has(error.code))) closeKernel(enforcer);
    throw error;
  }
}

type Host = {
  readonly clock: Clock;
  readonly enforcer: Enforcer;
  readonly obstacles: readonly string[];
  readonly via: string;
};

async function start(setup: Setup, host: Host): Promise<void> {
  const { options, config, tripwires } = setup;
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

  const logPlace = logPlaceOf(options, clock);
  const opened = await openHistory(logPlace);
  const feed = createFeed();
  const damaged: { tell: (why: string) => void } = { tell: () => undefined };
  const log = openLog({
    store: opened.store,
    signer: opened.key.signer,
    head: openHeadFile(options.stateDir),
    clock,
    tail: opened.tail,
    origin: opened.key.origin,
    onRecord: feed.publish,
    onFailed: (cause) => damaged.tell(renderErrorChain(cause)),
  });
  for (const finding of opened.findings) log.append(finding);

  const begun = startIn(opened.history, options.mode, config.initialMode);
  const self = ownFiles(setup);
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
    timeoutMs: config.enforcement.deadManMs,
  });
  const sensors = [
    rules,
    createNetworkSensor({ clock, relistMs: config.sensors.relistMs }),
    files,
    createUsbSensor({ clock }),
    createClockSensor({ clock, limits: config.clock, everyMs: config.enforcement.heartbeatMs }),
  ];
  const baseline = createBaseline({
    memory: files.memory,
    snapshot: files.snapshot,
    store: openBaselineFile(options.stateDir),
    self,
    tripwires,
    append: (entry) => {
      // the stop is the last record: a baseline after it would make a crash of it
      if (daemon.stopping()) throw new BoundaryError("stopping", `appending a record of kind ${entry.kind}`);
      return log.append(entry);
    },
    tell: (signal) => daemon.submit(signal),
    seenNs: clock.monoNs,
    renewEveryMs: config.sensors.repeatWindowMs,
    opLog,
  });
  const notifier = createNotifier();
  const inventory = createInventory({ everyMs: config.sensors.inventoryMs, wallMs: clock.wallMs });
  const daemon = createDaemon(
    {
      config,
      tripwires,
      clock,
      log,
      logDamage: opened.store.damage,
      enforcer,
      baseline,
      sensors,
      notifier,
      opLog,
    },
    begun,
    opened.fold.firedByTripwire,
  );
  damaged.tell = (detail) =>
    daemon.submit({ kind: "log.damaged", facts: { what: "write-failed", detail }, seenNs: clock.monoNs() });
  let control: ControlSocket | null = null;
  endWith(daemon, enforcer, async () => control?.stop());

  setInterval(() => daemon.tick(), config.enforcement.heartbeatMs);
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
    head: () => ({ vkey: opened.key.signer.vkey, size: log.head().size, note: log.head().note }),
    status: () =>
      statusOf({
        daemon,
        log,
        enforcer,
        sensors,
        baseline,
        clock,
        switches: setup.switches,
        obstacles: host.obstacles,
        network: `table inet boundary through ${host.via}, dead-man's set of ${config.enforcement.deadManMs} ms`,
        logDir: options.logDir,
        vkey: opened.key.signer.vkey,
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
      network: enforcer.how === "kernel" ? "enforced" : `observed; missing: ${host.obstacles.join("; ")}`,
    },
    {
      kind: opened.history.kind === "none" ? "first" : opened.history.kind === "clean" ? "clean" : "crash",
      mode: begun.mode,
      digest: opened.fold.baselineDigest,
      lastAt: opened.fold.lastAt,
      sameBoot: opened.fold.lastBoot === clock.bootId(),
    },
  );
  control = await listenControl({
    place,
    limits: config.limits,
    peerOf,
    onRequest: (connection, request, reply) => void answer(office, connection, request).then(reply),
    log: opLog,
  });
  notifier.ready();
  inventory.start();
  opLog.info(
    {
      mode: begun.mode,
      cause: begun.cause,
      network: enforcer.how,
      missing: host.obstacles,
      socket: options.runtimeDir,
    },
    "ready",
  );
}

/** Loads the last mode's rules without a daemon to renew them, or LOCKDOWN when the last mode is not known for certain. */
async function close(setup: Setup): Promise<void> {
  const { options, config } = setup;
  const { enforcer, obstacles } = openKernel(setup);
  if (enforcer.how === "observed") {
    process.stdout.write(`nothing to close: log-only; missing: ${obstacles.join("; ")}\n`);
    return;
  }
  if (isTaken(options.logDir)) {
    process.stdout.write("a daemon is running: its rules stay as they are\n");
    return;
  }
  const mode = await lastMode(options, config).catch((error: unknown) => {
    opLog.error({ err: renderErrorChain(error) }, "the last mode cannot be read");
    return "LOCKDOWN" as const;
  });
  const settled = enforcer.settle(mode);
  if (!settled.ok) throw new BoundaryError("nft-failed", `loading the rules of ${mode}: ${settled.why}`);
  process.stdout.write(`${mode} is in the kernel\n`);
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

async function lastMode(options: Options, config: Config): Promise<ReturnType<typeof startIn>["mode"]> {
  return startIn(await readHistory(logPlaceOf(options, createClock())), null, config.initialMode).mode;
}

function openKernel(setup: Setup): { enforcer: Enforcer; obstacles: readonly string[]; via: string } {
  const { config, switches } = setup;
  const privilege = netPrivilege();
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

/** There is no daemon to renew anything: LOCKDOWN, for good. */
function closeKernel(enforcer: Enforcer): void {
  if (enforcer.how === "observed") return;
  const settled = enforcer.settle("LOCKDOWN");
  opLog.error({ settled }, "LOCKDOWN is in the kernel: there is no daemon");
}

function endWith(daemon: Daemon, enforcer: Enforcer, stopControl: () => Promise<unknown>): void {
  const crash = (error: unknown) => {
    opLog.error({ err: renderErrorChain(error) }, "crashed; the next start is LOCKDOWN");
    closeKernel(enforcer);
    process.exit(EXIT.failed);
  };
  const stop = (signal: string) => {
    daemon
      .stop(signal)
      .then(async (how) => {
        await stopControl();
        process.exit(how === "recorded" ? EXIT.stopped : EXIT.failed);
      })
      .catch(crash);
  };
  process.on("SIGTERM", stop);
  process.on("SIGINT", stop);
  process.on("SIGHUP", () =>
    opLog.warn({}, "SIGHUP: nothing is reloaded; restart to read the configuration again"),
  );
  process.on("uncaughtException", crash);
  process.on("unhandledRejection", crash);
}

function logPlaceOf(options: Options, clock: Clock): LogPlace {
  const { logDir, stateDir } = options;
  return {
    read: () => readLog(logDir),
    cut: (where) => cutTail(logDir, where, clock.wallMs()),
    quarantine: () => `${logDir}/${quarantine(logDir, clock.wallMs())}`,
    create: (firstSeq) => createSegment(logDir, firstSeq),
    open: (file, size) => openSegment(logDir, file, size),
    hasSegments: () => hasSegments(logDir),
    head: () => readHead(stateDir),
    key: () => {
      const loaded = loadKey(stateDir);
      return loaded.kind === "loaded" ? loaded.key : null;
    },
    createKey: () => loadOrCreateKey(stateDir, "none"),
  };
}

/** What a change of would change us: a difference here is `self.changed`. */
function ownFiles({ options, config }: Setup): readonly SelfPath[] {
  const root = fileURLToPath(new URL("..", import.meta.url));
  return [
    { path: options.configFile, part: "config" },
    ...(config.tripwiresFile ? [{ path: config.tripwiresFile, part: "config" } as const] : []),
    { path: `${options.stateDir}/log.key`, part: "key" },
    { path: `${root}daemon/`, part: "program" },
    { path: `${root}policies/`, part: "program" },
  ];
}

function readRoles(config: Config): {
  table: ReturnType<typeof resolveRoles>["table"];
  group: number | null;
} {
  const users = parseAccounts(readFileSync("/etc/passwd", "utf8"));
  const groups = parseAccounts(readFileSync("/etc/group", "utf8"));
  const { table, unknown } = resolveRoles(config.roles, users, groups);
  for (const name of unknown)
    opLog.warn({ name }, "the configuration gives a role to somebody who does not exist here");
  return { table, group: table.operator.gids[0] ?? table.readonly.gids[0] ?? null };
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
  const digest = createHash("sha256").update(text).update("\0").update(tripwiresText).digest("hex");
  return { options, config: config.value, tripwires: tripwires.value, switches: switches.value, digest };
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
