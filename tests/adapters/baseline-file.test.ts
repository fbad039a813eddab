import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openBaselineFile } from "../../daemon/adapters/baseline-file.ts";
import type { FileState } from "../../daemon/core/fingerprint.ts";
import { fileState } from "../support/host.ts";

const OLD = [fileState("/a", "old")];
const NEW = [fileState("/a", "new")];
const is = (content: string) => (states: readonly FileState[]) => states[0]?.sha256 === content;

let dir: string;
let file: string;
beforeEach(async () => {
  dir = fs.mkdtempSync(join(tmpdir(), "boundary-baseline-"));
  file = join(dir, "baseline.json");
  await (await openBaselineFile(dir).prepare(OLD)).commit();
});
afterEach(() => {
  fs.rmSync(dir, { recursive: true, force: true });
});

test("what is prepared and not committed leaves the old to be loaded, and the new, as the log has it", async () => {
  await openBaselineFile(dir).prepare(NEW);
  expect(openBaselineFile(dir).load(is("old"))).toEqual({ kind: "states", states: OLD });
  expect(openBaselineFile(dir).load(is("new"))).toEqual({ kind: "states", states: NEW });
  expect(fs.existsSync(`${file}.new`)).toBe(false);
  expect(openBaselineFile(dir).load(is("old"))).toMatchObject({ kind: "unreadable" });
});

test("what is committed is the only one left, and nobody else may read it", async () => {
  await (await openBaselineFile(dir).prepare(NEW)).commit();
  expect(fs.readdirSync(dir)).toEqual(["baseline.json"]);
  expect(fs.statSync(file).mode & 0o777).toBe(0o600);
  expect(openBaselineFile(dir).load(is("new"))).toEqual({ kind: "states", states: NEW });
});

test("signed states that could not take the old one's place yet are not written over", async () => {
  const store = openBaselineFile(dir);
  const prepared = await store.prepare(NEW);
  fs.rmSync(file);
  fs.mkdirSync(join(file, "in-the-way"), { recursive: true });
  await expect(prepared.commit()).rejects.toMatchObject({ code: "state-unwritable" });
  await expect(store.prepare(OLD)).rejects.toMatchObject({ code: "state-unwritable" });
  expect(fs.readFileSync(`${file}.new`, "utf8")).toContain("new");
  fs.rmSync(file, { recursive: true });
  await store.prepare(OLD);
  expect(openBaselineFile(dir).load(is("new"))).toEqual({ kind: "states", states: NEW });
});

test("a failure to write leaves the old, and is typed", async () => {
  fs.mkdirSync(`${file}.new`);
  await expect(openBaselineFile(dir).prepare(NEW)).rejects.toMatchObject({ code: "state-unwritable" });
  expect(openBaselineFile(dir).load(is("old"))).toEqual({ kind: "states", states: OLD });
});

test.each([
  ["nothing", () => fs.rmSync(file), { kind: "missing" }],
  ["what is not JSON", () => fs.writeFileSync(file, "{"), { kind: "unreadable" }],
  ["what is not states", () => fs.writeFileSync(file, '[{"path":1}]'), { kind: "unreadable" }],
  ["states that nobody signed", () => {}, { kind: "unreadable" }],
])("%s is told as what it is", (_what, damage, expected) => {
  damage();
  expect(openBaselineFile(dir).load(is("signed"))).toMatchObject(expected);
});
