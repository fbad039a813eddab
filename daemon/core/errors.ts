/**
 * Stable error codes. A code is an interface: scripts and tests match it, wording may change.
 * Codes are only ever added. The value is what a person can do about it.
 */
export const ERROR_HINTS = {
  // outside input
  "frame-too-large": "send at most 64 KiB in one frame",
  "frame-not-utf8": "encode the frame as UTF-8",
  "frame-timeout": "finish a frame within 5 seconds of starting it",
  "json-invalid": "send one JSON value per frame",
  "json-too-deep": "nest at most 32 levels",
  "json-duplicate-key": "use each key once in an object",
  "request-invalid": "see `boundaryctl --help` or docs/PROTOCOL.md for the fields of this verb",
  "verb-unknown": "see docs/PROTOCOL.md for the verbs",
  "role-required": "ask as a user or group that holds the role (config: roles)",
  "peer-unknown": "connect over the daemon's Unix socket from this host",
  "too-many-connections": "close idle connections, or wait",
  "too-many-requests": "wait for replies before sending more",
  "reply-too-large": "ask for less at a time (--limit)",
  "reply-invalid": "see that --runtime-dir is right, and that daemon and boundaryctl are of one version",
  "config-unreadable": "check the file's owner and permissions",
  "config-invalid": "correct the line named in the message",
  "argument-invalid": "see --help",
  // mode machine
  "ceremony-required": "run `boundaryctl ceremony begin`",
  "ceremony-none": "run `boundaryctl ceremony begin`",
  "ceremony-too-early": "wait for the cool-down to end, then confirm",
  "ceremony-expired": "begin again",
  "ceremony-wrong-code": "type the code that `ceremony begin` printed",
  "ceremony-other-person": "a second person has to confirm",
  "ceremony-no-terminal": "run the ceremony from a terminal",
  "ceremony-changes": "look at the changed files; restore them, or pass --accept-changes",
  "clock-frozen": "check the clock, then `boundaryctl clock clear --reason …`",
  "clock-not-frozen": "nothing to clear",
  "loosening-pending": "wait for the loosening under way to finish",
  "loosening-lapsed": "see `boundaryctl events`: something tightened the mode meanwhile",
  stopping: "the daemon is stopping",
  // log
  "log-unavailable": "see `boundaryctl doctor`: the log cannot be written",
  "log-broken": "run `boundaryctl verify-log` and keep the files as evidence",
  "log-locked": "another daemon uses this log directory",
  "log-unsafe": "correct owner and permissions of the directory",
  "record-invalid": "this is a bug: report it",
  "record-too-large": "shorten the input: a record holds at most 65,535 bytes",
  "key-invalid": "give the key as `boundaryctl key show` prints it",
  "state-unwritable": "see owner, permissions and free space of the state directory",
  "key-unreadable": "check owner and permissions of the state directory",
  "ship-failed": "see that the server answers; the log keeps what was not handed over",
  "ship-untrusted": "see --ca and --server-name, and the server's certificate",
  "unship-failed": "give files that can be read, and an --out that is not there yet",
  "head-invalid": "give the head as `boundaryctl key head` prints it",
  // kernel and host
  "nft-unavailable": "install nftables (libnftables1)",
  "nft-failed": "see the message of nft; `boundaryctl doctor` says what is missing",
  "nft-unreadable": "report the nft version: its listing could not be read",
  "run-failed": "see the message of the program",
  "run-timeout": "the program did not end in time",
  "sensor-failed": "see `boundaryctl status`: the sensor is restarted with back-off",
  "socket-in-use": "another daemon is running: stop it first",
  "socket-unsafe": "correct owner and permissions of the runtime directory",
  "no-daemon": "start boundary-daemon, or name its runtime directory with --runtime-dir",
  deadline: "the daemon did not answer in time",
  internal: "this is a bug: report it with the operational log",
} as const;

export type ErrorCode = keyof typeof ERROR_HINTS;

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
    return ERROR_HINTS[this.code];
  }
}

/** "doing: cause: cause of the cause", for the one place that prints it. */
export function renderErrorChain(error: unknown): string {
  const parts: string[] = [];
  let at: unknown = error;
  while (at !== undefined && at !== null && parts.length < 8) {
    parts.push(at instanceof Error ? at.message : String(at));
    at = at instanceof Error ? at.cause : undefined;
  }
  return parts.join(": ");
}
