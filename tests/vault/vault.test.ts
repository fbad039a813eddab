import { randomBytes } from "node:crypto";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { BoundaryError } from "../../daemon/core/errors.ts";
import type { KekSource } from "../../daemon/ports.ts";
import { localKek } from "../../daemon/vault/kek-local.ts";
import { vaultClaim } from "../../daemon/vault.ts";
import { CHEAP, PEER, vaultHost } from "../support/vault-host.ts";

const SECRET = "correct horse battery";
const OTHER = "staple of another kind";
const KEY = "00112233445566778899aabbccddeeff".repeat(2);
const hosts: ReturnType<typeof vaultHost>[] = [];
const host = (options: Parameters<typeof vaultHost>[0] = {}) => {
  const made = vaultHost(options);
  hosts.push(made);
  return made;
};
const code = (code: string) => expect.objectContaining({ code });
const workspace = (one: ReturnType<typeof vaultHost>, name: string) =>
  one.vault.status().workspaces.find((each) => each.workspace === name);
/** Everything that stands in files below a home, and in the records. */
const everything = (one: ReturnType<typeof vaultHost>) =>
  readdirSync(one.home, { recursive: true, withFileTypes: true })
    .filter((each) => each.isFile())
    .map((each) => readFileSync(join(each.parentPath, each.name), "latin1"))
    .concat(JSON.stringify(one.records), ...one.told)
    .join("\n");

const rewrap = (one: ReturnType<typeof vaultHost>) =>
  one.vault.rewrap({ workspace: "a", kind: null, passphrase: null, by: "ana" });

afterEach(() => {
  for (const one of hosts.splice(0)) one.remove();
});

describe("a secret", () => {
  test("is put, changed and revoked; each is a record without its value", async () => {
    const one = host();
    await one.make("build");
    const put = await one.put("build", "deploy", SECRET);
    expect(put).toMatchObject({ version: 1, state: "sealed" });
    expect(await one.read("build", "deploy")).toBe(SECRET);
    const rotated = await one.put("build", "deploy", OTHER, "rotate");
    expect(rotated).toMatchObject({ version: 2 });
    expect([await one.read("build", "deploy"), one.knows("build", "deploy", OTHER)]).toEqual([OTHER, true]);
    expect(readdirSync(one.directory("build")).toSorted()).toEqual(["keyring.json", "secret-deploy.2.json"]);
    await one.vault.revoke({ workspace: "build", name: "deploy", kind: "secret", by: "ana" });
    await expect(one.put("build", "deploy", OTHER, "rotate")).rejects.toEqual(code("secret-unknown"));
    expect(one.knows("build", "deploy", OTHER)).toBe(false);
    expect(readdirSync(one.directory("build")).toSorted()).toEqual([
      "keyring.json",
      "secret-deploy.2.revoked",
    ]);
    expect(await one.put("build", "deploy", SECRET)).toMatchObject({
      version: 3,
      fingerprint: put.fingerprint,
    });
    expect(one.kinds()).toEqual([
      "vault.unlocked",
      "secret.put",
      "secret.rotated",
      "secret.revoked",
      "secret.put",
    ]);
    expect(one.records[1]?.data).toEqual({
      workspace: "build",
      kind: "secret",
      name: "deploy",
      version: 1,
      fingerprint: put.fingerprint,
      by: "ana",
    });
    for (const text of [SECRET, OTHER])
      for (const form of ["latin1", "hex", "base64"] as const)
        expect(everything(one)).not.toContain(Buffer.from(text).toString(form));
  });

  test("has the fingerprint of an equal one in its workspace, and another one elsewhere", async () => {
    const one = host();
    await one.make("a");
    await one.make("b");
    const prints = [
      await one.put("a", "x", SECRET),
      await one.put("a", "y", SECRET),
      await one.put("b", "x", SECRET),
      await one.put("a", "z", OTHER),
    ].map(({ fingerprint }) => fingerprint);
    expect([prints[0] === prints[1], new Set(prints).size]).toEqual([true, 3]);
  });

  test("that is there is not put over, one that is not is not rotated, and none is empty or too long", async () => {
    const one = host();
    await one.make("build");
    await one.put("build", "deploy", SECRET);
    await expect(one.put("build", "deploy", OTHER)).rejects.toEqual(code("secret-exists"));
    await expect(one.put("build", "other", OTHER, "rotate")).rejects.toEqual(code("secret-unknown"));
    await expect(one.put("build", "empty", "")).rejects.toEqual(code("secret-invalid"));
    await expect(one.put("build", "long", "x".repeat(32_769))).rejects.toEqual(code("secret-invalid"));
    await one.put("build", "most", "y".repeat(32_768));
    await expect(one.put("elsewhere", "x", SECRET)).rejects.toEqual(code("workspace-unknown"));
    expect(one.vault.list("secret", "build").secrets.map(({ name }) => name)).toEqual(["deploy", "most"]);
  });

  test("given in a buffer leaves that buffer overwritten, also where it is refused", async () => {
    const one = host();
    await one.make("build");
    const [value, refused] = [Buffer.from(SECRET), Buffer.from(OTHER)];
    const wish = { name: "deploy", kind: "secret", peer: null, as: "put", by: "ana" } as const;
    await one.vault.put({ ...wish, workspace: "build", value });
    await expect(one.vault.put({ ...wish, workspace: "build", value: refused })).rejects.toEqual(
      code("secret-exists"),
    );
    expect([value, refused]).toEqual([Buffer.alloc(SECRET.length), Buffer.alloc(OTHER.length)]);
  });
});

describe("what cannot be recorded", () => {
  test("is not put, not unlocked", async () => {
    const one = host();
    await one.make("build");
    await one.put("build", "deploy", SECRET);
    one.state.log = "fails";
    await expect(one.put("build", "new", OTHER)).rejects.toEqual(code("log-unavailable"));
    await expect(one.put("build", "deploy", OTHER, "rotate")).rejects.toEqual(code("log-unavailable"));
    await expect(one.make("another")).rejects.toEqual(code("log-unavailable"));
    expect(readdirSync(one.directory("build")).toSorted()).toEqual(["keyring.json", "secret-deploy.1.json"]);
    expect([existsSync(one.directory("another")), one.keyIds().length]).toEqual([false, 1]);
    expect(await one.read("build", "deploy")).toBe(SECRET);
  });

  test("is locked and revoked all the same: a tightening stands without its record", async () => {
    const one = host();
    await one.make("build");
    await one.put("build", "deploy", SECRET);
    one.state.log = "fails";
    const revoked = one.vault.revoke({ workspace: "build", name: "deploy", kind: "secret", by: "ana" });
    await expect(revoked).rejects.toEqual(code("log-unavailable"));
    await expect(one.vault.lock("build", "ana")).rejects.toEqual(code("log-unavailable"));
    expect(workspace(one, "build")).toMatchObject({ state: "locked", secrets: 0 });
    expect(one.restart().vault.list("secret", "build").secrets).toMatchObject([
      { name: "deploy", state: "revoked" },
    ]);
  });

  test("no key is exported before that is on disk", async () => {
    const one = host();
    await one.make("site");
    await one.addPeer("site", "ct", KEY);
    one.state.log = "holds";
    const exporting = one.exported("site");
    await new Promise((done) => setTimeout(done, 20));
    expect([one.kinds().at(-1), existsSync(one.exportPath)]).toEqual(["secret.exported", false]);
    one.release();
    await exporting;
    expect(existsSync(one.exportPath)).toBe(true);
  });
});

describe("a lock", () => {
  test.each(["COLDROOM", "LOCKDOWN"] as const)(
    "by %s is there when the call returns, in every workspace",
    async (mode) => {
      const one = host();
      await one.make("a");
      await one.make("b", "passphrase", "open sesame");
      await one.put("a", "x", SECRET);
      one.vault.modeIs(mode);
      expect(one.vault.status().workspaces.map(({ state }) => state)).toEqual(["locked", "locked"]);
      one.state.mode = mode;
      for (const work of [
        () => one.exported("a"),
        () => one.put("a", "y", OTHER),
        () => one.unlock("a"),
        () => one.make("c"),
        () => one.vault.rewrap({ workspace: "a", kind: null, passphrase: null, by: "ana" }),
      ])
        await expect(work()).rejects.toEqual(code("vault-ceiling"));
      expect(one.records.slice(-2).map(({ kind, data }) => [kind, data["why"]])).toEqual([
        ["vault.locked", `mode ${mode}`],
        ["vault.locked", `mode ${mode}`],
      ]);
      one.state.mode = "RESTRICTED";
      await expect(one.exported("a")).rejects.toEqual(code("vault-locked"));
      expect(one.knows("a", "x", SECRET)).toBe(false);
      await one.unlock("a");
      expect(one.knows("a", "x", SECRET)).toBe(true);
    },
  );

  test.each(["OPEN", "RESTRICTED", "TRUSTED", "AIRGAP"] as const)("is none in %s", async (mode) => {
    const one = host();
    await one.make("a");
    one.vault.modeIs(mode);
    expect(workspace(one, "a")?.state).toBe("unlocked");
  });

  test("comes by itself when the time is up, also before the tick that would tell", async () => {
    const one = host();
    await one.make("a");
    await one.put("a", "x", SECRET);
    one.state.nowMs += 59_999;
    await one.put("a", "y", OTHER);
    one.state.nowMs += 1;
    await expect(one.put("a", "z", OTHER)).rejects.toEqual(code("vault-locked"));
    expect(one.records.at(-1)).toMatchObject({ kind: "vault.locked", data: { why: "time" } });
    await one.unlock("a");
    one.state.nowMs += 60_000;
    one.vault.tick();
    expect([workspace(one, "a")?.state, one.kinds().at(-1)]).toEqual(["locked", "vault.locked"]);
  });

  test("is of one workspace alone, or of all", async () => {
    const one = host();
    await one.make("a");
    await one.make("b");
    await one.vault.lock("a", "ana");
    expect(one.vault.status().workspaces.map(({ state }) => state)).toEqual(["locked", "unlocked"]);
    await one.vault.lock(null, "ana");
    expect(one.vault.status().workspaces.map(({ state }) => state)).toEqual(["locked", "locked"]);
    expect(one.kinds().filter((kind) => kind === "vault.locked")).toHaveLength(2);
  });

  test.each([
    ["an export", (one: ReturnType<typeof vaultHost>) => one.exported("a")],
    ["an unlocking", (one: ReturnType<typeof vaultHost>) => one.unlock("a")],
    ["a new KEK", (one: ReturnType<typeof vaultHost>) => rewrap(one)],
  ])("that comes while %s waits for the log wins", async (_, work) => {
    const one = host();
    await one.make("a");
    await one.addPeer("a", "ct", KEY);
    one.state.log = "holds";
    const working = Promise.allSettled([work(one)]);
    await new Promise((done) => setTimeout(done, 20));
    one.vault.modeIs("COLDROOM"); // and back at once: it was locked in between
    one.release();
    await working;
    expect([workspace(one, "a")?.state, existsSync(one.exportPath)]).toEqual(["locked", false]);
    await one.unlock("a");
    expect(workspace(one, "a")).toMatchObject({ secrets: 1, damaged: 0 });
    await one.exported("a");
    expect(readFileSync(one.exportPath, "utf8")).toContain(KEY);
  });

  test("keeps what is frozen from being unlocked", async () => {
    const one = host();
    await one.make("a");
    one.state.obstacle = { code: "clock-frozen", why: "the clock moved" };
    await expect(one.unlock("a")).rejects.toEqual(code("clock-frozen"));
  });
});

describe("a start", () => {
  test("finds everything locked, and what was put; the passphrase opens it", async () => {
    const before = host();
    await before.make("a", "passphrase", "open sesame");
    await before.put("a", "x", SECRET);
    const one = before.restart();
    expect(one.vault.list("secret", null).secrets).toMatchObject([
      { name: "x", version: 1, state: "sealed" },
    ]);
    await expect(one.exported("a")).rejects.toEqual(code("vault-locked"));
    await expect(one.unlock("a", "open says me")).rejects.toEqual(code("vault-passphrase-wrong"));
    expect(one.records).toEqual([
      { kind: "vault.refused", data: { workspace: "a", by: "ana", why: "vault-passphrase-wrong" } },
    ]);
    await one.unlock("a", "open sesame");
    expect([one.knows("a", "x", SECRET), await one.read("a", "x", "open sesame")]).toEqual([true, SECRET]);
  });

  test("keeps what was prepared and never recorded from being there", async () => {
    const before = host();
    await before.make("a");
    await before.put("a", "x", SECRET);
    before.state.log = "holds";
    void before.put("a", "x", OTHER, "rotate");
    await new Promise((done) => setTimeout(done, 20));
    expect(readdirSync(before.directory("a"))).toContain("secret-x.2.json.new");
    const one = before.restart();
    expect(readdirSync(one.directory("a")).toSorted()).toEqual(["keyring.json", "secret-x.1.json"]);
  });

  test("tells a damaged secret, and denies it alone", async () => {
    const before = host();
    await before.make("a");
    for (const name of ["one", "two", "three", "four"]) await before.put("a", name, `${SECRET} ${name}`);
    const file = (name: string) => join(before.directory("a"), `secret-${name}.1.json`);
    writeFileSync(file("one"), readFileSync(file("one"), "utf8").replace(/"tag":"./, '"tag":"_'));
    chmodSync(file("two"), 0o644);
    // well-formed, and altered: only opening it tells
    const altered = JSON.parse(readFileSync(file("three"), "utf8")) as { fingerprint: string };
    writeFileSync(file("three"), JSON.stringify({ ...altered, fingerprint: "0".repeat(16) }));
    const one = before.restart();
    expect(one.told.filter((line) => line.startsWith("a secret is damaged"))).toHaveLength(2);
    await one.unlock("a");
    expect(workspace(one, "a")).toMatchObject({ secrets: 1, damaged: 3 });
    const states = () => one.vault.list("secret", "a").secrets.map(({ name, state }) => `${name} ${state}`);
    expect(states().toSorted()).toEqual(["four sealed", "one damaged", "three damaged", "two damaged"]);
    for (const name of ["one", "two", "three", "four"])
      expect(one.knows("a", name, `${SECRET} ${name}`)).toBe(name === "four");
    expect(one.vault.checkMessage("hello")).toMatchObject({ verdict: "unscanned" });
    // what was put right opens with the next unlock
    chmodSync(file("two"), 0o600);
    await one.unlock("a");
    expect(one.knows("a", "two", `${SECRET} two`)).toBe(true);
    // and a new value takes the place of what is lost
    await one.put("a", "one", OTHER, "rotate");
    expect([one.knows("a", "one", OTHER), await one.read("a", "one")]).toEqual([true, OTHER]);
  });

  test("a file that was swapped while the daemon ran is noticed when it is used", async () => {
    const one = host();
    await one.make("a");
    await one.put("a", "x", SECRET);
    await one.put("a", "y", OTHER);
    const file = (name: string) => join(one.directory("a"), `secret-${name}.1.json`);
    renameSync(file("y"), file("x"));
    await expect(rewrap(one)).rejects.toEqual(code("secret-damaged"));
    expect(one.vault.list("secret", "a").secrets[0]).toMatchObject({ state: "damaged" });
  });

  test("a damaged keyring denies its workspace alone", async () => {
    const before = host();
    await before.make("a");
    await before.make("b");
    writeFileSync(join(before.directory("a"), "keyring.json"), "{}");
    const one = before.restart();
    await expect(one.unlock("a")).rejects.toEqual(code("kek-unavailable"));
    await one.unlock("b");
    expect(workspace(one, "a")?.fault).not.toBe("");
  });

  test("with a directory that others can look into, nothing of the vault is used", async () => {
    const before = host();
    await before.make("a");
    expect(
      [before.directory("a"), join(before.home, "vault")].map((path) => statSync(path).mode & 0o777),
    ).toEqual([0o700, 0o700]);
    chmodSync(before.directory("a"), 0o755);
    const one = before.restart();
    expect(one.vault.status().fault).toContain("others have access");
    await expect(one.unlock("a")).rejects.toEqual(code("vault-unsafe"));
    expect(() => one.vault.list("secret", null)).toThrow(expect.objectContaining({ code: "vault-unsafe" }));
    expect(one.vault.checkMessage("hello")).toMatchObject({ verdict: "unscanned" });
  });
});

describe("a change of the KEK", () => {
  const texts = (one: ReturnType<typeof vaultHost>) =>
    readdirSync(one.directory("a"))
      .filter((name) => name.startsWith("secret-"))
      .map((name) => {
        const { wraps, ...rest } = JSON.parse(readFileSync(join(one.directory("a"), name), "utf8")) as {
          wraps: readonly { kek: string }[];
        };
        return { rest, keks: wraps.map(({ kek }) => kek) };
      });

  test("wraps each key anew, touches no ciphertext, and erases the old KEK", async () => {
    const one = host();
    const { kek: old } = await one.make("a");
    for (const name of ["x", "y"]) await one.put("a", name, SECRET);
    const before = texts(one);
    const { kek } = await rewrap(one);
    expect(texts(one).map(({ rest }) => rest)).toEqual(before.map(({ rest }) => rest));
    expect([before, texts(one)].map((all) => all.map(({ keks }) => keks))).toEqual([
      [[old], [old]],
      [[kek], [kek]],
    ]);
    expect(one.keyIds()).toEqual([kek]);
    expect(await one.read("a", "x")).toBe(SECRET);
    expect(one.records.find(({ kind }) => kind === "vault.rewrapped")?.data).toEqual({
      workspace: "a",
      by: "ana",
      from: old,
      to: kek,
      kind: one.kind,
      secrets: 2,
    });
    const again = one.restart();
    await again.unlock("a");
    expect([again.knows("a", "y", SECRET), await again.read("a", "y")]).toEqual([true, SECRET]);
  });

  test("from a file to a passphrase, and to another passphrase; fingerprints stay", async () => {
    const one = host();
    await one.make("a");
    const { fingerprint } = await one.put("a", "x", SECRET);
    const to = (passphrase: string) =>
      one.vault.rewrap({
        workspace: "a",
        kind: "passphrase",
        passphrase: Buffer.from(passphrase),
        by: "ana",
      });
    await to("first");
    await to("second");
    await one.vault.lock("a", "ana");
    await expect(one.unlock("a", "first")).rejects.toEqual(code("vault-passphrase-wrong"));
    await one.unlock("a", "second");
    expect([await one.read("a", "x", "second"), one.keyIds()]).toEqual([SECRET, []]);
    expect((await one.put("a", "y", SECRET)).fingerprint).toBe(fingerprint);
  });

  test("that is not recorded, or cut off by a lock, changes nothing; what it left is taken away", async () => {
    const one = host();
    const { kek: old } = await one.make("a");
    await one.put("a", "x", SECRET);
    one.state.log = "fails";
    await expect(rewrap(one)).rejects.toEqual(code("log-unavailable"));
    one.state.log = "holds";
    const cut = rewrap(one);
    cut.catch(() => undefined);
    await new Promise((done) => setTimeout(done, 50));
    const crashed = one.restart(); // as if the power went before the record was on disk
    expect(texts(one)[0]?.keks).toHaveLength(2);
    await crashed.unlock("a");
    expect([await crashed.read("a", "x"), texts(one)[0]?.keks]).toEqual([SECRET, [old]]);
  });

  test("that a crash cut off after its record is finished by the next unlock", async () => {
    const one = host();
    await one.make("a");
    await one.put("a", "x", SECRET);
    const file = join(one.directory("a"), "secret-x.1.json");
    const old = readFileSync(file, "utf8");
    const { kek } = await rewrap(one);
    // the new wrap beside the old one, as it is between the keyring and the last step
    const [before, after] = [JSON.parse(old), JSON.parse(readFileSync(file, "utf8"))] as {
      wraps: object[];
    }[];
    writeFileSync(
      file,
      JSON.stringify({ ...after, wraps: [...(before?.wraps ?? []), ...(after?.wraps ?? [])] }),
    );
    const again = one.restart();
    await again.unlock("a");
    expect([await again.read("a", "x"), texts(again)[0]?.keks]).toEqual([SECRET, [kek]]);
  });
});

test("an old KEK that cannot be erased locks the workspace, which the new one opens", async () => {
  const files = new Map<string, Buffer>();
  const stubborn: KekSource = {
    kind: "stubborn",
    asks: false,
    obstacle: () => "",
    create: async (id) => {
      files.set(id, randomBytes(32));
      return { provider: localKek(id, Buffer.from(files.get(id) ?? "")), spec: "" };
    },
    open: async (id, spec) => ({ provider: localKek(id, Buffer.from(files.get(id) ?? "")), spec }),
    retire: () => {
      throw new BoundaryError("state-unwritable", "erasing it");
    },
  };
  const one = host({ sources: [stubborn] });
  await one.make("a", "stubborn");
  await one.put("a", "x", SECRET);
  await expect(rewrap(one)).rejects.toEqual(code("state-unwritable"));
  expect(workspace(one, "a")).toMatchObject({ state: "locked", damaged: 0 });
  await one.unlock("a");
  expect([one.knows("a", "x", SECRET), workspace(one, "a")?.damaged]).toEqual([true, 0]);
});

test("parameters of Argon2id that are cheaper than today's are made anew by an unlock", async () => {
  const before = host();
  await before.make("a", "passphrase", "open sesame");
  await before.put("a", "x", SECRET);
  const dear = host({ home: before.home, cost: { ...CHEAP, memoryKiB: 256 } });
  await dear.unlock("a", "open sesame");
  const keyring = JSON.parse(readFileSync(join(dear.directory("a"), "keyring.json"), "utf8")) as {
    kek: { spec: string };
  };
  expect(JSON.parse(keyring.kek.spec)).toMatchObject({ memoryKiB: 256 });
  expect(await dear.read("a", "x", "open sesame")).toBe(SECRET);
  await before.restart().unlock("a", "open sesame");
});

describe("a message", () => {
  test("with a secret of an unlocked workspace is blocked; while one is locked it is unscanned", async () => {
    const one = host();
    expect(one.vault.checkMessage("hello")).toMatchObject({ verdict: "clean" });
    await one.make("a");
    await one.make("empty");
    await one.put("a", "x", SECRET);
    const held = Buffer.from(`so: ${SECRET}`).toString("base64");
    for (const text of [`so: ${SECRET}.`, held])
      expect(one.vault.checkMessage(text)).toEqual({ verdict: "blocked", found: ["secret a/x"], why: "" });
    expect(one.vault.checkMessage("hello")).toMatchObject({ verdict: "clean" });
    await one.put("a", "x", OTHER, "rotate");
    expect(one.vault.checkMessage(SECRET)).toMatchObject({ verdict: "clean" });
    expect(one.vault.checkMessage(OTHER)).toMatchObject({ verdict: "blocked" });
    await one.vault.lock(null, "ana");
    expect(one.vault.checkMessage(OTHER)).toEqual({
      verdict: "unscanned",
      found: [],
      why: "locked or damaged: a",
    });
  });
});

describe("pre-shared keys", () => {
  test("are kept apart from secrets, are in no reply, and are exported into a file of ours alone", async () => {
    const one = host();
    await one.make("site");
    const added = await one.addPeer("site", "ct", `${KEY}\n`);
    await one.put("site", "ct", SECRET);
    expect(added).toMatchObject({ kind: "psk", name: "ct", peer: PEER });
    await expect(one.addPeer("site", "other", "hunter2")).rejects.toEqual(code("psk-invalid"));
    expect(await one.read("site", "ct")).toBe(SECRET);
    expect(JSON.stringify([one.vault.list("psk", "site"), one.records])).not.toContain(KEY);
    const { path, peers } = await one.exported("site");
    expect([peers, statSync(path).mode & 0o777, statSync(join(path, "..")).mode & 0o777]).toEqual([
      ["ct"],
      0o600,
      0o700,
    ]);
    expect(readFileSync(path, "utf8")).toContain(`secret = 0x${KEY}`);
    expect(one.records.at(-1)).toEqual({
      kind: "secret.exported",
      data: { workspace: "site", by: "ana", path, peers: ["ct.1"] },
    });
    await one.exported("site"); // again, in the place of the first
    one.vault.modeIs("LOCKDOWN");
    expect([existsSync(path), everything(one).includes(KEY)]).toEqual([false, false]);
  });

  test("are not exported when that is not recorded, nor by a locked vault, and a start leaves none", async () => {
    const one = host();
    await one.make("site");
    await expect(one.exported("site")).rejects.toEqual(code("secret-unknown"));
    await one.addPeer("site", "ct", KEY);
    one.state.log = "fails";
    await expect(one.exported("site")).rejects.toEqual(code("log-unavailable"));
    expect(existsSync(one.exportPath)).toBe(false);
    one.state.log = "works";
    await one.exported("site");
    writeFileSync(`${one.exportPath}.new`, KEY); // cut off while it was written again
    one.restart();
    expect(existsSync(`${one.exportPath}.new`)).toBe(false);
    expect(existsSync(one.exportPath)).toBe(false);
    await one.vault.lock(null, "ana");
    await expect(one.exported("site")).rejects.toEqual(code("vault-locked"));
  });
});

test("an exported configuration that cannot be erased is told, and tried again until it is gone", async () => {
  const one = host();
  await one.make("site");
  await one.addPeer("site", "ct", KEY);
  await one.exported("site");
  // an unlink fails, as it does with a file that was made immutable
  unlinkSync(one.exportPath);
  mkdirSync(one.exportPath);
  await one.vault.lock(null, "ana");
  one.vault.tick();
  expect(one.told.filter((each) => each.includes("could not be erased"))).toHaveLength(1);
  expect(one.vault.status().leftover).toContain(one.exportPath);
  expect(vaultClaim(one.vault.status())).toMatchObject({
    state: "failed",
    detail: expect.stringContaining("keys in clear"),
  });
  rmSync(dirname(one.exportPath), { recursive: true });
  one.vault.tick();
  expect([existsSync(one.exportPath), one.vault.status().leftover]).toEqual([false, ""]);
  // and what is exported after that stays until the next lock
  await one.unlock("site");
  await one.exported("site");
  one.vault.tick();
  expect(existsSync(one.exportPath)).toBe(true);
});

test("the status tells what there is, what is unlocked, and what is damaged", async () => {
  const one = host();
  const claim = (of: ReturnType<typeof vaultHost>) => vaultClaim(of.vault.status());
  expect(claim(one)).toMatchObject({ state: "absent" });
  await one.make("a");
  await one.make("b");
  await one.put("a", "x", SECRET);
  await one.vault.lock("b", "ana");
  expect(claim(one)).toEqual({ state: "observed", detail: "2 workspaces, 1 unlocked; 1 secrets" });
  writeFileSync(join(one.directory("a"), "secret-x.1.json"), "{}");
  writeFileSync(join(one.directory("b"), "keyring.json"), "{}");
  const again = one.restart();
  expect(claim(again)).toEqual({
    state: "failed",
    detail: "1 damaged secrets, 1 damaged keyrings; 2 workspaces, 0 unlocked; 0 secrets",
  });
  chmodSync(one.directory("a"), 0o755);
  expect(claim(one.restart())).toMatchObject({
    state: "failed",
    detail: expect.stringMatching(/^it stays locked/),
  });
});
