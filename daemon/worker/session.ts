import type { Socket } from "node:net";
import { serveFrames } from "../adapters/frame-socket.ts";
import type { Served } from "../adapters/listen-one.ts";
import { type OrderKey, readOrderKey } from "../exec/run-order.ts";
import type { Cgroups } from "./cgroup.ts";
import { type FromDaemon, type RefusalCode, readMessage, type Sandbox, type ToDaemon } from "./messages.ts";
import { claimedId, type OrderGate } from "./order-gate.ts";
import type { Kit } from "./prepare.ts";
import { beginRun, type Run } from "./run.ts";

export type SessionSettings = {
  readonly gate: OrderGate;
  readonly kit: Kit;
  readonly cgroups: Cgroups;
  readonly sandbox: Sandbox;
  readonly maxRuns: number;
  /** Called with what the daemon did that it may not do; the connection is ended. */
  readonly onFault: (why: string) => void;
};

/** What may wait to be written before the runs are held up. */
const MAX_WAITING_BYTES = 1_048_576;

/**
 * Serves the daemon on one connection: hello, then orders. The connection is the daemon's hold on what runs: when it ends,
 * so does all of it.
 */
export function serve(socket: Socket, settings: SessionSettings): Served {
  const runs = new Map<string, Run>();
  const open = new Set<Promise<void>>();
  let key: OrderKey | null = null;
  let held = false;
  const frames = serveFrames(socket, {
    take,
    onFault: settings.onFault,
    onEnd: () => {
      for (const run of runs.values()) run.kill();
    },
  });

  function send(message: ToDaemon): void {
    frames.send(message);
    if (held || socket.writableLength <= MAX_WAITING_BYTES) return;
    held = true;
    for (const run of runs.values()) run.pause();
  }

  function drained(): void {
    held = false;
    for (const run of runs.values()) run.resume();
  }

  function refuse(id: string, code: RefusalCode, why: string): void {
    send({ kind: "refused", id, code, why });
  }

  /** Gives what the daemon did wrong; null when nothing. */
  function take(value: unknown): string | null {
    const read = readMessage(value);
    if (!read.ok) return read.why;
    const { message } = read;
    if (message.kind === "hello") return greet(message.publicKey);
    if (key === null) return `${message.kind} before hello`;
    if (message.kind === "run") order(message, key);
    else runs.get(message.id)?.cancel(message.why);
    return null;
  }

  function greet(text: string): string | null {
    if (key !== null) return "a second hello";
    key = readOrderKey(text);
    if (key === null) return "a hello without a key";
    send({ kind: "ready", sandbox: settings.sandbox });
    return null;
  }

  function order(message: Extract<FromDaemon, { kind: "run" }>, signer: OrderKey): void {
    const stdin = Buffer.from(message.stdin, "base64");
    const refusal = obstacleTo() ?? admit(message, stdin, signer);
    if (refusal === null) return;
    stdin.fill(0);
    refuse(claimedId(message.order), ...refusal);
  }

  /** Begins it, or says why not. */
  function admit(
    message: Extract<FromDaemon, { kind: "run" }>,
    stdin: Buffer,
    signer: OrderKey,
  ): readonly [RefusalCode, string] | null {
    const admitted = settings.gate.admit(message.order, message.signature, stdin, signer);
    if (!admitted.ok) return [admitted.code, admitted.why];
    // ids are remembered for as long as an order is good, and runs take longer
    if (runs.has(admitted.order.id)) return ["exec-order", "a command of that id is running"];
    begin(admitted.order, stdin);
    return null;
  }

  function obstacleTo(): readonly [RefusalCode, string] | null {
    const { namespaces, seccomp, readOnlyRoot, missing } = settings.sandbox;
    // without these it would not be a sandbox
    if (!namespaces || !seccomp || !readOnlyRoot) return ["exec-isolation", missing.join("; ")];
    return runs.size < settings.maxRuns ? null : ["exec-unavailable", `${runs.size} commands are running`];
  }

  function begin(admitted: Parameters<typeof beginRun>[0], stdin: Buffer): void {
    const { id } = admitted;
    const run = beginRun(admitted, stdin, settings.kit, settings.cgroups, {
      started: () => send({ kind: "started", id, sandbox: settings.sandbox }),
      output: (stream, chunk) =>
        send({ kind: "output", id, stream, data: Buffer.from(chunk).toString("base64") }),
      ended: (ending) => send({ kind: "ended", id, ...ending }),
      refused: (code, why) => refuse(id, code, why),
      isLate: () => settings.gate.isLate(admitted),
    });
    runs.set(id, run);
    if (held) run.pause();
    const done = run.over.finally(() => {
      runs.delete(id);
      open.delete(done);
    });
    open.add(done);
  }

  socket.on("drain", drained);

  return {
    stop: async () => {
      frames.end();
      await Promise.all(open);
    },
  };
}
