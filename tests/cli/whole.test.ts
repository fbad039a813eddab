import { chmodSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { segmentName } from "../../daemon/adapters/log-file.ts";
import { boundaryctl } from "../support/boundaryctl.ts";
import { createHome, type DaemonHome, type DaemonProcess, startDaemon } from "../support/daemon-process.ts";

/** `verify --all`, `log replay` and `key history` against a real daemon's directories. */
const homes: DaemonHome[] = [];
const daemons: DaemonProcess[] = [];

afterEach(async () => {
  await Promise.all(daemons.splice(0).map((daemon) => daemon.kill()));
  for (const home of homes.splice(0)) home.remove();
});

async function started(): Promise<{ at: DaemonHome; daemon: DaemonProcess }> {
  const at = createHome({ initialMode: "RESTRICTED", enforcement: { heartbeatMs: 50 } });
  homes.push(at);
  const daemon = await startDaemon(at);
  daemons.push(daemon);
  return { at, daemon };
}

type Checks = {
  readonly ok: boolean;
  readonly checks: readonly { name: string; state: string; detail: string }[];
};

async function all(at: DaemonHome): Promise<Checks & { readonly code: number | null }> {
  const places = ["--log-dir", at.logDir, "--state-dir", at.stateDir, "--runtime-dir", at.runtimeDir];
  const { code, stdout } = await boundaryctl(["verify", "--all", "--json", ...places]);
  return { ...(JSON.parse(stdout) as Checks), code };
}

const stateOf = (found: Checks, name: string) => found.checks.find((each) => each.name === name)?.state;
const vkeyOf = (at: DaemonHome) => readFileSync(join(at.stateDir, "log.vkey"), "utf8").trim();

describe("verify --all", () => {
  test("says ok of a host as it should be, and what it could not look at", async () => {
    const { at, daemon } = await started();
    const found = await all(at);
    expect(found).toMatchObject({ code: 0, ok: true });
    for (const name of ["log", "head", "log directory", "state directory", "files", "baseline", "sensors"])
      expect([name, stateOf(found, name)]).toEqual([name, "ok"]);
    expect(stateOf(found, "rules")).toBe("off"); // log-only
    await daemon.stop();
    const stopped = await all(at);
    expect(stopped).toMatchObject({ code: 1, ok: false });
    expect(stateOf(stopped, "daemon")).toBe("unknown");
  });

  test.each([
    [
      "log",
      (at: DaemonHome) =>
        edit(join(at.logDir, segmentName(0)), (text) => text.replace("RESTRICTED", "restricted")),
    ],
    [
      "baseline",
      (at: DaemonHome) =>
        edit(join(at.stateDir, "baseline.json"), (text) => text.replace(/"size":(\d)/, '"size":9$1')),
    ],
    ["state directory", (at: DaemonHome) => chmodSync(at.stateDir, 0o777)],
    [join("log.key"), (at: DaemonHome) => chmodSync(join(at.stateDir, "log.key"), 0o644)],
  ])("%s harmed: bad, and exit 1", async (what, harm) => {
    const { at, daemon } = await started();
    await daemon.stop();
    harm(at);
    const found = await all(at);
    expect(found).toMatchObject({ code: 1, ok: false });
    expect(
      found.checks
        .filter(({ state }) => state === "bad")
        .map(({ name }) => name)
        .join(),
    ).toContain(what);
  });

  test("a log that was cut, and its remembered head removed with no daemon there: not ok", async () => {
    const { at, daemon } = await started();
    await daemon.stop();
    const path = join(at.logDir, segmentName(0));
    const lines = readFileSync(path, "utf8").split("\n");
    const seal = lines.findIndex((line) => line.includes('"kind":"seal"'));
    writeFileSync(path, `${lines.slice(0, seal + 1).join("\n")}\n`);
    rmSync(join(at.stateDir, "log.head"));
    expect(await all(at)).toMatchObject({ code: 1, ok: false });
  });

  test("without --all it is a usage error that names verify-log", async () => {
    const ran = await boundaryctl(["verify"]);
    expect(ran).toMatchObject({ code: 2, stderr: expect.stringContaining("verify-log") });
  });
});

describe("log replay", () => {
  test("gives the state at any record, and at the end", async () => {
    const { at, daemon } = await started();
    await boundaryctl(["mode", "set", "airgap", "--reason", "test", "--runtime-dir", at.runtimeDir]);
    await daemon.stop();
    const replay = async (...more: string[]) => {
      const ran = await boundaryctl(["log", "replay", at.logDir, "--key", vkeyOf(at), "--json", ...more]);
      return { code: ran.code, ...(JSON.parse(ran.stdout) as { state?: { wanted: string; stop: string } }) };
    };
    expect(await replay()).toMatchObject({ code: 0, state: { wanted: "AIRGAP", stop: "clean" } });
    const lines = readFileSync(join(at.logDir, segmentName(0)), "utf8")
      .split("\n")
      .slice(0, -1);
    const changed = lines.findIndex((line) => line.includes('"kind":"mode.changed"'));
    expect(await replay("--at", String(changed - 1))).toMatchObject({
      code: 0,
      state: { wanted: "RESTRICTED" },
    });
    expect(await replay("--at", String(changed))).toMatchObject({ code: 0, state: { wanted: "AIRGAP" } });
    expect(await replay("--at", "0")).toMatchObject({ code: 0, state: { wanted: null, stop: "none" } });
    expect(await replay("--at", "99999")).toMatchObject({ code: 1, proven: false });
    expect((await boundaryctl(["log", "replay", at.logDir, "--at", "-1"])).code).toBe(2);
  });
});

function edit(path: string, change: (text: string) => string): void {
  const text = readFileSync(path, "utf8");
  expect(change(text)).not.toBe(text);
  writeFileSync(path, change(text));
}
