import { setTimeout as sleep } from "node:timers/promises";
import { dial, onLines } from "./qmp.ts";

/** What a command in the guest came to. */
export type Ran = { readonly code: number; readonly stdout: string; readonly stderr: string };

/** The hand in the guest (guest-files/agent), over a virtio port: no network, so that LOCKDOWN does not cut it. */
export type Agent = {
  /** Runs a line of bash as root in the guest. Throws when no answer comes: the guest hangs, or was reset. */
  run(command: string, seconds?: number): Promise<Ran>;
  /** Sends a line of bash whose answer does not matter (reboot). */
  start(command: string): void;
  /** Waits for the agent to say hello: a boot. Ask before you cause it. Gives the boot's id. */
  hello(withinMs: number): Promise<string>;
  close(): void;
};

const DEFAULT_SECONDS = 60;
/** Above the guest's own deadline: it shares two cores and its clock may stand. */
const SLACK_MS = 180_000;

export async function connectAgent(path: string): Promise<Agent> {
  const socket = await dial(path, 10_000);
  const waiting = new Map<string, (ran: Ran) => void>();
  const greeted = new Set<(boot: string) => void>();
  let next = 1;
  socket.on("error", () => undefined);
  onLines(socket, (line) => {
    const [first = "", second = "", out = "", err = ""] = line.split(" ");
    if (first === "hello") {
      for (const told of greeted) told(second);
      return;
    }
    waiting.get(first)?.({ code: Number(second), stdout: text(out), stderr: text(err) });
    waiting.delete(first);
  });
  const send = (id: string, command: string, seconds: number) =>
    socket.write(`${id} ${seconds} ${Buffer.from(command).toString("base64")}\n`);
  return {
    run: async (command, seconds = DEFAULT_SECONDS) => {
      const id = String(next);
      next += 1;
      const answer = new Promise<Ran>((resolve) => waiting.set(id, resolve));
      send(id, command, seconds);
      const ran = await Promise.race([answer, sleep(seconds * 1_000 + SLACK_MS, null, { ref: false })]);
      waiting.delete(id);
      if (ran === null) throw new Error(`the guest does not answer: ${command.slice(0, 100)}`);
      return ran;
    },
    start: (command) => {
      send("0", command, DEFAULT_SECONDS);
    },
    hello: (withinMs) =>
      new Promise((resolve, reject) => {
        const told = (boot: string) => {
          clearTimeout(timer);
          greeted.delete(told);
          resolve(boot);
        };
        const timer = setTimeout(() => {
          greeted.delete(told);
          reject(new Error(`the guest did not come up within ${withinMs} ms`));
        }, withinMs);
        greeted.add(told);
      }),
    close: () => socket.destroy(),
  };
}

function text(field: string): string {
  return Buffer.from(field.slice(1), "base64").toString("utf8");
}
