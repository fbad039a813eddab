import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { BoundaryError, renderErrorChain } from "../core/errors.ts";
import type { CedarOrder, CedarProcess } from "../ports.ts";
import { EXIT_WITH_RIGHTS, powerless, yieldMemory } from "./powerless.ts";

/** The same file beside this one: .ts in development, .js when built. */
const CHILD = fileURLToPath(new URL(`./cedar-child${import.meta.url.slice(-3)}`, import.meta.url));
/** A host under load is slow, and nothing waits for it. */
const DEADLINE_MS = 60_000;
/** It may read its own program, and neither write, nor start anything, nor load native code. */
const FLAGS = [
  "--disallow-code-generation-from-strings",
  "--no-memory-protection-keys",
  "--max-old-space-size=256",
  "--max-semi-space-size=16",
  "--stack-size=3900",
  "--single-threaded",
  // it lives for one reading: optimised code would cost a third more and never pay
  "--liftoff-only",
  "--permission",
  "--allow-fs-read=*",
];

type Waiting = { readonly resolve: (text: string) => void; readonly reject: (error: Error) => void };

/**
 * Cedar (WebAssembly) in a process of its own, with no environment, none of our rights and a deadline for every order. Deep nesting kills an
 * instance for good, a policy may take for ever to read, and V8 itself crashes over WebAssembly in a second thread (on
 * some machines at nearly every load: docs/POLICY.md): all of these end the process, and nothing else.
 */
export function openCedarProcess(options: { readonly deadlineMs?: number } = {}): CedarProcess {
  const { deadlineMs = DEADLINE_MS } = options;
  const [command, args] = powerless(process.execPath, [...FLAGS, CHILD]);
  const child = spawn(command, args, {
    cwd: "/",
    env: {},
    serialization: "advanced",
    stdio: ["ignore", "ignore", "ignore", "ipc"],
  });
  yieldMemory(child.pid);
  const kill = () => child.kill("SIGKILL");
  // it may be in the middle of something, and would not notice that we are gone
  process.once("exit", kill);
  let dead: BoundaryError | null = null;
  let waiting: Waiting | null = null;
  let timer: NodeJS.Timeout | undefined;
  hold(child, false);

  function settle(work: (waiting: Waiting) => void): void {
    clearTimeout(timer);
    const who = waiting;
    waiting = null;
    hold(child, false);
    if (who) work(who);
  }

  function die(why: string, code: "policy-trapped" | "policy-crashed" = "policy-trapped"): void {
    dead ??= new BoundaryError(code, why);
    const error = dead;
    settle(({ reject }) => reject(error));
    kill();
    process.off("exit", kill);
  }

  child.on("message", (reply: unknown) => {
    const said = readReply(reply);
    if (said === null) return die("Cedar's process said something that cannot be read");
    return settle(({ resolve, reject }) =>
      said.ok ? resolve(said.text) : reject(new BoundaryError("policy-invalid", said.text)),
    );
  });
  child.on("error", (error) => die(`Cedar's process: ${renderErrorChain(error)}`));
  child.on("exit", (code, signal) => {
    // a trap of WebAssembly ends it with an exit code: what a signal ended may go well another time
    if (code === EXIT_WITH_RIGHTS) die("Cedar's process was left with rights of ours");
    else if (signal === null) die(`Cedar's process ended with ${code}`);
    else die(`Cedar's process was ended by ${signal}`, "policy-crashed");
  });

  return {
    ask: (order: CedarOrder) =>
      new Promise((resolve, reject) => {
        if (dead) return reject(dead);
        if (waiting)
          return reject(new BoundaryError("internal", "Cedar's process is asked one thing at a time"));
        waiting = { resolve, reject };
        // held only while somebody waits
        hold(child, true);
        timer = setTimeout(() => die(`Cedar's process did not answer within ${deadlineMs} ms`), deadlineMs);
        return child.send(order, (error) => {
          if (error) die(`Cedar's process: ${renderErrorChain(error)}`);
        });
      }),
    end: () => die("Cedar's process was ended"),
  };
}

/** Whether our own end waits for it. */
function hold(child: ChildProcess, isHeld: boolean): void {
  if (isHeld) {
    child.ref();
    child.channel?.ref();
  } else {
    child.unref();
    child.channel?.unref();
  }
}

function readReply(reply: unknown): { readonly ok: boolean; readonly text: string } | null {
  if (typeof reply !== "object" || reply === null || !("ok" in reply) || !("text" in reply)) return null;
  const { ok, text } = reply;
  return typeof ok === "boolean" && typeof text === "string" ? { ok, text } : null;
}
