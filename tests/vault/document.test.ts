import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { catalogOf, fileOf } from "../../daemon/vault/catalog.ts";
import { parseKeyring, parseSealed, parseTombstone, renderDocument } from "../../daemon/vault/document.ts";
import { type Header, seal } from "../../daemon/vault/envelope.ts";
import { localKek } from "../../daemon/vault/kek-local.ts";

const KEK = localKek("kek-0000000000000001", Buffer.alloc(32, 7));
const header = (name: string, version: number): Header => ({
  kind: "secret",
  workspace: "build",
  name,
  version,
  created: "2026-01-01T00:00:00.000Z",
  fingerprint: "0123456789abcdef",
});
const sealed = async (name: string, version: number) =>
  renderDocument(await seal(Buffer.from("hunter2-hunter2"), header(name, version), KEK));
const stone = (name: string, version: number) =>
  renderDocument({
    v: 1,
    kind: "secret",
    workspace: "build",
    name,
    version,
    revoked: "2026-01-02T00:00:00.000Z",
  });

describe("a file of the vault", () => {
  test("whatever its bytes are, reading it is an answer and never an exception, and never repeats them", () => {
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 300 }), fc.json().map(Buffer.from)), (bytes) => {
        for (const parse of [parseSealed, parseTombstone, parseKeyring]) {
          const read = parse(bytes);
          if (!read.ok) expect(read.why.length).toBeLessThan(80);
        }
      }),
      { numRuns: 500 },
    );
  });

  test("one altered byte is another document, or none", async () => {
    const bytes = await sealed("deploy", 1);
    fc.assert(
      fc.property(fc.nat(bytes.length - 2), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const altered = Buffer.from(bytes);
        altered[at] = (altered[at] ?? 0) ^ flip;
        const read = parseSealed(altered);
        expect(read.ok && JSON.stringify(read.value) === bytes.toString().trim()).toBe(false);
      }),
      { numRuns: 300 },
    );
  });

  test.each([
    ["an unknown field", { extra: 1 }, "unknown"],
    ["another version of the form", { v: 2 }, "v is wrong"],
    ["a name with a slash", { name: "../x" }, "name is wrong"],
    ["no wrapped key", { wraps: [] }, "wraps is wrong"],
  ])("%s is refused", async (_, change, why) => {
    const document: object = JSON.parse((await sealed("deploy", 1)).toString());
    const read = parseSealed(Buffer.from(JSON.stringify({ ...document, ...change })));
    expect(read.ok ? "" : read.why).toContain(why);
  });
});

describe("the index", () => {
  test("is made from the files: the newest version counts, a tombstone more than its secret", async () => {
    const { entries, outdated, strange } = catalogOf("build", [
      { name: "secret-a.1.json", bytes: await sealed("a", 1) },
      { name: "secret-a.2.json", bytes: await sealed("a", 2) },
      { name: "secret-b.1.revoked", bytes: stone("b", 1) },
      { name: "secret-b.1.json", bytes: await sealed("b", 1) },
      { name: "notes.txt", bytes: Buffer.from("x") },
    ]);
    expect([...entries.values()].map((entry) => [entry.name, entry.version, entry.state])).toEqual([
      ["a", 2, "sealed"],
      ["b", 1, "revoked"],
    ]);
    expect([outdated, strange]).toEqual([["secret-a.1.json", "secret-b.1.json"], ["notes.txt"]]);
  });

  test("is the same in whatever order the files come", async () => {
    const files = [
      { name: "secret-a.1.json", bytes: await sealed("a", 1) },
      { name: "secret-a.2.revoked", bytes: stone("a", 2) },
      { name: "secret-a.2.json", bytes: await sealed("a", 2) },
      { name: "secret-c.7.json", bytes: Buffer.from("{") },
    ];
    const sorted = (some: typeof files) =>
      [...catalogOf("build", some).entries.values()].map(fileOf).toSorted();
    fc.assert(
      fc.property(fc.shuffledSubarray(files, { minLength: files.length }), (some) => {
        expect(sorted(some)).toEqual(["secret-a.2.revoked", "secret-c.7.json"]);
      }),
    );
  });

  test("a damaged file denies that secret only", async () => {
    const { entries } = catalogOf("build", [
      { name: "secret-a.1.json", bytes: (await sealed("a", 1)).subarray(5) },
      { name: "secret-b.1.json", bytes: await sealed("a", 1) },
      { name: "secret-c.1.json", bytes: null, why: "it has mode 0644: others have access" },
      { name: "secret-d.1.json", bytes: await sealed("d", 1) },
    ]);
    expect([...entries.values()].map(({ name, state, why }) => [name, state, why])).toEqual([
      ["a", "damaged", "it cannot be read (json-invalid)"],
      ["b", "damaged", "it is another secret's file"],
      ["c", "damaged", "it has mode 0644: others have access"],
      ["d", "sealed", ""],
    ]);
  });
});
