import { spawn, spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, test } from "vitest";
import { problem } from "../../daemon/protocol/problem.ts";
import { type FakeDaemon, fakeDaemon } from "../support/fake-daemon.ts";

const MAIN = fileURLToPath(new URL("../../cli/main.ts", import.meta.url));
const noScript = spawnSync("script", ["--version"]).status !== 0;

let daemon: FakeDaemon;
let changes: string[];

beforeEach(async () => {
  changes = [];
  daemon = await fakeDaemon({
    "ceremony.begin": () => ({
      data: { id: "c1", code: "123-456", coolDownMs: 1_200, lifeMs: 60_000, people: 1, changes },
    }),
    "ceremony.confirm": (request) => {
      const { code } = request.params as { code: string };
      return code === "123-456"
        ? {
            data: {
              wanted: "RESTRICTED",
              applied: "RESTRICTED",
              assurance: "enforced",
              changed: true,
              seq: 3,
            },
          }
        : { problem: problem("ceremony-wrong-code", "wrong code, 2 tries left") };
    },
  });
});
afterEach(() => daemon.stop());

/** Runs `ceremony begin` on a terminal and types each answer when its question appears. */
function onTerminal(answers: readonly (readonly [question: string, answer: string])[]) {
  const line = `${process.execPath} ${MAIN} ceremony begin --reason x --runtime-dir ${daemon.runtimeDir}`;
  const child = spawn("script", ["-qec", line, "/dev/null"], { stdio: ["pipe", "pipe", "ignore"] });
  let screen = "";
  const left = [...answers];
  child.stdout.on("data", (text: Buffer) => {
    screen += text.toString();
    const next = left[0];
    if (next === undefined || !screen.includes(next[0])) return;
    left.shift();
    child.stdin.write(next[1]);
  });
  return new Promise<{ code: number | null; screen: string }>((resolve) => {
    child.on("close", (code) => resolve({ code, screen }));
  });
}

test.skipIf(noScript)(
  "on a terminal it counts down, asks for the code and confirms (needs script)",
  async () => {
    const { code, screen } = await onTerminal([["type the code", "123-456\r"]]);
    expect(code).toBe(0);
    expect(screen).toContain("cool-down: 2 s");
    expect(screen).toContain("RESTRICTED is in force");
    expect(daemon.requests.at(-1)).toMatchObject({ params: { code: "123-456", acceptChanges: false } });
  },
);

test.skipIf(noScript)("a wrong code is refused: 1 (needs script)", async () => {
  const { code, screen } = await onTerminal([["type the code", "9\r"]]);
  expect(code).toBe(1);
  expect(screen).toContain("ceremony-wrong-code");
});

test.skipIf(noScript)("changes are accepted only by saying so (needs script)", async () => {
  changes = ["/etc/x differs"];
  const answers = (word: string) =>
    [
      ["type the code", "123-456\r"],
      ['type "accept"', `${word}\r`],
    ] as const;
  await onTerminal(answers("accept"));
  expect(daemon.requests.at(-1)).toMatchObject({ params: { acceptChanges: true } });
  await onTerminal(answers("yes"));
  expect(daemon.requests.at(-1)).toMatchObject({ params: { acceptChanges: false } });
});

test.skipIf(noScript)("Ctrl-C leaves it unconfirmed: 1 (needs script)", async () => {
  const { code } = await onTerminal([["type the code", "\u0003"]]);
  expect(code).not.toBe(0);
  expect(daemon.requests.map(({ verb }) => verb)).toEqual(["ceremony.begin"]);
});
