import {
  copyFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Client } from "../../client/control.ts";
import { boundaryctl } from "../support/boundaryctl.ts";
import type { DaemonHome } from "../support/daemon-process.ts";
import { daemonsOfTest } from "../support/daemons-of-test.ts";
import { oldLog } from "../support/old-log.ts";
import { delay } from "../support/packets.ts";

/** Segments, keys and pruning of the real daemon, log-only. */
const { home: homeWith, start, connect } = daemonsOfTest();

const SMALL = {
  initialMode: "RESTRICTED",
  enforcement: { heartbeatMs: 50 },
  log: { segmentBytes: 16_384 },
  ceremony: { coolDownMs: 0, requireTerminal: false },
};

function home(config: object = SMALL): DaemonHome {
  return homeWith(config);
}

const question = {
  action: { name: "recall" },
  resource: { type: "memory", id: "n", properties: { class: "INTERNAL" } },
} as const;

/** Asks so many times; the correlation ids of what was allowed. */
async function ask(client: Client, times: number): Promise<string[]> {
  const allowed: string[] = [];
  for (let i = 0; i < times; i++) {
    const outcome = await client.call("check", question);
    if (outcome.ok && outcome.data.decision) allowed.push(outcome.data.correlationId);
  }
  return allowed;
}

const segments = (at: DaemonHome) => readdirSync(at.logDir).filter((name) => name.endsWith(".jsonl"));
const keyOf = (at: DaemonHome) => readFileSync(join(at.stateDir, "log.vkey"), "utf8").trim();
const verified = (at: DaemonHome) => boundaryctl(["verify-log", at.logDir, "--key", keyOf(at), "--json"]);
const json = (run: { stdout: string }) => JSON.parse(run.stdout) as Record<string, unknown>;

/** Decisions until there are so many segments. */
async function fill(at: DaemonHome, client: Client, count: number): Promise<string[]> {
  const allowed: string[] = [];
  for (let i = 0; segments(at).length < count; i++) {
    if (i === 200) throw new Error(`there are only ${segments(at).length} segments`);
    allowed.push(...(await ask(client, 20)));
  }
  return allowed;
}

describe("a daemon whose segments are small", () => {
  test("goes on from segment to segment, and the whole verifies with the first key alone", async () => {
    const at = home();
    const daemon = await start(at);
    const genesis = keyOf(at);
    const client = await connect(at);
    const allowed = await fill(at, client, 4);
    await daemon.stop();
    expect(keyOf(at)).toBe(genesis);
    const verdict = json(await verified(at));
    expect(verdict).toMatchObject({ verdict: "sound", bad: null });
    expect((verdict["keys"] as object[]).length).toBe(segments(at).length);
    const text = segments(at)
      .map((name) => readFileSync(join(at.logDir, name), "utf8"))
      .join("");
    for (const seq of allowed) expect(text).toContain(`"seq":${seq},"v":1}`);
    expect(readdirSync(at.stateDir).filter((name) => name.startsWith("log.key"))).toEqual(["log.key"]);
    const shown = await boundaryctl(["key", "history", at.logDir, "--key", genesis, "--json"]);
    expect((json(shown)["keys"] as { vkey: string }[])[0]?.vkey).toBe(genesis);
  });

  test("started again it goes on in the last segment, in the mode it had", async () => {
    const at = home();
    let daemon = await start(at);
    const client = await connect(at);
    await fill(at, client, 3);
    await client.call("mode.set", { mode: "AIRGAP", reason: "test" });
    await daemon.stop();
    const before = segments(at).length;
    daemon = await start(at);
    const status = await (await connect(at)).call("status", {});
    expect(status.ok && status.data.mode.wanted).toBe("AIRGAP");
    expect(segments(at).length).toBeGreaterThanOrEqual(before);
    await daemon.stop();
    expect(json(await verified(at))).toMatchObject({ verdict: "sound" });
  });

  test("rotation of its own keys is no tripwire", async () => {
    const at = home();
    await start(at);
    await fill(at, await connect(at), 4);
    await delay(300);
    const status = await (await connect(at)).call("status", {});
    expect(status.ok && status.data.mode.wanted).toBe("RESTRICTED");
  });

  test.each([
    ["touched", (path: string) => utimesSync(path, 0, 0)],
    [
      "replaced by a copy",
      (path: string) => {
        copyFileSync(path, `${path}.copy`);
        renameSync(`${path}.copy`, path);
      },
    ],
    ["removed", (path: string) => rmSync(path)],
  ] as const)("its key %s by somebody else is LOCKDOWN", async (_name, harm) => {
    const at = home();
    await start(at);
    const client = await connect(at);
    await fill(at, client, 2);
    await delay(200);
    harm(join(at.stateDir, "log.key"));
    await delay(400);
    const status = await client.call("status", {});
    expect(status.ok && status.data.mode).toMatchObject({
      wanted: "LOCKDOWN",
      cause: expect.stringContaining("own-files"),
    });
  });

  test("killed at any moment of it, it starts again in LOCKDOWN with the whole log", async () => {
    const at = home();
    for (let round = 0; round < 8; round++) {
      const daemon = await start(at);
      const client = await connect(at);
      const killing = delay(40 + round * 37).then(() => daemon.kill());
      await Promise.race([ask(client, 10_000).catch(() => undefined), killing]);
      await killing;
      client.close();
    }
    const daemon = await start(at);
    const status = await (await connect(at)).call("status", {});
    expect(status.ok && status.data.mode).toMatchObject({
      wanted: "LOCKDOWN",
      cause: expect.stringMatching(/^crash/),
    });
    await daemon.stop();
    expect(json(await verified(at))).toMatchObject({ verdict: "sound" });
    expect(readdirSync(at.logDir).filter((name) => name.startsWith("broken-"))).toEqual([]);
    expect(segments(at).length).toBeGreaterThan(2);
  });

  test("a key that somebody else put in place of its own is LOCKDOWN", async () => {
    const at = home();
    const daemon = await start(at);
    await fill(at, await connect(at), 2);
    await daemon.stop();
    const other = home();
    await (await start(other)).stop();
    copyFileSync(join(other.stateDir, "log.key"), join(at.stateDir, "log.key"));
    await start(at);
    const status = await (await connect(at)).call("status", {});
    expect(status.ok && status.data.mode).toMatchObject({
      wanted: "LOCKDOWN",
      cause: expect.stringMatching(/^tampered/),
    });
    expect(readdirSync(at.logDir).some((name) => name.startsWith("broken-"))).toBe(true);
  });
});

describe("pruning", () => {
  test("removes what is older than the retention, through the daemon, and the rest still verifies", async () => {
    const at = home();
    await oldLog(at, 100);
    const before = segments(at);
    const daemon = await start(at);
    expect(
      (await boundaryctl(["log", "prune", "--keep-days", "89", "--runtime-dir", at.runtimeDir])).code,
    ).toBe(2);
    const done = await boundaryctl(["log", "prune", "--json", "--runtime-dir", at.runtimeDir]);
    expect(done).toMatchObject({ code: 0 });
    expect(json(done)).toMatchObject({ segments: 3 });
    expect(segments(at).filter((name) => before.slice(0, 3).includes(name))).toEqual([]);
    const again = await boundaryctl(["log", "prune", "--json", "--runtime-dir", at.runtimeDir]);
    expect(json(again)).toMatchObject({ segments: 0 });
    await daemon.stop();
    expect(json(await verified(at))).toMatchObject({ verdict: "sound", pruned: { segments: 3 } });
    expect((await start(at)).pid).toBeGreaterThan(0);
    const status = await (await connect(at)).call("status", {});
    expect(status.ok && status.data.mode.wanted).toBe("RESTRICTED");
    rmSync(join(at.logDir, before[0]?.replace(".jsonl", ".tombstone") ?? ""));
    expect(json(await verified(at))).toMatchObject({ verdict: "broken" });
  });

  test("a segment that was changed is evidence: it stays, and pruning is refused", async () => {
    const at = home();
    await oldLog(at, 100);
    await start(at);
    const file = join(at.logDir, segments(at)[1] ?? "");
    writeFileSync(file, readFileSync(file, "utf8").replace("record 3", "record 9"));
    const refused = await boundaryctl(["log", "prune", "--runtime-dir", at.runtimeDir]);
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining("log-broken") });
    expect(existsSync(file)).toBe(true);
  });

  test("younger segments stay", async () => {
    const at = home();
    await oldLog(at, 80);
    await start(at);
    const done = await boundaryctl(["log", "prune", "--json", "--runtime-dir", at.runtimeDir]);
    expect(json(done)).toMatchObject({ segments: 0 });
  });
});
