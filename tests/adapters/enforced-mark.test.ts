import * as fs from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  forgetEnforcedMark,
  forgetUsbMark,
  hasUsbMark,
  keepEnforcedMark,
  keepUsbMark,
  readEnforcedMark,
} from "../../daemon/adapters/enforced-mark.ts";
import { tracesIn } from "../../daemon/adapters/traces.ts";
import { codeOf, tempDirectory } from "../audit/fixture.ts";

let temp: ReturnType<typeof tempDirectory>;
let mark: string;

beforeEach(() => {
  temp = tempDirectory();
  mark = join(temp.path, "enforced");
});
afterEach(() => temp[Symbol.dispose]());

describe("the mark of enforcement", () => {
  test("is there from keep to forget, for us alone, with the consent last given", () => {
    expect(readEnforcedMark(temp.path)).toEqual({ kind: "none" });
    keepEnforcedMark(temp.path, "no-consent");
    expect(readEnforcedMark(temp.path)).toEqual({ kind: "there", consent: false });
    keepEnforcedMark(temp.path, "consent");
    expect(readEnforcedMark(temp.path)).toEqual({ kind: "there", consent: true });
    expect([fs.statSync(mark).mode & 0o777, fs.readdirSync(temp.path)]).toEqual([0o600, ["enforced"]]);
    forgetEnforcedMark(temp.path);
    forgetEnforcedMark(temp.path);
    expect(readEnforcedMark(temp.path)).toEqual({ kind: "none" });
  });

  test.each([
    ["empty", () => fs.writeFileSync(mark, "")],
    ["of other text", () => fs.writeFileSync(mark, "no")],
    ["large", () => fs.writeFileSync(mark, "x".repeat(5000))],
    ["a directory", () => fs.mkdirSync(mark)],
    ["a symbolic link to nowhere", () => fs.symlinkSync("nowhere", mark)],
  ])("that is %s counts as there, with consent", (_name, make) => {
    make();
    expect(readEnforcedMark(temp.path)).toEqual({ kind: "there", consent: true });
  });

  test("is missing where there is no state directory, and cannot be kept there", async () => {
    const nowhere = join(temp.path, "nowhere");
    expect(readEnforcedMark(nowhere)).toEqual({ kind: "none" });
    expect(await codeOf(() => keepEnforcedMark(nowhere, "consent"))).toBe("state-unwritable");
    forgetEnforcedMark(nowhere);
  });
});

describe("traces of an earlier daemon", () => {
  const state = () => join(temp.path, "state");
  const log = () => join(temp.path, "log");
  const put = (directory: string, ...names: readonly string[]) => {
    fs.mkdirSync(directory);
    for (const name of names) fs.writeFileSync(join(directory, name), "");
  };

  test("are none before a first start, whatever others keep there", () => {
    expect(tracesIn(state(), log())).toEqual([]);
    put(state(), "lost+found", "notes", "log.key", "log.key.new", "log.head");
    put(log(), "lock", "00000000000000000000.jsonl");
    expect(tracesIn(state(), log())).toEqual([]);
  });

  test("are what only a start leaves, and the evidence beside the log", () => {
    put(state(), "baseline.json", "enforced", "log.old", "notes");
    put(log(), "broken-20260102T030405.678Z", "torn-00000000000000000007-20260102T030405.678Z.bin");
    expect(tracesIn(state(), log())).toEqual([
      "baseline.json",
      "broken-20260102T030405.678Z",
      "enforced",
      "log.old",
      "torn-00000000000000000007-20260102T030405.678Z.bin",
    ]);
  });

  test("that cannot be listed are an error", async () => {
    fs.writeFileSync(state(), "");
    expect(await codeOf(() => tracesIn(state(), log()))).toBe("key-unreadable");
  });
});

test("the mark for USB is a file of its own, that udev looks for", () => {
  const usbMark = join(temp.path, "usb-enforced");
  keepUsbMark(temp.path);
  expect([fs.statSync(usbMark).mode & 0o777, fs.existsSync(mark)]).toEqual([0o600, false]);
  expect(hasUsbMark(temp.path)).toBe(true);
  forgetUsbMark(temp.path);
  expect([hasUsbMark(temp.path), hasUsbMark(join(temp.path, "nowhere"))]).toEqual([false, false]);
  forgetUsbMark(temp.path);
  expect(fs.readdirSync(temp.path)).toEqual([]);
});
