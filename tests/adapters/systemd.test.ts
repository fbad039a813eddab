import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import koffi from "koffi";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createNotifier } from "../../daemon/adapters/systemd.ts";

const libc = koffi.load(null);
const socket = libc.func("int socket(int domain, int type, int protocol)");
const bind = libc.func("int bind(int fd, const uint8_t *address, uint32_t length)");
const recv = libc.func("intptr_t recv(int fd, _Out_ uint8_t *data, size_t length, int flags)");
const close = libc.func("int close(int fd)");
const MSG_DONTWAIT = 0x40;

/** A datagram socket in the manager's place. */
function listen(name: string): { received: () => string | null; close: () => void } {
  const path = Buffer.from(name.startsWith("@") ? `\0${name.slice(1)}` : `${name}\0`);
  const address = Buffer.concat([Buffer.from([1, 0]), path]);
  const fd: number = socket(1, 2 | 0o2000000, 0);
  if (bind(fd, address, address.length) !== 0) throw new Error(`bind ${name}: ${koffi.errno()}`);
  return {
    received: () => {
      const data = Buffer.alloc(4096);
      const length: number = recv(fd, data, data.length, MSG_DONTWAIT);
      return length < 0 ? null : data.toString("utf8", 0, length);
    },
    close: () => close(fd),
  };
}

describe("the service manager's notifications", () => {
  let dir: string;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), "boundary-notify-"));
  });
  afterEach(() => rmSync(dir, { recursive: true, force: true }));

  test.each(["a path", "an abstract name"])("arrive at %s, in order", (kind) => {
    const name = kind === "a path" ? join(dir, "notify") : `@boundary-${randomBytes(8).toString("hex")}`;
    const manager = listen(name);
    try {
      const notifier = createNotifier({ NOTIFY_SOCKET: name });
      notifier.status("AIRGAP, enforced");
      notifier.ready();
      notifier.watchdog();
      notifier.stopping();
      expect([1, 2, 3, 4, 5].map(() => manager.received())).toEqual([
        "STATUS=AIRGAP, enforced",
        `READY=1\nMAINPID=${process.pid}`,
        "WATCHDOG=1",
        "STOPPING=1",
        null,
      ]);
    } finally {
      manager.close();
    }
  });

  test("a status cannot smuggle in another message", () => {
    const name = join(dir, "notify");
    const manager = listen(name);
    try {
      createNotifier({ NOTIFY_SOCKET: name }).status(`one\nREADY=1\n${"long ".repeat(100)}`);
      const text = manager.received() ?? "";
      expect(text).toMatch(/^STATUS=one READY=1 long/);
      expect(text).not.toContain("\n");
      expect(text.length).toBeLessThanOrEqual(7 + 200);
    } finally {
      manager.close();
    }
  });

  test("a manager that does not read never makes us wait", () => {
    const name = join(dir, "notify");
    const manager = listen(name);
    try {
      const notifier = createNotifier({ NOTIFY_SOCKET: name });
      for (let count = 0; count < 2_000; count++) notifier.watchdog();
      expect(manager.received()).toBe("WATCHDOG=1");
    } finally {
      manager.close();
    }
  });

  test.each([
    ["no variable", {}],
    ["an empty one", { NOTIFY_SOCKET: "" }],
    ["nobody there", { NOTIFY_SOCKET: "/nonexistent/notify" }],
    ["a relative path", { NOTIFY_SOCKET: "notify" }],
    ["a name that is too long", { NOTIFY_SOCKET: `/${"x".repeat(200)}` }],
    ["a name with a zero byte", { NOTIFY_SOCKET: "/run/x\0y" }],
  ])("%s: nothing happens", (_what, env) => {
    const notifier = createNotifier(env);
    expect(() => {
      notifier.ready();
      notifier.watchdog();
      notifier.status("text");
      notifier.stopping();
    }).not.toThrow();
  });

  test("the socket is not handed down to programs we start", () => {
    const name = join(dir, "notify");
    const manager = listen(name);
    try {
      createNotifier({ NOTIFY_SOCKET: name }).ready();
      const listed = spawnSync("/bin/ls", ["-l", "/proc/self/fd"], { encoding: "utf8" });
      expect(listed.stdout).toContain("->");
      expect(listed.stdout.match(/socket:/g) ?? []).toHaveLength(
        listed.stdout.match(/ [012] -> socket:/g)?.length ?? 0,
      );
    } finally {
      manager.close();
    }
  });
});
