import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Asking, decide, type HookOutput, outputOf } from "../../../cli/hook/decision.ts";
import { MAX_INPUT_BYTES, readToolCall } from "../../../cli/hook/tool-call.ts";
import { denial } from "../../../client/answer.ts";
import type { Answer, Question } from "../../../client/client.ts";
import { NOT_CONFIGURED } from "../../../daemon/exec-replies.ts";
import type { ExecCheckReply } from "../../../daemon/protocol/exec.ts";

const ALLOW: Answer = {
  ...denial("internal", ""),
  decision: true,
  code: "allowed",
  reason: ["exec.shell"],
  mode: "RESTRICTED",
  assurance: "enforced",
  correlationId: "17",
};
const DENY: Answer = { ...ALLOW, decision: false, code: "role-required", wouldAllow: "it in OPEN" };
const CALL = {
  session_id: "s",
  transcript_path: "/t.jsonl",
  cwd: "/home/ann",
  permission_mode: "default",
  hook_event_name: "PreToolUse",
  tool_name: "Bash",
  tool_input: { command: "ls" },
  tool_use_id: "toolu_1",
};
const bytes = (value: unknown) => Buffer.from(typeof value === "string" ? value : JSON.stringify(value));
const PROMPT = { prompt: true };
/** No profile is configured for hooks. */
const unjudged = async () => NOT_CONFIGURED;
const asking = (
  check: (question: Question) => Promise<Answer>,
  judge: Asking["judge"] = unjudged,
): Asking => ({
  check,
  judge,
});
const SAYS = ({ hookSpecificOutput: { permissionDecision } }: HookOutput) => permissionDecision;
const WHY = ({ hookSpecificOutput: { permissionDecisionReason } }: HookOutput) => permissionDecisionReason;

describe("the output", () => {
  test("an allow is allow, with rule, mode and record", async () => {
    const asked: Question[] = [];
    const ask = async (question: Question) => {
      asked.push(question);
      return ALLOW;
    };
    const output = await decide(bytes(CALL), asking(ask), PROMPT);
    expect(output).toEqual({
      hookSpecificOutput: {
        hookEventName: "PreToolUse",
        permissionDecision: "allow",
        permissionDecisionReason: "boundary: allowed; by exec.shell; mode RESTRICTED, enforced; record 17",
      },
    });
    expect(asked).toEqual([
      {
        action: { name: "command.run" },
        resource: { type: "command", id: "bash", properties: { command: "ls", reach: "network" } },
      },
    ]);
  });

  test("a denial is deny, with its code and what would be allowed", () => {
    expect(SAYS(outputOf(DENY, PROMPT))).toBe("deny");
    expect(WHY(outputOf(DENY, PROMPT))).toContain("denied (role-required)");
    expect(WHY(outputOf(DENY, PROMPT))).toContain("would be allowed: it in OPEN");
  });

  test("what waits for an approval is ask, with how; deny where nobody is to be asked", () => {
    const answer: Answer = { ...DENY, code: "approval-required", askPerson: true, approval: "ap-7" };
    expect(SAYS(outputOf(answer, PROMPT))).toBe("ask");
    expect(WHY(outputOf(answer, PROMPT))).toContain("boundaryctl approvals show ap-7");
    expect(SAYS(outputOf(answer, { prompt: false }))).toBe("deny");
    expect(WHY(outputOf(answer, { prompt: false }))).toContain("boundaryctl approvals show ap-7");
  });

  test.each(["mode-ceiling", "role-required", "policy-denied", "approval-too-many"])(
    "%s is not asked away at a prompt, whoever could change it",
    (code) => {
      const output = outputOf({ ...DENY, code, askPerson: true }, PROMPT);
      expect([SAYS(output), WHY(output).includes("a person may decide otherwise")]).toEqual(["deny", true]);
    },
  );

  test("LOCKDOWN is not asked away at a prompt, and neither is a daemon that does not answer", () => {
    const waits: Answer = { ...DENY, code: "approval-required", askPerson: true };
    expect(SAYS(outputOf({ ...waits, mode: "LOCKDOWN" }, PROMPT))).toBe("deny");
    expect(SAYS(outputOf({ ...denial("daemon-unreachable", "x"), askPerson: true }, PROMPT))).toBe("deny");
  });

  test("when to come again is told", () => {
    expect(WHY(outputOf({ ...DENY, retryable: true, retryAfterMs: 1_500 }, PROMPT))).toContain("in 2 s");
    expect(WHY(outputOf({ ...DENY, retryable: true }, PROMPT))).toContain("try again later");
  });

  test("text of the daemon's is bounded, and steers no terminal", () => {
    const hostile = `\u001b]0;x\u0007\u202e\u2028\ud800${"y".repeat(9_000)}`;
    const why = WHY(
      outputOf(
        {
          ...DENY,
          wouldAllow: hostile,
          detail: hostile,
          reason: [hostile],
          approval: hostile,
          askPerson: true,
        },
        PROMPT,
      ),
    );
    expect(why).not.toMatch(/[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/u);
    expect(why.length).toBeLessThanOrEqual(2_000);
  });
});

describe("what is not a tool call is denied, and nobody is asked", () => {
  const never = async (): Promise<Answer> => {
    throw new Error("asked");
  };
  test.each<readonly [string, Buffer]>([
    ["nothing", Buffer.alloc(0)],
    ["no JSON", bytes("allow")],
    ["no object", bytes([CALL])],
    ["null", bytes("null")],
    ["two documents", bytes(`${JSON.stringify(CALL)}${JSON.stringify(CALL)}`)],
    ["a key twice", bytes(`{"tool_name":"Read",${JSON.stringify(CALL).slice(1)}`)],
    ["no UTF-8", Buffer.concat([bytes(CALL).subarray(0, -1), Buffer.from([0xff, 0x7d])])],
    ["a byte order mark", Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), bytes(CALL)])],
    ["too deep", bytes(`{"a":${"[".repeat(100)}${"]".repeat(100)},${JSON.stringify(CALL).slice(1)}`)],
    ["another event", bytes({ ...CALL, hook_event_name: "PostToolUse" })],
    ["no event", bytes({ ...CALL, hook_event_name: undefined })],
    ["no tool", bytes({ ...CALL, tool_name: undefined })],
    ["a tool without a name", bytes({ ...CALL, tool_name: "" })],
    ["a tool with an endless name", bytes({ ...CALL, tool_name: "x".repeat(300) })],
    ["no input", bytes({ ...CALL, tool_input: undefined })],
    ["an input that is a list", bytes({ ...CALL, tool_input: [] })],
    ["a cwd that is no text", bytes({ ...CALL, cwd: 7 })],
    ["an endless input", Buffer.alloc(MAX_INPUT_BYTES + 1, 0x20)],
  ])("%s", async (_what, input) => {
    const output = await decide(input, asking(never), PROMPT);
    expect(SAYS(output)).toBe("deny");
    expect(WHY(output)).toMatch(/^boundary: denied; nothing was asked: ./);
  });

  test("a file's content that comes along does not matter", () => {
    const input = { file_path: "/x", content: "\u0000\u001b".repeat(100_000) };
    expect(readToolCall(bytes({ ...CALL, tool_name: "Write", tool_input: input }))).toMatchObject({
      ok: true,
    });
  });
});

describe("any stdin ends in a valid answer", () => {
  const soup = fc.oneof(
    fc.uint8Array({ maxLength: 300 }).map((list) => Buffer.from(list)),
    fc.string().map(bytes),
    fc.json().map(bytes),
    fc
      .record(
        {
          hook_event_name: fc.oneof(fc.constant("PreToolUse"), fc.anything()),
          tool_name: fc.oneof(fc.constantFrom("Bash", "Read", "mcp__a__b", "TodoWrite"), fc.anything()),
          tool_input: fc.oneof(
            fc.constant({ command: "ls", file_path: "/x" }),
            fc.dictionary(fc.string(), fc.anything()),
          ),
          cwd: fc.oneof(fc.constant("/"), fc.anything()),
        },
        { requiredKeys: [] },
      )
      .map((call) => Buffer.from(jsonOf(call))),
  );
  const answers = fc.oneof(
    fc.constant(ALLOW),
    fc.record({
      decision: fc.constant(false),
      code: fc.oneof(fc.string(), fc.constant("approval-required")),
      reason: fc.array(fc.string()),
      mode: fc.constantFrom(null, "OPEN" as const, "LOCKDOWN" as const),
      assurance: fc.constant("enforced" as const),
      correlationId: fc.string(),
      wouldAllow: fc.string(),
      askPerson: fc.boolean(),
      approval: fc.string(),
      retryable: fc.boolean(),
      retryAfterMs: fc.nat(),
      detail: fc.string(),
    }),
  );

  test("and is allow only when the daemon was asked and said so", async () => {
    await fc.assert(
      fc.asyncProperty(soup, answers, fc.boolean(), async (input, answer, prompt) => {
        let said: Answer | null = null;
        const output = await decide(
          input,
          asking(async () => {
            said = answer;
            return answer;
          }),
          { prompt },
        );
        const { hookEventName, permissionDecision, permissionDecisionReason } = output.hookSpecificOutput;
        expect(Object.keys(output)).toEqual(["hookSpecificOutput"]);
        expect(hookEventName).toBe("PreToolUse");
        expect(permissionDecisionReason).toMatch(/^boundary: ./);
        const allowed = said !== null && answer.decision;
        const waits = answer.code === "approval-required" && answer.askPerson && answer.mode === "OPEN";
        const asks = said !== null && !answer.decision && waits && prompt;
        expect(permissionDecision).toBe(allowed ? "allow" : asks ? "ask" : "deny");
      }),
      { numRuns: 3_000 },
    );
  });
});

describe("a shell's line, where a profile is configured", () => {
  const judged = (verdict: string): ExecCheckReply => ({
    ...NOT_CONFIGURED,
    configured: true,
    verdict: verdict as "allow",
    rule: "git/push",
    why: "a rule of the profile developer",
    profile: "developer",
    mode: "OPEN",
    correlationId: "41",
  });
  const both = (verdict: string, answer: Answer, rules = PROMPT) =>
    decide(
      bytes(CALL),
      asking(
        async () => answer,
        async () => judged(verdict),
      ),
      rules,
    );

  test("is refused by the profile whatever policy would say, and then policy is not asked", async () => {
    const output = await decide(
      bytes(CALL),
      asking(
        () => Promise.reject(new Error("not asked")),
        async () => judged("deny"),
      ),
      PROMPT,
    );
    expect(SAYS(output)).toBe("deny");
    expect(WHY(output)).toContain("denied (exec-denied); by git/push");
    expect(WHY(output)).toContain("record 41");
  });

  test("is allowed where both allow it; the profile's ask is never an allow", async () => {
    expect(SAYS(await both("allow", ALLOW))).toBe("allow");
    expect(SAYS(await both("allow", DENY))).toBe("deny");
    expect(SAYS(await both("ask", DENY))).toBe("deny");
    expect(SAYS(await both("ask", ALLOW))).toBe("ask");
    expect(SAYS(await both("ask", ALLOW, { prompt: false }))).toBe("deny");
    // what nobody knows is no yes
    expect(SAYS(await both("perhaps", ALLOW))).toBe("deny");
  });

  test("is judged in the directory that the agent is in; what is no line of a shell is not", async () => {
    const seen: object[] = [];
    const judge: Asking["judge"] = async (line) => {
      seen.push(line);
      return judged("allow");
    };
    await decide(
      bytes(CALL),
      asking(async () => ALLOW, judge),
      PROMPT,
    );
    await decide(
      bytes({ ...CALL, cwd: undefined }),
      asking(async () => ALLOW, judge),
      PROMPT,
    );
    const read = { ...CALL, tool_name: "Read", tool_input: { file_path: "/etc/hosts" } };
    await decide(
      bytes(read),
      asking(async () => ALLOW, judge),
      PROMPT,
    );
    expect(seen).toEqual([
      { line: "ls", cwd: "/home/ann" },
      { line: "ls", cwd: "/" },
    ]);
  });
});

/** JSON of anything at all; "{" where there is none. */
function jsonOf(value: unknown): string {
  try {
    return JSON.stringify(value) ?? "{";
  } catch {
    return "{";
  }
}
