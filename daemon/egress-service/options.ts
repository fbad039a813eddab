import { parseArgs } from "node:util";
import { type NamedUser, readUser } from "../core/accounts.ts";

/** What the command line says of an egress process. */
export type ServiceOptions = {
  /** Where the daemon is listened for. */
  readonly socket: string;
  /** Of one socket for each run. */
  readonly runs: string;
  /** The user that the daemon runs as, and the one that the worker does: nobody else is listened to, each at his sockets. */
  readonly daemon: NamedUser;
  readonly worker: NamedUser;
};

export type ServiceCommand =
  | { readonly kind: "run"; readonly options: ServiceOptions }
  | { readonly kind: "help" }
  | { readonly kind: "usage"; readonly why: string };

export const HELP = `boundary-egress: connects guarded commands to where boundary-daemon lets them

Usage: egress-service/main --socket DIR/NAME --runs DIR (--daemon-uid N | --daemon-user NAME)
                           (--worker-uid N | --worker-user NAME)

  --socket PATH     where to listen for the daemon; the directory is made where it is missing, for its owner and its group
  --runs DIR        where each run has its socket, the same; no other directory than the one of --socket
  --daemon-uid N    the user that the daemon runs as; nobody else is listened to there
  --daemon-user NAME  the same by name, as it stands in /etc/passwd
  --worker-uid N    the user that the worker runs as; nobody else may use a run's socket
  --worker-user NAME  the same by name
  --help

It runs as a user of its own, never as root, and serves one connection at a time. What the daemon has not said to it, it does
not do: for each connection it asks, and has it put on record first. When the daemon's connection ends, so does everything.

Exit: 0 stopped cleanly, 2 usage, 3 could not start, 1 failed.
`;

const ARGUMENTS = {
  socket: { type: "string" },
  runs: { type: "string" },
  "daemon-uid": { type: "string" },
  "daemon-user": { type: "string" },
  "worker-uid": { type: "string" },
  "worker-user": { type: "string" },
  help: { type: "boolean", short: "h" },
} as const;

/** Absolute, plain: no link is followed through it by its text alone. */
const PLAIN = /^(?:\/[!-.0-~]+)+$/;

/** Reads the command line. */
export function parseServiceCommand(argv: readonly string[]): ServiceCommand {
  let values: ReturnType<typeof parse>;
  try {
    values = parse(argv);
  } catch (error) {
    return usage(error instanceof Error ? error.message : String(error));
  }
  if (values.help) return { kind: "help" };
  const { socket, runs } = values;
  const daemon = readUser(values["daemon-uid"], values["daemon-user"]);
  const worker = readUser(values["worker-uid"], values["worker-user"]);
  if (socket === undefined || !isPlain(socket)) return usage("--socket needs an absolute, plain path");
  if (runs === undefined || !isPlain(runs)) return usage("--runs needs an absolute, plain path");
  if (socket.slice(0, socket.lastIndexOf("/")) === runs)
    return usage(
      "--runs needs another directory than --socket: whoever may use a run's socket may not use that",
    );
  if (daemon === null) return usage("give either --daemon-uid, a number, or --daemon-user, a name");
  if (worker === null) return usage("give either --worker-uid, a number, or --worker-user, a name");
  return { kind: "run", options: { socket, runs, daemon, worker } };
}

function parse(argv: readonly string[]) {
  return parseArgs({ args: [...argv], options: ARGUMENTS, strict: true, allowPositionals: false }).values;
}

function isPlain(path: string): boolean {
  return PLAIN.test(path) && !/\/\.{1,2}(?:\/|$)/.test(path);
}

function usage(why: string): ServiceCommand {
  return { kind: "usage", why };
}
