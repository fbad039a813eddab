import { type ExecFileException, execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { AccessRequest } from "../daemon/core/access.ts";
import { evaluationOf, fixtureService, TOKEN } from "./support/authzen-fixture.ts";
import { boundaryctl } from "./support/boundaryctl.ts";
import { createHome, type DaemonHome, type DaemonProcess, startDaemon } from "./support/daemon-process.ts";
import { type DecideServer, IDENTIFIER, startDecide } from "./support/decide-server.ts";
import { shippedFiles } from "./support/policies.ts";
import { isOnHost } from "./support/setup.ts";

/** The examples of docs/INTEGRATION.md, as they stand there, each with what it prints. */
const PAGE = readFileSync(join(import.meta.dirname, "../docs/INTEGRATION.md"), "utf8");
const blocks = new Map(
  [...PAGE.matchAll(/^```(\w+) ([\w-]+)\n([\s\S]*?)^```$/gm)].map((hit) => [
    `${hit[1]} ${hit[2]}`,
    hit[3] ?? "",
  ]),
);
const block = (name: string): string => {
  const found = blocks.get(name);
  if (found === undefined) throw new Error(`docs/INTEGRATION.md has no example ${name}`);
  return found;
};

/** What denies the examples' second question. */
const SITE = [
  [
    "site.cedar",
    `@id("site.secret")
forbid (principal, action == Action::"file.read", resource) when { resource.path like "/srv/secret/*" };
`,
  ],
  [
    "site.cases.yaml",
    `cases:
  - { who: "Agent::builder", action: file.read, resource: "file::/srv/secret/plan.md", mode: OPEN, answer: deny, by: [site.secret] }
`,
  ],
] as const;

/** Of Go's own library, too: nothing of it is there compiled. */
const BUILD_MS = 240_000;

type Ran = { readonly code: number; readonly out: string; readonly err: string };

let directory: string;
let server: DecideServer;
const asked: AccessRequest[] = [];

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "boundary-examples-"));
  writeFileSync(join(directory, "token"), `${TOKEN}\n`, { mode: 0o600 });
  const evaluate = async (_caller: unknown, request: AccessRequest) => {
    asked.push(request);
    const allowed = request.resource.id.startsWith("/srv/notes/");
    return evaluationOf(allowed, { correlationId: "1", ...(allowed ? {} : { code: "policy-denied" }) });
  };
  server = await startDecide(fixtureService({ evaluator: { evaluate } }));
});
afterAll(async () => {
  await server.stop();
  rmSync(directory, { recursive: true, force: true });
});

function run(
  program: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  timeout = 60_000,
): Promise<Ran> {
  return new Promise((resolve) => {
    const all = {
      PATH: process.env["PATH"] ?? "",
      HOME: directory,
      BOUNDARY_DECIDE: server.path,
      BOUNDARY_TOKEN_FILE: join(directory, "token"),
      ...env,
    };
    execFile(program, args, { env: all, timeout }, (error: ExecFileException | null, out, err) => {
      resolve({ code: error === null ? 0 : Number(error.code ?? -1), out, err });
    });
  });
}

let built: Promise<string> | null = null;

/** The example as it stands on the page, compiled once, with nothing that `go vet` finds. */
function goProgram(): Promise<string> {
  built ??= (async () => {
    const [file, program] = [join(directory, "main.go"), join(directory, "example")];
    writeFileSync(file, block("go go"));
    const env = { GOFLAGS: "-mod=mod", GOPROXY: "off", GOTOOLCHAIN: "local" };
    for (const args of [
      ["build", "-o", program, file],
      ["vet", file],
    ]) {
      const { code, err } = await run("go", args, env, BUILD_MS);
      if (code !== 0) throw new Error(`go ${args[0]}: ${err}`);
    }
    return program;
  })();
  return built;
}

const shell = (name: string, env?: Readonly<Record<string, string>>) =>
  run("sh", ["-eu", "-c", block(name)], env);
const nowhere = { BOUNDARY_DECIDE: "/nonexistent/decide.sock" };

describe.skipIf(!isOnHost("curl"))("curl (needs curl)", () => {
  test("a question", async () => {
    const { code, out } = await shell("sh curl");
    expect(code).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ decision: false, context: { code: expect.any(String) } });
    expect(asked.at(-1)).toMatchObject({
      subject: { type: "Agent", id: "builder" },
      action: { name: "tool.run" },
      resource: { type: "tool", id: "web-search", properties: { reach: "network" } },
    });
  });

  test("the answer on the page has the fields that answers have", () => {
    const shown = JSON.parse(/^```json\n(.*)$/m.exec(PAGE)?.[1] ?? "");
    expect(Object.keys(shown.context).toSorted()).toEqual(
      Object.keys(evaluationOf(false))
        .filter((name) => name !== "decision")
        .toSorted(),
    );
  });

  test("the metadata", async () => {
    const { out } = await shell("sh curl-configuration");
    expect(JSON.parse(out)).toMatchObject({ policy_decision_point: IDENTIFIER });
  });

  test("the shell function, also when nobody is there, and with a name that is no plain one", async () => {
    const { code, out } = await shell("sh shell");
    expect([code, out]).toEqual([0, block("text shell")]);
    expect((await shell("sh shell", nowhere)).out).toBe("denied\ndenied\n");
    const before = asked.length;
    const forged = `${block("sh shell").split("\n\nif ")[0]}\nmay file.read File '/srv/notes/a","x":"b' && echo allowed || echo denied`;
    expect((await run("sh", ["-c", forged])).out).toBe("denied\n");
    expect(asked).toHaveLength(before);
  });
});

describe.skipIf(!isOnHost("python3"))("Python (needs python3)", () => {
  test("over decide.sock", async () => {
    const { out, err } = await run("python3", ["-c", block("python python")]);
    expect([out, err]).toEqual([block("text python"), ""]);
  });

  test("a daemon that is not there is a denial", async () => {
    const { out } = await run("python3", ["-c", block("python python")], nowhere);
    expect(out).toBe("denied: daemon-unreachable\ndenied: daemon-unreachable\n");
  });

  test("a token that is none is a denial", async () => {
    const file = join(directory, "wrong");
    writeFileSync(file, "bd_wrong\n", { mode: 0o600 });
    const { out } = await run("python3", ["-c", block("python python")], { BOUNDARY_TOKEN_FILE: file });
    expect(out).toBe("denied: answer-invalid\ndenied: answer-invalid\n");
  });

  describe("over control.sock, with the daemon itself", () => {
    let home: DaemonHome;
    let daemon: DaemonProcess;
    const control = () => ({ BOUNDARY_CONTROL: join(home.runtimeDir, "control.sock") });
    beforeAll(async () => {
      home = createHome({ initialMode: "RESTRICTED" });
      daemon = await startDaemon(home);
      // a daemon that has just started answers once its policies are there, which a loaded host puts off
      await run("python3", ["-c", block("python control")], control());
    }, 60_000);
    afterAll(async () => {
      await daemon.stop();
      home.remove();
    });

    test("check", async () => {
      const { out, err } = await run("python3", ["-c", block("python control")], control());
      expect([out, err]).toEqual([block("text control"), ""]);
    });
  });
});

describe("before the daemon itself, with the shipped policies and one of a site's own", () => {
  let home: DaemonHome;
  let daemon: DaemonProcess;
  let env: Readonly<Record<string, string>>;
  beforeAll(async () => {
    const policies = join(directory, "policies");
    mkdirSync(policies, { mode: 0o755 });
    for (const { name, bytes } of shippedFiles()) writeFileSync(join(policies, name), bytes, { mode: 0o644 });
    for (const [name, text] of SITE) writeFileSync(join(policies, name), text, { mode: 0o644 });
    home = createHome({ initialMode: "OPEN", policy: { directory: policies } });
    daemon = await startDaemon(home);
    const [admin, token] = [join(home.path, "admin"), join(home.path, "token")];
    const ctl = async (...args: readonly string[]): Promise<void> => {
      const ran = await boundaryctl(["token", ...args, "--runtime-dir", home.runtimeDir]);
      if (ran.code !== 0) throw new Error(ran.stderr);
    };
    await ctl("bootstrap", "--out", admin);
    const scope = ["--actions", "file.read,tool.run", "--for", "1h"];
    await ctl("mint", "Agent::builder", ...scope, "--token-file", admin, "--out", token);
    env = { BOUNDARY_DECIDE: join(home.runtimeDir, "decide.sock"), BOUNDARY_TOKEN_FILE: token };
  }, 60_000);
  afterAll(async () => {
    await daemon.stop();
    home.remove();
  });

  test.skipIf(!isOnHost("curl"))("curl and shell (needs curl)", async () => {
    const { out } = await shell("sh curl", env);
    // a network tool is an agent's with a person's approval
    expect(JSON.parse(out)).toMatchObject({ decision: false, context: { code: "approval-required" } });
    expect((await shell("sh shell", env)).out).toBe(block("text shell"));
  });

  test.skipIf(!isOnHost("python3"))("Python (needs python3)", async () => {
    expect((await run("python3", ["-c", block("python python")], env)).out).toBe(block("text python"));
  });

  test.skipIf(!isOnHost("go"))("Go (needs go)", { timeout: BUILD_MS }, async () => {
    expect((await run(await goProgram(), [], env)).out).toBe(block("text go"));
  });
});

describe.skipIf(!isOnHost("go"))("Go (needs go)", { timeout: BUILD_MS }, () => {
  test("over decide.sock", async () => {
    const { out, err } = await run(await goProgram(), []);
    expect([out, err]).toEqual([block("text go"), ""]);
  });

  test("a daemon that is not there is a denial", async () => {
    const { code, out } = await run(await goProgram(), [], nowhere);
    expect(code).toBe(0);
    expect(out).toMatch(/^(?:denied: .*no such file or directory\n){2}$/);
  });

  test("a token that is none is a denial", async () => {
    const file = join(directory, "wrong-go");
    writeFileSync(file, "bd_wrong\n", { mode: 0o600 });
    const { out } = await run(await goProgram(), [], { BOUNDARY_TOKEN_FILE: file });
    expect(out).toMatch(/^(?:denied: 401 .*\n){2}$/);
  });
});
