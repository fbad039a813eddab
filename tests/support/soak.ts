import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { Agent, request as httpRequest } from "node:http";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Client, connectControl } from "../../client/control.ts";
import { renderErrorChain } from "../../daemon/core/errors.ts";
import type { Mode } from "../../daemon/core/mode.ts";
import { examine } from "../faults/examine.ts";
import { createHome, type DaemonHome, type DaemonProcess, startDaemon } from "./daemon-process.ts";
import { shippedFiles } from "./policies.ts";

/**
 * The real daemon under a steady load on both of its sockets, while modes change and policies are read anew. Each answer is
 * held against what it must be in the mode that it names, each allow against its record in the log, and the memory of the
 * daemon and its children is looked at all the time. The daemon holds no rules (log-only): what it says of the mode is what
 * is asked here, not what the kernel does.
 */
export type SoakOptions = {
  readonly seconds: number;
  /** The daemon's file; the sources without it. */
  readonly main?: string;
  /** Of each socket. */
  readonly clients: number;
  /** Of each client. It waits for each answer, so under load they are fewer. */
  readonly askEveryMs: number;
  readonly modeEveryMs: number;
  readonly reloadEveryMs: number;
  readonly sampleEveryMs: number;
};

export type SoakReport = {
  readonly asked: number;
  readonly allowed: number;
  /** Denied because the mode changed while the record of an allow was on its way. */
  readonly lapsed: number;
  readonly modeChanges: number;
  readonly reloads: number;
  readonly refusedReloads: number;
  /** Requests that got no answer, in words; the first of them. */
  readonly lost: readonly string[];
  /** Answers that must not be, in words; the first of them. */
  readonly wrong: readonly string[];
  /** What of the log is not as it must be; empty when it verifies and has a record of each allow. */
  readonly log: readonly string[];
  /** Resident memory in MiB, by time: the daemon's, and that of it and all its children. */
  readonly memory: readonly { readonly own: number; readonly tree: number }[];
};

const ALL: readonly Mode[] = ["OPEN", "RESTRICTED", "TRUSTED", "AIRGAP", "COLDROOM"];
const UP_TO_AIRGAP: readonly Mode[] = ["OPEN", "RESTRICTED", "TRUSTED", "AIRGAP"];
const OPEN_NET: readonly Mode[] = ["OPEN", "RESTRICTED"];

type Ask = {
  readonly action: string;
  readonly resource: { readonly type: string; readonly id: string; readonly properties: object };
  /** The modes in which it is allowed, by hand from DESIGN section 2: observed, without trusted interfaces. */
  readonly modes: readonly Mode[];
  /** Denied by this policy while the site has it: then either answer is right, for its own reason. */
  readonly unless?: string;
};

const memory = (id: string, name: string, modes: readonly Mode[]): Ask => ({
  action: "recall",
  resource: { type: "memory", id, properties: { class: name } },
  modes,
});

const ASKS: readonly Ask[] = [
  memory("public", "PUBLIC", ALL),
  memory("confidential", "CONFIDENTIAL", ["RESTRICTED", "TRUSTED", "AIRGAP", "COLDROOM"]),
  memory("secret", "SECRET", ["TRUSTED", "AIRGAP", "COLDROOM"]),
  memory("top-secret", "TOP_SECRET", []),
  {
    action: "tool.run",
    resource: { type: "tool", id: "grep", properties: { reach: "file" } },
    modes: UP_TO_AIRGAP,
  },
  {
    action: "tool.run",
    resource: { type: "tool", id: "curl", properties: { reach: "network" } },
    modes: OPEN_NET,
  },
  {
    action: "model.call",
    resource: { type: "model", id: "near", properties: { location: "local" } },
    modes: ALL,
  },
  {
    action: "model.call",
    resource: { type: "model", id: "far", properties: { location: "external" } },
    modes: OPEN_NET,
  },
  { action: "file.read", resource: { type: "file", id: "/srv/notes", properties: {} }, modes: UP_TO_AIRGAP },
  {
    action: "file.read",
    resource: { type: "file", id: "/srv/site", properties: {} },
    modes: UP_TO_AIRGAP,
    unless: "site.closed",
  },
  {
    action: "network.connect",
    resource: { type: "host", id: "host.example", properties: {} },
    modes: OPEN_NET,
  },
];

/** The three states of the site's own policies: without the rule, with it, and broken. */
const SITE = {
  open: `@id("site.note") @advice("nothing")
forbid (principal, action == Action::"file.read", resource) when { resource.path == "/srv/never" };`,
  closed: `@id("site.closed") @advice("another file")
forbid (principal, action == Action::"file.read", resource) when { resource.path == "/srv/site" };`,
  broken: `@id("site.closed") forbid (principal, action == Action::"file.red", resource);`,
} as const;
const CASES = {
  open: `cases: [{ who: "User::0", action: file.read, resource: "file::/srv/never", mode: OPEN, answer: deny, by: [site.note] }]`,
  closed: `cases: [{ who: "User::0", action: file.read, resource: "file::/srv/site", mode: OPEN, answer: deny, by: [site.closed] }]`,
} as const;

const DEADLINE_MS = 15_000;
const MOST_TOLD = 20;
const UID = String(process.getuid?.() ?? 0);

export type Heard = {
  readonly decision: boolean;
  readonly code: string;
  readonly reason: readonly string[];
  readonly mode: string;
  readonly assurance: string;
  readonly correlationId: string;
};
type AskOne = (ask: Ask) => Promise<Heard>;

/** What is being counted: only this run writes to it. */
type Run = {
  readonly counts: {
    asked: number;
    allowed: number;
    lapsed: number;
    modeChanges: number;
    reloads: number;
    refusedReloads: number;
  };
  readonly lost: string[];
  readonly wrong: string[];
  readonly allows: { readonly seq: number; readonly id: string }[];
  readonly memory: { own: number; tree: number }[];
  over: boolean;
};

/** Runs it. What is lost or wrong is in the report; throws where the daemon does not even start. */
export async function soak(options: SoakOptions): Promise<SoakReport> {
  const home = createHome({
    initialMode: "RESTRICTED",
    ceremony: { coolDownMs: 0, requireTerminal: false },
    limits: { maxConnections: 256, maxConnectionsPerUid: 256, probing: { denials: 0 } },
    policy: { directory: "policies-of-the-soak" },
  });
  try {
    const policies = preparePolicies(home);
    const daemon = await startDaemon(home, options.main === undefined ? {} : { main: options.main });
    const run = newRun();
    try {
      await load(home, daemon, policies, options, run);
    } finally {
      await daemon.kill();
    }
    const { problems } = await examine(home, run.allows);
    const { counts, lost, wrong, memory: samples } = run;
    return { ...counts, lost, wrong, log: problems, memory: samples };
  } finally {
    home.remove();
  }
}

function newRun(): Run {
  const counts = { asked: 0, allowed: 0, lapsed: 0, modeChanges: 0, reloads: 0, refusedReloads: 0 };
  return { counts, lost: [], wrong: [], allows: [], memory: [], over: false };
}

/** The shipped policies and the site's own, in a directory of the home's. */
function preparePolicies(home: DaemonHome): (site: keyof typeof SITE) => void {
  const directory = join(home.path, "policies");
  mkdirSync(directory, { mode: 0o755 });
  const write = (name: string, text: string | Buffer): void => {
    writeFileSync(join(directory, name), text, { mode: 0o644 });
    chmodSync(join(directory, name), 0o644);
  };
  for (const { name, bytes } of shippedFiles()) write(name, Buffer.from(bytes));
  const config = readFileSync(home.configFile, "utf8").replace("policies-of-the-soak", directory);
  writeFileSync(home.configFile, config, { mode: 0o600 });
  const put = (site: keyof typeof SITE): void => {
    write("site.cedar", SITE[site]);
    write("site.cases.yaml", CASES[site === "open" ? "open" : "closed"]);
  };
  put("open");
  return put;
}

async function load(
  home: DaemonHome,
  daemon: DaemonProcess,
  policies: (site: keyof typeof SITE) => void,
  options: SoakOptions,
  run: Run,
): Promise<void> {
  const control = join(home.runtimeDir, "control.sock");
  const person = await connectControl(control);
  const admin = await connectControl(control);
  const token = await person.call("token.bootstrap", {});
  if (!token.ok) throw new Error(token.problem.detail);
  const agents: Agent[] = [];
  const clients: Client[] = [];
  const askers: AskOne[] = [];
  for (let n = 0; n < options.clients; n++) {
    const client = await connectControl(control);
    clients.push(client);
    askers.push((ask) => overControl(client, ask));
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    agents.push(agent);
    askers.push((ask) => overHttp(join(home.runtimeDir, "decide.sock"), agent, token.data.text, ask));
  }
  const gone = daemon.exited.then((code) => {
    if (!run.over) run.lost.push(`the daemon ended with ${code}: ${daemon.lines.slice(-3).join(" | ")}`);
    run.over = true;
  });
  const work = [
    ...askers.map((ask, n) => keepAsking(run, ask, n, options)),
    changeModes(run, person, options),
    reload(run, admin, policies, options),
    sample(run, daemon.pid, options),
  ];
  await Promise.race([delay(options.seconds * 1_000), gone]);
  run.over = true;
  await Promise.all(work);
  for (const one of [person, admin, ...clients]) one.close();
  for (const agent of agents) agent.destroy();
  const { code } = await daemon.stop();
  if (code !== 0) tell(run.wrong, `the daemon's stop ended with ${code}`);
}

async function keepAsking(run: Run, askOne: AskOne, n: number, { askEveryMs }: SoakOptions): Promise<void> {
  await delay((askEveryMs * n) / 16);
  for (let turn = n; !run.over; turn++) {
    const ask = ASKS[turn % ASKS.length] as Ask;
    const dueMs = performance.now() + askEveryMs;
    run.counts.asked++;
    try {
      judge(run, ask, await askOne(ask));
    } catch (error) {
      tell(run.lost, `${ask.action} ${ask.resource.id}: ${renderErrorChain(error)}`);
    }
    await delay(Math.max(0, dueMs - performance.now()));
  }
}

function judge(run: Run, ask: Ask, heard: Heard): void {
  const fault = faultOf(ask, heard);
  if (fault !== "")
    tell(run.wrong, `${ask.action} ${ask.resource.id} in ${heard.mode}: ${fault}: ${JSON.stringify(heard)}`);
  if (heard.decision) {
    run.counts.allowed++;
    run.allows.push({ seq: Number(heard.correlationId), id: ask.resource.id });
  }
  if (heard.code === "answer-lapsed") run.counts.lapsed++;
}

/** Why this must not be the answer, in the mode that it names; "" when it may be. */
export function faultOf(
  { modes, unless }: Pick<Ask, "modes" | "unless">,
  { decision, code, reason, mode, assurance }: Heard,
): string {
  if (assurance !== "observed") return "not as it is held";
  const isWithin = modes.some((each) => each === mode);
  const isUnless = unless !== undefined && reason.includes(unless);
  if (decision) return isWithin && code === "allowed" && !isUnless ? "" : "allowed, and must not be";
  if (code === "answer-lapsed" || (isUnless && code === "policy-denied")) return "";
  if (isWithin) return "denied, and must not be";
  return code === "mode-ceiling" || code === "policy-denied" ? "" : "denied for another reason";
}

/** To another mode each time, now and then into LOCKDOWN and out of it by ceremony. */
async function changeModes(run: Run, client: Client, { modeEveryMs }: SoakOptions): Promise<void> {
  for (let turn = 0; !run.over; turn++) {
    await delay(modeEveryMs);
    if (run.over) return;
    try {
      if (turn % 7 === 6) await throughLockdown(run, client);
      else await setMode(run, client, ALL[(turn * 3 + 1) % ALL.length] as Mode);
    } catch (error) {
      tell(run.lost, `a mode: ${renderErrorChain(error)}`);
    }
  }
}

async function setMode(run: Run, client: Client, mode: Mode): Promise<void> {
  const reply = await client.call("mode.set", { mode, reason: "soak" }, DEADLINE_MS);
  if (!reply.ok || reply.data.wanted !== mode || reply.data.assurance !== "observed")
    tell(run.wrong, `mode.set ${mode}: ${JSON.stringify(reply)}`);
  run.counts.modeChanges++;
}

async function throughLockdown(run: Run, client: Client): Promise<void> {
  await setMode(run, client, "LOCKDOWN");
  const begun = await client.call("ceremony.begin", { reason: "soak" }, DEADLINE_MS);
  if (!begun.ok) {
    tell(run.wrong, `ceremony.begin: ${begun.problem.detail}`);
    return;
  }
  const answer = { code: begun.data.code, acceptChanges: true };
  const done = await client.call("ceremony.confirm", answer, DEADLINE_MS);
  if (!done.ok || done.data.wanted !== "RESTRICTED")
    tell(run.wrong, `ceremony.confirm: ${JSON.stringify(done)}`);
  run.counts.modeChanges++;
}

/** Another set each time, and one that must be refused. */
async function reload(
  run: Run,
  client: Client,
  policies: (site: keyof typeof SITE) => void,
  { reloadEveryMs }: SoakOptions,
): Promise<void> {
  const turns = ["closed", "broken", "open"] as const;
  for (let turn = 0; !run.over; turn++) {
    await delay(reloadEveryMs);
    if (run.over) return;
    const site = turns[turn % turns.length] as (typeof turns)[number];
    policies(site);
    try {
      const reply = await client.call("policy.reload", {}, 60_000);
      if (reply.ok) run.counts.reloads++;
      else run.counts.refusedReloads++;
      const code = reply.ok ? "" : reply.problem.code;
      if (code !== (site === "broken" ? "policy-invalid" : ""))
        tell(run.wrong, `policy.reload ${site}: ${JSON.stringify(reply)}`);
    } catch (error) {
      tell(run.lost, `policy.reload ${site}: ${renderErrorChain(error)}`);
    }
  }
}

async function overControl(client: Client, { action, resource }: Ask): Promise<Heard> {
  const properties = resource.properties as Record<string, string>;
  const asked = { action: { name: action as "recall" }, resource: { ...resource, properties } };
  const reply = await client.call("check", asked, DEADLINE_MS);
  if (!reply.ok) throw new Error(`${reply.problem.code}: ${reply.problem.detail}`);
  return reply.data;
}

function overHttp(
  socketPath: string,
  agent: Agent,
  token: string,
  { action, resource }: Ask,
): Promise<Heard> {
  const body = JSON.stringify({ subject: { type: "User", id: UID }, action: { name: action }, resource });
  const headers = {
    "Content-Type": "application/json",
    "Content-Length": Buffer.byteLength(body),
    Authorization: `Bearer ${token}`,
  };
  const options = { socketPath, agent, method: "POST", path: "/access/v1/evaluation", headers };
  return new Promise((resolve, reject) => {
    const request = httpRequest({ ...options, signal: AbortSignal.timeout(DEADLINE_MS) }, (response) => {
      const chunks: Buffer[] = [];
      response.on("error", reject);
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("end", () => {
        const text = Buffer.concat(chunks).toString();
        try {
          if (response.statusCode !== 200) throw new Error(`${response.statusCode}: ${text.slice(0, 300)}`);
          const { decision, context } = JSON.parse(text) as { decision: boolean; context: Heard };
          resolve({ ...context, decision });
        } catch (error) {
          reject(error);
        }
      });
    });
    request.on("error", reject);
    request.end(body);
  });
}

async function sample(run: Run, pid: number, { sampleEveryMs }: SoakOptions): Promise<void> {
  while (!run.over) {
    const own = residentOf(pid);
    if (own > 0)
      run.memory.push({ own, tree: own + childrenOf(pid).reduce((sum, one) => sum + residentOf(one), 0) });
    await delay(sampleEveryMs);
  }
}

/** MiB; 0 for a process that has ended. */
function residentOf(pid: number): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) / 1_024;
  } catch {
    return 0;
  }
}

/** Of every thread of it, and theirs. */
function childrenOf(pid: number): readonly number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((thread) =>
      readFileSync(`/proc/${pid}/task/${thread}/children`, "utf8")
        .split(" ")
        .filter((text) => text !== "")
        .flatMap((text) => [Number(text), ...childrenOf(Number(text))]),
    );
  } catch {
    return [];
  }
}

function tell(list: string[], what: string): void {
  if (list.length < MOST_TOLD) list.push(what.slice(0, 1_000));
}

/** The medians of the first and the last third. */
export function thirdsOf(samples: readonly number[]): { readonly first: number; readonly last: number } {
  const third = Math.max(1, Math.floor(samples.length / 3));
  return { first: medianOf(samples.slice(0, third)), last: medianOf(samples.slice(-third)) };
}

function medianOf(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}
