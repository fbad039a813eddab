import { spawn, spawnSync } from "node:child_process";
import { chmodSync, closeSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { peerOf } from "../../daemon/adapters/peer.ts";
import { createPeerFacts, parsePasswd, parseTerminal } from "../../daemon/adapters/proc.ts";
import type { Peer } from "../../daemon/ports.ts";

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "boundary-peer-"));
  chmodSync(directory, 0o755);
});

afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** Starts a server, runs the program with the socket's path, and tells who connected. */
async function whoConnects(program: string, args: (path: string) => readonly string[]): Promise<Peer | null> {
  const path = join(directory, "s");
  const server = createServer();
  await new Promise<void>((resolve) =>
    server.listen({ path, readableAll: true, writableAll: true }, resolve),
  );
  const child = spawn(program, args(path), { stdio: "ignore" });
  try {
    return await new Promise((resolve, reject) => {
      child.on("error", reject);
      child.on("exit", (code) => reject(new Error(`the client ended with ${code}`)));
      server.on("connection", (socket) => {
        const handle: unknown = Reflect.get(socket, "_handle");
        resolve(peerOf((handle as { fd: number }).fd));
        socket.destroy();
      });
    });
  } finally {
    child.kill("SIGKILL");
    server.close();
  }
}

const CONNECT = (path: string): string =>
  `require("node:net").connect(${JSON.stringify(path)}).on("error", () => {}); setTimeout(() => {}, 10000)`;
const setpriv = spawnSync("setpriv", ["--version"]).status === 0;

describe("the peer of a socket", () => {
  test("it is the process that connected", async () => {
    const peer = await whoConnects(process.execPath, (path) => ["-e", CONNECT(path)]);
    expect(peer).toMatchObject({ uid: process.getuid?.(), gid: process.getgid?.() });
    expect(peer?.pid).toBeGreaterThan(0);
    expect(peer?.pid).not.toBe(process.pid);
    expect(peer?.groups).toContain(process.getgid?.());
  });

  test.skipIf(process.getuid?.() !== 0 || !setpriv)(
    "another user with groups of its own (needs root and setpriv)",
    async () => {
      const user = ["--reuid=4242", "--regid=4343", "--groups=4444,4545"];
      const peer = await whoConnects("setpriv", (path) => [...user, process.execPath, "-e", CONNECT(path)]);
      expect(peer).toMatchObject({ uid: 4242, gid: 4343 });
      expect(peer?.groups.toSorted()).toEqual([4343, 4444, 4545]);
    },
  );

  test.skipIf(process.getuid?.() !== 0 || !setpriv)(
    "all of 300 groups, more than fit at first (needs root and setpriv)",
    async () => {
      const groups = Array.from({ length: 300 }, (_, index) => 5_000 + index);
      const user = ["--reuid=4242", "--regid=4343", `--groups=${groups.join(",")}`];
      const peer = await whoConnects("setpriv", (path) => [...user, process.execPath, "-e", CONNECT(path)]);
      expect(peer?.groups.toSorted()).toEqual([4343, ...groups]);
    },
  );

  test("what is no socket has no peer", () => {
    expect(peerOf(-1)).toBeNull();
    const fd = openSync("/dev/null", "r");
    expect(peerOf(fd)).toBeNull();
    closeSync(fd);
  });
});

const stat = (name: string, tty: number): string => `42 (${name}) S 1 42 42 ${tty} 42 4194560 100 0`;

describe("the controlling terminal", () => {
  const rows: readonly [name: string, tty: number, terminal: string | null][] = [
    ["bash", 0, null],
    ["bash", 0x8800, "pts/0"],
    ["bash", 0x8803, "pts/3"],
    ["bash", (300 & 0xff) | (136 << 8) | ((300 & 0xfff00) << 12), "pts/300"],
    ["bash", 0x0401, "tty1"],
    ["bash", 0x0440, "ttyS0"],
    ["bash", 0xe500, "char/229:0"],
    ["a) R 1 1 1 34816 (b", 0, null],
    [") S 9 9 9 0", 0x8807, "pts/7"],
    ["two words", 0x8801, "pts/1"],
    ["new\nline", 0x8802, "pts/2"],
  ];
  test.each(rows)("%j with tty_nr %i: %s", (name, tty, terminal) =>
    expect(parseTerminal(stat(name, tty))).toBe(terminal),
  );

  test.each(["", "42", "42 (bash)", "42 (bash) S", "42 bash S 1 42 42 34816", "42 (bash) S 1 42 42 x 1"])(
    "%j is none",
    (text) => expect(parseTerminal(text)).toBeNull(),
  );

  test("a program cannot name itself a terminal", () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 15 }), (name) => {
        expect(parseTerminal(stat(name, 0))).toBeNull();
      }),
    );
  });

  test("of a process that is gone, or of nonsense: none", () => {
    const facts = createPeerFacts();
    for (const pid of [0, -1, 1.5, Number.NaN, 4_194_305]) expect(facts.terminalOf(pid)).toBeNull();
  });

  test("it is read where /proc is", () => {
    mkdirSync(join(directory, "7"));
    writeFileSync(join(directory, "7", "stat"), stat("x", 0x8805));
    expect(createPeerFacts({ proc: directory, passwd: "/nonexistent" }).terminalOf(7)).toBe("pts/5");
  });

  test.skipIf(spawnSync("script", ["--version"]).status !== 0)("a real one has a name (needs script)", () => {
    const code = `import { createPeerFacts } from ${JSON.stringify(new URL("../../daemon/adapters/proc.ts", import.meta.url).href)}; console.log("on", createPeerFacts().terminalOf(process.pid));`;
    const file = join(directory, "t.ts");
    writeFileSync(file, code);
    const ran = spawnSync("script", ["-qec", `${process.execPath} ${file}`, "/dev/null"], {
      encoding: "utf8",
    });
    expect(ran.stdout).toMatch(/on pts\/\d+/);
  });
});

describe("user names", () => {
  const text = [
    "root:x:0:0:root:/root:/bin/bash",
    "toor:x:0:0::/root:/bin/sh",
    "",
    "# a comment",
    "no-uid:x::",
    "minus:x:-1:0",
    "bad\u001bname:x:9:9",
    "ann:x:1000:1000",
  ].join("\n");

  test("the first line of a uid counts, and what is no account is passed over", () => {
    expect([...parsePasswd(text)]).toEqual([
      [0, "root"],
      [1000, "ann"],
    ]);
  });

  test("names are read again after a while, and a uid without one is its number", () => {
    const passwd = join(directory, "passwd");
    let nowMs = 0;
    const facts = createPeerFacts({ proc: "/proc", passwd }, () => nowMs);
    expect(facts.userName(1000)).toBe("1000");
    writeFileSync(passwd, text);
    expect(facts.userName(1000)).toBe("1000");
    nowMs = 5_000;
    expect(facts.userName(1000)).toBe("ann");
    expect(facts.userName(77)).toBe("77");
  });
});
