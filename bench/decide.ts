import { execFileSync, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { connectControl } from "../client/control.ts";
import { renderFrame } from "../daemon/protocol/frame.ts";
import { TOKEN } from "../tests/support/authzen-fixture.ts";
import { createHome, type DaemonHome, startDaemon } from "../tests/support/daemon-process.ts";
import { rawClient } from "../tests/support/raw-client.ts";
import { rawHttp } from "../tests/support/raw-http.ts";
import { httpRequest, isWholeResponse } from "./http-echo.ts";
import type { BenchRow } from "./row.ts";
import { measureRoundTrips, type Round } from "./socket-echo.ts";

/**
 * Decisions over both sockets, for 1, 8, 50 and 200 clients, each asking the next when the last was answered: against a
 * bare node-ipc and a bare node:http echo, against the same daemon with its log in memory (tmpfs), where a sync costs
 * nothing, and against the same daemon where an answer does not wait for its record (bench/unawaited.ts; what is shipped
 * always waits): the differences are what the disk costs, and what the waiting does.
 */
const ROOT = fileURLToPath(new URL("..", import.meta.url));
const MAIN = join(ROOT, "dist/daemon/main.js");
const UNAWAITED = join(ROOT, "bench/unawaited.ts");
const IN_MEMORY = "/dev/shm";
const CLIENTS = [1, 8, 50, 200] as const;
const REQUESTS = { 1: 2_000, 8: 10_000, 50: 30_000, 200: 30_000 } as const;
const WARM_UP = 5_000;
const LIMITS = { maxConnections: 512, maxConnectionsPerUid: 512 };
const CONFIG = {
  initialMode: "RESTRICTED",
  ceremony: { coolDownMs: 0, requireTerminal: false },
  limits: LIMITS,
};

const RESOURCE = { type: "memory", id: "note-1", properties: { class: "CONFIDENTIAL" } };
const renderCheck = (n: number): string =>
  renderFrame("request", {
    id: String(n),
    verb: "check",
    params: { action: { name: "recall" }, resource: RESOURCE },
  });
const QUESTION = JSON.stringify({
  subject: { type: "User", id: "0" },
  action: { name: "recall" },
  resource: RESOURCE,
});
const EVALUATION = "/access/v1/evaluation";

type Way = { readonly renderRequest: (n: number) => string; readonly isWhole?: (heard: Buffer) => boolean };
type Rounds = ReadonlyMap<number, Round>;

const CONTROL: Way = { renderRequest: renderCheck };
const overHttp = (token: string): Way => {
  const request = httpRequest(EVALUATION, QUESTION, [`Authorization: Bearer ${token}`]);
  return { renderRequest: () => request, isWhole: isWholeResponse };
};

export async function benchDecide(): Promise<readonly BenchRow[]> {
  execFileSync("npm", ["run", "--silent", "build"], { cwd: ROOT, stdio: "inherit" });
  const ipc = await withProgram("bench/socket-echo.ts", [], (path) => measure(path, CONTROL));
  const http = await withProgram("bench/http-echo.ts", [], (path) => measure(path, overHttp(TOKEN)));
  const alone = await withProgram("tests/support/decide-process.ts", [JSON.stringify(LIMITS)], (path) =>
    measure(path, overHttp(TOKEN)),
  );
  const disk = await measureDaemon(tmpdir());
  const unawaited = await measureDaemon(tmpdir(), UNAWAITED);
  const memory = existsSync(IN_MEMORY) ? await measureDaemon(IN_MEMORY) : null;
  return [
    ...rowsOf("control.sock, durable", disk.control, "a bare node-ipc echo", ipc, AIMS.control),
    ...rowsOf("control.sock, not awaited", unawaited.control, "a bare node-ipc echo", ipc),
    ...rowsOf("control.sock, durable", disk.control, "not awaited", unawaited.control),
    ...(memory ? rowsOf("control.sock, durable", disk.control, "its log in memory", memory.control) : []),
    ...rowsOf("decide.sock, without a daemon behind", alone, "a bare node:http echo", http),
    ...(disk.http ? rowsOf("decide.sock, durable", disk.http, "a bare node:http echo", http, AIMS.http) : []),
    ...(unawaited.http
      ? rowsOf("decide.sock, not awaited", unawaited.http, "a bare node:http echo", http)
      : []),
    ...(disk.http && unawaited.http
      ? rowsOf("decide.sock, durable", disk.http, "not awaited", unawaited.http)
      : []),
    ...(disk.http && memory?.http
      ? rowsOf("decide.sock, durable", disk.http, "its log in memory", memory.http)
      : []),
  ];
}

/** DESIGN section 9, for 50 clients: so many a second, and no more than so many times as long as the echo. */
type Aim = { readonly perSecond: number; readonly ratio: number };
const AIMS = {
  control: { perSecond: 15_000, ratio: 2.5 },
  http: { perSecond: 5_000, ratio: 1.6 },
} as const;

/** A daemon of its own, with its home in a directory. `http`: null when it has no decide.sock. */
async function measureDaemon(
  base: string,
  main = MAIN,
): Promise<{ readonly control: Rounds; readonly http: Rounds | null }> {
  const home = homeIn(base);
  try {
    const daemon = await startDaemon(home, { main });
    try {
      await leaveLockdown(home);
      const control = await measure(join(home.runtimeDir, "control.sock"), CONTROL);
      const path = join(home.runtimeDir, "decide.sock");
      const token = existsSync(path) ? await bootstrapToken(home) : null;
      if (token === null) {
        console.log("  (decide.sock of the daemon: not measured, it has none, or gives no token)");
        return { control, http: null };
      }
      await expectDecision(path, token);
      return { control, http: await measure(path, overHttp(token)) };
    } finally {
      await daemon.kill();
    }
  } finally {
    home.remove();
  }
}

function homeIn(base: string): DaemonHome {
  const before = process.env["TMPDIR"];
  process.env["TMPDIR"] = base;
  try {
    return createHome(CONFIG);
  } finally {
    if (before === undefined) delete process.env["TMPDIR"];
    else process.env["TMPDIR"] = before;
  }
}

async function leaveLockdown(home: DaemonHome): Promise<void> {
  const client = await connectControl(join(home.runtimeDir, "control.sock"));
  const begun = await client.call("ceremony.begin", { reason: "bench" });
  if (begun.ok) await client.call("ceremony.confirm", { code: begun.data.code, acceptChanges: true });
  client.close();
}

/** The first token, wherever in its reply it stands; null when the verb is not there. */
async function bootstrapToken(home: DaemonHome): Promise<string | null> {
  const client = await rawClient(join(home.runtimeDir, "control.sock"));
  client.request("1", "token.bootstrap", {});
  const reply = JSON.stringify(await client.next());
  client.socket.destroy();
  return /bd_[A-Za-z0-9_-]{40,}/.exec(reply)?.[0] ?? null;
}

/** What is measured has to be a decision, not a refusal. */
async function expectDecision(path: string, token: string): Promise<void> {
  const client = await rawHttp(path);
  client.send(httpRequest(EVALUATION, QUESTION, [`Authorization: Bearer ${token}`, "Connection: close"]));
  const text = await client.ended;
  if (!/^HTTP\/1\.1 200 [\s\S]*"decision":(?:true|false)/.test(text))
    throw new Error(`decide.sock gave no decision: ${text.slice(0, 600)}`);
  if (!text.includes('"decision":true')) console.log(`  (decide.sock denies: ${text.split("\r\n\r\n")[1]})`);
}

async function measure(path: string, way: Way): Promise<Rounds> {
  await measureRoundTrips(path, { clients: 50, requests: WARM_UP, ...way });
  const rounds = new Map<number, Round>();
  for (const clients of CLIENTS)
    rounds.set(clients, await measureRoundTrips(path, { clients, requests: REQUESTS[clients], ...way }));
  return rounds;
}

/** A program that prints the path of its socket first. */
async function withProgram<T>(
  file: string,
  args: readonly string[],
  work: (path: string) => Promise<T>,
): Promise<T> {
  const child = spawn(process.execPath, [join(ROOT, file), ...args], { stdio: ["pipe", "pipe", "inherit"] });
  const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  try {
    const path = await new Promise<string>((resolve, reject) => {
      createInterface({ input: child.stdout }).once("line", resolve);
      void gone.then(() => reject(new Error(`${file} ended`)));
    });
    return await work(path);
  } finally {
    child.stdin.end();
    if (!file.startsWith("tests/")) child.kill("SIGTERM");
    await gone;
  }
}

function rowsOf(what: string, ours: Rounds, rival: string, theirs: Rounds, aim?: Aim): readonly BenchRow[] {
  return CLIENTS.flatMap((clients) => {
    const [mine, other] = [ours.get(clients), theirs.get(clients)];
    if (!mine || !other) return [];
    const title = `${what}, ${clients} ${clients === 1 ? "client" : "clients"}`;
    const ratio = other.perSecond / mine.perSecond;
    const judged = clients === 50 ? aim : undefined;
    return [
      {
        what: title,
        value: Math.round(mine.perSecond),
        unit: "/s",
        rival: `${rival} (${Math.round(other.perSecond)}/s)`,
        ratio: round(ratio),
        aim: judged ? `≥ ${judged.perSecond.toLocaleString("en-US")}/s, ≤ ${judged.ratio}×` : "",
        met: judged ? mine.perSecond >= judged.perSecond && ratio <= judged.ratio : null,
      },
      ...(["p50Ms", "p99Ms"] as const).map((at) => ({
        what: `${title}: ${at.slice(0, 3)}`,
        value: round(mine[at]),
        unit: "ms",
        rival: `${rival} (${round(other[at])} ms)`,
        ratio: round(mine[at] / other[at]),
        aim: "",
        met: null,
      })),
    ];
  });
}

function round(value: number): number {
  return Number(value.toFixed(value < 10 ? 2 : 1));
}
