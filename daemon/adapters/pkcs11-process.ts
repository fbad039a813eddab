import { type ChildProcess, spawn } from "node:child_process";
import type { Socket } from "node:net";
import { fileURLToPath } from "node:url";
import { BoundaryError, type ErrorCode, renderErrorChain } from "../core/errors.ts";
import type { KekProvider, KekSource } from "../ports.ts";
import type { Pkcs11Place } from "./kek-pkcs11.ts";
import { moduleFault } from "./pkcs11-module.ts";
import { createFrameCutter, type Frame, type Pkcs11Request, readReply, renderFrame } from "./pkcs11-wire.ts";
import { EXIT_WITH_RIGHTS, powerless, yieldMemory } from "./powerless.ts";

/** The same file beside this one: .ts in development, .js when built. */
const CHILD = fileURLToPath(new URL(`./pkcs11-child${import.meta.url.slice(-3)}`, import.meta.url));
const FLAGS = [
  "--disallow-code-generation-from-strings",
  "--no-memory-protection-keys",
  "--max-semi-space-size=1",
  "--max-old-space-size=64",
  "--optimize-for-size",
];
/** Said by the service manager to us, or about our own Node: nothing for a module. The rest it may need. */
const OURS =
  /^(?:NOTIFY_SOCKET|WATCHDOG_|LISTEN_|CREDENTIALS_DIRECTORY|INVOCATION_ID|JOURNAL_STREAM|NODE_|BOUNDARY_)/;
/** A token that has not answered by then is given up, and its process ended. */
const DEADLINE_MS = 30_000;
/** To close a session and to log out. */
const DROP_DEADLINE_MS = 10_000;

type Answer = { readonly key: number; readonly spec: string; readonly body: Buffer };
type Waiting = {
  readonly doing: string;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: BoundaryError) => void;
  readonly timer: NodeJS.Timeout;
};

/** The process with the module, while it lives. */
type Helper = {
  ask(doing: string, request: Pkcs11Request, body: Uint8Array, withinMs: number): Promise<Answer>;
  isGone(): boolean;
};

/**
 * KEKs on a PKCS#11 token, whose module (somebody else's code, with somebody else's device behind it) runs in a process of its
 * own: it can hang, crash or write where it likes, and holds up nothing here. That process has none of our rights, dies with
 * us, and is killed when it does not answer; what was open is locked out then, until somebody unlocks anew. `place`: null where
 * no token is configured.
 */
export function pkcs11Process(
  place: Pkcs11Place | null,
  deadlines: { readonly callMs?: number; readonly dropMs?: number } = {},
): KekSource {
  const { callMs = DEADLINE_MS, dropMs = DROP_DEADLINE_MS } = deadlines;
  let helper: Helper | null = null;
  /** Keys that nothing is wrapped under, as far as we know still on the token: for the next process. */
  const doomed = new Set<string>();

  function started(): Helper {
    if (place === null) throw new BoundaryError("kek-unavailable", "vault.pkcs11 is not configured");
    if (helper === null || helper.isGone()) helper = startHelper({ place, doomed: [...doomed] });
    return helper;
  }

  function providerOf(on: Helper, key: number, id: string): KekProvider {
    let isDropped = false;
    const locked = () => new BoundaryError("vault-locked", `using the KEK ${id}, which was dropped`);
    const dropped = Promise.withResolvers<never>();
    dropped.promise.catch(() => undefined);
    /** What comes after the drop is wiped, and given to nobody. */
    async function use(op: "wrap" | "unwrap", bytes: Uint8Array): Promise<Buffer> {
      if (isDropped) throw locked();
      const doing = `${op === "wrap" ? "wrapping" : "unwrapping"} a key with the KEK ${id}`;
      const answered = on.ask(doing, { op, key }, bytes, callMs).then(({ body }) => {
        if (!isDropped) return body;
        body.fill(0);
        throw locked();
      });
      return Promise.race([answered, dropped.promise]);
    }
    return {
      id,
      wrap: (dek) => use("wrap", dek),
      unwrap: (wrapped) => use("unwrap", wrapped),
      drop() {
        if (isDropped) return;
        isDropped = true;
        dropped.reject(locked());
        // who does not answer is ended by the deadline: that closes it, too
        on.ask(`closing the KEK ${id}`, { op: "drop", key }, NOTHING, dropMs).catch(() => undefined);
      },
    };
  }

  return {
    kind: "pkcs11",
    asks: place !== null && place.pinFile === undefined,
    obstacle: () => (place === null ? "vault.pkcs11 is not configured" : moduleFault(place.module)),
    async create(id, pin) {
      const on = started();
      try {
        const request = { op: "create", id, asks: pin !== null } as const;
        const { key, spec } = await on.ask(`making the KEK ${id}`, request, pin ?? NOTHING, callMs);
        return { provider: providerOf(on, key, id), spec };
      } catch (error) {
        if (on.isGone()) doomed.add(id); // it may have been made
        throw error;
      }
    },
    async open(id, text, pin) {
      const on = started();
      const request = { op: "open", id, spec: text, asks: pin !== null } as const;
      const { key, spec } = await on.ask(`opening the KEK ${id}`, request, pin ?? NOTHING, callMs);
      return { provider: providerOf(on, key, id), spec };
    },
    async retire(id) {
      doomed.add(id);
      await started().ask(`destroying the key ${id}`, { op: "retire", id }, NOTHING, callMs);
      doomed.delete(id);
    },
  };
}

const NOTHING = Buffer.alloc(0);

function startHelper(beginning: { readonly place: Pkcs11Place; readonly doomed: readonly string[] }): Helper {
  const [command, args] = powerless(process.execPath, [...FLAGS, CHILD]);
  const environment = Object.entries(process.env).filter(([name]) => !OURS.test(name));
  const child = spawn(command, args, {
    cwd: "/",
    env: Object.fromEntries(environment),
    stdio: ["ignore", "ignore", "ignore", "pipe"],
  });
  yieldMemory(child.pid);
  const kill = () => child.kill("SIGKILL");
  process.once("exit", kill);
  const channel = child.stdio[3] as Socket;
  const waiting = new Map<number, Waiting>();
  const cutter = createFrameCutter();
  let asked = 0;
  let end: ((doing: string) => BoundaryError) | null = null;

  /** Once: everybody who waits is told, and it is killed, which closes all that it has open. */
  function die(why: string): void {
    end ??= (doing) => new BoundaryError("kek-unavailable", `${doing}: ${why}`);
    for (const [n, { doing, reject }] of waiting) settle(n, () => reject(fault(doing)));
    kill();
    channel.destroy();
    process.off("exit", kill);
  }

  function fault(doing: string): BoundaryError {
    return end?.(doing) ?? new BoundaryError("internal", doing);
  }

  function settle(n: number, work: (who: Waiting) => void): void {
    const who = waiting.get(n);
    if (who === undefined) return;
    clearTimeout(who.timer);
    waiting.delete(n);
    hold(child, channel, waiting.size > 0);
    work(who);
  }

  function take({ head, body }: Frame): void {
    const reply = readReply(head);
    const known = reply !== null && waiting.has(reply.n);
    if (!known || end !== null) {
      body.fill(0);
      if (!known) die("its process said something that cannot be read");
    } else if (reply.ok) {
      settle(reply.n, ({ resolve }) => resolve({ key: reply.key ?? -1, spec: reply.spec ?? "", body }));
    } else {
      const { code, message }: { code: ErrorCode; message: string } = reply;
      settle(reply.n, ({ reject }) => reject(new BoundaryError(code, message)));
    }
  }

  function write(frame: Buffer): void {
    channel.write(frame, () => frame.fill(0));
  }

  channel.on("data", (chunk: Buffer) => {
    const frames = cutter.push(chunk);
    if (frames === "dead") die("its process said something that cannot be read");
    else for (const frame of frames) take(frame);
  });
  channel.on("error", () => die("its process ended"));
  channel.on("close", () => die("its process ended"));
  child.on("error", (error) => die(`its process: ${renderErrorChain(error)}`));
  child.on("exit", (code, signal) =>
    die(
      code === EXIT_WITH_RIGHTS
        ? "its process was left with rights of ours"
        : `its process ended with ${code ?? signal}`,
    ),
  );
  write(renderFrame(beginning, NOTHING));
  hold(child, channel, false);

  return {
    isGone: () => end !== null,
    ask: (doing, request, body, withinMs) =>
      new Promise((resolve, reject) => {
        if (end !== null) return reject(fault(doing));
        const n = asked++;
        const frame = rendered({ n, ...request }, body);
        if (frame === null)
          return reject(new BoundaryError("kek-unavailable", `${doing}: it is more than can be asked`));
        const late = () => die(`the token has not answered in ${withinMs} ms`);
        waiting.set(n, { doing, resolve, reject, timer: setTimeout(late, withinMs) });
        hold(child, channel, true);
        return write(frame);
      }),
  };
}

/** null for what has no room in a frame: a keyring can hold anything. */
function rendered(head: object, body: Uint8Array): Buffer | null {
  try {
    return renderFrame(head, body);
  } catch {
    return null;
  }
}

/** Whether our own end waits for it. */
function hold(child: ChildProcess, channel: Socket, isHeld: boolean): void {
  if (isHeld) {
    child.ref();
    channel.ref();
  } else {
    child.unref();
    channel.unref();
  }
}
