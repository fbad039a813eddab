import { spawn } from "node:child_process";
import {
  appendFileSync,
  chmodSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import type { LogRecord } from "../../daemon/audit/record.ts";
import { recordOf } from "../audit/fixture.ts";
import { boundaryctl } from "../support/boundaryctl.ts";
import type { DaemonHome } from "../support/daemon-process.ts";
import { daemonsOfTest } from "../support/daemons-of-test.ts";
import { delay } from "../support/packets.ts";

/** The audit stream of the real daemon, log-only. */
const BOUNDARYCTL = fileURLToPath(new URL("../../cli/main.ts", import.meta.url));
const { home: homeWith, start, connect, statusOf, disconnect } = daemonsOfTest();

const QUICK = {
  initialMode: "RESTRICTED",
  enforcement: { heartbeatMs: 50 },
  ceremony: { coolDownMs: 0, requireTerminal: false },
};

function home(config: object = QUICK): DaemonHome {
  return homeWith(config);
}

const MARKER = "marker-of-contents";
const question = {
  action: { name: "recall" },
  resource: { type: "memory", id: MARKER, properties: { class: "INTERNAL" } },
} as const;

/** Asks until the connection ends. */
async function flood(at: DaemonHome): Promise<void> {
  const client = await connect(at);
  for (;;) await client.call("check", question);
}

const streamDir = (at: DaemonHome) => join(at.logDir, "audit");
const vkeyIn = (stateDir: string) => readFileSync(join(stateDir, "log.vkey"), "utf8").trim();
const json = (run: { stdout: string }) => JSON.parse(run.stdout) as Record<string, unknown>;

function streamFiles(at: DaemonHome): readonly string[] {
  return readdirSync(streamDir(at))
    .filter((name) => name.endsWith(".jsonl"))
    .toSorted();
}

function streamText(at: DaemonHome): string {
  return streamFiles(at)
    .map((name) => readFileSync(join(streamDir(at), name), "utf8"))
    .join("");
}

const streamRecords = (at: DaemonHome): readonly LogRecord[] =>
  streamText(at).split("\n").slice(0, -1).map(recordOf);

async function compare(at: DaemonHome, stream = streamDir(at), core = at.logDir) {
  const key = vkeyIn(join(at.stateDir, "audit"));
  const coreKey = vkeyIn(at.stateDir);
  const keys = ["--key", key, "--core-key", coreKey];
  const ran = await boundaryctl(["audit", "compare", stream, "--core", core, ...keys, "--json"]);
  return { code: ran.code, told: json(ran) };
}

/** The stream's control, once it is as it is to be. */
async function streamIs(at: DaemonHome, state: string): Promise<string> {
  const control = async () => (await statusOf(at)).controls.find(({ name }) => name === "audit stream");
  await expect.poll(async () => (await control())?.state, { timeout: 10_000 }).toBe(state);
  return (await control())?.detail ?? "";
}

const SAME = { code: 0, told: expect.objectContaining({ same: true, difference: null, ahead: 0 }) };

describe("the audit stream", () => {
  test("covers the whole core log by a clean stop, and nothing of what is in it", async () => {
    const at = home();
    const daemon = await start(at);
    const client = await connect(at);
    for (let n = 0; n < 50; n++) await client.call("check", question);
    await client.call("mode.set", { mode: "AIRGAP", reason: MARKER });
    expect((await daemon.stop()).code).toBe(0);
    expect(readFileSync(join(at.logDir, "00000000000000000000.jsonl"), "utf8")).toContain(MARKER);
    expect(streamText(at)).not.toContain(MARKER);
    expect(await compare(at)).toMatchObject(SAME);
    const kinds = new Set(streamRecords(at).map(({ kind }) => kind));
    expect([...kinds].toSorted()).toEqual(["audit.core", "audit.span", "log.genesis", "seal"]);
  });

  test("is a log of its own, with its own key, head and permissions, that verifies by itself", async () => {
    const at = home();
    const daemon = await start(at);
    await streamIs(at, "enforced");
    await daemon.stop();
    const state = join(at.stateDir, "audit");
    expect(vkeyIn(state)).not.toBe(vkeyIn(at.stateDir));
    const mode = (path: string) => (statSync(path).mode & 0o777).toString(8);
    const file = join(streamDir(at), streamFiles(at)[0] ?? "");
    const paths = [streamDir(at), state, file, join(state, "log.key"), join(state, "log.head")];
    expect(paths.map(mode)).toEqual(["700", "700", "600", "600", "600"]);
    const verdict = await boundaryctl(["verify-log", streamDir(at), "--key", vkeyIn(state), "--json"]);
    expect(json(verdict)).toMatchObject({ verdict: "sound" });
    const core = await boundaryctl(["verify-log", at.logDir, "--key", vkeyIn(at.stateDir), "--json"]);
    expect(json(core)).toMatchObject({ verdict: "sound" });
  });

  test("a tick is a write at most, and nothing happening is none", async () => {
    const at = home({ ...QUICK, enforcement: { heartbeatMs: 200 } });
    const daemon = await start(at);
    await streamIs(at, "enforced");
    await (await connect(at)).call("check", question); // waits for the policies
    const begunMs = performance.now();
    const before = streamRecords(at).length;
    const load = flood(at).catch(() => undefined);
    await delay(2_000);
    const spans = streamRecords(at).filter(({ kind }) => kind === "seal").length - before;
    expect(spans).toBeGreaterThan(3);
    expect(spans).toBeLessThanOrEqual((performance.now() - begunMs) / 200 + 1);
    disconnect();
    await load;
    await delay(500);
    const idle = streamText(at).length;
    await delay(1_000);
    expect(streamText(at).length).toBe(idle);
    await daemon.stop();
    expect(await compare(at)).toMatchObject(SAME);
  });

  test("killed under load, again and again, it goes on exactly where it ended", async () => {
    const at = home({ ...QUICK, log: { segmentBytes: 65_536 } });
    for (let round = 0; round < 6; round++) {
      const daemon = await start(at);
      const load = Promise.allSettled([flood(at), flood(at), flood(at)]);
      await delay(150 + round * 83);
      await daemon.kill();
      await load;
    }
    const daemon = await start(at);
    await streamIs(at, "enforced");
    await daemon.stop();
    expect(await compare(at)).toMatchObject(SAME);
    expect(streamRecords(at).filter(({ kind }) => kind === "audit.core")).toHaveLength(1);
    expect(streamFiles(at).length).toBeGreaterThan(0);
  });

  test("made anew when it is lost: from the core log, which says so", async () => {
    const at = home();
    await (await start(at)).stop();
    rmSync(streamDir(at), { recursive: true });
    rmSync(join(at.stateDir, "audit"), { recursive: true });
    const daemon = await start(at);
    await streamIs(at, "enforced");
    await daemon.stop();
    expect(await compare(at)).toMatchObject(SAME);
    const core = readFileSync(join(at.logDir, "00000000000000000000.jsonl"), "utf8");
    const began = core
      .split("\n")
      .slice(0, -1)
      .map(recordOf)
      .filter(({ kind }) => kind === "audit.began");
    expect(began.map(({ data }) => data["why"])).toEqual(["first", "first"]);
    expect(began.at(-1)?.data["key"]).toBe(vkeyIn(join(at.stateDir, "audit")));
  });

  test("is made from a log of many segments, with a key of its own after each rotation", async () => {
    const at = home({ ...QUICK, log: { segmentBytes: 8_192 } });
    const first = await start(at);
    const client = await connect(at);
    for (let n = 0; n < 400; n++) await client.call("check", question);
    await first.stop();
    for (const path of [streamDir(at), join(at.stateDir, "audit")]) rmSync(path, { recursive: true });
    const daemon = await start(at);
    await streamIs(at, "enforced");
    await daemon.stop();
    expect(readdirSync(at.logDir).filter((name) => name.endsWith(".jsonl")).length).toBeGreaterThan(5);
    expect(await compare(at)).toMatchObject(SAME);
  });

  test("a core log that was moved aside begins again at 0, and both can be compared", async () => {
    const at = home();
    await (await start(at)).stop();
    truncateSync(join(at.logDir, "00000000000000000000.jsonl"), 2_000);
    const daemon = await start(at);
    await streamIs(at, "enforced");
    expect((await statusOf(at)).mode.wanted).toBe("LOCKDOWN");
    await daemon.stop();
    expect(await compare(at)).toMatchObject(SAME);
    const cores = streamRecords(at).filter(({ kind }) => kind === "audit.core");
    expect(cores.map(({ data }) => data["from"])).toEqual([0, 0]);
    expect(cores[0]?.data["began"]).not.toBe(cores[1]?.data["began"]);
    const aside = readdirSync(at.logDir).find((name) => name.startsWith("broken-")) ?? "";
    // the old one was cut: the stream has seen more of it
    const { code, told } = await compare(at, streamDir(at), join(at.logDir, aside));
    expect(code).toBe(1);
    expect(told).toMatchObject({
      same: false,
      difference: { what: expect.stringContaining("ends at record") },
    });
  });

  test("a core log that was moved aside while the stream could not be opened is told from the one before", async () => {
    const at = home();
    await (await start(at)).stop();
    truncateSync(join(at.logDir, "00000000000000000000.jsonl"), 2_000);
    chmodSync(streamDir(at), 0o777);
    const blind = await start(at);
    await streamIs(at, "failed");
    const client = await connect(at);
    for (let n = 0; n < 100; n++) await client.call("check", question);
    await blind.stop();
    chmodSync(streamDir(at), 0o700);
    const daemon = await start(at);
    await streamIs(at, "enforced");
    await daemon.stop();
    expect(await compare(at)).toMatchObject(SAME);
    const cores = streamRecords(at).filter(({ kind }) => kind === "audit.core");
    expect(cores.map(({ data }) => data["from"])).toEqual([0, 0]);
  });

  test("changed by somebody while the daemon was stopped, it is moved aside, told, and no LOCKDOWN", async () => {
    const at = home();
    await (await start(at)).stop();
    const file = join(streamDir(at), streamFiles(at)[0] ?? "");
    const bytes = readFileSync(file);
    bytes[700] = (bytes[700] ?? 0) ^ 1;
    writeFileSync(file, bytes);
    const daemon = await start(at);
    await streamIs(at, "enforced");
    expect((await statusOf(at)).mode.wanted).toBe("RESTRICTED");
    await daemon.stop();
    expect(readdirSync(streamDir(at)).some((name) => name.startsWith("broken-"))).toBe(true);
    expect(await compare(at)).toMatchObject(SAME);
    const core = readFileSync(join(at.logDir, "00000000000000000000.jsonl"), "utf8");
    const noted = core
      .split("\n")
      .slice(0, -1)
      .map(recordOf)
      .filter(({ kind, data }) => kind === "tripwire.noted" && data["tripwire"] !== "selftest");
    expect(noted.map(({ data }) => data["tripwire"])).toContain("own-audit-stream");
    expect(core).toContain('"why":"broken"');
  });

  test.each([
    ["cut", (file: string) => truncateSync(file, 100)],
    ["written to", (file: string) => appendFileSync(file, "{}\n")],
    ["removed", (file: string) => rmSync(file)],
  ])("%s by somebody while the daemon runs: told, shown, and decisions go on", async (_name, harm) => {
    const at = home();
    await start(at);
    await streamIs(at, "enforced");
    harm(join(streamDir(at), streamFiles(at)[0] ?? ""));
    await streamIs(at, "failed");
    const client = await connect(at);
    const decided = await client.call("check", question);
    expect(decided.ok && decided.data.decision).toBe(true);
    expect((await statusOf(at)).mode.wanted).toBe("RESTRICTED");
    const events = await client.call("events.list", {});
    const noted = (events.ok ? events.data.events : []).filter(
      ({ kind, data }) => kind === "tripwire.noted" && Reflect.get(data, "tripwire") !== "selftest",
    );
    expect(noted).toMatchObject([{ data: { tripwire: "own-audit-stream", facts: { log: "audit" } } }]);
  });

  test("that cannot be opened holds up neither start, decisions nor stop", async () => {
    const at = home();
    await (await start(at)).stop();
    chmodSync(streamDir(at), 0o777);
    const daemon = await start(at);
    expect(await streamIs(at, "failed")).toContain("audit");
    const client = await connect(at);
    const decided = await client.call("check", question);
    expect(decided.ok && decided.data.decision).toBe(true);
    const head = await client.call("audit.head", {});
    expect(!head.ok && head.problem.code).toBe("log-unavailable");
    expect((await daemon.stop()).code).toBe(0);
  });

  test("beside nothing else left of a log, it is a trace: no first start", async () => {
    const at = home();
    await (await start(at)).stop();
    rmSync(join(at.logDir, "00000000000000000000.jsonl"));
    for (const name of readdirSync(at.stateDir).filter((each) => each !== "audit"))
      rmSync(join(at.stateDir, name), { recursive: true });
    await start(at);
    expect((await statusOf(at)).mode).toMatchObject({
      wanted: "LOCKDOWN",
      cause: expect.stringContaining("but not audit"),
    });
  });
});

describe("compare", () => {
  test("finds a changed stream, a changed log, and arguments that are missing", async () => {
    const at = home();
    const daemon = await start(at);
    const client = await connect(at);
    for (let n = 0; n < 20; n++) await client.call("check", question);
    await daemon.stop();
    const copies = join(at.path, "copies");
    mkdirSync(copies);
    cpSync(streamDir(at), join(copies, "stream"), { recursive: true });
    cpSync(at.logDir, join(copies, "core"), { recursive: true });
    expect(await compare(at, join(copies, "stream"), join(copies, "core"))).toMatchObject(SAME);
    change(join(copies, "stream", streamFiles(at)[0] ?? ""), '"decision"', '"decisiom"');
    expect(await compare(at, join(copies, "stream"), join(copies, "core"))).toMatchObject({
      code: 1,
      told: { same: false, stream: { verdict: "broken" }, difference: { core: expect.any(Number) } },
    });
    change(join(copies, "core", "00000000000000000000.jsonl"), MARKER, "marker-of-c0ntents");
    expect(await compare(at, streamDir(at), join(copies, "core"))).toMatchObject({
      code: 1,
      told: { same: false, core: { verdict: "broken" } },
    });
    expect((await boundaryctl(["audit", "compare", streamDir(at)])).code).toBe(2);
  });
});

function change(file: string, from: string, to: string): void {
  writeFileSync(file, readFileSync(file, "utf8").replace(from, to));
}

describe("fetch", () => {
  test("makes a copy that is the stream byte for byte, and goes on where it ended", async () => {
    const at = home({ ...QUICK, log: { segmentBytes: 4_096 } });
    const daemon = await start(at);
    await streamIs(at, "enforced");
    const copy = join(at.path, "copy");
    const fetch = () => boundaryctl(["audit", "fetch", copy, "--runtime-dir", at.runtimeDir, "--json"]);
    const client = await connect(at);
    expect(json(await fetch())).toMatchObject({ from: 0 });
    for (let round = 0; round < 12; round++) {
      for (let n = 0; n < 20; n++) await client.call("check", question);
      await delay(60);
    }
    const last = readdirSync(copy).toSorted().at(-1) ?? "";
    appendFileSync(join(copy, last), '{"at":"a piece of'); // as a fetch that was broken off leaves it
    const more = json(await fetch());
    expect(more["from"]).toBeGreaterThan(0);
    expect(json(await fetch())).toMatchObject({ from: more["next"] });
    const files = readdirSync(copy).toSorted();
    expect(files.length).toBeGreaterThan(2);
    for (const name of files) {
      const own = readFileSync(join(streamDir(at), name));
      const got = readFileSync(join(copy, name));
      expect(own.subarray(0, got.length).equals(got)).toBe(true);
    }
    const head = json(await boundaryctl(["audit", "head", "--runtime-dir", at.runtimeDir, "--json"]));
    const verified = await boundaryctl(["verify-log", copy, "--key", String(head["vkey"]), "--json"]);
    expect(json(verified)).toMatchObject({ verdict: "sound", records: more["next"] });
    const listed = await boundaryctl(["audit", "list", "--from", "0", "--runtime-dir", at.runtimeDir]);
    expect(listed.stdout).toMatch(
      /#1 {2}audit\.core {2}from record 0.*\n.*#2 {2}audit\.span {2}records 0 to /,
    );
    await daemon.stop();
  });

  test("into a copy of another stream is refused", async () => {
    const [one, two] = [home(), home()];
    const copy = join(one.path, "copy");
    for (const at of [one, two]) {
      await start(at);
      await streamIs(at, "enforced");
    }
    const fetch = (at: DaemonHome) => boundaryctl(["audit", "fetch", copy, "--runtime-dir", at.runtimeDir]);
    expect((await fetch(one)).code).toBe(0);
    expect(await fetch(two)).toMatchObject({ code: 1, stderr: expect.stringContaining("another log") });
  });
});

describe.skipIf(process.getuid?.() !== 0)("an auditor", () => {
  const AUDITOR = 65_533;
  const CALLERS = 65_531;

  const asAuditor = (
    at: DaemonHome,
    ...args: string[]
  ): Promise<{ code: number | null; stdout: string; stderr: string }> => {
    const ids = [`--reuid=${AUDITOR}`, `--regid=${CALLERS}`, "--clear-groups"];
    const child = spawn(
      "/usr/bin/setpriv",
      [...ids, process.execPath, BOUNDARYCTL, ...args, "--runtime-dir", at.runtimeDir],
      { stdio: ["ignore", "pipe", "pipe"] },
    );
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (text: Buffer) => {
      stdout += text.toString();
    });
    child.stderr.on("data", (text: Buffer) => {
      stderr += text.toString();
    });
    return new Promise((resolve) => child.on("close", (code) => resolve({ code, stdout, stderr })));
  };

  test("reads the stream and the keys, and is refused everything else, by name", async () => {
    const at = home({
      ...QUICK,
      roles: { operator: { groups: [] }, auditor: { users: [AUDITOR] } },
      socket: { group: CALLERS },
    });
    await start(at);
    await streamIs(at, "enforced");
    expect((await asAuditor(at, "audit", "head")).code).toBe(0);
    expect((await asAuditor(at, "audit", "list")).stdout).toContain("audit.span");
    expect((await asAuditor(at, "key", "show")).code).toBe(0);
    const refusals: readonly (readonly string[])[] = [
      ["status"],
      ["events"],
      ["watch"],
      ["tripwire", "list"],
      ["check", "recall", "x", "--class", "PUBLIC"],
      ["mode", "set", "lockdown", "--reason", "x"],
      ["ceremony", "begin", "--reason", "x"],
      ["log", "prune"],
      ["clock", "clear", "--reason", "x"],
    ];
    for (const args of refusals) {
      const refused = await asAuditor(at, ...args);
      expect({ args, code: refused.code, told: refused.stderr.includes("role-required") }).toEqual({
        args,
        code: 1,
        told: true,
      });
    }
    expect((await statusOf(at)).mode.wanted).toBe("RESTRICTED");
  });

  test("is nobody by being in the socket's group; a reader and an operator are no auditors", async () => {
    const at = home({
      ...QUICK,
      roles: { operator: { users: [AUDITOR], groups: [] } },
      socket: { group: CALLERS },
    });
    const daemon = await start(at);
    await streamIs(at, "enforced");
    expect((await asAuditor(at, "status")).code).toBe(0);
    const refused = await asAuditor(at, "audit", "list");
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining("role-required") });
    await daemon.stop();
    writeFileSync(
      at.configFile,
      JSON.stringify({ ...QUICK, roles: { operator: { groups: [] } }, socket: { group: CALLERS } }),
    );
    await start(at);
    for (const args of [["status"], ["audit", "head"], ["key", "show"]]) {
      const none = await asAuditor(at, ...args);
      expect(none).toMatchObject({ code: 1, stderr: expect.stringContaining("role-required") });
    }
  });
});
