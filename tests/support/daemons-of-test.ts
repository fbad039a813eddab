import { join } from "node:path";
import { afterEach } from "vitest";
import { type Client, connectControl } from "../../client/control.ts";
import type { Status } from "../../daemon/protocol/messages.ts";
import { createHome, type DaemonHome, type DaemonProcess, startDaemon } from "./daemon-process.ts";

/** Homes, real daemons and connections of one test file: after each test they are closed, ended and removed. */
export type DaemonsOfTest = {
  home(config: object | string): DaemonHome;
  start(at: DaemonHome, ...args: string[]): Promise<DaemonProcess>;
  connect(at: DaemonHome): Promise<Client>;
  statusOf(at: DaemonHome): Promise<Status>;
  /** Closes every connection so far. */
  disconnect(): void;
};

export function daemonsOfTest(): DaemonsOfTest {
  const homes: DaemonHome[] = [];
  const daemons: DaemonProcess[] = [];
  const clients: Client[] = [];
  const disconnect = (): void => {
    for (const client of clients.splice(0)) client.close();
  };
  afterEach(async () => {
    disconnect();
    await Promise.all(daemons.splice(0).map((daemon) => daemon.kill()));
    for (const home of homes.splice(0)) home.remove();
  });
  const connect = async (at: DaemonHome): Promise<Client> => {
    const client = await connectControl(join(at.runtimeDir, "control.sock"));
    clients.push(client);
    return client;
  };
  return {
    home: (config) => {
      const made = createHome(config);
      homes.push(made);
      return made;
    },
    start: async (at, ...args) => {
      const daemon = await startDaemon(at, { args });
      daemons.push(daemon);
      return daemon;
    },
    connect,
    disconnect,
    statusOf: async (at) => {
      const outcome = await (await connect(at)).call("status", {});
      if (!outcome.ok) throw new Error(outcome.problem.detail);
      return outcome.data;
    },
  };
}
