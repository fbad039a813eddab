import { parseArgs } from "node:util";
import { type Mode, parseMode } from "./core/mode.ts";

/** What the command line and the environment say of this run. */
export type Options = {
  readonly configFile: string;
  /** Whether the file was named: then it has to be there. */
  readonly configNamed: boolean;
  readonly mode: Mode | null;
  readonly logDir: string;
  readonly stateDir: string;
  readonly runtimeDir: string;
};

export type Command =
  | { readonly kind: "run"; readonly options: Options }
  | { readonly kind: "close"; readonly options: Options }
  | { readonly kind: "check-config"; readonly options: Options }
  | { readonly kind: "help" }
  | { readonly kind: "version" }
  | { readonly kind: "usage"; readonly why: string };

export const HELP = `boundary-daemon: holds the host's boundary mode, enforces it and logs it

Usage: boundary-daemon [--config FILE] [--mode MODE] [--log-dir DIR] [--state-dir DIR] [--runtime-dir DIR]
       boundary-daemon --close [--config FILE] [--log-dir DIR] [--state-dir DIR]
       boundary-daemon --check-config [--config FILE]

  --config FILE       configuration (YAML); default /etc/boundary-daemon/config.yaml, or the user's own
  --mode MODE         mode of a first start; later it can only tighten: open, restricted, trusted, airgap,
                      coldroom, lockdown
  --log-dir DIR       the signed log
  --state-dir DIR     the key, the remembered head, the baseline, the mark of enforcement
  --runtime-dir DIR   the control socket
  --close             load the last mode's rules into the kernel, or LOCKDOWN when they are not known for
                      certain, and end; for early boot and after a crash. 3: switched on, and it cannot be done.
                      Loads nothing where the log says shadow or released, or for boundary.release=1 on the
                      kernel's command line, once that is recorded
  --check-config      read the configuration and the tripwires, name every fault, and end
  --help, --version

Environment: BOUNDARY_NETWORK_ENFORCE, BOUNDARY_USB_ENFORCE, BOUNDARY_PROCESS_ENFORCE (1 or 0) decide over the
configuration. Without a switch and its privilege the daemon watches and logs only, and says so.

Example: BOUNDARY_NETWORK_ENFORCE=1 boundary-daemon --mode restricted
Exit: 0 stopped cleanly, 2 usage or configuration, 3 could not start, 1 failed.
`;

const ARGUMENTS = {
  config: { type: "string" },
  mode: { type: "string" },
  "log-dir": { type: "string" },
  "state-dir": { type: "string" },
  "runtime-dir": { type: "string" },
  close: { type: "boolean" },
  "check-config": { type: "boolean" },
  help: { type: "boolean", short: "h" },
  version: { type: "boolean" },
} as const;

type Environment = Readonly<Record<string, string | undefined>>;

/** Reads the command line. uid decides whose directories are the default: the system's for root and services, else the user's. */
export function parseCommand(argv: readonly string[], env: Environment, uid: number): Command {
  let values: ReturnType<typeof parse>;
  try {
    values = parse(argv);
  } catch (error) {
    return { kind: "usage", why: error instanceof Error ? error.message : String(error) };
  }
  if (values.help) return { kind: "help" };
  if (values.version) return { kind: "version" };
  const mode = values.mode === undefined ? null : parseMode(values.mode);
  if (values.mode !== undefined && mode === null)
    return { kind: "usage", why: `there is no mode ${JSON.stringify(values.mode)}` };
  const places = defaultPlaces(env, uid);
  const options: Options = {
    configFile: values.config ?? places.config,
    configNamed: values.config !== undefined,
    mode,
    logDir: values["log-dir"] ?? places.log,
    stateDir: values["state-dir"] ?? places.state,
    runtimeDir: values["runtime-dir"] ?? places.runtime,
  };
  if (values.close) return { kind: "close", options };
  return { kind: values["check-config"] ? "check-config" : "run", options };
}

function parse(argv: readonly string[]) {
  return parseArgs({ args: [...argv], options: ARGUMENTS, strict: true, allowPositionals: false }).values;
}

/** systemd's directories when it made them, the system's for root, the user's own (XDG base directories) otherwise. */
function defaultPlaces(
  env: Environment,
  uid: number,
): { config: string; log: string; state: string; runtime: string } {
  const home = env["HOME"] ?? "/";
  const own = `${env["XDG_STATE_HOME"] ?? `${home}/.local/state`}/boundary-daemon`;
  const system = uid === 0 || env["STATE_DIRECTORY"] !== undefined;
  return {
    config: system
      ? `${env["CONFIGURATION_DIRECTORY"] ?? "/etc/boundary-daemon"}/config.yaml`
      : `${env["XDG_CONFIG_HOME"] ?? `${home}/.config`}/boundary-daemon/config.yaml`,
    log: system ? (env["LOGS_DIRECTORY"] ?? "/var/log/boundary-daemon") : `${own}/log`,
    state: system ? (env["STATE_DIRECTORY"] ?? "/var/lib/boundary-daemon") : `${own}/state`,
    runtime: system
      ? (env["RUNTIME_DIRECTORY"] ?? "/run/boundary-daemon")
      : `${env["XDG_RUNTIME_DIR"] ?? own}/boundary-daemon`,
  };
}
