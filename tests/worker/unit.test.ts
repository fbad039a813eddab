import { chmodSync, chownSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { parseWorkerCommand } from "../../daemon/worker/options.ts";
import { isOnHost } from "../support/setup.ts";
import { allowedCalls, PROJECT, readUnit, systemdVersion, valuesOf } from "../support/units.ts";
import { NO_SANDBOX, startWorker, UID } from "../support/worker-host.ts";

const UNIT = readUnit("boundary-worker.service");
const values = (key: string) => valuesOf(UNIT, "Service", key);
const ROOT = process.getuid?.() === 0;

describe("boundary-worker.service", () => {
  test("is a user of its own without any right, and a member of nothing", () => {
    expect(values("User")).toEqual(["boundary-worker"]);
    expect(values("Group")).toEqual(["boundary-worker"]);
    expect(values("SupplementaryGroups")).toEqual([]);
    expect(values("CapabilityBoundingSet")).toEqual([""]);
    expect(values("AmbientCapabilities")).toEqual([""]);
    expect(values("NoNewPrivileges")).toEqual(["yes"]);
    const sysusers = readFileSync(join(PROJECT, "systemd/boundary-daemon.sysusers.conf"), "utf8");
    expect(sysusers).toMatch(/^u boundary-worker - /m);
    expect(sysusers).not.toMatch(/^m boundary-worker /m);
  });

  test("is called as the worker can be called", () => {
    const call = values("ExecStart")[0]?.split("worker/main.js ")[1]?.split(" ") ?? [];
    expect(parseWorkerCommand(call)).toEqual({
      kind: "run",
      options: {
        socket: "/run/boundary-daemon-worker/worker.sock",
        daemon: "boundary",
        maxRuns: 16,
        bridge: null,
      },
    });
    // its directory is made where the daemon's user could not have put a link
    expect(values("ExecStartPre")).toEqual([]);
  });

  test("may divide its cgroup, and outlives a run that is out of memory", () => {
    expect(values("Delegate")).toEqual(["cpu memory pids"]);
    expect(values("OOMPolicy")).toEqual(["continue"]);
  });

  test("has nothing that covers a part of /proc, or keeps a sandbox from its names and groups", () => {
    for (const key of [
      "ProtectKernelTunables",
      "ProtectKernelLogs",
      "ProtectProc",
      "ProcSubset",
      "ProtectControlGroups",
      "ProtectHostname",
    ])
      expect([key, values(key)]).toEqual([key, []]);
    for (const path of values("InaccessiblePaths").join(" ").split(" "))
      expect(path).not.toMatch(/^-?\/proc/);
  });
});

describe.skipIf(NO_SANDBOX !== "" || !ROOT)("the worker's socket (needs root and bubblewrap)", () => {
  test("has the group of its directory, of which the worker is no member", async () => {
    const base = mkdtempSync(join(tmpdir(), "boundary-worker-group-"));
    chmodSync(base, 0o755);
    const directory = join(base, "worker");
    const group = 61_235;
    mkdirSync(directory);
    chownSync(directory, UID, group);
    chmodSync(directory, 0o2750);
    const host = await startWorker([], [], `${directory}/worker.sock`);
    try {
      const { mode, uid, gid } = statSync(`${directory}/worker.sock`);
      expect([(mode & 0o7777).toString(8), uid, gid]).toEqual(["660", UID, group]);
      expect((await (await host.link()).run(["true"])).last).toMatchObject({ exitCode: 0 });
    } finally {
      await host.stop();
      rmSync(base, { recursive: true, force: true });
    }
  });
});

const TRACED = NO_SANDBOX === "" && ROOT && systemdVersion() !== null && isOnHost("strace");

describe.skipIf(!TRACED)(
  "the unit's filter (needs root, strace, systemd and bubblewrap)",
  { timeout: 60_000 },
  () => {
    test("lets through every system call and address family of the worker, bwrap, the bridge and simple commands", async () => {
      const base = mkdtempSync(join(tmpdir(), "boundary-worker-trace-"));
      chmodSync(base, 0o777);
      const trace = join(base, "trace");
      const server = createServer((socket) => {
        socket.on("error", () => {});
        socket.on("data", () => socket.end("the proxy\n"));
      });
      const host = await startWorker([], ["/usr/bin/strace", "-D", "-f", "-qq", "-o", trace]);
      try {
        const link = await host.link();
        const proxySocket = join(host.path, "proxy.sock");
        await new Promise<void>((resolve) => server.listen(proxySocket, () => resolve()));
        chownSync(proxySocket, UID, UID);
        const limits = { timeoutMs: 30_000 };
        expect((await link.run(["sh", "-c", "echo x | cat; sleep 0.1"], { limits })).stdout).toBe("x\n");
        expect((await link.run(["true"], { network: "proxy", proxySocket, limits })).last).toMatchObject({
          exitCode: 0,
        });
        expect((await link.run(["sleep", "9"], { limits: { timeoutMs: 300 } })).last).toMatchObject({
          timedOut: true,
        });
      } finally {
        await host.stop();
        server.close();
      }
      const text = readFileSync(trace, "utf8");
      rmSync(base, { recursive: true, force: true });
      const calls = new Set([...text.matchAll(/^\d+ +([a-z_0-9]+)\(/gm)].map((hit) => hit[1] ?? ""));
      const families = new Set([...text.matchAll(/ socket\((AF_[A-Z0-9]+)/g)].map((hit) => hit[1] ?? ""));
      const allowed = allowedCalls(UNIT);
      expect(calls).toContain("pivot_root");
      expect([...calls].filter((name) => !allowed.has(name))).toEqual([]);
      const may = values("RestrictAddressFamilies").join(" ").split(" ");
      expect(families).toContain("AF_NETLINK");
      expect([...families].filter((name) => !may.includes(name))).toEqual([]);
    });
  },
);
