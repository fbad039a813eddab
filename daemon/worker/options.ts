import { parseArgs } from "node:util";
import { type NamedUser, readUser, wholeIn } from "../core/accounts.ts";
import { isPlainPath } from "../exec/run-order.ts";

/** What the command line says of a worker. */
export type WorkerOptions = {
  readonly socket: string;
  /** The user that the daemon runs as, by number or by name: nobody else is listened to. */
  readonly daemon: NamedUser;
  /** Instead of the one that comes with the worker. */
  readonly bridge: string | null;
  readonly maxRuns: number;
};

export type WorkerCommand =
  | { readonly kind: "run"; readonly options: WorkerOptions }
  | { readonly kind: "probe" }
  | { readonly kind: "help" }
  | { readonly kind: "usage"; readonly why: string };

const DEFAULT_RUNS = 16;
const MOST_RUNS = 256;

export const HELP = `boundary-worker: runs, in a sandbox, what boundary-daemon has signed an order for

Usage: worker/main --socket DIR/NAME (--daemon-uid N | --daemon-user NAME) [--max-runs N] [--bridge FILE]
       worker/main --probe

  --socket PATH     where to listen; the directory is made where it is missing, for its owner and its group
  --daemon-uid N    the user that the daemon runs as; nobody else is listened to
  --daemon-user NAME  the same by name, as it stands in /etc/passwd
  --max-runs N      how many commands may run at once (${DEFAULT_RUNS})
  --bridge FILE     what speaks with the egress proxy inside the sandbox, instead of the one that comes with this
  --probe           make a sandbox, say as JSON what of it holds on this host, and end
  --help

It runs as a user of its own, never as root, decides nothing, and takes orders of one connection at a time. When that ends,
so does everything it runs.

Exit: 0 stopped cleanly, 2 usage, 3 could not start, 1 failed. --probe: 0 when a command would be run, else 3.
`;

const ARGUMENTS = {
  socket: { type: "string" },
  "daemon-uid": { type: "string" },
  "daemon-user": { type: "string" },
  "max-runs": { type: "string" },
  bridge: { type: "string" },
  probe: { type: "boolean" },
  help: { type: "boolean", short: "h" },
} as const;

/** Reads the command line. */
export function parseWorkerCommand(argv: readonly string[]): WorkerCommand {
  let values: ReturnType<typeof parse>;
  try {
    values = parse(argv);
  } catch (error) {
    return usage(error instanceof Error ? error.message : String(error));
  }
  if (values.help) return { kind: "help" };
  if (values.probe) return { kind: "probe" };
  const { socket, bridge } = values;
  const daemon = readUser(values["daemon-uid"], values["daemon-user"]);
  const maxRuns = values["max-runs"] === undefined ? DEFAULT_RUNS : wholeIn(values["max-runs"], 1, MOST_RUNS);
  if (socket === undefined || !isPlainPath(socket)) return usage("--socket needs an absolute, plain path");
  if (daemon === null) return usage("give either --daemon-uid, a number, or --daemon-user, a name");
  if (maxRuns === null) return usage(`--max-runs needs a number from 1 to ${MOST_RUNS}`);
  if (bridge !== undefined && !isPlainPath(bridge)) return usage("--bridge needs an absolute, plain path");
  return { kind: "run", options: { socket, daemon, maxRuns, bridge: bridge ?? null } };
}

function parse(argv: readonly string[]) {
  return parseArgs({ args: [...argv], options: ARGUMENTS, strict: true, allowPositionals: false }).values;
}

function usage(why: string): WorkerCommand {
  return { kind: "usage", why };
}
