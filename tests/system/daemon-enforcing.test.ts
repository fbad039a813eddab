import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { connectControl } from "../../cli/client.ts";
import type { Status } from "../../daemon/protocol/messages.ts";
import { linesOf, recordOf } from "../audit/fixture.ts";
import {
  createHome,
  type DaemonHome,
  type DaemonProcess,
  daemonArguments,
  startDaemon,
} from "../support/daemon-process.ts";
import {
  ALL_PATHS,
  createHostBetween,
  foreignNft,
  type HostBetween,
  inBothFamilies,
  probe,
} from "../support/host-between.ts";
import { NO_NETNS, removeNetns } from "../support/netns.ts";
import { delay, eventually, stopAgents } from "../support/packets.ts";

const MAIN = fileURLToPath(new URL("../../daemon/main.ts", import.meta.url));
const CONFIG = {
  initialMode: "OPEN",
  enforcement: { network: true, deadManMs: 1_000, heartbeatMs: 200 },
  ceremony: { coolDownMs: 0, requireTerminal: false },
};
const EVERYTHING = inBothFamilies(ALL_PATHS).toSorted();
const LOOPBACK = inBothFamilies(["loopback"]);

describe.skipIf(NO_NETNS !== "")(`the whole daemon, enforcing in a namespace of its own ${NO_NETNS}`, () => {
  let between: HostBetween;
  let home: DaemonHome;
  const daemons: DaemonProcess[] = [];

  beforeAll(async () => {
    between = await createHostBetween();
  });

  afterAll(async () => {
    await stopAgents();
    removeNetns();
  });

  afterEach(async () => {
    await Promise.all(daemons.splice(0).map((daemon) => daemon.kill()));
    home.remove();
    foreignNft(between, "flush ruleset");
  });

  async function start(...args: string[]): Promise<DaemonProcess> {
    const daemon = await startDaemon(home, { netns: between.netns.host.name, args });
    daemons.push(daemon);
    return daemon;
  }

  async function ask<T>(
    what: (client: Awaited<ReturnType<typeof connectControl>>) => Promise<T>,
  ): Promise<T> {
    const client = await connectControl(join(home.runtimeDir, "control.sock"));
    try {
      return await what(client);
    } finally {
      client.close();
    }
  }

  const status = (): Promise<Status> =>
    ask(async (client) => {
      const outcome = await client.call("status", {});
      if (!outcome.ok) throw new Error(outcome.problem.detail);
      return outcome.data;
    });
  const set = (mode: Status["mode"]["wanted"]) =>
    ask((client) => client.call("mode.set", { mode, reason: "test" }));
  const close = (): string => {
    const args = [
      "netns",
      "exec",
      between.netns.host.name,
      process.execPath,
      MAIN,
      ...daemonArguments(home),
      "--close",
    ];
    return spawnSync("/usr/sbin/ip", args, { encoding: "utf8" }).stdout;
  };

  test("says enforced, and the packets agree, in each mode that it passes through", async () => {
    home = createHome(CONFIG);
    await start();
    expect((await status()).assurance).toBe("enforced");
    expect((await probe(between)).toSorted()).toEqual(EVERYTHING);
    await set("AIRGAP");
    expect((await probe(between)).toSorted()).toEqual(LOOPBACK.toSorted());
    await set("LOCKDOWN");
    expect(await probe(between)).toEqual([]);
    expect((await status()).mode).toMatchObject({ wanted: "LOCKDOWN", applied: "LOCKDOWN" });
  });

  test.each([
    ["flushes everything", "flush ruleset"],
    ["lets a packet in before ours are asked", "insert rule inet boundary input accept"],
    ["takes our table away", "delete table inet boundary"],
    ["defeats the dead-man", "add element inet boundary alive { ipv4 timeout 1d }"],
  ])("falls to LOCKDOWN, and holds it, when somebody else %s", async (_name, command) => {
    home = createHome(CONFIG);
    await start();
    try {
      foreignNft(between, command);
    } catch {
      // an element may be there already: flush it first, as an attacker would
      foreignNft(
        between,
        "flush set inet boundary alive; add element inet boundary alive { ipv4 timeout 1d }",
      );
    }
    await expect.poll(async () => (await status()).mode.applied).toBe("LOCKDOWN");
    expect((await status()).mode.cause).toContain("own-rules");
    expect(await probe(between)).toEqual([]);
  });

  test.each(["SIGSTOP", "SIGKILL"] as const)("closes by itself after %s", async (signal) => {
    home = createHome(CONFIG);
    const daemon = await start();
    daemon.signal(signal);
    expect(await eventually(async () => (await probe(between)).length === 0)).toBe(true);
  });

  test("a stopped daemon that is woken goes on in the mode it had, closed meanwhile", async () => {
    home = createHome(CONFIG);
    const daemon = await start();
    daemon.signal("SIGSTOP");
    expect(await eventually(async () => (await probe(between)).length === 0)).toBe(true);
    daemon.signal("SIGCONT");
    expect(await eventually(async () => (await probe(between)).length > 0)).toBe(true);
  });

  test("a clean stop leaves the mode's rules, and the next start takes them up", async () => {
    home = createHome(CONFIG);
    const daemon = await start();
    await set("AIRGAP");
    expect((await daemon.stop()).code).toBe(0);
    await delay(1_200);
    expect((await probe(between)).toSorted()).toEqual(LOOPBACK.toSorted());
    await start();
    expect((await status()).mode).toMatchObject({ wanted: "AIRGAP", applied: "AIRGAP" });
  });

  test("--close loads the last mode after a clean stop, LOCKDOWN after a crash, and leaves a living daemon alone", async () => {
    home = createHome(CONFIG);
    const first = await start();
    await set("AIRGAP");
    expect(close()).toContain("a daemon is running");
    await first.stop();
    foreignNft(between, "flush ruleset");
    expect(close()).toContain("AIRGAP is in the kernel");
    expect((await probe(between)).toSorted()).toEqual(LOOPBACK.toSorted());
    const second = await start();
    await second.kill();
    expect(close()).toContain("LOCKDOWN is in the kernel");
    expect(await probe(between)).toEqual([]);
  });

  test("a start that cannot have its log closes the kernel", async () => {
    home = createHome(CONFIG);
    const daemon = await start();
    await daemon.stop();
    writeFileSync(join(home.stateDir, "log.key"), "no key");
    await expect(startDaemon(home, { netns: between.netns.host.name })).rejects.toThrow(/key-unreadable/);
    expect(await probe(between)).toEqual([]);
  });

  test("a second daemon that is refused leaves the first one's rules alone", async () => {
    home = createHome(CONFIG);
    await start();
    await expect(startDaemon(home, { netns: between.netns.host.name })).rejects.toThrow(/socket-in-use/);
    expect((await probe(between)).toSorted()).toEqual(EVERYTHING);
    expect((await status()).mode.wanted).toBe("OPEN");
  });

  test("the log holds what was asked and what the kernel confirmed, as two records", async () => {
    home = createHome(CONFIG);
    const daemon = await start();
    await set("TRUSTED");
    await daemon.stop();
    const told = linesOf(home.logDir).map(recordOf);
    const asked = told.find((record) => record.kind === "mode.changed");
    const applied = told.find(
      (record) => record.kind === "mode.applied" && record.data["mode"] === "TRUSTED",
    );
    expect(asked?.data).toMatchObject({ from: "OPEN", wanted: "TRUSTED" });
    expect(applied?.data).toMatchObject({ how: "kernel" });
  });
});
