import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/** The machine from outside: qemu's own control socket. */
export type Qmp = {
  /** Runs a command and gives what it returns. Throws with qemu's words when it refuses. */
  execute(command: string, args?: Readonly<Record<string, unknown>>): Promise<unknown>;
  /** Runs a command of the human monitor; throws when it says anything that begins with "Error". */
  monitor(line: string): Promise<string>;
  /** Resolves at the next event of this name; rejects after ms. Ask before you cause it. */
  event(name: string, ms: number): Promise<void>;
  close(): void;
};

type Waiting = { readonly resolve: (value: unknown) => void; readonly reject: (error: Error) => void };
type Message = {
  readonly QMP?: unknown;
  readonly id?: number;
  readonly return?: unknown;
  readonly error?: { readonly desc: string };
  readonly event?: string;
};

const CONNECT_MS = 10_000;

/** Connects to a qemu that was just started, as soon as its socket is there. */
export async function connectQmp(path: string): Promise<Qmp> {
  const socket = await dial(path, CONNECT_MS);
  const waiting = new Map<number, Waiting>();
  const listeners = new Map<string, Set<() => void>>();
  let next = 1;

  onLines(socket, (line) => {
    const message = JSON.parse(line) as Message;
    if (message.event !== undefined) {
      for (const told of listeners.get(message.event) ?? []) told();
      return;
    }
    const asked = message.id === undefined ? undefined : waiting.get(message.id);
    if (asked === undefined || message.id === undefined) return;
    waiting.delete(message.id);
    if (message.error) asked.reject(new Error(`qemu: ${message.error.desc}`));
    else asked.resolve(message.return);
  });
  socket.on("close", () => {
    for (const { reject } of waiting.values()) reject(new Error("qemu has ended"));
    waiting.clear();
  });

  const execute: Qmp["execute"] = (command, args) =>
    new Promise((resolve, reject) => {
      const id = next;
      next += 1;
      waiting.set(id, { resolve, reject });
      socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    });
  await execute("qmp_capabilities");

  return {
    execute,
    monitor: async (line) => {
      const said = String(await execute("human-monitor-command", { "command-line": line }));
      if (/^Error/m.test(said)) throw new Error(`qemu: ${line}: ${said.trim()}`);
      return said;
    },
    event: (name, ms) =>
      new Promise((resolve, reject) => {
        const told = listeners.get(name) ?? new Set();
        listeners.set(name, told);
        const timer = setTimeout(() => done(() => reject(new Error(`no ${name} within ${ms} ms`))), ms);
        const heard = () => done(resolve);
        const done = (then: () => void) => {
          clearTimeout(timer);
          told.delete(heard);
          then();
        };
        told.add(heard);
      }),
    close: () => socket.destroy(),
  };
}

/** Connects to a Unix socket that may not be there yet. */
export async function dial(path: string, withinMs: number): Promise<Socket> {
  const until = performance.now() + withinMs;
  for (;;) {
    try {
      return await new Promise<Socket>((resolve, reject) => {
        const socket = connect(path, () => resolve(socket));
        socket.once("error", reject);
      });
    } catch (error) {
      if (performance.now() > until) throw error;
      await sleep(50);
    }
  }
}

/** Calls `take` with every whole line that arrives, without its end. */
export function onLines(socket: Socket, take: (line: string) => void): void {
  let rest = "";
  socket.setEncoding("utf8");
  socket.on("data", (text: string) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) take(line.replace(/\r$/, ""));
  });
}
