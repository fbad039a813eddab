import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, test } from "vitest";
import { boundaryctl } from "../support/boundaryctl.ts";
import { createHome, type DaemonHome, type DaemonProcess, startDaemon } from "../support/daemon-process.ts";

/** Tokens and leases from the command line, with the real daemon as its own process. */
const MAIN = fileURLToPath(new URL("../../cli/main.ts", import.meta.url));
const homes: DaemonHome[] = [];
const daemons: DaemonProcess[] = [];

afterEach(async () => {
  await Promise.all(daemons.splice(0).map((daemon) => daemon.kill()));
  for (const home of homes.splice(0)) home.remove();
});

async function started() {
  const at = createHome({
    initialMode: "RESTRICTED",
    ceremony: { coolDownMs: 0, requireTerminal: false },
    leases: [
      { name: "deploy", maxMs: 60_000 },
      { name: "look", needs: "policy" },
    ],
  });
  homes.push(at);
  const daemon = await startDaemon(at);
  daemons.push(daemon);
  const tokens = join(at.path, "tokens");
  mkdirSync(tokens, { mode: 0o700 });
  const ctl = (args: readonly string[], env: Readonly<Record<string, string>> = {}) =>
    boundaryctl([...args, "--runtime-dir", at.runtimeDir], env);
  return { at, daemon, ctl, file: (name: string) => join(tokens, name) };
}

describe("boundaryctl token", () => {
  test("bootstrap, mint, narrow, show, list, revoke; and a restart changes nothing", async () => {
    const { at, daemon, ctl, file } = await started();
    const [admin, agent, once] = [file("admin"), file("agent"), file("once")];
    const first = await ctl(["token", "bootstrap", "--out", admin, "--label", "first"]);
    expect(first).toMatchObject({ code: 0, stderr: "" });
    expect(statSync(admin).mode & 0o777).toBe(0o600);
    const text = readFileSync(admin, "utf8").trim();
    expect(text).toMatch(/^bd_[A-Za-z0-9_-]{43}$/);
    expect(first.stdout).not.toContain(text);

    const again = await ctl(["token", "bootstrap", "--out", file("second"), "--json"]);
    expect([again.code, JSON.parse(again.stdout)]).toMatchObject([
      1,
      { problem: { code: "token-bootstrapped" } },
    ]);
    expect(existsSync(file("second"))).toBe(false);

    const minted = await ctl([
      "token",
      "mint",
      "Agent::build",
      "--actions",
      "recall,tool.run,token.narrow",
      "--resources",
      "memory::note-*",
      "--for",
      "30d",
      "--subjects",
      "Agent::build-*",
      "--token-file",
      admin,
      "--out",
      agent,
    ]);
    expect(minted).toMatchObject({ code: 0, stderr: "" });
    expect(minted.stdout).toContain(
      "actions    recall, tool.run, token.narrow\nresources  memory::note-*\nasks for   Agent::build-*",
    );
    const child = await ctl(["token", "narrow", "--uses", "2", "--out", once, "--json"], {
      BOUNDARY_TOKEN_FILE: agent,
    });
    const { token } = JSON.parse(child.stdout) as { token: { id: string; uses: number; parent: string } };
    expect(token).toMatchObject({ uses: 2, parent: expect.stringMatching(/^[0-9a-f]{16}$/) });
    const wider = await ctl([
      "token",
      "narrow",
      "--role",
      "admin",
      "--token-file",
      agent,
      "--out",
      file("x"),
    ]);
    expect([wider.code, wider.stderr]).toEqual([1, expect.stringContaining("role: at most none")]);

    // what a token may not, root may not with it
    const refused = await ctl(["status", "--token-file", agent]);
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining("role-required")]);

    const list = async () => {
      const ran = await ctl(["token", "list", "--json"]);
      return (JSON.parse(ran.stdout) as { tokens: { id: string; state: string; uses: number | null }[] })
        .tokens;
    };
    const before = await list();
    expect(before.map(({ state }) => state)).toEqual(["live", "live", "live"]);
    expect((await daemon.stop()).code).toBe(0);
    daemons.push(await startDaemon(at));
    expect(await list()).toEqual(before);

    const shown = await ctl(["token", "show", "--token-file", once]);
    expect(shown.stdout).toContain("uses       1 left");
    const ended = await ctl(["token", "revoke", token.parent, "--reason", "lost"]);
    expect(ended.stdout).toContain("2 tokens ended");
    const dead = await ctl(["token", "show", "--token-file", once]);
    expect([dead.code, dead.stderr]).toEqual([1, expect.stringContaining("token-revoked")]);

    // nothing of it is anywhere but in the files that hold it
    const secrets = [admin, agent, once].map((path) => readFileSync(path, "utf8").trim());
    const kept = spawnSync(
      "grep",
      ["-rlaF", ...secrets.flatMap((each) => ["-e", each]), at.logDir, at.stateDir],
      {
        encoding: "utf8",
      },
    );
    expect([kept.status, kept.stdout]).toEqual([1, ""]);
    expect(
      daemons.flatMap(({ lines }) => lines).some((line) => secrets.some((each) => line.includes(each))),
    ).toBe(false);
    const verified = await boundaryctl(["verify-log", at.logDir, "--state-dir", at.stateDir]);
    expect(verified.code).toBe(0);
    const replayed = await boundaryctl(["log", "replay", at.logDir, "--state-dir", at.stateDir, "--json"]);
    const { state } = JSON.parse(replayed.stdout) as { state: { tokens: { id: string }[] } };
    expect(state.tokens.map(({ id }) => id)).toEqual(before.map(({ id }) => id));
  }, 60_000);

  test("takes no token from a file that others may read, or that holds none, and none but on a terminal or into a new file", async () => {
    const { ctl, file } = await started();
    const bad: readonly (readonly [text: string, mode: number, why: string])[] = [
      [`bd_${"A".repeat(43)}\n`, 0o644, "chmod 600"],
      ["hello", 0o600, "holds no token"],
      ["x".repeat(5_000), 0o600, "longer than a token"],
      ["", 0o600, "holds no token"],
    ];
    for (const [text, mode, why] of bad) {
      const path = file(`bad-${mode}-${text.length}`);
      writeFileSync(path, text);
      chmodSync(path, mode);
      const ran = await ctl(["token", "show", "--token-file", path]);
      expect([ran.code, ran.stderr]).toEqual([2, expect.stringContaining(why)]);
      if (text !== "") expect(ran.stderr).not.toContain(text.trim());
    }
    const nowhere = await ctl(["token", "show", "--token-file", file("not-there")]);
    expect(nowhere.code).toBe(2);
    const unseen = await ctl(["token", "bootstrap"]);
    expect([unseen.code, unseen.stderr]).toEqual([2, expect.stringContaining("--out FILE")]);
    writeFileSync(file("taken"), "mine", { mode: 0o600 });
    const taken = await ctl(["token", "bootstrap", "--out", file("taken")]);
    expect([taken.code, readFileSync(file("taken"), "utf8")]).toEqual([2, "mine"]);
    // and none of these has used the first one up
    expect((await ctl(["token", "bootstrap", "--out", file("admin")])).code).toBe(0);
    for (const words of [
      ["token", "mint", "nobody"],
      ["token", "mint", "Agent::a", "--role", "king"],
      ["token", "mint", "Agent::a", "--max-mode", "cosy"],
      ["token", "mint", "Agent::a", "--uses", "few"],
      ["token", "mint", "Agent::a", "--for", "4000d"],
    ]) {
      const ran = await ctl([...words, "--token-file", file("admin"), "--out", file("new")]);
      expect([ran.code, existsSync(file("new"))], words.join(" ")).toEqual([
        words[2] === "nobody" ? 1 : 2,
        false,
      ]);
    }
  }, 60_000);

  test("a token comes from stdin, too", async () => {
    const { at, ctl, file } = await started();
    await ctl(["token", "bootstrap", "--out", file("admin")]);
    const ran = spawnSync(
      process.execPath,
      [MAIN, "token", "show", "--token-file", "-", "--runtime-dir", at.runtimeDir],
      { input: readFileSync(file("admin")), encoding: "utf8" },
    );
    expect([ran.status, ran.stderr]).toEqual([0, ""]);
    expect(ran.stdout).toContain("role       admin");
  }, 30_000);
});

describe("boundaryctl lease", () => {
  test("request, list, deny, revoke; who asked does not approve", async () => {
    const { ctl } = await started();
    const asked = await ctl([
      "lease",
      "request",
      "deploy",
      "--reason",
      "the release",
      "--for",
      "30s",
      "--json",
    ]);
    const { lease } = JSON.parse(asked.stdout) as { lease: { id: string } };
    expect(asked).toMatchObject({ code: 0, stderr: "" });
    const own = await ctl(["lease", "approve", lease.id]);
    expect([own.code, own.stderr]).toEqual([1, expect.stringContaining("lease-own")]);
    const given = await ctl(["lease", "request", "look", "--reason", "x"]);
    expect(given.stdout).toContain("state      live, until ");
    const list = await ctl(["lease", "list"]);
    expect(list.stdout).toMatch(/pending +deploy +uid [0-9]+ +RESTRICTED +- +- +the release/);
    expect(list.stdout).toContain("template   look: up to RESTRICTED, 900 s; given at once");
    expect((await ctl(["lease", "deny", lease.id, "--reason", "no"])).stdout).toContain("state      denied");
    const { leases } = JSON.parse((await ctl(["lease", "list", "--json"])).stdout) as {
      leases: { id: string; state: string }[];
    };
    const live = leases.find(({ state }) => state === "live")?.id ?? "";
    expect((await ctl(["lease", "revoke", live])).stdout).toContain("state      revoked");
    expect((await ctl(["lease", "request", "deploy"])).code).toBe(2);
  }, 60_000);
});
