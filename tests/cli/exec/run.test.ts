import { realpathSync } from "node:fs";
import { afterEach, describe, expect, test } from "vitest";
import { boundaryctl, type Ran, startBoundaryctl } from "../../support/boundaryctl.ts";
import { type Behaviour, type FakeDaemon, fakeDaemon } from "../../support/fake-daemon.ts";

const ID = "0123456789abcdef0123456789abcdef";
const REPLY = {
  decision: true,
  code: "allowed",
  id: ID,
  why: "",
  verdict: null,
  reason: [],
  mode: "OPEN",
  assurance: "enforced",
  correlationId: "7",
  wouldAllow: "",
  askPerson: false,
  approval: "",
  retryAfterMs: 0,
};
const END = {
  exitCode: 0,
  signal: null,
  timedOut: false,
  cancelled: false,
  why: "",
  truncated: { stdout: 0, stderr: 0 },
  durationMs: 5,
  redacted: 0,
  codes: [],
  correlationId: "8",
};
const piece = (stream: string, text: string) => ({ stream, data: Buffer.from(text).toString("base64") });
const ended = (over: object = {}, output: readonly object[] = []): Behaviour => ({
  data: { id: ID, state: "ended", output, next: output.length, end: { ...END, ...over } },
});

const fakes: FakeDaemon[] = [];
afterEach(async () => {
  for (const fake of fakes.splice(0)) await fake.stop();
});

async function ran(
  behaviours: Parameters<typeof fakeDaemon>[0],
  args: readonly string[],
  stdin?: string,
): Promise<Ran> {
  const fake = await fakeDaemon(behaviours);
  fakes.push(fake);
  const [word = "", sub = "", ...rest] = args;
  return boundaryctl([word, sub, "--runtime-dir", fake.runtimeDir, ...rest], {}, stdin);
}

const run = (wait: Behaviour, args: readonly string[] = ["--", "tool", "run"], stdin?: string) =>
  ran({ "exec.run": { data: REPLY }, "exec.wait": wait }, ["exec", "run", ...args], stdin);

describe("exec run", () => {
  test("passes output on to where it belongs, asks for what is next, and ends with the command's code", async () => {
    let asked = 0;
    const said = await ran(
      {
        "exec.run": { data: REPLY },
        "exec.wait": () => {
          asked += 1;
          if (asked === 1)
            return {
              data: {
                id: ID,
                state: "running",
                output: [piece("stdout", "o\u001b[1mne\n")],
                next: 1,
                end: null,
              },
            };
          return ended({ exitCode: 3 }, [piece("stderr", "oops\n"), piece("stdout", "two\n")]);
        },
      },
      [
        "exec",
        "run",
        "--profile",
        "developer",
        "--env",
        "GREETING=a=b",
        "CI=1",
        "--timeout",
        "2s",
        "--",
        "tool",
        "--json",
        "--",
        "x",
      ],
    );
    expect(said).toEqual({ code: 3, stdout: "o\u001b[1mne\ntwo\n", stderr: "oops\n" });
    expect(fakes[0]?.requests[0]).toMatchObject({
      verb: "exec.run",
      params: {
        argv: ["tool", "--json", "--", "x"],
        profile: "developer",
        cwd: realpathSync("."),
        environment: { GREETING: "a=b", CI: "1" },
        timeoutMs: 2_000,
        network: false,
      },
    });
    expect(fakes[0]?.requests.slice(1).map(({ params }) => params)).toMatchObject([
      { id: ID, after: 0 },
      { id: ID, after: 1 },
    ]);
  });

  test.each<readonly [string, object, number, string]>([
    [
      "a time that is over",
      { exitCode: null, signal: "SIGKILL", timedOut: true, codes: ["exec-timeout"] },
      124,
      "its time was over",
    ],
    [
      "a signal",
      { exitCode: null, signal: "SIGTERM", cancelled: true, why: "mode LOCKDOWN", codes: ["cancelled"] },
      143,
      "mode LOCKDOWN",
    ],
    [
      "a worker that is gone",
      { exitCode: null, why: "the worker is gone", codes: ["exec-unavailable"] },
      125,
      "the worker is gone",
    ],
    [
      "output that was cut",
      { exitCode: 0, truncated: { stdout: 5, stderr: 0 }, codes: ["exec-truncated"] },
      0,
      "5 bytes",
    ],
    ["secrets that were taken out", { exitCode: 0, redacted: 2 }, 0, "2 secrets"],
  ])("tells of %s", async (_, end, code, text) => {
    const said = await run(ended(end));
    expect(said.code).toBe(code);
    expect(said.stderr).toContain(text);
  });

  test.each<readonly [string, object, number]>([
    ["a denial", { code: "exec-denied", why: "tool/burn: no rule" }, 126],
    ["a secret", { code: "exec-secret", why: "what looks like a secret: token in stdin, line 2" }, 126],
    ["a person's approval", { code: "approval-required", approval: "abc123", askPerson: true }, 126],
    ["no worker", { code: "exec-unavailable", why: "there is no worker" }, 125],
  ])("%s has a code of its own, and runs nothing", async (_, over, code) => {
    const data = { ...REPLY, decision: false, id: "", ...over };
    const said = await ran({ "exec.run": { data } }, ["exec", "run", "--", "tool"]);
    expect([said.code, said.stdout]).toEqual([code, ""]);
    expect(said.stderr).toContain((over as { code: string }).code);
    if ("approval" in over) expect(said.stderr).toContain("approvals approve abc123");
  });

  test("125 where nobody could be asked, or the connection broke", async () => {
    expect((await boundaryctl(["exec", "run", "--runtime-dir", "/nonexistent", "--", "tool"])).code).toBe(
      125,
    );
    expect((await ran({ "exec.run": "close" }, ["exec", "run", "--", "tool"])).code).toBe(125);
    expect(
      (await ran({ "exec.run": { data: REPLY }, "exec.wait": "close" }, ["exec", "run", "--", "tool"])).code,
    ).toBe(125);
  });

  test("--json is one document, with what it put out", async () => {
    const said = await run(ended({ exitCode: 4 }, [piece("stdout", "out"), piece("stderr", "err")]), [
      "--json",
      "--",
      "tool",
    ]);
    expect(said.code).toBe(4);
    expect(JSON.parse(said.stdout)).toMatchObject({
      id: ID,
      stdout: "out",
      stderr: "err",
      end: { exitCode: 4 },
    });
  });

  test("stdin is passed on where that is said, and the secret is named, never given", async () => {
    await run(ended(), ["--stdin", "--", "tool"], "given");
    expect(fakes[0]?.requests[0]?.params).toMatchObject({ stdin: Buffer.from("given").toString("base64") });
    await run(ended(), ["--secret", "build/deploy", "--", "tool"], "not taken");
    expect(fakes[1]?.requests[0]?.params).toMatchObject({ secret: { workspace: "build", name: "deploy" } });
    expect(fakes[1]?.requests[0]?.params).not.toHaveProperty("stdin");
  });

  test.each([
    ["no command", []],
    ["a command before --", ["tool"]],
    ["both inputs", ["--stdin", "--secret", "a/b", "--", "tool"]],
    ["a variable without a value", ["--env", "X", "--", "tool"]],
    ["a name of a secret that is none", ["--secret", "a/b/c", "--", "tool"]],
    ["bytes that are no number", ["--output-bytes", "many", "--", "tool"]],
    ["bytes that are below none", ["--output-bytes", "-5", "--", "tool"]],
    ["a command that begins before --", ["tool", "--", "x"]],
  ])("2 for %s", async (_, args) => {
    expect((await boundaryctl(["exec", "run", ...args], {}, "")).code).toBe(2);
  });

  test("what is behind -- is the command's, letter for letter, whatever it looks like", async () => {
    const argv = [
      "tool",
      "007",
      "0x10",
      "1e3",
      "",
      " ",
      "--json",
      "--help",
      "-h",
      "--version",
      "--",
      "--env=A=1",
    ];
    await run(ended(), ["--", ...argv]);
    expect(fakes[0]?.requests[0]?.params).toMatchObject({ argv, environment: {} });
  });

  test("Ctrl-C has the command ended, and its end is waited for", async () => {
    let end: (() => void) | null = null;
    const fake = await fakeDaemon({
      "exec.run": { data: REPLY },
      "exec.wait": () =>
        new Promise<Behaviour>((resolve) => {
          end = () =>
            resolve(
              ended({
                exitCode: null,
                signal: "SIGTERM",
                cancelled: true,
                why: "ended by ana",
                codes: ["cancelled"],
              }),
            );
        }),
      "exec.end": () => {
        end?.();
        return { data: { id: ID, state: "running" } };
      },
    });
    fakes.push(fake);
    const { child, done } = startBoundaryctl(["exec", "run", "--runtime-dir", fake.runtimeDir, "--", "tool"]);
    for (let turn = 0; turn < 300 && end === null; turn++)
      await new Promise((resolve) => setTimeout(resolve, 10));
    child.kill("SIGINT");
    expect((await done).code).toBe(143);
    expect(fake.requests.map(({ verb }) => verb)).toEqual(["exec.run", "exec.wait", "exec.end"]);
  });
});

test("a command whose output nobody reads any more is ended", async () => {
  let asked = 0;
  let isEnded = false;
  const over = {
    exitCode: null,
    signal: "SIGTERM",
    cancelled: true,
    why: "ended by ana",
    codes: ["cancelled"],
  };
  const fake = await fakeDaemon({
    "exec.run": { data: REPLY },
    "exec.wait": () =>
      new Promise<Behaviour>((resolve) => {
        asked += 1;
        const more = {
          id: ID,
          state: "running",
          output: [piece("stdout", "more\n")],
          next: asked,
          end: null,
        };
        setTimeout(() => resolve(isEnded ? ended(over) : { data: more }), 50);
      }),
    "exec.end": () => {
      isEnded = true;
      return { data: { id: ID, state: "running" } };
    },
  });
  fakes.push(fake);
  const { child, done } = startBoundaryctl(["exec", "run", "--runtime-dir", fake.runtimeDir, "--", "tool"]);
  child.stdout?.once("data", () => child.stdout?.destroy());
  expect((await done).code).toBe(143);
  expect(fake.requests.filter(({ verb }) => verb === "exec.end")).toHaveLength(1);
});

describe("secret inject", () => {
  test("is a guarded command with that secret on its stdin", async () => {
    const said = await ran(
      { "exec.run": { data: REPLY }, "exec.wait": ended({ exitCode: 0 }, [piece("stdout", "done\n")]) },
      ["secret", "inject", "build/deploy", "--profile", "developer", "--", "deploy", "now"],
    );
    expect(said).toEqual({ code: 0, stdout: "done\n", stderr: "" });
    expect(fakes[0]?.requests[0]?.params).toMatchObject({
      argv: ["deploy", "now"],
      profile: "developer",
      secret: { workspace: "build", name: "deploy" },
    });
  });
});
