import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { renderFrame } from "../../../cli/ship/syslog-message.ts";
import { unship } from "../../../cli/ship/unship.ts";
import { codeOf, recordOf } from "../../audit/fixture.ts";
import { boundaryctl } from "../../support/boundaryctl.ts";
import { evenLog, shipDirectory, textOf } from "../../support/real-log.ts";

const LOG = await evenLog({
  segments: 1,
  batches: 6,
  perBatch: 3,
  data: (seq) => ({ seq, text: "größer \u007f" }),
});
const ALL = LOG.lines;
const SENDER = { hostname: "here", procId: "1" };

let base: ReturnType<typeof shipDirectory>;
let out: string;
beforeEach(() => {
  base = shipDirectory();
  out = join(base.path, "out");
});
afterEach(() => base.remove());

function wrote(...files: readonly string[]): readonly string[] {
  return files.map((text, n) => {
    const path = join(base.path, `server-${n}`);
    writeFileSync(path, text);
    return path;
  });
}

const full = (text: string): string => {
  const frame = renderFrame({ record: recordOf(text), text }, SENDER).toString();
  return frame.slice(frame.indexOf(" ") + 1);
};

describe("what a server may write", () => {
  const rows: readonly [name: string, text: string][] = [
    ["bare lines", textOf(ALL)],
    ["with byte order marks", textOf(ALL.map((line) => `\ufeff${line}`))],
    ["RFC 5424", textOf(ALL.map(full))],
    ["a traditional header", textOf(ALL.map((line) => `Jan  2 03:04:05 here boundary-daemon[1]: ${line}`))],
    ["line ends of another world", ALL.map((line) => `${line}\r\n`).join("")],
    ["without the last line end", textOf(ALL).slice(0, -1)],
  ];
  test.each(rows)("%s: the log comes out byte for byte", async (_name, text) => {
    const found = await unship(wrote(text), out);
    expect(found).toMatchObject({
      records: ALL.length,
      duplicates: 0,
      foreign: 0,
      unreadable: [],
      missing: [],
    });
    expect(readFileSync(out, "utf8")).toBe(textOf(ALL));
    expect((statSync(out).mode & 0o777).toString(8)).toBe("600");
  });

  test("several files, in any order, with much that is not ours", async () => {
    const noise = "Jan  2 03:04:05 here sshd[1]: hello\n\n";
    const [a, b] = [textOf(ALL.slice(0, 8)), textOf(ALL.slice(6))];
    const found = await unship(wrote(noise + b + noise, a + noise), out);
    expect(found).toMatchObject({ records: ALL.length, duplicates: 2, foreign: 6 });
    expect(readFileSync(out, "utf8")).toBe(textOf(ALL));
  });

  test("whatever comes again, and in whatever order: each once, sorted", async () => {
    const paths = wrote("");
    let run = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat({ max: ALL.length - 1 }), { maxLength: 40 }), async (again) => {
        const some = again.map((at) => ALL[at] ?? "");
        writeFileSync(paths[0] ?? "", textOf([...some, ...ALL, ...some]));
        const found = await unship(paths, `${out}-${run++}`);
        expect(found).toMatchObject({ records: ALL.length, duplicates: 2 * some.length, conflicts: [] });
        expect(readFileSync(`${out}-${run - 1}`, "utf8")).toBe(textOf(ALL));
      }),
      { numRuns: 30 },
    );
  });

  test("any bytes are answered", async () => {
    const paths = wrote("");
    let run = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof(fc.uint8Array(), fc.constant(Buffer.from('\n{"at":"')))),
        async (parts) => {
          writeFileSync(paths[0] ?? "", Buffer.concat(parts.map((part) => Buffer.from(part))));
          expect(await unship(paths, `${out}-${run++}`)).toMatchObject({ records: 0 });
        },
      ),
      { numRuns: 50 },
    );
  });

  test("a line of megabytes is passed over, and what follows is read", async () => {
    const found = await unship(wrote(`${"x".repeat(3_000_000)}\n${textOf(ALL)}`), out);
    expect(found).toMatchObject({ records: ALL.length, foreign: 1 });
  });
});

describe("what somebody did at the server: unship or verify-log says so", () => {
  const verify = () => boundaryctl(["verify-log", out, "--key", LOG.vkey]);
  const take = (text: string) => boundaryctl(["log", "unship", ...wrote(text), "--out", out]);

  test("nothing: 0 and 0", async () => {
    expect((await take(textOf([...ALL, ...ALL.slice(3)]))).code).toBe(0);
    expect(await verify()).toMatchObject({ code: 0, stdout: expect.stringContaining("sound") });
  });

  const rows: readonly [name: string, text: string, told: RegExp][] = [
    ["a line changed", textOf(ALL.with(4, (ALL[4] ?? "").replace("größer", "kleiner"))), /^/],
    ["a line gone", textOf(ALL.toSpliced(4, 1)), /MISSING {5}records 4 to 4/],
    ["a line cut short", textOf(ALL.with(4, (ALL[4] ?? "").slice(0, 60))), /UNREADABLE .*server-0, byte \d+/],
    [
      "a line twice, once changed",
      textOf([...ALL, (ALL[4] ?? "").replace("größer", "kleiner")]),
      /CONFLICT .*numbered 4/,
    ],
  ];
  test.each(rows)("%s", async (_name, text, told) => {
    const taken = await take(text);
    expect(taken.stdout).toMatch(told);
    const verified = await verify();
    expect(verified.code).toBe(1);
    expect(verified.stdout).toContain("BROKEN");
  });

  test("lines of nothing that is ours: 1", async () => {
    expect((await take("hello\n")).code).toBe(1);
  });
});

describe("files", () => {
  test("an --out that is there is not touched, a file that cannot be read is a fault", async () => {
    writeFileSync(out, "mine");
    expect(await codeOf(() => unship(wrote(textOf(ALL)), out))).toBe("unship-failed");
    expect(readFileSync(out, "utf8")).toBe("mine");
    expect(await codeOf(() => unship([join(base.path, "no-such")], `${out}2`))).toBe("unship-failed");
    expect(await codeOf(() => unship([base.path], `${out}2`))).toBe("unship-failed");
  });
});
