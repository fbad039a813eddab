import "../../daemon/adapters/koffi-stacks.ts";
import {
  chmodSync,
  chownSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { collectGarbage } from "../../daemon/adapters/garbage.ts";
import { type Pkcs11Place, pkcs11Kek } from "../../daemon/adapters/kek-pkcs11.ts";
import { parseTokenInfo, TOKEN_INFO_BYTES, template } from "../../daemon/adapters/pkcs11-layout.ts";
import { loadPkcs11, moduleFault } from "../../daemon/adapters/pkcs11-module.ts";
import { findKeys, findToken, openSession } from "../../daemon/adapters/pkcs11-session.ts";
import { buildPkcs11Shim } from "../support/pkcs11-shim.ts";
import { isOnHost } from "../support/setup.ts";
import { PIN, softHsm, softHsmModule, TOKEN } from "../support/softhsm.ts";
import { vaultHost } from "../support/vault-host.ts";

const ID = "kek-0123456789abcdef";
const OTHER_ID = "kek-fedcba9876543210";
const DEK = Buffer.alloc(32, 5);
const SECRET = "correct horse battery";
const CKA_VALUE = 0x11;
const MODULE = softHsmModule() ?? "";
const code = (code: string) => expect.objectContaining({ code });
const pin = (text = PIN) => Buffer.from(text);

let token: ReturnType<typeof softHsm>;
const opened: { drop(): void }[] = [];
const source = (more: Partial<Pkcs11Place> = {}, deadlineMs?: number) =>
  pkcs11Kek({ module: MODULE, tokenLabel: TOKEN, ...more }, deadlineMs);
const kept = <T extends { provider: { drop(): void } }>(made: T): T => {
  opened.push(made.provider);
  return made;
};

describe.skipIf(MODULE === "")("a KEK on a PKCS#11 token (needs softhsm2)", () => {
  beforeEach(() => {
    token = softHsm();
  });
  afterEach(() => {
    for (const each of opened.splice(0)) each.drop();
    token.remove();
  });

  test("opens what it wrapped, after a new login too, and no key is in what it says of itself", async () => {
    const { provider, spec } = kept(await source().create(ID, pin()));
    const wrapped = await provider.wrap(DEK);
    expect(await provider.unwrap(wrapped)).toEqual(DEK);
    expect(await provider.wrap(DEK)).not.toEqual(wrapped);
    expect(JSON.parse(spec)).toEqual({ token: TOKEN, serial: expect.stringMatching(/^[0-9a-f]{16}$/) });
    provider.drop();
    const again = kept(await source().open(ID, spec, pin()));
    expect([await again.provider.unwrap(wrapped), again.spec]).toEqual([DEK, spec]);
  });

  test("is an AES-256 key that was made on the token and does not leave it", async () => {
    kept(await source({ keyLabel: "host seven" }).create(ID, pin()));
    const listed = token.tool("--list-objects", "--type", "secrkey");
    expect(listed).toMatch(/AES length 32/);
    expect(listed).toMatch(new RegExp(`label: +host seven ${ID}\n`));
    expect(listed).toMatch(/Usage: +encrypt, decrypt\n/);
    expect(listed).toMatch(/Access: +sensitive, always sensitive, never extractable, local\n/);
    expect(() => token.tool("--read-object", "--type", "secrkey", "--label", `host seven ${ID}`)).toThrow();
    // asked in our own process, logged in as we are
    const module = loadPkcs11(MODULE);
    const session = await openSession(module, (await findToken(module, TOKEN)).id);
    const [key = 0n] = await findKeys(module, session, ID);
    const value = template([[CKA_VALUE, Buffer.alloc(64)]]);
    expect(await module.call("C_GetAttributeValue", session, key, value, 1)).toBe(0x11); // CKR_ATTRIBUTE_SENSITIVE
    expect(value.holds[0]).toEqual(Buffer.alloc(64));
    await module.call("C_CloseSession", session);
  });

  test("does not open what was altered, cut, or is another one's, and says so", async () => {
    const one = source();
    const { provider } = kept(await one.create(ID, pin()));
    const { provider: other } = kept(await one.create(OTHER_ID, pin()));
    const wrapped = await provider.wrap(DEK);
    for (const at of [0, 1, 12, 13, 44, 45, 60]) {
      const altered = Buffer.from(wrapped);
      altered[at] = (altered[at] ?? 0) ^ 1;
      await expect(provider.unwrap(altered)).rejects.toEqual(code("secret-damaged"));
    }
    await expect(provider.unwrap(wrapped.subarray(0, 60))).rejects.toEqual(code("secret-damaged"));
    await expect(other.unwrap(wrapped)).rejects.toEqual(code("secret-damaged"));
    expect(await provider.unwrap(wrapped)).toEqual(DEK);
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 120 }), async (bytes) => {
        await expect(provider.unwrap(bytes)).rejects.toEqual(code("secret-damaged"));
      }),
      { numRuns: 60 },
    );
  });

  test("is bound to its id: the same key under another id opens nothing of it", async () => {
    const { provider, spec } = kept(await source().create(ID, pin()));
    const wrapped = await provider.wrap(DEK);
    provider.drop();
    const hex = (text: string) => Buffer.from(text).toString("hex");
    token.tool("--set-id", hex(OTHER_ID), "--type", "secrkey", "--id", hex(ID));
    const { provider: renamed } = kept(await source().open(OTHER_ID, spec, pin()));
    expect(await renamed.unwrap(await renamed.wrap(DEK))).toEqual(DEK);
    await expect(renamed.unwrap(wrapped)).rejects.toEqual(code("secret-damaged"));
  });

  test("takes the right PIN alone, also while another one is open, where the token would take any", async () => {
    const one = source();
    const { spec, provider } = kept(await one.create(ID, pin()));
    await expect(one.open(ID, spec, pin("wrong"))).rejects.toEqual(code("vault-passphrase-wrong"));
    for (const nothing of [null, Buffer.alloc(0)])
      await expect(one.open(ID, spec, nothing)).rejects.toEqual(code("vault-passphrase-wrong"));
    const { provider: second } = kept(await one.open(ID, spec, pin())); // counts anew
    for (let wrong = 0; wrong < 3; wrong++)
      await expect(one.open(ID, spec, pin(`wrong${wrong}`))).rejects.toEqual(code("vault-passphrase-wrong"));
    // the token does not see these: it would never lock
    await expect(one.open(ID, spec, pin())).rejects.toThrow(/too many wrong PINs/);
    provider.drop();
    second.drop();
    await expect(one.open(ID, spec, pin("wrong"))).rejects.toEqual(code("vault-passphrase-wrong"));
    kept(await one.open(ID, spec, pin()));
  });

  test("that was dropped is refused at once, and the last one logs out", async () => {
    const one = source();
    const { provider, spec } = kept(await one.create(ID, pin()));
    const { provider: second } = kept(await one.open(ID, spec, pin()));
    const wrapped = await provider.wrap(DEK);
    provider.drop();
    provider.drop();
    await expect(provider.wrap(DEK)).rejects.toEqual(code("vault-locked"));
    await expect(provider.unwrap(wrapped)).rejects.toEqual(code("vault-locked"));
    expect(await second.unwrap(wrapped)).toEqual(DEK);
    const module = loadPkcs11(MODULE);
    const session = await openSession(module, (await findToken(module, TOKEN)).id);
    expect(await findKeys(module, session, ID)).toHaveLength(1);
    second.drop();
    expect(await findKeys(module, session, ID)).toEqual([]); // nobody is logged in: it cannot be seen
    await module.call("C_CloseSession", session);
  });

  test("is destroyed on the token when it is retired; another one stays", async () => {
    const one = source();
    const { spec } = kept(await one.create(ID, pin()));
    kept(await one.create(OTHER_ID, pin()));
    await one.retire(ID);
    await one.retire(ID);
    expect(token.tool("--list-objects", "--type", "secrkey").match(/kek-[0-9a-f]+/g)).toEqual([OTHER_ID]);
    await expect(one.open(ID, spec, pin())).rejects.toThrow(/no key of that id/);
  });

  test("that was retired while nobody is logged in says so, and goes with the next login", async () => {
    const one = source();
    const { provider } = kept(await one.create(ID, pin()));
    provider.drop();
    await expect(one.retire(ID)).rejects.toEqual(code("kek-unavailable"));
    expect(token.tool("--list-objects", "--type", "secrkey")).toContain(ID);
    kept(await one.create(OTHER_ID, pin()));
    expect(token.tool("--list-objects", "--type", "secrkey").match(/kek-[0-9a-f]+/g)).toEqual([OTHER_ID]);
  });

  describe("is not available", () => {
    const unavailable = code("kek-unavailable");

    test("when the token was pulled, and is again when it is back", async () => {
      const one = source();
      const { provider, spec } = kept(await one.create(ID, pin()));
      const wrapped = await provider.wrap(DEK);
      const files = readdirSync(token.tokens, { recursive: true, withFileTypes: true })
        .filter((each) => each.isFile())
        .map((each) => join(each.parentPath, each.name))
        .map((path) => [path, readFileSync(path)] as const);
      token.removeTokens();
      await expect(provider.unwrap(wrapped)).rejects.toEqual(unavailable);
      provider.drop();
      await expect(one.open(ID, spec, pin())).rejects.toThrow(/it is not there/);
      for (const [path, bytes] of files) {
        mkdirSync(join(path, ".."), { recursive: true });
        writeFileSync(path, bytes);
      }
      const { provider: again } = kept(await one.open(ID, spec, pin()));
      expect(await again.unwrap(wrapped)).toEqual(DEK);
    });

    test("when another token has its label, or two have", async () => {
      const { provider, spec } = kept(await source().create(ID, pin()));
      provider.drop();
      token.addToken();
      await expect(source().open(ID, spec, pin())).rejects.toThrow(/2 tokens have that label/);
      token.removeTokens();
      token.addToken();
      await expect(source().open(ID, spec, pin())).rejects.toThrow(/it is another one/);
    });

    test("when the key was destroyed", async () => {
      const { provider, spec } = kept(await source().create(ID, pin()));
      provider.drop();
      token.tool("--delete-object", "--type", "secrkey", "--label", ID);
      await expect(source().open(ID, spec, pin())).rejects.toThrow(/no key of that id/);
    });

    test("when the keyring names another token, or says nothing that can be read", async () => {
      const { provider, spec } = kept(await source().create(ID, pin()));
      provider.drop();
      const renamed = JSON.stringify({ ...JSON.parse(spec), token: "elsewhere" });
      for (const bad of [renamed, "", "{}", "[]", JSON.stringify({ ...JSON.parse(spec), key: 1 })])
        await expect(source().open(ID, bad, pin())).rejects.toEqual(unavailable);
      await fc.assert(
        fc.asyncProperty(fc.oneof(fc.string(), fc.json()), async (text) => {
          await expect(source().open(ID, text, pin())).rejects.toEqual(unavailable);
        }),
        { numRuns: 100 },
      );
    });

    test("when there is no configuration, no module, or one that is none", async () => {
      expect(pkcs11Kek(null).obstacle()).toBe("vault.pkcs11 is not configured");
      await expect(pkcs11Kek(null).create(ID, pin())).rejects.toEqual(unavailable);
      const gone = source({ module: "/nowhere/module.so" });
      expect(gone.obstacle()).toMatch(/ENOENT/);
      await expect(gone.create(ID, pin())).rejects.toEqual(unavailable);
      const text = join(token.home, "text.so");
      writeFileSync(text, "no library", { mode: 0o644 });
      await expect(source({ module: text }).create(ID, pin())).rejects.toEqual(unavailable);
      await expect(source({ tokenLabel: "elsewhere" }).create(ID, pin())).rejects.toThrow(/not there/);
    });
  });

  describe("with its PIN in a file", () => {
    const write = (text: string, mode = 0o600) => {
      const path = join(token.home, "pin");
      writeFileSync(path, text, { mode });
      chmodSync(path, mode);
      return path;
    };

    test("asks nobody", async () => {
      const one = source({ pinFile: write(`${PIN}\n`) });
      expect([one.asks, source().asks]).toEqual([false, true]);
      const { provider, spec } = kept(await one.create(ID, null));
      const wrapped = await provider.wrap(DEK);
      provider.drop();
      const { provider: again } = kept(await one.open(ID, spec, null));
      expect(await again.unwrap(wrapped)).toEqual(DEK);
    });

    test.each([
      ["others may read", () => write(PIN, 0o640)],
      ["is empty", () => write("\n")],
      ["is not there", () => join(token.home, "nothing")],
    ])("that %s is not available", async (_, path) => {
      await expect(source({ pinFile: path() }).create(ID, null)).rejects.toEqual(code("kek-unavailable"));
    });
  });

  describe("in the vault", () => {
    const hosts: ReturnType<typeof vaultHost>[] = [];
    const host = (from = source()) => {
      const made = vaultHost({ sources: [from] });
      hosts.push(made);
      return made;
    };
    afterEach(() => {
      for (const one of hosts.splice(0)) {
        one.vault.stop();
        one.remove();
      }
    });
    const rewrap = (one: ReturnType<typeof vaultHost>, kind: string | null, passphrase: string | null) =>
      one.vault.rewrap({
        workspace: "a",
        kind,
        passphrase: passphrase === null ? null : Buffer.from(passphrase),
        by: "ana",
      });
    const keysOnToken = () => token.tool("--list-objects", "--type", "secrkey").match(/kek-[0-9a-f]+/g) ?? [];

    test("seals, locks, and opens again after a restart, with the PIN; a wrong one is a record", async () => {
      const before = host();
      const { kek } = await before.make("a", "pkcs11", PIN);
      await before.put("a", "x", SECRET);
      expect(await before.read("a", "x", PIN)).toBe(SECRET);
      before.vault.modeIs("LOCKDOWN");
      await expect(before.put("a", "y", SECRET)).rejects.toEqual(code("vault-locked"));
      before.vault.stop();
      const one = before.restart();
      hosts.push(one);
      await expect(one.unlock("a", "1234")).rejects.toEqual(code("vault-passphrase-wrong"));
      expect(one.records).toEqual([
        { kind: "vault.refused", data: { workspace: "a", by: "ana", why: "vault-passphrase-wrong" } },
      ]);
      await one.unlock("a", PIN);
      expect([one.knows("a", "x", SECRET), await one.read("a", "x", PIN)]).toEqual([true, SECRET]);
      expect(one.vault.status()).toMatchObject({
        asks: ["passphrase", "pkcs11"],
        workspaces: [{ kind: "pkcs11", kek, state: "unlocked", damaged: 0 }],
      });
    });

    test("is changed for a file and back, and for another key; the old ones are gone, and no ciphertext is touched", async () => {
      const one = host();
      await one.make("a");
      const { fingerprint } = await one.put("a", "x", SECRET);
      const sealed = () =>
        (
          JSON.parse(readFileSync(join(one.directory("a"), "secret-x.1.json"), "utf8")) as {
            ciphertext: string;
          }
        ).ciphertext;
      const ciphertext = sealed();
      const { kek: first } = await rewrap(one, "pkcs11", PIN);
      expect([keysOnToken(), readdirSync(one.keyDirectory)]).toEqual([[first], []]);
      const { kek: second } = await rewrap(one, null, PIN);
      expect([second === first, keysOnToken()]).toEqual([false, [second]]);
      expect(await one.read("a", "x", PIN)).toBe(SECRET);
      const { kek: third, kind } = await rewrap(one, "file", null);
      expect([kind, keysOnToken(), readdirSync(one.keyDirectory)]).toEqual(["file", [], [`${third}.key`]]);
      expect([await one.read("a", "x"), sealed()]).toEqual([SECRET, ciphertext]);
      expect((await one.put("a", "y", SECRET)).fingerprint).toBe(fingerprint);
    });

    test("that is not recorded leaves no key on the token", async () => {
      const one = host();
      await one.make("a");
      one.state.log = "fails";
      await expect(one.make("b", "pkcs11", PIN)).rejects.toEqual(code("log-unavailable"));
      await expect(rewrap(one, "pkcs11", PIN)).rejects.toEqual(code("log-unavailable"));
      expect(keysOnToken()).toEqual([]);
    });

    test("that is changed for a file while a lock comes stands; its key goes with the next login", async () => {
      const one = host();
      await one.make("a", "pkcs11", PIN);
      await one.put("a", "x", SECRET);
      one.state.log = "holds";
      const changing = rewrap(one, "file", null);
      changing.catch(() => undefined);
      await vi.waitFor(() => expect(one.kinds().at(-1)).toBe("vault.rewrapped"));
      one.vault.modeIs("COLDROOM");
      one.release();
      await expect(changing).rejects.toThrow(/it stays there until somebody is/);
      expect(keysOnToken()).toHaveLength(1);
      await one.unlock("a");
      expect([one.knows("a", "x", SECRET), await one.read("a", "x")]).toEqual([true, SECRET]);
      const { kek } = await one.make("b", "pkcs11", PIN);
      expect(keysOnToken()).toEqual([kek]);
    });

    test("of two workspaces on one token: each is locked by itself", async () => {
      const one = host();
      await one.make("a", "pkcs11", PIN);
      await one.make("b", "pkcs11", PIN);
      await one.put("b", "x", SECRET);
      await one.vault.lock("a", "ana");
      await one.put("b", "y", SECRET);
      await expect(one.unlock("a", "0000")).rejects.toEqual(code("vault-passphrase-wrong"));
      await one.unlock("a", PIN);
      await one.vault.lock(null, "ana");
      await one.unlock("b", PIN);
      expect(one.knows("b", "y", SECRET)).toBe(true);
    });

    test("on a token that was pulled, or without its key, does not open; nothing else is denied", async () => {
      const one = host();
      await one.make("a", "pkcs11", PIN);
      await one.make("f");
      await one.put("a", "x", SECRET);
      await one.vault.lock("a", "ana");
      token.tool("--delete-object", "--type", "secrkey", "--label", keysOnToken()[0] ?? "");
      await expect(one.unlock("a", PIN)).rejects.toEqual(code("kek-unavailable"));
      token.removeTokens();
      await expect(one.unlock("a", PIN)).rejects.toEqual(code("kek-unavailable"));
      await one.put("f", "x", SECRET);
      expect(await one.read("f", "x")).toBe(SECRET);
    });
  });
});

describe.skipIf(MODULE === "" || !isOnHost("cc"))("a token that misbehaves (needs softhsm2 and cc)", () => {
  let shim: ReturnType<typeof buildPkcs11Shim>;
  let directory: string;
  const shimmed = (more: Partial<Pkcs11Place> = {}, deadlineMs?: number) =>
    source({ module: shim.path, ...more }, deadlineMs);
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "boundary-shim-"));
    shim = buildPkcs11Shim(directory, MODULE);
  });
  afterAll(() => rmSync(directory, { recursive: true, force: true }));
  beforeEach(() => {
    token = softHsm();
    shim.reset();
  });
  afterEach(() => {
    shim.reset();
    for (const each of opened.splice(0)) each.drop();
    token.remove();
  });

  test("sees each PIN once, and is not asked when it has locked it", async () => {
    const one = shimmed();
    const { provider, spec } = kept(await one.create(ID, pin()));
    provider.drop();
    shim.set("logins", 0);
    await expect(one.open(ID, spec, pin("wrong1"))).rejects.toThrow(/counts wrong ones/);
    await expect(one.open(ID, spec, pin("wrong2"))).rejects.toThrow(/has one try left/);
    expect(shim.get("logins")).toBe(2);
    await expect(one.open(ID, spec, pin("wrong3"))).rejects.toThrow(/has locked it/);
    expect(shim.get("logins")).toBe(3);
    await expect(one.open(ID, spec, pin())).rejects.toThrow(/its PIN is locked/);
    expect(shim.get("logins")).toBe(3);
  });

  test("never sees a wrong PIN of a file twice, nor any as its last try; another PIN in the file is tried", async () => {
    const pinFile = join(token.home, "pin");
    writeFileSync(pinFile, "wrong", { mode: 0o600 });
    const one = shimmed({ pinFile });
    await expect(one.create(ID, null)).rejects.toEqual(code("kek-unavailable"));
    for (let again = 0; again < 3; again++)
      await expect(one.create(ID, null)).rejects.toThrow(/not tried again/);
    expect(shim.get("logins")).toBe(1);
    writeFileSync(pinFile, "other");
    await expect(one.create(ID, null)).rejects.toThrow(/has one try left/);
    writeFileSync(pinFile, PIN);
    await expect(one.create(ID, null)).rejects.toThrow(/which is a person's/);
    expect([shim.get("logins"), shim.get("tries")]).toEqual([2, 1]);
    const { provider } = kept(await shimmed().create(ID, pin())); // a person
    provider.drop();
    kept(await one.create(OTHER_ID, null));
  });

  test("does not hold up the loop, and one that is silent is given up until it has answered", async () => {
    const one = shimmed({}, 2_000);
    const { provider, spec } = kept(await one.create(ID, pin()));
    shim.set("delay_ms", 4_000);
    let turns = 0;
    const ticking = setInterval(() => turns++, 10);
    const [first, second] = [provider.wrap(DEK), provider.wrap(DEK)];
    for (const each of [first, second]) await expect(each).rejects.toThrow(/has not answered in 2000 ms/);
    clearInterval(ticking);
    expect(turns).toBeGreaterThan(20);
    await expect(one.open(ID, spec, pin())).rejects.toThrow(/has not answered/);
    shim.set("delay_ms", 0);
    await new Promise((done) => setTimeout(done, 2_500));
    expect(await provider.unwrap(await provider.wrap(DEK))).toEqual(DEK);
  });

  test("is left when it has answered, where a lock came meanwhile; what it gave then is not given out", async () => {
    const one = shimmed();
    const { provider, spec } = kept(await one.create(ID, pin()));
    shim.set("delay_ms", 1_500);
    const wrapping = provider.wrap(DEK);
    wrapping.catch(() => undefined);
    await new Promise((done) => setTimeout(done, 100));
    const before = performance.now();
    provider.drop();
    expect(performance.now() - before).toBeLessThan(100);
    await expect(provider.wrap(DEK)).rejects.toEqual(code("vault-locked"));
    await expect(wrapping).rejects.toEqual(code("vault-locked"));
    shim.set("delay_ms", 0);
    shim.set("logins", 0);
    kept(await one.open(ID, spec, pin()));
    expect(shim.get("logins")).toBe(1); // it was logged out
  });

  test("that makes keys which can be extracted is not used, and keeps none", async () => {
    shim.set("extractable", 1);
    await expect(shimmed().create(ID, pin())).rejects.toThrow(/would give it away/);
    expect(shim.get("destroyed")).toBe(1);
    expect(token.tool("--list-objects", "--type", "secrkey")).not.toContain(ID);
  });

  test("that fails is not taken for a damaged secret", async () => {
    const { provider } = kept(await shimmed().create(ID, pin()));
    const wrapped = await provider.wrap(DEK);
    for (const answer of [0x5, 0x6, 0x30, 0x32, 0xb3, 0x1234]) {
      shim.set("decrypt_answer", answer);
      await expect(provider.unwrap(wrapped)).rejects.toEqual(code("kek-unavailable"));
    }
    shim.set("decrypt_answer", 0x40);
    await expect(provider.unwrap(wrapped)).rejects.toEqual(code("secret-damaged"));
    shim.set("decrypt_answer", 0);
    shim.set("encrypt_answer", 0x30);
    await expect(provider.wrap(DEK)).rejects.toThrow(/CKR_DEVICE_ERROR/);
    shim.set("encrypt_answer", 0);
    expect(await provider.unwrap(wrapped)).toEqual(DEK);
  });

  test("that is pulled while it is unlocked leaves it locked, and nothing damaged", async () => {
    const one = vaultHost({ sources: [shimmed()] });
    await one.make("a", "pkcs11", PIN);
    for (const name of ["x", "y"]) await one.put("a", name, SECRET);
    await one.vault.lock("a", "ana");
    // the key of the fingerprints opens, and after that nothing
    const unlocking = one.unlock("a", PIN);
    shim.set("decrypt_after", 1);
    shim.set("decrypt_answer", 0x32);
    await expect(unlocking).rejects.toThrow(/CKR_DEVICE_REMOVED/);
    shim.reset();
    expect(one.vault.status().workspaces).toMatchObject([{ state: "locked", secrets: 2, damaged: 0 }]);
    await one.unlock("a", PIN);
    expect([one.knows("a", "x", SECRET), one.knows("a", "y", SECRET)]).toEqual([true, true]);
    one.vault.stop();
    one.remove();
  });

  test("that cannot wrap makes no workspace, and leaves no key", async () => {
    const one = vaultHost({ sources: [shimmed()] });
    shim.set("encrypt_answer", 0x70);
    await expect(one.make("a", "pkcs11", PIN)).rejects.toEqual(code("kek-unavailable"));
    expect([one.vault.status().workspaces, shim.get("destroyed")]).toEqual([[], 1]);
    one.remove();
  });

  test("has the stack that modules take", async () => {
    const { provider } = kept(await shimmed().create(ID, pin()));
    shim.set("stack_bytes", 700_000);
    expect(await provider.unwrap(await provider.wrap(DEK))).toEqual(DEK);
  });
});

test.skipIf(MODULE === "")("a module stays where it is when memory is collected", async () => {
  const module = loadPkcs11(MODULE);
  for (let round = 0; round < 3; round++) {
    expect(await collectGarbage()).toBe("done");
    expect([0, 0x190]).toContain(await module.call("C_Finalize", null)); // CKR_CRYPTOKI_NOT_INITIALIZED
  }
});

test("whatever a token says of itself can be read", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: TOKEN_INFO_BYTES, maxLength: TOKEN_INFO_BYTES }), (bytes) => {
      const { label, serial } = parseTokenInfo(Buffer.from(bytes));
      expect([label.length <= 32, /^[ -~]{0,16}$/.test(serial)]).toEqual([true, true]);
    }),
  );
});

describe("a module", () => {
  let home: string;
  let path: string;
  beforeEach(() => {
    home = mkdtempSync(join(tmpdir(), "boundary-module-"));
    path = join(home, "module.so");
    copyFileSync("/etc/hostname", path);
    chmodSync(path, 0o644);
  });
  afterEach(() => rmSync(home, { recursive: true, force: true }));

  test("that is ours, or root's, may be loaded; through a link too", () => {
    symlinkSync(path, join(home, "link.so"));
    expect([moduleFault(path), moduleFault(join(home, "link.so")), moduleFault("/bin/sh")]).toEqual([
      "",
      "",
      "",
    ]);
  });

  test.each([
    ["others may write to", () => chmodSync(path, 0o646), /others can write to it/],
    ["its group may write to", () => chmodSync(path, 0o664), /others can write to it/],
    ["is in a directory of everybody's", () => chmodSync(home, 0o777), /others can write to it/],
    ["is not there", () => rmSync(path), /ENOENT/],
    [
      "is a directory",
      () => {
        rmSync(path);
        mkdirSync(path);
      },
      /not a file/,
    ],
  ])("that %s is not", (_, change, why) => {
    change();
    expect(moduleFault(path)).toMatch(why);
    expect(() => loadPkcs11(path)).toThrow(why);
  });

  test.skipIf(process.getuid?.() !== 0)(
    "that is another user's is not, nor one in his directory (needs root)",
    () => {
      chownSync(path, 65_534, 65_534);
      expect(moduleFault(path)).toMatch(/belongs to uid 65534/);
      chownSync(path, 0, 0);
      chownSync(home, 65_534, 65_534);
      expect(moduleFault(path)).toMatch(/belongs to uid 65534/);
      const place = { module: path, tokenLabel: TOKEN };
      expect(pkcs11Kek(place).obstacle()).toMatch(/belongs to uid 65534/);
    },
  );
});
