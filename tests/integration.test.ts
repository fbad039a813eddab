import { type ExecFileException, execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { AccessRequest } from "../daemon/core/access.ts";
import { evaluationOf, fixtureService, TOKEN } from "./support/authzen-fixture.ts";
import { createHome, type DaemonHome, type DaemonProcess, startDaemon } from "./support/daemon-process.ts";
import { type DecideServer, IDENTIFIER, startDecide } from "./support/decide-server.ts";
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

type Ran = { readonly code: number; readonly out: string; readonly err: string };

let directory: string;
let server: DecideServer;
const asked: AccessRequest[] = [];

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "boundary-examples-"));
  writeFileSync(join(directory, "token"), `${TOKEN}\n`, { mode: 0o600 });
  const evaluate = async (_caller: unknown, request: AccessRequest) => {
    asked.push(request);
    return evaluationOf(request.resource.id.startsWith("/srv/notes/"), { correlationId: "1" });
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
): Promise<Ran> {
  return new Promise((resolve) => {
    const all = {
      PATH: process.env["PATH"] ?? "",
      HOME: directory,
      BOUNDARY_DECIDE: server.path,
      BOUNDARY_TOKEN_FILE: join(directory, "token"),
      ...env,
    };
    execFile(program, args, { env: all, timeout: 60_000 }, (error: ExecFileException | null, out, err) => {
      resolve({ code: error === null ? 0 : Number(error.code ?? -1), out, err });
    });
  });
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
      resource: { type: "Tool", id: "web-search", properties: { reach: "network" } },
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
    beforeAll(async () => {
      home = createHome({ initialMode: "RESTRICTED" });
      daemon = await startDaemon(home);
    });
    afterAll(async () => {
      await daemon.stop();
      home.remove();
    });

    test("check", async () => {
      const env = { BOUNDARY_CONTROL: join(home.runtimeDir, "control.sock") };
      const { out, err } = await run("python3", ["-c", block("python control")], env);
      expect([out, err]).toEqual([block("text control"), ""]);
    });
  });
});

describe.skipIf(!isOnHost("go"))("Go (needs go)", () => {
  test("over decide.sock", { timeout: 120_000 }, async () => {
    const file = join(directory, "main.go");
    writeFileSync(file, block("go go"));
    const { out, err } = await run("go", ["run", file], { GOFLAGS: "-mod=mod", GOPROXY: "off" });
    expect([out, err]).toEqual([block("text go"), ""]);
  });
});
