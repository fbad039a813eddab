import { join } from "node:path";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { afterEach, describe, expect, test } from "vitest";
import { boundaryctl } from "../../support/boundaryctl.ts";
import { type Behaviour, type FakeDaemon, fakeDaemon } from "../../support/fake-daemon.ts";

const MAIN = join(import.meta.dirname, "../../../cli/main.ts");
const fakes: FakeDaemon[] = [];
const clients: Client[] = [];
afterEach(async () => {
  for (const client of clients.splice(0)) await client.close();
  for (const fake of fakes.splice(0)) await fake.stop();
});

/** The SDK's own client, before `boundaryctl mcp` as its shebang would start it. */
async function agent(runtimeDir: string): Promise<Client> {
  const client = new Client({ name: "agent", version: "1" });
  clients.push(client);
  await client.connect(
    new StdioClientTransport({
      command: process.execPath,
      args: ["--disallow-code-generation-from-strings", MAIN, "mcp", "--runtime-dir", runtimeDir],
      env: { PATH: process.env["PATH"] ?? "", HOME: "/nonexistent" },
      stderr: "ignore",
    }),
  );
  return client;
}

async function given(table: Readonly<Record<string, Behaviour>>): Promise<FakeDaemon> {
  const fake = await fakeDaemon(table);
  fakes.push(fake);
  return fake;
}

async function use(
  client: Client,
  name: string,
  args: object = {},
): Promise<{ error: boolean; data: unknown }> {
  const result = await client.callTool({ name, arguments: args as Record<string, unknown> });
  const [first] = result.content as readonly { text: string }[];
  const text = first?.text ?? "";
  return { error: result.isError === true, data: text.startsWith("{") ? JSON.parse(text) : text };
}

const EVALUATION = { reason: ["r"], mode: "OPEN", assurance: "enforced", correlationId: "1" };
const ALLOW: Behaviour = { data: { ...EVALUATION, decision: true, code: "allowed" } };
const ASK = { action: "file.read", resource: { type: "file", id: "/etc/hosts" } };
const STATUS: Behaviour = {
  data: {
    mode: { wanted: "AIRGAP", applied: "AIRGAP", since: "t", until: "", hold: "enforcing" },
    assurance: "enforced",
    frozen: "",
    controls: [{ name: "network", state: "enforced", detail: "libnftables" }],
    sensors: [],
    log: {},
    daemon: {},
  },
};

describe("boundaryctl mcp", () => {
  test("offers three tools, and each does its work", async () => {
    const fake = await given({
      check: ALLOW,
      status: STATUS,
      "approvals.wait": { data: { id: "ap-7", state: "approved" } },
    });
    const client = await agent(fake.runtimeDir);
    const { tools } = await client.listTools();
    expect(tools.map(({ name }) => name)).toEqual([
      "boundary_status",
      "boundary_check",
      "boundary_request_approval",
    ]);
    expect(await use(client, "boundary_status")).toMatchObject({
      error: false,
      data: { wanted: "AIRGAP", assurance: "enforced", controls: [{ name: "network" }] },
    });
    expect(await use(client, "boundary_check", ASK)).toMatchObject({
      error: false,
      data: { decision: true, mode: "OPEN" },
    });
    expect(await use(client, "boundary_request_approval", { approval: "ap-7", waitMs: 5 })).toMatchObject({
      error: false,
      data: { state: "approved" },
    });
    expect(fake.requests[1]).toMatchObject({
      verb: "check",
      params: { action: { name: "file.read" }, resource: { type: "file", id: "/etc/hosts" } },
    });
  });

  test("refuses what is no question, without asking", async () => {
    const fake = await given({ check: ALLOW });
    const client = await agent(fake.runtimeDir);
    const wrong = [
      {},
      { ...ASK, action: "fly" },
      { ...ASK, resource: { type: "file" } },
      { ...ASK, resource: { ...ASK.resource, id: "x".repeat(300) } },
      { ...ASK, subject: { type: "User", id: "root" } },
      { ...ASK, resource: { ...ASK.resource, properties: { port: 1.5 } } },
    ];
    for (const args of wrong)
      expect(await use(client, "boundary_check", args)).toMatchObject({ error: true });
    expect(await use(client, "boundary_request_approval", { waitMs: 1e9 })).toMatchObject({ error: true });
    expect(fake.requests).toEqual([]);
  });

  test("denies without a daemon, and goes on once there is one", async () => {
    const fake = await given({ check: ALLOW });
    const client = await agent(fake.runtimeDir);
    await fake.stop();
    const denied = { error: false, data: { decision: false, code: "daemon-unreachable" } };
    expect(await use(client, "boundary_check", ASK)).toMatchObject(denied);
    expect(await use(client, "boundary_status")).toMatchObject({ error: true, data: { code: "no-daemon" } });
    fakes.push(await fakeDaemon({ check: ALLOW }, fake.runtimeDir));
    await expect
      .poll(async () => (await use(client, "boundary_check", ASK)).data, { timeout: 10_000 })
      .toMatchObject({ decision: true });
  });

  test("answers what was asked before stdin ended, and ends with it", async () => {
    const { runtimeDir } = await given({ check: ALLOW });
    const lines = [
      {
        id: 1,
        method: "initialize",
        params: { protocolVersion: "2025-06-18", capabilities: {}, clientInfo: { name: "x", version: "1" } },
      },
      { method: "notifications/initialized" },
      { id: 2, method: "tools/call", params: { name: "boundary_check", arguments: ASK } },
    ];
    const stdin = lines.map((line) => `${JSON.stringify({ jsonrpc: "2.0", ...line })}\n`).join("");
    const ran = await boundaryctl(["mcp", "--runtime-dir", runtimeDir], {}, stdin);
    expect(ran.code).toBe(0);
    expect(ran.stdout.trim().split("\n")).toHaveLength(2);
    expect(ran.stdout).toContain('\\"decision\\":true');
  });

  test("garbage on stdin is no answer and no end", async () => {
    const { runtimeDir } = await given({ check: ALLOW });
    const ran = await boundaryctl(
      ["mcp", "--runtime-dir", runtimeDir],
      {},
      'garbage\n{"jsonrpc":"1.0"}\n[]\n',
    );
    expect(ran).toMatchObject({ code: 0, stdout: "" });
  });
});

describe("what is loaded", () => {
  const LOADED = join(import.meta.dirname, "../../support/loaded-packages.ts");
  const packagesOf = async (...args: readonly string[]): Promise<readonly string[]> => {
    const { runtimeDir } = await given({ check: ALLOW, status: STATUS });
    const env = { NODE_OPTIONS: `--import ${LOADED}` };
    const ran = await boundaryctl([...args, "--runtime-dir", runtimeDir], env, "");
    const named = /^packages: (.*)$/m.exec(ran.stderr)?.[1];
    if (named === undefined) throw new Error(`no list of packages: ${ran.stderr}`);
    return named.split(" ").filter((name) => name !== "");
  };

  test("mcp loads of the SDK's packages what its server and stdin take, and no HTTP server", async () => {
    const forArguments = await packagesOf("hook", "--deadline", "1s");
    const loaded = await packagesOf("mcp");
    expect(loaded.filter((name) => !forArguments.includes(name))).toEqual([
      "@modelcontextprotocol/sdk",
      "ajv",
      "ajv-formats",
      "fast-deep-equal",
      "fast-uri",
      "json-schema-traverse",
      "zod",
      "zod-to-json-schema",
    ]);
  });

  test("status and hook load no package at all", async () => {
    expect(await packagesOf("status", "--json")).toEqual([]);
    expect(await packagesOf("hook")).toEqual([]);
  });
});
