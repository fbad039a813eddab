import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createOpLog } from "../../daemon/adapters/op-log.ts";
import { SECRETS } from "../support/secrets.ts";

function logAt(): {
  log: ReturnType<typeof createOpLog>;
  lines: string[];
  exit: () => void;
  move: (ms: number) => void;
} {
  const lines: string[] = [];
  let now = 0;
  let exit: () => void = () => undefined;
  const log = createOpLog({
    level: "info",
    write: (line) => lines.push(line),
    nowMs: () => now,
    atExit: (then) => (exit = then),
  });
  return {
    log,
    lines,
    exit: () => exit(),
    move: (ms) => {
      now += ms;
    },
  };
}

describe("the operational log", () => {
  test("writes no secret: in the message, in a field, in an error, its cause or its stack", () => {
    fc.assert(
      fc.property(SECRETS, ({ text, secret }) => {
        const { log, lines } = logAt();
        log.error({ err: new Error(text, { cause: new Error(text) }) }, "failed");
        log.warn({ deep: [{ [text]: text }] }, text);
        expect(lines).toHaveLength(2);
        expect(lines.join("")).not.toContain(secret);
        for (const line of lines) expect(() => JSON.parse(line) as unknown).not.toThrow();
      }),
    );
  });

  test("says the same thing once, and how often it came again when the window ends", () => {
    const { log, lines, move } = logAt();
    for (let i = 0; i < 1_000; i++) log.error({ err: new Error("busy") }, "a request failed");
    log.error({ err: new Error("gone") }, "a request failed");
    expect(lines).toHaveLength(2);
    move(10_000);
    log.info({}, "something else");
    expect(lines.slice(2).map((line) => JSON.parse(line) as object)).toEqual([
      expect.objectContaining({ msg: "a request failed", again: 999, level: 40 }),
      expect.objectContaining({ msg: "something else" }),
    ]);
  });

  test("tells at the end of the process what it is still counting", () => {
    const { log, lines, exit } = logAt();
    for (let i = 0; i < 3; i++) log.warn({}, "again");
    exit();
    expect(lines.map((line) => (JSON.parse(line) as { again?: number }).again)).toEqual([undefined, 2]);
  });

  test("is not flooded by errors that all differ", () => {
    const { log, lines } = logAt();
    for (let i = 0; i < 10_000; i++) log.error({ err: `error ${i}` }, "a request failed");
    expect(lines.length).toBeLessThanOrEqual(65);
  });

  test("a field that is no JSON does not lose the line", () => {
    const { log, lines } = logAt();
    const loop: { self?: object } = {};
    loop.self = loop;
    log.warn({ loop, big: 1n }, "odd");
    expect(lines).toHaveLength(1);
  });
});
