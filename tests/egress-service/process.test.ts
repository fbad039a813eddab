import { spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { openEgressDoor } from "../../daemon/adapters/egress-door.ts";
import { peerOf } from "../../daemon/adapters/peer.ts";
import type { Entry } from "../../daemon/audit/record.ts";
import { ConfigSchema } from "../../daemon/core/config.ts";
import { createFrameReader, renderFrame } from "../../daemon/core/frames.ts";
import type { EgressVerdict } from "../../daemon/egress/gate.ts";
import { settingsIn } from "../../daemon/egress/settings.ts";
import { parseServiceCommand } from "../../daemon/egress-service/options.ts";
import { quiet } from "../support/decide-server.ts";
import {
  asEgress,
  EGRESS_UID,
  type EgressProcess,
  egressCommand,
  egressDirectories,
  startEgressProcess,
} from "../support/egress-process.ts";
import { type Origin, startTlsOrigin } from "../support/egress-proxy.ts";
import { isOnHost } from "../support/setup.ts";
import { type Certificates, makeCertificates } from "../support/tls-files.ts";
import { allowedCalls, readUnit, systemdVersion, valuesOf } from "../support/units.ts";
import { asWorker, UID as WORKER_UID } from "../support/worker-host.ts";

const ROOT = process.getuid?.() === 0;
/** What he hears whose connection is ended without a word. */
const UNREAD = /^(?:(?:ECONNRESET|EPIPE)\n)?$/;
const RUN = "0123456789abcdef0123456789abcdef";
/** Sends what it is given to a Unix socket, and tells what comes until that ends. */
const TELL = `const [path, text] = process.argv.slice(1);
const socket = require("node:net").connect({ path });
socket.on("error", (error) => console.log(error.code));
socket.on("data", (chunk) => process.stdout.write(chunk));
socket.write(JSON.parse(text));`;
/** A TLS client through the run's socket: a line for what it hears, and one when it is over. */
const SECURE = `const [path, target, ca] = process.argv.slice(1);
const socket = require("node:net").connect({ path });
socket.on("error", (error) => console.log(error.code));
socket.write("CONNECT " + target + " HTTP/1.1\\r\\nHost: " + target + "\\r\\n\\r\\n");
socket.once("data", (chunk) => {
  const status = String(chunk).split(" ")[1];
  if (status !== "200") return console.log(status);
  const host = target.split(":")[0];
  const secure = require("node:tls").connect({ socket, host, ca: require("node:fs").readFileSync(ca) });
  secure.on("error", (error) => console.log(error.code));
  secure.on("data", (chunk) => console.log(String(chunk)));
  secure.on("close", () => console.log("closed"));
});`;

const directory = mkdtempSync(join(tmpdir(), "boundary-egress-process-"));
chmodSync(directory, 0o755);
let certificates: Certificates;
beforeAll(() => {
  certificates = makeCertificates(directory);
  chmodSync(certificates.ca, 0o644);
}, 60_000);
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const stops: (() => unknown)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).toReversed()) await stop();
});

function place(): string {
  const base = mkdtempSync(join(directory, "run-"));
  chmodSync(base, 0o755);
  return base;
}

async function started(through: readonly string[] = []): Promise<EgressProcess & { readonly base: string }> {
  const base = place();
  const made = await startEgressProcess(base, through);
  stops.push(made.stop);
  return { ...made, base };
}

async function doorTo(
  base: string,
  config: object,
  policy: (host: string) => EgressVerdict = () => ({ allow: true, why: "", seq: 7 }),
) {
  const log: Entry[] = [];
  const door = openEgressDoor({
    directory: base,
    peerOf,
    random: () => 0,
    opLog: quiet,
    config: ConfigSchema.parse({ egress: config }).egress,
    append: (entry) => {
      log.push(entry);
      return { seq: 100 + log.length, durable: Promise.resolve() };
    },
  });
  stops.push(() => door.stop());
  door.start();
  await expect.poll(() => door.state().kind).toBe("ready");
  const wish = { id: RUN, uid: 0, profile: "default", workspace: "/srv/web", hosts: null };
  const way = await door.open({ ...wish, policy: async (host) => policy(host) });
  return { door, log, way };
}

const asWho = (
  as: (command: readonly string[]) => readonly string[],
  script: string,
  ...args: readonly string[]
) => {
  const [command = "", ...rest] = as([process.execPath, "-e", script, ...args]);
  return spawn(command, rest, { stdio: ["ignore", "pipe", "inherit"], cwd: "/" });
};
async function told(child: ReturnType<typeof asWho>): Promise<string> {
  let text = "";
  child.stdout?.on("data", (chunk: Buffer) => (text += chunk.toString()));
  await new Promise((resolve) => child.once("close", resolve));
  return text;
}

describe("how it is called", () => {
  const CALL = ["--socket=/run/b/d/egress.sock", "--runs=/run/b/egress", "--daemon-uid=5", "--worker-user=w"];

  test("as its unit calls it", () => {
    const unit = readUnit("boundary-egress.service");
    const call =
      valuesOf(unit, "Service", "ExecStart")[0]?.split("egress-service/main.js ")[1]?.split(" ") ?? [];
    expect(parseServiceCommand(call)).toEqual({
      kind: "run",
      options: {
        socket: "/run/boundary-daemon-egress/daemon/egress.sock",
        runs: "/run/boundary-daemon-egress/runs",
        daemon: "boundary",
        worker: "boundary-worker",
      },
    });
    // nothing of root's works below a directory of the daemon's user, who could have put a link there
    expect(valuesOf(unit, "Service", "ExecStartPre")).toEqual([]);
    const tmpfiles = readFileSync(
      join(import.meta.dirname, "../../systemd/boundary-daemon.tmpfiles.conf"),
      "utf8",
    );
    expect(tmpfiles.split("\n").filter((line) => line.includes("/run/"))).toEqual([
      "d /run/boundary-daemon-worker 2750 boundary-worker boundary -",
      "d /run/boundary-daemon-egress 0755 root root -",
      "d /run/boundary-daemon-egress/daemon 2750 boundary-egress boundary -",
      "d /run/boundary-daemon-egress/runs 2750 boundary-egress boundary-worker -",
    ]);
  });

  test.each([
    [[], "--socket"],
    [CALL.slice(1), "--socket"],
    [[...CALL, "--socket=run/x"], "--socket"],
    [[...CALL, "--runs=/run/../x"], "--runs"],
    [[...CALL, "--runs=/run/b/d"], "another directory"],
    [[...CALL, "--daemon-user=b"], "--daemon-uid"],
    [[...CALL, "--daemon-uid=-1"], "--daemon-uid"],
    [CALL.slice(0, 3), "--worker-uid"],
    [[...CALL, "--more"], "--more"],
    [[...CALL, "more"], "more"],
  ])("%j is a mistake, and said", (argv, word) => {
    const command = parseServiceCommand(argv);
    expect(command).toMatchObject({ kind: "usage", why: expect.stringContaining(word) });
  });

  test("help, a mistake, a user that is nobody, and root have their exit codes", () => {
    const run = (args: readonly string[], as = asEgress) => {
      const main = egressCommand(place()).slice(0, 3);
      const [command = "", ...rest] = as([...main, ...args]);
      return spawnSync(command, rest, { encoding: "utf8", cwd: "/", env: {} });
    };
    expect(run(["--help"])).toMatchObject({ status: 0, stdout: expect.stringContaining("Usage:") });
    expect(run(["--nonsense"])).toMatchObject({ status: 2, stderr: expect.stringContaining("Usage:") });
    const nobody = run([...CALL.slice(0, 2), "--daemon-user=no-such-user", "--worker-uid=1"]);
    expect(nobody).toMatchObject({ status: 3, stderr: expect.stringContaining("no-such-user") });
    if (!ROOT) return;
    expect(run(CALL, (command) => command)).toMatchObject({
      status: 3,
      stderr: expect.stringContaining("root"),
    });
  });
});

describe("boundary-egress.service", () => {
  const unit = readUnit("boundary-egress.service");
  const values = (key: string) => valuesOf(unit, "Service", key);

  test("is a user of its own without any right, a member of nothing, and the only one of ours that any host is open to", () => {
    expect([values("User"), values("Group")]).toEqual([["boundary-egress"], ["boundary-egress"]]);
    expect([values("CapabilityBoundingSet"), values("AmbientCapabilities")]).toEqual([[""], [""]]);
    expect([values("NoNewPrivileges"), values("SupplementaryGroups")]).toEqual([["yes"], []]);
    expect([values("IPAddressDeny"), values("PrivateNetwork")]).toEqual([[], []]);
    const sysusers = readFileSync(
      join(import.meta.dirname, "../../systemd/boundary-daemon.sysusers.conf"),
      "utf8",
    );
    expect(sysusers).toMatch(/^u boundary-egress - /m);
    expect(sysusers).not.toMatch(/^m boundary-egress /m);
  });

  test("comes and goes with the daemon, whose directory its sockets are in, and is installed and upgraded with it", () => {
    for (const key of ["After", "BindsTo"])
      expect(valuesOf(unit, "Unit", key)).toEqual(["boundary-daemon.service"]);
    const script = readFileSync(join(import.meta.dirname, "../../systemd/install.sh"), "utf8");
    expect(script).toMatch(/^units='.*boundary-egress\.service.*'$/m);
    expect(script).toMatch(/for unit in .*boundary-egress\.service.* boundary-daemon\.service; do/);
  });
});

describe.skipIf(!ROOT)("the process (needs root)", { timeout: 60_000 }, () => {
  test("listens for the daemon alone, and in the groups of its directories", async () => {
    const { base, socket, text } = await started();
    const { way } = await doorTo(base, {});
    for (const [path, group] of [
      [socket, process.getgid?.() ?? 0],
      [way.path, WORKER_UID],
    ] as const) {
      const { mode, uid, gid } = statSync(path);
      expect([(mode & 0o7777).toString(8), uid, gid]).toEqual(["660", EGRESS_UID, group]);
    }
    expect(await told(asWho(asEgress, TELL, socket, '"x"'))).toMatch(UNREAD);
    await expect.poll(text).toContain(`user ${EGRESS_UID} is not the daemon`);
    expect(await told(asWho(asWorker, TELL, socket, '"x"'))).toBe("EACCES\n");
  });

  test("reads the worker's user alone at a run's socket", async () => {
    const { base } = await started();
    const { way, log } = await doorTo(base, { allow: [] });
    const get = JSON.stringify(
      "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n",
    );
    expect(await told(asWho(asEgress, TELL, way.path, get))).toMatch(UNREAD);
    expect(await told(asWho((command) => command, TELL, way.path, get))).toMatch(UNREAD);
    expect(log).toEqual([]);
    expect(await told(asWho(asWorker, TELL, way.path, get))).toMatch(/^HTTP\/1\.1 403 .*egress-denied/s);
    expect(log).toMatchObject([{ kind: "egress.refused", data: { run: RUN, host: "a.example" } }]);
  });

  describe("connects", () => {
    let origin: Origin;
    beforeAll(async () => {
      origin = await startTlsOrigin(certificates.server, (socket) => {
        const timer = setInterval(() => socket.write("slowly\n"), 20);
        socket.on("close", () => clearInterval(timer));
        socket.resume();
      });
    });
    afterAll(() => origin.stop());
    const setup = async (policy?: (host: string) => EgressVerdict) => {
      const made = await started();
      const listed = { allow: [`127.0.0.1:${origin.port}`], addresses: ["127.0.0.1"] };
      const opened = await doorTo(made.base, listed, policy);
      const lines: string[] = [];
      const begin = () => {
        const child = asWho(asWorker, SECURE, opened.way.path, `127.0.0.1:${origin.port}`, certificates.ca);
        child.stdout?.on("data", (chunk: Buffer) => lines.push(...chunk.toString().trim().split("\n")));
        const over = new Promise((resolve) => child.once("close", resolve));
        stops.push(() => child.kill("SIGKILL"));
        return over;
      };
      return { ...made, ...opened, lines, begin };
    };

    test("where the daemon lets it, on record before, and not where policy says no", async () => {
      const on = await setup();
      void on.begin();
      await expect.poll(() => on.lines).toContain("slowly");
      expect(on.log).toMatchObject([
        { kind: "egress.opened", data: { run: RUN, way: "tls", host: "127.0.0.1", decision: 7 } },
      ]);
      const off = await setup(() => ({ allow: false, why: "no", seq: -1 }));
      await off.begin();
      expect(off.lines).toEqual(["403"]);
      expect(off.log).toMatchObject([
        { kind: "egress.refused", data: { code: "egress-denied", why: "policy: no" } },
      ]);
    });

    test.each([
      ["the run ends", "over", (on: Awaited<ReturnType<typeof setup>>) => void on.way.end("over")],
      [
        "the mode takes the network away",
        "mode AIRGAP",
        (on: Awaited<ReturnType<typeof setup>>) => on.door.endAll("mode AIRGAP"),
      ],
      ["the daemon is gone", "the daemon stops", (on: Awaited<ReturnType<typeof setup>>) => on.door.stop()],
    ])("and lets go of it when %s", async (_what, why, end) => {
      const on = await setup();
      const over = on.begin();
      await expect.poll(() => on.lines).toContain("slowly");
      const before = origin.sockets.size;
      end(on);
      await over;
      expect(on.lines.at(-1)).toBe("closed");
      await expect.poll(() => readdirSync(on.runs)).toEqual([]);
      await expect
        .poll(() => on.log.at(-1))
        .toMatchObject({ kind: "egress.closed", data: { opened: 101, why } });
      expect(before).toBeGreaterThan(0);
    });

    test("and lets go of it in that turn when the daemon's end is closed without a word", async () => {
      const made = await started();
      const line = connect({ path: made.socket });
      const reader = createFrameReader();
      const say = (message: object): void => void line.write(renderFrame(message));
      line.on("data", (chunk: Buffer) => {
        for (const read of reader.push(chunk)) {
          const { kind, n } = (read.ok ? read.value : {}) as { kind: string; n: number };
          if (kind === "ask") say({ kind: "answer", id: RUN, n, allow: true, why: "" });
          if (kind === "record") say({ kind: "recorded", id: RUN, n, durable: true });
        }
      });
      const listed = { allow: [`127.0.0.1:${origin.port}`], addresses: ["127.0.0.1"] };
      say({ kind: "hello", settings: settingsIn(ConfigSchema.parse({ egress: listed }).egress) });
      say({
        kind: "open",
        id: RUN,
        lists: { global: listed.allow, project: null, blueprint: null, session: null },
      });
      const path = join(made.runs, `${RUN}.sock`);
      await expect.poll(() => existsSync(path)).toBe(true);
      const client = asWho(asWorker, SECURE, path, `127.0.0.1:${origin.port}`, certificates.ca);
      stops.push(() => client.kill("SIGKILL"));
      const all = told(client);
      await new Promise((resolve) => client.stdout?.once("data", resolve));
      line.destroy();
      expect(await all).toMatch(/slowly.*closed\n$/s);
      await expect.poll(() => readdirSync(made.runs)).toEqual([]);
    });
  });

  describe("hears a daemon that does not keep to the protocol, and ends the connection", () => {
    const HELLO = { kind: "hello", settings: settingsIn(ConfigSchema.parse({}).egress) };
    const OPEN = {
      kind: "open",
      id: RUN,
      lists: { global: [], project: null, blueprint: null, session: null },
    };
    async function talk(path: string, messages: readonly (object | Buffer)[]) {
      const socket: Socket = connect({ path });
      const heard: unknown[] = [];
      const reader = createFrameReader();
      socket.on("error", () => undefined);
      socket.on("data", (chunk: Buffer) => heard.push(...reader.push(chunk)));
      const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
      for (const message of messages) socket.write(Buffer.isBuffer(message) ? message : renderFrame(message));
      return { socket, heard, closed };
    }

    test.each([
      ["open before hello", [OPEN]],
      ["two hellos", [HELLO, HELLO]],
      ["a run that is open again", [HELLO, OPEN, OPEN]],
      ["garbage", [HELLO, Buffer.from([0, 0, 0, 1, 0xff])]],
      ["a frame without end", [Buffer.from([0xff, 0xff, 0xff, 0xff])]],
      ["a path for an id", [HELLO, { ...OPEN, id: "../../x" }]],
      ["settings that are none", [{ ...HELLO, settings: {}, more: 1 }]],
    ])("%s", async (_what, messages) => {
      const { socket, runs, text } = await started();
      const { closed } = await talk(socket, messages);
      await closed;
      await expect.poll(text).toContain("did not keep to the protocol");
      await expect.poll(() => readdirSync(runs)).toEqual([]);
      const again = await talk(socket, [HELLO]);
      await expect.poll(() => again.heard).toEqual([{ ok: true, value: { kind: "ready" } }]);
      again.socket.destroy();
    });

    test("one connection at a time, and the next when that is over", async () => {
      const { socket, text } = await started();
      const first = await talk(socket, [HELLO]);
      await expect.poll(() => first.heard.length).toBe(1);
      const second = await talk(socket, [HELLO]);
      await second.closed;
      expect(second.heard).toEqual([]);
      await expect.poll(text).toContain("connected already");
      first.socket.destroy();
      const third = await talk(socket, [HELLO]);
      await expect.poll(() => third.heard.length).toBe(1);
      third.socket.destroy();
    });

    test("what is said of runs that are over, or never were, is nothing", async () => {
      const { socket } = await started();
      const { heard, socket: line } = await talk(socket, [
        HELLO,
        { kind: "end", id: RUN, why: "" },
        { kind: "answer", id: RUN, n: 1, allow: true, why: "" },
        { kind: "recorded", id: RUN, n: 1, durable: true },
        OPEN,
        { kind: "recorded", id: RUN, n: 9, durable: true },
        { kind: "end", id: RUN, why: "over" },
        OPEN,
      ]);
      const kinds = () => heard.map((one) => (one as { value?: { kind: string } }).value?.kind);
      // the first was ended while it was being opened; an id is free again when that is told
      await expect.poll(kinds).toContain("ready");
      await expect.poll(() => kinds().includes("refused") || line.destroyed).toBe(true);
      line.destroy();
    });
  });

  test("what a killed one left is taken away by the next; SIGTERM leaves nothing", async () => {
    const base = place();
    const first = await startEgressProcess(base);
    stops.push(first.stop);
    await doorTo(base, {});
    first.signal("SIGKILL");
    await first.exited;
    expect(readdirSync(first.runs)).toEqual([`${RUN}.sock`]);
    writeFileSync(join(first.runs, "kept"), "");
    const second = await startEgressProcess(base);
    expect(readdirSync(second.runs)).toEqual(["kept"]);
    second.signal("SIGTERM");
    expect(await second.exited).toBe(0);
    expect(existsSync(second.socket)).toBe(false);
  });

  test("a directory that others may write is not used", () => {
    const base = place();
    egressDirectories(base);
    chmodSync(join(base, "daemon"), 0o777);
    const [command = "", ...rest] = asEgress(egressCommand(base));
    const ran = spawnSync(command, rest, { encoding: "utf8", cwd: "/", env: {}, timeout: 10_000 });
    expect(ran).toMatchObject({ status: 3, stderr: expect.stringContaining("/daemon") });
  });

  test.skipIf(systemdVersion() === null || !isOnHost("strace"))(
    "its unit lets through every system call and address family of it (needs strace and systemd)",
    async () => {
      const trace = join(directory, "trace");
      const origin = await startTlsOrigin(certificates.server, (socket) => socket.end("hello\n"));
      stops.push(origin.stop);
      const made = await started(["/usr/bin/strace", "-D", "-f", "-qq", "-o", trace]);
      const listed = {
        allow: [`127.0.0.1:${origin.port}`, "a.example"],
        addresses: ["127.0.0.1"],
        resolvers: ["127.0.0.1:9"],
      };
      const { way } = await doorTo(made.base, { ...listed, limits: { resolveMs: 200 } });
      const target = `127.0.0.1:${origin.port}`;
      expect(await told(asWho(asWorker, SECURE, way.path, target, certificates.ca))).toContain("hello");
      expect(await told(asWho(asWorker, SECURE, way.path, "a.example:443", certificates.ca))).toBe("502\n");
      await way.end("over");
      await made.stop();
      const all = readFileSync(trace, "utf8");
      const text = all.slice(all.lastIndexOf(" execve(")); // before that it was setpriv
      const calls = new Set([...text.matchAll(/^\d+ +([a-z_0-9]+)\(/gm)].map((hit) => hit[1] ?? ""));
      const families = new Set([...text.matchAll(/ socket\((AF_[A-Z0-9]+)/g)].map((hit) => hit[1] ?? ""));
      const unit = readUnit("boundary-egress.service");
      const allowed = allowedCalls(unit);
      expect(calls).toContain("connect");
      expect([...calls].filter((name) => !allowed.has(name))).toEqual([]);
      const may = valuesOf(unit, "Service", "RestrictAddressFamilies").join(" ").split(" ");
      expect(families).toContain("AF_INET");
      expect([...families].filter((name) => !may.includes(name))).toEqual([]);
    },
  );
});
