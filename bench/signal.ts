import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Client, connectControl } from "../client/control.ts";
import { createHome, type DaemonHome, startDaemon } from "../tests/support/daemon-process.ts";
import { connect, createNetns, type Netns, NO_NETNS, removeNetns } from "../tests/support/netns.ts";
import { delay } from "../tests/support/packets.ts";
import type { BenchRow } from "./row.ts";

const LINK_UP = fileURLToPath(new URL("../tests/support/link-up.ts", import.meta.url));
const ROUNDS = 60;
const CONFIG = {
  initialMode: "AIRGAP",
  enforcement: { network: true },
  ceremony: { coolDownMs: 0, requireTerminal: false },
};

type Cause = "link" | "address";

/**
 * From the kernel's event (a link set up, or an address given, by ioctl in another process) to the drop rules read back
 * from the kernel, as the daemon's own records have it: both clocks are CLOCK_MONOTONIC. The time includes ip(8) reading
 * the event.
 */
export async function benchSignal(): Promise<readonly BenchRow[]> {
  if (NO_NETNS !== "") {
    console.log(`signal: not measured: ${NO_NETNS}`);
    return [];
  }
  return [...(await rowsOf("link")), ...(await rowsOf("address"))];
}

async function rowsOf(cause: Cause): Promise<readonly BenchRow[]> {
  const home = createHome(CONFIG);
  try {
    const times = await measure(home, cause);
    const at = (share: number) => Number((times[Math.floor((times.length - 1) * share)] ?? 0).toFixed(2));
    const row = { unit: "ms", rival: "", ratio: null } as const;
    const what = (share: string) => `${cause} event → drop rules confirmed, ${share} of ${ROUNDS}`;
    return [
      { ...row, what: what("p50"), value: at(0.5), aim: "", met: null },
      { ...row, what: what("p99"), value: at(0.99), aim: "≤ 10 ms", met: at(0.99) <= 10 },
    ];
  } finally {
    removeNetns();
    home.remove();
  }
}

async function measure(home: DaemonHome, cause: Cause): Promise<readonly number[]> {
  const host = createNetns("signal");
  const peer = createNetns("peer");
  connect({ netns: host, link: "e0", addresses: [] }, { netns: peer, link: "e1", addresses: [] });
  if (cause === "link") host.exec("ip", "link", "set", "e0", "down");
  const daemon = await startDaemon(home, { netns: host.name });
  const client = await connectControl(join(home.runtimeDir, "control.sock"));
  const applied = watchApplied(client);
  await client.call("events.subscribe", {});
  try {
    const times: number[] = [];
    for (let i = 0; i < ROUNDS; i++) times.push(await oneRound(host, client, applied, cause));
    return times.toSorted((a, b) => a - b);
  } finally {
    client.close();
    await daemon.stop();
  }
}

/** Resolves with the record of the next LOCKDOWN that the kernel confirmed. */
function watchApplied(client: Client): () => Promise<number> {
  let waiting: ((seq: number) => void) | null = null;
  client.onEvent((event) => {
    if (event.kind === "mode.applied" && (event.data as { mode?: string }).mode === "LOCKDOWN")
      waiting?.(event.seq);
  });
  return () =>
    new Promise((resolve) => {
      waiting = resolve;
    });
}

async function oneRound(
  host: Netns,
  client: Client,
  applied: () => Promise<number>,
  cause: Cause,
): Promise<number> {
  await delay(20);
  const fell = applied();
  const given = cause === "address" ? ["10.82.0.1"] : [];
  const { before } = JSON.parse(host.exec(process.execPath, LINK_UP, "e0", ...given)) as { before: string };
  const seq = await fell;
  const appliedNs = await monoOf(client, seq);
  if (cause === "link") host.exec("ip", "link", "set", "e0", "down");
  else host.exec("ip", "addr", "flush", "dev", "e0");
  await delay(50);
  const begun = await client.call("ceremony.begin", { reason: "bench" });
  if (begun.ok) await client.call("ceremony.confirm", { code: begun.data.code });
  await client.call("mode.set", { mode: "AIRGAP", reason: "bench" });
  return Number(appliedNs - BigInt(before)) / 1e6;
}

async function monoOf(client: Client, seq: number): Promise<bigint> {
  const list = await client.call("events.list", { limit: 50 });
  const event = list.ok ? list.data.events.find((one) => one.seq === seq) : undefined;
  return BigInt(event?.mono ?? 0);
}

if (import.meta.main) console.table(await benchSignal());
