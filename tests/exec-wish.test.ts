import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { digestOf, readWish, renderWords, type Wish } from "../daemon/exec-wish.ts";
import { EXEC_PARAMS } from "../daemon/protocol/exec.ts";

const PROGRAM = { path: "/usr/bin/tool", sha256: "a".repeat(64) };
const host = { directory: async (path: string) => path };
const read = (params: object): Promise<Wish> =>
  readWish(EXEC_PARAMS["exec.run"].parse({ argv: ["tool"], cwd: "/ws/a", ...params }), host, ["/ws"]);
const digest = async (params: object, program = PROGRAM) => digestOf(await read(params), program);

describe("what a person approves", () => {
  test("is all that a command is: with anything else it is another question", async () => {
    const others = [
      {},
      { argv: ["tool", ""] },
      { argv: ["tool", " "] },
      { argv: ["tool", "a b"] },
      { argv: ["tool", "a", "b"] },
      { argv: ["tool", "a,b"] },
      { argv: ["tool", '","'] },
      { environment: { A: "1" } },
      { environment: { A: "2" } },
      { environment: { B: "1" } },
      { environment: { A: "1", B: "1" } },
      { cwd: "/ws/b" },
      { workspace: "/ws/a" },
      { stdin: "eA==" },
      { secret: { workspace: "w", name: "n" } },
      { secret: { workspace: "w", name: "o" } },
      { secret: { workspace: "v", name: "n" } },
      { profile: "developer" },
      { network: true },
      { network: true, hosts: [] },
      { network: true, hosts: ["a.example"] },
      { timeoutMs: 1_000 },
      { graceMs: 1_000 },
      { outputBytes: 1_000 },
    ];
    const digests = await Promise.all(others.map((other) => digest(other)));
    digests.push(await digest({}, { ...PROGRAM, path: "/bin/tool" }));
    digests.push(await digest({}, { ...PROGRAM, sha256: "b".repeat(64) }));
    expect(new Set(digests).size).toBe(digests.length);
  });

  test("is the same whatever form of Unicode and whatever order it came in", async () => {
    expect(await digest({ argv: ["tool", "e\u0301"] })).toBe(await digest({ argv: ["tool", "\u00e9"] }));
    const [one, other] = [
      { A: "1", B: "2" },
      { B: "2", A: "1" },
    ];
    expect(await digest({ environment: one })).toBe(await digest({ environment: other }));
  });

  test("and no two lists of words are shown alike", () => {
    const words = fc.array(fc.string({ unit: fc.constantFrom("a", " ", "'", '"', "\\", "$", "é", "-") }), {
      minLength: 1,
      maxLength: 4,
    });
    fc.assert(
      fc.property(words, words, (one, other) => {
        fc.pre(JSON.stringify(one) !== JSON.stringify(other));
        expect(renderWords(one)).not.toBe(renderWords(other));
      }),
      { numRuns: 3_000 },
    );
  });
});

test.each([[["*.com"]], [["ok.example", "127.1"]], [["a b"]]])(
  "hosts that cannot be read are named: %j",
  async (hosts) => {
    const at = hosts.length - 1;
    await expect(read({ network: true, hosts })).rejects.toMatchObject({
      code: "exec-invalid",
      message: expect.stringContaining(`hosts[${at}]`) as string,
    });
  },
);

describe("a directory", () => {
  test.each([
    ["relative", { cwd: "ws/a" }],
    ["elsewhere", { cwd: "/etc" }],
    ["beside", { cwd: "/wsx" }],
    ["above its workspace", { cwd: "/ws", workspace: "/ws/a" }],
    ["with control characters", { cwd: "/ws/a\u0007" }],
    ["not plain", { cwd: "/ws/a/../b" }],
  ])("that is %s is refused", async (_, params) => {
    await expect(read(params)).rejects.toMatchObject({ code: "exec-cwd" });
  });
});
