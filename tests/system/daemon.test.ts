import { spawn } from "node:child_process";
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { createClock } from "../../daemon/adapters/clock.ts";
import { openHeadFile } from "../../daemon/adapters/head-file.ts";
import { prepareStateDirectory } from "../../daemon/adapters/keys.ts";
import { createSegment, prepareLogDirectory, segmentName } from "../../daemon/adapters/log-file.ts";
import { emptyTail, openLog } from "../../daemon/audit/log.ts";
import type { LogRecord } from "../../daemon/audit/record.ts";
import { linesOf, recordOf } from "../audit/fixture.ts";
import { boundaryctl } from "../support/boundaryctl.ts";
import { type DaemonHome, startDaemon } from "../support/daemon-process.ts";
import { daemonsOfTest } from "../support/daemons-of-test.ts";
import { ringIn } from "../support/key-ring.ts";
import { delay } from "../support/packets.ts";

/** The real daemon as its own process, log-only: what holds without privilege. */
const BOUNDARYCTL = fileURLToPath(new URL("../../cli/main.ts", import.meta.url));
const { home: homeWith, start, connect, statusOf } = daemonsOfTest();

function home(
  config: object | string = {
    initialMode: "RESTRICTED",
    ceremony: { coolDownMs: 0, requireTerminal: false },
  },
): DaemonHome {
  return homeWith(config);
}

const recordsOf = (at: DaemonHome): LogRecord[] => linesOf(at.logDir).map(recordOf);
const segmentOf = (at: DaemonHome): string => join(at.logDir, segmentName(0));

describe("a start", () => {
  test("after a clean stop takes the mode up again, and says in the log what changed meanwhile", async () => {
    const at = home();
    await (await start(at)).stop();
    const again = await start(at, "--mode", "open");
    expect((await statusOf(at)).mode).toMatchObject({
      wanted: "RESTRICTED",
      cause: expect.stringContaining("resumed"),
    });
    expect(recordsOf(at).filter((record) => record.kind === "gap")).toMatchObject([
      { data: { ended: "clean", count: 0 } },
    ]);
    await again.stop();
  });

  test("after kill -9 is LOCKDOWN, whatever the command line asks for", async () => {
    const at = home();
    await (await start(at)).kill();
    await start(at, "--mode", "open");
    expect((await statusOf(at)).mode).toMatchObject({
      wanted: "LOCKDOWN",
      cause: expect.stringMatching(/^crash/),
    });
  });

  const tampering: readonly (readonly [string, (at: DaemonHome) => void, RegExp])[] = [
    ["a log with a changed byte", (at) => flip(segmentOf(at), 700), /tampered/],
    [
      "a log whose tail was cut",
      (at) => truncateSync(segmentOf(at), cutPoint(at)),
      /tampered: log-tampered: tail-cut/,
    ],
    ["a log that was removed", (at) => unlinkSync(segmentOf(at)), /tampered/],
    ["a log emptied", (at) => truncateSync(segmentOf(at), 0), /tampered/],
    [
      "a missing key",
      (at) => unlinkSync(join(at.stateDir, "log.key")),
      /tampered: log-tampered: the log's key is missing/,
    ],
    [
      "a missing remembered head",
      (at) => unlinkSync(join(at.stateDir, "log.head")),
      /unreadable: the remembered head is missing/,
    ],
    ["a missing log, key and head", removeSpine, /tampered: .* are missing, but not baseline\.json/],
    [
      "a missing log, key and head, where only evidence is left",
      (at) => {
        removeSpine(at);
        rmSync(join(at.stateDir, "baseline.json"));
        mkdirSync(join(at.logDir, "broken-20260102T030405.678Z"));
      },
      /tampered: .* but not broken-/,
    ],
    [
      "an unreadable remembered head",
      (at) => writeFileSync(join(at.stateDir, "log.head"), "nonsense"),
      /unreadable|tampered/,
    ],
  ];
  test.each(tampering)("on %s is LOCKDOWN, and keeps the evidence", async (_name, tamper, cause) => {
    const at = home();
    await (await start(at)).stop();
    tamper(at);
    const evidence = existsSync(segmentOf(at)) ? readFileSync(segmentOf(at)) : Buffer.alloc(0);
    await start(at, "--mode", "open");
    const { mode } = await statusOf(at);
    expect(mode.wanted).toBe("LOCKDOWN");
    expect(mode.cause).toMatch(cause);
    expect(keptIn(at.logDir).includes(evidence)).toBe(true);
  });

  test("with nothing left of an earlier one is a first start, also beside an empty key", async () => {
    const at = home();
    await (await start(at)).stop();
    removeSpine(at);
    rmSync(join(at.stateDir, "baseline.json"));
    writeFileSync(join(at.stateDir, "log.key"), "", { mode: 0o600 });
    await start(at);
    expect((await statusOf(at)).mode).toMatchObject({
      wanted: "RESTRICTED",
      cause: expect.stringMatching(/^initial/),
    });
  });

  test("beside an empty key and a log that was signed is refused", async () => {
    const at = home();
    await (await start(at)).stop();
    truncateSync(join(at.stateDir, "log.key"), 0);
    await expect(startDaemon(at)).rejects.toThrow(/key-unreadable/);
  });

  test.each([
    [
      "an hour ahead of ours, the clock was set back",
      3_600_000,
      0n,
      "another boot",
      /before the log's last record/,
    ],
    [
      "of this boot and a minute ago, by the wall clock alone",
      -60_000,
      0n,
      "this boot",
      /while the daemon was stopped/,
    ],
    ["of this boot and a minute ago, by both clocks", -60_000, -60_000_000_000n, "this boot", /^$/],
    ["of another boot and a minute ago", -60_000, 0n, "another boot", /^$/],
  ] as const)("after a last record that is %s", async (_name, wallMs, monoNs, boot, frozen) => {
    const at = home();
    await stoppedAt(at, { wallMs, monoNs, boot });
    await start(at);
    const { mode, frozen: why } = await statusOf(at);
    expect(mode.wanted).toBe("RESTRICTED");
    expect(why).toMatch(frozen);
  });

  test("after the head was deleted keeps the freeze", async () => {
    const at = home();
    await stoppedAt(at, { wallMs: 3_600_000, monoNs: 0n, boot: "another boot" });
    await (await start(at)).kill();
    unlinkSync(join(at.stateDir, "log.head"));
    await start(at);
    const { mode, frozen: why } = await statusOf(at);
    expect(mode.wanted).toBe("LOCKDOWN");
    expect(why).toMatch(/before the log's last record/);
  });

  test("on bytes after a clean stop is LOCKDOWN, and keeps them aside", async () => {
    const at = home();
    await (await start(at)).stop();
    appendFileSync(segmentOf(at), "not ours");
    await start(at);
    expect((await statusOf(at)).mode).toMatchObject({
      wanted: "LOCKDOWN",
      cause: expect.stringMatching(/^crash/),
    });
    const torn = readdirSync(at.logDir).filter((name) => name.startsWith("torn-"));
    expect(torn.map((name) => readFileSync(join(at.logDir, name), "utf8"))).toEqual(["not ours"]);
    expect(recordsOf(at).find((record) => record.kind === "log.recovered")?.data).toMatchObject({
      ended: "torn",
      bytes: 8,
    });
  });

  test("on a baseline that is not the signed one is LOCKDOWN", async () => {
    const at = home();
    await (await start(at)).stop();
    writeFileSync(join(at.stateDir, "baseline.json"), "[]");
    await start(at);
    expect((await statusOf(at)).mode.wanted).toBe("LOCKDOWN");
  });

  test("of a second daemon on the same socket, or on the same log, is refused, and the first goes on", async () => {
    const at = home();
    await start(at);
    await expect(startDaemon(at)).rejects.toThrow(/socket-in-use/);
    const elsewhere = { ...at, runtimeDir: join(at.path, "other-run") };
    await expect(startDaemon(elsewhere)).rejects.toThrow(/log-locked/);
    expect((await statusOf(at)).mode.wanted).toBe("RESTRICTED");
  });

  test("replaces a dead socket, and refuses what is no socket", async () => {
    const at = home();
    await (await start(at)).kill();
    expect(statSync(join(at.runtimeDir, "control.sock")).isSocket()).toBe(true);
    const daemon = await start(at);
    expect((await statusOf(at)).mode.wanted).toBe("LOCKDOWN");
    await daemon.stop();
    writeFileSync(join(at.runtimeDir, "control.sock"), "");
    await expect(startDaemon(at)).rejects.toThrow(/socket-unsafe/);
  });

  test.each([
    ["an unknown key", "initialMod: OPEN\n", /config\.yaml:1:1: initialMod: unknown key/],
    ["a wrong type", "log: { sealEveryMs: soon }\n", /config\.yaml:1:21: log\.sealEveryMs/],
    ["what is not YAML", "initialMode: [\n", /config\.yaml:\d+:\d+/],
  ])("with %s in the configuration ends with the line and column", async (_name, text, message) => {
    const at = home(text);
    await expect(startDaemon(at)).rejects.toThrow(message);
    await expect(startDaemon(at)).rejects.toThrow(/ended with 2/);
  });

  test("with a configuration that is not UTF-8 ends with a typed error", async () => {
    const at = home();
    writeFileSync(at.configFile, Buffer.from([0x69, 0xff, 0xfe]));
    await expect(startDaemon(at)).rejects.toThrow(/config-unreadable/);
  });

  test("in directories that others may write to is refused", async () => {
    const at = home();
    await (await start(at)).stop();
    chmodSync(at.logDir, 0o777);
    await expect(startDaemon(at)).rejects.toThrow(/log-unsafe/);
  });

  test("makes everything with its final permissions", async () => {
    const at = home();
    await start(at);
    const mode = (path: string) => (statSync(path).mode & 0o777).toString(8);
    expect({
      log: mode(at.logDir),
      segment: mode(segmentOf(at)),
      state: mode(at.stateDir),
      key: mode(join(at.stateDir, "log.key")),
      head: mode(join(at.stateDir, "log.head")),
      baseline: mode(join(at.stateDir, "baseline.json")),
    }).toEqual({ log: "700", segment: "600", state: "700", key: "600", head: "600", baseline: "600" });
  });
});

describe("a stop", () => {
  test.each([
    ["SIGTERM", "SIGTERM"],
    ["SIGTERM", "SIGINT"],
    ["SIGINT", "SIGTERM"],
  ] as const)("asked for by %s, and again by %s, is one clean stop", async (first, second) => {
    const at = home();
    const daemon = await start(at);
    daemon.signal(first);
    daemon.signal(second);
    expect((await daemon.stop()).code).toBe(0);
    expect(recordsOf(at).filter((record) => record.kind === "daemon.stopped")).toHaveLength(1);
    await start(at);
    expect((await statusOf(at)).mode.cause).toMatch(/^resumed/);
  });
});

describe("while it runs", () => {
  test("its own configuration changed is LOCKDOWN", async () => {
    const at = home();
    await start(at);
    appendFileSync(at.configFile, "# a comment\n");
    await expect.poll(async () => (await statusOf(at)).mode.wanted).toBe("LOCKDOWN");
    expect((await statusOf(at)).mode.cause).toContain("own-files");
  });

  test.each([
    ["cut", (at: DaemonHome) => truncateSync(segmentOf(at), 100)],
    ["written to by somebody else", (at: DaemonHome) => appendFileSync(segmentOf(at), "{}\n")],
    ["removed", (at: DaemonHome) => rmSync(segmentOf(at))],
  ])("its own log %s is LOCKDOWN", async (_name, tamper) => {
    const at = home();
    await start(at);
    await delay(100);
    tamper(at);
    await expect.poll(async () => (await statusOf(at)).mode.wanted).toBe("LOCKDOWN");
  });

  test("a ceremony takes the changes it was shown, or none", async () => {
    const at = home();
    await start(at);
    appendFileSync(at.configFile, "# a comment\n");
    await expect.poll(async () => (await statusOf(at)).mode.wanted).toBe("LOCKDOWN");
    const client = await connect(at);
    const begun = await client.call("ceremony.begin", { reason: "test" });
    const code = begun.ok ? begun.data.code : "";
    expect(begun.ok && begun.data.changes.join()).toContain("config.yaml modified");
    expect(await client.call("ceremony.confirm", { code })).toMatchObject({
      ok: false,
      problem: { code: "ceremony-changes" },
    });
    expect(await client.call("ceremony.confirm", { code, acceptChanges: true })).toMatchObject({
      ok: true,
      data: { wanted: "RESTRICTED" },
    });
    expect((await statusOf(at)).changedFiles).toEqual([]);
  });

  test("events are told live, once they are in the log", async () => {
    const at = home();
    await start(at);
    const watcher = await connect(at);
    const kinds: string[] = [];
    // what a start does beside the loop comes before or after, and what other tests do to the host
    const beside = ["audit.began", "selftest.done", "policy.loaded", "tripwire.noted"];
    watcher.onEvent(({ kind }) => beside.includes(kind) || kinds.push(kind));
    await watcher.call("events.subscribe", {});
    await (await connect(at)).call("mode.set", { mode: "AIRGAP", reason: "test" });
    await expect.poll(() => kinds).toEqual(["mode.changed", "mode.applied"]);
  });

  test("fifty callers at once each get their answer, each in the log once, in the order of the decisions", async () => {
    const at = home();
    const daemon = await start(at);
    const callers = await Promise.all(Array.from({ length: 50 }, () => connect(at)));
    const question = {
      action: { name: "recall" as const },
      resource: { type: "memory", id: "n", properties: { class: "PUBLIC" as const } },
    };
    const answers = await Promise.all(
      callers.flatMap((client) => Array.from({ length: 20 }, () => client.call("check", question))),
    );
    const seqs = answers.map((answer) => (answer.ok ? Number(answer.data.correlationId) : -1));
    expect(new Set(seqs).size).toBe(1_000);
    await daemon.stop();
    const logged = recordsOf(at).filter((record) => record.kind === "decision");
    expect(new Set(logged.map((record) => record.seq))).toEqual(new Set(seqs));
  });

  test("SIGTERM under load ends cleanly: what was answered is in the log, and the log verifies", async () => {
    const at = home();
    const daemon = await start(at);
    const client = await connect(at);
    const question = {
      action: { name: "recall" as const },
      resource: { type: "memory", id: "n", properties: { class: "PUBLIC" as const } },
    };
    const asked = Array.from({ length: 40 }, () => client.call("check", question).catch(() => null));
    const { code } = await daemon.stop();
    expect(code).toBe(0);
    const answered = (await Promise.all(asked)).flatMap((answer) =>
      answer?.ok && answer.data.decision ? [Number(answer.data.correlationId)] : [],
    );
    const logged = new Set(recordsOf(at).map((record) => record.seq));
    expect(answered.filter((seq) => !logged.has(seq))).toEqual([]);
    const verdict = await boundaryctl(["verify-log", at.logDir, "--key", await keyOf(at)]);
    expect(verdict).toMatchObject({ code: 0 });
  });
});

describe.skipIf(process.getuid?.() !== 0)("other users (needs root)", () => {
  const READERS = 65_534;
  const as = (
    uid: number,
    gid: number,
    at: DaemonHome,
    ...args: string[]
  ): Promise<{ code: number | null; stderr: string }> => {
    const setpriv = [
      `--reuid=${uid}`,
      `--regid=${gid}`,
      "--clear-groups",
      process.execPath,
      BOUNDARYCTL,
      ...args,
    ];
    const child = spawn("/usr/bin/setpriv", [...setpriv, "--runtime-dir", at.runtimeDir], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    let stderr = "";
    child.stderr.on("data", (text: Buffer) => {
      stderr += text.toString();
    });
    return new Promise((resolve) => child.on("close", (code) => resolve({ code, stderr })));
  };

  test("without a role cannot even connect; with a lesser one get a typed refusal, recorded once", async () => {
    const at = home({
      initialMode: "RESTRICTED",
      roles: { operator: { groups: [] }, readonly: { groups: [READERS] } },
    });
    const daemon = await start(at);
    expect((await as(65_533, 65_533, at, "status")).code).not.toBe(0);
    expect((await as(65_533, READERS, at, "status")).code).toBe(0);
    for (let i = 0; i < 3; i++) {
      const refused = await as(65_533, READERS, at, "mode", "set", "lockdown", "--reason", "x");
      expect(refused.code).toBe(1);
      expect(refused.stderr).toContain("role-required");
    }
    expect((await statusOf(at)).mode.wanted).toBe("RESTRICTED");
    await daemon.stop();
    expect(recordsOf(at).filter((record) => record.kind === "request.refused")).toHaveLength(1);
  });
});

/** What is left is the baseline. */
function removeSpine(at: DaemonHome): void {
  const state = ["log.key", "log.vkey", "log.head"].map((name) => join(at.stateDir, name));
  for (const path of [segmentOf(at), ...state]) rmSync(path);
  for (const dir of [at.logDir, at.stateDir]) rmSync(join(dir, "audit"), { recursive: true, force: true });
}

/** A log that ends with a clean stop on a clock which is off from ours by these. */
async function stoppedAt(
  at: DaemonHome,
  off: { readonly wallMs: number; readonly monoNs: bigint; readonly boot: "this boot" | "another boot" },
): Promise<void> {
  prepareStateDirectory(at.stateDir);
  prepareLogDirectory(at.logDir);
  const real = createClock();
  const ring = ringIn(at.stateDir);
  const { origin } = ring;
  const signer = ring.current();
  const head = openHeadFile(at.stateDir);
  const clock = {
    ...real,
    wallMs: () => real.wallMs() + off.wallMs,
    monoNs: () => real.monoNs() + off.monoNs,
    bootId: () => (off.boot === "this boot" ? real.bootId() : "00000000-0000-4000-8000-000000000000"),
  };
  const store = createSegment(at.logDir, 0);
  const onFailed = (cause: Error) => {
    throw cause;
  };
  const log = openLog({ store, signer, head, clock, tail: emptyTail(), origin, onFailed });
  const state = { wanted: "RESTRICTED", epoch: 0, frozen: "" };
  log.append({ kind: "daemon.started", data: state });
  log.append({ kind: "daemon.stopped", data: state });
  await log.close();
  head.close();
}

async function keyOf(at: DaemonHome): Promise<string> {
  const { stdout } = await boundaryctl(["key", "show", "--state-dir", at.stateDir]);
  return stdout.trim();
}

/** All bytes of all files below a directory. */
function keptIn(directory: string): Buffer {
  const files = readdirSync(directory, { recursive: true, withFileTypes: true }).filter((entry) =>
    entry.isFile(),
  );
  return Buffer.concat(files.map((entry) => readFileSync(join(entry.parentPath, entry.name))));
}

function flip(path: string, at: number): void {
  const bytes = readFileSync(path);
  bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
  writeFileSync(path, bytes);
}

/** The end of the last seal but one: what is left is a sound log, only shorter. */
function cutPoint(at: DaemonHome): number {
  const lines = linesOf(at.logDir);
  const seal = lines.findLastIndex(
    (line, index) => index < lines.length - 1 && recordOf(line).kind === "seal",
  );
  return Buffer.byteLength(lines.slice(0, seal + 1).join("\n")) + 1;
}
