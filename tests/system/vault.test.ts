import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { boundaryctl, startBoundaryctl } from "../support/boundaryctl.ts";
import { createHome, startDaemon } from "../support/daemon-process.ts";
import { ofProcess, places, sentinel, where } from "../support/sentinel.ts";

/** The real daemon and the real tool, with secrets planted: where may they be found? */
const TIMEOUT_MS = 120_000; // some twenty runs of the tool, on a host that may be busy
const cleanUps: (() => unknown)[] = [];

afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

async function begin(env: Readonly<Record<string, string>> = {}) {
  const home = createHome({ initialMode: "RESTRICTED" });
  cleanUps.push(home.remove);
  const daemon = await startDaemon(home, { env: { BOUNDARY_LOG_LEVEL: "debug", ...env } });
  cleanUps.push(() => daemon.kill());
  const at = ["--runtime-dir", home.runtimeDir, "--json"];
  const said: string[] = [];
  const tell = async (ran: ReturnType<typeof boundaryctl>) => {
    const { code, stdout, stderr } = await ran;
    said.push(stdout, stderr);
    return { code, reply: stdout === "" ? null : (JSON.parse(stdout) as Record<string, unknown>), stderr };
  };
  return {
    home,
    daemon,
    said,
    ctl: (...args: readonly string[]) => tell(boundaryctl([...args, ...at])),
    give: (input: string, ...args: readonly string[]) => tell(boundaryctl([...args, ...at], {}, input)),
  };
}

test("planted secrets are in no file, journal, process list, or reply, and a dropped configuration is gone", {
  timeout: TIMEOUT_MS,
}, async () => {
  const { home, daemon, said, ctl, give } = await begin();
  const [phrase, first, second, other] = [sentinel(), sentinel(), sentinel(), sentinel()];
  const psk = randomBytes(32);
  const forms = [phrase, first, second, other]
    .flatMap((each) => each.forms)
    .concat(psk.toString("hex"), psk.toString("base64"));
  expect((await give(phrase.text, "vault", "unlock", "site", "--create")).reply).toMatchObject({
    state: "unlocked",
  });
  const put = await give(first.text, "secret", "put", "deploy", "--workspace", "site");
  expect(put.reply).toMatchObject({ version: 1, state: "sealed" });
  const rotated = await give(second.text, "secret", "rotate", "deploy", "--workspace", "site");
  expect(rotated.reply).toMatchObject({ version: 2 });
  const added = await give(
    psk.toString("hex"),
    "peer",
    "add",
    "ct",
    "--workspace",
    "site",
    "--local-id",
    "a",
    "--remote-id",
    "b",
  );
  expect(added.reply).toMatchObject({ kind: "psk", name: "ct" });
  // asked wrongly: what is refused is not repeated
  for (const args of [
    ["secret", "put", "deploy", "--workspace", "site"],
    ["secret", "put", "new", "--workspace", "nowhere"],
    ["peer", "add", "new", "--workspace", "site", "--local-id", "a", "--remote-id", "b"],
    ["vault", "unlock", "site"],
  ])
    expect((await give(other.text, ...args)).code).not.toBe(0);
  const blocked = await give(`see ${second.text}`, "check", "message");
  expect([blocked.code, blocked.reply?.["found"]]).toEqual([1, ["secret site/deploy"]]);
  expect((await give("nothing", "check", "message")).reply).toMatchObject({
    decision: true,
    verdict: "clean",
  });
  for (const args of [
    ["secret", "list"],
    ["peer", "list"],
    ["vault", "status"],
    ["events", "--limit", "200"],
    ["status"],
  ])
    expect((await ctl(...args)).code).toBe(0);
  const rewrapped = await give(`${phrase.text}2`, "vault", "rewrap", "site");
  expect(rewrapped.code).toBe(0);
  // while the tool still waits for the value
  const waiting = startBoundaryctl(["secret", "put", "late", "--runtime-dir", home.runtimeDir], {}, null);
  waiting.child.stdin?.write(other.text);
  cleanUps.push(() => waiting.child.kill("SIGKILL"));
  await new Promise((done) => setTimeout(done, 500));
  expect(where(places(home, daemon, said), forms)).toEqual([]);
  waiting.child.stdin?.end();
  expect((await waiting.done).code).not.toBe(0); // there is no workspace "default"

  const { reply: exported } = await ctl("peer", "export", "--workspace", "site");
  const path = String(exported?.["path"]);
  expect([statSync(path).mode & 0o777, statSync(path).uid]).toEqual([0o600, process.geteuid?.()]);
  expect(where(places(home, daemon, said), forms)).toEqual([path]);
  expect((await ctl("mode", "set", "coldroom", "--reason", "test")).code).toBe(0);
  expect(existsSync(path)).toBe(false);
  expect((await ctl("vault", "status")).reply).toMatchObject({
    workspaces: [{ workspace: "site", state: "locked" }],
  });
  expect((await give(`${phrase.text}2`, "vault", "unlock", "site")).stderr).toContain("vault-ceiling");
  expect((await ctl("secret", "revoke", "deploy", "--workspace", "site")).code).toBe(0);
  await daemon.stop();
  const all = places(home, daemon, said);
  expect(where(all, forms)).toEqual([]);
  expect(where(all, [String(put.reply?.["fingerprint"])]).length).toBeGreaterThan(0); // the search does find things
  const log = readFileSync(
    join(home.logDir, readdirSync(home.logDir).find((name) => name.endsWith(".jsonl")) ?? ""),
    "utf8",
  );
  const kinds = [...log.matchAll(/"kind":"((?:secret|vault)\.[a-z]+)"/g)].map((hit) => hit[1]);
  expect(new Set(kinds)).toEqual(
    new Set([
      "vault.unlocked",
      "vault.refused",
      "secret.put",
      "secret.rotated",
      "vault.rewrapped",
      "secret.exported",
      "vault.locked",
      "secret.revoked",
    ]),
  );
});

test("a restart finds what was put, locked; the passphrase is asked again", {
  timeout: TIMEOUT_MS,
}, async () => {
  const { home, daemon, give } = await begin();
  const [phrase, secret] = [sentinel(), sentinel()];
  await give(phrase.text, "vault", "unlock", "--create");
  await give(secret.text, "secret", "put", "deploy");
  await daemon.stop();
  const again = await startDaemon(home);
  cleanUps.push(() => again.kill());
  const at = ["--runtime-dir", home.runtimeDir, "--json"];
  const sealed = await boundaryctl(["check", "message", ...at], {}, secret.text);
  expect([sealed.code, JSON.parse(sealed.stdout)]).toMatchObject([
    1,
    { verdict: "unscanned", why: "locked or damaged: default" },
  ]);
  expect((await boundaryctl(["vault", "unlock", ...at], {}, "wrong")).stderr).toContain(
    "vault-passphrase-wrong",
  );
  expect((await boundaryctl(["vault", "unlock", ...at], {}, `${phrase.text}\n`)).code).toBe(0);
  const blocked = await boundaryctl(["check", "message", ...at], {}, secret.text);
  expect(JSON.parse(blocked.stdout)).toMatchObject({ verdict: "blocked", found: ["secret default/deploy"] });
});

describe("a value", () => {
  test("is never an argument", async () => {
    const { ctl } = await begin();
    for (const args of [
      ["secret", "put", "name", "value"],
      ["secret", "put", "name", "--value", "x"],
      ["vault", "unlock", "default", "--passphrase", "x"],
      ["check", "message", "the text"],
    ])
      expect((await ctl(...args)).code).toBe(2);
  });

  test("does not share stdin with a token", async () => {
    const { give } = await begin();
    for (const args of [
      ["secret", "put", "name"],
      ["vault", "unlock"],
      ["check", "message"],
    ]) {
      const refused = await give("bd_x", ...args, "--token-file", "-");
      expect([refused.code, refused.stderr]).toEqual([
        2,
        expect.stringContaining("give the token in a file"),
      ]);
    }
  });

  test("that is nothing, or too long, is refused before it is sent", async () => {
    const { give } = await begin();
    expect((await give("", "secret", "put", "name")).code).toBe(2);
    expect((await give("x".repeat(32_769), "secret", "put", "name")).code).toBe(2);
    expect((await give("x".repeat(49_153), "check", "message")).code).toBe(2);
  });
});

/** Where a dump would be written to a file, and not be given to a program. */
const dumpsToFile = readFileSync("/proc/sys/kernel/core_pattern", "utf8").startsWith("core");

describe("a crash", () => {
  test.skipIf(!dumpsToFile || process.getuid?.() !== 0)(
    "leaves no core dump, where another process does (needs a core_pattern that is a file, and root)",
    async () => {
      const home = createHome({ initialMode: "RESTRICTED" });
      cleanUps.push(home.remove);
      const [ours, control] = [join(home.path, "ours"), join(home.path, "control")];
      for (const directory of [ours, control]) mkdirSync(directory);
      const dumping = (directory: string) => [
        "sh",
        "-c",
        'ulimit -c unlimited && cd "$0" && exec "$@"',
        directory,
      ];
      const daemon = await startDaemon(home, { wrapper: dumping(ours) });
      cleanUps.push(() => daemon.kill());
      expect(readFileSync(`/proc/${daemon.pid}/limits`, "utf8")).toMatch(/^Max core file size +0 +0 /m);
      daemon.signal("SIGSEGV");
      await daemon.exited;
      const [, ...args] = [...dumping(control), "sleep", "60"];
      const other = spawn("sh", args, { stdio: "ignore" });
      cleanUps.push(() => other.kill("SIGKILL"));
      await asleep(other);
      other.kill("SIGSEGV");
      await new Promise((done) => other.once("exit", done));
      expect([readdirSync(ours), readdirSync(control).length]).toEqual([[], 1]);
    },
  );
});

/** Once the shell has become the program. */
async function asleep(child: ChildProcess): Promise<void> {
  const deadlineMs = performance.now() + 10_000;
  while (!ofProcess(String(child.pid), "cmdline").startsWith("sleep")) {
    if (performance.now() > deadlineMs) throw new Error("it did not start");
    await new Promise((done) => setTimeout(done, 20));
  }
}
