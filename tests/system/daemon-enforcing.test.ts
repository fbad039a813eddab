import { spawnSync } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { connectControl } from "../../client/control.ts";
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
  const runClose = (wrapper: readonly string[] = []): { status: number | null; said: string } => {
    const node = [...wrapper, process.execPath, MAIN, ...daemonArguments(home), "--close"];
    const ran = spawnSync("/usr/sbin/ip", ["netns", "exec", between.netns.host.name, ...node], {
      encoding: "utf8",
    });
    return { status: ran.status, said: ran.stdout + ran.stderr };
  };
  const close = (): string => runClose().said;
  const refused = (env: Readonly<Record<string, string>> = {}): Promise<string> =>
    startDaemon(home, { netns: between.netns.host.name, env }).then(
      () => "started",
      (error: Error) => error.message,
    );
  /** A home where a daemon has enforced and stopped, whose rules are gone, as after a reboot. */
  async function enforcedBefore(): Promise<void> {
    home = createHome(CONFIG);
    await (await start()).stop();
    foreignNft(between, "flush ruleset");
  }

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

  test.each([
    [
      "lets packets out for a moment",
      [
        "insert rule inet boundary mode_out accept",
        "flush chain inet boundary mode_out; add rule inet boundary mode_out accept",
      ],
    ],
    [
      "renews the dead-man as we do",
      ["flush set inet boundary alive; add element inet boundary alive { ipv4 timeout 1s, ipv6 timeout 1s }"],
    ],
  ])("falls to LOCKDOWN when somebody else %s, though everything is as it was", async (_name, commands) => {
    home = createHome(CONFIG);
    await start();
    // one process and no pause: by the time that the daemon looks it is over
    between.netns.host.exec("sh", "-c", commands.map((command) => `nft '${command}'`).join(" && "));
    await expect.poll(async () => (await status()).mode.applied).toBe("LOCKDOWN");
    expect((await status()).mode.cause).toContain("own-rules");
    expect(await probe(between)).toEqual([]);
  });

  test("notes another table, and falls to LOCKDOWN in AIRGAP when somebody else forwards past IP", async () => {
    home = createHome(CONFIG);
    await start();
    await set("AIRGAP");
    foreignNft(between, "add table inet other");
    const noted = () =>
      linesOf(home.logDir)
        .map(recordOf)
        .filter(({ kind, data }) => kind === "tripwire.noted" && data["tripwire"] === "foreign-rules");
    await expect.poll(() => noted().length).toBe(1);
    expect((await status()).mode).toMatchObject({ wanted: "AIRGAP", applied: "AIRGAP" });
    foreignNft(
      between,
      "add table netdev other; add chain netdev other c { type filter hook ingress device l0 priority 0; }; add rule netdev other c fwd to r0",
    );
    await expect.poll(async () => (await status()).mode.applied).toBe("LOCKDOWN");
    expect((await status()).mode.cause).toContain("foreign-ways");
  });

  test("closes a link that comes later, in a mode that closes links", async () => {
    home = createHome(CONFIG);
    await start();
    await set("AIRGAP");
    const { host } = between.netns;
    const devices = () => host.exec("nft", "list", "chain", "netdev", "boundary", "egress");
    expect(devices()).toMatch(/l0/);
    host.exec("ip", "link", "add", "late0", "type", "veth", "peer", "name", "late1");
    try {
      await expect.poll(devices).toMatch(/late0/);
    } finally {
      host.exec("ip", "link", "del", "late0");
    }
  });

  test("a quiet daemon takes nothing of its own for somebody else's", async () => {
    home = createHome(CONFIG);
    await start();
    for (const mode of ["RESTRICTED", "TRUSTED", "AIRGAP"] as const) await set(mode);
    await delay(1_500);
    expect((await status()).mode).toMatchObject({ wanted: "AIRGAP", applied: "AIRGAP" });
    expect(
      linesOf(home.logDir)
        .map(recordOf)
        .filter(({ kind, data }) => /trip|blind/.test(kind) && data["tripwire"] !== "selftest"),
    ).toEqual([]);
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

  const UNREADABLE: readonly (readonly [string, () => void])[] = [
    ["invalid", () => writeFileSync(home.configFile, "initialMod: OPEN\n")],
    ["missing, though named", () => rmSync(home.configFile)],
    ["not UTF-8", () => writeFileSync(home.configFile, Buffer.from([0xff, 0xfe]))],
    [
      "one with a tripwires file that is invalid",
      () => {
        writeFileSync(join(home.path, "wires.yaml"), "tripwire: []\n");
        writeFileSync(home.configFile, `tripwiresFile: ${home.path}/wires.yaml\n`);
      },
    ],
  ];
  test.each(UNREADABLE)(
    "where it enforced before, a configuration that is %s closes the kernel, at --close and at a start",
    async (_name, spoil) => {
      await enforcedBefore();
      spoil();
      const closed = runClose();
      expect(closed.status).toBe(2);
      expect(closed.said).toContain("LOCKDOWN is in the kernel");
      expect(await probe(between)).toEqual([]);
      foreignNft(between, "flush ruleset");
      expect(await refused()).toMatch(/^ended with 2:.*LOCKDOWN is in the kernel/s);
      expect(await probe(between)).toEqual([]);
    },
  );

  test("a configuration that cannot be read closes nothing where it never enforced, or was switched off since", async () => {
    home = createHome("initialMod: OPEN\n");
    expect(await refused()).toMatch(/^ended with 2:/);
    expect(runClose().status).toBe(2);
    expect((await probe(between)).toSorted()).toEqual(EVERYTHING);
    home.remove();

    await enforcedBefore();
    const off = { BOUNDARY_NETWORK_ENFORCE: "0" };
    const daemon = await startDaemon(home, { netns: between.netns.host.name, env: off });
    daemons.push(daemon);
    await daemon.stop();
    writeFileSync(home.configFile, "initialMod: OPEN\n");
    expect(await refused()).toMatch(/^ended with 2:/);
    expect((await probe(between)).toSorted()).toEqual(EVERYTHING);
  });

  test("a configuration that cannot be read closes nothing while the environment switches off, or a daemon lives", async () => {
    await enforcedBefore();
    writeFileSync(home.configFile, "initialMod: OPEN\n");
    expect(await refused({ BOUNDARY_NETWORK_ENFORCE: "0" })).toMatch(/^ended with 2:/);
    expect((await probe(between)).toSorted()).toEqual(EVERYTHING);
    home.remove();

    home = createHome(CONFIG);
    await start();
    const elsewhere = join(home.path, "typo.yaml");
    writeFileSync(elsewhere, "initialMod: OPEN\n");
    const typo = startDaemon({ ...home, configFile: elsewhere }, { netns: between.netns.host.name });
    await expect(typo).rejects.toThrow(/a daemon is running: its rules stay/);
    expect((await probe(between)).toSorted()).toEqual(EVERYTHING);
  });

  test("--close fails when it is switched on and cannot be done, with a good configuration and without", async () => {
    await enforcedBefore();
    const powerless = ["/usr/bin/setpriv", "--inh-caps", "-net_admin", "--bounding-set", "-net_admin"];
    const without = runClose(powerless);
    expect(without.status).toBe(3);
    expect(without.said).toMatch(/cannot close.*CAP_NET_ADMIN/);
    writeFileSync(home.configFile, "initialMod: OPEN\n");
    const neither = runClose(powerless);
    expect(neither.status).toBe(2);
    expect(neither.said).toMatch(/NOT closed.*CAP_NET_ADMIN/);
  });

  test("asked twice to stop, it still leaves the mode's rules without the dead-man", async () => {
    home = createHome(CONFIG);
    const daemon = await start();
    daemon.signal("SIGTERM");
    daemon.signal("SIGINT");
    expect((await daemon.stop()).code).toBe(0);
    await delay(1_200);
    expect((await probe(between)).toSorted()).toEqual(EVERYTHING);
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
