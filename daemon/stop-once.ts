import type { Daemon } from "./daemon.ts";
import type { OpLog } from "./ports.ts";

type Stops = {
  readonly daemon: Pick<Daemon, "stop">;
  /** Ends the heartbeat: no tick may come after the log is closed. */
  readonly ticks: () => void;
  /** Writes the end of the audit stream, once the core log is closed. */
  readonly audit: () => Promise<unknown>;
  /** Closes the socket, last: until then callers hear that the daemon is stopping. */
  readonly control: () => Promise<unknown>;
  readonly exit: (how: "stopped" | "failed") => void;
  readonly crash: (error: unknown) => void;
  readonly opLog: OpLog;
};

/**
 * What a signal to stop does. Only the first one does it: another that comes while the record of the stop is on its
 * way to the disk would end the process before the kernel keeps the rules without us.
 */
export function createStop(stops: Stops): (signal: string) => void {
  let stoppingFor = "";

  async function stop(signal: string): Promise<void> {
    const how = await stops.daemon.stop(signal);
    stops.ticks();
    await stops.audit();
    await stops.control();
    stops.exit(how === "recorded" ? "stopped" : "failed");
  }

  return (signal) => {
    if (stoppingFor !== "") {
      stops.opLog.warn({ signal, stoppingFor }, "already stopping");
      return;
    }
    stoppingFor = signal;
    stop(signal).catch(stops.crash);
  };
}
