import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { accessSync, constants, statSync } from "node:fs";
import { StringDecoder } from "node:string_decoder";
import { BoundaryError } from "../core/errors.ts";

/**
 * The one place where other programs start: an absolute path from a fixed list of directories (never PATH), an argument
 * list (never a shell), a scrubbed environment, a deadline and capped output.
 */
const DIRECTORIES = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"] as const;
const ENVIRONMENT = { LC_ALL: "C" };
const PLAIN_NAME = /^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$/;
const STDERR_KEPT_BYTES = 4096;

export type RunLimits = {
  readonly deadlineMs: number;
  /** For stdout and stderr each. */
  readonly maxOutputBytes: number;
  /** Written to stdin; without it stdin is /dev/null. */
  readonly input?: string | Uint8Array;
};

export type RunResult = { readonly code: number; readonly stdout: string; readonly stderr: string };
/** The same for output that is a secret: bytes can be wiped. */
export type RunBytes = { readonly code: number; readonly stdout: Buffer; readonly stderr: string };

/** The absolute path of an executable of this name in the fixed directories, or null. Anything but a plain name is null. */
export function findProgram(name: string): string | null {
  if (!PLAIN_NAME.test(name)) return null;
  return DIRECTORIES.map((directory) => `${directory}/${name}`).find(isExecutable) ?? null;
}

/**
 * Runs a program to its end. A non-zero exit code is a result. Rejects with "run-failed" (absent, would not start,
 * killed, too much output) or "run-timeout"; the program has then been killed.
 */
export async function run(name: string, args: readonly string[], limits: RunLimits): Promise<RunResult> {
  const { code, stdout, stderr } = await runForBytes(name, args, limits);
  return { code, stdout: stdout.toString("utf8"), stderr };
}

/** As `run`, with the output as bytes, for the caller to wipe. */
export function runForBytes(name: string, args: readonly string[], limits: RunLimits): Promise<RunBytes> {
  return new Promise((resolve, reject) => {
    const doing = `running ${name}`;
    const child = start(name, args, limits.input === undefined ? "ignore" : "pipe");
    const fail = (error: BoundaryError) => {
      clearTimeout(deadline);
      child.kill("SIGKILL");
      // a grandchild may hold the pipes open: do not wait for them
      child.stdout?.destroy();
      child.stderr?.destroy();
      reject(error);
    };
    const deadline = setTimeout(
      () => fail(new BoundaryError("run-timeout", `${doing}: not done after ${limits.deadlineMs} ms`)),
      limits.deadlineMs,
    );
    const tooMuch = () => fail(new BoundaryError("run-failed", `${doing}: more output than allowed`));
    const stdout = collect(child.stdout, limits.maxOutputBytes, tooMuch);
    const stderr = collect(child.stderr, limits.maxOutputBytes, tooMuch);
    child.on("error", (cause) => fail(new BoundaryError("run-failed", doing, { cause })));
    child.on("close", (code, signal) => {
      clearTimeout(deadline);
      if (code === null) return reject(new BoundaryError("run-failed", `${doing}: killed by ${signal}`));
      resolve({ code, stdout: stdout(), stderr: stderr().toString("utf8") });
    });
    // EPIPE: the program need not read its input; its exit code says what it made of it
    child.stdin?.on("error", () => {});
    child.stdin?.end(limits.input);
  });
}

/** As `run`, but blocks the loop: for what must be done before anything else happens. Throws what `run` rejects with. */
export function runSync(name: string, args: readonly string[], limits: RunLimits): RunResult {
  const doing = `running ${name}`;
  const result = spawnSync(required(name), args, {
    env: ENVIRONMENT,
    cwd: "/",
    input: limits.input ?? "",
    timeout: limits.deadlineMs,
    maxBuffer: limits.maxOutputBytes,
    killSignal: "SIGKILL",
    encoding: "utf8",
  });
  const problem = errnoOf(result.error);
  if (problem === "ETIMEDOUT") {
    throw new BoundaryError("run-timeout", `${doing}: not done after ${limits.deadlineMs} ms`);
  }
  // EPIPE: the program ended without reading all of its input; its exit code tells more
  if (result.error && problem !== "EPIPE")
    throw new BoundaryError("run-failed", doing, { cause: result.error });
  if (result.status === null) throw new BoundaryError("run-failed", `${doing}: killed by ${result.signal}`);
  return { code: result.status, stdout: result.stdout, stderr: result.stderr };
}

export type Following = {
  /** null when it could not be started (onEnd says why). */
  readonly pid: number | null;
  /** Kills the program and resolves when it is gone. `onLine` and `onEnd` are not called any more. */
  stop(): Promise<void>;
};

export type FollowHandlers = {
  /** One line of stdout, without its newline. */
  readonly onLine: (line: string) => void;
  /** Called once when the program ended by itself, could not start, or wrote a line longer than allowed (it is killed). */
  readonly onEnd: (why: string) => void;
  readonly maxLineBytes: number;
};

/**
 * Follows a program that runs for as long as we do (a monitor). It dies with us, also when we are killed: setpriv
 * sets PR_SET_PDEATHSIG and becomes the program (same pid). The kernel ties that to the thread that started it, so
 * call this from the main thread. Throws "run-failed" when the program or setpriv is absent.
 */
export function follow(name: string, args: readonly string[], handlers: FollowHandlers): Following {
  const child = start("setpriv", ["--pdeathsig", "KILL", "--", required(name), ...args], "ignore");
  let open = true;
  let complaint = "";
  const end = (why: string) => {
    if (!open) return;
    open = false;
    child.kill("SIGKILL");
    handlers.onEnd(why);
  };
  const lines = lineSplitter(handlers.maxLineBytes, (line) => open && handlers.onLine(line));
  child.stdout?.on("data", (chunk: Buffer) => {
    if (open && !lines(chunk)) end(`${name} wrote a line of more than ${handlers.maxLineBytes} bytes`);
  });
  child.stderr?.on("data", (chunk: Buffer) => {
    complaint = (complaint + chunk.toString("utf8")).slice(-STDERR_KEPT_BYTES);
  });
  child.on("error", (cause) => end(`${name} did not start: ${cause.message}`));
  child.on("close", (code, signal) => {
    const how = code === null ? `was killed by ${signal}` : `ended with code ${code}`;
    end([`${name} ${how}`, complaint.trim()].filter((part) => part !== "").join(": "));
  });
  return {
    pid: child.pid ?? null,
    stop: () => {
      open = false;
      return killed(child);
    },
  };
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false; // absent or not for us: either way it cannot be run
  }
}

function required(name: string): string {
  const path = findProgram(name);
  if (path === null) {
    throw new BoundaryError("run-failed", `finding the program ${name} in ${DIRECTORIES.join(", ")}`);
  }
  return path;
}

function start(name: string, args: readonly string[], stdin: "ignore" | "pipe"): ChildProcess {
  return spawn(required(name), args, { env: ENVIRONMENT, cwd: "/", stdio: [stdin, "pipe", "pipe"] });
}

function collect(stream: ChildProcess["stdout"], maxBytes: number, tooMuch: () => void): () => Buffer {
  const chunks: Buffer[] = [];
  let bytes = 0;
  stream?.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > maxBytes) return tooMuch();
    chunks.push(chunk);
  });
  return () => {
    const whole = Buffer.concat(chunks);
    for (const chunk of chunks) chunk.fill(0);
    return whole;
  };
}

/** Feeds whole lines to `onLine`; false once a line, finished or not, is longer than allowed. */
function lineSplitter(maxBytes: number, onLine: (line: string) => void): (chunk: Buffer) => boolean {
  const decoder = new StringDecoder("utf8");
  let rest = "";
  return (chunk) => {
    const lines = (rest + decoder.write(chunk)).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      if (Buffer.byteLength(line) > maxBytes) return false;
      onLine(line);
    }
    return Buffer.byteLength(rest) <= maxBytes;
  };
}

function killed(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null)
    return Promise.resolve();
  return new Promise((resolve) => {
    child.once("exit", () => resolve());
    child.kill("SIGKILL");
  });
}

function errnoOf(error: Error | undefined): unknown {
  return error !== undefined && "code" in error ? error.code : undefined;
}
