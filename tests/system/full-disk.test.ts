import { execFileSync } from "node:child_process";
import {
  appendFileSync,
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { type Client, connectControl } from "../../client/control.ts";
import { boundaryctl } from "../support/boundaryctl.ts";
import { createHome, type DaemonHome, type DaemonProcess, startDaemon } from "../support/daemon-process.ts";
import { delay } from "../support/packets.ts";

/** The real daemon with its log on a file system of its own, which somebody else fills. Needs root: it mounts a tmpfs. */
const isRoot = process.geteuid?.() === 0;
const MIB = 1024 * 1024;
const homes: DaemonHome[] = [];
const daemons: DaemonProcess[] = [];
const clients: Client[] = [];

afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await Promise.all(daemons.splice(0).map((daemon) => daemon.kill()));
  for (const home of homes.splice(0)) {
    try {
      execFileSync("umount", ["-l", home.logDir], { stdio: "ignore" });
    } catch {
      // it was not mounted
    }
    home.remove();
  }
});

async function startOnSmallDisk(log: object, sizeMib = 16): Promise<{ at: DaemonHome; client: Client }> {
  const at = createHome({
    initialMode: "RESTRICTED",
    enforcement: { heartbeatMs: 50 },
    log,
    ceremony: { coolDownMs: 0, requireTerminal: false },
  });
  homes.push(at);
  mkdirSync(at.logDir, { mode: 0o700 });
  execFileSync("mount", ["-t", "tmpfs", "-o", `size=${sizeMib}m,mode=0700`, "tmpfs", at.logDir]);
  daemons.push(await startDaemon(at));
  const client = await connectControl(join(at.runtimeDir, "control.sock"));
  clients.push(client);
  return { at, client };
}

const free = (at: DaemonHome) => {
  const { bavail, bsize } = statfsSync(at.logDir);
  return bavail * bsize;
};

/** Another program's file, until so many bytes are left; 0: until the disk takes no more. */
function fill(at: DaemonHome, leave: number): string {
  const path = join(at.logDir, "somebody-elses");
  const fd = openSync(path, "a");
  try {
    const block = Buffer.alloc(64 * 1024, 1);
    while (free(at) > leave) writeSync(fd, block, 0, Math.min(block.length, Math.max(1, free(at) - leave)));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
  } finally {
    closeSync(fd);
  }
  return path;
}

const ask = (client: Client) =>
  client.call("check", {
    action: { name: "recall" },
    resource: { type: "memory", id: "n", properties: { class: "PUBLIC" } },
  });

async function decisionOf(client: Client): Promise<{ decision: boolean; reason: readonly string[] }> {
  const outcome = await ask(client);
  if (!outcome.ok) throw new Error(outcome.problem.detail);
  return outcome.data;
}

const kindsIn = (at: DaemonHome) =>
  readdirSync(at.logDir)
    .filter((name) => name.endsWith(".jsonl"))
    .sort()
    .flatMap((name) => readFileSync(join(at.logDir, name), "utf8").split("\n").slice(0, -1))
    .map((line) => (JSON.parse(line) as { kind: string }).kind);

describe.skipIf(!isRoot)("a log on a disk that fills up (needs root)", () => {
  test("below the low-water mark nothing is allowed or loosened; tightening goes on; room again, and it allows again", async () => {
    const { at, client } = await startOnSmallDisk({ lowWaterBytes: 4 * MIB, reserveBytes: MIB });
    expect(await decisionOf(client)).toMatchObject({ decision: true });
    const file = fill(at, 2 * MIB);
    await delay(300);
    expect(await decisionOf(client)).toMatchObject({ decision: false, reason: ["log-unavailable"] });
    expect(await client.call("mode.set", { mode: "AIRGAP", reason: "test" })).toMatchObject({ ok: true });
    expect(await client.call("mode.set", { mode: "OPEN", reason: "test" })).toMatchObject({
      ok: false,
      problem: { code: "log-unavailable" },
    });
    rmSync(file);
    await delay(300);
    expect(await decisionOf(client)).toMatchObject({ decision: true });
    expect(await client.call("mode.set", { mode: "RESTRICTED", reason: "test" })).toMatchObject({ ok: true });
    await daemons[0]?.stop();
    const kinds = kindsIn(at);
    expect(kinds.indexOf("log.room")).toBeGreaterThan(kinds.indexOf("log.low"));
    expect(
      (await boundaryctl(["verify-log", at.logDir, "--key", `@${join(at.stateDir, "log.vkey")}`])).code,
    ).toBe(0);
  });

  test.each([true, false])(
    "with no byte left the fall is still recorded (append-only: %s)",
    async (appendOnly) => {
      const { at, client } = await startOnSmallDisk({
        lowWaterBytes: 4 * MIB,
        reserveBytes: MIB,
        appendOnly,
      });
      fill(at, 0);
      await delay(300);
      expect(free(at)).toBeLessThan(8 * 1024);
      for (let i = 0; i < 20; i++) expect((await decisionOf(client)).decision).toBe(false);
      appendFileSync(at.configFile, "\n# changed by somebody\n");
      await delay(500);
      const status = await client.call("status", {});
      expect(status.ok && status.data.mode).toMatchObject({
        wanted: "LOCKDOWN",
        cause: expect.stringContaining("own-files"),
      });
      expect(kindsIn(at)).toContain("tripwire.fired");
      await daemons[0]?.stop();
      expect(
        (await boundaryctl(["verify-log", at.logDir, "--key", `@${join(at.stateDir, "log.vkey")}`])).code,
      ).toBe(0);
      expect(kindsIn(at)).toContain("daemon.stopped");
    },
  );
});

describe.skipIf(!isRoot)("the log's files (needs root)", () => {
  test("the open segment is append-only and ended ones are immutable; status says so; a crash and a start come through it", async () => {
    const { at, client } = await startOnSmallDisk({
      appendOnly: true,
      segmentBytes: 16_384,
      reserveBytes: 65_536,
      lowWaterBytes: 0,
    });
    const segments = () =>
      readdirSync(at.logDir)
        .filter((name) => name.endsWith(".jsonl"))
        .sort();
    for (let i = 0; i < 400 && segments().length < 3; i++) await ask(client);
    await delay(300);
    const [first = "", last = ""] = [segments()[0], segments().at(-1)];
    const attributes = execFileSync("lsattr", [at.logDir], { encoding: "utf8" });
    expect(attributes).toMatch(new RegExp(`^-+i-+ .*${first}$`, "m"));
    expect(attributes).toMatch(new RegExp(`^-+a-+ .*${last}$`, "m"));
    expect(() => openSync(join(at.logDir, last), "r+")).toThrow(/EPERM/);
    expect(() => rmSync(join(at.logDir, first))).toThrow(/EPERM/);
    const status = await client.call("status", {});
    const control = status.ok ? status.data.controls.find(({ name }) => name === "append-only") : null;
    expect(control).toMatchObject({ state: "enforced" });
    await daemons[0]?.kill();
    appendFileSync(join(at.logDir, last), '{"torn":');
    daemons.push(await startDaemon(at));
    await daemons[1]?.stop();
    expect(
      (await boundaryctl(["verify-log", at.logDir, "--key", `@${join(at.stateDir, "log.vkey")}`])).code,
    ).toBe(0);
  });
});
