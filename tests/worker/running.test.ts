import { hash } from "node:crypto";
import {
  appendFileSync,
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { renderFrame } from "../../daemon/core/frames.ts";
import type { ToDaemon } from "../../daemon/worker/messages.ts";
import {
  asWorker,
  type Link,
  NO_SANDBOX,
  STRANGER,
  startWorker,
  UID,
  until,
  type WorkerHost,
} from "../support/worker-host.ts";

if (NO_SANDBOX !== "") console.log(`skipped: the worker with bubblewrap: ${NO_SANDBOX}`);

describe.skipIf(NO_SANDBOX !== "")("a worker with bubblewrap", { timeout: 30_000 }, () => {
  let host: WorkerHost;
  let link: Link;
  beforeAll(async () => {
    host = await startWorker();
    link = await host.link();
  });
  afterAll(() => host.stop());

  const python = (code: string) => ["python3", "-c", code];
  const refusal = (message: ToDaemon) => (message.kind === "refused" ? message.code : message.kind);

  describe("runs what was ordered", () => {
    test("and tells its output, its exit code and that it began", async () => {
      const { messages, last, stdout, stderr } = await link.run([
        "sh",
        "-c",
        "echo out; echo err >&2; exit 7",
      ]);
      expect([stdout, stderr]).toEqual(["out\n", "err\n"]);
      expect(messages[0]).toMatchObject({ kind: "started", sandbox: link.sandbox });
      expect(last).toMatchObject({
        kind: "ended",
        exitCode: 7,
        signal: null,
        timedOut: false,
        cancelled: false,
        truncated: { stdout: 0, stderr: 0 },
      });
    });

    test("with the stdin that was signed, all of it, and then its end", async () => {
      const stdin = Buffer.alloc(1_500_000, "0123456789abcdef\n");
      const { stdout } = await link.run(["sha256sum"], { stdin });
      expect(stdout).toBe(`${hash("sha256", stdin, "hex")}  -\n`);
    });

    test("also when the command does not read its stdin", async () => {
      expect((await link.run(["true"], { stdin: Buffer.alloc(1_000_000) })).last).toMatchObject({
        exitCode: 0,
      });
    });

    test("with exactly the environment of the order, and PWD", async () => {
      const { stdout } = await link.run(["env", "-0"], {
        environment: [
          ["A", "with = and\nnewline"],
          ["EMPTY", ""],
        ],
      });
      expect(stdout.split("\0").toSorted()).toEqual(
        ["", "A=with = and\nnewline", "EMPTY=", `PWD=${host.workspace}`].toSorted(),
      );
    });

    test("under the name that was judged", async () => {
      const path = "/usr/bin/python3.11";
      const sha256 = hash("sha256", readFileSync("/usr/bin/python3"), "hex");
      const { stdout } = await link.run(["/nowhere/snake", "-c", "import sys; print(sys.orig_argv[0])"], {
        program: { path: realPython(path), sha256 },
      });
      expect(stdout.trim().endsWith("/snake")).toBe(true);
    });

    test("with descriptors 0, 1 and 2 and no others, which are pipes", async () => {
      const { stdout } = await link.run(
        python(
          "import os\nfor n in os.listdir('/proc/self/fd'):\n  try: print(n, os.readlink('/proc/self/fd/'+n)[:5])\n  except OSError: pass",
        ),
      );
      const open = stdout.trim().split("\n").toSorted();
      expect(open.map((line) => line.split(" ")[0])).toEqual(["0", "1", "2"]);
      expect(open.every((line) => line.endsWith("pipe:"))).toBe(true);
      expect((await link.run(["sh", "-c", "echo again >/dev/stdout"])).stdout).toBe("again\n");
    });

    test("in a directory of the workspace, which it can write", async () => {
      mkdirSync(join(host.workspace, "sub"));
      chownSync(join(host.workspace, "sub"), UID, UID);
      const { stdout } = await link.run(["sh", "-c", "pwd; echo text >made"], {
        cwd: join(host.workspace, "sub"),
      });
      expect(stdout).toBe(`${host.workspace}/sub\n`);
      expect(readFileSync(join(host.workspace, "sub/made"), "utf8")).toBe("text\n");
    });

    test("through a link that stays in the workspace, by the path behind it", async () => {
      symlinkSync("sub", join(host.workspace, "inward"));
      const { stdout } = await link.run(["pwd", "-P"], { cwd: join(host.workspace, "inward") });
      expect(stdout).toBe(`${host.workspace}/sub\n`);
    });

    test("with what may be read beside the workspace, read-only", async () => {
      const data = join(host.path, "data");
      mkdirSync(data);
      writeFileSync(join(data, "file"), "beside");
      chownSync(data, UID, UID);
      const command = ["sh", "-c", `cat ${data}/file; echo x >${data}/made`];
      expect((await link.run(command)).stdout).toBe("");
      const { stdout, stderr } = await link.run(command, { readable: [data] });
      expect(stdout).toBe("beside");
      expect(stderr).toContain("Read-only file system");
    });

    test("a program that is not root's, as a copy of what was hashed", async () => {
      const own = host.install("/usr/bin/printf", "own-printf");
      expect((await link.run([own, "%s", "mine"])).stdout).toBe("mine");
    });

    test("a script of the workspace, which finds itself there", async () => {
      const script = join(host.workspace, "script.sh");
      writeFileSync(script, '#!/bin/sh\necho "$0"\n', { mode: 0o755 });
      expect((await link.run([script])).stdout).toBe(`${script}\n`);
    });

    const HONEST: readonly (readonly [argv: readonly string[], stdout: RegExp])[] = [
      [
        [
          "sh",
          "-c",
          "git init -q repo && cd repo && git -c user.name=a -c user.email=a@b commit --allow-empty -qm first && git log --format=%s",
        ],
        /^first$/m,
      ],
      [
        [
          process.execPath,
          "-e",
          "new (require('worker_threads').Worker)('1', {eval: true}); console.log(os.userInfo().username)",
        ],
        /^sandbox$/m,
      ],
      [
        python(
          "import ssl, multiprocessing; ssl.create_default_context(); print(multiprocessing.Pool(2).map(abs, [-1, 2]))",
        ),
        /^\[1, 2\]$/m,
      ],
      [
        [
          "sh",
          "-c",
          "echo 'int main(){return 0;}' >a.c && cc a.c -o a.out && ./a.out && tar cf a.tar a.c && echo built",
        ],
        /^built$/m,
      ],
    ];
    test.each(HONEST)("what developers run: %j", async (argv, wanted) => {
      const path = [
        ["PATH", "/usr/bin"],
        ["HOME", "/tmp"],
      ] as const;
      const limits = { memoryBytes: 536_870_912, pids: 64, timeoutMs: 20_000 };
      const { stdout, stderr, last } = await link.run(argv, { environment: path, limits });
      expect(stderr).toBe("");
      expect(stdout).toMatch(wanted);
      expect(last).toMatchObject({ exitCode: 0 });
    });

    test("several at once, each with its own output", async () => {
      const outcomes = await Promise.all(
        Array.from({ length: 8 }, (_, i) => link.run(["sh", "-c", `sleep 0.1; echo ${i}`])),
      );
      expect(outcomes.map(({ stdout }) => stdout)).toEqual(outcomes.map((_, i) => `${i}\n`));
    });
  });

  describe("refuses an order", () => {
    test("that was signed by somebody else", async () => {
      expect(refusal((await link.run(["true"], { by: STRANGER })).last)).toBe("exec-order");
    });

    test("that was used already, while it runs and afterwards", async () => {
      const signed = link.sign(link.order(["sleep", "0.3"]));
      const { id } = JSON.parse((signed as { order: string }).order) as { id: string };
      const seen: ToDaemon[] = [];
      const other = watchMessages(link, id, seen);
      link.send(signed);
      link.send(signed);
      await until(() => seen.some(({ kind }) => kind === "refused"));
      await until(() => seen.some(({ kind }) => kind === "ended"));
      link.send(signed);
      await until(() => seen.filter(({ kind }) => kind === "refused").length === 2);
      other();
      expect(seen.filter(({ kind }) => kind === "started")).toHaveLength(1);
    });

    test("of another boot", async () => {
      const boot = "00000000-0000-4000-8000-000000000000";
      expect(refusal((await link.run(["true"], { boot })).last)).toBe("exec-order");
    });

    test("that is too late, or would be good for too long", async () => {
      const now = link.order(["true"]).notAfterMs;
      for (const notAfterMs of [now - 5_100, now + 60_000])
        expect(refusal((await link.run(["true"], { notAfterMs })).last)).toBe("exec-order");
    });

    test("with another stdin than the signed one", async () => {
      const { last } = await link.run(["cat"], { stdin: "signed", sentStdin: Buffer.from("other") });
      expect(refusal(last)).toBe("exec-order");
    });

    test("whose program has changed since, whoever owns it and wherever it is", async () => {
      const own = host.install("/usr/bin/printf", "changed");
      const local = join(host.workspace, "changed.sh");
      writeFileSync(local, "#!/bin/sh\n", { mode: 0o755 });
      for (const path of [own, local]) {
        const sha256 = hash("sha256", readFileSync(path), "hex");
        appendFileSync(path, "\n");
        expect(refusal((await link.run([path], { program: { path, sha256 } })).last)).toBe("exec-order");
      }
      const program = { path: "/usr/bin/dash", sha256: "0".repeat(64) };
      for (const _ of [1, 2]) expect(refusal((await link.run(["sh"], { program })).last)).toBe("exec-order");
    });

    test("whose program is a link by now, a directory or no program", async () => {
      const own = host.install("/usr/bin/printf", "moved");
      const sha256 = hash("sha256", readFileSync(own), "hex");
      renameSync(own, `${own}.there`);
      symlinkSync(`${own}.there`, own);
      expect(refusal((await link.run(["/nowhere/x"], { program: { path: own, sha256 } })).last)).toBe(
        "exec-order",
      );
      chmodSync(`${own}.there`, 0o644);
      for (const path of [`${own}.there`, "/usr/bin", `${own}.none`])
        expect(refusal((await link.run(["/nowhere/x"], { program: { path, sha256 } })).last)).toBe(
          "exec-order",
        );
    });

    test("whose working directory leads out of the workspace", async () => {
      symlinkSync("/usr", join(host.workspace, "outward"));
      symlinkSync("..", join(host.workspace, "upward"));
      symlinkSync("/proc/self/root", join(host.workspace, "magic"));
      for (const name of ["outward", "upward", "upward/work", "magic", "none", "script.sh"]) {
        const { last } = await link.run(["pwd"], { cwd: join(host.workspace, name) });
        expect([name, refusal(last)]).toEqual([name, "exec-cwd"]);
      }
    });

    test("whose workspace is a link, is not there, or is the system's", async () => {
      symlinkSync(host.workspace, join(host.path, "alias"));
      for (const workspace of [
        join(host.path, "alias"),
        join(host.path, "none"),
        "/etc",
        "/usr/share",
        "/tmp",
        "/run/user",
      ]) {
        const { last } = await link.run(["pwd"], { workspace, cwd: workspace });
        expect([workspace, refusal(last)]).toEqual([workspace, "exec-cwd"]);
      }
    });

    test("when as many run as may", async () => {
      const small = await startWorker(["--max-runs=2"]);
      try {
        const one = await small.link();
        const running = [one.begin(["sleep", "5"]), one.begin(["sleep", "5"])];
        expect(refusal((await one.run(["true"])).last)).toBe("exec-unavailable");
        for (const { id } of running) one.send({ kind: "end", id, why: "enough" });
        await Promise.all(running.map(({ over }) => over));
        expect((await one.run(["true"])).last).toMatchObject({ exitCode: 0 });
      } finally {
        await small.stop();
      }
    });
  });

  describe("ends a run", () => {
    test("whose time is up, with TERM", async () => {
      const { last } = await link.run(["sleep", "30"], { limits: { timeoutMs: 200, graceMs: 5_000 } });
      expect(last).toMatchObject({ exitCode: null, signal: "SIGTERM", timedOut: true, cancelled: false });
      expect(last.kind === "ended" && last.durationMs).toBeLessThan(2_000);
    });

    test("that cleans up after TERM, with the code that it gives", async () => {
      const { last, stdout } = await link.run(
        ["sh", "-c", "trap 'echo bye; exit 9' TERM; while :; do sleep 0.05; done"],
        { limits: { timeoutMs: 300, graceMs: 5_000 } },
      );
      expect(stdout).toBe("bye\n");
      expect(last).toMatchObject({ exitCode: 9, signal: null, timedOut: true });
    });

    test("that ignores TERM, with KILL after the grace, and nothing of it is left", async () => {
      const mark = "31415.9265";
      const { last } = await link.run(
        [
          "sh",
          "-c",
          `trap '' TERM; sleep ${mark} & (trap '' TERM; sleep ${mark}) & while :; do sleep 0.1; done`,
        ],
        { limits: { timeoutMs: 300, graceMs: 400 } },
      );
      expect(last).toMatchObject({ exitCode: null, signal: "SIGKILL", timedOut: true });
      expect(last.kind === "ended" && last.durationMs).toBeGreaterThanOrEqual(690);
      expect(processesWith(mark)).toEqual([]);
    });

    test("by TERM to the whole tree, also to what lost its parent", async () => {
      const trap = "trap 'echo told; exit' TERM; while :; do sleep 0.05; done";
      const { stdout } = await link.run(
        ["sh", "-c", `(setsid sh -c "${trap}" &) ; sh -c "${trap}" & trap : TERM; echo up; wait; sleep 0.3`],
        { limits: { timeoutMs: 800, graceMs: 1_000 } },
      );
      expect(stdout.split("\n").filter((line) => line === "told")).toHaveLength(2);
    });

    test("that never reads its stdin, which is more than a pipe holds", async () => {
      const { last } = await link.run(["sleep", "30"], {
        stdin: Buffer.alloc(1_000_000),
        limits: { timeoutMs: 300, graceMs: 200 },
      });
      expect(last).toMatchObject({ kind: "ended", timedOut: true, signal: "SIGTERM" });
    });

    test("that leaves its session, its parent and its group again and again, ignoring TERM", async () => {
      const mark = "1414.2135";
      const away = `trap '' TERM; for i in 1 2 3 4; do (setsid sh -c "trap '' TERM; (sleep ${mark} &) & sleep ${mark} & wait" &) & done; sleep ${mark}`;
      const { last } = await link.run(["sh", "-c", away], { limits: { timeoutMs: 500, graceMs: 200 } });
      expect(last).toMatchObject({ signal: "SIGKILL", timedOut: true });
      expect(processesWith(mark)).toEqual([]);
      await until(() => childrenOf(host.pid).length === 0);
    });

    test("whose grandchild holds the pipe, when the command itself has ended", async () => {
      const mark = "2718.2818";
      const { last, stdout } = await link.run(["sh", "-c", `setsid sleep ${mark} & echo done`]);
      expect(stdout).toBe("done\n");
      expect(last).toMatchObject({ exitCode: 0, timedOut: false });
      expect(last.kind === "ended" && last.durationMs).toBeLessThan(3_000);
      expect(processesWith(mark)).toEqual([]);
    });

    test("that the daemon cancels, and says why", async () => {
      const run = link.begin(["sh", "-c", "echo up; sleep 30"]);
      await link.said(run.id, "up");
      link.send({ kind: "end", id: run.id, why: "the mode is LOCKDOWN" });
      expect((await run.over).last).toMatchObject({
        cancelled: true,
        timedOut: false,
        signal: "SIGTERM",
        why: "the mode is LOCKDOWN",
      });
    });

    test("that is cancelled at once, whatever it has come to", async () => {
      const run = link.begin(["sleep", "30"]);
      link.send({ kind: "end", id: run.id, why: "no" });
      expect((await run.over).last).toMatchObject({ kind: "ended", cancelled: true });
    });

    test("and passes over an end for what is not there", async () => {
      link.send({ kind: "end", id: "0".repeat(32), why: "no" });
      expect((await link.run(["true"])).last).toMatchObject({ exitCode: 0 });
    });
  });

  describe("bounds output", () => {
    test("of each stream, counts what it drops, and the command comes to its end", async () => {
      const flood = "head -c 3000000 /dev/zero; head -c 2000000 /dev/zero >&2";
      const { last, stdout, stderr } = await link.run(["sh", "-c", flood], {
        limits: { outputBytes: 10_000 },
      });
      expect([stdout.length, stderr.length]).toEqual([10_000, 10_000]);
      expect(last).toMatchObject({ exitCode: 0, truncated: { stdout: 2_990_000, stderr: 1_990_000 } });
    });

    test("of a command that never ends, until its time is up", async () => {
      const { last, stdout } = await link.run(["sh", "-c", "yes >&2 & exec yes"], {
        limits: { outputBytes: 1_000, timeoutMs: 400, graceMs: 100 },
      });
      expect(stdout).toHaveLength(1_000);
      expect(last).toMatchObject({ timedOut: true });
      expect(last.kind === "ended" && last.truncated.stderr).toBeGreaterThan(1_000);
    });

    test("when nobody reads: the commands wait, the worker's memory stays, and all of it comes in the end", async () => {
      const own = await startWorker();
      try {
        const one = await own.link();
        const before = residentKib(own.pid);
        one.socket.pause();
        const runs = Array.from({ length: 8 }, () =>
          one.begin(["sh", "-c", "head -c 1048576 /dev/zero; head -c 1048576 /dev/zero >&2"], {
            limits: { outputBytes: 1_048_576, timeoutMs: 20_000 },
          }),
        );
        await new Promise((resolve) => setTimeout(resolve, 1_500));
        expect(residentKib(own.pid) - before).toBeLessThan(40_000);
        one.socket.resume();
        for (const { over } of runs) {
          const { stdout, stderr, last } = await over;
          expect([stdout.length, stderr.length]).toEqual([1_048_576, 1_048_576]);
          expect(last).toMatchObject({ exitCode: 0, truncated: { stdout: 0, stderr: 0 } });
        }
      } finally {
        await own.stop();
      }
    });
  });

  describe("holds on to its connection", () => {
    test("when it ends, so does everything that runs, and the next one finds a worker at rest", async () => {
      const own = await startWorker();
      const mark = "1618.0339";
      try {
        const one = await own.link();
        const runs = Array.from({ length: 3 }, () =>
          one.begin(["sh", "-c", `trap '' TERM; setsid sleep ${mark} & echo up; sleep ${mark}`]),
        );
        for (const { id } of runs) await one.said(id, "up");
        for (const { over } of runs) over.catch(() => undefined);
        expect(processesWith(mark).length).toBeGreaterThanOrEqual(6);
        await one.end();
        await until(() => processesWith(mark).length === 0);
        await until(() => childrenOf(own.pid).length === 0);
        await new Promise((resolve) => setTimeout(resolve, 50));
        const two = await own.link();
        expect((await two.run(["echo", "again"])).stdout).toBe("again\n");
      } finally {
        await own.stop();
      }
    });

    test("when the worker is asked to stop, it ends what runs, takes its socket away, and says so by its exit", async () => {
      const own = await startWorker();
      const mark = "6931.4718";
      const one = await own.link();
      const run = one.begin(["sh", "-c", `trap '' TERM; setsid sleep ${mark} & echo up; sleep ${mark}`]);
      run.over.catch(() => undefined);
      await one.said(run.id, "up");
      expect(await own.kill("SIGTERM")).toBe(0);
      expect(processesWith(mark)).toEqual([]);
      expect(existsSync(own.socketPath)).toBe(false);
      await own.stop();
    });

    test("when the worker is killed, everything that runs dies with it", async () => {
      const own = await startWorker();
      const mark = "5772.1566";
      const one = await own.link();
      const run = one.begin(["sh", "-c", `setsid sleep ${mark} & echo up; sleep ${mark}`]);
      run.over.catch(() => undefined);
      await one.said(run.id, "up");
      expect(processesWith(mark).length).toBeGreaterThan(0);
      await own.kill("SIGKILL");
      await until(() => processesWith(mark).length === 0);
      await own.stop();
    });

    test("whatever a run has come to when the connection ends, or the worker: nothing of it stays", async () => {
      const mark = "8346.2684";
      for (const how of ["connection", "worker"] as const) {
        let own = await startWorker();
        for (let delayMs = 0; delayMs <= 48; delayMs += how === "worker" ? 12 : 3) {
          const one = await own.link();
          const run = one.begin(["sh", "-c", `setsid sleep ${mark} & sleep ${mark}`]);
          run.over.catch(() => undefined);
          await new Promise((resolve) => setTimeout(resolve, delayMs));
          if (how === "connection") await one.end();
          else {
            await own.kill("SIGKILL");
            await own.stop();
            own = await startWorker(); // which ends what was left, where bwrap had not come to tying it to its parent
          }
          await until(() => processesWith(mark).length === 0 && childrenOf(own.pid).length === 0);
        }
        await own.stop();
      }
      expect(processesWith(mark)).toEqual([]);
    });

    test("and takes no second one", async () => {
      const other = connect({ path: host.socketPath });
      const closed = new Promise((resolve) => other.once("close", resolve));
      other.on("error", () => {});
      await closed;
      expect((await link.run(["true"])).last).toMatchObject({ exitCode: 0 });
    });

    test.skipIf(process.getuid?.() !== 0)("and none of another user, the worker's own included", async () => {
      const own = await startWorker();
      try {
        const code = `import socket\ns=socket.socket(socket.AF_UNIX)\ns.connect("${own.socketPath}")\ns.settimeout(5)\nprint(s.recv(9))`;
        const [command = "", ...args] = asWorker(["/usr/bin/python3", "-c", code]);
        const { spawn } = await import("node:child_process");
        const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
        let said = "";
        child.stdout.on("data", (chunk: Buffer) => (said += chunk.toString("utf8")));
        child.stderr.on("data", (chunk: Buffer) => (said += chunk.toString("utf8")));
        await new Promise((resolve) => child.once("close", resolve));
        expect(said).toMatch(/b''|reset/);
        await until(() => own.lines.some((line) => line.includes(`user ${UID} is not the daemon`)));
      } finally {
        await own.stop();
      }
    });

    const FAULTS: readonly (readonly [what: string, bytes: Buffer])[] = [
      ["a frame that is too large", Buffer.from([0xff, 0xff, 0xff, 0xff])],
      ["an empty frame", Buffer.from([0, 0, 0, 0])],
      ["no JSON", Buffer.from([0, 0, 0, 1, 0x7b])],
      ["an order before hello", renderFrame({ kind: "run", order: "{}", signature: "", stdin: "" })],
      ["a message that is not known", renderFrame({ kind: "shell", command: "true" })],
      ["a key that is none", renderFrame({ kind: "hello", publicKey: "AAAA" })],
    ];
    test("which it ends over what the daemon may not send", async () => {
      const own = await startWorker();
      try {
        for (const [what, bytes] of FAULTS) {
          const socket = connect({ path: own.socketPath });
          const closed = new Promise((resolve) => socket.once("close", resolve));
          socket.on("error", () => {});
          socket.write(bytes);
          await closed;
          await new Promise((resolve) => setTimeout(resolve, 20));
          expect(what).toBeTruthy();
        }
        const one = await own.link();
        expect((await one.run(["true"])).last).toMatchObject({ exitCode: 0 });
        one.send({ kind: "hello", publicKey: "AAAA" });
        await one.closed;
      } finally {
        await own.stop();
      }
    });
  });

  test("a command with a proxy reaches its socket through the bridge, and nothing else", async () => {
    const path = join(host.path, "proxy.sock");
    const server = createServer((socket) => {
      socket.on("data", () => socket.end("the proxy\n"));
      socket.on("error", () => {});
    });
    await new Promise<void>((resolve) => server.listen(path, () => resolve()));
    chownSync(path, UID, UID);
    try {
      const { stdout, stderr, last } = await link.run(
        ["sh", "-c", 'echo "$PROXY_SAYS"; ls /sys/class/net 2>&1; cat /proc/net/dev | wc -l'],
        {
          network: "proxy",
          proxySocket: path,
          environment: [["PATH", "/usr/bin"]],
        },
      );
      expect(stderr).toBe("");
      expect(stdout.split("\n")[0]).toBe("the proxy");
      expect(stdout.trim().endsWith("3")).toBe(true); // two lines of heading, and lo
      expect(last).toMatchObject({ exitCode: 0 });
    } finally {
      server.close();
    }
    const { last } = await link.run(["true"], {
      network: "proxy",
      proxySocket: join(host.path, "none.sock"),
    });
    expect(refusal(last)).toBe("exec-isolation");
  });

  test("leaves no process behind, and no descriptor open, after all of that", async () => {
    await until(() => childrenOf(host.pid).length === 0);
    const open = readdirSync(`/proc/${host.pid}/fd`).length;
    for (let i = 0; i < 5; i++) await link.run(["true"]);
    await until(() => childrenOf(host.pid).length === 0);
    expect(readdirSync(`/proc/${host.pid}/fd`).length).toBe(open);
  });
});

function realPython(fallback: string): string {
  return (
    readdirSync("/usr/bin")
      .filter((name) => /^python3\.\d+$/.test(name))
      .map((name) => `/usr/bin/${name}`)[0] ?? fallback
  );
}

/** Hears what the worker says of a run, beside the link's own ear. */
function watchMessages(link: Link, id: string, into: ToDaemon[]): () => void {
  const seen = new Set<ToDaemon>();
  const timer = setInterval(() => {
    for (const one of link.about(id)) {
      if (!seen.has(one)) into.push(one);
      seen.add(one);
    }
  }, 5);
  return () => clearInterval(timer);
}

/** Pids of processes with this in their command line. */
function processesWith(mark: string): readonly number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .map(Number)
    .filter((pid) => textOf(`/proc/${pid}/cmdline`).includes(mark));
}

function childrenOf(pid: number): readonly string[] {
  return textOf(`/proc/${pid}/task/${pid}/children`)
    .split(" ")
    .filter((text) => text !== "");
}

function residentKib(pid: number): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(textOf(`/proc/${pid}/status`))?.[1]);
}

function textOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return ""; // it has ended
  }
}
