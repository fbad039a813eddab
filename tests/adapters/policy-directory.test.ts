import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { readOwnedFile, readPolicyDirectory } from "../../daemon/adapters/policy-directory.ts";
import { BoundaryError, renderErrorChain } from "../../daemon/core/errors.ts";

const OWN = process.getuid?.() ?? 0;
let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "boundary-policies-"));
  chmodSync(directory, 0o755);
  writeFileSync(join(directory, "a.cedar"), "// a", { mode: 0o644 });
  writeFileSync(join(directory, "notes.txt"), "not looked at", { mode: 0o666 });
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

function read(change: Partial<Parameters<typeof readPolicyDirectory>[1]> = {}): string {
  try {
    const files = readPolicyDirectory(directory, {
      wanted: (name) => name.endsWith(".cedar"),
      maxBytes: 16,
      maxFiles: 2,
      owner: OWN,
      ...change,
    });
    return files.map(({ name, bytes }) => `${name}=${Buffer.from(bytes).toString()}`).join();
  } catch (error) {
    expect(error).toMatchObject({ code: "config-unreadable" });
    return renderErrorChain(error);
  }
}

test("the wanted files, in order", () => {
  writeFileSync(join(directory, "A.cedar"), "", { mode: 0o644 });
  expect(read()).toBe("A.cedar=,a.cedar=// a");
});

test("a directory or file that others can write is not read where somebody owns it", () => {
  chmodSync(join(directory, "a.cedar"), 0o664);
  expect(read()).toContain("has mode 0664: others can write it");
  expect(read({ owner: null })).toBe("a.cedar=// a");
  chmodSync(join(directory, "a.cedar"), 0o644);
  chmodSync(directory, 0o777);
  expect(read()).toContain("has mode 0777: others can write it");
});

test.skipIf(OWN !== 0)("one that is somebody else's is not read (needs root)", () => {
  chownSync(join(directory, "a.cedar"), 1, 1);
  expect(read()).toContain("belongs to uid 1, not to root or to us");
  expect(read({ owner: 1 })).toBe("a.cedar=// a");
  chownSync(join(directory, "a.cedar"), 0, 0);
  expect(read({ owner: 1 })).toBe("a.cedar=// a");
  chownSync(directory, 2, 2);
  expect(read({ owner: 1 })).toContain("belongs to uid 2");
});

test("what is no regular file is not read", () => {
  symlinkSync(join(directory, "notes.txt"), join(directory, "b.cedar"));
  expect(read()).toContain("ELOOP");
  rmSync(join(directory, "b.cedar"));
  mkdirSync(join(directory, "b.cedar"));
  expect(read()).toContain("no regular file");
});

test("too much is not read", () => {
  writeFileSync(join(directory, "b.cedar"), "0123456789abcdef", { mode: 0o644 });
  expect(read({ maxBytes: 20 })).toContain("b.cedar=0123456789abcdef");
  // together, not each
  expect(read({ maxBytes: 19 })).toContain("larger than 15 bytes");
  expect(read({ maxFiles: 1 })).toContain("more than 1 files");
});

test("none is told from an unreadable one by its cause", () => {
  rmSync(directory, { recursive: true });
  expect(read()).toContain("ENOENT");
  writeFileSync(directory, "");
  expect(read()).toContain("ENOTDIR");
});

test("a single file is read under the same rules", () => {
  expect(Buffer.from(readOwnedFile(join(directory, "a.cedar"), { maxBytes: 4, owner: OWN })).toString()).toBe(
    "// a",
  );
  expect(() => readOwnedFile(join(directory, "a.cedar"), { maxBytes: 3, owner: OWN })).toThrow(BoundaryError);
  expect(() => readOwnedFile(join(directory, "notes.txt"), { maxBytes: 99, owner: OWN })).not.toThrow();
  chmodSync(join(directory, "notes.txt"), 0o666);
  expect(() => readOwnedFile(join(directory, "notes.txt"), { maxBytes: 99, owner: OWN })).toThrow(
    BoundaryError,
  );
});
