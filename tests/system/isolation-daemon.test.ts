import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, describe, expect, test } from "vitest";
import { parse, stringify } from "yaml";
import type {
  IsolationCheck,
  IsolationReply,
  IsolationStatus,
  Status,
} from "../../daemon/protocol/messages.ts";
import { boundaryctl } from "../support/boundaryctl.ts";
import {
  createHome,
  type DaemonHome,
  type DaemonProcess,
  daemonArguments,
  startDaemon,
} from "../support/daemon-process.ts";
import { createNetns, type Netns, NO_NETNS, removeNetns } from "../support/netns.ts";
import { eventually } from "../support/packets.ts";

const EXAMPLE = parse(
  readFileSync(new URL("../../policies/isolation.example.yaml", import.meta.url), "utf8"),
) as object;

describe.skipIf(NO_NETNS !== "")(`domains of a real daemon (${NO_NETNS || "namespaces"})`, () => {
  let home: DaemonHome;
  let daemon: DaemonProcess | null = null;

  afterAll(removeNetns);
  afterEach(async () => {
    await daemon?.kill();
    daemon = null;
    home.remove();
  });

  function place(links: readonly string[] = ["ct0", "pt0", "mgmt0"]): Netns {
    const netns = createNetns("router");
    for (const link of links)
      netns.exec("ip", "link", "add", link, "type", "veth", "peer", "name", `${link}p`);
    return netns;
  }

  async function start(netns: Netns): Promise<void> {
    daemon = await startDaemon(home, { netns: netns.name });
  }

  async function ctl<T>(...args: readonly string[]): Promise<{ code: number | null; data: T; text: string }> {
    const ran = await boundaryctl([...args, "--json", "--runtime-dir", home.runtimeDir]);
    const text = ran.stdout + ran.stderr;
    return { code: ran.code, data: (ran.stdout === "" ? null : JSON.parse(ran.stdout)) as T, text };
  }
  const row = async () =>
    (await ctl<Status>("status")).data.controls.find(({ name }) => name === "isolation");
  const tables = (netns: Netns) => netns.exec("nft", "list tables");

  const ON = { initialMode: "OPEN", enforcement: { network: true } };

  test("are isolated from the start on, tried out by packets, and in the signed log", async () => {
    const netns = place();
    home = createHome({ ...ON, ...EXAMPLE });
    await start(netns);
    expect(await eventually(async () => (await row())?.testedAt !== "")).toBe(true);
    expect(await row()).toMatchObject({
      state: "enforced",
      detail: expect.stringContaining("CT (ct0), PT (pt0): 6 ways between them; unaffected: MGMT"),
    });
    const { code, data } = await ctl<IsolationReply>("isolation", "apply");
    expect([code, data.changed, data.missing]).toEqual([0, false, []]);
    expect(data.tested.map(({ outcome }) => outcome)).toEqual(["passed", "passed"]);
    expect((await ctl<IsolationCheck>("isolation", "validate")).data).toEqual({
      ok: true,
      via: "libnftables",
      problems: [],
    });
    const status = await ctl<IsolationStatus>("isolation", "status");
    expect(status.code).toBe(0);
    expect(status.data.passes).toContain("PT > CT esp");
    expect(status.data.domains.map(({ name, unaffected }) => [name, unaffected])).toEqual([
      ["CT", false],
      ["PT", false],
      ["MGMT", true],
    ]);
    expect((await ctl<Status>("status")).data).toMatchObject({ assurance: "enforced" });
    const log = readFileSync(join(home.logDir, "00000000000000000000.jsonl"), "utf8");
    expect(log.match(/"kind":"isolation\.applied"/g)).toHaveLength(1);
  });

  test("that somebody opens are closed again at once, and the host falls to LOCKDOWN", async () => {
    const netns = place();
    home = createHome({ ...ON, ...EXAMPLE });
    await start(netns);
    const before = netns.exec("nft", "list table inet boundary_isolation");
    netns.exec("nft", "flush chain inet boundary_isolation forward");
    const fell = await eventually(async () => (await ctl<Status>("status")).data.mode.wanted === "LOCKDOWN");
    expect(fell).toBe(true);
    expect(
      netns.exec("nft", "list table inet boundary_isolation").replace(/packets \d+ bytes \d+/g, ""),
    ).toBe(before.replace(/packets \d+ bytes \d+/g, ""));
    expect((await ctl<Status>("status")).data.mode.cause).toContain("own-isolation");
  });

  test("stay isolated when the daemon stops or is killed; a start without domains takes the table away", async () => {
    const netns = place();
    home = createHome({ ...ON, ...EXAMPLE });
    await start(netns);
    await daemon?.stop();
    expect(tables(netns)).toContain("boundary_isolation");
    // as at a boot, before there is a daemon
    netns.exec("nft", "flush ruleset");
    const main = fileURLToPath(new URL("../../daemon/main.ts", import.meta.url));
    const early = netns.exec(process.execPath, main, ...daemonArguments(home), "--close");
    expect(early).toBe("OPEN is in the kernel\nthe domains are isolated\n");
    expect(tables(netns)).toContain("boundary_isolation");
    await start(netns);
    await daemon?.kill();
    expect(tables(netns)).toContain("boundary_isolation");
    writeFileSync(home.configFile, stringify(ON), { mode: 0o600 });
    await start(netns);
    // once that is on record
    expect(await eventually(async () => !tables(netns).includes("boundary_isolation"))).toBe(true);
    expect(await row()).toMatchObject({ state: "absent" });
    expect((await ctl("isolation", "apply")).text).toContain("isolation-none");
  });

  test("a missing interface is told by validate, by apply and by the status", async () => {
    const netns = place(["ct0", "mgmt0"]);
    home = createHome({ ...ON, ...EXAMPLE });
    await start(netns);
    const { code, data } = await ctl<IsolationCheck>("isolation", "validate");
    expect([code, data.problems]).toEqual([1, ["there is no interface pt0"]]);
    const applied = await ctl<IsolationReply>("isolation", "apply");
    expect([applied.code, applied.data.missing]).toEqual([1, ["pt0"]]);
    expect(await row()).toMatchObject({
      state: "observed",
      detail: expect.stringContaining("not there: pt0"),
    });
  });

  test("log-only nothing is loaded, and apply says why", async () => {
    home = createHome({ initialMode: "OPEN", ...EXAMPLE });
    const netns = place();
    await start(netns);
    expect(tables(netns)).toBe("");
    expect(await row()).toMatchObject({ state: "observed", detail: expect.stringContaining("the switch") });
    const { code, text } = await ctl("isolation", "apply");
    expect(code).toBe(1);
    expect(text).toContain("isolation-observed");
  });

  test("a mistake in the domains is no start", async () => {
    const text = stringify(EXAMPLE).replace("pt0", "ct0");
    home = createHome(text);
    await expect(startDaemon(home)).rejects.toThrow(/ct0 is in CT already/);
  });
});
