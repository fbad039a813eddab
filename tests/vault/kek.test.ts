import { spawnSync } from "node:child_process";
import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { fileKek } from "../../daemon/adapters/kek-file.ts";
import { systemdKek } from "../../daemon/adapters/kek-systemd.ts";
import { passphraseKek } from "../../daemon/vault/kek-passphrase.ts";
import { isOnHost } from "../support/setup.ts";
import { CHEAP } from "../support/vault-host.ts";

const ID = "kek-0123456789abcdef";
const DEK = Buffer.alloc(32, 5);
let home: string;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "boundary-kek-"));
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

describe("a KEK in a file", () => {
  const unavailable = { code: "kek-unavailable" };

  test("is 32 bytes, ours alone, opens what it wrapped, and is erased when it is retired", async () => {
    const source = fileKek(join(home, "keys"));
    const { provider, spec } = await source.create(ID, null);
    const wrapped = await provider.wrap(DEK);
    const path = join(home, "keys", `${ID}.key`);
    expect([spec, statSync(path).mode & 0o777, statSync(path).size]).toEqual(["", 0o600, 32]);
    const { provider: again } = await source.open(ID, spec, null);
    expect(await again.unwrap(wrapped)).toEqual(DEK);
    await source.retire(ID);
    expect(readdirSync(join(home, "keys"))).toEqual([]);
    await expect(source.open(ID, spec, null)).rejects.toMatchObject(unavailable);
  });

  test("may be text that somebody put there: hex, or base64", async () => {
    const source = fileKek(home);
    const key = Buffer.alloc(32, 0xab);
    for (const text of [`${key.toString("hex")}\n`, key.toString("base64"), key]) {
      writeFileSync(join(home, `${ID}.key`), text, { mode: 0o600 });
      const { provider } = await source.open(ID, "", null);
      const wrapped = await provider.wrap(DEK);
      writeFileSync(join(home, `${ID}.key`), key);
      expect(await (await source.open(ID, "", null)).provider.unwrap(wrapped)).toEqual(DEK);
    }
  });

  test.each([
    ["others may read it", (path: string) => chmodSync(path, 0o640)],
    [
      "it is a link",
      (path: string) => {
        rmSync(path);
        symlinkSync("/etc/hostname", path);
      },
    ],
    ["it was cut", (path: string) => writeFileSync(path, Buffer.alloc(31))],
    ["it is empty", (path: string) => writeFileSync(path, "")],
  ])("is not used when %s", async (_, damage) => {
    const source = fileKek(join(home, "keys"));
    await source.create(ID, null);
    damage(join(home, "keys", `${ID}.key`));
    await expect(source.open(ID, "", null)).rejects.toMatchObject(unavailable);
  });

  test("is not used when others may write to its directory", async () => {
    const source = fileKek(join(home, "keys"));
    await source.create(ID, null);
    chmodSync(join(home, "keys"), 0o777);
    await expect(source.open(ID, "", null)).rejects.toMatchObject({ code: "vault-unsafe" });
  });
});

describe("a KEK behind a passphrase", () => {
  const phrase = () => Buffer.from("correct horse battery staple");
  const wrong = { code: "vault-passphrase-wrong" };

  test("opens with the passphrase alone", async () => {
    const source = passphraseKek(CHEAP);
    const { provider, spec } = await source.create(ID, phrase());
    const wrapped = await provider.wrap(DEK);
    expect(spec).not.toContain("horse");
    const opened = await source.open(ID, spec, phrase());
    expect([await opened.provider.unwrap(wrapped), opened.spec]).toEqual([DEK, spec]);
    for (const other of [Buffer.from("correct horse battery stapl"), Buffer.alloc(0), null])
      await expect(source.open(ID, spec, other)).rejects.toMatchObject(wrong);
  });

  test("with cheaper parameters than today's gets today's when it is unlocked, and is the same key", async () => {
    const { provider, spec } = await passphraseKek(CHEAP).create(ID, phrase());
    const wrapped = await provider.wrap(DEK);
    const dear = passphraseKek({ memoryKiB: 128, passes: 2, parallelism: 1 });
    const upgraded = await dear.open(ID, spec, phrase());
    expect(JSON.parse(upgraded.spec)).toMatchObject({ memoryKiB: 128, passes: 2 });
    expect(JSON.parse(upgraded.spec).salt).not.toBe(JSON.parse(spec).salt);
    const again = await dear.open(ID, upgraded.spec, phrase());
    expect([await again.provider.unwrap(wrapped), again.spec]).toEqual([DEK, upgraded.spec]);
  });

  test.each([
    ["no JSON", () => "{"],
    ["more memory than we give", (spec: object) => JSON.stringify({ ...spec, memoryKiB: 2_000_000 })],
    ["less memory than its lanes take", (spec: object) => JSON.stringify({ ...spec, parallelism: 16 })],
    ["a field too many", (spec: object) => JSON.stringify({ ...spec, secret: "x" })],
  ])("whose parameters are %s is refused", async (_, change) => {
    const source = passphraseKek(CHEAP);
    const { spec } = await source.create(ID, phrase());
    const altered = change(JSON.parse(spec) as object);
    await expect(source.open(ID, altered, phrase())).rejects.toMatchObject({ code: "secret-damaged" });
  });
});

describe("a KEK sealed by systemd-creds", () => {
  /** The real program with a host secret of our own: the host's is not touched. */
  const source = () =>
    systemdKek(async (_name, args, { input }) => {
      const env = { ...process.env, SYSTEMD_CREDENTIAL_SECRET: join(home, "secret") };
      const ran = spawnSync("systemd-creds", args, { env, input: Buffer.from(input ?? ""), timeout: 10_000 });
      return { code: ran.status ?? -1, stdout: ran.stdout, stderr: ran.stderr.toString() };
    });

  test.skipIf(!isOnHost("systemd-creds") || process.getuid?.() !== 0)(
    "opens on this host, under its own name (needs systemd-creds and root)",
    async () => {
      const { provider, spec } = await source().create(ID, null);
      const wrapped = await provider.wrap(DEK);
      expect(await (await source().open(ID, spec, null)).provider.unwrap(wrapped)).toEqual(DEK);
      await expect(source().open("kek-ffffffffffffffff", spec, null)).rejects.toMatchObject({
        code: "kek-unavailable",
      });
      expect(spec).not.toContain(readFileSync(join(home, "secret")).toString("base64"));
    },
  );

  test("that the program does not give is refused, with what it said", async () => {
    const failing = systemdKek(async () => ({ code: 1, stdout: Buffer.alloc(0), stderr: "no key\n" }));
    await expect(failing.create(ID, null)).rejects.toThrow(/ended with 1: no key/);
    const short = systemdKek(async () => ({ code: 0, stdout: Buffer.alloc(31), stderr: "" }));
    await expect(short.open(ID, "A".repeat(64), null)).rejects.toMatchObject({ code: "kek-unavailable" });
    await expect(short.open(ID, "not one", null)).rejects.toMatchObject({ code: "kek-unavailable" });
  });
});
