#!/usr/bin/env -S node --disallow-code-generation-from-strings --max-semi-space-size=1 --optimize-for-size
import { existsSync, mkdirSync, realpathSync } from "node:fs";
import { dirname, extname, join } from "node:path";
import { createClock } from "../adapters/clock.ts";
import { listenForOne } from "../adapters/listen-one.ts";
import { uidOf } from "../adapters/named-user.ts";
import { createOpLog } from "../adapters/op-log.ts";
import { createNotifier } from "../adapters/systemd.ts";
import { BoundaryError, renderErrorChain } from "../core/errors.ts";
import { type Cgroups, openCgroups } from "./cgroup.ts";
import { guardProcess } from "./kernel.ts";
import type { Sandbox } from "./messages.ts";
import { HELP, parseWorkerCommand, type WorkerOptions } from "./options.ts";
import { createOrderGate } from "./order-gate.ts";
import { killOrphans } from "./orphans.ts";
import type { Bridge, Kit } from "./prepare.ts";
import { probeSandbox, readRoots } from "./probe.ts";
import { createProgramOpener } from "./program.ts";
import { type Architecture, assemble, filterFor } from "./seccomp.ts";
import { type SessionSettings, serve } from "./session.ts";

const EXIT = { stopped: 0, failed: 1, usage: 2, noStart: 3 } as const;

const ORPHAN_LOOKS = 5;
const ORPHAN_WAIT_MS = 20;

const opLog = createOpLog({ level: process.env["BOUNDARY_LOG_LEVEL"] ?? "info" });

/** The worker of guarded execution: a process of its own, under a user of its own. */
async function main(argv: readonly string[]): Promise<void> {
  const command = parseWorkerCommand(argv);
  if (command.kind === "help") process.stdout.write(HELP);
  else if (command.kind === "usage") {
    process.stderr.write(`boundary-worker: ${command.why}\n\n${HELP}`);
    process.exitCode = EXIT.usage;
  } else if (command.kind === "probe") await probe();
  else await work(command.options);
}

async function probe(): Promise<void> {
  guard();
  const kit = kitOf(null);
  // looked at only: a probe moves no process
  const cgroups: Cgroups = { ok: false, why: "not looked for by --probe" };
  const sandbox = await probeSandbox(kit, cgroups);
  process.stdout.write(`${JSON.stringify(sandbox, null, 2)}\n`);
  process.exitCode = holds(sandbox) ? EXIT.stopped : EXIT.noStart;
}

async function work(options: WorkerOptions): Promise<void> {
  guard();
  const daemonUid = uidOf(options.daemon);
  await endOrphans();
  const clock = createClock();
  const gate = createOrderGate({ boot: clock.bootId(), nowMs: () => Math.floor(clock.bootMs()) });
  const cgroups = openCgroups();
  const kit = kitOf(options.bridge);
  const sandbox = await probeSandbox(kit, cgroups);
  opLog[holds(sandbox) ? "info" : "error"]({ sandbox, bridge: kit.bridge?.script }, "the sandbox was tried");
  mkdirSync(dirname(options.socket), { mode: 0o750, recursive: true });
  const session: SessionSettings = {
    gate,
    kit,
    cgroups,
    sandbox,
    maxRuns: options.maxRuns,
    onFault: (why) =>
      opLog.error({ why }, "the daemon did not keep to the protocol; its connection was ended"),
  };
  const listening = await listenForOne({
    path: options.socket,
    daemonUid,
    serve: (socket) => serve(socket, session),
    onRefused: (why) => opLog.warn({ why }, "a connection was refused"),
  });
  const notifier = createNotifier();
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.once(signal, () => void listening.stop().finally(() => process.exit(EXIT.stopped)));
  }
  notifier.ready();
  opLog.info({ socket: options.socket, daemonUid }, "the worker listens");
}

/** What loses its parent by that is an orphan, too: looked for again until there is none. */
async function endOrphans(): Promise<void> {
  for (let look = 0; look < ORPHAN_LOOKS; look++) {
    const orphans = killOrphans();
    if (orphans === 0) return;
    opLog.warn({ orphans }, "sandboxes that a worker had left were ended");
    await new Promise((resolve) => setTimeout(resolve, ORPHAN_WAIT_MS));
  }
}

function holds({ namespaces, seccomp, readOnlyRoot }: Sandbox): boolean {
  return namespaces && seccomp && readOnlyRoot;
}

/** Throws BoundaryError("not-permitted") for root: what it runs would own the host's files. */
function guard(): void {
  if (process.geteuid?.() === 0 || process.getuid?.() === 0)
    throw new BoundaryError("not-permitted", "starting as root: the worker needs a user of its own");
  const failed = guardProcess();
  if (failed.length > 0)
    throw new BoundaryError("internal", `closing this process off: ${failed.join(", ")}`);
}

function kitOf(bridge: string | null): Kit {
  const { arch } = process;
  if (arch !== "x64" && arch !== "arm64")
    throw new BoundaryError("internal", `filtering system calls: there is no list for ${arch}`);
  return {
    host: { roots: readRoots(), uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 },
    filter: assemble(filterFor(arch satisfies Architecture)),
    programs: createProgramOpener(),
    bridge: bridgeAt(bridge ?? join(import.meta.dirname, `bridge${extname(import.meta.filename)}`)),
  };
}

/** The bridge needs Node, itself, and what says that its file is a module; below /usr all of it is there in any case. */
function bridgeAt(path: string): Bridge | null {
  if (!existsSync(path)) return null;
  const [node, script] = [realpathSync(process.execPath), realpathSync(path)];
  const manifest = join(import.meta.dirname, "../../package.json");
  const needs = [node, script, ...(existsSync(manifest) ? [realpathSync(manifest)] : [])];
  return { node, script, needs: needs.filter((one) => !one.startsWith("/usr/")) };
}

main(process.argv.slice(2)).catch((error: unknown) => {
  process.stderr.write(`boundary-worker: ${renderErrorChain(error)}\n`);
  if (error instanceof BoundaryError) process.stderr.write(`boundary-worker: ${error.hint}\n`);
  process.exit(error instanceof BoundaryError ? EXIT.noStart : EXIT.failed);
});
