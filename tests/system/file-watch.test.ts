import { spawn } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

const NOT_ROOT = process.getuid?.() === 0 ? "" : " (needs root, to become somebody else)";
const NOBODY = 65_534;

/** Runs the sensor as a user who may not read everything; it prints what it says and has to end by itself. */
const AGENT = `
import { createDirectoryWatch } from ${module("adapters/directory-watch.ts")};
import { createFileReader } from ${module("adapters/file-state.ts")};
import { createFileSensor } from ${module("adapters/file-watch.ts")};
import { createClock } from ${module("adapters/clock.ts")};
const sensor = createFileSensor({
  paths: process.argv.slice(1), self: [], rehashMs: 60_000, clock: createClock(), limits: { maxFiles: 100 },
  reader: createFileReader({ maxHashBytes: 1_048_576, hashConcurrency: 2 }),
  directories: createDirectoryWatch({ maxDirectories: 100, sweepMs: 1_000 }),
});
const blind = [];
await sensor.start(({ facts }) => blind.push(facts.why));
const kinds = (await sensor.snapshot()).map((state) => state.kind);
const health = sensor.health().state;
await sensor.stop();
console.log(JSON.stringify({ blind, kinds, health }));
`;

function module(path: string): string {
  return JSON.stringify(new URL(`../../daemon/${path}`, import.meta.url).href);
}

let root: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "boundary-files-"));
  chmodSync(root, 0o755);
});

afterEach(() => rmSync(root, { recursive: true, force: true }));

async function runAs(uid: number, paths: readonly string[]): Promise<{ code: unknown; said: unknown }> {
  const child = spawn(process.execPath, ["--input-type=module", "-e", AGENT, ...paths], {
    uid,
    gid: uid,
    cwd: "/",
    stdio: ["ignore", "pipe", "inherit"],
  });
  let text = "";
  child.stdout.on("data", (chunk: Buffer) => {
    text += chunk.toString();
  });
  const code = await new Promise((resolve) => child.once("close", resolve));
  return { code, said: JSON.parse(text) as unknown };
}

describe.skipIf(NOT_ROOT !== "")(`the file sensor as another user${NOT_ROOT}`, () => {
  test("tells a file it may not read, a directory it may not enter and a missing file apart", async () => {
    writeFileSync(join(root, "closed"), "x", { mode: 0o600 });
    mkdirSync(join(root, "private"), { mode: 0o700 });
    const paths = ["absent", "closed", "private/f"].map((name) => join(root, name));
    const { code, said } = await runAs(NOBODY, paths);
    expect(code).toBe(0);
    expect(said).toEqual({
      blind: expect.arrayContaining([
        expect.stringMatching(/closed cannot be read \(EACCES\)/),
        expect.stringMatching(/private\/f cannot be read \(EACCES\)/),
        expect.stringMatching(/private cannot be watched \(EACCES\)/),
      ]),
      kinds: ["missing", "unreadable", "unreadable"],
      health: "blind",
    });
  });

  test("ends by itself once stopped, with trees watched too", async () => {
    writeFileSync(join(root, "f"), "x");
    const { code, said } = await runAs(NOBODY, [`${root}/`]);
    expect([code, said]).toEqual([0, { blind: [], kinds: ["directory", "file"], health: "watching" }]);
  });
});
