import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { tempDirectory } from "../audit/fixture.ts";
import { NO_MOUNT, onSmallDisk } from "../support/small-disk.ts";

let temp: ReturnType<typeof tempDirectory>;
beforeEach(() => {
  temp = tempDirectory();
});
afterEach(() => temp[Symbol.dispose]());

const moduleAt = (path: string) => JSON.stringify(new URL(`../../daemon/${path}`, import.meta.url).href);
const PRELUDE = `
  import * as fs from "node:fs";
  const log = await import(${moduleAt("adapters/log-file.ts")});
  const directory = process.env.DISK + "/log";
  log.prepareLogDirectory(directory);
  const KEPT = { protect: "append-only", reserveBytes: 0 };
  const at = (name) => directory + "/" + name;
  const attempt = (work) => { try { work(); return "done"; } catch (error) { return error.code; } };
  const say = (value) => console.log(JSON.stringify(value));
  const kinds = () => log.protectionOf(directory).map(({ kind }) => kind);
`;

describe.skipIf(NO_MOUNT !== "")(`the log's files${NO_MOUNT && ` (skipped: ${NO_MOUNT})`}`, () => {
  const run = (kind: "ext4" | "tmpfs", code: string, how: Parameters<typeof onSmallDisk>[3] = {}) =>
    onSmallDisk(kind, temp.path, PRELUDE + code, how)
      .trim()
      .split("\n")
      .map((line): unknown => JSON.parse(line));

  test.each(["ext4", "tmpfs"] as const)("on %s are append-only while open, and immutable after", (kind) => {
    const told = run(
      kind,
      `
      const store = log.createSegment(directory, 0, KEPT);
      const file = log.segmentName(0);
      say(store.protection());
      await store.write(Buffer.from("one\\n"));
      say([attempt(() => fs.truncateSync(at(file), 1)), attempt(() => fs.unlinkSync(at(file))),
        attempt(() => fs.renameSync(at(file), at("x"))), attempt(() => fs.writeFileSync(at(file), "x", { flag: "r+" }))]);
      store.close();
      const again = log.openSegment(directory, file, 4, KEPT);
      await again.write(Buffer.from("two\\n"));
      again.finish();
      say([kinds(), attempt(() => fs.appendFileSync(at(file), "x")), attempt(() => fs.unlinkSync(at(file))),
        fs.readFileSync(at(file), "utf8")]);`,
    );
    expect(told).toEqual([
      { kind: "append-only" },
      ["EPERM", "EPERM", "EPERM", "EPERM"],
      [["immutable"], "EPERM", "EPERM", "one\ntwo\n"],
    ]);
  });

  test("are cut, pruned and set aside by us all the same", () => {
    const told = run(
      "ext4",
      `
      const first = log.createSegment(directory, 0, KEPT);
      await first.write(Buffer.from("zero\\n"));
      first.finish();
      log.saveTombstone(directory, 0, Buffer.from("grave\\n"));
      const store = log.createSegment(directory, 1, KEPT);
      await store.write(Buffer.from("one\\ntorn"));
      store.close();
      say(kinds());
      log.removeSegment(directory, 0);
      const file = log.segmentName(1);
      log.cutTail(directory, { file, byte: 4, seq: 2 }, 0);
      say([fs.readFileSync(at(file), "utf8"), kinds()]);
      log.openSegment(directory, file, 4, KEPT).close();
      say(kinds());
      const aside = at(log.quarantine(directory, 0));
      say([kinds(), log.protectionOf(aside).map(({ kind }) => kind),
        attempt(() => fs.unlinkSync(aside + "/" + file))]);`,
    );
    expect(told).toEqual([
      ["immutable", "append-only"],
      ["one\n", ["none"]],
      ["append-only"],
      [[], ["immutable"], "EPERM"],
    ]);
  });

  test("are written without the capability too, and say that they are not protected, and why", () => {
    const told = run(
      "ext4",
      `
      const store = log.createSegment(directory, 0, KEPT);
      await store.write(Buffer.from("one\\n"));
      say(store.protection());
      store.finish();
      say(log.protectionOf(directory));`,
      { without: "linux_immutable" },
    );
    expect(told).toEqual([
      { kind: "none", why: "no CAP_LINUX_IMMUTABLE, or the file is somebody else's" },
      [{ kind: "none", why: "not set" }],
    ]);
  });

  test("that are protected, and the capability is gone, cannot be set aside in silence", () => {
    const code = `
      const store = log.createSegment(directory, 0, KEPT);
      store.finish();`;
    const later = `${PRELUDE} say(attempt(() => log.quarantine(directory, 0)));`;
    const drop = "setpriv --bounding-set -linux_immutable --inh-caps -linux_immutable";
    const after = `${drop} "$NODE" --input-type=module -e '${later}'`;
    expect(run("ext4", code, { after })).toEqual(["log-unavailable"]);
  });
});
