import { chmodSync, chownSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import type { HookOutput } from "../../../cli/hook/decision.ts";
import { boundaryctl, type Ran, startBoundaryctl } from "../../support/boundaryctl.ts";
import { type Behaviour, type FakeDaemon, fakeDaemon } from "../../support/fake-daemon.ts";

const OURS = "--as-user";
const CALL = JSON.stringify({
  session_id: "s",
  cwd: "/",
  hook_event_name: "PreToolUse",
  tool_name: "Read",
  tool_input: { file_path: "/etc/hosts" },
});
const EVALUATION = { reason: ["r"], mode: "OPEN", assurance: "enforced", correlationId: "1" };
const ALLOW: Behaviour = { data: { ...EVALUATION, decision: true, code: "allowed" } };
const ASK: Behaviour = {
  data: { ...EVALUATION, decision: false, code: "approval-required", askPerson: true },
};

const fakes: FakeDaemon[] = [];
const directories: string[] = [];
afterEach(async () => {
  for (const fake of fakes.splice(0)) await fake.stop();
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true });
});

/** As the user that runs it, unless `args` name a token, or "": neither. */
async function hook(
  check: Behaviour,
  args: readonly string[] = [],
  stdin: string | Buffer = CALL,
): Promise<Ran> {
  const fake = await fakeDaemon({ check });
  fakes.push(fake);
  const whose = args.some((one) => one === "--token-file" || one === "") ? [] : [OURS];
  const given = args.filter((one) => one !== "");
  return boundaryctl(["hook", "--runtime-dir", fake.runtimeDir, ...whose, ...given], {}, stdin);
}

function decisionOf(ran: Ran): string {
  expect(ran.code).toBe(0);
  const { hookSpecificOutput } = JSON.parse(ran.stdout) as HookOutput;
  expect(hookSpecificOutput.hookEventName).toBe("PreToolUse");
  return hookSpecificOutput.permissionDecision;
}

describe("boundaryctl hook", () => {
  test("allows what the daemon allows, having asked about just that", async () => {
    expect(decisionOf(await hook(ALLOW))).toBe("allow");
    expect(fakes[0]?.requests).toMatchObject([
      {
        verb: "check",
        params: { action: { name: "file.read" }, resource: { type: "file", id: "/etc/hosts" } },
      },
    ]);
  });

  test("has a line judged by the daemon first, and denies where that fails", async () => {
    const call = JSON.stringify({ ...JSON.parse(CALL), tool_name: "Bash", tool_input: { command: "ls" } });
    const judged = (over: object): Behaviour => ({
      data: {
        configured: true,
        verdict: "allow",
        rule: "ls/list",
        why: "w",
        profile: "p",
        mode: "OPEN",
        correlationId: "",
        ...over,
      },
    });
    const answers: readonly (readonly [Behaviour, string])[] = [
      [judged({}), "allow"],
      [judged({ verdict: "deny" }), "deny"],
      [judged({ configured: false, verdict: "deny" }), "allow"],
      ["close", "deny"],
      ["silent", "deny"],
      [{ data: { verdict: "allow" } }, "deny"],
    ];
    for (const [behaviour, expected] of answers) {
      const fake = await fakeDaemon({ check: ALLOW, "exec.check": behaviour });
      fakes.push(fake);
      const ran = await boundaryctl(
        ["hook", OURS, "--deadline", "1s", "--runtime-dir", fake.runtimeDir],
        {},
        call,
      );
      expect(decisionOf(ran)).toBe(expected);
      expect(fake.requests[0]).toMatchObject({ verb: "exec.check", params: { line: "ls", cwd: "/" } });
    }
  });

  test("asks where a person may be asked, and not with --no-prompt", async () => {
    expect(decisionOf(await hook(ASK))).toBe("ask");
    expect(decisionOf(await hook(ASK, ["--no-prompt"]))).toBe("deny");
  });

  test("--deny-only says nothing of an allow, and a denial all the same", async () => {
    expect(await hook(ALLOW, ["--deny-only"])).toMatchObject({ code: 0, stdout: "{}\n" });
    expect(decisionOf(await hook(ASK, ["--deny-only", "--no-prompt"]))).toBe("deny");
  });

  test.each<readonly [string, Behaviour]>([
    ["a broken connection", "close"],
    ["garbage", { raw: "\u0000\f" }],
    ["an answer that is none", { data: { decision: true } }],
    ["no answer in time", "silent"],
  ])("%s is deny", async (_what, check) => {
    expect(decisionOf(await hook(check, ["--deadline", "1s"]))).toBe("deny");
  });

  test("no daemon is deny", async () => {
    const ran = await boundaryctl(["hook", OURS, "--runtime-dir", "/nonexistent"], {}, CALL);
    expect(decisionOf(ran)).toBe("deny");
    expect(ran.stdout).toContain("daemon-unreachable");
  });

  test("a stdin that says nothing, or never ends, is deny", async () => {
    expect(decisionOf(await hook(ALLOW, [], ""))).toBe("deny");
    const fake = await fakeDaemon({ check: ALLOW });
    fakes.push(fake);
    const args = ["hook", OURS, "--deadline", "1s", "--runtime-dir", fake.runtimeDir];
    expect(decisionOf(await boundaryctl(args, {}, null))).toBe("deny");
    expect(fake.requests).toEqual([]);
  });

  test("more on stdin than is read is deny", async () => {
    expect(decisionOf(await hook(ALLOW, [], Buffer.alloc(9_000_000, 0x20)))).toBe("deny");
    expect(fakes[0]?.requests).toEqual([]);
  });

  test("a mistake in how it is called blocks", async () => {
    expect(await hook(ALLOW, ["--frobnicate"])).toMatchObject({ code: 2, stdout: "" });
    expect(decisionOf(await hook(ALLOW, ["--deadline", "soon"]))).toBe("deny");
  });

  test("a stdout that takes nothing blocks", async () => {
    const fake = await fakeDaemon({ check: ALLOW });
    fakes.push(fake);
    const { child, done } = startBoundaryctl(["hook", OURS, "--runtime-dir", fake.runtimeDir], {}, null);
    child.stdout?.destroy();
    child.stdin?.end(CALL);
    expect((await done).code).toBe(2);
  });

  test("without a token it is not asked, as the user it would be judged as; nor is stdin a token's place", async () => {
    const none = await hook(ALLOW, [""]);
    expect([decisionOf(none), none.stdout.includes("--as-user")]).toEqual(["deny", true]);
    expect(decisionOf(await hook(ALLOW, ["--token-file", "-"]))).toBe("deny");
    expect(fakes.flatMap(({ requests }) => requests)).toEqual([]);
  });

  test("shows the agent's token; a file that is none, or others may read, is deny", async () => {
    const directory = mkdtempSync(join(tmpdir(), "boundary-token-"));
    directories.push(directory);
    const token = `bd_${"a".repeat(43)}`;
    const write = (name: string, text: string, mode: number): string => {
      writeFileSync(join(directory, name), text, { mode });
      return join(directory, name);
    };
    const good = write("good", `${token}\n`, 0o600);
    expect(decisionOf(await hook(ALLOW, ["--token-file", good]))).toBe("allow");
    expect(fakes[0]?.requests).toMatchObject([{ token }]);
    const others = write("others", token, 0o600);
    if (process.getuid?.() === 0) chownSync(others, 12_345, 12_345);
    else chmodSync(others, 0o640);
    for (const bad of [
      others,
      write("open", token, 0o644),
      write("none", "bd_x", 0o600),
      join(directory, "gone"),
    ]) {
      const ran = await hook(ALLOW, ["--token-file", bad]);
      expect(decisionOf(ran)).toBe("deny");
      expect(ran.stdout + ran.stderr).not.toContain(token);
    }
    expect(fakes.slice(1).flatMap(({ requests }) => requests)).toEqual([]);
  });
});
