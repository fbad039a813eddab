import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { boundaryctl } from "../support/boundaryctl.ts";
import { createHome, startDaemon } from "../support/daemon-process.ts";
import { buildPkcs11Shim } from "../support/pkcs11-shim.ts";
import { places, sentinel, where } from "../support/sentinel.ts";
import { isOnHost } from "../support/setup.ts";
import { PIN, softHsm, softHsmModule, TOKEN } from "../support/softhsm.ts";

/** The real daemon and the real tool, with a token. */
const TIMEOUT_MS = 120_000;
const MODULE = softHsmModule() ?? "";
const cleanUps: (() => unknown)[] = [];

afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

async function begin(pkcs11: object | null = {}) {
  const token = softHsm();
  cleanUps.push(token.remove);
  const place = { module: MODULE, tokenLabel: TOKEN };
  const vault = pkcs11 === null ? {} : { pkcs11: { ...place, ...pkcs11 } };
  const home = createHome({ initialMode: "RESTRICTED", vault });
  cleanUps.push(home.remove);
  const start = async () => {
    const { SHIM_MODULE = "", SHIM_STATE = "" } = process.env;
    const daemon = await startDaemon(home, {
      env: { BOUNDARY_LOG_LEVEL: "debug", SOFTHSM2_CONF: token.configuration, SHIM_MODULE, SHIM_STATE },
    });
    cleanUps.push(() => daemon.kill());
    return daemon;
  };
  const said: string[] = [];
  const give = async (input: string, ...args: readonly string[]) => {
    const { code, stdout, stderr } = await boundaryctl(
      [...args, "--runtime-dir", home.runtimeDir, "--json"],
      {},
      input,
    );
    said.push(stdout, stderr);
    return { code, reply: stdout === "" ? null : (JSON.parse(stdout) as Record<string, unknown>), stderr };
  };
  return { token, home, start, give, said };
}

describe.skipIf(MODULE === "")("a vault with a token (needs softhsm2)", () => {
  test("is made, changed from a file and back, and opened after a restart, with the PIN; neither it nor a secret is anywhere", {
    timeout: TIMEOUT_MS,
  }, async () => {
    const { token, home, start, give, said } = await begin();
    const daemon = await start();
    const secret = sentinel();
    const forms = [
      ...secret.forms,
      PIN,
      Buffer.from(PIN).toString("hex"),
      Buffer.from(PIN).toString("base64"),
    ];
    const made = await give(`${PIN}\n`, "vault", "unlock", "site", "--create", "--kek", "pkcs11");
    expect(made.reply).toMatchObject({ state: "unlocked", kind: "pkcs11" });
    expect((await give(secret.text, "secret", "put", "deploy", "--workspace", "site")).code).toBe(0);
    expect((await give("", "vault", "rewrap", "site", "--kek", "file")).reply).toMatchObject({
      kind: "file",
    });
    expect((await give("0000", "vault", "rewrap", "site", "--kek", "pkcs11")).stderr).toContain(
      "vault-passphrase-wrong",
    );
    const back = await give(PIN, "vault", "rewrap", "site", "--kek", "pkcs11");
    expect(back.reply).toMatchObject({ kind: "pkcs11", secrets: 1 });
    expect(token.tool("--list-objects", "--type", "secrkey").match(/kek-[0-9a-f]+/g)).toEqual([
      back.reply?.["kek"],
    ]);
    expect((await give("", "vault", "status")).reply).toMatchObject({ asks: ["passphrase", "pkcs11"] });
    await daemon.stop();
    const again = await start();
    expect((await give("1234", "vault", "unlock", "site")).stderr).toContain("vault-passphrase-wrong");
    expect((await give(PIN, "vault", "unlock", "site")).reply).toMatchObject({ secrets: 1, damaged: 0 });
    const blocked = await give(secret.text, "check", "message");
    expect(blocked.reply?.["found"]).toEqual(["secret site/deploy"]);
    // the token's own files too
    cpSync(token.tokens, join(home.path, "tokens"), { recursive: true });
    const lines = [...daemon.lines, ...again.lines];
    expect(where(places(home, { lines }, said), forms)).toEqual([]);
    await again.stop();
    const all = places(home, { lines: [...daemon.lines, ...again.lines] }, said);
    expect(where(all, forms)).toEqual([]);
    expect(where(all, [String(back.reply?.["kek"])]).length).toBeGreaterThan(0); // the search does find things
  });

  test("whose PIN is in a file asks nobody for it", { timeout: TIMEOUT_MS }, async () => {
    const pinHome = createHome({});
    cleanUps.push(pinHome.remove);
    const pinFile = join(pinHome.path, "pin");
    writeFileSync(pinFile, PIN, { mode: 0o600 });
    const { start, give } = await begin({ pinFile, keyLabel: "host-7" });
    await start();
    expect((await give("", "vault", "unlock", "site", "--create", "--kek", "pkcs11")).code).toBe(0);
    await give("", "vault", "lock");
    expect((await give("", "vault", "unlock", "site")).reply).toMatchObject({ state: "unlocked" });
  });

  test.skipIf(!isOnHost("cc"))(
    "that hangs holds up no change of mode and no stop, and its process is gone with the daemon (needs cc)",
    { timeout: TIMEOUT_MS },
    async () => {
      const directory = mkdtempSync(join(tmpdir(), "boundary-shim-"));
      cleanUps.push(() => rmSync(directory, { recursive: true, force: true }));
      const shim = buildPkcs11Shim(directory, MODULE);
      const { start, give } = await begin({ module: shim.path });
      const daemon = await start();
      expect((await give(PIN, "vault", "unlock", "site", "--create", "--kek", "pkcs11")).code).toBe(0);
      const [pid = 0] = tokenProcessesOf(daemon.pid);
      expect(pid).toBeGreaterThan(1);
      shim.set("logout_ms", 600_000);
      shim.set("delay_ms", 600_000);
      const putting = give("a secret", "secret", "put", "x", "--workspace", "site");
      await new Promise((done) => setTimeout(done, 500));
      const before = performance.now();
      expect((await give("", "mode", "set", "LOCKDOWN", "--reason", "test")).code).toBe(0);
      expect(performance.now() - before).toBeLessThan(5_000);
      expect((await give("", "vault", "status")).reply).toMatchObject({ workspaces: [{ state: "locked" }] });
      expect((await putting).stderr).toContain("vault-locked");
      const { code, ms } = await daemon.stop();
      expect(code).toBe(0);
      expect(ms).toBeLessThan(5_000);
      expect(existsSync(`/proc/${pid}/exe`)).toBe(false);
    },
  );

  test("that is not configured says so", { timeout: TIMEOUT_MS }, async () => {
    const { start, give } = await begin(null);
    await start();
    const refused = await give("", "vault", "unlock", "site", "--create", "--kek", "pkcs11");
    expect([refused.code === 0, refused.stderr]).toEqual([
      false,
      expect.stringContaining("vault.pkcs11 is not configured"),
    ]);
  });
});

/** Of a daemon, those with a token's module in them. */
function tokenProcessesOf(pid: number): readonly number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8")
    .split(" ")
    .filter(Boolean)
    .map(Number)
    .filter((child) => readFileSync(`/proc/${child}/cmdline`, "utf8").includes("pkcs11-child"));
}
