import { redactText } from "./redact.ts";

/** What an error is about. */
export const CATEGORIES = [
  "security",
  "auth",
  "network",
  "filesystem",
  "log",
  "config",
  "protocol",
  "enforcement",
  "sensor",
  "internal",
] as const;

/**
 * How bad it is. info: as intended (wait, or ask otherwise); warning: somebody asked wrongly; error: something was not
 * done; critical: the boundary or its log is in danger; fatal: the daemon does not start, or stops.
 */
export const SEVERITIES = ["info", "warning", "error", "critical", "fatal"] as const;

export type ErrorFacts = {
  readonly category: (typeof CATEGORIES)[number];
  readonly severity: (typeof SEVERITIES)[number];
  /** transient: the same may succeed a little later, without anybody doing anything. */
  readonly lasts: "transient" | "lasting";
  /** What a person can do about it. */
  readonly hint: string;
};

/**
 * Stable error codes, and all there is to know about each. A code is an interface: scripts and tests match it, wording
 * may change. Codes are only ever added.
 */
export const ERRORS = {
  // outside input
  "frame-too-large": about("protocol", "warning", "lasting", "send at most 64 KiB in one frame"),
  "frame-not-utf8": about("protocol", "warning", "lasting", "encode the frame as UTF-8"),
  "frame-timeout": about(
    "protocol",
    "warning",
    "transient",
    "finish a frame within 5 seconds of starting it",
  ),
  "json-invalid": about("protocol", "warning", "lasting", "send one JSON value per frame"),
  "json-too-deep": about("protocol", "warning", "lasting", "nest at most 32 levels"),
  "json-duplicate-key": about("protocol", "warning", "lasting", "use each key once in an object"),
  "request-invalid": about(
    "protocol",
    "warning",
    "lasting",
    "see `boundaryctl --help` or docs/PROTOCOL.md for the fields of this verb",
  ),
  "verb-unknown": about("protocol", "warning", "lasting", "see docs/PROTOCOL.md for the verbs"),
  "role-required": about(
    "auth",
    "warning",
    "lasting",
    "ask as a user or group that holds the role (config: roles)",
  ),
  "rate-limited": about(
    "protocol",
    "warning",
    "transient",
    "wait as long as retryAfterMs says; a service that has to ask more often gets a row of its own (config: limits.services)",
  ),
  "peer-unknown": about(
    "security",
    "error",
    "lasting",
    "connect over the daemon's Unix socket from this host",
  ),
  "too-many-connections": about("protocol", "warning", "transient", "close idle connections, or wait"),
  "too-many-requests": about("protocol", "warning", "transient", "wait for replies before sending more"),
  "reply-too-large": about("protocol", "warning", "lasting", "ask for less at a time (--limit)"),
  "reply-invalid": about(
    "protocol",
    "error",
    "lasting",
    "see that --runtime-dir is right, and that daemon and boundaryctl are of one version",
  ),
  // decide.sock
  "token-required": about(
    "auth",
    "warning",
    "lasting",
    "send `Authorization: Bearer bd_…` with a live token",
  ),
  "http-invalid": about(
    "protocol",
    "warning",
    "lasting",
    "send HTTP/1.1 as RFC 9112 has it, each header once",
  ),
  "headers-too-large": about("protocol", "warning", "lasting", "send at most 64 headers, of 8 KiB in all"),
  "body-too-large": about("protocol", "warning", "lasting", "send at most 64 KiB in one request"),
  "request-timeout": about("protocol", "warning", "transient", "send a request within 5 seconds"),
  "media-type": about("protocol", "warning", "lasting", "send `Content-Type: application/json`, in UTF-8"),
  "content-coding": about("protocol", "warning", "lasting", "send the body as it is, not compressed"),
  "path-unknown": about(
    "protocol",
    "warning",
    "lasting",
    "see /.well-known/authzen-configuration for the endpoints",
  ),
  "method-unknown": about(
    "protocol",
    "warning",
    "lasting",
    "use POST; GET for /.well-known/authzen-configuration",
  ),
  "page-invalid": about("protocol", "warning", "lasting", "search again from the first page"),
  "config-unreadable": about("config", "fatal", "lasting", "check the file's owner and permissions"),
  "config-invalid": about("config", "fatal", "lasting", "correct the line named in the message"),
  "argument-invalid": about("protocol", "warning", "lasting", "see --help"),
  // decisions
  "mode-ceiling": about(
    "security",
    "info",
    "lasting",
    "see what would be allowed; a person can change the mode",
  ),
  "approval-required": about(
    "auth",
    "info",
    "transient",
    "a person has to approve it: `boundaryctl approvals list`; then ask the same again",
  ),
  "answer-lapsed": about(
    "security",
    "info",
    "transient",
    "ask again: while it was recorded the mode changed, or the token ended",
  ),
  // mode machine
  "ceremony-required": about("auth", "info", "lasting", "run `boundaryctl ceremony begin`"),
  "ceremony-none": about("auth", "info", "lasting", "run `boundaryctl ceremony begin`"),
  "ceremony-too-early": about("auth", "info", "transient", "wait for the cool-down to end, then confirm"),
  "ceremony-expired": about("auth", "info", "lasting", "begin again"),
  "ceremony-wrong-code": about("auth", "warning", "lasting", "type the code that `ceremony begin` printed"),
  "ceremony-other-person": about("auth", "warning", "lasting", "a second person has to confirm"),
  "ceremony-no-terminal": about("auth", "warning", "lasting", "run the ceremony from a terminal"),
  "ceremony-changes": about(
    "security",
    "warning",
    "lasting",
    "look at the changed files; restore them, or pass --accept-changes",
  ),
  "confirm-none": about("auth", "info", "lasting", "see `boundaryctl status`: nothing goes back by itself"),
  "flow-unknown": about(
    "network",
    "warning",
    "lasting",
    "name a TCP connection that this host has now: run it over the SSH session that is to be kept",
  ),
  "flow-denied": about(
    "network",
    "warning",
    "lasting",
    "take it out of network.deny, or set the mode with --confirm and without --keep-session",
  ),
  "approval-unknown": about(
    "auth",
    "warning",
    "lasting",
    "see `boundaryctl approvals list`: it is over, or was never asked for",
  ),
  "approval-over": about("auth", "info", "lasting", "see `boundaryctl approvals list`: it has been decided"),
  "approval-own": about("auth", "warning", "lasting", "somebody else has to approve it"),
  "approval-no-terminal": about("auth", "warning", "lasting", "approve from a terminal"),
  "approval-too-many": about(
    "auth",
    "warning",
    "transient",
    "wait until what was asked for is decided or over (config: approvals)",
  ),
  "approval-too-long": about(
    "auth",
    "warning",
    "lasting",
    "ask with less in it: a person has to read all that is allowed",
  ),
  "approval-lockdown": about("auth", "info", "lasting", "end LOCKDOWN by ceremony, and ask again"),
  "clock-frozen": about(
    "security",
    "warning",
    "lasting",
    "check the clock, then `boundaryctl clock clear --reason …`",
  ),
  "clock-not-frozen": about("security", "info", "lasting", "nothing to clear"),
  "loosening-pending": about("security", "info", "transient", "wait for the loosening under way to finish"),
  "loosening-lapsed": about(
    "security",
    "warning",
    "lasting",
    "see `boundaryctl events`: something tightened the mode meanwhile",
  ),
  lockdown: about("security", "warning", "lasting", "leave LOCKDOWN first: `boundaryctl ceremony begin`"),
  // tokens and leases
  "token-unknown": about("auth", "warning", "lasting", "use a token that is live, or ask for a new one"),
  "token-expired": about(
    "auth",
    "info",
    "lasting",
    "ask for a new one; `boundaryctl token list` shows when they end",
  ),
  "token-revoked": about("auth", "warning", "lasting", "ask whoever gave it out"),
  "token-spent": about("auth", "info", "lasting", "ask for a new one"),
  "token-suspended": about(
    "auth",
    "info",
    "lasting",
    "it works again when the mode is as loose as it allows",
  ),
  "token-peer": about("auth", "warning", "lasting", "use it as the user that it is bound to"),
  "token-scope": about(
    "auth",
    "warning",
    "lasting",
    "ask for what is in the token's scope, or with another token",
  ),
  "person-required": about(
    "auth",
    "warning",
    "lasting",
    "a person has to do it: without a token, or with one that stands for a user",
  ),
  "token-wider": about(
    "auth",
    "warning",
    "lasting",
    "ask for no more than the token has that it is narrowed from",
  ),
  "token-needed": about("auth", "warning", "lasting", "show a token that may do this: --token-file FILE"),
  "token-unwanted": about(
    "auth",
    "warning",
    "lasting",
    "ask without a token, as root or the daemon's own user",
  ),
  "token-bootstrapped": about(
    "auth",
    "warning",
    "lasting",
    "the first token is made once; with it, or another admin token, `boundaryctl token mint`",
  ),
  "token-limit": about("auth", "warning", "lasting", "revoke tokens that nobody needs"),
  "lease-unknown": about("auth", "warning", "lasting", "see `boundaryctl lease list`"),
  "lease-settled": about(
    "auth",
    "info",
    "lasting",
    "see `boundaryctl lease list`: it has been answered, or is over",
  ),
  "lease-own": about("auth", "warning", "lasting", "somebody else has to approve it"),
  "lease-no-terminal": about("auth", "warning", "lasting", "approve it from a terminal"),
  "lease-mode": about(
    "auth",
    "info",
    "lasting",
    "ask again when the mode is as loose as the template allows",
  ),
  "lease-limit": about(
    "auth",
    "warning",
    "transient",
    "wait until leases that were asked for are answered or over",
  ),
  stopping: about("internal", "info", "transient", "the daemon is stopping"),
  // log
  "log-unavailable": about(
    "log",
    "critical",
    "lasting",
    "see `boundaryctl doctor`: the log cannot be written",
  ),
  "log-broken": about(
    "log",
    "fatal",
    "lasting",
    "run `boundaryctl verify-log` and keep the files as evidence",
  ),
  "log-locked": about("log", "fatal", "lasting", "another daemon uses this log directory"),
  "log-unsafe": about("log", "fatal", "lasting", "correct owner and permissions of the directory"),
  "record-invalid": about("internal", "error", "lasting", "this is a bug: report it"),
  "record-too-large": about(
    "log",
    "warning",
    "lasting",
    "shorten the input: a record holds at most 65,535 bytes",
  ),
  "key-invalid": about("log", "warning", "lasting", "give the key as `boundaryctl key show` prints it"),
  "state-unwritable": about(
    "filesystem",
    "critical",
    "lasting",
    "see owner, permissions and free space of the state directory",
  ),
  "key-unreadable": about(
    "filesystem",
    "fatal",
    "lasting",
    "check owner and permissions of the state directory",
  ),
  "head-invalid": about("log", "warning", "lasting", "give the head as `boundaryctl log head` prints it"),
  "ship-failed": about(
    "network",
    "error",
    "transient",
    "see that the server answers; the log keeps what was not handed over",
  ),
  "ship-untrusted": about(
    "security",
    "error",
    "lasting",
    "see --ca and --server-name, and the server's certificate",
  ),
  "unship-failed": about(
    "filesystem",
    "error",
    "lasting",
    "give files that can be read, and an --out that is not there yet",
  ),
  "proof-impossible": about(
    "log",
    "warning",
    "lasting",
    "see the message: what is sealed and not pruned can be proven",
  ),
  "witness-unreachable": about(
    "network",
    "error",
    "transient",
    "see that the URL is right, and that the witness runs",
  ),
  "witness-refused": about(
    "security",
    "critical",
    "lasting",
    "see the message: a witness that knows a longer or another log is evidence; keep both",
  ),
  // kernel and host
  "nft-unavailable": about("enforcement", "critical", "lasting", "install nftables (libnftables1)"),
  "nft-failed": about(
    "enforcement",
    "critical",
    "transient",
    "see the message of nft; `boundaryctl doctor` says what is missing",
  ),
  "nft-unreadable": about(
    "enforcement",
    "critical",
    "lasting",
    "report the nft version: its listing could not be read",
  ),
  "isolation-none": about(
    "config",
    "warning",
    "lasting",
    "name domains in the configuration (isolation), and restart",
  ),
  "isolation-observed": about(
    "enforcement",
    "warning",
    "lasting",
    "see `boundaryctl isolation validate`: it says what is missing",
  ),
  "usb-failed": about(
    "enforcement",
    "critical",
    "transient",
    "see `boundaryctl usb list` and `boundaryctl doctor`: sysfs did not take what was written",
  ),
  "usb-unknown": about(
    "enforcement",
    "warning",
    "lasting",
    "name the device by its port, as `boundaryctl usb list` shows it",
  ),
  "usb-ceiling": about(
    "security",
    "warning",
    "lasting",
    "the mode forbids it, and no rule and nobody can allow it in this mode",
  ),
  "usb-no-terminal": about("auth", "warning", "lasting", "allow storage from a terminal"),
  "usb-observed": about(
    "enforcement",
    "warning",
    "lasting",
    "see `boundaryctl status`: USB is watched, not enforced",
  ),
  "usb-rules-invalid": about(
    "config",
    "error",
    "lasting",
    "see `boundaryctl usb check FILE`: correct the line named in the message",
  ),
  // policy
  "policy-invalid": about(
    "config",
    "error",
    "lasting",
    "correct what the message names; `boundaryctl policy check` tries it without loading it",
  ),
  "entities-invalid": about(
    "config",
    "error",
    "lasting",
    "correct the entity that the message names: given once, and not its own ancestor",
  ),
  "run-failed": about("enforcement", "error", "lasting", "see the message of the program"),
  "run-timeout": about("enforcement", "error", "transient", "the program did not end in time"),
  "sensor-failed": about(
    "sensor",
    "error",
    "transient",
    "see `boundaryctl status`: the sensor is restarted with back-off",
  ),
  "usb-challenge-failed": about(
    "enforcement",
    "error",
    "lasting",
    "see the message; /dev/bus/usb and the interfaces of the device must be writable for the daemon",
  ),
  "usb-challenge-busy": about("enforcement", "info", "transient", "one keyboard is challenged at a time"),
  "socket-in-use": about("network", "fatal", "lasting", "another daemon is running: stop it first"),
  "socket-unsafe": about(
    "filesystem",
    "fatal",
    "lasting",
    "correct owner and permissions of the runtime directory",
  ),
  "no-daemon": about(
    "network",
    "error",
    "transient",
    "start boundary-daemon, or name its runtime directory with --runtime-dir",
  ),
  deadline: about("network", "error", "transient", "the daemon did not answer in time"),
  // secrets
  "vault-locked": about("security", "warning", "lasting", "run `boundaryctl vault unlock WORKSPACE`"),
  "vault-ceiling": about(
    "security",
    "warning",
    "lasting",
    "the mode keeps secrets sealed, and nobody can open them in this mode",
  ),
  "vault-passphrase-wrong": about(
    "auth",
    "warning",
    "lasting",
    "type the passphrase of this workspace, or the PIN of its token",
  ),
  "vault-unsafe": about(
    "filesystem",
    "critical",
    "lasting",
    "correct owner and permissions of the vault in the state directory, and start the daemon again",
  ),
  "vault-failed": about("internal", "error", "transient", "see the message; the secrets stay sealed"),
  "kek-unavailable": about(
    "security",
    "error",
    "lasting",
    "see the message: without the workspace's key its secrets cannot be opened",
  ),
  "workspace-unknown": about("protocol", "warning", "lasting", "see `boundaryctl vault status`"),
  "workspace-exists": about("protocol", "warning", "lasting", "unlock it without --create"),
  "secret-unknown": about("protocol", "warning", "lasting", "see `boundaryctl secret list`"),
  "secret-exists": about("protocol", "warning", "lasting", "use `boundaryctl secret rotate` for a new value"),
  "secret-damaged": about(
    "security",
    "error",
    "lasting",
    "its file was altered, or is another KEK's: rotate the secret, or restore the file",
  ),
  "secret-invalid": about("protocol", "warning", "lasting", "give 1 to 32,768 bytes"),
  "psk-invalid": about("protocol", "warning", "lasting", "give 32 bytes, as 64 hex digits or in base64"),
  "daemon-unreachable": about(
    "network",
    "error",
    "transient",
    "nobody answers, so it is denied: see that boundary-daemon runs",
  ),
  cancelled: about("protocol", "info", "lasting", "whoever asked waits no longer: ask again"),
  // what a guarded command connects to
  "egress-denied": about(
    "security",
    "info",
    "lasting",
    "see docs/EGRESS.md: the host has to be on every list there is, and policy has to allow it",
  ),
  "egress-address": about(
    "security",
    "warning",
    "lasting",
    "its name came to an address that is not public: list the address in egress.addresses if it is meant",
  ),
  "egress-name": about(
    "security",
    "warning",
    "lasting",
    "let the TLS client name the host that it asked for, in clear",
  ),
  "egress-unresolved": about(
    "network",
    "error",
    "transient",
    "see that the name is right, and that the DNS answers",
  ),
  "egress-unreachable": about("network", "error", "transient", "see that the host answers"),
  "egress-limit": about(
    "security",
    "warning",
    "transient",
    "use fewer connections and bytes, or raise egress.limits",
  ),
  "egress-ended": about("security", "info", "lasting", "the run is over, or the mode took the network away"),
  // questions to policy
  "policy-unavailable": about(
    "config",
    "critical",
    "lasting",
    "see `boundaryctl status` and `boundaryctl policy check`: there is no policy set that can be asked",
  ),
  "policy-denied": about(
    "auth",
    "info",
    "lasting",
    "see what would be allowed, or `boundaryctl policy explain`",
  ),
  "policy-failed": about(
    "config",
    "error",
    "lasting",
    "correct the policy that is named: it came to an error, and an error allows nothing",
  ),
  "policy-disagreed": about(
    "security",
    "critical",
    "lasting",
    "report it with the record policy.disagreed: Cedar and the compiled policies answered differently",
  ),
  "policy-trapped": about(
    "config",
    "error",
    "lasting",
    "simplify the policy: reading it took too long, or killed the reader",
  ),
  "policy-crashed": about(
    "internal",
    "error",
    "transient",
    "try again: the process that reads policies was ended by a signal (no memory, or a fault of V8's)",
  ),
  "action-unknown": about("protocol", "warning", "lasting", "see docs/POLICY.md for the actions"),
  "resource-unknown": about(
    "protocol",
    "warning",
    "lasting",
    "see docs/POLICY.md for the types of resources",
  ),
  "principal-unknown": about("auth", "warning", "lasting", "ask as a user, or with a token"),
  "property-invalid": about(
    "protocol",
    "warning",
    "lasting",
    "name what the message says, as policies/schema.cedarschema has it",
  ),
  "resource-mismatch": about(
    "security",
    "warning",
    "lasting",
    "say what the registry says of the resource, or nothing (policy.entitiesFile)",
  ),
  // guarded execution
  "exec-invalid": about(
    "protocol",
    "warning",
    "lasting",
    "see the message, and docs/EXEC.md for what a command may be asked for with",
  ),
  "exec-denied": about(
    "security",
    "info",
    "lasting",
    "see the rule that is named, and `boundaryctl exec check`; the profile says what may be run",
  ),
  "exec-cwd": about(
    "security",
    "warning",
    "lasting",
    "name a directory of a workspace that the configuration lists (exec.workspaces)",
  ),
  "exec-timeout": about(
    "enforcement",
    "info",
    "lasting",
    "give it more time (--timeout, 180 s at most), or less to do",
  ),
  "exec-truncated": about(
    "enforcement",
    "info",
    "lasting",
    "what was over the limit is lost: have it write to a file of the workspace",
  ),
  "exec-redaction": about(
    "security",
    "error",
    "lasting",
    "the output could not be searched for secrets, so it is not shown",
  ),
  "exec-spawn": about(
    "enforcement",
    "error",
    "lasting",
    "see the message of the worker: the program did not start",
  ),
  "exec-normalisation": about("protocol", "warning", "lasting", "give text in Unicode, without halves of it"),
  "exec-isolation": about(
    "enforcement",
    "critical",
    "lasting",
    "see the control `exec` of `boundaryctl status`: the worker cannot hold a command as exec.require asks",
  ),
  "exec-unavailable": about(
    "enforcement",
    "error",
    "transient",
    "see that boundary-worker runs, and for the network boundary-egress: `boundaryctl status` has `exec` and `egress`",
  ),
  "exec-secret": about(
    "security",
    "warning",
    "lasting",
    "take the secret out: seal it (`boundaryctl secret put`) and have it injected (--secret)",
  ),
  "exec-order": about(
    "security",
    "critical",
    "lasting",
    "the worker did not take the daemon's order: see that both are of one version and one boot",
  ),
  "exec-unknown": about("protocol", "warning", "lasting", "it is over, or another one's: ask with its id"),
  // what the operating system says (core/errno.ts)
  interrupted: about("filesystem", "error", "transient", "try again"),
  busy: about("filesystem", "error", "transient", "try again in a moment"),
  "disk-full": about("filesystem", "critical", "lasting", "free some space, or raise the quota"),
  "disk-failing": about(
    "filesystem",
    "critical",
    "lasting",
    "look at the kernel's log: the disk reports errors",
  ),
  "read-only": about("filesystem", "critical", "lasting", "mount it writable, or name another directory"),
  "not-permitted": about("filesystem", "error", "lasting", "check owner and permissions"),
  "not-found": about("filesystem", "error", "lasting", "check that the path exists"),
  "already-exists": about("filesystem", "error", "lasting", "remove it, or name another one"),
  "out-of-resources": about(
    "internal",
    "critical",
    "transient",
    "raise the limits on files, processes or memory",
  ),
  "peer-gone": about("network", "warning", "transient", "connect again"),
  internal: about("internal", "error", "lasting", "this is a bug: report it with the operational log"),
} as const;

export type ErrorCode = keyof typeof ERRORS;

function about(
  category: ErrorFacts["category"],
  severity: ErrorFacts["severity"],
  lasts: ErrorFacts["lasts"],
  hint: string,
): ErrorFacts {
  return { category, severity, lasts, hint };
}

/**
 * An operation failed, or we have a bug. `doing` says what was being attempted; the cause says what went wrong,
 * and is printed once, where the error is finally logged. Refusals are values, not exceptions.
 */
export class BoundaryError extends Error {
  override readonly name = "BoundaryError";
  readonly code: ErrorCode;

  constructor(code: ErrorCode, doing: string, options?: { cause?: unknown }) {
    super(doing, options);
    this.code = code;
  }

  get hint(): string {
    return ERRORS[this.code].hint;
  }
}

/** "doing: cause: cause of the cause", without secrets, for the one place that prints it. */
export function renderErrorChain(error: unknown): string {
  const parts: string[] = [];
  let at: unknown = error;
  while (at !== undefined && at !== null && parts.length < 8) {
    parts.push(at instanceof Error ? at.message : String(at));
    at = at instanceof Error ? at.cause : undefined;
  }
  return redactText(parts.join(": "));
}
