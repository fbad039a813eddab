import { generateKeyPairSync } from "node:crypto";
import * as fs from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { openHeadFile, readHead } from "../../daemon/adapters/head-file.ts";
import { createKeyRing, loadKeyRing, prepareStateDirectory } from "../../daemon/adapters/keys.ts";
import { parseNote, parseVkey, signNote, verifyNote } from "../../daemon/audit/checkpoint.ts";
import { codeOf, tempDirectory } from "../audit/fixture.ts";
import { ringIn } from "../support/key-ring.ts";

let temp: ReturnType<typeof tempDirectory>;
let directory: string;
let keyFile: string;
let headFile: string;

beforeEach(() => {
  temp = tempDirectory();
  directory = join(temp.path, "state");
  prepareStateDirectory(directory);
  keyFile = join(directory, "log.key");
  headFile = join(directory, "log.head");
});
afterEach(() => temp[Symbol.dispose]());

const modeOf = (of: string) => fs.statSync(of).mode & 0o777;

describe("the log's key", () => {
  test("is made once, for us alone, and is the same when loaded again", () => {
    expect(loadKeyRing(directory)).toEqual({ kind: "missing" });
    const made = createKeyRing(directory);
    expect([modeOf(directory), modeOf(keyFile)]).toEqual([0o700, 0o600]);
    const loaded = ringIn(directory);
    expect(loaded.current().vkey).toBe(made.current().vkey);
    expect(loaded.origin).toMatch(/^boundary-daemon\/[0-9a-f]{8}$/);
    expect(loaded.current().vkey.startsWith(`${loaded.origin}+`)).toBe(true);
  });

  test("signs what its vkey verifies, and shows nothing of itself", () => {
    const signer = createKeyRing(directory).current();
    const verifier = parseVkey(signer.vkey);
    const note = parseNote(signNote("text\n", signer));
    expect(verifier.ok && note.ok && verifyNote(verifier.value, note.value).ok).toBe(true);
    expect(Object.keys(signer).sort()).toEqual(["sign", "vkey"]);
  });

  test("is never made in the place of one", async () => {
    const made = createKeyRing(directory).current().vkey;
    expect(await codeOf(() => createKeyRing(directory))).toBe("key-unreadable");
    expect(ringIn(directory).current().vkey).toBe(made);
  });

  test.each([
    ["readable by its group", () => fs.chmodSync(keyFile, 0o640)],
    ["readable by all", () => fs.chmodSync(keyFile, 0o604)],
    ["known under two names", () => fs.linkSync(keyFile, `${keyFile}.2`)],
    [
      "a symbolic link",
      () => {
        fs.renameSync(keyFile, `${keyFile}.2`);
        fs.symlinkSync(`${keyFile}.2`, keyFile);
      },
    ],
    [
      "a directory",
      () => {
        fs.unlinkSync(keyFile);
        fs.mkdirSync(keyFile);
      },
    ],
    ["damaged", () => fs.writeFileSync(keyFile, fs.readFileSync(keyFile).fill(0x31, 0, 1))],
    ["cut", () => fs.truncateSync(keyFile, 40)],
    ["a large file", () => fs.writeFileSync(keyFile, "x".repeat(5000))],
    [
      "a key of another kind",
      () =>
        fs.writeFileSync(
          keyFile,
          generateKeyPairSync("x25519").privateKey.export({ format: "pem", type: "pkcs8" }),
        ),
    ],
  ])("is an error when it is %s", async (_name, harm) => {
    createKeyRing(directory);
    harm();
    expect(await codeOf(() => loadKeyRing(directory))).toBe("key-unreadable");
    expect(await codeOf(() => createKeyRing(directory))).toBe("key-unreadable");
  });

  test("that a crash left empty is told apart, and can be made anew", () => {
    fs.writeFileSync(keyFile, "", { mode: 0o600 });
    expect(loadKeyRing(directory)).toEqual({ kind: "empty" });
    createKeyRing(directory);
    expect(loadKeyRing(directory).kind).toBe("loaded");
  });

  test("is never seen half made: whatever a crash left beside it is no key, and is in nobody's way", () => {
    fs.writeFileSync(`${keyFile}.new`, "-----BEGIN", { mode: 0o600 });
    expect(loadKeyRing(directory)).toEqual({ kind: "missing" });
    const made = createKeyRing(directory);
    expect(fs.readdirSync(directory)).toEqual(["log.key", "log.vkey"]);
    fs.linkSync(keyFile, `${keyFile}.new`); // a crash between the two names
    expect(ringIn(directory).current().vkey).toBe(made.current().vkey);
    expect(fs.readdirSync(directory)).toEqual(["log.key", "log.vkey"]);
  });

  test.each([
    ["writable by its group", () => fs.chmodSync(directory, 0o770)],
    [
      "a symbolic link",
      () => {
        fs.rmdirSync(directory);
        fs.symlinkSync(temp.path, directory);
      },
    ],
    [
      "a file",
      () => {
        fs.rmdirSync(directory);
        fs.writeFileSync(directory, "");
      },
    ],
  ])("is not kept in a directory that is %s", async (_name, harm) => {
    harm();
    expect(await codeOf(() => prepareStateDirectory(directory))).toBe("key-unreadable");
  });
});

describe("the remembered head", () => {
  test("is the newest note, whole, whatever was there before", async () => {
    expect(readHead(directory)).toEqual({ kind: "missing" });
    const head = openHeadFile(directory);
    expect(readHead(directory)).toEqual({ kind: "missing" });
    for (const note of ["a longer note\n— x\n", "short\n"]) {
      await head.remember(note);
      expect(readHead(directory)).toEqual({ kind: "note", note });
    }
    head.close();
    const again = openHeadFile(directory);
    expect(readHead(directory)).toEqual({ kind: "note", note: "short\n" });
    again.close();
    expect(modeOf(headFile)).toBe(0o600);
  });

  test.each([
    ["readable by all", () => fs.chmodSync(headFile, 0o644)],
    [
      "a directory",
      () => {
        fs.unlinkSync(headFile);
        fs.mkdirSync(headFile);
      },
    ],
    [
      "a symbolic link",
      () => {
        fs.renameSync(headFile, `${headFile}.2`);
        fs.symlinkSync(`${headFile}.2`, headFile);
      },
    ],
    ["half zeros", () => fs.writeFileSync(headFile, "\0\0note\n")],
  ])("is unreadable, not missing, when it is %s", async (_name, harm) => {
    const head = openHeadFile(directory);
    await head.remember("note\n");
    head.close();
    harm();
    expect(readHead(directory).kind).toBe("unreadable");
  });

  test("of a hundred heads at once the newest is in place when the last is answered", async () => {
    const head = openHeadFile(directory);
    await Promise.all(Array.from({ length: 100 }, (_, n) => head.remember(`note ${n}\n`)));
    expect(readHead(directory)).toEqual({ kind: "note", note: "note 99\n" });
    head.close();
  });

  test("cannot be opened where it is not safe, and refuses a note that does not fit", async () => {
    const head = openHeadFile(directory);
    expect(await codeOf(() => head.remember("x".repeat(600)))).toBe("internal");
    head.close();
    fs.chmodSync(headFile, 0o666);
    expect(await codeOf(() => openHeadFile(directory))).toBe("log-unavailable");
    expect(await codeOf(() => openHeadFile(join(directory, "nowhere")))).toBe("log-unavailable");
  });
});
