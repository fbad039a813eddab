import { hash, randomBytes } from "node:crypto";
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { RunOrder } from "../../daemon/exec/run-order.ts";
import type { Cgroups, RunCgroup } from "../../daemon/worker/cgroup.ts";
import type { Ending } from "../../daemon/worker/messages.ts";
import type { Kit } from "../../daemon/worker/prepare.ts";
import { readRoots } from "../../daemon/worker/probe.ts";
import { createProgramOpener } from "../../daemon/worker/program.ts";
import { beginRun } from "../../daemon/worker/run.ts";
import { assemble, filterFor } from "../../daemon/worker/seccomp.ts";
import { NO_SANDBOX } from "../support/worker-host.ts";

/** Runs in this very process, with a cgroup that is none: when the command begins is what is looked at. */
describe.skipIf(NO_SANDBOX !== "")("a run with a cgroup", { timeout: 20_000 }, () => {
  let base: string;
  let workspace: string;
  beforeAll(() => {
    base = mkdtempSync(join(tmpdir(), "boundary-held-"));
    chmodSync(base, 0o755);
    workspace = join(base, "work");
    mkdirSync(workspace);
  });
  afterAll(() => rmSync(base, { recursive: true, force: true }));

  const kit: Kit = {
    host: { roots: readRoots(), uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 },
    filter: assemble(filterFor(process.arch === "arm64" ? "arm64" : "x64")),
    programs: createProgramOpener(),
    bridge: null,
  };
  const order = (argv: readonly string[]): RunOrder => ({
    v: 1,
    id: randomBytes(16).toString("hex"),
    boot: "01234567-89ab-cdef-0123-456789abcdef",
    notAfterMs: 0,
    argv,
    program: { path: "/usr/bin/echo", sha256: hash("sha256", readFileSync("/usr/bin/echo"), "hex") },
    cwd: workspace,
    workspace,
    environment: [],
    profile: "p",
    mode: "OPEN",
    network: "none",
    proxySocket: "",
    readable: [
      "/etc/os-release",
      "/etc/hostname",
      "/proc/cpuinfo",
      "/usr/share",
      join(workspace, "x"),
      "/none",
    ],
    stdinDigest: hash("sha256", "", "hex"),
    limits: { timeoutMs: 5_000, graceMs: 100, outputBytes: 1_000, memoryBytes: 67_108_864, pids: 4, cpus: 1 },
  });

  async function runWith(group: Partial<RunCgroup>, make: () => void = () => {}, late = false) {
    const told: string[] = [];
    let ending: Ending | null = null;
    const cgroups: Cgroups = {
      ok: true,
      make: () => {
        make();
        return { add: () => {}, kill: () => {}, remove: () => true, ...group };
      },
    };
    const run = beginRun(order(["echo", "hello"]), Buffer.alloc(0), kit, cgroups, {
      started: () => told.push("started"),
      output: (_, chunk) => told.push(Buffer.from(chunk).toString("utf8")),
      ended: (how) => {
        told.push("ended");
        ending = how;
      },
      refused: (code, why) => told.push(`${code}: ${why}`),
      isLate: () => late,
    });
    await run.over;
    return { told, ending: ending as Ending | null };
  }

  test("begins when it is in its group, and not a moment before", async () => {
    let children = "not looked";
    let program = "";
    const { ending, told: heard } = await runWith({
      add: (pid) => {
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200); // it would have begun by now
        children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8");
        program = readFileSync(`/proc/${pid}/comm`, "utf8").trim();
      },
    });
    expect([children, program]).toEqual(["", "bwrap"]);
    expect(heard).toEqual(["started", "hello\n", "ended"]);
    expect(ending).toMatchObject({ exitCode: 0 });
  });

  test("that cannot be put into its group is killed before it begins", async () => {
    let killed = 0;
    const { told, ending } = await runWith({
      add: () => {
        throw new Error("no room");
      },
      kill: () => {
        killed += 1;
      },
    });
    expect(told).toEqual(["ended"]);
    expect(ending).toMatchObject({
      exitCode: null,
      signal: "SIGKILL",
      why: expect.stringContaining("no room"),
    });
    expect(killed).toBeGreaterThan(0);
  });

  test("whose group cannot be made is refused", async () => {
    const { told } = await runWith({}, () => {
      throw new Error("no tree");
    });
    expect(told).toEqual(["exec-spawn: no tree"]);
  });

  test("for which it is too late when everything was looked at is refused, and nothing is made", async () => {
    const open = () => readdirSync("/proc/self/fd").length;
    await runWith({});
    const before = open();
    let made = 0;
    const { told } = await runWith({}, () => made++, true);
    expect([told, made]).toEqual([
      ["exec-order: it was too late for it when its program had been looked at"],
      0,
    ]);
    expect(open()).toBe(before);
  });

  test.each([
    [
      "other bytes in it",
      0o775,
      (path: string, other: string) => writeFileSync(path, readFileSync(other)),
      true,
    ],
    // a file that has no name any more cannot be mounted: then nothing runs
    ["another file in its place", 0o755, (path: string, other: string) => renameSync(other, path), false],
    ["nothing there any more", 0o755, (path: string) => rmSync(path), false],
  ])(
    "runs what was hashed or nothing, with %s between the look and the run",
    async (_, mode, change, runs) => {
      const [path, other] = [join(base, "judged"), join(base, "other")];
      for (const [at, source] of [
        [path, "/usr/bin/echo"],
        [other, "/usr/bin/id"],
      ] as const) {
        rmSync(at, { force: true });
        copyFileSync(source, at);
        chmodSync(at, mode);
      }
      const program = { path, sha256: hash("sha256", readFileSync(path), "hex") };
      const told: string[] = [];
      let looked = 0;
      const changing: Kit = {
        ...kit,
        programs: {
          open: async (asked) => {
            const found = await kit.programs.open(asked);
            change(path, other);
            looked++;
            return found;
          },
        },
      };
      const run = beginRun(
        { ...order(["judged", "the judged one"]), program },
        Buffer.alloc(0),
        changing,
        { ok: false, why: "" },
        {
          started: () => told.push("started"),
          output: (__, chunk) => told.push(Buffer.from(chunk).toString("utf8")),
          ended: ({ exitCode }) => told.push(`ended ${exitCode}`),
          refused: (code, why) => told.push(`${code}: ${why}`),
          isLate: () => false,
        },
      );
      await run.over;
      expect([looked, told.at(-1)]).toEqual([1, runs ? "ended 0" : "ended null"]);
      expect(told.includes("the judged one\n")).toBe(runs);
      expect(told.join()).not.toContain("uid=");
    },
  );

  test("waits until its group is empty enough to be removed", async () => {
    let asked = 0;
    await runWith({ remove: () => ++asked === 3 });
    expect(asked).toBe(3);
  });

  test("is over also where its group never goes", async () => {
    let asked = 0;
    const { told } = await runWith({
      remove: () => {
        asked++;
        return false;
      },
    });
    expect(told).toEqual(["started", "hello\n", "ended"]);
    expect(asked).toBe(50);
  });

  test("says what bwrap said where the sandbox cannot be made", async () => {
    const broken: Kit = { ...kit, filter: Buffer.from("no filter") };
    const told: string[] = [];
    const run = beginRun(
      order(["echo"]),
      Buffer.alloc(0),
      broken,
      { ok: false, why: "" },
      {
        started: () => told.push("started"),
        output: () => {},
        ended: ({ exitCode, why }) => told.push(`ended ${exitCode} ${why}`),
        refused: (code, why) => told.push(`${code}: ${why}`),
        isLate: () => false,
      },
    );
    await run.over;
    expect(told.at(-1)).toMatch(
      /^exec-spawn: the sandbox could not be made: bwrap: |^ended null the command could not be started/,
    );
  });
});
