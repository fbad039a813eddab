import { spawn } from "node:child_process";
import { chownSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test, vi } from "vitest";
import { agentClient } from "../../cli/agent-client.ts";
import { outputOf } from "../../cli/hook/decision.ts";
import { mapToolCall } from "../../cli/hook/mapping.ts";
import { readToken } from "../../cli/token-file.ts";
import { placeOf } from "../../client/places.ts";
import { openDecisions } from "../../daemon/compose/decide.ts";
import type { Caller, SearchQuery } from "../../daemon/core/access.ts";
import { createSearch } from "../../daemon/decide-search.ts";
import type { Policies } from "../../daemon/policies.ts";
import { answerRequest } from "../../daemon/policy/answer.ts";
import { readDecisionFacts } from "../../daemon/policy/decision-facts.ts";
import { readEvaluation } from "../../daemon/protocol/authzen.ts";
import { createFrameReader } from "../../daemon/protocol/frame.ts";
import { MAX_DEPTH, MAX_FRAME_BYTES, PARAMS } from "../../daemon/protocol/messages.ts";
import { parseRequest } from "../../daemon/protocol/request.ts";
import { evaluationOf, fixtureService, TOKEN } from "../support/authzen-fixture.ts";
import { createHome } from "../support/daemon-process.ts";
import { startDecide } from "../support/decide-server.ts";
import { settled, startHost } from "../support/host.ts";
import { askAs } from "../support/office.ts";
import { openDoor } from "../support/open-door.ts";
import { loadGood, question, registry, shippedFiles, situation, USER } from "../support/policies.ts";
import { rawHttp } from "../support/raw-http.ts";

const CALLER: Caller = { uid: 1000, gid: 1000, pid: 7, groups: [], token: "t" };
const QUERY = (more: Partial<Extract<SearchQuery, { kind: "resource" }>> = {}): SearchQuery => ({
  kind: "resource",
  subject: { type: "Agent", id: "a", properties: {} },
  action: { name: "file.read", properties: {} },
  resource: { type: "file", properties: {} },
  context: {},
  ...more,
});
const DENY_ALL = {
  answer: () => ({
    decision: "deny" as const,
    code: "policy-denied" as const,
    reasons: ["no"],
    errors: [],
    needsPerson: false,
    advice: "",
  }),
  digest: () => "",
  withKnown: <T>(request: T) => request,
  settled: () => Promise.resolve(),
};
const docs = (name: string) => readFileSync(join(import.meta.dirname, "../../docs", name), "utf8");
const post = (body: string) =>
  `POST /access/v1/evaluation HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${TOKEN}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
const BODY = JSON.stringify({
  subject: { type: "user", id: "a" },
  action: { name: "read" },
  resource: { type: "record", id: "1" },
});
const soon = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

afterEach(() => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
});

describe("HTTP", () => {
  test("CONNECT behind a question that is under way does not get its answer into the question's place", async () => {
    const evaluate = async () => {
      await soon(100);
      return evaluationOf(true, { correlationId: "7" });
    };
    const server = await startDecide(fixtureService({ evaluator: { evaluate } }));
    const raw = await rawHttp(server.path);
    try {
      raw.send(`${post(BODY)}CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n`);
      await soon(400);
      expect(raw.statuses()[0]).toBe(200);
    } finally {
      raw.socket.destroy();
      await server.stop();
    }
  });
});

describe("HTTP, pipelined", () => {
  const counted = async () => {
    const asked: string[] = [];
    const evaluate = async (_caller: unknown, { resource }: { resource: { id: string } }) => {
      asked.push(resource.id);
      return evaluationOf(true, { correlationId: String(asked.length) });
    };
    const server = await startDecide(fixtureService({ evaluator: { evaluate } }));
    const raw = await rawHttp(server.path);
    const end = async () => {
      raw.socket.destroy();
      await server.stop();
    };
    return { asked, raw, end };
  };

  test("what comes behind an answer that ends the connection is not asked: nobody would hear the answer", async () => {
    const { asked, raw, end } = await counted();
    try {
      const bad = post(BODY).replace("Host: x", "Host: x\r\nHost: y");
      raw.send(bad + post(BODY));
      await soon(200);
      // asked and recorded, with a use of the token gone, for an answer that is never sent
      expect([raw.statuses(), asked]).toEqual([[400], []]);
    } finally {
      await end();
    }
  });

  test("a request that offers an upgrade is read to its own end, and the next one is itself", async () => {
    const { asked, raw, end } = await counted();
    try {
      const upgrade = post(BODY).replace("Host: x", "Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket");
      raw.send(upgrade); // as Java's HttpClient does with h2c by itself
      await soon(200);
      raw.send(post(BODY));
      await soon(300);
      expect([raw.statuses(), asked.length]).toEqual([[200, 200], 2]);
    } finally {
      await end();
    }
  });

  test.each([
    ["both lengths", "Content-Length: 4\r\nTransfer-Encoding: chunked"],
    ["chunked not last", "Transfer-Encoding: chunked, gzip"],
    ["a space before the colon", "Content-Length : 4"],
    ["a folded length", "Content-Length:\r\n 4"],
    ["a signed length", "Content-Length: +4"],
    ["a list of lengths", "Content-Length: 4, 4"],
    ["a bare CR", "X-A: b\rTransfer-Encoding: chunked"],
  ])("smuggling by %s: nothing hidden in a body is asked", async (_what, headers) => {
    const { asked, raw, end } = await counted();
    try {
      const hidden = post(BODY.replace('"1"', '"smuggled"'));
      const head = post("").replace("Content-Length: 0", headers);
      raw.send(`${head}0\r\n\r\n${hidden}`);
      await soon(200);
      expect([
        asked.includes("smuggled") && !raw.statuses().includes(400),
        raw.statuses().filter((one) => one === 200),
      ]).toEqual([false, []]);
    } finally {
      await end();
    }
  });
});

describe("HTTP, idle", () => {
  test("docs/INTEGRATION.md: X-Request-ID comes back with the answer, whatever it is", async () => {
    const server = await startDecide(fixtureService());
    const raw = await rawHttp(server.path);
    try {
      raw.send(post(BODY).replace("Host: x", `X-Request-ID: abc\r\nHost: x\r\nX-Long: ${"a".repeat(9_000)}`));
      await soon(200);
      expect([raw.statuses(), raw.text().includes("X-Request-ID: abc")]).toEqual([[431], true]);
    } finally {
      raw.socket.destroy();
      await server.stop();
    }
  });

  test("docs/INTEGRATION.md: a connection without a request is ended after a minute, not after frameTimeoutMs", async () => {
    const server = await startDecide(fixtureService()); // frameTimeoutMs is 400 there
    const raw = await rawHttp(server.path);
    try {
      await soon(1_500);
      expect([raw.text(), raw.socket.readableEnded]).toEqual(["", false]);
    } finally {
      raw.socket.destroy();
      await server.stop();
    }
  });
});

describe("signals", () => {
  test("SIGHUP does not end a daemon that is starting", { timeout: 60_000 }, async () => {
    for (let run = 0; run < 6; run++) expect(await startUnderHups()).toBe("ready");
  });
});

async function startUnderHups(): Promise<string> {
  const home = createHome({ initialMode: "RESTRICTED" });
  const places = ["--config", home.configFile, "--log-dir", home.logDir, "--state-dir", home.stateDir];
  const main = join(import.meta.dirname, "../../daemon/main.ts");
  const child = spawn(process.execPath, [main, ...places, "--runtime-dir", home.runtimeDir], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  let said = "";
  child.stderr.on("data", (chunk: Buffer) => {
    said += chunk.toString();
  });
  const ended = new Promise<string>((resolve) => {
    child.once("exit", (code, signal) => resolve(`ended: ${code} ${signal}`));
  });
  // from when it has begun its work: what node does before that is not ours
  const hups = setInterval(() => existsSync(home.runtimeDir) && child.kill("SIGHUP"), 2);
  const ready = (async () => {
    while (!said.includes('"ready"')) await soon(20);
    return "ready";
  })();
  try {
    return await Promise.race([ended, ready]);
  } finally {
    clearInterval(hups);
    child.kill("SIGKILL");
    await ended;
    home.remove();
  }
}

describe("search", () => {
  test("a page token names nothing that the caller may not have", async () => {
    const ids = Array.from({ length: 3_000 }, (_, n) => `/secret/customer-${String(n).padStart(5, "0")}`);
    const search = createSearch({ door: openDoor, candidates: () => ids, probe: () => false });
    const page = await search(CALLER, QUERY(), { after: null, limit: 100 });
    expect(page.ok && page.ids).toEqual([]);
    expect(page.ok ? page.next : "").not.toContain("customer");
  });

  test("a page token of the caller's own making (search-page.ts: anybody may make one up) learns him no other id either", async () => {
    const ids = Array.from({ length: 1_500 }, (_, n) => `/secret/customer-${String(n).padStart(5, "0")}`);
    const search = createSearch({ door: openDoor, candidates: () => ids, probe: () => false });
    const learned: (string | null)[] = [];
    // `after` is a text of his choice: the id 1,000 further on comes back, so bisecting lists them all
    for (const after of ["/a", "/secret/customer-0000", "/secret/customer-0001", "/secret/customer-002"]) {
      const page = await search(CALLER, QUERY(), { after, limit: 100 });
      if (page.ok) learned.push(page.next);
    }
    expect(learned.filter((next) => next !== null && ids.includes(next))).toEqual([]);
  });

  test("who is over his limit is refused a search as well, and probing by search is seen", async () => {
    const on = await startHost({
      mode: "OPEN",
      policies: DENY_ALL,
      config: {
        limits: { uid: { requests: 3, blockMs: 300_000 }, probing: { denials: 5, windowMs: 60_000 } },
      },
    });
    const policies = {
      ...DENY_ALL,
      current: () => ({
        set: { shapes: { actions: new Map() } },
        registry: { principals: [], resources: [] },
      }),
    } as unknown as Policies;
    const { service } = openDecisions({
      daemon: on.daemon,
      trustedInterfaces: [],
      roles: {} as never,
      ownUid: 0,
      tokens: on.grants.tokens,
      leases: on.grants.leases,
      limits: on.limits,
      denials: on.denials,
      approvals: on.approvals,
      policies,
      wallMs: on.clock.wallMs,
      opLog: { info: () => undefined, warn: () => undefined, error: () => undefined },
    });
    const uidCaller = { ...CALLER, token: null };
    const me = { type: "User", id: "1000", properties: {} };
    const codes: string[] = [];
    for (let n = 0; n < 8; n++)
      codes.push(
        (
          await service.evaluator.evaluate(uidCaller, {
            subject: me,
            action: { name: "file.read", properties: {} },
            resource: { type: "file", id: `/x/${n}`, properties: {} },
            context: {},
          })
        ).code,
      );
    expect(codes.at(-1)).toBe("rate-limited");
    const before = on.records.length;
    let answered = 0;
    for (let n = 0; n < 200; n++) {
      const found = await service.search(
        uidCaller,
        {
          kind: "action",
          subject: me,
          resource: { type: "file", id: `/x/${n}`, properties: {} },
          context: {},
        },
        { after: null, limit: 100 },
      );
      if (found.ok) answered++;
    }
    await settled();
    // 200 x 12 questions answered beside the limit, without one record
    expect([answered, on.records.length - before]).not.toEqual([200, 0]);
  });

  test("a search before the policies are loaded waits or says so: an empty result is no answer", async () => {
    const on = await startHost({ mode: "OPEN" });
    let loaded: () => void = () => undefined;
    const settledPolicies = new Promise<void>((resolve) => {
      loaded = resolve;
    });
    const policies = {
      ...DENY_ALL,
      settled: () => settledPolicies,
      current: () => null,
    } as unknown as Policies;
    const { service } = openDecisions({
      daemon: on.daemon,
      trustedInterfaces: [],
      roles: {} as never,
      ownUid: 0,
      tokens: on.grants.tokens,
      leases: on.grants.leases,
      limits: on.limits,
      denials: on.denials,
      approvals: on.approvals,
      policies,
      wallMs: on.clock.wallMs,
      opLog: { info: () => undefined, warn: () => undefined, error: () => undefined },
    });
    const first = service.search(CALLER, QUERY(), { after: null, limit: 10 });
    const came = await Promise.race([first, soon(50).then(() => "waits" as const)]);
    loaded();
    expect(came === "waits" || !came.ok).toBe(true);
  });
});

describe("one request, two readers", () => {
  test.each([
    ["443", true],
    ["443.0", false],
    ["4430e-1", false],
    ["9007199254740990.6", false],
  ])(
    "a number that nobody wrote is refused on the control socket as on decide.sock: %s is taken: %j",
    (port, taken) => {
      const text = `{"subject":{"type":"User","id":"1"},"action":{"name":"network.connect"},"resource":{"type":"host","id":"h","properties":{"port":${port}}}}`;
      expect(readEvaluation(Buffer.from(text)).ok).toBe(taken);
      const frames = createFrameReader({ maxBytes: MAX_FRAME_BYTES, maxDepth: MAX_DEPTH }).push(
        Buffer.from(`{"type":"request","data":{"id":"1","verb":"check","params":${text}}}\f`),
      );
      const [params] = frames.map((frame) => {
        const read = parseRequest(frame);
        return read.ok ? PARAMS.check.safeParse(read.request.params).success : false;
      });
      expect(params).toBe(taken);
    },
  );

  test("properties of the subject are refused on the control socket as on decide.sock, not dropped", () => {
    const params = {
      subject: { type: "User", id: "1", properties: { role: "admin" } },
      action: { name: "network.connect" },
      resource: { type: "host", id: "h" },
    };
    const read = PARAMS.check.safeParse(params);
    // decide.sock: "property-invalid: subject.properties: there is no role"
    expect(read.success && !("properties" in (read.data.subject ?? {}))).toBe(false);
  });

  test.each([
    ["plain", "ls -l"],
    ["with a secret in it", "mysql --password=hunter2secret db"],
  ])(
    "what the log has of an allowed question (%s) is that question, and can be asked anew (policy replay)",
    async (_what, command) => {
      const on = await startHost({ mode: "OPEN", config: { roles: { readonly: { users: [1000] } } } });
      const reply = await askAs(on, 1000, "check", {
        action: { name: "command.run" },
        resource: { type: "command", id: "bash", properties: { command, reach: "file" } },
      });
      expect(reply).toMatchObject({ ok: true, data: { decision: true } });
      const read = readDecisionFacts(on.last("decision")?.data["policy"]);
      if (command.includes("password"))
        expect(read?.request.resource.properties["command"] ?? command).toBe(command);
      else expect(read?.request.resource.properties["command"]).toBe(command);
    },
  );
});

describe("clients and hooks", () => {
  test("without the system's daemon an agent's own socket does not take its place", () => {
    vi.spyOn(process as { geteuid: () => number }, "geteuid").mockReturnValue(1000);
    vi.stubEnv("XDG_RUNTIME_DIR", "/run/user/1000");
    expect(existsSync("/run/boundary-daemon")).toBe(false); // as after a stop: RuntimeDirectory= goes with the service
    expect(placeOf("runtime", undefined)).toBe("/run/boundary-daemon");
  });

  test("hook and mcp take a token file by the rules of every other command: its owner is us or root", () => {
    const directory = mkdtempSync(join(tmpdir(), "boundary-rev-"));
    const path = join(directory, "token");
    writeFileSync(path, `bd_${"A".repeat(43)}\n`, { mode: 0o600 });
    chownSync(path, 12_345, 12_345);
    try {
      expect(() => readToken(path)).toThrow();
      expect(() => {
        agentClient({ runtimeDir: directory } as never, { deadlineMs: 10, tokenFile: path }).close();
      }).toThrow();
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });

  test("a Grep over a directory is not a way around a forbid on what is in it", async () => {
    const { set } = await loadGood(shippedFiles());
    const decide = (tool: string, input: Record<string, unknown>) => {
      const mapped = mapToolCall({ tool, input, cwd: "/home/a" });
      if (!mapped.ok) return "deny";
      const { action, resource } = mapped.question;
      const asked = {
        subject: { type: "User", id: "1000", properties: {} },
        action: { name: action.name, properties: {} },
        resource: { ...resource, properties: resource.properties ?? {} },
        context: {},
      };
      return answerRequest(set, registry(set.shapes), asked, USER, situation()).answer.decision;
    };
    expect(decide("Read", { file_path: "/var/lib/boundary-daemon/log.key" })).toBe("deny");
    expect(decide("Grep", { path: "/var/lib", pattern: "." })).toBe("deny");
  });

  test("a hook without a token (the way docs/AGENTS.md sets it up) is asked about as an agent, not as the person", async () => {
    const { set } = await loadGood(shippedFiles());
    const mapped = mapToolCall({ tool: "Write", input: { file_path: "/etc/cron.d/x" }, cwd: "/" });
    if (!mapped.ok) throw new Error("not mapped");
    const { action, resource } = mapped.question;
    const asked = {
      subject: { type: "Agent", id: "a", properties: {} },
      action: { name: action.name, properties: {} },
      resource: { ...resource, properties: {} },
      context: {},
    };
    const who = { type: "Agent", id: "a", roles: [] };
    const { answer } = answerRequest(set, registry(set.shapes), asked, who, situation());
    expect(answer.needsPerson).toBe(true);
    // without a token the daemon would take the hook for User::UID, for whom this needs nobody: nothing is asked then
    vi.stubEnv("BOUNDARY_TOKEN_FILE", undefined);
    expect(() => {
      agentClient({ runtimeDir: "/nonexistent" } as never, { deadlineMs: 10, tokenFile: undefined }).close();
    }).toThrow("--as-user");
    const settings = /"command": "(boundaryctl hook[^"]*)"/.exec(docs("AGENTS.md"))?.[1];
    expect(settings).toMatch(/--token-file \S+ \|\| exit 2$/);
  });

  test("a mode's ceiling is not lifted by a key pressed at the agent's prompt", () => {
    const answer = {
      decision: false,
      code: "mode-ceiling",
      reason: ["mode.file-io"],
      mode: "COLDROOM" as const,
      assurance: "enforced" as const,
      correlationId: "4",
      wouldAllow: "it up to AIRGAP",
      askPerson: true,
      approval: "",
      retryable: false,
      retryAfterMs: 0,
      detail: "",
    };
    const { permissionDecision } = outputOf(answer, { prompt: true }).hookSpecificOutput;
    expect(permissionDecision).toBe("deny");
  });

  test("docs/AGENTS.md: the hook's question of a shell command is one that the shipped policies can permit", async () => {
    const { set } = await loadGood(shippedFiles());
    const mapped = mapToolCall({ tool: "Bash", input: { command: "ls" }, cwd: "/" });
    if (!mapped.ok) throw new Error("not mapped");
    const { action, resource } = mapped.question;
    const asked = {
      subject: { type: "User", id: "1000", properties: {} },
      action: { name: action.name, properties: {} },
      resource: { ...resource, properties: resource.properties ?? {} },
      context: {},
    };
    const { answer } = answerRequest(
      set,
      registry(set.shapes),
      asked,
      { ...USER, roles: ["admin"] },
      situation({ approved: true, leases: ["exec", "network"] }),
    );
    expect([answer.decision, answer.code]).toEqual(["allow", "allowed"]);
  });
});

describe("documents", () => {
  test("docs/INTEGRATION.md: what its examples ask is a question that this daemon can answer", async () => {
    const { set } = await loadGood(shippedFiles());
    const page = docs("INTEGRATION.md");
    const asked = [
      ...page.matchAll(/"resource":\s*\{"type": "(\w+)"/g),
      ...page.matchAll(/may file\.read (\w+)/g),
      ...page.matchAll(/\{"type": "(\w+)", "id": path/g),
    ].map((hit) => hit[1] ?? "");
    expect(asked.length).toBeGreaterThan(2);
    const { answer } = answerRequest(
      set,
      registry(set.shapes),
      question("file.read", [asked.at(-1) ?? "", "/srv/notes/today.md"]),
      USER,
      situation(),
    );
    expect([asked.filter((type) => /^[A-Z]/.test(type)), answer.code]).toEqual([[], "allowed"]);
  });

  test("docs/APPROVALS.md does not say that no rule asks for a person when shipped ones do", () => {
    const shipped = shippedFiles().some(({ bytes }) => Buffer.from(bytes).includes('@needs("person")'));
    expect(shipped && docs("APPROVALS.md").includes("No rule asks for a person by itself")).toBe(false);
  });

  test("docs/POLICY.md, which the schema, the issue and the tests name, is there", () => {
    expect(existsSync(join(import.meta.dirname, "../../docs/POLICY.md"))).toBe(true);
  });

  test("docs: policy.* of the configuration, its records and its commands are written down", () => {
    const missing = [
      ["CONFIGURATION.md", "policy.directory"],
      ["CONFIGURATION.md", "policy.entitiesFile"],
      ["CONFIGURATION.md", "policy.refereeEvery"],
      ["LOG_FORMAT.md", "policy.loaded"],
      ["LOG_FORMAT.md", "policy.disagreed"],
      ["man/boundaryctl.1", "policy explain"],
      ["PROTOCOL.md", "policy.reload"],
      ["OPERATIONS.md", "SIGHUP"],
    ].filter(([page = "", word = ""]) => !docs(page).replaceAll("\\-", "-").includes(word));
    expect(missing).toEqual([]);
  });
});
