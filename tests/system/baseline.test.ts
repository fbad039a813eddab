import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import type { Client } from "../../client/control.ts";
import type { LogRecord } from "../../daemon/audit/record.ts";
import { linesOf, recordOf } from "../audit/fixture.ts";
import { type DaemonHome, daemonArguments } from "../support/daemon-process.ts";
import { daemonsOfTest } from "../support/daemons-of-test.ts";
import { delay } from "../support/packets.ts";

/** The real daemon and real files: what is accepted, by whom, and what a start makes of it. */
const MAIN = fileURLToPath(new URL("../../daemon/main.ts", import.meta.url));
const { home: emptyHome, start, connect, statusOf } = daemonsOfTest();
const children: ChildProcess[] = [];

afterEach(() => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
});

type Wire = { readonly action: "note" | { readonly trip: string }; readonly armed: readonly string[] };
const EVERYWHERE = ["OPEN", "RESTRICTED", "TRUSTED", "AIRGAP", "COLDROOM", "LOCKDOWN"];
const NOTES: Wire = { action: "note", armed: EVERYWHERE };

/** A daemon's home with a watched tree in it. */
function home(wire: Wire, count: number, name: (index: number) => string = (i) => `f${i}`) {
  const at = emptyHome("");
  const tree = join(at.path, "tree");
  mkdirSync(tree);
  const files = Array.from({ length: count }, (_, index) => join(tree, name(index)));
  for (const file of files) writeFileSync(file, "first");
  const tripwiresFile = join(at.path, "etc", "tripwires.yaml");
  const watched = { id: "tree", on: "file.changed", match: { path: `${tree}/` }, ...wire };
  writeFileSync(tripwiresFile, JSON.stringify({ tripwires: [watched] }), { mode: 0o600 });
  const ceremony = { coolDownMs: 0, requireTerminal: false };
  writeFileSync(at.configFile, stringify({ initialMode: "RESTRICTED", ceremony, tripwiresFile }));
  return { ...at, files, tree };
}

const wanted = async (at: DaemonHome) => (await statusOf(at)).mode.wanted;
const recordsOf = (at: DaemonHome): LogRecord[] => linesOf(at.logDir).map(recordOf);
const ofKind = (at: DaemonHome, kind: string) => recordsOf(at).filter((record) => record.kind === kind);

/** What each start found. A daemon that got no processor for two seconds has a gap of its own to tell of: a stall. */
const startGaps = (at: DaemonHome) => ofKind(at, "gap").filter(({ data }) => data["ended"] !== "stall");

async function begin(client: Client) {
  const begun = await client.call("ceremony.begin", { reason: "test" });
  if (!begun.ok) throw new Error(begun.problem.detail);
  return begun.data;
}

describe("a start", () => {
  test("misses no change, whenever in it the change comes", async () => {
    const at = home(NOTES, 150);
    await (await start(at)).stop();
    const starting = start(at);
    let isUp = false;
    void starting.finally(() => {
      isUp = true;
    });
    const changed: string[] = [];
    for (const file of at.files) {
      if (isUp) break;
      writeFileSync(file, "second");
      changed.push(file);
      await delay(8);
    }
    const daemon = await starting;
    await expect.poll(async () => (await statusOf(at)).changedFiles).toEqual([]);
    await delay(200);
    await daemon.stop();
    const told = JSON.stringify([startGaps(at).at(-1), ...ofKind(at, "tripwire.noted")]);
    expect(changed.filter((file) => !new RegExp(`${file}[" ]`).test(told))).toEqual([]);
    expect(changed.length).toBeGreaterThan(10);
  });

  test("that is first and stopped before it has looked leaves a first start to the next", async () => {
    const at = home(NOTES, 4_000);
    const child = spawn(process.execPath, [MAIN, ...daemonArguments(at)], { stdio: "ignore" });
    children.push(child);
    const ended = new Promise((resolve) => child.once("exit", resolve));
    await expect
      .poll(() => existsSync(at.logDir) && readdirSync(at.logDir).length > 0 && hasStarted(at), {
        interval: 2,
        timeout: 20_000,
      })
      .toBe(true);
    child.kill("SIGTERM");
    expect(await ended).toBe(0);
    expect(ofKind(at, "baseline.set")).toEqual([]);
    await start(at);
    expect(await wanted(at)).toBe("RESTRICTED");
    expect(ofKind(at, "baseline.set")).toMatchObject([{ data: { why: "first start" } }]);
  });

  test("after a crash finds what the log has signed, and only that", async () => {
    const at = home(NOTES, 1);
    const daemon = await start(at);
    writeFileSync(at.files[0] ?? "", "second");
    await expect.poll(() => ofKind(at, "baseline.set").length).toBe(2);
    await daemon.kill();
    await start(at);
    await expect
      .poll(() => startGaps(at))
      .toMatchObject([{ data: { ended: "crash", count: 0, changes: [] } }]);
  });
});

describe("more changes than a record or a frame holds", () => {
  const LONG = (index: number) => `${"n".repeat(240)}${index}`;

  test("are cut off and counted, in the log, for the person and in the status; and all are accepted", async () => {
    const at = home({ action: { trip: "LOCKDOWN" }, armed: EVERYWHERE }, 400, LONG);
    await (await start(at)).stop();
    for (const file of at.files) writeFileSync(file, "second");
    const daemon = await start(at);
    expect(await wanted(at)).toBe("LOCKDOWN");
    expect((await statusOf(at)).changedFiles.at(-1)).toMatch(/^… and \d+ more$/);
    await expect.poll(() => startGaps(at).at(-1)?.data["count"]).toBe(400);
    const client = await connect(at);
    const { code, changes, moreChanges } = await begin(client);
    expect(changes.length + moreChanges).toBe(400);
    expect(moreChanges).toBeGreaterThan(0);
    expect(await client.call("ceremony.confirm", { code })).toMatchObject({
      problem: { code: "ceremony-changes", detail: expect.stringMatching(/… and \d+ more$/) },
    });
    expect(await client.call("ceremony.confirm", { code, acceptChanges: true })).toMatchObject({
      ok: true,
      data: { wanted: "RESTRICTED" },
    });
    await daemon.stop();
    await start(at);
    expect(await wanted(at)).toBe("RESTRICTED");
    await expect.poll(() => startGaps(at).at(-1)?.data["count"]).toBe(0);
  });
});

describe("what tripped", () => {
  test("is nobody's to accept but a person's, as it was shown", async () => {
    const at = home({ action: { trip: "LOCKDOWN" }, armed: ["RESTRICTED"] }, 1);
    const [file = ""] = at.files;
    const daemon = await start(at);
    writeFileSync(file, "second");
    await expect.poll(() => wanted(at)).toBe("LOCKDOWN");
    writeFileSync(file, "third, where the tripwire is not armed");
    await delay(1_500);
    const client = await connect(at);
    const first = await begin(client);
    expect(first.changes).toEqual([`${file} modified`]);
    writeFileSync(file, "fourth, after it was shown");
    const acceptChanges = true;
    expect(await client.call("ceremony.confirm", { code: first.code, acceptChanges })).toMatchObject({
      problem: { code: "ceremony-changes", detail: expect.stringContaining("since it was shown") },
    });
    const { code } = await begin(client);
    expect(await client.call("ceremony.confirm", { code, acceptChanges })).toMatchObject({ ok: true });
    await daemon.stop();
    await start(at);
    expect(await wanted(at)).toBe("RESTRICTED");
  });
});

describe("what is only noted", () => {
  test("is taken over once in the window, however often it is written", async () => {
    const at = home(NOTES, 1);
    const daemon = await start(at);
    for (let i = 0; i < 60; i++) {
      writeFileSync(at.files[0] ?? "", `content ${i}`);
      await delay(50);
    }
    await daemon.stop();
    expect(ofKind(at, "baseline.set")).toHaveLength(2);
    await start(at);
    expect(await wanted(at)).toBe("RESTRICTED");
  });
});

function hasStarted(at: DaemonHome): boolean {
  return linesOf(at.logDir).some((line) => line.includes('"kind":"daemon.started"'));
}
