import { spawnSync } from "node:child_process";
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const ROOT = join(import.meta.dirname, "../..");
const BIN = join(ROOT, "node_modules/.bin");
let place = "";

/** A project that has ours, built, among its packages. */
beforeAll(() => {
  place = mkdtempSync(join(tmpdir(), "boundary-package-"));
  const ours = join(place, "node_modules/boundary-daemon");
  mkdirSync(ours, { recursive: true });
  copyFileSync(join(ROOT, "package.json"), join(ours, "package.json"));
  symlinkSync(join(ROOT, "node_modules/zod"), join(place, "node_modules/zod"));
  symlinkSync(join(ROOT, "node_modules/@types"), join(place, "node_modules/@types"));
  const built = run(process.execPath, join(ROOT, "tests/support/build.ts"), "--out", join(ours, "dist"));
  if (built.status !== 0) throw new Error(built.stderr);
}, 120_000);
afterAll(() => rmSync(place, { recursive: true, force: true }));

function run(program: string, ...args: readonly string[]) {
  return spawnSync(program, args, { cwd: place, encoding: "utf8", timeout: 100_000 });
}

const SOURCE = `import { type Answer, BoundaryError, connect, type ModeNews } from "boundary-daemon/client";

const news: ModeNews[] = [];
const client = connect({
  socket: "/nonexistent/control.sock",
  deadlineMs: 1_000,
  onModeChange: (one) => void news.push(one),
});
const answer: Answer = await client.check({
  action: { name: "tool.run" },
  resource: { type: "tool", id: "ls", properties: { reach: "none" } },
});
const refused = await client.call("status", {}).then(
  ({ assurance }): string => assurance,
  (error: unknown) => (error instanceof BoundaryError ? error.code : "?"),
);
client.close();
console.log(JSON.stringify([answer.decision, answer.code, refused, news.length <= 1]));
`;

describe("boundary-daemon/client", () => {
  test("is imported by its name, and denies where there is no daemon", () => {
    writeFileSync(join(place, "use.mts"), SOURCE);
    const ran = run(process.execPath, join(place, "use.mts"));
    expect(ran).toMatchObject({ status: 0, stderr: "" });
    expect(JSON.parse(ran.stdout)).toEqual([false, "daemon-unreachable", "no-daemon", true]);
  });

  test("has types that a strict program can use, and so can the one in docs/CLIENT.md", () => {
    const page = readFileSync(join(ROOT, "docs/CLIENT.md"), "utf8");
    const [, example = ""] = /```ts\n(.*?)```/s.exec(page) ?? [];
    expect(example).toContain("connect(");
    writeFileSync(join(place, "use.mts"), SOURCE);
    writeFileSync(join(place, "example.mts"), example);
    const strict = ["--strict", "--noEmit", "--module", "nodenext", "--target", "es2024", "--types", "node"];
    const checked = run(join(BIN, "tsc"), ...strict, "--ignoreConfig", "use.mts", "example.mts");
    expect(checked.stdout).toBe("");
    expect(checked.status).toBe(0);
    writeFileSync(join(place, "wrong.mts"), SOURCE.replace('"tool.run"', "7"));
    expect(run(join(BIN, "tsc"), ...strict, "--ignoreConfig", "wrong.mts").stdout).toContain(
      "not assignable",
    );
  });

  test("gives out nothing else but what package.json names", () => {
    writeFileSync(join(place, "deep.mts"), 'await import("boundary-daemon/dist/client/control.js");\n');
    expect(run(process.execPath, join(place, "deep.mts")).stderr).toContain("ERR_PACKAGE_PATH_NOT_EXPORTED");
  });
});
