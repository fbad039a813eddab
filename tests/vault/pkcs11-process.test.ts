import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { pkcs11Process } from "../../daemon/adapters/pkcs11-process.ts";
import { createFrameCutter, readReply, renderFrame } from "../../daemon/adapters/pkcs11-wire.ts";
import { isPowerless } from "../../daemon/adapters/powerless.ts";
import { buildPkcs11Shim } from "../support/pkcs11-shim.ts";
import { isOnHost } from "../support/setup.ts";
import { PIN, softHsm, softHsmModule, TOKEN, tokenProcesses } from "../support/softhsm.ts";
import { vaultHost } from "../support/vault-host.ts";

/** The token in its process, as the daemon has it: what a module does that hangs, or ends. */
const ID = "kek-0123456789abcdef";
const OTHER_ID = "kek-fedcba9876543210";
const DEK = Buffer.alloc(32, 5);
const MODULE = softHsmModule() ?? "";
const FOR_EVER_MS = 600_000;
const PARENT = join(import.meta.dirname, "../support/pkcs11-parent.ts");
const code = (code: string) => expect.objectContaining({ code });
const pin = (text = PIN) => Buffer.from(text);

describe.skipIf(MODULE === "" || !isOnHost("cc"))(
  "a token in a process of its own (needs softhsm2 and cc)",
  () => {
    let shim: ReturnType<typeof buildPkcs11Shim>;
    let token: ReturnType<typeof softHsm>;
    let directory: string;
    const parents: ChildProcess[] = [];
    beforeAll(() => {
      directory = mkdtempSync(join(tmpdir(), "boundary-shim-"));
      shim = buildPkcs11Shim(directory, MODULE);
    });
    afterAll(() => rmSync(directory, { recursive: true, force: true }));
    beforeEach(() => {
      token = softHsm();
      shim.reset();
    });
    afterEach(async () => {
      for (const parent of parents.splice(0)) parent.kill("SIGKILL");
      for (const pid of tokenProcesses()) process.kill(pid, "SIGKILL");
      await vi.waitUntil(() => tokenProcesses().length === 0);
      shim.reset();
      token.remove();
    });

    const source = (deadlines: { callMs?: number; dropMs?: number } = {}) =>
      pkcs11Process({ module: shim.path, tokenLabel: TOKEN }, deadlines);
    const keysOnToken = () => token.tool("--list-objects", "--type", "secrkey").match(/kek-[0-9a-f]+/g) ?? [];

    test("makes, opens and destroys keys, and takes the right PIN alone", async () => {
      const one = source();
      const { provider, spec } = await one.create(ID, pin());
      const wrapped = await provider.wrap(DEK);
      expect(await provider.unwrap(wrapped)).toEqual(DEK);
      await expect(provider.unwrap(Buffer.from("other"))).rejects.toEqual(code("secret-damaged"));
      await expect(one.open(ID, spec, pin("wrong"))).rejects.toEqual(code("vault-passphrase-wrong"));
      for (const none of [null, Buffer.alloc(0)])
        await expect(one.open(ID, spec, none)).rejects.toEqual(code("vault-passphrase-wrong"));
      provider.drop();
      provider.drop();
      await expect(provider.unwrap(wrapped)).rejects.toEqual(code("vault-locked"));
      const again = await one.open(ID, spec, pin());
      expect([await again.provider.unwrap(wrapped), again.spec]).toEqual([DEK, spec]);
      for (const bad of ["", "{}", "x".repeat(70_000)])
        await expect(one.open(ID, bad, pin())).rejects.toEqual(code("kek-unavailable"));
      await one.retire(ID);
      expect(keysOnToken()).toEqual([]);
      expect(tokenProcesses()).toHaveLength(1);
    });

    test("that is not configured starts nothing", async () => {
      const none = pkcs11Process(null);
      expect([none.obstacle(), none.asks]).toEqual(["vault.pkcs11 is not configured", false]);
      await expect(none.create(ID, pin())).rejects.toEqual(code("kek-unavailable"));
      await expect(none.retire(ID)).rejects.toEqual(code("kek-unavailable"));
      expect(tokenProcesses()).toEqual([]);
    });

    test("has none of our rights, nothing of our environment that is ours, and no secret in its arguments", async () => {
      process.env["NOTIFY_SOCKET"] = "/run/ours";
      process.env["BOUNDARY_MARK"] = "ours";
      try {
        await source().create(ID, pin());
      } finally {
        delete process.env["NOTIFY_SOCKET"];
        delete process.env["BOUNDARY_MARK"];
      }
      const [pid = 0] = tokenProcesses();
      expect(isPowerless(textOf(`/proc/${pid}/status`))).toBe(true);
      expect(textOf(`/proc/${pid}/oom_score_adj`).trim()).toBe("1000");
      const environment = textOf(`/proc/${pid}/environ`);
      expect(environment).toContain("SOFTHSM2_CONF=");
      expect(environment).not.toMatch(/NOTIFY_SOCKET|BOUNDARY_|\0NODE_/);
      expect(environment + textOf(`/proc/${pid}/cmdline`)).not.toContain(PIN);
    });

    describe("that hangs", () => {
      test("when it is to log out: the lock does not wait, and its process is killed", async () => {
        const one = source({ dropMs: 400 });
        const { provider, spec } = await one.create(ID, pin());
        const wrapped = await provider.wrap(DEK);
        shim.set("logout_ms", FOR_EVER_MS);
        const [pid] = tokenProcesses();
        const before = performance.now();
        provider.drop();
        expect(performance.now() - before).toBeLessThan(50);
        await expect(provider.wrap(DEK)).rejects.toEqual(code("vault-locked"));
        await vi.waitFor(() => expect(tokenProcesses()).toEqual([]), 3_000);
        shim.set("logout_ms", 0);
        const again = await one.open(ID, spec, pin());
        expect(await again.provider.unwrap(wrapped)).toEqual(DEK);
        expect(tokenProcesses()).not.toContain(pid);
      });

      test("in the middle of a call: what is in flight comes to nothing at the drop, and the loop turns on", async () => {
        const one = source({ callMs: 60_000, dropMs: 400 });
        const { provider } = await one.create(ID, pin());
        shim.set("delay_ms", FOR_EVER_MS);
        let turns = 0;
        const ticking = setInterval(() => turns++, 10);
        const wrapping = provider.wrap(DEK);
        await new Promise((done) => setTimeout(done, 300));
        const before = performance.now();
        provider.drop();
        await expect(wrapping).rejects.toEqual(code("vault-locked"));
        expect(performance.now() - before).toBeLessThan(100);
        clearInterval(ticking);
        expect(turns).toBeGreaterThan(10);
        await vi.waitFor(() => expect(tokenProcesses()).toEqual([]), 3_000);
      });

      test("is given up at its deadline, and another process serves who asks then", async () => {
        const one = source({ callMs: 1_500 });
        const { provider, spec } = await one.create(ID, pin());
        const wrapped = await provider.wrap(DEK);
        shim.set("delay_ms", FOR_EVER_MS);
        const both = await Promise.allSettled([provider.wrap(DEK), provider.unwrap(wrapped)]);
        expect(both.map((one) => one.status === "rejected" && one.reason)).toEqual([
          code("kek-unavailable"),
          code("kek-unavailable"),
        ]);
        await expect(provider.wrap(DEK)).rejects.toThrow(/has not answered in 1500 ms/);
        shim.set("delay_ms", 0);
        const again = await one.open(ID, spec, pin());
        expect(await again.provider.unwrap(wrapped)).toEqual(DEK);
        provider.drop(); // of the process that is gone
        expect(await again.provider.unwrap(wrapped)).toEqual(DEK);
      });

      test("while a key is made: it is destroyed by the next who logs in, if it was", async () => {
        const one = source({ callMs: 1_500 });
        shim.set("delay_ms", FOR_EVER_MS); // the key is there, and is tried
        await expect(one.create(ID, pin())).rejects.toEqual(code("kek-unavailable"));
        expect(keysOnToken()).toEqual([ID]);
        shim.set("delay_ms", 0);
        await one.create(OTHER_ID, pin());
        expect(keysOnToken()).toEqual([OTHER_ID]);
      });

      test("holds up no other workspace, no mode and no stop", async () => {
        const host = vaultHost({ sources: [source({ callMs: 3_000, dropMs: 300 })] });
        try {
          await host.make("a", "pkcs11", PIN);
          await host.put("a", "x", "a secret of the vault");
          await host.make("f");
          await host.vault.lock("f", "ana");
          shim.set("delay_ms", FOR_EVER_MS);
          shim.set("logout_ms", FOR_EVER_MS);
          const putting = host.put("a", "y", "another secret").catch((error: unknown) => error);
          const waiting = host.unlock("a", PIN).catch((error: unknown) => error);
          const before = performance.now();
          await host.unlock("f");
          expect(performance.now() - before).toBeLessThan(1_000);
          const locking = performance.now();
          host.vault.modeIs("LOCKDOWN");
          expect(performance.now() - locking).toBeLessThan(50);
          expect(host.vault.status().workspaces.map(({ state }) => state)).toEqual(["locked", "locked"]);
          expect(await putting).toEqual(code("vault-locked"));
          expect(await waiting).toBeInstanceOf(Error);
          const stopping = performance.now();
          host.vault.stop();
          expect(performance.now() - stopping).toBeLessThan(50);
          expect(host.vault.status().workspaces[0]).toMatchObject({ state: "locked" });
        } finally {
          host.remove();
        }
      });

      test.each(["exit", "drop", "kill"])("lets its parent end (%s), and ends with it", async (how) => {
        const parent = spawn(process.execPath, [PARENT, shim.path, TOKEN, how], {
          stdio: ["pipe", "pipe", "inherit"],
          env: { ...process.env, TEST_PIN: PIN },
        });
        parents.push(parent);
        const pid = Number(
          await new Promise<string>((resolve) => parent.stdout.once("data", (line) => resolve(String(line)))),
        );
        expect(pid).toBeGreaterThan(1);
        shim.set("delay_ms", FOR_EVER_MS);
        shim.set("logout_ms", FOR_EVER_MS);
        const over = new Promise((resolve) => parent.once("exit", resolve));
        parent.stdin.write("\n");
        await new Promise((done) => setTimeout(done, 150));
        if (how === "kill") parent.kill("SIGKILL");
        const before = performance.now();
        await over;
        expect(performance.now() - before).toBeLessThan(3_000);
        await vi.waitFor(() => expect(existsSync(`/proc/${pid}/exe`)).toBe(false), 5_000);
      });
    });

    test("that ends its process ends nothing else", async () => {
      const one = source();
      const { provider, spec } = await one.create(ID, pin());
      const wrapped = await provider.wrap(DEK);
      shim.set("crash", 1);
      await expect(provider.wrap(DEK)).rejects.toThrow(/its process ended/);
      await expect(provider.unwrap(wrapped)).rejects.toEqual(code("kek-unavailable"));
      shim.set("crash", 0);
      expect(await (await one.open(ID, spec, pin())).provider.unwrap(wrapped)).toEqual(DEK);
    });
  },
);

describe("what the token's process says", () => {
  test("comes out as it went in, however it is cut", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.dictionary(fc.string(), fc.integer()), fc.uint8Array({ maxLength: 200 })), {
          maxLength: 5,
        }),
        fc.integer({ min: 1, max: 50 }),
        (messages, size) => {
          const bytes = Buffer.concat(messages.map(([head, body]) => renderFrame(head, body)));
          const cutter = createFrameCutter();
          const found: unknown[] = [];
          for (let at = 0; at < bytes.length; at += size) {
            const frames = cutter.push(Buffer.from(bytes.subarray(at, at + size)));
            if (frames === "dead") throw new Error("dead");
            found.push(...frames.map(({ head, body }) => [head, [...body]]));
          }
          expect(found).toEqual(
            messages.map(([head, body]) => [JSON.parse(JSON.stringify(head)), [...body]]),
          );
        },
      ),
    );
  });

  test("is wiped when it was read, and is dead for good after what is no frame", () => {
    const frame = renderFrame({ n: 1 }, Buffer.from("secret"));
    const [cutter, chunk] = [createFrameCutter(), Buffer.from(frame)];
    expect(cutter.push(chunk)).toMatchObject([{ head: { n: 1 }, body: Buffer.from("secret") }]);
    expect(chunk.every((byte) => byte === 0)).toBe(true);
    for (const bad of [
      Buffer.from([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]),
      Buffer.from([0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]),
      Buffer.from([0, 0, 0, 1, 0, 0, 0, 0, 0x7b]),
      Buffer.from([0, 0, 0, 2, 0, 0, 0, 0, 0xc3, 0x28]),
    ]) {
      const other = createFrameCutter();
      expect(other.push(Buffer.concat([frame, bad]))).toBe("dead");
      expect(other.push(Buffer.from(frame))).toBe("dead");
    }
    expect(() => renderFrame({}, Buffer.alloc(65_537))).toThrow(RangeError);
  });

  test("never throws, whatever it is, and an answer is of one form", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 60 })), (chunks) => {
        const cutter = createFrameCutter();
        for (const chunk of chunks) cutter.push(Buffer.from(chunk));
      }),
    );
    fc.assert(fc.property(fc.jsonValue(), (value) => readReply(value) === null));
    expect(readReply({ n: 0, ok: true, key: 1, spec: "{}" })).toEqual({ n: 0, ok: true, key: 1, spec: "{}" });
    expect(readReply({ n: 0, ok: false, code: "no-such-code", message: "" })).toBeNull();
  });
});

function textOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return ""; // it has ended
  }
}
