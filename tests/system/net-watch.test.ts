import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Facts } from "../../daemon/core/signal.ts";
import { createNetns, type Netns, NO_NETNS, removeNetns } from "../support/netns.ts";

type Seen = { readonly kind: string; readonly facts: Facts; readonly atMs: number };

/** Runs the sensor in a namespace: it watches the one its process is in. It ends by itself when stdin does. */
const AGENT = `
import { createNetworkSensor } from ${JSON.stringify(new URL("../../daemon/adapters/net-watch.ts", import.meta.url).href)};
import { createClock } from ${JSON.stringify(new URL("../../daemon/adapters/clock.ts", import.meta.url).href)};
import { createInterface } from "node:readline";
const say = (value) => console.log(JSON.stringify(value));
const sensor = createNetworkSensor({ clock: createClock(), relistMs: 60_000, pollMs: 100 });
await sensor.start(({ kind, facts }) => say({ kind, facts, atMs: performance.timeOrigin + performance.now() }));
say({ kind: "health", facts: { state: sensor.health().state }, atMs: 0 });
for await (const line of createInterface({ input: process.stdin })) say({ kind: "health", facts: { state: sensor.health().state }, atMs: 0 });
await sensor.stop();
say({ kind: "stopped", facts: {}, atMs: 0 });
`;

let netns: Netns;
let agent: ChildProcess;
let seen: Seen[];

const patience = { timeout: 10_000, interval: 5 };

function ip(...args: readonly string[]): number {
  netns.exec("ip", ...args);
  return performance.timeOrigin + performance.now();
}

function said(): string[] {
  return seen.map(({ kind, facts }) =>
    [
      kind.replace("network.", ""),
      facts["interface"],
      facts["address"] ?? facts["destination"],
      facts["via"],
      facts["change"],
      facts["state"],
    ]
      .filter((word) => word !== undefined && word !== "")
      .join(" "),
  );
}

/** Asks for it, and gives what came last. */
function health(): string | undefined {
  agent.stdin?.write("\n");
  return said().at(-1);
}

function monitorPid(): number {
  const children = netns.exec("ps", "-o", "pid=,args=", "--ppid", String(agent.pid));
  return Number(/(\d+) .*\bip -o -ts monitor/.exec(children)?.[1] ?? 0);
}

describe.skipIf(NO_NETNS !== "")(`the network sensor in a namespace${NO_NETNS && ` (${NO_NETNS})`}`, () => {
  beforeEach(async () => {
    netns = createNetns("netwatch");
    ip("link", "add", "v1", "type", "veth", "peer", "name", "v2");
    seen = [];
    agent = spawn(
      "/usr/sbin/ip",
      ["netns", "exec", netns.name, process.execPath, "--input-type=module", "-e", AGENT],
      {
        stdio: ["pipe", "pipe", "inherit"],
      },
    );
    if (agent.stdout !== null) {
      createInterface({ input: agent.stdout }).on("line", (line) => seen.push(JSON.parse(line) as Seen));
    }
    while (!said().includes("health watching")) await sleep(5);
    seen.length = 0;
  });

  afterEach(async () => {
    if (agent.exitCode === null) {
      agent.kill("SIGKILL"); // its monitor dies with it
      await new Promise((resolve) => agent.once("exit", resolve));
    }
    removeNetns();
  });

  const STEPS: readonly (readonly [string, readonly string[], string])[] = [
    ["a link added", ["link", "add", "w1", "type", "veth", "peer", "name", "w2"], "link w1 added"],
    ["a link switched on", ["link", "set", "v1", "up"], "link v1 up"],
    ["its other end too", ["link", "set", "v2", "up"], "link v2 up"],
    ["an address", ["addr", "add", "10.9.8.1/24", "dev", "v1"], "address v1 10.9.8.1/24 added"],
    [
      "an IPv6 address",
      ["addr", "add", "2001:db8::1/64", "dev", "v1", "nodad"],
      "address v1 2001:db8::1/64 added",
    ],
    ["a route", ["route", "add", "10.7.0.0/16", "via", "10.9.8.2"], "route v1 10.7.0.0/16 10.9.8.2 added"],
    ["a default route", ["route", "add", "default", "via", "10.9.8.2"], "route v1 0.0.0.0/0 10.9.8.2 added"],
    [
      "an IPv6 route",
      ["-6", "route", "add", "default", "via", "2001:db8::2"],
      "route v1 ::/0 2001:db8::2 added",
    ],
    ["a blackhole", ["route", "add", "blackhole", "10.8.0.0/16"], "route 10.8.0.0/16 blackhole added"],
    [
      "another table",
      ["route", "add", "10.6.0.0/16", "via", "10.9.8.2", "table", "7"],
      "route v1 10.6.0.0/16 10.9.8.2 added",
    ],
    ["a route gone", ["route", "del", "10.7.0.0/16"], "route v1 10.7.0.0/16 10.9.8.2 removed"],
    ["an address gone", ["addr", "del", "2001:db8::1/64", "dev", "v1"], "address v1 2001:db8::1/64 removed"],
    ["a new name", ["link", "set", "w1", "name", "evil"], "link evil added"],
    ["a link switched off", ["link", "set", "v1", "down"], "link v1 down"],
    ["a link removed", ["link", "del", "v1"], "link v1 removed"],
  ];

  test("signals each change once, within milliseconds", async () => {
    const delaysMs: number[] = [];
    for (const [what, args, expected] of STEPS) {
      const endedMs = ip(...args);
      await expect.poll(said, { ...patience, message: what }).toContain(expected);
      const atMs = seen.find((_one, index) => said()[index] === expected)?.atMs ?? Number.NaN;
      delaysMs.push(atMs - endedMs);
    }
    console.log(`signal after the end of \`ip\`, ms: ${delaysMs.map((ms) => ms.toFixed(1)).join(" ")}`);
    // a link switched on is up once more when its other end is: that is when the cable goes in
    for (const expected of STEPS.map((step) => step[2]).filter((line) => /(added|removed)$/.test(line)))
      expect(said().filter((line) => line === expected)).toEqual([expected]);
    expect(said().filter((line) => line.startsWith("sensor.blind"))).toEqual([]);
  });

  test("a route that is replaced, of which the old one goes unsaid, is found by the cross-check", async () => {
    ip("link", "set", "v2", "up");
    ip("link", "set", "v1", "up");
    ip("addr", "add", "10.9.8.1/24", "dev", "v1");
    ip("route", "add", "default", "via", "10.9.8.2");
    ip("route", "replace", "default", "via", "10.9.8.3");
    await expect.poll(said, patience).toContain("route v1 0.0.0.0/0 10.9.8.3 added");
    await expect.poll(said, patience).toContain("route v1 0.0.0.0/0 10.9.8.2 removed");
  });

  test("a port that leaves its bridge is no removed link", async () => {
    ip("link", "add", "br0", "type", "bridge");
    ip("link", "set", "v1", "master", "br0");
    ip("link", "set", "v1", "nomaster");
    ip("link", "set", "v1", "up");
    await expect.poll(said, patience).toContain("link v1 up");
    expect(said()).not.toContain("link v1 removed");
  });

  test.each([
    ["eth0@evil", "bridge"],
    ["eth0@NONE", "bridge"],
    ["eth0@v1", "bridge"],
  ])("a link called %s is told by its whole name", async (name, type) => {
    ip("link", "add", name, "type", type);
    await expect.poll(said, patience).toContain(`link ${name} added`);
    ip("link", "set", name, "up");
    ip("addr", "add", "10.9.9.1/24", "dev", name);
    await expect.poll(said, patience).toContain(`link ${name} up`);
    await expect.poll(said, patience).toContain(`address ${name} 10.9.9.1/24 added`);
    await expect.poll(said, patience).toContain(`route ${name} 10.9.9.0/24 added`);
    ip("link", "del", name);
    await expect.poll(said, patience).toContain(`link ${name} removed`);
  });

  test("a link that gets such a name, and one whose other end has one", async () => {
    ip("link", "add", "eth0", "type", "bridge");
    await expect.poll(said, patience).toContain("link eth0 added");
    ip("link", "set", "eth0", "name", "eth0@evil");
    await expect.poll(said, patience).toContain("link eth0@evil added");
    expect(said()).toContain("link eth0 removed");
    await expect.poll(health, patience).toBe("health watching"); // the monitor knows the old name, and is started anew
    ip("link", "set", "eth0@evil", "up");
    ip("addr", "add", "10.9.9.1/24", "dev", "eth0@evil");
    await expect.poll(said, patience).toContain("route eth0@evil 10.9.9.0/24 added");
    expect(said().filter((line) => line.startsWith("route eth0 "))).toEqual([]);
    ip("link", "add", "d0@x", "type", "veth", "peer", "name", "d1@y");
    await expect.poll(said, patience).toContain("link d0@x added");
    await expect.poll(said, patience).toContain("link d1@y added");
    expect(said().filter((line) => /^link (d0|d1|eth0@evil@.*) /.test(line))).toEqual([]);
  });

  test("a name that can only be listed is found when the noise is over", async () => {
    ip("link", "add", "eth0", "type", "bridge");
    await expect.poll(said, patience).toContain("link eth0 added");
    // an event a millisecond: no listing is quiet, and none is lost
    const noise = spawn("ip", ["netns", "exec", netns.name, "ip", "-batch", "-"], {
      stdio: ["pipe", "ignore", "inherit"],
    });
    for (let n = 0; n < 600; n += 1) {
      noise.stdin.write(`link set v2 mtu ${1_400 + (n % 2)}\n`);
      if (n === 100) noise.stdin.write("link set eth0 name eth0@evil\n");
      await sleep(1);
    }
    noise.stdin.end();
    await expect.poll(said, patience).toContain("link eth0@evil added");
  });

  test("a killed monitor is a blind sensor, and what changed meanwhile is signalled when it is back", async () => {
    process.kill(monitorPid(), "SIGKILL");
    ip("link", "del", "v1");
    await expect.poll(said, patience).toContain("link v1 removed");
    expect(said().some((line) => line.startsWith("sensor.blind"))).toBe(true);
    await expect.poll(health, { timeout: 10_000, interval: 50 }).toBe("health watching");
    ip("link", "add", "w1", "type", "veth", "peer", "name", "w2");
    await expect.poll(said, patience).toContain("link w1 added");
  });

  test("leaves no child and no handle behind when it is stopped", async () => {
    const pid = monitorPid();
    expect(pid).toBeGreaterThan(0);
    agent.stdin?.end();
    const code = await new Promise((resolve) => agent.once("exit", resolve));
    expect(code).toBe(0);
    expect(said().at(-1)).toBe("stopped");
    expect(() => process.kill(pid, 0)).toThrow();
  });
});
