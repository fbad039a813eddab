import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { checkSource, findCycle, runtimeImports, TABLE } from "./support/architecture.ts";
import { importsOf } from "./support/imports.ts";
import { tokensOf } from "./support/source-tokens.ts";

const ROOT = join(import.meta.dirname, "..");
const FILES = ["daemon", "cli", "client"].flatMap((dir) =>
  readdirSync(join(ROOT, dir), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => `${dir}/${name}`),
);
const read = (path: string) => readFileSync(join(ROOT, path), "utf8");

describe("the project", () => {
  test("has files to check", () => {
    expect(FILES.length).toBeGreaterThan(8);
  });

  test.each(FILES)("%s keeps to the import table", (path) => {
    expect(checkSource(path, read(path))).toEqual([]);
  });

  test("has no cycle of imports", () => {
    expect(findCycle(new Map(FILES.map((path) => [path, runtimeImports(path, read(path))])))).toBeNull();
  });

  test("every allowance says why", () => {
    for (const row of TABLE) for (const may of row.may) expect(may.why).not.toBe("");
  });

  test.each(FILES)("%s: a plain search finds no import that the parser missed", (path) => {
    const source = read(path);
    const found = importsOf(tokensOf(source)).map((one) => one.from);
    const plain = [...source.matchAll(/^(?:import|export|\}) [^"\n]*from "([^"]+)"/gm)].map((hit) => hit[1]);
    expect(found).toEqual(expect.arrayContaining(plain));
  });
});

const VIOLATIONS: readonly (readonly [path: string, source: string, problem: RegExp])[] = [
  ["daemon/core/a.ts", 'import { readFileSync } from "node:fs";', /may not import node:fs/],
  ["daemon/core/a.ts", 'import { x } from "../adapters/clock.ts";', /may not import daemon\/adapters\/clock/],
  ["daemon/core/a.ts", 'import type { Clock } from "../ports.ts";', /may not import daemon\/ports/],
  ["daemon/core/a.ts", 'import { MAX } from "../audit/record.ts";', /only as types/],
  ["daemon/core/a.ts", 'import { type A, MAX } from "../audit/record.ts";', /only as types/],
  ["daemon/core/a.ts", 'import { randomBytes } from "node:crypto";', /only for hash/],
  ["daemon/core/a.ts", 'import * as all from "node:crypto";', /only for hash/],
  ["daemon/core/a.ts", 'import "node:crypto";', /only for hash/],
  ["daemon/core/a.ts", 'import pino from "pino";', /may not import pino/],
  ["daemon/core/a.ts", 'import fs from "fs";', /may not import fs/],
  ["daemon/core/a.ts", "const now = Date.now();", /Date\.now/],
  ["daemon/core/a.ts", "const now = new Date();", /new Date\(\)/],
  ["daemon/core/a.ts", "const now = new Date;", /new Date\(\)/],
  ["daemon/core/a.ts", "const now = Date();", /Date\(\)/],
  ["daemon/core/a.ts", "const t = process.hrtime.bigint();", /process/],
  ["daemon/core/a.ts", "setTimeout(run, 5);", /setTimeout/],
  ["daemon/core/a.ts", "const again = setInterval;", /setInterval/],
  ["daemon/core/a.ts", "const t = performance.now();", /performance/],
  ["daemon/core/a.ts", "const r = Math.random();", /Math\.random/],
  // biome-ignore lint/suspicious/noTemplateCurlyInString: source text
  ["daemon/core/a.ts", "const s = `at ${Date.now()}`;", /Date\.now/],
  ["daemon/protocol/a.ts", 'import { open } from "node:fs/promises";', /may not import node:fs/],
  ["daemon/protocol/a.ts", 'import { append } from "../audit/log.ts";', /may not import daemon\/audit/],
  ["daemon/protocol/a.ts", "setImmediate(run);", /setImmediate/],
  ["daemon/policy/a.ts", 'import { x } from "../adapters/peer.ts";', /may not import daemon\/adapters/],
  ["daemon/policy/a.ts", "const now = Date.now();", /Date\.now/],
  ["daemon/audit/a.ts", 'import { openSync } from "node:fs";', /may not import node:fs/],
  ["daemon/audit/a.ts", 'import { file } from "../adapters/log-file.ts";', /may not import daemon\/adapters/],
  ["daemon/audit/log.ts", "setTimeout(flush, 2);", /setTimeout/],
  ["daemon/audit/a.ts", "setImmediate(flush);", /setImmediate/],
  ["daemon/audit/a.ts", "const r = Math.random();", /Math\.random/],
  ["daemon/ports.ts", 'import { MODES } from "./core/mode.ts";', /only as types/],
  ["daemon/daemon.ts", 'import { clock } from "./adapters/clock.ts";', /may not import daemon\/adapters/],
  ["daemon/daemon.ts", 'import { readFileSync } from "node:fs";', /may not import node:fs/],
  ["daemon/requests.ts", 'import { start } from "./main.ts";', /may not import daemon\/main/],
  ["daemon/requests.ts", 'import koffi from "koffi";', /may not import koffi/],
  ["daemon/adapters/a.ts", 'import { clock } from "./clock.ts";', /may not import daemon\/adapters\/clock/],
  ["daemon/adapters/a.ts", 'import { daemon } from "../daemon.ts";', /may not import daemon\/daemon/],
  ["daemon/adapters/a.ts", 'import { append } from "../audit/log.ts";', /only as types/],
  ["daemon/adapters/a.ts", 'import { spawn } from "node:child_process";', /programs start in adapters\/run/],
  [
    "daemon/adapters/a.ts",
    'const c = await import("node:child_process");',
    /programs start in adapters\/run/,
  ],
  ["daemon/adapters/a.ts", 'import ipc from "node-ipc";', /may not import node-ipc/],
  ["daemon/adapters/a.ts", 'import { lookup } from "node:dns";', /no DNS/],
  ["daemon/adapters/a.ts", 'import { parse } from "yaml";', /may not import yaml/],
  ["daemon/adapters/a.ts", "const m = await import(name);", /computed/],
  ["daemon/adapters/a.ts", 'const m = await import("a" + b);', /computed/],
  ["daemon/adapters/a.ts", 'const fs = require("node:fs");', /static/],
  ["daemon/adapters/a.ts", 'process.getBuiltinModule("node:vm");', /static/],
  ["daemon/adapters/a.ts", 'import { createRequire } from "node:module";', /static/],
  ["daemon/main.ts", 'import { spawn } from "node:child_process";', /programs start/],
  ["daemon/main.ts", 'import { run } from "../cli/main.ts";', /may not import cli/],
  [
    "cli/output.ts",
    'import { clock } from "../daemon/adapters/clock.ts";',
    /may not import daemon\/adapters/,
  ],
  ["cli/output.ts", 'import type { Clock } from "../daemon/ports.ts";', /may not import daemon\/ports/],
  ["cli/output.ts", 'import ipc from "node-ipc";', /may not import node-ipc/],
  ["cli/output.ts", 'import { exec } from "node:child_process";', /programs start/],
  ["cli/output.ts", 'import { createRequire } from "node:module";', /only for enableCompileCache/],
  ["cli/output.ts", "export enum Exit { Done }", /enum/],
  ["cli/output.ts", "export const enum Exit { Done }", /enum/],
  ["cli/output.ts", "export default function main() {}", /default export/],
  ["cli/output.ts", 'export * from "./output.ts";', /re-exporting/],
  ["cli/output.ts", 'import { a } from "./output.js";', /no \.ts file/],
  ["cli/output.ts", 'eval("1");', /eval/],
  ["cli/output.ts", 'const f = new Function("return 1");', /code from text/],
  ["cli/index.ts", "export const a = 1;", /named after/],
  ["daemon/core/utils.ts", "export const a = 1;", /named after/],
  ["daemon/elsewhere/a.ts", "export const a = 1;", /no row/],
];

const HARMLESS: readonly (readonly [path: string, source: string])[] = [
  ["daemon/core/a.ts", 'import type { Entry } from "../audit/record.ts";'],
  ["daemon/core/a.ts", 'import { type Entry, type Data } from "../audit/record.ts";'],
  ["daemon/core/a.ts", 'import { createHash } from "node:crypto";'],
  ["daemon/core/a.ts", "// Date.now() is not for us\nconst text = \"import x from 'node:fs'\";"],
  ["daemon/core/a.ts", "/* setTimeout(a) */ const pattern = /Math.random\\(\\)/;"],
  ["daemon/core/a.ts", "const at = new Date(wallMs).toISOString();"],
  ["daemon/core/a.ts", "const switches = { process: false, network: true }; clock.process.start();"],
  ["daemon/adapters/a.ts", 'import { run } from "./run.ts";\nimport { z as y } from "./run.ts";'],
  ["daemon/adapters/run.ts", 'import { spawn } from "node:child_process";'],
  ["daemon/adapters/ipc.ts", 'import ipc from "node-ipc";'],
  ["daemon/main.ts", 'import { clock } from "./adapters/clock.ts";'],
  ["cli/main.ts", 'import { status } from "./commands/status.ts";\nconst { enum: e } = z; z.enum(["a"]);'],
];

describe("the architecture rules bite", () => {
  test.each(VIOLATIONS)("%s: %s", (path, source, problem) => {
    const found = checkSource(path, `// a comment\n${source}\n`);
    expect(found.map((one) => one.problem).join("\n")).toMatch(problem);
    expect(found[0]?.line).toBeLessThanOrEqual(2);
  });

  test.each(HARMLESS)("and leave alone: %s: %s", (path, source) => {
    expect(checkSource(path, source)).toEqual([]);
  });

  test("a cycle is found, and a diamond is none", () => {
    const diamond = new Map([
      ["a", ["b", "c"]],
      ["b", ["d"]],
      ["c", ["d"]],
      ["d", []],
    ]);
    expect(findCycle(diamond)).toBeNull();
    expect(findCycle(new Map([...diamond, ["d", ["a"]]]))).toEqual(["a", "b", "d", "a"]);
  });
});

describe("the import parser", () => {
  test.each([
    ['import a from "x";', "x", ["default"], "mixed"],
    ['import a, { b as c, type D } from "x";', "x", ["default", "b", "D"], "mixed"],
    ['import * as all from "x";', "x", ["*"], "mixed"],
    ['import type { A, B } from "x";', "x", ["A", "B"], "only"],
    ['import {\n  type A,\n  type B,\n} from "x";', "x", ["A", "B"], "only"],
    ["import 'x';", "x", [], "mixed"],
    ['export { a } from "x";', "x", ["a"], "mixed"],
    ['export type { A } from "x";', "x", ["A"], "only"],
    ['export * from "x";', "x", ["*"], "mixed"],
    ['const { a } = await import("x");', "x", ["*"], "mixed"],
    ['import type from "x";', "x", ["default"], "mixed"],
  ])("%s", (source, from, names, types) => {
    expect(importsOf(tokensOf(source))).toEqual([
      { from, names, types, when: source.includes("(") ? "lazy" : "at-load", line: 1 },
    ]);
  });

  test("an import stands out whatever strings, comments and expressions surround it", () => {
    const noise = fc.constantFrom(
      '"a // b"',
      "'it\\'s'",
      "`x \x24{ { a: `}` }.a } y`",
      '/[/"`]/g',
      "// import y from 'y'\n",
      "/* from 'z' */",
      "a / b / c;",
      "(1) / 2;",
      "{ }",
    );
    fc.assert(
      fc.property(fc.array(noise, { maxLength: 8 }), fc.array(noise, { maxLength: 8 }), (before, after) => {
        const source = `${before.join(";\n")};\nimport { a } from "real";\n${after.join(";\n")}`;
        expect(importsOf(tokensOf(source)).map((one) => one.from)).toEqual(["real"]);
      }),
    );
  });

  test("any text ends in tokens", () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 300 }), (text) => {
        expect(tokensOf(text).length).toBeLessThanOrEqual(text.length + 1);
      }),
    );
  });
});
