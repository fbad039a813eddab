import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type Client, connectControl, type Params, type Replies } from "../../client/control.ts";
import type { Verb } from "../../daemon/protocol/messages.ts";
import { linesOf, recordOf } from "../audit/fixture.ts";
import { bootedWith } from "../support/boot-parameter.ts";
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
const ENFORCEMENT = { network: true, deadManMs: 1_000, heartbeatMs: 200 };
const CEREMONY = { coolDownMs: 0, requireTerminal: false };
const FIRM = { initialMode: "AIRGAP", enforcement: ENFORCEMENT, ceremony: CEREMONY };
const SHADOW = { ...FIRM, enforcement: { ...ENFORCEMENT, firstStart: "shadow" } };
const EVERYTHING = inBothFamilies(ALL_PATHS).toSorted();
const LOOPBACK = inBothFamilies(["loopback"]).toSorted();
const CONFIRM_MS = 5_000;
const RELEASED = "console=ttyS0 boundary.release=1";

describe.skipIf(NO_NETNS !== "")(
  `never locked out, by packets in a namespace ${NO_NETNS}`,
  { timeout: 60_000 },
  () => {
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

    async function start(wrapper: readonly string[] = []): Promise<DaemonProcess> {
      const daemon = await startDaemon(home, { netns: between.netns.host.name, wrapper });
      daemons.push(daemon);
      return daemon;
    }

    async function ask<T>(what: (client: Client) => Promise<T>): Promise<T> {
      const client = await connectControl(join(home.runtimeDir, "control.sock"));
      try {
        return await what(client);
      } finally {
        client.close();
      }
    }

    /** Asks a verb and gives its data; throws what it was refused for. */
    const call = <V extends Verb>(verb: V, params: Params<V>): Promise<Replies[V]> =>
      ask(async (client) => {
        const outcome = await client.call(verb, params);
        if (!outcome.ok) throw new Error(`${outcome.problem.code}: ${outcome.problem.detail}`);
        return outcome.data;
      });
    const status = () => call("status", {});
    const passes = async () => (await probe(between)).toSorted();
    /** Not at once: where ARP was closed too, neighbours that could not be resolved are asked again after a second. */
    const opens = () => expect.poll(passes, { timeout: 10_000 }).toEqual(EVERYTHING);
    const records = (kind: string) =>
      linesOf(home.logDir)
        .map(recordOf)
        .filter((record) => record.kind === kind)
        .map(({ data }) => data);
    const close = (wrapper: readonly string[] = []) => {
      const node = [...wrapper, process.execPath, MAIN, ...daemonArguments(home), "--close"];
      const ran = spawnSync("/usr/sbin/ip", ["netns", "exec", between.netns.host.name, ...node], {
        encoding: "utf8",
      });
      return `${ran.status}: ${ran.stdout}${ran.stderr}`;
    };
    async function release(): Promise<void> {
      const { code } = (await call("ceremony.begin", { reason: "test", purpose: "release" })) as {
        code: string;
      };
      await call("ceremony.confirm", { code });
    }

    test("a first start in shadow lets everything pass; enforced on trial it closes, and opens by itself", async () => {
      home = createHome(SHADOW);
      await start();
      await opens();
      expect(await status()).toMatchObject({ assurance: "observed", mode: { hold: "shadow" } });
      await call("enforcement.enforce", { reason: "try", confirmForMs: CONFIRM_MS });
      expect(await passes()).toEqual(LOOPBACK);
      expect(await status()).toMatchObject({ assurance: "enforced", mode: { hold: "enforcing" } });
      expect(await eventually(async () => (await passes()).length === EVERYTHING.length)).toBe(true);
      expect(await status()).toMatchObject({
        assurance: "observed",
        mode: { wanted: "AIRGAP", applied: "AIRGAP", hold: "shadow", trialUntil: "" },
      });
      expect(records("hold.changed").map(({ from, to, by }) => [from, to, by])).toEqual([
        ["enforcing", "shadow", "first-start"],
        ["shadow", "enforcing", "root"],
        ["enforcing", "shadow", "deadline"],
      ]);
    });

    test("what is confirmed stays closed, over a stop and a start too", async () => {
      home = createHome(SHADOW);
      const daemon = await start();
      await call("enforcement.enforce", { reason: "try", confirmForMs: CONFIRM_MS });
      await call("mode.confirm", {});
      await delay(CONFIRM_MS + 500);
      expect(await passes()).toEqual(LOOPBACK);
      await daemon.stop();
      expect(await passes()).toEqual(LOOPBACK);
      await start();
      expect(await status()).toMatchObject({ assurance: "enforced", mode: { hold: "enforcing" } });
    });

    test("a tripwire that fires meanwhile keeps it closed", async () => {
      home = createHome(SHADOW);
      await start();
      await call("enforcement.enforce", { reason: "try", confirmForMs: CONFIRM_MS });
      foreignNft(between, "flush ruleset");
      await expect.poll(async () => (await status()).mode.applied).toBe("LOCKDOWN");
      await delay(CONFIRM_MS + 500);
      expect(await passes()).toEqual([]);
      expect((await status()).mode).toMatchObject({ wanted: "LOCKDOWN", hold: "enforcing", trialUntil: "" });
    });

    test("a mode on trial goes back by itself, and stays when it is confirmed", async () => {
      home = createHome({ ...FIRM, initialMode: "OPEN" });
      await start();
      const airgap = { mode: "AIRGAP", reason: "try", confirmForMs: CONFIRM_MS } as const;
      await call("mode.set", airgap);
      expect(await passes()).toEqual(LOOPBACK);
      expect((await status()).mode).toMatchObject({ wanted: "AIRGAP", confirmable: true });
      expect(await eventually(async () => (await passes()).length === EVERYTHING.length)).toBe(true);
      await call("mode.set", airgap);
      await call("mode.confirm", {});
      await delay(CONFIRM_MS + 500);
      expect(await passes()).toEqual(LOOPBACK);
      await expect(call("mode.confirm", {})).rejects.toThrow(/confirm-none/);
      await expect(call("mode.set", { ...airgap, mode: "LOCKDOWN" })).rejects.toThrow(/argument-invalid/);
    });

    test("a release by ceremony opens by packets, and no crash closes what a person opened", async () => {
      home = createHome(FIRM);
      const first = await start();
      expect(await passes()).toEqual(LOOPBACK);
      await release();
      await opens();
      expect(await status()).toMatchObject({
        assurance: "observed",
        mode: { wanted: "AIRGAP", hold: "released" },
      });
      await call("mode.set", { mode: "LOCKDOWN", reason: "as a trip would" });
      await opens();
      await first.kill();
      expect(close()).toMatch(/^0: the hold is released: nothing is loaded; the mode is LOCKDOWN/);
      await opens();
      await start();
      expect(await status()).toMatchObject({
        assurance: "observed",
        mode: { wanted: "LOCKDOWN", cause: expect.stringContaining("crash"), hold: "released" },
      });
      await opens();
      await call("enforcement.enforce", { reason: "done" });
      expect(await passes()).toEqual([]);
    });

    test("while it is released, a configuration that cannot be read closes nothing; enforced again it does", async () => {
      home = createHome(FIRM);
      const daemon = await start();
      await release();
      await daemon.kill();
      writeFileSync(home.configFile, "initialMod: OPEN\n");
      expect(close()).toMatch(/^2: /);
      await opens();
      home.remove();

      home = createHome(SHADOW);
      const again = await start();
      await call("enforcement.enforce", { reason: "try" });
      await again.stop();
      foreignNft(between, "flush ruleset");
      writeFileSync(home.configFile, "initialMod: OPEN\n");
      expect(close()).toMatch(/^2: .*LOCKDOWN is in the kernel/s);
      expect(await passes()).toEqual([]);
    });

    test("the boot parameter releases its boot, recorded before the network, and no other", async () => {
      home = createHome(FIRM);
      const first = await start();
      await first.stop();
      foreignNft(between, "flush ruleset"); // as a boot would
      const booted = bootedWith(RELEASED, join(home.path, "cmdline"));
      const before = records("hold.changed").length;
      expect(close(booted)).toMatch(/^0: the hold is released \(boundary\.release=1 .*\): nothing is loaded/);
      expect(records("hold.changed").slice(before)).toMatchObject([
        { from: "enforcing", to: "released", by: "boot-parameter", lasts: "boot" },
      ]);
      await opens();
      const second = await start(booted);
      expect(await status()).toMatchObject({
        assurance: "observed",
        mode: { wanted: "AIRGAP", hold: "released", holdLasts: "boot" },
      });
      await opens();
      await second.stop();
      const third = await start(booted); // the same boot
      await opens();
      expect(records("hold.changed")).toHaveLength(before + 1);
      await third.stop();
      expect(close()).toMatch(/^0: AIRGAP is in the kernel/); // a boot without it
      expect(await passes()).toEqual(LOOPBACK);
      await start();
      expect((await status()).mode).toMatchObject({
        wanted: "AIRGAP",
        hold: "enforcing",
        holdLasts: "always",
      });
    });

    test("a person's enforce ends what the boot parameter began, over a restart and a crash in the same boot", async () => {
      home = createHome(FIRM);
      const booted = bootedWith(RELEASED, join(home.path, "cmdline"));
      const first = await start(booted);
      await opens();
      await call("enforcement.enforce", { reason: "done" });
      expect(await passes()).toEqual(LOOPBACK);
      await first.stop();
      const second = await start(booted);
      expect(await passes()).toEqual(LOOPBACK);
      await second.kill();
      expect(close(booted)).toMatch(/^0: LOCKDOWN is in the kernel/);
      expect(await passes()).toEqual([]);
    });

    test("a pre-flight names what a mode would cut, and cuts nothing", async () => {
      home = createHome({ ...FIRM, initialMode: "OPEN" });
      await start();
      const reply = (await call("mode.preflight", { mode: "AIRGAP" })) as {
        listeners: { shown: readonly { what: string; verdict: string }[] };
      };
      expect(reply.listeners.shown).toContainEqual({
        what: "tcp *:9000",
        verdict: "cut",
        rule: "mode AIRGAP",
      });
      expect(reply).toMatchObject({
        mode: "AIRGAP",
        wanted: "OPEN",
        leases: { shown: [], more: 0 },
        unread: 0,
      });
      await opens();
    });
  },
);
