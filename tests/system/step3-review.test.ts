import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { bootedWith } from "../support/boot-parameter.ts";
import { createHome, type DaemonHome, daemonArguments, startDaemon } from "../support/daemon-process.ts";
import {
  ALL_PATHS,
  createHostBetween,
  foreignNft,
  type HostBetween,
  inBothFamilies,
  probe,
} from "../support/host-between.ts";
import { NO_NETNS, removeNetns } from "../support/netns.ts";
import { stopAgents } from "../support/packets.ts";

const MAIN = fileURLToPath(new URL("../../daemon/main.ts", import.meta.url));

/** Failing tests of a review of step 3: each says what should hold, and does not. */
describe.skipIf(NO_NETNS !== "")(`the boot parameter, by packets ${NO_NETNS}`, { timeout: 60_000 }, () => {
  let between: HostBetween;
  let home: DaemonHome;

  beforeAll(async () => {
    between = await createHostBetween();
    home = createHome({ initialMode: "AIRGAP", enforcement: { network: true } });
  });

  afterAll(async () => {
    await stopAgents();
    removeNetns();
    home.remove();
  });

  test("R14: releases its boot also where the configuration cannot be read", async () => {
    const daemon = await startDaemon(home, { netns: between.netns.host.name });
    await daemon.stop();
    foreignNft(between, "flush ruleset"); // as a boot would
    writeFileSync(home.configFile, "initialMod: OPEN\n");
    const booted = bootedWith("boundary.release=1", join(home.path, "cmdline"));
    const node = [...booted, process.execPath, MAIN, ...daemonArguments(home), "--close"];
    const run = (command: readonly string[]) =>
      spawnSync("/usr/sbin/ip", ["netns", "exec", between.netns.host.name, ...command], { encoding: "utf8" });
    const ran = run(node);
    expect(ran.stderr).not.toContain("LOCKDOWN is in the kernel");
    expect((await probe(between)).toSorted()).toEqual(inBothFamilies(ALL_PATHS).toSorted());
    const recorded = () => {
      const segments = readdirSync(home.logDir).filter((name) => name.endsWith(".jsonl"));
      const text = segments.map((name) => readFileSync(join(home.logDir, name), "utf8")).join("");
      return text.split('"kind":"hold.changed"').length - 1;
    };
    expect(recorded()).toBe(1);
    expect(run(node).stderr).toContain("the hold is released");
    expect(recorded()).toBe(1); // once a boot
    // the next boot has no parameter
    expect(run(node.slice(booted.length)).stderr).toContain("LOCKDOWN is in the kernel");
    // where the log takes no record nothing is opened
    rmSync(join(home.stateDir, "log.key"));
    expect(run(node).stderr).toContain("LOCKDOWN is in the kernel");
    expect(await probe(between)).toEqual([]);
  });
});
