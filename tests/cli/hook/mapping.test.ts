import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { mapToolCall } from "../../../cli/hook/mapping.ts";
import { ACTIONS } from "../../../daemon/core/access.ts";
import { tableBelow } from "../../support/dependency-rules.ts";

const CWD = "/home/ann/work";
const map = (tool: string, input: Record<string, unknown>, cwd = CWD) => mapToolCall({ tool, input, cwd });
const resource = (type: string, id: string, properties = {}) => ({ type, id, properties });

describe("each tool comes to its action and resource", () => {
  test.each<readonly [string, Record<string, unknown>, string, object]>([
    [
      "Bash",
      { command: "ls -l" },
      "command.run",
      resource("command", "bash", { command: "ls -l", reach: "network" }),
    ],
    [
      "PowerShell",
      { command: "dir" },
      "command.run",
      resource("command", "pwsh", { command: "dir", reach: "network" }),
    ],
    [
      "Monitor",
      { command: "tail -f x" },
      "command.run",
      resource("command", "bash", { command: "tail -f x", reach: "network" }),
    ],
    ["Read", { file_path: "/etc/passwd" }, "file.read", resource("file", "/etc/passwd")],
    ["NotebookRead", { notebook_path: "/n.ipynb" }, "file.read", resource("file", "/n.ipynb")],
    ["LS", { path: "/srv" }, "file.read", resource("file", "/srv")],
    ["Write", { file_path: "/tmp/x", content: "secret" }, "file.write", resource("file", "/tmp/x")],
    ["Edit", { file_path: "/tmp/x", old_string: "a" }, "file.write", resource("file", "/tmp/x")],
    ["MultiEdit", { file_path: "/tmp/x" }, "file.write", resource("file", "/tmp/x")],
    ["NotebookEdit", { notebook_path: "/n.ipynb" }, "file.write", resource("file", "/n.ipynb")],
    ["Grep", { pattern: "../..", path: "/srv" }, "file.read", resource("file", "/srv")],
    ["Grep", { pattern: "x" }, "file.read", resource("file", CWD)],
    ["Glob", { pattern: "**/*.ts" }, "file.read", resource("file", CWD)],
    [
      "WebFetch",
      { url: "https://Example.ORG./a?b" },
      "network.connect",
      resource("host", "example.org", { port: 443 }),
    ],
    ["WebFetch", { url: "http://[::1]:8080/" }, "network.connect", resource("host", "::1", { port: 8080 })],
    [
      "WebFetch",
      { url: "http://0x7f000001/" },
      "network.connect",
      resource("host", "127.0.0.1", { port: 80 }),
    ],
    [
      "WebFetch",
      { url: "https://good.org@bad.org/" },
      "network.connect",
      resource("host", "bad.org", { port: 443 }),
    ],
    ["WebSearch", { query: "x" }, "network.connect", resource("host", "web-search")],
    [
      "Task",
      { subagent_type: "Explore", prompt: "x" },
      "process.spawn",
      resource("command", "agent:Explore", { reach: "network" }),
    ],
    [
      "Agent",
      { prompt: "x" },
      "process.spawn",
      resource("command", "agent:general-purpose", { reach: "network" }),
    ],
    ["TodoWrite", { todos: [] }, "tool.run", resource("tool", "TodoWrite", { reach: "none" })],
    ["mcp__files__read", {}, "tool.run", resource("tool", "mcp__files__read")],
    ["mcp__", {}, "tool.run", resource("tool", "mcp__", { reach: "unknown" })],
    ["Teleport", {}, "tool.run", resource("tool", "Teleport", { reach: "unknown" })],
    ["bash", { command: "ls" }, "tool.run", resource("tool", "bash", { reach: "unknown" })],
    ["__proto__", {}, "tool.run", resource("tool", "__proto__", { reach: "unknown" })],
    ["constructor", {}, "tool.run", resource("tool", "constructor", { reach: "unknown" })],
  ])("%s %j", (tool, input, name, about) => {
    // a line for bash is judged by a profile, too
    const line = ["Bash", "Monitor"].includes(tool) ? { line: { line: input["command"], cwd: CWD } } : {};
    expect(map(tool, input)).toEqual({ ok: true, question: { action: { name }, resource: about }, ...line });
  });
});

describe("a path is asked about as it will be used", () => {
  test.each([
    ["x/../y", `${CWD}/y`],
    ["./a//b/.", `${CWD}/a/b`],
    ["../../../../etc/shadow", "/etc/shadow"],
    ["/a/./b/../c", "/a/c"],
    ["$route.tsx", `${CWD}/$route.tsx`],
  ])("%s", (path, id) => {
    expect(map("Read", { file_path: path })).toMatchObject({ question: { resource: { id } } });
  });

  test.each([
    ["src/**/*.ts", `${CWD}/src`],
    ["/etc/*", "/etc"],
    ["../*/x", "/home/ann"],
    ["{src,tests}/**", CWD],
    ["src/@types/*.ts", `${CWD}/src/@types`],
    ["a/b", `${CWD}/a/b`],
    ["/e/[t]c/shadow", "/e"],
    ["/var/lib/boundary-daemon/*", "/var/lib/boundary-daemon"],
    ["/var/lib/boundary/*", "/var/lib/boundary"],
  ])("Glob %s", (pattern, id) => {
    expect(map("Glob", { pattern })).toMatchObject({ question: { resource: { id } } });
  });

  test.each(["*/../../etc/*", "{src,/etc}/*", "@(/etc)/*", "{,/etc}", "\\/etc/*", "src/{..,x}/y"])(
    "Glob %s is denied: it may lead elsewhere",
    (pattern) => {
      expect(map("Glob", { pattern })).toMatchObject({ ok: false });
    },
  );
});

describe("a search does not begin above what nobody may read", () => {
  test.each<readonly [string, Record<string, unknown>]>([
    ["Grep", { path: "/", pattern: "x" }],
    ["Grep", { path: "/var", pattern: "x" }],
    ["Grep", { path: "/srv/../var/lib/", pattern: "x" }],
    ["Grep", { path: "/proc/self/root/var", pattern: "x" }],
    ["Glob", { pattern: "/*" }],
    ["Glob", { pattern: "/e[t]c/shadow" }],
    ["Glob", { pattern: "**", path: "/var/lib" }],
    ["Glob", { pattern: "../../../**" }],
  ])("%s %j is denied", (tool, input) => {
    expect(map(tool, input)).toMatchObject({ ok: false });
  });
});

describe("what cannot be told is denied without being asked", () => {
  test.each<readonly [string, Record<string, unknown>, string]>([
    ["Bash", {}, CWD],
    ["Bash", { command: "" }, CWD],
    ["Bash", { command: ["ls"] }, CWD],
    ["Monitor", { ws: { url: "wss://x" } }, CWD],
    ["Read", { file_path: 7 }, CWD],
    ["Read", { file_path: "~/x" }, CWD],
    ["Read", { file_path: "a\0b" }, CWD],
    ["Read", { file_path: "x" }, ""],
    ["Read", { file_path: "x" }, "relative"],
    ["Read", { file_path: `/${"x".repeat(300)}` }, CWD],
    ["Read", Object.create({ file_path: "/x" }) as Record<string, unknown>, CWD],
    ["Glob", {}, CWD],
    ["Grep", { path: "~" }, CWD],
    ["Grep", {}, ""],
    ["WebFetch", { url: "file:///etc/passwd" }, CWD],
    ["WebFetch", { url: "example.org" }, CWD],
    ["WebFetch", {}, CWD],
    ["Task", { subagent_type: 7 }, CWD],
    ["Task", { subagent_type: "x".repeat(300) }, CWD],
    [`mcp__${"x".repeat(300)}`, {}, CWD],
  ])("%s %j in %j", (tool, input, cwd) => {
    expect(map(tool, input, cwd)).toEqual({ ok: false, why: expect.any(String) as string });
  });
});

test("any tool call is one known action about a bounded name, or a reason", () => {
  const tool = fc.oneof(
    fc.string(),
    fc.constantFrom("Bash", "Read", "Write", "Glob", "Grep", "WebFetch", "Task"),
  );
  const field = fc.constantFrom("command", "file_path", "path", "pattern", "url", "subagent_type");
  const value = fc.oneof(
    fc.anything(),
    fc.string(),
    fc.webUrl(),
    fc.constantFrom("/", "..", "**", "~", "{/"),
  );
  fc.assert(
    fc.property(tool, fc.dictionary(field, value), fc.string(), (name, input, cwd) => {
      const mapped = mapToolCall({ tool: name, input, cwd });
      if (!mapped.ok) {
        expect(mapped.why).not.toBe("");
        return;
      }
      const { action, resource: about } = mapped.question;
      expect(ACTIONS).toContain(action.name);
      expect(about.id.length).toBeLessThanOrEqual(256);
      if (about.type === "file") expect(about.id).toMatch(/^\/(?!.*(?:^|\/)\.\.(?:\/|$))/s);
    }),
    { numRuns: 2_000 },
  );
});

describe("docs/AGENTS.md", () => {
  const page = readFileSync(join(import.meta.dirname, "../../../docs/AGENTS.md"), "utf8");
  const rows = tableBelow(page, "What is asked").flatMap(([tools = "", action = ""]) =>
    tools.split(", ").map((tool) => [tool.replace("any other", "Teleport"), action] as const),
  );

  test("has the table", () => {
    expect(rows.length).toBeGreaterThan(20);
  });

  test.each(rows)("%s is asked about as %s", (tool, name) => {
    const input = {
      command: "ls",
      file_path: "/x",
      notebook_path: "/x",
      path: "/x",
      pattern: "*",
      url: "https://example.org",
      query: "x",
    };
    expect(map(tool, input)).toMatchObject({ question: { action: { name } } });
    const reach = { resource: { properties: { reach: "unknown" } } };
    if (tool !== "Teleport") expect(map(tool, input)).not.toMatchObject({ question: reach });
  });
});
