import { describe, expect, test } from "vitest";
import { createStop } from "../daemon/stop-once.ts";

/** A daemon whose stop waits for the disk, and everything that happened, in order. */
function fakeStop(how: "recorded" | "not-recorded" | "throws" = "recorded") {
  const events: string[] = [];
  const disk = Promise.withResolvers<void>();
  let stopping = false;
  const tell = (event: string) => void events.push(event);
  const stop = createStop({
    daemon: {
      async stop(why) {
        tell(`stop ${why}`);
        if (stopping) return "not-recorded"; // as the daemon answers a second time
        stopping = true;
        await disk.promise;
        if (how === "throws") throw new Error("bug");
        tell("settled");
        return how;
      },
    },
    ticks: () => tell("no more ticks"),
    audit: async () => tell("audit stream closed"),
    control: async () => tell("socket closed"),
    exit: (code) => tell(`exit ${code}`),
    crash: () => tell("crash"),
    opLog: { info: () => undefined, warn: (_fields, message) => tell(message), error: () => undefined },
  });
  const finish = async () => {
    disk.resolve();
    await new Promise(setImmediate);
  };
  return { stop, events, finish };
}

describe("a signal to stop", () => {
  test("stops once: others that come meanwhile are told and change nothing", async () => {
    const { stop, events, finish } = fakeStop();
    stop("SIGTERM");
    stop("SIGINT");
    await new Promise(setImmediate);
    stop("SIGTERM");
    expect(events).toEqual(["stop SIGTERM", "already stopping", "already stopping"]);
    await finish();
    stop("SIGINT");
    expect(events.slice(3)).toEqual([
      "settled",
      "no more ticks",
      "audit stream closed",
      "socket closed",
      "exit stopped",
      "already stopping",
    ]);
  });

  test.each([
    ["not-recorded", ["settled", "no more ticks", "audit stream closed", "socket closed", "exit failed"]],
    ["throws", ["crash"]],
  ] as const)("that ends %s is no clean end", async (how, expected) => {
    const { stop, events, finish } = fakeStop(how);
    stop("SIGTERM");
    await finish();
    expect(events.slice(1)).toEqual(expected);
  });
});
