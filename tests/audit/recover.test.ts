import * as fs from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { cutTail, openSegment, readLog, segmentName } from "../../daemon/adapters/log-file.ts";
import { type Recovery, recoverLog } from "../../daemon/audit/recover.ts";
import {
  bytesOf,
  codeOf,
  decision,
  fakeLog,
  linesOf,
  tempDirectory,
  testSigner,
  writeLog,
} from "./fixture.ts";

const { vkey } = testSigner();
const FILE = segmentName(0);
let temp: ReturnType<typeof tempDirectory>;
let directory: string;
let path: string;
let note: string;

beforeEach(async () => {
  temp = tempDirectory();
  directory = join(temp.path, "log");
  path = join(directory, FILE);
  note = await writeLog(directory, [
    [{ kind: "daemon.started", data: { wanted: "AIRGAP", epoch: 2 } }],
    [decision("b")],
  ]);
});
afterEach(() => temp[Symbol.dispose]());

function recover(head: string | null = note): Promise<Recovery> {
  const cut = (place: Parameters<typeof cutTail>[1]) => cutTail(directory, place, 0);
  return recoverLog({ read: () => readLog(directory), cut, vkey, head });
}

/** Goes on with what a recovery gives, and looks at the whole again. */
async function goOn(found: Recovery): Promise<Recovery> {
  if (found.kind !== "sound" && found.kind !== "recovered") throw new Error(found.kind);
  const store = openSegment(directory, found.file, found.endByte);
  const { log, head } = fakeLog({ store, tail: found.tail });
  log.append(decision("and on"));
  await log.close();
  return recover(head.notes.at(-1) ?? null);
}

describe("recoverLog", () => {
  test("a sound log goes on at its end", async () => {
    const found = await recover();
    expect(found).toMatchObject({ kind: "sound", file: FILE, tail: { size: 6 }, fold: { wanted: "AIRGAP" } });
    expect(await goOn(found)).toMatchObject({ kind: "sound", tail: { size: 8 } });
  });

  test.each([
    ["a piece of a line", (bytes: Buffer) => Buffer.concat([bytes, Buffer.from('{"at":"2026')])],
    ["zeros", (bytes: Buffer) => Buffer.concat([bytes, Buffer.alloc(4096)])],
  ])("%s behind the last seal is cut off, kept, and the log goes on", async (_name, harm) => {
    const whole = fs.readFileSync(path);
    fs.writeFileSync(path, harm(whole));
    const found = await recover();
    if (found.kind !== "recovered") throw new Error(found.kind);
    expect(fs.readFileSync(path).equals(whole)).toBe(true);
    expect(fs.readFileSync(join(directory, found.savedAs)).equals(harm(whole).subarray(whole.length))).toBe(
      true,
    );
    expect(found.verdict).toMatchObject({
      verdict: "torn",
      unsealed: { records: 0, bytes: harm(whole).length - whole.length },
    });
    expect(await goOn(found)).toMatchObject({ kind: "sound" });
  });

  test("a batch that did not get its seal is cut off when its head was never remembered", async () => {
    const lines = linesOf(directory);
    const older = await recover(null);
    if (older.kind !== "sound") throw new Error(older.kind);
    fs.writeFileSync(path, bytesOf(lines.slice(0, -1)));
    const found = await recover(null);
    expect(found).toMatchObject({
      kind: "recovered",
      tail: { size: 4 },
      verdict: { unsealed: { records: 1 } },
    });
    expect(await goOn(found)).toMatchObject({ kind: "sound", tail: { size: 6 } });
  });

  test("a first start that crashed before its first seal begins again, and keeps what there was", async () => {
    fs.writeFileSync(path, bytesOf(linesOf(directory).slice(0, 1)));
    const found = await recover(null);
    expect(found).toMatchObject({ kind: "recovered", file: FILE, endByte: 0, tail: { size: 0 } });
    expect(await goOn(found)).toMatchObject({ kind: "sound", tail: { size: 3 } });
  });

  test("no log is none, unless a head remembers one", async () => {
    fs.unlinkSync(path);
    expect(await recover(null)).toEqual({ kind: "none" });
    expect(await recover()).toMatchObject({ kind: "broken", bad: { code: "tail-cut", seq: 0 } });
    fs.writeFileSync(path, "");
    expect(await recover(null)).toEqual({ kind: "none" });
    expect(await recover()).toMatchObject({ kind: "broken", bad: { code: "tail-cut" } });
    fs.rmSync(directory, { recursive: true });
    expect(await recover(null)).toEqual({ kind: "none" });
  });

  test.each([
    ["an edited byte", (bytes: Buffer) => Buffer.from(bytes.toString().replace("AIRGAP", "OPENED"))],
    ["a cut tail", (bytes: Buffer) => bytes.subarray(0, bytes.lastIndexOf("\n", bytes.length - 2) + 1)],
    ["a torn tail before the remembered head", (bytes: Buffer) => bytes.subarray(0, -10)],
  ])("%s is broken, and nothing is touched", async (_name, harm) => {
    const harmed = harm(fs.readFileSync(path));
    fs.writeFileSync(path, harmed);
    expect((await recover()).kind).toBe("broken");
    expect(fs.readFileSync(path).equals(harmed)).toBe(true);
    expect(fs.readdirSync(directory)).toEqual([FILE]);
  });

  test("what cannot be read, or cut, is an error and not a verdict", async () => {
    fs.appendFileSync(path, "torn");
    const failing = { read: () => readLog(directory), vkey, head: note };
    const cut = () => {
      throw new Error("no space left on device");
    };
    expect(await codeOf(() => recoverLog({ ...failing, cut }))).toBe("log-broken");
    expect(await codeOf(() => recover("no head"))).toBe("head-invalid");
    fs.unlinkSync(path);
    fs.mkdirSync(path);
    expect(await codeOf(() => recover())).toBe("log-broken");
  });
});
