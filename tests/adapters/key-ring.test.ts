import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { generateKeyPairSync, hash } from "node:crypto";
import mutableFs, * as fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createKeyRing, loadKeyRing, prepareStateDirectory } from "../../daemon/adapters/keys.ts";
import { tracesIn } from "../../daemon/adapters/traces.ts";
import { parseNote, parseVkey, signNote, verifyNote } from "../../daemon/audit/checkpoint.ts";
import type { KeyRing, Signer } from "../../daemon/ports.ts";
import { codeOf, tempDirectory } from "../audit/fixture.ts";

let temp: ReturnType<typeof tempDirectory>;
let directory: string;

beforeEach(() => {
  temp = tempDirectory();
  directory = join(temp.path, "state");
  prepareStateDirectory(directory);
});
afterEach(() => temp[Symbol.dispose]());

const inDirectory = (name: string) => join(directory, name);
const names = () => fs.readdirSync(directory).sort();
const nameIn = (vkey: string) => vkey.split("+")[0];

function loaded(from = directory): KeyRing {
  const found = loadKeyRing(from);
  if (found.kind !== "loaded") throw new Error(found.kind);
  return found.ring;
}

function signs(signer: Signer): boolean {
  const verifier = parseVkey(signer.vkey);
  const note = parseNote(signNote("text\n", signer));
  return verifier.ok && note.ok && verifyNote(verifier.value, note.value).ok;
}

const seedOf = (file: string) => fs.readFileSync(file).subarray(-32);

describe("a ring of keys", () => {
  test("begins with one key, which is the genesis key and gives the log its name", () => {
    expect(loadKeyRing(directory)).toEqual({ kind: "missing" });
    const ring = createKeyRing(directory);
    expect(ring.current().vkey).toBe(ring.genesis);
    expect([ring.origin, ring.next()]).toEqual([nameIn(ring.genesis), null]);
    expect(names()).toEqual(["log.key", "log.vkey"]);
    expect(fs.readFileSync(inDirectory("log.vkey"), "utf8")).toBe(`${ring.genesis}\n`);
    expect(loaded().current().vkey).toBe(ring.genesis);
  });

  test("moves on, and keeps the genesis key and its name", () => {
    const ring = createKeyRing(directory);
    const { genesis } = ring;
    for (let n = 0; n < 3; n++) {
      const next = ring.prepareNext();
      expect([ring.next()?.vkey, loaded().next()?.vkey]).toEqual([next.vkey, next.vkey]);
      expect(ring.current().vkey).not.toBe(next.vkey);
      ring.promote();
      expect([ring.current().vkey, ring.next()]).toEqual([next.vkey, null]);
      expect([signs(ring.current()), nameIn(next.vkey)]).toEqual([true, ring.origin]);
      expect([loaded().current().vkey, loaded().genesis, ring.genesis]).toEqual([
        next.vkey,
        genesis,
        genesis,
      ]);
      expect(names()).toEqual(["log.key", "log.vkey"]);
    }
  });

  test("does not sign any more with a key that was erased", async () => {
    const ring = createKeyRing(directory);
    const old = ring.current();
    const abandoned = ring.prepareNext();
    ring.discardNext();
    ring.prepareNext();
    ring.promote();
    for (const signer of [old, abandoned])
      expect(await codeOf(() => signer.sign(Buffer.from("x")))).toBe("internal");
    expect(await codeOf(() => ring.promote())).toBe("internal");
  });

  test("forgets a next key, also one that an abandoned rotation left", () => {
    createKeyRing(directory).prepareNext();
    const ring = loaded();
    const left = ring.next()?.vkey;
    expect(ring.prepareNext().vkey).not.toBe(left);
    ring.discardNext();
    ring.discardNext();
    expect([ring.next(), loaded().next()]).toEqual([null, null]);
    expect(names()).toEqual(["log.key", "log.vkey"]);
  });

  test("gives a new log the current key as its genesis key, under that key's own name", () => {
    const ring = createKeyRing(directory);
    const before = ring.genesis;
    ring.prepareNext();
    ring.promote();
    ring.prepareNext();
    ring.rebase();
    expect(ring.genesis).not.toBe(before);
    expect([ring.current().vkey, ring.next()]).toEqual([ring.genesis, null]);
    expect([loaded().genesis, loaded().origin]).toEqual([ring.genesis, nameIn(ring.genesis)]);
    ring.rebase();
    expect(loaded().genesis).toBe(ring.genesis);
  });

  test("of the first version, a key in PEM alone, is taken over", () => {
    const { privateKey } = generateKeyPairSync("ed25519");
    const pem = privateKey.export({ format: "pem", type: "pkcs8" });
    fs.writeFileSync(inDirectory("log.key"), pem, { mode: 0o600 });
    const ring = loaded();
    expect(ring.current().vkey).toBe(ring.genesis);
    expect(fs.readFileSync(inDirectory("log.vkey"), "utf8")).toBe(`${ring.genesis}\n`);
    ring.prepareNext();
    ring.promote();
    expect([loaded().genesis, loaded().current().vkey]).toEqual([ring.genesis, ring.current().vkey]);
  });

  test("is never made over a key that is there", async () => {
    const { genesis } = createKeyRing(directory);
    expect(await codeOf(() => createKeyRing(directory))).toBe("key-unreadable");
    expect(loaded().current().vkey).toBe(genesis);
  });

  test("whose current key was taken away is missing, and what is left tells of it", () => {
    createKeyRing(directory);
    fs.unlinkSync(inDirectory("log.key"));
    expect(loadKeyRing(directory)).toEqual({ kind: "missing" });
    expect(tracesIn(directory, join(temp.path, "log"))).toEqual(["log.vkey"]);
  });

  test.each([
    ["a next key that is cut", () => fs.truncateSync(inDirectory("log.key.next"), 20)],
    ["a next key of no bytes", () => fs.truncateSync(inDirectory("log.key.next"), 0)],
    ["a next key that others can read", () => fs.chmodSync(inDirectory("log.key.next"), 0o644)],
    ["a genesis key that is none", () => fs.writeFileSync(inDirectory("log.vkey"), "x\n")],
    ["a genesis key of no bytes", () => fs.writeFileSync(inDirectory("log.vkey"), "")],
    ["a genesis key that others can write", () => fs.chmodSync(inDirectory("log.vkey"), 0o622)],
    [
      "a genesis key that is a symbolic link",
      () => {
        fs.renameSync(inDirectory("log.vkey"), inDirectory("x"));
        fs.symlinkSync("x", inDirectory("log.vkey"));
      },
    ],
    [
      "a genesis key under another name",
      () => {
        const text = fs.readFileSync(inDirectory("log.vkey"), "utf8");
        const material = Buffer.from(text.slice(text.lastIndexOf("+A") + 1), "base64");
        const id = hash("sha256", Buffer.concat([Buffer.from("other\n"), material]), "hex").slice(0, 8);
        fs.writeFileSync(inDirectory("log.vkey"), `other+${id}+${material.toString("base64")}\n`);
      },
    ],
  ])("with %s is unreadable", async (_name, harm) => {
    createKeyRing(directory).prepareNext();
    harm();
    expect(await codeOf(() => loadKeyRing(directory))).toBe("key-unreadable");
  });

  test("is read from whatever bytes are there, or is unreadable", async () => {
    createKeyRing(directory);
    const bytes = fc.oneof(fc.uint8Array({ maxLength: 80 }), fc.string().map(Buffer.from));
    const file = fc.constantFrom("log.key", "log.key.next", "log.vkey");
    await fc.assert(
      fc.asyncProperty(file, bytes, async (name, content) => {
        const before = fs.existsSync(inDirectory(name)) ? fs.readFileSync(inDirectory(name)) : null;
        fs.writeFileSync(inDirectory(name), content, { mode: 0o600 });
        const code = await codeOf(() => loadKeyRing(directory));
        const isEmpty = name === "log.key" && content.length === 0;
        expect(code).toBe(isEmpty ? "nothing thrown" : "key-unreadable");
        if (before === null) fs.unlinkSync(inDirectory(name));
        else fs.writeFileSync(inDirectory(name), before);
      }),
    );
  });
});

/** The directory as it stands after each call that changes something: what a kill leaves. */
function afterEachCall(work: () => unknown): string[] {
  const names = [
    "openSync",
    "writeSync",
    "writeFileSync",
    "linkSync",
    "unlinkSync",
    "renameSync",
    "rmSync",
    "mkdirSync",
  ] as const;
  const cuts: string[] = [];
  const real = Object.fromEntries(names.map((name) => [name, mutableFs[name]]));
  for (const name of names) {
    Object.assign(mutableFs, {
      [name]: (...args: unknown[]) => {
        const result: unknown = Reflect.apply(real[name] as () => unknown, mutableFs, args);
        const cut = join(temp.path, `cut-${cuts.length}`);
        spawnSync("cp", ["-a", directory, cut]);
        cuts.push(cut);
        return result;
      },
    });
  }
  syncBuiltinESMExports();
  try {
    work();
  } finally {
    Object.assign(mutableFs, real);
    syncBuiltinESMExports();
  }
  return cuts;
}

describe("a crash after any one call", () => {
  type Seen = { readonly current: string; readonly next: string | null; readonly genesis: string };
  const see = (ring: KeyRing): Seen => ({
    current: ring.current().vkey,
    next: ring.next()?.vkey ?? null,
    genesis: ring.genesis,
  });

  test.each([
    ["preparing the next key", () => createKeyRing(directory), (ring: KeyRing) => ring.prepareNext()],
    [
      "preparing it in the place of an abandoned one",
      () => {
        createKeyRing(directory).prepareNext();
        return loaded();
      },
      (ring: KeyRing) => ring.prepareNext(),
    ],
    [
      "taking the next key up",
      () => {
        createKeyRing(directory).prepareNext();
        return loaded();
      },
      (ring: KeyRing) => ring.promote(),
    ],
    [
      "discarding the next key",
      () => {
        createKeyRing(directory).prepareNext();
        return loaded();
      },
      (ring: KeyRing) => ring.discardNext(),
    ],
    [
      "a new log's beginning",
      () => {
        const ring = createKeyRing(directory);
        ring.prepareNext();
        ring.promote();
        return ring;
      },
      (ring: KeyRing) => ring.rebase(),
    ],
  ])("while %s leaves the ring as before or as after", (_name, make, work) => {
    const ring = make();
    const before = see(ring);
    const cuts = afterEachCall(() => work(ring));
    const after = see(ring);
    expect(cuts.length).toBeGreaterThan(2);
    const found = cuts.map((cut) => {
      const there = loaded(cut);
      const keys = ["log.key", ...(there.next() ? ["log.key.next"] : [])];
      const isNoSecret = (name: string) => name !== "log.vkey.new";
      expect(fs.readdirSync(cut).filter(isNoSecret).sort()).toEqual([...keys, "log.vkey"]);
      expect([there.current(), there.next()].every((signer) => signer === null || signs(signer))).toBe(true);
      return see(there);
    });
    // an abandoned next key may be gone before the new one is there
    const between = { ...before, next: null };
    for (const one of found) expect([before, between, after]).toContainEqual(one);
    expect(found.at(-1)).toEqual(after);
  });

  test("while the first key is made leaves no key, or the whole ring", () => {
    const cuts = afterEachCall(() => createKeyRing(directory));
    const kinds = cuts.map((cut) => loadKeyRing(cut).kind);
    expect(new Set(kinds)).toEqual(new Set(["missing", "loaded"]));
    for (const cut of cuts) {
      const ring = loadKeyRing(cut).kind === "missing" ? createKeyRing(cut) : loaded(cut);
      expect([ring.current().vkey, loaded(cut).genesis]).toEqual([ring.genesis, ring.genesis]);
      expect(fs.readdirSync(cut).sort()).toEqual(["log.key", "log.vkey"]);
    }
  });

  test.each(["promote", "discardNext"] as const)("of %s: the next start erases what was to be", (what) => {
    const ring = createKeyRing(directory);
    ring.prepareNext();
    const doomed = seedOf(inDirectory(what === "promote" ? "log.key" : "log.key.next"));
    const cuts = afterEachCall(() => ring[what]());
    const left = cuts.filter((cut) => fs.existsSync(join(cut, "log.key.erase")));
    expect(left.length).toBeGreaterThan(2);
    for (const cut of left) {
      // held open, the file can be read after it has lost its name
      const fd = fs.openSync(join(cut, "log.key.erase"), "r");
      const lives = fs.fstatSync(fd).nlink > 1;
      loadKeyRing(cut);
      const bytes = fs.readFileSync(fd);
      fs.closeSync(fd);
      expect([bytes.includes(doomed), bytes.length]).toEqual([lives, 48]);
    }
  });
});

/** What a seed looks like: as it is, in hex, base64 (also from within PKCS #8), and the scalar that signs in its place. */
function formsOf(seed: Buffer): Map<string, Buffer> {
  const scalar = hash("sha512", seed, "buffer").subarray(0, 32);
  scalar[0] = (scalar[0] ?? 0) & 248;
  scalar[31] = ((scalar[31] ?? 0) & 63) | 64;
  const base64 = Buffer.concat([Buffer.alloc(1), seed])
    .toString("base64")
    .slice(2, -1);
  return new Map([
    ["raw", seed],
    ["first half", seed.subarray(0, 16)],
    ["second half", seed.subarray(16)],
    ["scalar", scalar],
    ["hex", Buffer.from(seed.toString("hex"))],
    ["hex in UTF-16", Buffer.from(seed.toString("hex"), "utf16le")],
    ["base64", Buffer.from(seed.toString("base64").slice(0, -2))],
    ["base64 of PKCS #8", Buffer.from(base64)],
    ["base64 of PKCS #8 in UTF-16", Buffer.from(base64, "utf16le")],
  ]);
}

/** Which forms of a seed are in a process's writable memory. */
function inMemory(pid: number, seed: Buffer): string[] {
  const maps = fs.readFileSync(`/proc/${pid}/maps`, "utf8").trim().split("\n");
  const memory = fs.openSync(`/proc/${pid}/mem`, "r");
  try {
    const found = new Set<string>();
    for (const line of maps) {
      const [, from = "", to = "", rights = ""] = /^([0-9a-f]+)-([0-9a-f]+) (\S+)/.exec(line) ?? [];
      if (!rights.startsWith("rw")) continue;
      for (const bytes of piecesOf(memory, Number.parseInt(from, 16), Number.parseInt(to, 16)))
        for (const [name, form] of formsOf(seed)) if (bytes.includes(form)) found.add(name);
    }
    return [...found].sort();
  } finally {
    fs.closeSync(memory);
  }
}

const PIECE_BYTES = 1024 * 1024;
const ZEROS = Buffer.alloc(PIECE_BYTES + 128);

/** Overlapping, so that nothing is cut in two; what was never touched (most of V8's 512 MiB for code) is passed over. */
function* piecesOf(memory: number, from: number, to: number): Generator<Buffer> {
  for (let at = from; at < to; at += PIECE_BYTES) {
    const bytes = Buffer.allocUnsafe(Math.min(PIECE_BYTES + 128, to - at));
    const length = fs.readSync(memory, bytes, 0, bytes.length, at);
    const read = bytes.subarray(0, length);
    if (!read.equals(ZEROS.subarray(0, length))) yield read;
  }
}

/** Which files hold a form of a seed. */
function inFiles(seed: Buffer): string[] {
  const holds = (name: string) =>
    [...formsOf(seed).values()].some((form) => fs.readFileSync(inDirectory(name)).includes(form));
  return names().filter(holds);
}

describe("an erased key", () => {
  let child: ChildProcess;
  let lines: AsyncIterator<string>;
  afterEach(() => void child.kill("SIGKILL"));

  async function start(): Promise<number> {
    const module = new URL("key-ring-child.ts", import.meta.url).href;
    const script = `await (await import(${JSON.stringify(module)})).keepRing(${JSON.stringify(directory)})`;
    const flags = ["--disallow-code-generation-from-strings", "--input-type=module"];
    child = spawn(process.execPath, [...flags, "-e", script], { stdio: ["pipe", "pipe", "inherit"] });
    if (!child.stdout || child.pid === undefined) throw new Error("no child");
    lines = createInterface(child.stdout)[Symbol.asyncIterator]();
    expect((await lines.next()).value).toBe("ready");
    return child.pid;
  }

  async function tell(...steps: string[]): Promise<void> {
    for (const step of steps) {
      child.stdin?.write(`${step}\n`);
      expect((await lines.next()).value).toBe(step);
    }
  }

  test("is nowhere in the process that used it, nor in its files", async () => {
    const pid = await start();
    const seed = seedOf(inDirectory("log.key"));
    await tell("sign", "prepare", "sign");
    const next = seedOf(inDirectory("log.key.next"));
    // that the search finds what is there
    expect([inMemory(pid, seed).includes("raw"), inFiles(seed)]).toEqual([true, ["log.key"]]);
    await tell("promote", "sign");
    expect([inMemory(pid, seed), inFiles(seed)]).toEqual([[], []]);
    expect([inMemory(pid, next).includes("raw"), inFiles(next)]).toEqual([true, ["log.key"]]);
    await tell("prepare");
    const abandoned = seedOf(inDirectory("log.key.next"));
    await tell("sign", "discard");
    expect([inMemory(pid, abandoned), inFiles(abandoned)]).toEqual([[], []]);
  });

  test("is nowhere, also when it was PEM", async () => {
    const { privateKey } = generateKeyPairSync("ed25519");
    const seed = privateKey.export({ format: "der", type: "pkcs8" }).subarray(-32);
    const pem = privateKey.export({ format: "pem", type: "pkcs8" });
    fs.writeFileSync(inDirectory("log.key"), pem, { mode: 0o600 });
    const pid = await start();
    await tell("sign");
    expect([inMemory(pid, seed).includes("raw"), inFiles(seed)]).toEqual([true, ["log.key"]]);
    await tell("prepare", "promote");
    expect([inMemory(pid, seed), inFiles(seed)]).toEqual([[], []]);
  });
});
