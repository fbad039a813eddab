import { chmodSync, cpSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { stringify } from "yaml";
import type { Status } from "../../daemon/protocol/messages.ts";
import { boundaryctl } from "../support/boundaryctl.ts";
import { createHome, type DaemonHome, type DaemonProcess, startDaemon } from "../support/daemon-process.ts";

const SHIPPED = join(import.meta.dirname, "../../policies");
/** A host under load takes its time; none of this is about speed. */
const WAIT = { timeout: 60_000, interval: 250 };

let home: DaemonHome;
let directory: string;
let daemon: DaemonProcess | null = null;

beforeEach(() => {
  home = createHome({});
  directory = join(home.path, "policies");
  cpSync(SHIPPED, directory, { recursive: true });
  chmodSync(directory, 0o755);
  for (const name of readdirSync(directory)) chmodSync(join(directory, name), 0o644);
  writeFileSync(home.configFile, stringify({ policy: { directory } }));
});
afterEach(async () => {
  await daemon?.kill();
  daemon = null;
  home.remove();
});

const ask = (...args: string[]) => boundaryctl([...args, "--runtime-dir", home.runtimeDir, "--json"]);
async function control(): Promise<Status["controls"][number] | undefined> {
  const ran = await ask("status");
  return (JSON.parse(ran.stdout) as Status).controls.find(({ name }) => name === "policy");
}
const recorded = (kind: string) =>
  readdirSync(home.logDir)
    .filter((name) => name.endsWith(".jsonl"))
    .flatMap((name) => readFileSync(join(home.logDir, name), "utf8").split("\n"))
    .filter((line) => line.includes(`"kind":"${kind}"`)).length;
const isReady = () =>
  vi.waitFor(async () => expect((await control())?.detail).toMatch(/^\d+ policies, set /), WAIT);

test("a real daemon takes policies up, keeps them through a bad set, and reloads by verb and by SIGHUP", async () => {
  daemon = await startDaemon(home);
  await isReady();
  expect([recorded("policy.loaded"), (await control())?.state]).toEqual([1, "observed"]);

  const good = readFileSync(join(directory, "memory.cedar"), "utf8");
  writeFileSync(join(directory, "memory.cedar"), good.replace("resource.class > 3", "resource.clas > 3"));
  const refused = await ask("policy", "reload");
  expect(refused.code).toBe(1);
  expect(JSON.parse(refused.stdout)).toMatchObject({
    problem: { code: "policy-invalid", detail: expect.stringMatching(/^memory\.cedar:\d+:\d+: .*clas/) },
  });
  expect((await control())?.detail).toMatch(
    /^\d+ policies, set .*; the last load was refused: memory\.cedar/,
  );
  expect(recorded("policy.refused")).toBe(1);

  writeFileSync(join(directory, "memory.cedar"), `${good}\n// another set\n`);
  daemon.signal("SIGHUP");
  await vi.waitFor(() => expect(recorded("policy.loaded")).toBe(2), WAIT);
  const again = await ask("policy", "reload");
  expect([again.code, JSON.parse(again.stdout).changed]).toEqual([0, false]);

  chmodSync(join(directory, "memory.cedar"), 0o666);
  expect(JSON.parse((await ask("policy", "reload")).stdout)).toMatchObject({
    problem: { detail: expect.stringContaining("others can write it") },
  });
  expect((await daemon.stop()).code).toBe(0);
  daemon = null;
}, 180_000);

test("one without a set that can be loaded runs, and says so", async () => {
  writeFileSync(join(directory, "memory.cases.yaml"), "cases: []");
  daemon = await startDaemon(home);
  await vi.waitFor(async () => expect((await control())?.state).toBe("failed"), WAIT);
  expect((await control())?.detail).toMatch(/^what policy is asked about is denied: memory\.cases\.yaml:1:/);
  expect((await ask("mode")).code).toBe(0);

  // what tightens works all the same; what loosens does not, until the policies are repaired
  const mode = async (to: string) => JSON.parse((await ask("mode", "set", to, "--reason", "x")).stdout);
  expect(await mode("trusted")).toMatchObject({ wanted: "TRUSTED", changed: true });
  expect(await mode("restricted")).toMatchObject({ problem: { code: "policy-unavailable" } });
  cpSync(join(SHIPPED, "memory.cases.yaml"), join(directory, "memory.cases.yaml"));
  chmodSync(join(directory, "memory.cases.yaml"), 0o644);
  expect((await ask("policy", "reload")).code).toBe(0);
  expect(await mode("restricted")).toMatchObject({ wanted: "RESTRICTED", changed: true });
  expect((await daemon.stop()).code).toBe(0);
  daemon = null;
}, 120_000);
