import { spawn } from "node:child_process";
import { chmodSync, existsSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { numberOf, refusedNames } from "../../daemon/worker/seccomp.ts";
import {
  type Asked,
  type Link,
  NO_SANDBOX,
  startWorker,
  until,
  type WorkerHost,
} from "../support/worker-host.ts";

const NO_COMPILER = ["/usr/bin/cc"].every((path) => existsSync(path)) ? "" : "there is no cc";
const ARCH = process.arch === "arm64" ? "arm64" : "x64";
const ERRNO = {
  EPERM: 1,
  EINVAL: 22,
  ENOTTY: 25,
  ENOSYS: 38,
  EPROTONOSUPPORT: 93,
  EAFNOSUPPORT: 97,
} as const;

describe.skipIf(NO_SANDBOX !== "")("inside the sandbox", { timeout: 30_000 }, () => {
  let host: WorkerHost;
  let link: Link;
  beforeAll(async () => {
    host = await startWorker();
    link = await host.link();
  });
  afterAll(() => host.stop());

  const shell = async (line: string, asked: Asked = {}) =>
    (
      await link.run(["sh", "-c", `exec 2>&1; ${line}`], {
        environment: [["PATH", "/usr/sbin:/usr/bin"]],
        ...asked,
      })
    ).stdout;

  test("the worker says what holds, and that there is no cgroup where there is none", () => {
    const { namespaces, seccomp, readOnlyRoot, cgroup, missing } = link.sandbox;
    expect([namespaces, seccomp, readOnlyRoot]).toEqual([true, true, true]);
    expect(missing.length).toBe(cgroup ? 0 : 1);
  });

  test("no file outside of the workspace and the places in memory can be written", async () => {
    const said = await shell(
      "for d in / /usr /usr/bin /etc /bin /dev /proc /proc/sys/kernel /sys /var /home/../root /opt; do echo x >$d/made && echo WROTE $d; done; echo x >/etc/passwd && echo WROTE passwd",
    );
    expect(said).not.toContain("WROTE");
    expect(
      await shell("echo x >/tmp/a && echo x >/run/a && echo x >/home/a && echo x >/dev/shm/a && cat /tmp/a"),
    ).toBe("x\n");
    // in memory, and of that run alone
    expect(await shell("ls -A /tmp/a /run/a /home/a /dev/shm/a")).toMatch(/cannot access/);
  });

  test("of the host's files there are its programs and a few of /etc: no users, no keys, no homes", async () => {
    const said = await shell(
      "ls -A / ; ls -A /etc /run /home /var /sys /root /boot /srv /opt /mnt; cat /etc/shadow /etc/gshadow /etc/sudoers /etc/machine-id; getent passwd",
    );
    expect(said.split("\n").slice(0, 15)).toEqual(expect.arrayContaining(["bin", "etc", "usr", "proc"]));
    expect(said).toMatch(/\/etc\/shadow: No such file/);
    for (const name of ["/sys", "/root", "/boot", "/srv", "/mnt"])
      expect(said).toContain(`cannot access '${name}'`);
    expect(said).not.toContain("ssh");
    expect(said.match(/^[a-z]+:x:/gm)).toHaveLength(3);
    const kept = (await shell("ls -A /etc")).trim().split("\n");
    expect(kept).not.toEqual(expect.arrayContaining(["boundary-daemon"]));
  });

  test("a link out of the workspace leads to nothing of the host", async () => {
    const secret = join(host.path, "secret");
    writeFileSync(secret, "the host's", { mode: 0o644 });
    expect(await shell(`ln -s ${secret} ${host.workspace}/way; cat ${host.workspace}/way`)).toMatch(
      /No such file/,
    );
    expect(await shell(`cat ${host.workspace}/../secret; ls ${host.path}`)).not.toContain("the host's");
  });

  test("no process but its own is seen or can be signalled, the daemon's and the worker's least", async () => {
    const said = await shell(
      `for p in ${process.pid} ${host.pid} ${process.ppid}; do kill -9 $p && echo KILLED $p; ls /proc/$p; done; ls /proc | grep -c '^[0-9]'`,
    );
    expect(said).not.toContain("KILLED");
    expect(Number(said.trim().split("\n").at(-1))).toBeLessThan(8);
    const one = link.begin(["sh", "-c", "echo up; sleep 1; echo alive"]);
    await link.said(one.id, "up");
    await shell("kill -9 -1");
    expect((await one.over).stdout).toContain("alive");
    expect(readFileSync(`/proc/${host.pid}/status`, "utf8")).toContain("State:");
  });

  test("there is no network, no host's loopback, and none of the host's abstract sockets", async () => {
    const server = createServer((socket) => socket.end("reached\n"));
    const abstract = createServer((socket) => socket.end("reached\n"));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
    await new Promise<void>((resolve) => abstract.listen("\0boundary-worker-test", () => resolve()));
    const address = server.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    const code = `
import socket
def attempt(name, family, where):
  s = socket.socket(family)
  s.settimeout(2)
  try:
    s.connect(where); print(name, s.recv(9))
  except OSError as e: print(name, "refused", e.errno)
attempt("loopback", socket.AF_INET, ("127.0.0.1", ${port}))
attempt("far", socket.AF_INET, ("192.0.2.1", 80))
attempt("far6", socket.AF_INET6, ("2001:db8::1", 80))
attempt("abstract", socket.AF_UNIX, "\\0boundary-worker-test")
attempt("control", socket.AF_UNIX, "${host.socketPath}")
`;
    try {
      const { stdout } = await link.run(["python3", "-c", code]);
      expect(stdout.trim().split("\n")).toEqual([
        "loopback refused 111",
        "far refused 101",
        "far6 refused 101",
        "abstract refused 111",
        "control refused 2",
      ]);
      expect(await shell("cat /proc/net/dev | tail -n +3 | cut -d: -f1")).toBe("    lo\n");
    } finally {
      server.close();
      abstract.close();
    }
  });

  test("no socket of the host is visible anywhere", async () => {
    expect(await shell("find / -xdev -type s 2>/dev/null; find /run /tmp /dev /home -type s")).toBe("");
  });

  test("nobody is root, has a capability, or can gain one", async () => {
    const said = await shell(
      "id -u; grep -E '^(Cap|NoNewPrivs|Seccomp)' /proc/self/status; sudo true; su -c true; mount; umount /tmp",
    );
    expect(said).not.toMatch(/^0$/m);
    expect(said.match(/^Cap\w+:\s+0{16}$/gm)).toHaveLength(5);
    expect(said).toMatch(/^NoNewPrivs:\s+1$/m);
    expect(said).toMatch(/^Seccomp:\s+2$/m);
    expect(said.match(/^\S+ on \S+ type \S+ \(.*\)$/gm)?.filter((line) => !line.includes("nosuid"))).toEqual(
      [],
    );
  });

  test("a set-user-id program of the workspace runs as its caller", async () => {
    const path = host.install("/usr/bin/id", "set-id");
    const own = join(host.workspace, "set-id");
    writeFileSync(own, readFileSync(path), { mode: 0o755 });
    chmodSync(own, 0o4755); // of root, where the tests run as root
    expect(Number((await shell(`${own} -u`)).trim())).toBeGreaterThan(0);
  });

  test("no descriptor of the worker's is inherited", async () => {
    const before = readdirSync(`/proc/${host.pid}/fd`).map((fd) =>
      readlinkSync(`/proc/${host.pid}/fd/${fd}`),
    );
    expect(before.some((target) => target.startsWith("socket:"))).toBe(true);
    expect(
      (await shell("ls /proc/self/fd"))
        .trim()
        .split("\n")
        .map(Number)
        .toSorted((a, b) => a - b),
    ).toEqual([0, 1, 2, 3]); // 3 is of ls
    expect(await shell("ls -l /proc/1/fd | grep -c socket:")).toMatch(/^0$|denied/m);
  });

  test("nor one that the worker itself was started with", async () => {
    const other = await startWorker([], ["/usr/bin/bash", "-c", 'exec 77</etc/hostname; exec "$@"', "bash"]);
    try {
      expect(readlinkSync(`/proc/${other.pid}/fd/77`)).toContain("hostname");
      const { stdout } = await (await other.link()).run(["ls", "/proc/self/fd"]);
      expect(stdout.trim().split("\n")).toEqual(["0", "1", "2", "3"]);
    } finally {
      await other.stop();
    }
  });

  test("each of the first process' secrets is out of sight: its environment is empty, the options are not in its arguments", async () => {
    const said = await shell("cat /proc/1/environ; tr '\\0' ' ' </proc/1/cmdline", {
      environment: [["MARK", "seen-by-nobody"]],
    });
    expect(said).not.toContain("seen-by-nobody");
    const run = link.begin(["sh", "-c", "echo up; sleep 2"], { environment: [["MARK", "seen-by-nobody"]] });
    await link.said(run.id, "up");
    const lines = readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name))
      .map((pid) => (existsSync(`/proc/${pid}/cmdline`) ? readOrNothing(`/proc/${pid}/cmdline`) : ""));
    expect(lines.some((line) => line.includes("bwrap"))).toBe(true);
    expect(lines.some((line) => line.includes("seen-by-nobody"))).toBe(false);
    link.send({ kind: "end", id: run.id, why: "done" });
    await run.over;
  });

  test("files in memory are bounded", async () => {
    const limits = { memoryBytes: 8_388_608 };
    expect(await shell("head -c 20000000 /dev/zero >/tmp/big; stat -c %s /tmp/big", { limits })).toMatch(
      /No space left on device\n8388608/,
    );
  });

  describe.skipIf(NO_COMPILER !== "")("system calls", () => {
    let calls: string;
    let greedy: string;
    beforeAll(() => {
      calls = host.compile("calls");
      greedy = host.compile("greedy");
    });

    const results = async (args: readonly string[]): Promise<Readonly<Record<string, number>>> => {
      const { stdout } = await link.run([calls, ...args]);
      const lines = stdout.trim().split("\n");
      return Object.fromEntries(lines.map((line) => [line.split(" ")[0], Number(line.split(" ")[1])]));
    };

    test("that the filter names are all refused, and others are not", async () => {
      const names = refusedNames(ARCH);
      const numbers = names.map((name) => String(numberOf(ARCH, name)));
      const answers = await results(["numbers", ...numbers]);
      expect(Object.values(answers)).toEqual(numbers.map(() => ERRNO.EPERM));
      expect(names.length).toBeGreaterThan(60);
      const close = ARCH === "x64" ? "3" : "57";
      expect(await results(["numbers", close])).toEqual({ [close]: 9 }); // EBADF
    });

    test("are judged by their arguments: what makes namespaces, sockets, keystrokes, other personalities", async () => {
      const { EPERM, ENOSYS, EAFNOSUPPORT, EPROTONOSUPPORT, EINVAL, ENOTTY } = ERRNO;
      expect(await results([])).toEqual({
        ptrace: EPERM,
        "unshare-user": EPERM,
        "unshare-mount": EPERM,
        "clone-plain": 0,
        "clone-user": EPERM,
        "clone-pid": EPERM,
        clone3: ENOSYS,
        "socket-unix": 0,
        "socket-inet": 0,
        "socket-inet6": 0,
        "socket-raw": EINVAL,
        "socket-sctp": EPROTONOSUPPORT,
        "socket-netlink": EAFNOSUPPORT,
        "socket-packet": EAFNOSUPPORT,
        "socket-alg": EAFNOSUPPORT,
        "socket-vsock": EAFNOSUPPORT,
        tiocsti: EPERM,
        "tiocsti-high": EPERM,
        tioclinux: EPERM,
        "personality-ask": 0,
        "personality-fixed": EPERM,
        unknown: ENOSYS,
        ...(ARCH === "x64" ? { x32: EPERM } : {}),
        "setuid-root": EINVAL, // root has no number in the user namespace
        "kill-everyone": 3, // ESRCH: there is nobody
        dumpable: 0,
      });
      expect(ENOTTY).not.toBe(EPERM);
    });

    test.skipIf(ARCH !== "x64")("of another architecture end the process", async () => {
      const { stdout, last } = await link.run([calls, "int80"]);
      expect(stdout).not.toContain("survived");
      expect(last).toMatchObject({ exitCode: 159 }); // 128 + SIGSYS
    });

    test("that start processes fail where the order says so, and another run has its own number", async () => {
      const got = async (pids: number) => {
        const { stdout } = await link.run([greedy, "forks", "100"], { limits: { pids } });
        return Number(/got (\d+)/.exec(stdout)?.[1]);
      };
      const counts = await Promise.all([got(10), got(20)]);
      expect(counts).toEqual([9, 19]); // the command itself is one
    });

    test("a bomb of processes is held to its number, and ends with its time", async () => {
      const bomb = "f() { f | f & f; }; f; sleep 20";
      const { last } = await link.run(["sh", "-c", bomb], {
        limits: { pids: 16, timeoutMs: 700, graceMs: 200 },
      });
      expect(last.kind).toBe("ended");
      await until(() => readOrNothing(`/proc/${host.pid}/task/${host.pid}/children`).trim() === "");
    });

    test("memory is bounded: without a cgroup for a process alone", async () => {
      const { stdout, last } = await link.run([greedy, "memory", "2048"], {
        limits: { memoryBytes: 67_108_864 },
      });
      if (link.sandbox.cgroup) expect(last).toMatchObject({ exitCode: 137 });
      else {
        expect(Number(/got (\d+)/.exec(stdout)?.[1])).toBeLessThan(64 + 640);
        expect(stdout).toContain("errno 12");
      }
    });
  });

  test("a terminal cannot be had: the session is its own", async () => {
    expect(await shell("echo x >/dev/tty; ps -o tty= -p $$; tty")).toMatch(/No such device|cannot open/);
  });
});

test("root is refused, and so is a wrong call", async () => {
  const main = join(import.meta.dirname, "../../daemon/worker/main.ts");
  const run = (args: readonly string[]) =>
    new Promise<{ code: number | null; said: string }>((resolve) => {
      const child = spawn(process.execPath, [main, ...args], { stdio: ["ignore", "pipe", "pipe"] });
      let said = "";
      child.stdout.on("data", (chunk: Buffer) => (said += chunk.toString("utf8")));
      child.stderr.on("data", (chunk: Buffer) => (said += chunk.toString("utf8")));
      child.on("close", (code) => resolve({ code, said }));
    });
  expect(await run(["--help"])).toMatchObject({ code: 0, said: expect.stringContaining("--daemon-uid") });
  for (const args of [[], ["--nope"], ["--socket=/run/x/y"], ["--socket=relative", "--daemon-uid=1"]])
    expect((await run(args)).code).toBe(2);
  if (process.getuid?.() !== 0) return;
  const { code, said } = await run(["--socket=/nonexistent/x.sock", "--daemon-uid=0"]);
  expect([code, said]).toEqual([3, expect.stringContaining("root")]);
});

function readOrNothing(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return ""; // it has ended
  }
}
