import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { prepareStateDirectory } from "../../daemon/adapters/keys.ts";
import { prepareLogDirectory } from "../../daemon/adapters/log-file.ts";
import { tempDirectory } from "../audit/fixture.ts";

const { fsyncSync } = fs;
let temp: ReturnType<typeof tempDirectory>;
let synced: string[];

beforeEach(() => {
  temp = tempDirectory();
  synced = [];
  fs.fsyncSync = (fd) => {
    synced.push(fs.readlinkSync(`/proc/self/fd/${fd}`));
    fsyncSync(fd);
  };
  syncBuiltinESMExports();
});
afterEach(() => {
  fs.fsyncSync = fsyncSync;
  syncBuiltinESMExports();
  temp[Symbol.dispose]();
});

test.each([
  ["log", prepareLogDirectory],
  ["state", prepareStateDirectory],
] as const)(
  "the %s directory outlives a power cut, with all that had to be made above it",
  (_name, prepare) => {
    prepare(join(temp.path, "a/b/c"));
    expect(synced.sort()).toEqual([temp.path, join(temp.path, "a"), join(temp.path, "a/b")].sort());
    synced = [];
    prepare(join(temp.path, "a/b/c"));
    expect(synced).toEqual([]);
  },
);
