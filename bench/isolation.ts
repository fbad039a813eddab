import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { createClock } from "../daemon/adapters/clock.ts";
import { openLibnftables } from "../daemon/adapters/libnftables.ts";
import { openNftProgram } from "../daemon/adapters/nft-program.ts";
import { toIsolation } from "../daemon/core/config.ts";
import type { IsolationInput } from "../daemon/core/isolation.ts";
import { createIsolation, type IsolationControl } from "../daemon/isolation.ts";
import { createNetns, NO_NETNS, removeNetns } from "../tests/support/netns.ts";
import type { BenchRow } from "./row.ts";

/** This file, run inside a namespace: the library works in its process' namespace. */
const INSIDE = "--inside-a-namespace";
const AIM_MS = 10;

type Figure = {
  readonly name: string;
  readonly runs: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
};

const [LOAD, SAME, LARGE, PROGRAM] = [
  "isolation apply: load, read back",
  "isolation apply: the same already, compared",
  "isolation apply of 16 domains with 240 ways: load, read back",
  "the same load through the nft program",
];

/** Loading the domains' table and reading it back; the rival is the nft program in the same run. Empty without root or nft. */
export async function benchIsolation(): Promise<readonly BenchRow[]> {
  if (NO_NETNS !== "") {
    console.log(`isolation: not measured: ${NO_NETNS}`);
    return [];
  }
  try {
    const figures = await measureInside(createNetns("bench").name);
    const program = figures.find(({ name }) => name === PROGRAM);
    return figures.flatMap((figure) => (figure === program ? [] : [row(figure, program)]));
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
    aim: name === LARGE ? "" : `≤ ${AIM_MS} ms p99`,
    met: name === LARGE ? null : p99Ms <= AIM_MS,
  };
}

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

/** The shipped example, or one port more. */
function example(port: number): IsolationInput {
  return {
    domains: [
      { name: "CT", interfaces: ["ct0"], host: false, unaffected: false },
      { name: "PT", interfaces: ["pt0"], host: false, unaffected: false },
      { name: "MGMT", interfaces: ["mgmt0"], host: false, unaffected: true },
    ],
    passes: [
      { between: ["PT", "CT"], protocol: "udp", port },
      { between: ["PT", "CT"], protocol: "udp", port: 4_500 },
      { between: ["PT", "CT"], protocol: "esp" },
    ],
  };
}

function large(port: number): IsolationInput {
  const names = Array.from({ length: 16 }, (_, i) => `D${i}`);
  return {
    domains: names.map((name) => ({
      name,
      interfaces: [`${name.toLowerCase()}x`],
      host: false,
      unaffected: false,
    })),
    passes: names.flatMap((from) =>
      names.flatMap((to) => (to > from ? [{ between: [from, to], protocol: "udp", port } as const] : [])),
    ),
  };
}

function control(via: "libnftables" | "nft", input: IsolationInput): IsolationControl {
  const firewall = via === "nft" ? openNftProgram() : openLibnftables();
  if ("unavailable" in firewall) throw new Error(firewall.unavailable);
  const quiet = () => undefined;
  return createIsolation({
    firewall,
    missing: [],
    isolation: toIsolation(input),
    links: () => [],
    record: () => ({ seq: 0, durable: Promise.resolve() }),
    submit: quiet,
    clock: createClock(),
    opLog: { info: quiet, warn: quiet, error: quiet },
  });
}

function measureAll(): readonly Figure[] {
  const turns = (via: "libnftables" | "nft", of: (port: number) => IsolationInput) => {
    const [one, other] = [control(via, of(500)), control(via, of(501))];
    return (i: number) => expectChanged((i % 2 === 0 ? one : other).apply("bench").changed, true);
  };
  const figures = [
    measure(LOAD ?? "", 500, turns("libnftables", example)),
    measure(PROGRAM ?? "", 60, turns("nft", example)),
    measure(LARGE ?? "", 60, turns("libnftables", large)),
  ];
  const held = control("libnftables", example(500));
  held.apply("bench");
  return [...figures, measure(SAME ?? "", 1_000, () => expectChanged(held.apply("bench").changed, false))];
}

function expectChanged(changed: boolean, wanted: boolean): void {
  if (changed !== wanted) throw new Error(`changed: ${changed}`);
}

function measure(name: string, runs: number, act: (i: number) => void): Figure {
  const warm = Math.min(20, runs); // even, so that the turns go on
  for (let i = 0; i < warm; i++) act(i);
  const times = Array.from({ length: runs }, (_, i) => {
    const startMs = performance.now();
    act(i);
    return performance.now() - startMs;
  }).toSorted((a, b) => a - b);
  const at = (share: number) => Number((times[Math.floor((runs - 1) * share)] ?? 0).toFixed(3));
  return { name, runs, p50Ms: at(0.5), p99Ms: at(0.99) };
}

if (process.argv.includes(INSIDE)) process.stdout.write(JSON.stringify(measureAll()));
else if (process.argv[1] === fileURLToPath(import.meta.url)) console.table(await benchIsolation());
