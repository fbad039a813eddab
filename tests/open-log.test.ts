import * as fs from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { openHeadFile } from "../daemon/adapters/head-file.ts";
import { createKeyRing, loadKeyRing, prepareStateDirectory } from "../daemon/adapters/keys.ts";
import { createSegment, prepareLogDirectory, segmentName } from "../daemon/adapters/log-file.ts";
import { startIn } from "../daemon/core/start.ts";
import { openHistory, readHistory } from "../daemon/open-log.ts";
import { tempDirectory } from "./audit/fixture.ts";
import { logPlaceAt } from "./support/log-place.ts";

let temp: ReturnType<typeof tempDirectory>;
let logDir: string;
let stateDir: string;

/** As a first start leaves it that could not write its first batch: a key, a segment and a head without a byte. */
beforeEach(() => {
  temp = tempDirectory();
  logDir = join(temp.path, "log");
  stateDir = join(temp.path, "state");
  prepareLogDirectory(logDir);
  prepareStateDirectory(stateDir);
  createKeyRing(stateDir);
  createSegment(logDir, 0).close();
  openHeadFile(stateDir).close();
});
afterEach(() => temp[Symbol.dispose]());

async function kindOfStart(): Promise<string> {
  const opened = await openHistory(logPlaceAt({ logDir, stateDir }));
  opened.store.close();
  return opened.history.kind;
}

describe("a start after a first one that failed before its first batch", () => {
  test("is a first start, under the key that was made, in the same segment", async () => {
    const before = loadKeyRing(stateDir);
    const opened = await openHistory(logPlaceAt({ logDir, stateDir }));
    opened.store.close();
    expect(opened.history).toEqual({ kind: "none" });
    expect(opened.findings).toEqual([]);
    expect(before.kind === "loaded" && before.ring.genesis).toBe(opened.ring.genesis);
    expect(fs.readdirSync(logDir)).toEqual([segmentName(0)]);
  });

  test("until there is one, the kernel is kept closed", async () => {
    const history = await readHistory(logPlaceAt({ logDir, stateDir }));
    expect(startIn(history, null, "OPEN").mode).toBe("LOCKDOWN");
  });

  const traces: readonly (readonly [name: string, leave: () => void])[] = [
    ["a baseline", () => fs.writeFileSync(join(stateDir, "baseline.json"), "")],
    ["the mark of enforcement", () => fs.writeFileSync(join(stateDir, "enforced"), "")],
    ["a key on its way", () => fs.writeFileSync(join(stateDir, "log.key.next"), "")],
    ["a head", () => fs.writeFileSync(join(stateDir, "log.head"), "anything")],
    ["a tombstone", () => fs.writeFileSync(join(logDir, "00000000000000000000.tombstone"), "")],
    ["a log that was moved aside", () => fs.mkdirSync(join(logDir, "broken-20260102T030405.678Z"))],
    ["a cut tail", () => fs.writeFileSync(join(logDir, "torn-0-20260102T030405.678Z.bin"), "x")],
    ["a later segment", () => createSegment(logDir, 7).close()],
    ["a byte in the segment", () => fs.writeFileSync(join(logDir, segmentName(0)), "x")],
    ["only a later segment", () => fs.renameSync(join(logDir, segmentName(0)), join(logDir, segmentName(7)))],
    ["no segment at all", () => fs.rmSync(join(logDir, segmentName(0)))],
    ["a key that has taken another's place", rotateKey],
  ];
  test.each(traces)("is none where there is %s", async (_name, leave) => {
    leave();
    // refused is as good as LOCKDOWN: there is no daemon then
    expect(await kindOfStart().catch(() => "refused")).not.toBe("none");
  });
});

function rotateKey(): void {
  const found = loadKeyRing(stateDir);
  if (found.kind !== "loaded") throw new Error("there is no key");
  found.ring.prepareNext();
  found.ring.promote();
}
