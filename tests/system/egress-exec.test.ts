import {
  chownSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { boundaryctl, startBoundaryctl } from "../support/boundaryctl.ts";
import { createHome, type DaemonHome, type DaemonProcess, startDaemon } from "../support/daemon-process.ts";
import { type EgressProcess, startEgressProcess } from "../support/egress-process.ts";
import { connect, createNetns, type Netns, NO_NETNS, removeNetns } from "../support/netns.ts";
import { startSaying } from "../support/sandboxed.ts";
import { type Certificates, makeCertificates } from "../support/tls-files.ts";
import { NO_SANDBOX, startWorker, UID, until, type WorkerHost } from "../support/worker-host.ts";

/**
 * All of it, each a process of its own, in a namespace that reaches a world in another: the real tool, daemon, worker with
 * its sandbox and the bridge, and egress process.
 */
const WHY = NO_NETNS || NO_SANDBOX;
const SUPPORT = join(import.meta.dirname, "../support");
const BRIDGE = realpathSync(join(import.meta.dirname, "../../daemon/worker/bridge.ts"));
const NODE = realpathSync(process.execPath);
const WORLD = "93.184.216.34";
const OURS = "93.184.216.1";
const ZONE = {
  "other.example": [[WORLD]],
  "unlisted.example": [[WORLD]],
  "private.example": [["10.0.0.9"]],
};
const PROFILES = `version: 1
patterns: { url: 'https?://[a-z./]+' }
notPaths: [url]
profiles:
  - name: default
    modes: [OPEN, RESTRICTED, TRUSTED, AIRGAP]
    unlisted: deny
    unresolved: deny
    searchPath: [${dirname(NODE)}, /usr/bin]
    programs:
      - name: [curl]
        accepts: { risks: [shell, read, write, code, network], why: this is what the test is about }
        rules:
          - { id: get, verdict: allow, reach: network, options: '-sSN --cacert:readable', operands: ['url'], match: ['curl -sS https://a.example/'] }
      - name: [node]
        accepts: { risks: [shell, read, write, code, network], why: this is what the test is about }
        rules:
          - { id: script, verdict: allow, reach: network, operands: ['readable'], match: ['node fetch.mjs'] }
`;
const FETCH = `import { readFileSync } from "node:fs";
import tls from "node:tls";
tls.setDefaultCACertificates([readFileSync("authority.txt", "utf8")]);
const told = await fetch("https://other.example/fetched");
console.log(told.status, await told.text());
`;

type Row = { readonly seq: number; readonly kind: string; readonly data: Record<string, unknown> };

describe.skipIf(WHY !== "")(`a guarded command with the network ${WHY}`, () => {
  const directory = mkdtempSync(join(realpathSync("/tmp"), "boundary-egress-exec-"));
  const profiles = join(directory, "profiles.yaml");
  const stops: (() => Promise<unknown>)[] = [];
  let certificates: Certificates;
  let near: Netns;
  let home: DaemonHome;
  let daemon: DaemonProcess;
  let worker: WorkerHost;
  let egress: EgressProcess;
  let world: Awaited<ReturnType<typeof startSaying>>;
  const within = () => ["/usr/sbin/ip", "netns", "exec", near.name];

  beforeAll(async () => {
    certificates = makeCertificates(directory);
    writeFileSync(profiles, PROFILES);
    const far = createNetns("far");
    near = createNetns("near");
    connect(
      { netns: far, link: "w", addresses: [`${WORLD}/24`] },
      { netns: near, link: "p", addresses: [`${OURS}/24`] },
    );
    const { cert, key } = certificates.otherName;
    const origin = [NODE, join(SUPPORT, "egress-origin.ts"), WORLD, cert, key, JSON.stringify(ZONE)];
    world = await startSaying("/usr/sbin/ip", ["netns", "exec", far.name, ...origin]);
    stops.push(world.stop);
    home = createHome({
      initialMode: "OPEN",
      ceremony: { requireTerminal: false },
      exec: { profilesFile: profiles, workspaces: ["/tmp"] },
      egress: { allow: ["other.example", "private.example"], resolvers: [WORLD] },
    });
    daemon = await startDaemon(home, { netns: near.name });
    stops.push(() => daemon.kill());
    const at = `${home.runtimeDir}-worker`;
    mkdirSync(at, { mode: 0o750 });
    chownSync(at, UID, process.getgid?.() ?? 0);
    worker = await startWorker([`--bridge=${BRIDGE}`], within(), join(at, "worker.sock"));
    stops.push(worker.stop);
    copyFileSync(certificates.ca, join(worker.workspace, "authority.txt"));
    writeFileSync(join(worker.workspace, "fetch.mjs"), FETCH);
    await until(() => daemon.lines.some((line) => line.includes("the worker is ready")), 15_000);
  }, 60_000);

  afterAll(async () => {
    for (const stop of stops.toReversed()) await stop();
    removeNetns();
    home?.remove();
    rmSync(directory, { recursive: true, force: true });
  });

  const ctl = (args: readonly string[]) =>
    boundaryctl([...args.slice(0, 2), "--runtime-dir", home.runtimeDir, ...args.slice(2)]);
  const where = () => ["--workspace", worker.workspace, "--cwd", worker.workspace];
  const run = (...command: readonly string[]) =>
    ctl(["exec", "run", "--network", ...where(), "--", ...command]);
  const curl = (url: string) => run("curl", "-sS", "--cacert", "authority.txt", url);
  const heldTo = (host: string, url: string) =>
    ctl([
      "exec",
      "run",
      "--network",
      "--host",
      host,
      ...where(),
      "--",
      "curl",
      "-sS",
      "--cacert",
      "authority.txt",
      url,
    ]);
  const records = (): readonly Row[] =>
    readdirSync(home.logDir)
      .filter((name) => name.endsWith(".jsonl"))
      .flatMap((name) => readFileSync(join(home.logDir, name), "utf8").trimEnd().split("\n"))
      .map((line) => JSON.parse(line) as Row);
  const since = (seq: number) => records().filter((row) => row.seq > seq);
  const last = () => records().at(-1)?.seq ?? 0;
  const control = async (name: string) => {
    const { stdout } = await boundaryctl(["status", "--json", "--runtime-dir", home.runtimeDir]);
    const { controls } = JSON.parse(stdout) as {
      controls: { name: string; state: string; detail: string }[];
    };
    return controls.find((one) => one.name === name);
  };
  const startEgress = async () => {
    egress = await startEgressProcess(`${home.runtimeDir}-egress`, within());
    await expect.poll(async () => (await control("egress"))?.state).toBe("enforced");
  };

  test("without the egress process it is not started, and it is said what to start", async () => {
    const said = await curl("https://other.example/none");
    expect(said).toMatchObject({ code: 125, stdout: "" });
    expect(said.stderr).toContain("start boundary-egress.service");
    expect(await control("egress")).toMatchObject({
      state: "absent",
      detail: expect.stringContaining("start boundary-egress.service"),
    });
    expect(records().map(({ kind }) => kind)).not.toContain("exec.started");
  }, 30_000);

  test("reaches a listed host through bridge and proxy, and all of it is on record", async () => {
    await startEgress();
    const before = last();
    expect(await curl("https://other.example/tls")).toEqual({ code: 0, stdout: "the world\n", stderr: "" });
    expect(world.lines).toContain("https GET other.example /tls");
    const told = since(before).filter(({ kind }) => kind.startsWith("egress."));
    expect(told.map(({ kind }) => kind)).toEqual(["egress.opened", "egress.closed"]);
    const [opened, closed] = told;
    const run = since(before).find(({ kind }) => kind === "exec.started")?.data["id"];
    expect(opened?.data).toMatchObject({
      run,
      way: "tls",
      host: "other.example",
      port: 443,
      addresses: [WORLD],
    });
    const decision = records().find(({ seq }) => seq === opened?.data["decision"]);
    expect(decision).toMatchObject({
      kind: "decision",
      data: { action: "network.connect", decision: "allow" },
    });
    expect(closed?.data).toMatchObject({
      run,
      opened: opened?.seq,
      connections: 1,
      why: "the command is over",
    });
    expect(Number(closed?.data["received"])).toBeGreaterThan(0);
    expect(readdirSync(egress.runs)).toEqual([]);
  }, 60_000);

  test("Node's own fetch finds the proxy too", async () => {
    expect(await run("node", "fetch.mjs")).toEqual({ code: 0, stdout: "200 the world\n\n", stderr: "" });
  }, 60_000);

  test("is held to the hosts that come with the request, and gets none by them", async () => {
    const url = "https://other.example/";
    expect(await heldTo("other.example", url)).toEqual({ code: 0, stdout: "the world\n", stderr: "" });
    const held = since(0).findLast(({ kind }) => kind === "exec.started");
    expect(held?.data["hosts"]).toEqual(["other.example"]);
    expect((await heldTo("private.example", url)).stderr).toContain("403");
    expect((await heldTo("unlisted.example", "https://unlisted.example/")).stderr).toContain("403");
    expect((await ctl(["exec", "run", "--host", "other.example", ...where(), "--", "curl", url])).code).toBe(
      2,
    );
  }, 60_000);

  test("does not reach an unlisted host, or a private address, and that is on record", async () => {
    const before = last();
    const heard = world.lines.length;
    const unlisted = await curl("https://unlisted.example/");
    expect(unlisted.code).not.toBe(0);
    expect(unlisted.stderr).toContain("403");
    expect((await curl("http://private.example/")).stdout).toContain("egress-address");
    expect(since(before).filter(({ kind }) => kind.startsWith("egress."))).toMatchObject([
      { kind: "egress.refused", data: { host: "unlisted.example", code: "egress-denied" } },
      { kind: "egress.refused", data: { host: "private.example", code: "egress-address" } },
    ]);
    expect(world.lines.slice(heard).filter((line) => !line.startsWith("dns "))).toEqual([]);
  }, 60_000);

  const slowly = async () => {
    const args = [
      "exec",
      "run",
      "--runtime-dir",
      home.runtimeDir,
      "--network",
      "--timeout",
      "60s",
      ...where(),
    ];
    const slow = ["curl", "-sSN", "--cacert", "authority.txt", "https://other.example/slow"];
    const { done } = startBoundaryctl([...args, "--", ...slow]);
    const ended = () => world.lines.filter((line) => line === "slow ended").length;
    const [begun, over] = [world.lines.filter((line) => line.endsWith("/slow")).length, ended()];
    await until(() => world.lines.filter((line) => line.endsWith("/slow")).length > begun, 20_000);
    return { done, isEnded: () => ended() > over };
  };

  test("loses it when the egress process is killed; what was opened is closed on record, and the next one is taken up", async () => {
    const { done, isEnded } = await slowly();
    egress.signal("SIGKILL");
    expect(await egress.exited).toBe(null);
    await until(isEnded);
    expect((await done).code).not.toBe(0);
    const closed = records().findLast(({ kind }) => kind === "egress.closed")?.data;
    expect(closed?.["why"]).toContain("the egress process is gone");
    expect(closed?.["sent"]).toBe(undefined);
    await startEgress();
    expect(readdirSync(egress.runs)).toEqual([]);
    expect((await curl("https://other.example/again")).stdout).toBe("the world\n");
  }, 60_000);

  test("AIRGAP ends it while it is connected: the host is let go at once, and no more is reached", async () => {
    const { done, isEnded } = await slowly();
    const before = last();
    const askedMs = performance.now();
    expect((await ctl(["mode", "set", "AIRGAP", "--reason", "test"])).code).toBe(0);
    await until(isEnded);
    expect(performance.now() - askedMs).toBeLessThan(5_000);
    expect((await done).code).not.toBe(0);
    await until(() => since(before).some(({ kind }) => kind === "exec.ended"));
    expect(since(before).find(({ kind }) => kind === "egress.closed")?.data).toMatchObject({
      host: "other.example",
      why: "mode AIRGAP",
    });
    expect(await curl("https://other.example/")).toMatchObject({ code: 126, stdout: "" });
  }, 60_000);

  test("a stop of the process is a clean one", async () => {
    await egress.stop();
    expect(await egress.exited).toBe(0);
    expect(egress.text()).not.toContain('"level":"error"');
  });
});
