import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { segmentName } from "../../daemon/adapters/log-file.ts";
import { tempDirectory } from "../audit/fixture.ts";
import { type DiskKind, NO_MOUNT, onSmallDisk } from "../support/small-disk.ts";

let temp: ReturnType<typeof tempDirectory>;
beforeEach(() => {
  temp = tempDirectory();
});
afterEach(() => temp[Symbol.dispose]());

const MODULE = JSON.stringify(new URL("../../daemon/adapters/log-file.ts", import.meta.url).href);
const RESERVE = 1024 * 1024;
const PRELUDE = `
  import * as fs from "node:fs";
  const log = await import(${MODULE});
  const directory = process.env.DISK + "/log";
  log.prepareLogDirectory(directory);
  const file = directory + "/" + log.segmentName(0);
  const say = (value) => console.log(JSON.stringify(value));
  /** Another's file takes all that is left. */
  const fill = () => {
    const fd = fs.openSync(process.env.DISK + "/filler", "a");
    for (const bytes of [65536, 512, 1])
      try { for (;;) fs.writeSync(fd, Buffer.alloc(bytes, 1)); } catch (error) { if (error.code !== "ENOSPC") throw error; }
    try { fs.fsyncSync(fd); } catch {}
    fs.closeSync(fd);
  };
  const line = Buffer.alloc(32768, "x").fill("\\n", 32767);
  /** Appends until the disk is full; how many bytes went in. */
  const append = async (store) => {
    let bytes = 0;
    for (;; bytes += line.length)
      try { await store.write(line); } catch (error) { say(error.code); return bytes; }
  };
`;

describe.skipIf(NO_MOUNT !== "")(`a full disk${NO_MOUNT && ` (skipped: ${NO_MOUNT})`}`, () => {
  const run = (kind: DiskKind, code: string): unknown[] =>
    onSmallDisk(kind, temp.path, PRELUDE + code)
      .trim()
      .split("\n")
      .map((one): unknown => JSON.parse(one));

  test.each([
    ["ext4", "append-only"],
    ["tmpfs", "append-only"],
    ["ext4", "plain"],
  ] as const)("on %s, %s, still takes the reserve's records, and they are whole", (kind, protect) => {
    const told = run(
      kind,
      `
      const store = log.createSegment(directory, 0, { protect: "${protect}", reserveBytes: ${RESERVE} });
      await store.write(line);
      say([store.room().reserve, fs.statSync(file).size]);
      fill();
      say(store.room().freeBytes);
      const bytes = await append(store);
      say(bytes);
      say(fs.readFileSync(file).every((byte) => byte === 0x78 || byte === 0x0a));
      say(store.room().reserve.bytes);
      fs.unlinkSync(process.env.DISK + "/filler");
      store.close();`,
    );
    expect(told[0]).toEqual([{ kind: "blocks", bytes: RESERVE - 32768 }, 32768]);
    expect(told[1]).toBeLessThan(4096);
    expect(told[2]).toBe("ENOSPC");
    expect(told[3]).toBeGreaterThanOrEqual(RESERVE - 3 * 32768);
    expect(told[4]).toBe(true);
    expect(told[5]).toBeLessThan(3 * 32768);
  });

  test("takes the ballast's place where a file system cannot keep blocks behind a file's end", () => {
    const told = run(
      "ext2",
      `
      const store = log.createSegment(directory, 0, { protect: "plain", reserveBytes: ${RESERVE} });
      await store.write(line);
      say(store.room().reserve);
      fill();
      say(await append(store) >= ${RESERVE} - 3 * 32768);
      say(store.room().reserve);
      say(fs.readdirSync(directory));
      fs.unlinkSync(process.env.DISK + "/filler");
      await store.write(line);
      say(store.room().reserve);
      store.finish();
      say(fs.readdirSync(directory));`,
    );
    expect(told).toEqual([
      { kind: "ballast", bytes: RESERVE },
      "ENOSPC",
      true,
      { kind: "none", bytes: 0 },
      [segmentName(0)],
      { kind: "ballast", bytes: RESERVE },
      [segmentName(0)],
    ]);
  });

  test("takes none without a reserve", () => {
    const told = run(
      "tmpfs",
      `
      const store = log.createSegment(directory, 0);
      await store.write(line);
      fill();
      say(await append(store));
      store.close();`,
    );
    expect(told).toEqual(["ENOSPC", 0]);
  });

  test.each(["ext4", "tmpfs"] as const)("on %s is no cause for a reserve that grows with the log", (kind) => {
    const told = run(
      kind,
      `
      const store = log.createSegment(directory, 0, { protect: "append-only", reserveBytes: ${RESERVE} });
      for (let n = 0; n < 100; n++) await store.write(line);
      const { bytes } = store.room().reserve;
      say([bytes > ${RESERVE / 2}, fs.statSync(file).blocks * 512 <= fs.statSync(file).size + ${RESERVE} + 65536]);
      store.finish();
      say(fs.statSync(file).blocks * 512 - fs.statSync(file).size);
      say(log.protectionOf(directory)[0].kind);`,
    );
    expect(told[0]).toEqual([true, true]);
    expect(told[1]).toBeLessThan(8192);
    expect(told[2]).toBe("immutable");
  });
});
