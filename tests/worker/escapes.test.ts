import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { memoryFile } from "../../daemon/worker/kernel.ts";
import { BUBBLEWRAP } from "../../daemon/worker/launch.ts";
import { openOwnFiles } from "../../daemon/worker/prepare.ts";
import { readRoots } from "../../daemon/worker/probe.ts";
import { OPTIONS_FD, renderOptions, sandboxOptions } from "../../daemon/worker/sandbox-args.ts";
import { assemble } from "../../daemon/worker/seccomp.ts";
import {
  asWorker,
  type Link,
  NO_SANDBOX,
  startWorker,
  UID,
  type WorkerHost,
} from "../support/worker-host.ts";

/**
 * Ways out of the sandbox, each tried for real, from inside, by tests/worker/inside/escapes.py: against the worker as it is, and
 * (where the namespaces have to hold by themselves) without the filter of system calls.
 */
const SCRIPT = join(import.meta.dirname, "inside/escapes.py");
const ROOT = process.getuid?.() === 0;
const ALLOW_ALL = assemble([[0x06, 0, 0, 0x7fff_0000]]);

type Said = Readonly<Record<string, string | number | readonly string[]>>;

describe.skipIf(NO_SANDBOX !== "" || !ROOT)(
  "out of the sandbox (needs root and bubblewrap)",
  { timeout: 30_000 },
  () => {
    let host: WorkerHost;
    let link: Link;
    /** Outside, of the very user that commands run as: nothing but the namespaces is between it and them. */
    let victim: ChildProcess;
    let control: Server;
    let abstract: Server;
    let facts: object;
    beforeAll(async () => {
      host = await startWorker();
      link = await host.link();
      const [command = "", ...args] = asWorker(["/usr/bin/sleep", "600"]);
      victim = spawn(command, args, { stdio: "ignore" });
      const secret = join(host.path, "secret");
      writeFileSync(secret, "the host's own", { mode: 0o644 });
      writeFileSync(join(host.workspace, "escapes.py"), readFileSync(SCRIPT));
      const answer = (server: Server, at: string) =>
        new Promise<void>((resolve) => server.listen(at, () => resolve()));
      control = createServer((socket) => socket.end("reached"));
      abstract = createServer((socket) => socket.end("reached"));
      const socket = join(host.path, "run/control.sock");
      await answer(control, socket);
      chmodSync(socket, 0o666);
      await answer(abstract, "\0boundary-escapes");
      facts = {
        pids: { [process.pid]: "daemon", [host.pid]: "worker", [String(victim.pid)]: "victim" },
        secret,
        workspace: host.workspace,
        daemonUid: process.getuid?.(),
        sockets: [
          socket,
          host.socketPath,
          "@boundary-escapes",
          "/run/boundary-daemon/control.sock",
          "/run/boundary-daemon/decide.sock",
          "/run/boundary-daemon-worker/worker.sock",
          "/run/systemd/notify",
          "/run/systemd/private",
          "/run/dbus/system_bus_socket",
          "/var/run/docker.sock",
        ],
      };
    });
    afterAll(async () => {
      victim.kill("SIGKILL");
      control.close();
      abstract.close();
      await host.stop();
    });

    const inside = async (what: string, more: Parameters<Link["run"]>[1] = {}): Promise<Said> => {
      const argv = ["python3", "-B", `${host.workspace}/escapes.py`, what];
      const { stdout, stderr } = await link.run(argv, {
        stdin: JSON.stringify({ ...facts, filtered: true }),
        environment: [["PATH", "/usr/bin"]],
        ...more,
      });
      expect(stderr).toBe("");
      return JSON.parse(stdout) as Said;
    };
    /** As the worker makes it, but for the filter, and without the worker's look at the program. */
    const unfiltered = (what: string): Said => {
      const open: number[] = [];
      try {
        const layout = { roots: readRoots(), uid: UID, gid: UID };
        const own = openOwnFiles({ host: layout, filter: ALLOW_ALL }, open);
        const workspace = openSync(host.workspace, "r");
        open.push(workspace);
        const { options, descriptors } = sandboxOptions({
          host: layout,
          mounts: [...own.mounts, { fd: workspace, path: host.workspace, how: "bind" }],
          links: [],
          cwd: host.workspace,
          environment: [["PATH", "/usr/bin"]],
          seccompFd: own.seccompFd,
          memoryBytes: 67_108_864,
          holdFd: null,
        });
        const optionsFd = memoryFile("options", renderOptions(options));
        open.push(optionsFd);
        const command = ["/usr/bin/python3", "-B", `${host.workspace}/escapes.py`, what];
        const [first = "", ...args] = asWorker([BUBBLEWRAP, "--args", String(OPTIONS_FD), "--", ...command]);
        const ran = spawnSync(first, args, {
          stdio: ["pipe", "pipe", "pipe", "pipe", optionsFd, ...descriptors],
          input: JSON.stringify({ ...facts, filtered: false }),
          encoding: "utf8",
          env: {},
          cwd: "/",
          timeout: 20_000,
        });
        expect(ran.stderr).toBe("");
        return JSON.parse(ran.stdout) as Said;
      } finally {
        for (const fd of open) closeSync(fd);
      }
    };
    const got = (said: Said) => Object.entries(said).filter(([, what]) => String(what).startsWith("GOT"));
    const all = (said: Said, names: RegExp) => {
      const chosen = Object.entries(said).filter(([name]) => names.test(name));
      expect(chosen.length).toBeGreaterThan(0);
      return [...new Set(chosen.map(([, what]) => what))];
    };
    const OUTSIDE = /(?:daemon|worker|victim)$/;
    /** What nobody outside has felt of it. */
    const unharmed = () => {
      for (const pid of [host.pid, victim.pid])
        expect(readFileSync(`/proc/${pid}/status`, "utf8")).not.toMatch(/^State:\s+[ZXtT]/m);
      expect(existsSync(`/proc/${process.pid}`)).toBe(true);
    };

    test("by ptrace, or the memory of another process", async () => {
      const said = await inside("ptrace");
      expect(all(said, /^(?:attach|seize|read memory|same file) /)).toEqual(["EPERM"]);
      expect(all(said, /^open memory (?:daemon|worker|victim)/)).toEqual(["ENOENT"]);
      expect(got(said).filter(([name]) => OUTSIDE.test(name))).toEqual([]);
      const without = unfiltered("ptrace");
      expect(all(without, /^(?:attach|seize|read memory|same file) (?:daemon|worker|victim)/)).toEqual([
        "ESRCH",
      ]);
      expect(got(without).filter(([name]) => OUTSIDE.test(name))).toEqual([]);
      unharmed();
    });

    test.each([
      ["as it is", inside],
      ["without the filter", unfiltered],
    ])("by /proc/self/root, what others have open, links and moved directories (%s)", async (_, way) => {
      const said = await way("roots");
      expect(said["descriptors of all processes"]).toBe("nothing");
      expect(got(said)).toEqual([]);
      expect(Object.keys(said).length).toBeGreaterThan(15);
    });

    test.each([
      ["as it is", inside],
      ["without the filter", unfiltered],
    ])("by namespaces, users' above all (%s)", async (_, way) => {
      const said = await way("namespaces");
      expect(got(said)).toEqual([]);
      expect(["EPERM", "ENOSPC"]).toContain(said["unshare user"]);
      expect(all(said, /^setns user (?:daemon|worker|victim)/)).toEqual(["ENOENT"]);
    });

    test.each([
      ["as it is", inside],
      ["without the filter", unfiltered],
    ])("by becoming somebody else, or a set-user-id program of its own (%s)", async (_, way) => {
      const said = await way("setuid");
      expect(got(said)).toEqual([]);
      expect(said["uid"]).toBe(`${UID} ${UID}`);
      expect([String(UID), "EPERM"]).toContain(said["own set-user-id"]);
    });

    test.each([
      ["as it is", inside],
      ["without the filter", unfiltered],
    ])("by mounts and devices (%s)", async (_, way) => {
      const said = await way("mounts");
      expect(got(said)).toEqual([]);
      if (way === inside)
        expect(all(said, /^(?:u?mount|bind|remount|pivot|open_tree|fsopen)/)).toEqual(["EPERM"]);
    });

    test.each([
      ["as it is", inside],
      ["without the filter", unfiltered],
    ])("by cgroups (%s)", async (_, way) => {
      const said = await way("cgroups");
      expect(got(said)).toEqual([]);
      expect(said["seen"]).toEqual(["/"]);
    });

    test.each([
      ["as it is", inside],
      ["without the filter", unfiltered],
    ])("by signals to the daemon, the worker, or a process of its own user (%s)", async (_, way) => {
      const said = await way("signals");
      expect(all(said, /^(?:kill|kill group|tgkill|pidfd) (?:daemon|worker|victim)/)).toEqual(["ESRCH"]);
      expect(all(said, /^proc /)).toEqual(["ENOENT"]);
      // without the filter it can have what its own first process has open: the pipes that it has, too
      expect(got(said).filter(([name]) => way === inside || OUTSIDE.test(name))).toEqual([]);
      unharmed();
    });

    test("by the daemon's sockets, the worker's, the system's, or one of a family without them", async () => {
      const said = await inside("sockets");
      expect(got(said)).toEqual([]);
      expect(all(said, /^\//)).toEqual(["ENOENT"]);
      expect(said["@boundary-escapes"]).toBe("ECONNREFUSED");
    });

    test("by what the kernel has beside all that", async () => {
      const said = await inside("kernel");
      expect(got(said)).toEqual([]);
      expect(all(said, /^(?:io_uring_setup|bpf|perf_event_open|userfaultfd|keyctl|add_key)$/)).toEqual([
        "EPERM",
      ]);
    });

    test("by descriptors, handed to the proxy or by it: it takes none, and gives none", async () => {
      const path = join(host.path, "passing.sock");
      const proxy = createServer((socket) => {
        socket.on("error", () => undefined);
        socket.on("data", () => socket.end("said"));
      });
      await new Promise<void>((resolve) => proxy.listen(path, () => resolve()));
      chownSync(path, UID, UID);
      try {
        const before = readdirSync("/proc/self/fd").length;
        const said = await inside("passing", { network: "proxy", proxySocket: path });
        expect(said).toEqual({ answer: "said", "handed in": 0 });
        expect(readdirSync("/proc/self/fd").length).toBeLessThan(before + 20); // a thousand were sent
      } finally {
        proxy.close();
      }
    });
  },
);
