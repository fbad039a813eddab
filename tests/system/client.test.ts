import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Client as McpClient } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { afterEach, describe, expect, test } from "vitest";
import type { HookOutput } from "../../cli/hook/decision.ts";
import { type BoundaryClient, type ConnectOptions, connect, type ModeNews } from "../../client/client.ts";
import { linesOf, recordOf } from "../audit/fixture.ts";
import { boundaryctl } from "../support/boundaryctl.ts";
import { createHome, type DaemonHome, type DaemonProcess, startDaemon } from "../support/daemon-process.ts";

/** The client, the hook and the MCP server before the real daemon, log-only. */
const MAIN = join(import.meta.dirname, "../../cli/main.ts");
const homes: DaemonHome[] = [];
const daemons: DaemonProcess[] = [];
const clients: (BoundaryClient | McpClient)[] = [];

afterEach(async () => {
  for (const client of clients.splice(0)) await client.close();
  await Promise.all(daemons.splice(0).map((daemon) => daemon.kill()));
  for (const home of homes.splice(0)) home.remove();
});

async function start(at?: DaemonHome): Promise<{ home: DaemonHome; daemon: DaemonProcess }> {
  const home = at ?? createHome({ initialMode: "RESTRICTED" });
  if (at === undefined) homes.push(home);
  const daemon = await startDaemon(home);
  daemons.push(daemon);
  return { home, daemon };
}

function client(home: DaemonHome, options: Partial<ConnectOptions> = {}): BoundaryClient {
  const made = connect({ socket: join(home.runtimeDir, "control.sock"), deadlineMs: 10_000, ...options });
  clients.push(made);
  return made;
}

const tool = (id: string) => ({
  action: { name: "tool.run" },
  resource: { type: "tool", id, properties: { reach: "none" } },
});
const SECRET = {
  action: { name: "recall" },
  resource: { type: "memory", id: "m", properties: { class: "TOP_SECRET" } },
};
const decisions = (home: DaemonHome) =>
  linesOf(home.logDir)
    .map(recordOf)
    .filter(({ kind }) => kind === "decision");

async function until(met: () => boolean | Promise<boolean>): Promise<void> {
  for (const stopMs = performance.now() + 20_000; !(await met()); ) {
    if (performance.now() > stopMs) throw new Error("it did not come to be");
    await delay(10);
  }
}

describe("the client", () => {
  test("gets the daemon's answers, each of them in the log", async () => {
    const { home } = await start();
    const asking = client(home);
    const [allowed, denied] = await Promise.all([asking.check(tool("ls")), asking.check(SECRET)]);
    expect(allowed).toMatchObject({ decision: true, code: "allowed", mode: "RESTRICTED", detail: "" });
    expect(denied).toMatchObject({ decision: false, mode: "RESTRICTED", detail: "" });
    expect(denied.wouldAllow).not.toBe("");
    expect(decisions(home).map(({ seq }) => String(seq))).toEqual(
      expect.arrayContaining([allowed.correlationId, denied.correlationId]),
    );
  });

  test("two clients with many questions on the way: each is answered, and each allow has its own record", async () => {
    const { home } = await start();
    const both = [client(home), client(home)];
    const answers = await Promise.all(
      both.flatMap((asking) => Array.from({ length: 300 }, (_, at) => asking.check(tool(`t${at % 50}`)))),
    );
    expect(answers.every(({ decision }) => decision)).toBe(true);
    expect(new Set(answers.map(({ correlationId }) => correlationId)).size).toBe(600);
  });

  test("a crash in the middle denies what was on the way; after the restart it is answered, and the gap is told", async () => {
    const { home, daemon } = await start();
    const news: ModeNews[] = [];
    const asking = client(home, { onModeChange: (one) => news.push(one) });
    expect(await asking.check(tool("ls"))).toMatchObject({ decision: true });
    await until(() => news.length === 1);
    daemon.signal("SIGSTOP");
    const onTheWay = Array.from({ length: 20 }, (_, at) => asking.check(tool(`t${at}`)));
    await delay(50);
    await daemon.kill();
    for (const answer of await Promise.all(onTheWay))
      expect(answer).toMatchObject({ decision: false, code: "daemon-unreachable" });

    await start(home);
    await until(async () => (await asking.check(tool("ls"))).code !== "daemon-unreachable");
    // a crash is LOCKDOWN
    expect(await asking.check(tool("ls"))).toMatchObject({ decision: false, mode: "LOCKDOWN" });
    await until(() => news.at(-1)?.kind === "mode");
    expect(news[0]).toMatchObject({ kind: "mode", wanted: "RESTRICTED", missed: false });
    expect(news[1]).toMatchObject({ kind: "unknown" });
    expect(news.at(-1)).toMatchObject({ kind: "mode", wanted: "LOCKDOWN", missed: true });
  });

  test("is told of a change of the mode that another made", async () => {
    const { home } = await start();
    const news: ModeNews[] = [];
    client(home, { onModeChange: (one) => news.push(one) });
    await until(() => news.length === 1);
    await client(home).call("mode.set", { mode: "AIRGAP", reason: "a test" });
    await until(() => news.some((one) => one.kind === "mode" && one.wanted === "AIRGAP"));
    expect(news.every((one) => one.kind === "mode" && !one.missed)).toBe(true);
  });
});

test("the hook allows what the daemon allows, and nothing in LOCKDOWN", async () => {
  const { home } = await start();
  const hook = async (tool_name: string, tool_input: object): Promise<string> => {
    const call = { session_id: "s", cwd: "/", hook_event_name: "PreToolUse", tool_name, tool_input };
    const ran = await boundaryctl(["hook", "--runtime-dir", home.runtimeDir], {}, JSON.stringify(call));
    return (JSON.parse(ran.stdout) as HookOutput).hookSpecificOutput.permissionDecision;
  };
  expect(await hook("TodoWrite", { todos: [] })).toBe("allow");
  expect(await hook("Teleport", {})).toBe("deny");
  await client(home).call("mode.set", { mode: "LOCKDOWN", reason: "a test" });
  expect(await hook("TodoWrite", { todos: [] })).toBe("deny");
});

test("the MCP server tells the mode, and answers as the daemon does", async () => {
  const { home } = await start();
  const agent = new McpClient({ name: "agent", version: "1" });
  clients.push(agent);
  const args = ["--disallow-code-generation-from-strings", MAIN, "mcp", "--runtime-dir", home.runtimeDir];
  await agent.connect(new StdioClientTransport({ command: process.execPath, args, stderr: "ignore" }));
  const use = async (name: string, given: Record<string, unknown>): Promise<unknown> => {
    const { content } = await agent.callTool({ name, arguments: given });
    return JSON.parse((content as readonly { text: string }[])[0]?.text ?? "");
  };
  expect(await use("boundary_status", {})).toMatchObject({ wanted: "RESTRICTED", assurance: "observed" });
  expect(await use("boundary_check", { action: "tool.run", resource: tool("ls").resource })).toMatchObject({
    decision: true,
  });
  const secret = { action: "recall", resource: SECRET.resource };
  expect(await use("boundary_check", secret)).toMatchObject({ decision: false, mode: "RESTRICTED" });
});
