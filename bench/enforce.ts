import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { openLibnftables } from "../daemon/adapters/libnftables.ts";
import { openNftProgram } from "../daemon/adapters/nft-program.ts";
import { createSurroundings } from "../daemon/adapters/surroundings.ts";
import { createEnforcer, type Enforcer } from "../daemon/enforce.ts";
import { createNetns, NO_NETNS, removeNetns } from "../tests/support/netns.ts";
import { benchEnforceDaemon } from "./enforce-daemon.ts";
import { benchReplug } from "./replug.ts";
import type { BenchRow } from "./row.ts";

type Figure = {
  readonly name: string;
  readonly runs: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
};

/** This file, run inside a namespace: the library works in its process' namespace. */
const INSIDE = "--inside-a-namespace";
const DENY_1024 = Array.from({ length: 1_024 }, (_, i) => `198.18.${Math.floor(i / 128)}.${(i % 128) * 2}`);
const AIM_MS = 10;

/**
 * Mode changes with their read-back, and what a heartbeat (compare, renew) costs, through the library; the rival is the
 * same mode change through the nft program in the same run. Empty where there is no root or no nft, with a line saying so.
 */
export async function benchEnforce(): Promise<readonly BenchRow[]> {
  if (NO_NETNS !== "") {
    console.log(`enforce: not measured: ${NO_NETNS}`);
    return [];
  }
  try {
    const figures = await measureInside(createNetns("bench").name);
    const program = figures.find(({ name }) => name === PROGRAM);
    const rows = figures.filter((figure) => figure !== program).map((figure) => row(figure, program));
    return [...rows, ...(await benchEnforceDaemon()), ...(await benchReplug())];
  } finally {
    removeNetns();
  }
}

function row({ name, runs, p50Ms, p99Ms }: Figure, program: Figure | undefined): BenchRow {
  return {
    what: `${name} (p50 ${p50Ms} ms, ${runs} runs)`,
    value: p99Ms,
    unit: "ms p99",
    rival: `${PROGRAM} (p50 ${program?.p50Ms} ms, p99 ${program?.p99Ms} ms)`,
    ratio: p50Ms / (program?.p50Ms ?? Number.NaN),
    aim: `≤ ${AIM_MS} ms p99`,
    met: p99Ms <= AIM_MS,
  };
}

const PROGRAM = "mode change, read back, through the nft program";

async function measureInside(netns: string): Promise<readonly Figure[]> {
  const script = fileURLToPath(import.meta.url);
  const child = spawn("/usr/sbin/ip", ["netns", "exec", netns, process.execPath, script, INSIDE], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const chunks: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
  const [code] = (await once(child, "close")) as [number | null];
  if (code !== 0) throw new Error(`the measuring process ended with ${code}`);
  return JSON.parse(Buffer.concat(chunks).toString("utf8")) as readonly Figure[];
}

function measureAll(): readonly Figure[] {
  const library = enforcer("libnftables", []);
  const program = enforcer("nft", []);
  const denying = enforcer("libnftables", DENY_1024);
  const figures = [
    measure("mode change, read back", 500, (i) => change(library, i)),
    measure(PROGRAM, 60, (i) => change(program, i)),
    measure("RESTRICTED with 1024 denied addresses, read back", 60, () => applied(denying)),
  ];
  library.apply("RESTRICTED");
  return [...figures, measure("heartbeat (compare, renew)", 1_000, () => beat(library))];
}

function enforcer(via: "libnftables" | "nft", deny: string[]): Enforcer {
  const firewall = via === "nft" ? openNftProgram() : openLibnftables();
  if ("unavailable" in firewall) throw new Error(firewall.unavailable);
  const network = { trustedInterfaces: [], deny, allow: [] };
  return createEnforcer({ firewall, network, timeoutMs: 60_000, surroundings: createSurroundings() });
}

function change(subject: Enforcer, i: number): void {
  const result = subject.apply(i % 2 === 0 ? "LOCKDOWN" : "RESTRICTED");
  if (!result.ok) throw new Error(result.why);
}

function applied(subject: Enforcer): void {
  const result = subject.apply("RESTRICTED");
  if (!result.ok) throw new Error(result.why);
}

function beat(subject: Enforcer): void {
  const result = subject.heartbeat();
  if (!result.ok) throw new Error(result.detail);
}

function measure(name: string, runs: number, act: (i: number) => void): Figure {
  for (let i = 0; i < Math.min(20, runs); i++) act(i);
  const times = Array.from({ length: runs }, (_, i) => {
    const startMs = performance.now();
    act(i);
    return performance.now() - startMs;
  }).toSorted((a, b) => a - b);
  const at = (share: number) => Number((times[Math.floor((runs - 1) * share)] ?? 0).toFixed(3));
  return { name, runs, p50Ms: at(0.5), p99Ms: at(0.99) };
}

if (process.argv.includes(INSIDE)) process.stdout.write(JSON.stringify(measureAll()));
else if (process.argv[1] === fileURLToPath(import.meta.url)) console.table(await benchEnforce());
