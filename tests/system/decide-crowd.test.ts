import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterEach, describe, expect, test } from "vitest";
import { ask } from "../support/decide-server.ts";

/** decide.sock under crowds that only hold connections. Root, because the crowd is another user. */
const SUPPORT = join(import.meta.dirname, "../support");
const QUESTION = {
  subject: { type: "user", id: "alice" },
  action: { name: "read" },
  resource: { type: "record", id: "record-1" },
};
const [NOBODY, ASKED] = [65_534, 10_000];
/** Descriptors that a process needs for itself, and for the others who ask. */
const SPARE = 200;

type Program = { readonly lines: () => Promise<string>; readonly child: ChildProcess; end(): Promise<void> };
const programs: Program[] = [];
afterEach(async () => {
  for (const one of programs.splice(0).toReversed()) await one.end();
});

function start(file: string, ...args: readonly string[]): Program {
  const child = spawn(process.execPath, [join(SUPPORT, file), ...args], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const program = {
    child,
    lines: async () => String((await lines.next()).value),
    end: async () => {
      child.stdin.end();
      const over = setTimeout(() => child.kill("SIGKILL"), 5_000);
      await gone;
      clearTimeout(over);
    },
  };
  programs.push(program);
  return program;
}

/** The limit on open files of this process, which its children have too. */
function openFiles(): number {
  return Number(/Max open files +(\d+)/.exec(readFileSync("/proc/self/limits", "utf8"))?.[1] ?? 0);
}

async function crowdOf(path: string, count: number, kind: "silent" | "half") {
  const crowd = start("idle-crowd.ts", path, String(count), String(NOBODY), kind);
  const [, held = 0, refused = 0] = (await crowd.lines()).split(" ").map(Number);
  return { held, refused, crowd };
}

async function serveOthers(path: string): Promise<void> {
  for (let turn = 0; turn < 20; turn++) {
    const reply = await ask(path, "/access/v1/evaluation", QUESTION);
    expect([reply.status, reply.json.decision]).toEqual([200, true]);
  }
}

describe.skipIf(process.getuid?.() !== 0)("a crowd of another user's connections (needs root)", () => {
  test("idle ones hold nothing up: thousands are held, and others are answered", {
    timeout: 90_000,
  }, async () => {
    const count = Math.min(ASKED, openFiles() - SPARE);
    if (count < ASKED)
      console.log(`${count} idle connections, not ${ASKED}: that many open files are allowed`);
    const server = start(
      "decide-process.ts",
      JSON.stringify({ maxConnections: count + 50, maxConnectionsPerUid: count, frameTimeoutMs: 45_000 }),
    );
    const path = await server.lines();
    const { held, refused } = await crowdOf(path, count, "silent");
    expect([held, refused]).toEqual([count, 0]);
    await serveOthers(path);
    server.child.stdin?.write("how many\n");
    expect(Number(await server.lines())).toBeGreaterThanOrEqual(count);
  });

  test("with the limits as they are shipped, the crowd is kept to its own, and told", {
    timeout: 60_000,
  }, async () => {
    const server = start(
      "decide-process.ts",
      JSON.stringify({ maxConnections: 256, maxConnectionsPerUid: 128, frameTimeoutMs: 20_000 }),
    );
    const path = await server.lines();
    const { held, refused } = await crowdOf(path, 2_000, "silent");
    expect([held, refused]).toEqual([128, 1_872]);
    await serveOthers(path);
  });

  test("slow senders (slow-loris) are ended in time, and others are answered meanwhile", {
    timeout: 60_000,
  }, async () => {
    const server = start(
      "decide-process.ts",
      JSON.stringify({ maxConnections: 256, maxConnectionsPerUid: 128, frameTimeoutMs: 3_000 }),
    );
    const path = await server.lines();
    const { held } = await crowdOf(path, 128, "half");
    expect(held).toBe(128);
    await serveOthers(path);
    await expect
      .poll(
        async () => {
          server.child.stdin?.write("how many\n");
          return Number(await server.lines());
        },
        { timeout: 10_000 },
      )
      .toBe(0);
  });
});
