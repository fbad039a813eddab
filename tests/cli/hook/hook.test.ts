import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import type { HookOutput } from "../../../cli/hook/decision.ts";
import { boundaryctl, type Ran, startBoundaryctl } from "../../support/boundaryctl.ts";
import { type Behaviour, type FakeDaemon, fakeDaemon } from "../../support/fake-daemon.ts";

const CALL = JSON.stringify({
  session_id: "s",
  cwd: "/",
  hook_event_name: "PreToolUse",
  tool_name: "Read",
  tool_input: { file_path: "/etc/hosts" },
});
const EVALUATION = { reason: ["r"], mode: "OPEN", assurance: "enforced", correlationId: "1" };
const ALLOW: Behaviour = { data: { ...EVALUATION, decision: true, code: "allowed" } };
const ASK: Behaviour = { data: { ...EVALUATION, decision: false, code: "role-required", askPerson: true } };

const fakes: FakeDaemon[] = [];
const directories: string[] = [];
afterEach(async () => {
  for (const fake of fakes.splice(0)) await fake.stop();
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true });
});

async function hook(
  check: Behaviour,
  args: readonly string[] = [],
  stdin: string | Buffer = CALL,
): Promise<Ran> {
  const fake = await fakeDaemon({ check });
  fakes.push(fake);
  return boundaryctl(["hook", "--runtime-dir", fake.runtimeDir, ...args], {}, stdin);
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
    const ran = await boundaryctl(["hook", "--runtime-dir", "/nonexistent"], {}, CALL);
    expect(decisionOf(ran)).toBe("deny");
    expect(ran.stdout).toContain("daemon-unreachable");
  });

  test("a stdin that says nothing, or never ends, is deny", async () => {
    expect(decisionOf(await hook(ALLOW, [], ""))).toBe("deny");
    const fake = await fakeDaemon({ check: ALLOW });
    fakes.push(fake);
    const args = ["hook", "--deadline", "1s", "--runtime-dir", fake.runtimeDir];
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
    const { child, done } = startBoundaryctl(["hook", "--runtime-dir", fake.runtimeDir], {}, null);
    child.stdout?.destroy();
    child.stdin?.end(CALL);
    expect((await done).code).toBe(2);
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
    for (const bad of [write("open", token, 0o644), write("none", "bd_x", 0o600), join(directory, "gone")]) {
      const ran = await hook(ALLOW, ["--token-file", bad]);
      expect(decisionOf(ran)).toBe("deny");
      expect(ran.stdout + ran.stderr).not.toContain(token);
    }
    expect(fakes.slice(1).flatMap(({ requests }) => requests)).toEqual([]);
  });
});
