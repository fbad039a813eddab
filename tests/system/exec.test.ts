import { spawnSync } from "node:child_process";
import {
  chownSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { boundaryctl, startBoundaryctl } from "../support/boundaryctl.ts";
import { createHome, type DaemonHome, type DaemonProcess, startDaemon } from "../support/daemon-process.ts";
import { NO_SANDBOX, startWorker, UID, until, type WorkerHost } from "../support/worker-host.ts";

/** The real daemon, the real worker with its sandbox, and the real tool. */
const PROFILES = `version: 1
patterns: { words: '[^\\n]*' }
notPaths: [words]
profiles:
  - name: default
    modes: [OPEN, RESTRICTED, TRUSTED, AIRGAP]
    unlisted: deny
    unresolved: deny
    searchPath: [/usr/bin]
    environment: [GREETING]
    programs:
      - name: [cat]
        rules:
          - { id: pass, verdict: allow, operands: ['readable*'], match: ['cat'] }
      - name: [sleep]
        rules:
          - { id: wait, verdict: allow, operands: ['number'], match: ['sleep 1'] }
      - name: [printenv]
        rules:
          - { id: show, verdict: allow, operands: ['word*'], match: ['printenv HOME'] }
      - name: [seq]
        rules:
          - { id: count, verdict: allow, operands: ['number+'], match: ['seq 9'] }
`;

/** It is watched: a change of it is LOCKDOWN. */
const profiles = join(realpathSync("/tmp"), `boundary-profiles-${process.pid}.yaml`);
let home: DaemonHome;
let daemon: DaemonProcess;
let worker: WorkerHost;
let ctl: (args: readonly string[], stdin?: string) => ReturnType<typeof boundaryctl>;

test("a hook by a profile that is not there is no start", () => {
  const made = createHome({ exec: { hookProfile: "nobody" } });
  try {
    const main = join(import.meta.dirname, "../../daemon/main.ts");
    const ran = spawnSync(process.execPath, [main, "--check-config", "--config", made.configFile], {
      encoding: "utf8",
    });
    expect(ran.status).toBe(2);
    expect(ran.stderr).toContain('exec.hookProfile: there is no profile "nobody"');
  } finally {
    made.remove();
  }
});

test("lists of hosts that cannot be read are no start, and each entry is named where it stands", () => {
  const made = createHome(
    'egress:\n  allow: [ok.example, "*.com"]\n  projects:\n    web:\n      - a.example\n      - "*.co.uk"\n',
  );
  try {
    const main = join(import.meta.dirname, "../../daemon/main.ts");
    const ran = spawnSync(process.execPath, [main, "--check-config", "--config", made.configFile], {
      encoding: "utf8",
    });
    expect(ran.status).toBe(2);
    expect(ran.stderr).toContain(`${made.configFile}:2:23: egress.allow[1]: `);
    expect(ran.stderr).toContain(`${made.configFile}:6:9: egress.projects.web[1]: `);
  } finally {
    made.remove();
  }
});

describe.skipIf(NO_SANDBOX !== "")(
  `guarded commands, with the real worker${NO_SANDBOX === "" ? "" : ` (${NO_SANDBOX})`}`,
  () => {
    beforeAll(async () => {
      writeFileSync(profiles, PROFILES);
      home = createHome({
        initialMode: "OPEN",
        ceremony: { requireTerminal: false },
        exec: { profilesFile: profiles, workspaces: ["/tmp"] },
      });
      daemon = await startDaemon(home);
      const at = `${home.runtimeDir}-worker`;
      mkdirSync(at, { mode: 0o750 });
      chownSync(at, UID, process.getgid?.() ?? 0);
      worker = await startWorker([], [], join(at, "worker.sock"));
      ctl = (args, stdin) =>
        boundaryctl([...args.slice(0, 2), "--runtime-dir", home.runtimeDir, ...args.slice(2)], {}, stdin);
      await until(() => daemon.lines.some((line) => line.includes("the worker is ready")), 15_000);
    }, 60_000);

    afterAll(async () => {
      await daemon?.kill();
      await worker?.stop();
      home?.remove();
      rmSync(profiles, { force: true });
    });

    const run = (args: readonly string[], stdin?: string) =>
      ctl(["exec", "run", "--workspace", worker.workspace, "--cwd", worker.workspace, ...args], stdin);
    const records = (): readonly { kind: string; data: Record<string, unknown> }[] =>
      readdirSync(home.logDir)
        .filter((name) => name.endsWith(".jsonl"))
        .flatMap((name) => readFileSync(join(home.logDir, name), "utf8").trimEnd().split("\n"))
        .map((line) => JSON.parse(line) as { kind: string; data: Record<string, unknown> });

    test("status says that the worker holds them", async () => {
      const { stdout } = await ctl(["status", "--json"]);
      const { controls } = JSON.parse(stdout) as {
        controls: { name: string; state: string; detail: string }[];
      };
      expect(controls.find(({ name }) => name === "exec")).toMatchObject({ state: "enforced" });
    });

    test("an allowed one runs in the sandbox, with its stdin, its environment and its exit code", async () => {
      expect(await run(["--stdin", "--", "cat"], "over and back\n")).toEqual({
        code: 0,
        stdout: "over and back\n",
        stderr: "",
      });
      const environment = await run([
        "--env",
        "GREETING=hello",
        "--",
        "printenv",
        "GREETING",
        "BOUNDARY_TOKEN_FILE",
      ]);
      expect(environment).toMatchObject({ code: 1, stdout: "hello\n" });
      const [started] = records().filter(({ kind }) => kind === "exec.started");
      expect(started?.data).toMatchObject({
        profile: "default",
        rule: "cat/pass",
        stdin: "14 bytes",
        network: "none",
      });
      expect(
        records()
          .filter(({ kind }) => kind === "exec.ended")
          .map(({ data }) => data["exitCode"]),
      ).toEqual([0, 1]);
    }, 30_000);

    test("a blocked one does not, and says which rule", async () => {
      const said = await run(["--", "rm", "-rf", "x"]);
      expect(said).toMatchObject({ code: 126, stdout: "" });
      expect(said.stderr).toContain("exec-denied");
    }, 30_000);

    test("one that takes too long is ended, and one that puts out too much is cut", async () => {
      const late = await run(["--timeout", "1s", "--grace", "1s", "--", "sleep", "60"]);
      expect(late).toMatchObject({ code: 124, stderr: expect.stringContaining("its time was over") });
      const long = await run(["--output-bytes", "1000", "--", "seq", "100000"]);
      expect(long.stdout.length).toBe(1_000);
      expect(long.stderr).toContain("over the limit");
    }, 30_000);

    test("a sealed secret goes in by stdin, and does not come out", async () => {
      const secret = ["zq", "correct", "horse", "7f3a9b", "qz"].join("-");
      await ctl(["vault", "unlock", "build", "--create", "--kek", "file"]);
      await ctl(["secret", "put", "deploy", "--workspace", "build"], secret);
      const said = await ctl([
        "secret",
        "inject",
        "build/deploy",
        "--workspace",
        worker.workspace,
        "--cwd",
        worker.workspace,
        "--",
        "cat",
      ]);
      // shipped policy gives nobody a secret that the registry does not have
      expect(said).toMatchObject({ code: 126, stdout: "" });
      expect(said.stderr).toContain("policy-denied");
      const echoed = await run(["--stdin", "--", "cat"], `it is ${secret}\n`);
      expect(echoed).toMatchObject({ code: 0, stdout: "it is [redacted:known]\n" });
      expect(JSON.stringify(records())).not.toContain(secret);
    }, 60_000);

    test("LOCKDOWN ends what runs", async () => {
      const { done, child } = startBoundaryctl([
        "exec",
        "run",
        "--runtime-dir",
        home.runtimeDir,
        "--workspace",
        worker.workspace,
        "--cwd",
        worker.workspace,
        "--",
        "sleep",
        "60",
      ]);
      const startedBefore = records().filter(({ kind }) => kind === "exec.started").length;
      await until(
        () =>
          records().filter(({ kind }) => kind === "exec.started").length > startedBefore ||
          child.exitCode !== null,
        15_000,
      );
      const askedMs = performance.now();
      expect((await ctl(["mode", "set", "LOCKDOWN", "--reason", "test"])).code).toBe(0);
      const { code, stderr } = await done;
      expect([code === 0, performance.now() - askedMs < 20_000]).toEqual([false, true]);
      expect(stderr).toContain("LOCKDOWN");
      const kinds = records().map(({ kind }) => kind);
      expect(kinds.lastIndexOf("exec.ended")).toBeGreaterThan(kinds.lastIndexOf("exec.started"));
      expect(await run(["--", "sleep", "1"])).toMatchObject({ code: 126 });
    }, 60_000);
  },
);
