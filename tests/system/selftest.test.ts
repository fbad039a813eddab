import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, test } from "vitest";
import { type Client, connectControl, type Outcome } from "../../client/control.ts";
import type { SelftestReply, Status } from "../../daemon/protocol/messages.ts";
import { createHome, type DaemonHome, type DaemonProcess, startDaemon } from "../support/daemon-process.ts";
import { connect, createNetns, type Netns, NO_NETNS, removeNetns } from "../support/netns.ts";
import { eventually } from "../support/packets.ts";

describe.skipIf(NO_NETNS !== "")(`self-tests of a real daemon ${NO_NETNS}`, () => {
  let home: DaemonHome;
  let daemon: DaemonProcess | null = null;

  afterAll(removeNetns);
  afterEach(async () => {
    await daemon?.kill();
    daemon = null;
    home.remove();
  });

  /** A host with a neighbour and a default route to it, so that packets have somewhere to go. */
  function place(): Netns {
    const host = createNetns("host");
    const neighbour = createNetns("neighbour");
    connect(
      { netns: host, link: "h0", addresses: ["10.82.1.1/24", "fd82:1::1/64"] },
      { netns: neighbour, link: "n0", addresses: ["10.82.1.2/24", "fd82:1::2/64"] },
    );
    host.exec("ip", "route", "add", "default", "via", "10.82.1.2");
    host.exec("ip", "-6", "route", "add", "default", "via", "fd82:1::2");
    return host;
  }

  async function start(config: object, netns?: Netns): Promise<void> {
    home = createHome(config);
    daemon = await startDaemon(home, netns === undefined ? {} : { netns: netns.name });
  }

  async function ask<T>(what: (client: Client) => Promise<Outcome<T>>): Promise<T> {
    const client = await connectControl(join(home.runtimeDir, "control.sock"));
    try {
      const outcome = await what(client);
      if (!outcome.ok) throw new Error(outcome.problem.detail);
      return outcome.data;
    } finally {
      client.close();
    }
  }
  const run = (): Promise<SelftestReply> => ask((client) => client.call("selftest.run", {}, 30_000));
  const status = (): Promise<Status> => ask((client) => client.call("status", {}));
  const outcomes = ({ results }: SelftestReply) =>
    Object.fromEntries(results.map(({ name, outcome }) => [name, outcome]));
  const PASSED = {
    "rules-read-back": "passed",
    "canary-packet": "passed",
    "canary-file": "passed",
    "event-to-record": "passed",
    "log-read-back": "passed",
    "usb-read-back": "moot",
  };

  test.each([
    ["OPEN", "moot"],
    ["TRUSTED", "moot"],
    ["AIRGAP", "passed"],
    ["LOCKDOWN", "passed"],
  ] as const)("pass in %s, by packets that were refused and counted", async (mode, modeRefuses) => {
    await start({ initialMode: mode, enforcement: { network: true } }, place());
    const report = await run();
    expect(outcomes(report), JSON.stringify(report.results)).toEqual({
      ...PASSED,
      "mode-refuses": modeRefuses,
    });
    const now = await status();
    expect(now.mode.wanted).toBe(mode);
    expect(now.selftest?.at).toBe(report.at);
    expect(now.controls.find(({ name }) => name === "network")).toMatchObject({
      state: "enforced",
      testedAt: report.at,
    });
  });

  test("the scheduled run is there without being asked for, and in the signed log", async () => {
    await start({ initialMode: "OPEN", enforcement: { network: true } }, place());
    const seen = await eventually(async () => (await status()).selftest !== null);
    expect(seen).toBe(true);
    expect((await status()).selftest?.by).toBe("schedule");
    const records = execFileSync("cat", [join(home.logDir, "00000000000000000000.jsonl")], {
      encoding: "utf8",
    });
    expect(records).toContain('"kind":"selftest.done"');
  });

  test("log-only: nothing is claimed for the network, and nothing fails", async () => {
    await start({ initialMode: "AIRGAP" });
    expect(outcomes(await run())).toEqual({
      ...PASSED,
      "rules-read-back": "moot",
      "canary-packet": "moot",
      "mode-refuses": "moot",
    });
    expect((await status()).assurance).toBe("observed");
  });

  test("a canary that somebody else touches is no self-test: it trips", async () => {
    await start({ initialMode: "OPEN" });
    await eventually(async () => (await status()).selftest !== null);
    execFileSync("touch", [join(home.stateDir, "canary")]);
    expect(await eventually(async () => (await status()).mode.wanted === "LOCKDOWN")).toBe(true);
  });
});
