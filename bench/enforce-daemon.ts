import { readFileSync } from "node:fs";
import { join } from "node:path";
import { connectControl } from "../client/control.ts";
import {
  AILMENTS,
  type Ailment,
  ail,
  ailingEnvironment,
  NO_MEMORY_LIMIT,
} from "../tests/support/daemon-ailments.ts";
import { createHome, type DaemonProcess, startDaemon } from "../tests/support/daemon-process.ts";
import {
  ADDRESS,
  createHostBetween,
  foreignNft,
  type HostBetween,
  knowNeighbours,
} from "../tests/support/host-between.ts";
import { createLeakMeter } from "../tests/support/leaks.ts";
import { delay, stopAgents } from "../tests/support/packets.ts";
import type { BenchRow } from "./row.ts";

const DEAD_MAN_MS = 2_000;
const CHANGES = 1_000;
const IDLE_MS = 60_000;
const MODE_CHANGES = 100;
const CONFIG = { initialMode: "OPEN", enforcement: { network: true, deadManMs: DEAD_MAN_MS } };
const OFF = { initialMode: "OPEN", enforcement: { network: false } };
const LEAK_MODES = ["AIRGAP", "LOCKDOWN", "TRUSTED", "COLDROOM"] as const;
/** The clock of the last packet, and of the kernel's timeouts (10 ms at the longest). */
const SLACK_MS = 100;

/** What only the real daemon and real packets show: leaks, closing times, a mode change for whoever asks, the heartbeat's cost. */
export async function benchEnforceDaemon(): Promise<readonly BenchRow[]> {
  const world = await createHostBetween();
  knowNeighbours(world);
  try {
    const rows = [...(await leaks(world)), ...(await modeChanges(world))];
    for (const ailment of AILMENTS) rows.push(...(await closing(world, ailment)));
    return [...rows, ...(await idle(world))];
  } finally {
    await stopAgents();
  }
}

async function leaks(world: HostBetween): Promise<readonly BenchRow[]> {
  const { host } = world.agents;
  const network = { trustedInterfaces: [], deny: [], allow: [] };
  await host.call("enforce", { network, timeoutMs: 60_000 });
  await host.call("apply", { mode: "LOCKDOWN" });
  const meter = await createLeakMeter(world);
  const changing = (gap: boolean) =>
    meter.flooded(() => host.call("applyMany", { modes: LEAK_MODES, times: CHANGES, gap }));
  const ours = await changing(false);
  const careless = await changing(true);
  foreignNft(world, "flush ruleset");
  return [
    {
      what: `leaked through ${CHANGES} mode changes, of ${ours.tried} packets in, out and through`,
      value: ours.leaked,
      unit: "packets",
      rival: `${careless.leaked} of ${careless.tried} where rules are torn down first`,
      ratio: ours.leaked / careless.leaked,
      aim: "0",
      met: ours.leaked === 0,
    },
  ];
}

/** Asked over the control socket: the rules are read back and the record is durable when the answer comes. */
async function modeChanges(world: HostBetween): Promise<readonly BenchRow[]> {
  const home = createHome(CONFIG);
  const daemon = await startDaemon(home, { netns: world.netns.host.name });
  const client = await connectControl(join(home.runtimeDir, "control.sock"));
  try {
    const times: number[] = [];
    for (let i = 0; i < MODE_CHANGES; i++) {
      const startMs = performance.now();
      const outcome = await client.call("mode.set", {
        mode: i % 2 === 0 ? "COLDROOM" : "RESTRICTED",
        reason: "bench",
      });
      if (!outcome.ok) throw new Error(outcome.problem.detail);
      times.push(performance.now() - startMs);
    }
    const sorted = times.toSorted((a, b) => a - b);
    const at = (share: number) => round(sorted[Math.floor((sorted.length - 1) * share)] ?? 0);
    return [
      row(
        `mode change for whoever asks, confirmed and recorded (p50 ${at(0.5)} ms, ${MODE_CHANGES} runs)`,
        at(0.99),
        "ms p99",
      ),
    ];
  } finally {
    client.close();
    await daemon.kill();
    home.remove();
    foreignNft(world, "flush ruleset");
  }
}

/** From the ailment to the last packet that comes in. A datagram a millisecond or so is sent all the while. */
async function closing(world: HostBetween, ailment: Ailment): Promise<readonly BenchRow[]> {
  if (ailment === "out-of-memory kill" && NO_MEMORY_LIMIT !== "") {
    console.log(`${ailment}: not measured: ${NO_MEMORY_LIMIT}`);
    return [];
  }
  const home = createHome(CONFIG);
  const daemon = await startDaemon(home, { netns: world.netns.host.name, env: ailingEnvironment(ailment) });
  const { left, host } = world.agents;
  const fd = await host.call("openRaw", { family: 4, protocol: 17 });
  try {
    await left.call("trickle", { to: ADDRESS.hostLeft[4], port: 9_200 });
    await delay(2 * DEAD_MAN_MS);
    await host.call("drain", { fd });
    await delay(100);
    // it watches its own program too: whoever edits that meanwhile trips it, and this would measure nothing
    if ((await host.call("drain", { fd })).length === 0) throw new Error("it was closed before it fell ill");
    let lastMs = performance.now();
    await ail(daemon, ailment);
    // from when it was killed: until then it renewed
    const fellMs = performance.now();
    while (performance.now() - lastMs < DEAD_MAN_MS) {
      if ((await host.call("drain", { fd })).length > 0) lastMs = performance.now();
      await delay(2);
    }
    const tookMs = round(lastMs - fellMs);
    const aim = `≤ ${DEAD_MAN_MS + SLACK_MS} ms`;
    const what = `dead-man: ${ailment} → last packet, set to ${DEAD_MAN_MS} ms`;
    return [{ ...row(what, tookMs, "ms"), aim, met: tookMs <= DEAD_MAN_MS + SLACK_MS }];
  } finally {
    await left.call("floodStop");
    await daemon.kill();
    home.remove();
    foreignNft(world, "flush ruleset");
  }
}

/** Two idle daemons side by side, one of which enforces: the difference is the heartbeat. */
async function idle(world: HostBetween): Promise<readonly BenchRow[]> {
  const homes = [createHome(CONFIG), createHome(OFF)];
  const daemons: DaemonProcess[] = [];
  try {
    for (const home of homes) daemons.push(await startDaemon(home, { netns: world.netns.host.name }));
    await delay(5_000);
    const before = daemons.map(cpuMs);
    await delay(IDLE_MS);
    const [enforcing = 0, observing = 0] = daemons.map((daemon, i) => cpuMs(daemon) - (before[i] ?? 0));
    const rival = `log-only (${observing} ms)`;
    return [
      {
        ...row("CPU of an idle daemon that enforces, a minute", enforcing, "ms"),
        rival,
        ratio: enforcing / observing,
      },
    ];
  } finally {
    for (const daemon of daemons) await daemon.kill();
    for (const home of homes) home.remove();
    foreignNft(world, "flush ruleset");
  }
}

/** User and system time of the process, milliseconds; the kernel counts hundredths of a second. */
function cpuMs({ pid }: DaemonProcess): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

function row(what: string, value: number, unit: string): BenchRow {
  return { what, value, unit, rival: "", ratio: null, aim: "", met: null };
}

function round(ms: number): number {
  return Number(ms.toFixed(1));
}
