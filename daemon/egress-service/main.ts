#!/usr/bin/env -S node --disallow-code-generation-from-strings --max-semi-space-size=1 --optimize-for-size
import { mkdirSync, readdirSync, unlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { listenForOne } from "../adapters/listen-one.ts";
import { uidOf } from "../adapters/named-user.ts";
import { createOpLog } from "../adapters/op-log.ts";
import { peerOf } from "../adapters/peer.ts";
import { guardMemory } from "../adapters/process-guard.ts";
import { createNotifier } from "../adapters/systemd.ts";
import { BoundaryError, renderErrorChain } from "../core/errors.ts";
import { HELP, parseServiceCommand, type ServiceOptions } from "./options.ts";
import { createProxies } from "./proxies.ts";
import { type SessionSettings, serve } from "./session.ts";

const EXIT = { stopped: 0, failed: 1, usage: 2, noStart: 3 } as const;
/** Of a run; or one that was not in its place yet. */
const RUN_SOCKET = /^[0-9a-f]{32}\.sock(?:\.[0-9a-f]{8})?$/;

const opLog = createOpLog({ level: process.env["BOUNDARY_LOG_LEVEL"] ?? "info" });

/** The way out of guarded commands: a process of its own, under a user of its own. */
async function main(argv: readonly string[]): Promise<void> {
  const command = parseServiceCommand(argv);
  if (command.kind === "help") process.stdout.write(HELP);
  else if (command.kind === "usage") {
    process.stderr.write(`boundary-egress: ${command.why}\n\n${HELP}`);
    process.exitCode = EXIT.usage;
  } else await work(command.options);
}

async function work({ socket, runs, daemon, worker }: ServiceOptions): Promise<void> {
  if (process.geteuid?.() === 0 || process.getuid?.() === 0)
    throw new BoundaryError("not-permitted", "starting as root: the egress proxy needs a user of its own");
  for (const what of guardMemory()) throw new BoundaryError("internal", `closing this process off: ${what}`);
  const [daemonUid, workerUid] = [uidOf(daemon), uidOf(worker)];
  for (const directory of [dirname(socket), runs]) mkdirSync(directory, { mode: 0o750, recursive: true });
  const session: SessionSettings = {
    proxies: (settings) =>
      createProxies({
        settings,
        directory: runs,
        admits: (fd) => peerOf(fd)?.uid === workerUid,
        opLog,
      }),
    onFault: (why) =>
      opLog.error({ why }, "the daemon did not keep to the protocol; its connection was ended"),
    onUntidy: (why) => opLog.error({ why }, "a run's socket could not be taken away"),
  };
  const listening = await listenForOne({
    path: socket,
    daemonUid,
    serve: (connection) => serve(connection, session),
    onRefused: (why) => opLog.warn({ why }, "a connection was refused"),
  });
  removeLeftOver(runs); // the place to listen is ours alone by now: nobody else has runs there
  const notifier = createNotifier();
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.once(signal, () => void listening.stop().finally(() => process.exit(EXIT.stopped)));
  }
  notifier.ready();
  opLog.info({ socket, runs, daemonUid, workerUid }, "the egress proxy listens");
}

/** Sockets of a process before us that was killed: nobody listens there. */
function removeLeftOver(directory: string): void {
  for (const name of readdirSync(directory)) if (RUN_SOCKET.test(name)) unlinkSync(join(directory, name));
}

main(process.argv.slice(2)).catch((error: unknown) => {
  process.stderr.write(`boundary-egress: ${renderErrorChain(error)}\n`);
  if (error instanceof BoundaryError) process.stderr.write(`boundary-egress: ${error.hint}\n`);
  process.exit(error instanceof BoundaryError ? EXIT.noStart : EXIT.failed);
});
