import { generateKeyPairSync, hash, type KeyObject, randomBytes } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { uidIn } from "../../daemon/core/accounts.ts";
import { createFrameReader, MAX_FRAME_BYTES, renderFrame } from "../../daemon/core/frames.ts";
import {
  ORDER_LIFETIME_MS,
  type OrderKey,
  type RunOrder,
  readOrderKey,
  renderOrder,
  signOrder,
} from "../../daemon/exec/run-order.ts";
import { openCgroups } from "../../daemon/worker/cgroup.ts";
import { readMessage } from "../../daemon/worker/messages.ts";
import { parseWorkerCommand } from "../../daemon/worker/options.ts";
import { claimedId, createOrderGate } from "../../daemon/worker/order-gate.ts";
import { isForeign } from "../../daemon/worker/program.ts";
import { calledAs, limitCommand, renderOptions, sandboxOptions } from "../../daemon/worker/sandbox-args.ts";
import {
  type Architecture,
  assemble,
  filterFor,
  type Instruction,
  numberOf,
  refusedNames,
} from "../../daemon/worker/seccomp.ts";

describe("the frame reader", () => {
  const message = fc.dictionary(fc.string({ maxLength: 8 }), fc.string({ maxLength: 40 }), { maxKeys: 4 });

  test("gives every frame once, in order, however the bytes are cut", () => {
    fc.assert(
      fc.property(
        fc.array(message, { maxLength: 6 }),
        fc.array(fc.nat(300), { maxLength: 20 }),
        (sent, cuts) => {
          const bytes = Buffer.concat(sent.map(renderFrame));
          const reader = createFrameReader();
          const at = [0, ...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].toSorted(
            (a, b) => a - b,
          );
          const read = at.slice(1).flatMap((end, i) => reader.push(bytes.subarray(at[i], end)));
          expect(read).toEqual(sent.map((value) => ({ ok: true, value: JSON.parse(JSON.stringify(value)) })));
        },
      ),
    );
  });

  test("any bytes end in frames or one fault, and after it in nothing", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 64 }), { maxLength: 8 }), (chunks) => {
        const reader = createFrameReader();
        const read = chunks.flatMap((chunk) => reader.push(chunk));
        const fault = read.findIndex(({ ok }) => !ok);
        if (fault !== -1) {
          expect(fault).toBe(read.length - 1);
          expect(reader.push(renderFrame({ kind: "hello" }))).toEqual([]);
        }
      }),
    );
  });

  test.each([
    ["a length of nothing", [0, 0, 0, 0]],
    ["a length beyond the most", [0, 0x40, 0, 1]],
    ["what is not UTF-8", [0, 0, 0, 2, 0xc3, 0x28]],
    ["a key twice", [...renderFrame({})].toSpliced(3, 3, 13, ...Buffer.from('{"a":1,"a":2}'))],
    ["a byte order mark", [0, 0, 0, 5, 0xef, 0xbb, 0xbf, 0x7b, 0x7d]],
  ])("%s is a fault", (_, bytes) => {
    expect(createFrameReader().push(Buffer.from(bytes))).toEqual([{ ok: false, why: expect.any(String) }]);
  });

  test("what is too long to be read is not written", () => {
    expect(() => renderFrame({ data: "x".repeat(MAX_FRAME_BYTES) })).toThrow(RangeError);
  });

  test("a frame of the most bytes is read, byte counts apart", () => {
    const frame = renderFrame({ data: "x".repeat(MAX_FRAME_BYTES - 11) });
    expect(frame.length).toBe(MAX_FRAME_BYTES + 4);
    const reader = createFrameReader();
    const read = [0, 1, 2, 3, 4, 5, 100_000].flatMap((at, i, all) =>
      reader.push(frame.subarray(at, all[i + 1])),
    );
    expect(read).toHaveLength(1);
  });
});

describe("messages", () => {
  test("any JSON is a message or a refusal", () => {
    fc.assert(fc.property(fc.jsonValue(), (value) => typeof readMessage(value).ok === "boolean"));
  });

  test("fields that are not known, and base64 that is none, are refused", () => {
    const good = { kind: "run", order: "{}", signature: "x", stdin: "aGk=" };
    expect(readMessage(good).ok).toBe(true);
    for (const bad of [
      { ...good, extra: 1 },
      { ...good, stdin: "a" },
      { ...good, stdin: "aGk=\n" },
      { kind: "end", id: "x", why: "" },
    ])
      expect(readMessage(bad).ok).toBe(false);
  });
});

describe("the gate", () => {
  const BOOT = "01234567-89ab-cdef-0123-456789abcdef";
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  const key = keyOf(publicKey);
  const order = (change: Partial<RunOrder>): RunOrder => ({
    v: 1,
    id: randomBytes(16).toString("hex"),
    boot: BOOT,
    notAfterMs: 20_000,
    argv: ["true"],
    program: { path: "/usr/bin/true", sha256: "0".repeat(64) },
    cwd: "/srv/w",
    workspace: "/srv/w",
    environment: [],
    profile: "p",
    mode: "OPEN",
    network: "none",
    proxySocket: "",
    readable: [],
    stdinDigest: hash("sha256", "", "hex"),
    limits: { timeoutMs: 1, graceMs: 0, outputBytes: 0, memoryBytes: 1_048_576, pids: 1, cpus: 1 },
    ...change,
  });
  const gateAt = (beganMs: number) => {
    let nowMs = beganMs;
    const gate = createOrderGate({ boot: BOOT, nowMs: () => nowMs });
    const admit = (made: RunOrder, atMs: number, stdin = "") => {
      nowMs = atMs;
      const text = renderOrder(made);
      return gate.admit(text, signOrder(text, privateKey), Buffer.from(stdin), key);
    };
    return admit;
  };

  test("admits an order once, and forgets it only when it is too late for it anyhow", () => {
    const admit = gateAt(0);
    const made = order({});
    expect(admit(made, 15_000).ok).toBe(true);
    for (const atMs of [15_000, 19_999, 20_000, 20_001, 60_000])
      expect(admit(made, atMs)).toMatchObject({ ok: false, code: "exec-order" });
  });

  test("says of an order that was admitted whether it is too late for it by now", () => {
    let nowMs = 20_000;
    const gate = createOrderGate({ boot: BOOT, nowMs: () => nowMs });
    expect(gate.isLate(order({}))).toBe(false);
    nowMs = 20_001;
    expect(gate.isLate(order({}))).toBe(true);
  });

  test("an order is good from its signing to its end, and not a moment longer", () => {
    for (const [atMs, ok] of [
      [14_000, false],
      [15_000, true],
      [20_000, true],
      [20_001, false],
    ] as const)
      expect([atMs, gateAt(0)(order({}), atMs).ok]).toEqual([atMs, ok]);
  });

  test("no order that may be from before the worker began: it would not know whether it was used", () => {
    expect(gateAt(15_100)(order({}), 15_200)).toMatchObject({ ok: false });
    expect(gateAt(15_100)(order({ notAfterMs: 15_150 + ORDER_LIFETIME_MS }), 15_200).ok).toBe(true);
  });

  test("a refused order is not used up", () => {
    const admit = gateAt(0);
    const made = order({ stdinDigest: hash("sha256", "right", "hex") });
    expect(admit(made, 16_000, "wrong").ok).toBe(false);
    expect(admit(made, 16_001, "right").ok).toBe(true);
  });

  test("the id that is answered with is the one that it claims, or none", () => {
    const made = order({});
    expect(claimedId(renderOrder(made))).toBe(made.id);
    fc.assert(fc.property(fc.string(), (text) => /^(?:[0-9a-f]{32})?$/.test(claimedId(text))));
  });
});

describe("the filter of system calls", () => {
  const ALLOW = 0x7fff_0000;
  const KILL = 0x8000_0000;
  const AUDIT = { x64: 0xc000_003e, arm64: 0xc000_00b7 } as const;

  /** What the kernel would do: classic BPF over struct seccomp_data, as far as the filter uses it. */
  function judge(
    program: readonly Instruction[],
    arch: number,
    number: number,
    args: readonly bigint[] = [],
  ): number {
    const data = Buffer.alloc(64);
    data.writeUInt32LE(number >>> 0, 0);
    data.writeUInt32LE(arch, 4);
    for (const [i, value] of args.entries()) data.writeBigUInt64LE(BigInt.asUintN(64, value), 16 + 8 * i);
    let accumulator = 0;
    for (let at = 0; at < program.length; at++) {
      const [code, jt, jf, value] = program[at] ?? [0, 0, 0, 0];
      if (code === 0x20) accumulator = data.readUInt32LE(value);
      else if (code === 0x54) accumulator = (accumulator & value) >>> 0;
      else if (code === 0x15) at += accumulator === value ? jt : jf;
      else if (code === 0x35) at += accumulator >= value ? jt : jf;
      else if (code === 0x45) at += (accumulator & value) !== 0 ? jt : jf;
      else if (code === 0x06) return value;
      else throw new Error(`code ${code}`);
    }
    throw new Error("it ends without an answer");
  }
  const errno = (verdict: number): number => (verdict === ALLOW ? 0 : verdict & 0xffff);
  const ARCHITECTURES: readonly Architecture[] = ["x64", "arm64"];

  describe.each(ARCHITECTURES)("of %s", (architecture) => {
    const program = filterFor(architecture);
    const arch = AUDIT[architecture];
    const number = (name: string): number => numberOf(architecture, name) ?? -1;

    test("always comes to an answer, and ends what is of another architecture", () => {
      fc.assert(
        fc.property(
          fc.nat(0xffff_ffff),
          fc.array(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), { maxLength: 6 }),
          (call, args) => {
            expect(judge(program, arch, call, args)).toBeTypeOf("number");
            expect(judge(program, call === arch ? 0 : call, call, args)).toBe(KILL);
          },
        ),
      );
      for (const other of ["x64", "arm64"] as const)
        if (other !== architecture) expect(judge(program, AUDIT[other], 0)).toBe(KILL);
    });

    test("refuses every call that it names, whatever the arguments", () => {
      for (const name of refusedNames(architecture))
        expect([name, errno(judge(program, arch, number(name)))]).toEqual([name, 1]);
      expect(new Set(refusedNames(architecture).map(number)).size).toBe(refusedNames(architecture).length);
    });

    test("lets nobody make a program that runs as another user or group", () => {
      const asked = (name: string, ...args: readonly number[]) =>
        errno(judge(program, arch, number(name), args.map(BigInt)));
      const places = { chmod: 1, creat: 1, fchmod: 1, fchmodat: 2, fchmodat2: 2, mknod: 1, mknodat: 2 };
      let known = 0;
      for (const [name, at] of Object.entries(places).filter(([name]) => number(name) >= 0)) {
        known += 1;
        const args = (mode: number) => [...Array<number>(at).fill(7), mode];
        for (const mode of [0o4755, 0o2755, 0o6000, 0o107_755])
          expect([name, asked(name, ...args(mode))]).toEqual([name, 1]);
        for (const mode of [0o755, 0o1777, 0o100_644])
          expect([name, asked(name, ...args(mode))]).toEqual([name, 0]);
      }
      expect(known).toBe(architecture === "x64" ? 7 : 4);
      for (const [name, before] of [
        ["open", [7]],
        ["openat", [7, 7]],
      ] as const) {
        if (number(name) < 0) continue;
        for (const flags of [0o101, 0o1101, 0o20_200_002]) {
          expect([name, flags, asked(name, ...before, flags, 0o4755)]).toEqual([name, flags, 1]);
          expect([name, flags, asked(name, ...before, flags, 0o644)]).toEqual([name, flags, 0]);
        }
        expect(asked(name, ...before, 0o2, 0o6777)).toBe(0); // no mode is looked at there
      }
      expect(asked("openat2")).toBe(38);
    });

    test("lets the others through, up to the last that it knows", () => {
      const named = new Set(
        [...refusedNames(architecture), "clone3", "openat2", "socket", "socketpair"].map(number),
      );
      for (let call = 0; call < 470; call++)
        if (!named.has(call)) expect([call, judge(program, arch, call)]).toEqual([call, ALLOW]);
      for (const call of [470, 5_000, 0x3fff_ffff]) expect(errno(judge(program, arch, call))).toBe(38);
      expect(errno(judge(program, arch, 0x4000_0000))).toBe(architecture === "x64" ? 1 : 38);
    });

    test("looks at the lower half of an argument, as the kernel does", () => {
      const high = 0xdead_beef_0000_0000n;
      for (const flag of [
        0x20000n,
        0x02000000n,
        0x04000000n,
        0x08000000n,
        0x10000000n,
        0x20000000n,
        0x40000000n,
      ])
        expect(errno(judge(program, arch, number("clone"), [high | flag | 17n]))).toBe(1);
      // a thread, as glibc makes it
      expect(judge(program, arch, number("clone"), [0x3d0f00n])).toBe(ALLOW);
      expect(errno(judge(program, arch, number("ioctl"), [0n, high | 0x5412n]))).toBe(1);
      expect(judge(program, arch, number("ioctl"), [0n, 0x5401n])).toBe(ALLOW);
      expect(errno(judge(program, arch, number("clone3")))).toBe(38);
      for (const [family, type, answer] of [
        [1n, 1n, 0],
        [2n, 0x80002n, 0],
        [10n, 0x801n, 0],
        [2n, 3n, 22],
        [1n, 5n, 0],
        [16n, 3n, 97],
        [17n, 3n, 97],
        [0n, 1n, 97],
      ] as const)
        expect([
          family,
          type,
          errno(judge(program, arch, number("socket"), [high | family, high | type])),
        ]).toEqual([family, type, answer]);
    });

    test("lets no protocol of a socket be asked for but the common ones", () => {
      for (const [protocol, answer] of [
        [0n, 0],
        [1n, 0],
        [6n, 0],
        [17n, 0],
        [58n, 0],
        [132n, 93], // SCTP
        [262n, 93], // MPTCP
        [33n, 93], // DCCP
      ] as const)
        expect([protocol, errno(judge(program, arch, number("socket"), [2n, 1n, protocol]))]).toEqual([
          protocol,
          answer,
        ]);
    });

    test("fits into what the kernel takes, with jumps that stay inside", () => {
      expect(program.length).toBeLessThan(4_096);
      program.forEach(([code, jt, jf], at) => {
        if ((code & 7) !== 5) return;
        for (const jump of [jt, jf]) {
          expect(jump).toBeLessThan(256);
          expect(at + 1 + jump).toBeLessThan(program.length);
        }
      });
      const bytes = assemble(program);
      expect(bytes.length).toBe(program.length * 8);
      expect([...bytes.subarray(0, 8)]).toEqual([0x20, 0, 0, 0, 4, 0, 0, 0]);
    });
  });
});

describe("the options of bwrap", () => {
  const plan = {
    host: { roots: [{ path: "/bin", kind: "link", to: "usr/bin" } as const], uid: 1, gid: 1 },
    mounts: [{ fd: 30, path: "/srv/w", how: "bind" } as const],
    links: [],
    cwd: "/srv/w",
    environment: [["A", "--bind / /"]] as const,
    seccompFd: 20,
    memoryBytes: 1_048_576,
    holdFd: null,
  };

  test("name each namespace, so that none is gone on without", () => {
    const { options, descriptors } = sandboxOptions(plan);
    for (const one of ["user", "ipc", "pid", "net", "uts", "cgroup"])
      expect(options).toContain(`--unshare-${one}`);
    for (const one of ["--disable-userns", "--die-with-parent", "--new-session", "--clearenv"])
      expect(options).toContain(one);
    expect(
      options.some(
        (option) =>
          /-try$|^--unshare-all$|^--share-net$|^--cap-add$/.test(option) && option !== "--ro-bind-try",
      ),
    ).toBe(false);
    expect(descriptors).toEqual([20, 30]);
    expect(options.slice(options.indexOf("--bind-fd"), options.indexOf("--bind-fd") + 3)).toEqual([
      "--bind-fd",
      "6",
      "/srv/w",
    ]);
    expect(sandboxOptions({ ...plan, holdFd: 40 }).descriptors).toEqual([40, 20, 30]);
  });

  test("are read by bwrap as they were meant, whatever is in a value", () => {
    expect(renderOptions(["--setenv", "A", "--bind / /"]).toString()).toBe("--setenv\0A\0--bind / /\0");
  });

  test("a program is called by the name that was judged", () => {
    expect(calledAs("ls", "/usr/bin/ls")).toEqual({ run: "/usr/bin/ls", link: false });
    expect(calledAs("/usr/bin/vi", "/usr/bin/vim.basic")).toEqual({
      run: "/run/boundary/bin/vi",
      link: true,
    });
    for (const none of ["", "/", "..", "."]) expect(calledAs(none, "/usr/bin/ls").link).toBe(false);
    fc.assert(
      fc.property(fc.string(), (argv0) => {
        const { run, link } = calledAs(argv0, "/usr/bin/ls");
        if (link) expect(run).toMatch(/^\/run\/boundary\/bin\/[^/]+$/);
      }),
    );
  });

  test("limits are given in the sandbox, of the whole run only where no cgroup bounds it", () => {
    const bounds = { pids: 4, memoryBytes: 1_048_576 };
    expect(limitCommand(bounds, false).join(" ")).toBe("/usr/bin/prlimit --nofile=4096 --core=0 --");
    expect(limitCommand(bounds, true)).toContain("--nproc=5");
    expect(limitCommand(bounds, true)).toContain(`--data=${1_048_576 + 671_088_640}`);
  });
});

test("a file is root's alone where the kernel keeps it, not where somebody else says so", () => {
  // FUSE, NFS, both of SMB (one comes with its sign), 9P, Ceph; ext4, btrfs, xfs, tmpfs, overlayfs
  for (const type of [0x65735546, 0x6969, -11317950, 0xff534d42, 0xfe534d42, 0x01021997, 0x00c36400])
    expect([type, isForeign(type)]).toEqual([type, true]);
  for (const type of [0xef53, 0x9123683e, 0x58465342, 0x01021994, 0x794c7630])
    expect([type, isForeign(type)]).toEqual([type, false]);
});

describe("cgroups (files that stand in for the kernel's)", () => {
  function withTree(controllers: string, use: (proc: string, own: string) => void): void {
    const base = mkdtempSync(join(tmpdir(), "boundary-cgroup-"));
    try {
      const own = join(base, "tree/system.slice/worker.service");
      mkdirSync(own, { recursive: true });
      mkdirSync(join(base, "proc/self"), { recursive: true });
      writeFileSync(join(base, "proc/self/cgroup"), "1:cpu:/x\n0::/system.slice/worker.service\n");
      const mount = `30 23 0:26 / ${base}/tree rw,nosuid - cgroup2 cgroup2 rw\n`;
      writeFileSync(join(base, "proc/self/mountinfo"), `22 1 8:1 / / rw - ext4 /dev/a rw\n${mount}`);
      writeFileSync(join(own, "cgroup.controllers"), `${controllers}\n`);
      use(join(base, "proc"), own);
    } finally {
      rmSync(base, { recursive: true, force: true });
    }
  }

  test("a run's group has every bound before anything is in it", () => {
    withTree("cpuset cpu io memory pids", (proc, own) => {
      const cgroups = openCgroups(proc);
      if (!cgroups.ok) throw new Error(cgroups.why);
      const text = (path: string) => readFileSync(join(own, path), "utf8");
      expect(text("worker/cgroup.procs")).toBe(String(process.pid));
      expect(text("cgroup.subtree_control")).toBe("+cpu +memory +pids");
      const run = cgroups.make("ab", { outputBytes: 0, memoryBytes: 1_048_576, pids: 8, cpus: 2 });
      const bounds = ["memory.max", "memory.oom.group", "pids.max", "cpu.max"].map((file) =>
        text(`run-ab/${file}`),
      );
      expect(bounds).toEqual(["1048576", "1", "10", "200000 100000"]);
      expect(existsSync(join(own, "run-ab/cgroup.procs"))).toBe(false);
      run.add(77);
      expect(text("run-ab/cgroup.procs")).toBe("77");
      run.kill();
      expect(text("run-ab/cgroup.kill")).toBe("1");
    });
  });

  test("what a worker that was killed has left there is killed, and nothing else", () => {
    withTree("cpu memory pids", (proc, own) => {
      const left = `run-${"0a".repeat(16)}`;
      for (const name of [left, "run-other", "worker", `${left}x`]) mkdirSync(join(own, name));
      const empty = `run-${"ff".repeat(16)}`;
      mkdirSync(join(own, empty));
      expect(openCgroups(proc).ok).toBe(true);
      expect(readFileSync(join(own, left, "cgroup.kill"), "utf8")).toBe("1");
      expect(readFileSync(join(own, empty, "cgroup.kill"), "utf8")).toBe("1");
      for (const name of ["run-other", "worker", `${left}x`])
        expect(existsSync(join(own, name, "cgroup.kill"))).toBe(false);
    });
  });

  test("nothing is touched where a controller is missing, or the tree is of version 1", () => {
    withTree("cpu memory", (proc, own) => {
      expect(openCgroups(proc)).toMatchObject({ ok: false, why: expect.stringContaining("pids") });
      expect(existsSync(join(own, "worker"))).toBe(false);
      writeFileSync(join(proc, "self/cgroup"), "1:cpu:/x\n");
      expect(openCgroups(proc)).toMatchObject({ ok: false });
      expect(openCgroups("/nonexistent")).toMatchObject({ ok: false });
    });
  });
});

describe("the command line", () => {
  test("any words are a call or a usage fault, and a call is complete", () => {
    const word = fc.constantFrom(
      "--socket",
      "--socket=/a/b",
      "--socket=a",
      "--daemon-uid=0",
      "--daemon-uid=-1",
      "--max-runs=0",
      "--max-runs=3",
      "--bridge=/x",
      "--probe",
      "--help",
      "x",
    );
    fc.assert(
      fc.property(fc.array(fc.oneof(word, fc.string()), { maxLength: 5 }), (argv) => {
        const command = parseWorkerCommand(argv);
        if (command.kind === "run")
          expect(argv).toEqual(expect.arrayContaining(["--socket=/a/b", "--daemon-uid=0"]));
      }),
    );
    expect(parseWorkerCommand(["--socket=/a/b", "--daemon-uid=0"])).toMatchObject({
      kind: "run",
      options: { socket: "/a/b", daemon: 0, maxRuns: 16, bridge: null },
    });
    const named = ["--socket=/a/b", "--daemon-user=boundary"];
    expect(parseWorkerCommand(named)).toMatchObject({ kind: "run", options: { daemon: "boundary" } });
    expect(parseWorkerCommand([...named, "--daemon-uid=0"]).kind).toBe("usage");
    expect(parseWorkerCommand(["--socket=/a/b", "--daemon-user=a:b"]).kind).toBe("usage");
  });

  test("a user's number is that of his one line in /etc/passwd", () => {
    const line = (name: string, uid: string) => [name, "x", uid, "1", "", "/", "/bin/sh\n"].join(":");
    const passwd =
      line("root", "0") + line("boundary", "991") + line("boundary-worker", "992") + line("odd", "y");
    const twice = line("twice", "1") + line("twice", "2");
    const found = ["root", "boundary", "boundary-worker", "twice", "odd", "none"].map((name) =>
      uidIn(passwd + twice, name),
    );
    expect(found).toEqual([0, 991, 992, null, null, null]);
  });
});

function keyOf(publicKey: KeyObject): OrderKey {
  const raw = publicKey.export({ format: "der", type: "spki" }).subarray(-32);
  const key = readOrderKey(raw.toString("base64"));
  if (key === null) throw new Error("no key");
  return key;
}
