import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { boundaryctl } from "./support/boundaryctl.ts";
import { tableBelow } from "./support/dependency-rules.ts";
import { evenLog, putLog, shipDirectory } from "./support/real-log.ts";
import { isOnHost } from "./support/setup.ts";
import { makeCertificates } from "./support/tls-files.ts";
import { startReceiver } from "./support/tls-receiver.ts";
import {
  allowedCalls,
  exposureOf,
  PROJECT,
  readUnit,
  systemdVersion,
  unitNames,
  valuesOf,
  verifyUnits,
  withUnits,
} from "./support/units.ts";

const VERSION = systemdVersion();
const PAGE = readFileSync(join(PROJECT, "docs/OPERATIONS.md"), "utf8");
const RECORDED = tableBelow(PAGE, "How tight the units are");
const RECORDED_VERSION = Number(/systemd (\d+)/.exec(PAGE)?.[1]);
const ROOT = process.getuid?.() === 0;
const SHIP_UNIT = "boundary-ship.service";
const OF_NODE = ["disallow-code-generation-from-strings", "no-memory-protection-keys"];
const WORKER_UNIT = "boundary-worker.service";
const EGRESS_UNIT = "boundary-egress.service";
const NODE_UNITS = ["boundary-daemon.service", "boundary-early.service"];

describe("the unit files", () => {
  test.each(unitNames())("%s: what belongs in [Unit] is in [Unit]", (name) => {
    const unit = readUnit(name);
    expect(valuesOf(unit, "Service", "StartLimitIntervalSec")).toEqual([]);
    expect(valuesOf(unit, "Service", "OnFailure")).toEqual([]);
  });

  test.each(NODE_UNITS)("%s: the capabilities it needs and no other, as a user of its own", (name) => {
    const unit = readUnit(name);
    // only the daemon writes the log, and makes it append-only
    const needed = name === "boundary-daemon.service" ? "CAP_NET_ADMIN CAP_LINUX_IMMUTABLE" : "CAP_NET_ADMIN";
    expect(valuesOf(unit, "Service", "AmbientCapabilities")).toEqual([needed]);
    expect(valuesOf(unit, "Service", "CapabilityBoundingSet")).toEqual([needed]);
    expect(valuesOf(unit, "Service", "User")).toEqual(["boundary"]);
    expect(valuesOf(unit, "Service", "NoNewPrivileges")).toEqual(["yes"]);
  });

  test("a child that is ended for want of memory (Cedar's) does not end the daemon with it", () => {
    expect(valuesOf(readUnit("boundary-daemon.service"), "Service", "OOMPolicy")).toEqual(["continue"]);
  });

  test("shipping has no capability, sees no private key and no socket of ours, and may write its cursor only", () => {
    const unit = readUnit(SHIP_UNIT);
    expect(valuesOf(unit, "Service", "CapabilityBoundingSet")).toEqual([""]);
    expect(valuesOf(unit, "Service", "AmbientCapabilities")).toEqual([""]);
    expect(valuesOf(unit, "Service", "User")).toEqual(["boundary"]);
    expect(valuesOf(unit, "Service", "NoNewPrivileges")).toEqual(["yes"]);
    expect(valuesOf(unit, "Service", "InaccessiblePaths")).toEqual([
      "-/var/lib/boundary-daemon -/run/boundary-daemon",
    ]);
    expect(valuesOf(unit, "Service", "ProtectSystem")).toEqual(["strict"]);
    expect(valuesOf(unit, "Service", "StateDirectory")).toEqual(["boundary-ship"]);
    for (const key of ["ReadWritePaths", "LogsDirectory", "RuntimeDirectory", "ConfigurationDirectory"]) {
      expect(valuesOf(unit, "Service", key)).toEqual([]);
    }
  });

  test("shipping and the egress proxy alone may reach another host: who else may open an IP socket is denied every address", () => {
    const withIp = unitNames().filter((name) =>
      /AF_INET|^$/.test(valuesOf(readUnit(name), "Service", "RestrictAddressFamilies").join(" ")),
    );
    expect(withIp).toEqual(["boundary-daemon.service", EGRESS_UNIT, SHIP_UNIT, WORKER_UNIT]);
    for (const name of unitNames().filter((one) => one !== SHIP_UNIT && one !== EGRESS_UNIT)) {
      expect(valuesOf(readUnit(name), "Service", "IPAddressDeny")).toEqual(["any"]);
      // of the worker it is the loopback of a network of its own, or of a sandbox's
      const local = name === WORKER_UNIT ? ["localhost"] : [];
      expect(valuesOf(readUnit(name), "Service", "IPAddressAllow")).toEqual(local);
      if (local.length > 0) expect(valuesOf(readUnit(name), "Service", "PrivateNetwork")).toEqual(["yes"]);
    }
  });

  test("of the host's devices the daemon sees keyboards and USB, and of /sys it writes what devices there are", () => {
    const unit = readUnit("boundary-daemon.service");
    expect(valuesOf(unit, "Service", "DevicePolicy")).toEqual(["closed"]);
    expect(valuesOf(unit, "Service", "DeviceAllow")).toEqual(["char-input r", "char-usb_device rw"]);
    for (const name of NODE_UNITS) {
      expect(valuesOf(readUnit(name), "Service", "ProtectKernelTunables")).toEqual(["yes"]);
      expect(valuesOf(readUnit(name), "Service", "ReadWritePaths")).toEqual(["-/sys/devices -/sys/bus/usb"]);
    }
  });

  test("what decides over USB is given to a group that makes nobody an operator, and that the daemon's units alone have", () => {
    const has = unitNames().filter((name) =>
      valuesOf(readUnit(name), "Service", "SupplementaryGroups")
        .join(" ")
        .split(" ")
        .includes("boundary-usb"),
    );
    expect(has).toEqual(NODE_UNITS);
    const line = (name: string) => readFileSync(join(PROJECT, "systemd", name), "utf8").split("\n");
    expect(line("boundary-daemon.sysusers.conf")).toContain("g boundary-usb - -");
    const given = [...line("60-boundary-usb.rules"), ...line("usb-permissions")].flatMap(
      (each) => /^(?!#).*(?:GROUP=|chgrp )"?([\w-]+)/.exec(each)?.[1] ?? [],
    );
    expect(given).toEqual(["boundary-usb", "boundary-usb", "boundary-usb"]);
  });

  test("the last resort closes only where its owner said so and the daemon enforced", () => {
    expect(valuesOf(readUnit("boundary-lockdown.service"), "Unit", "ConditionPathExists")).toEqual([
      "/etc/boundary-daemon/lockdown-on-failure",
      "/var/lib/boundary-daemon/enforced",
    ]);
  });

  test("shipping is called as boundaryctl can be called", async () => {
    const line = valuesOf(readUnit(SHIP_UNIT), "Service", "ExecStart")[0] ?? "";
    const options = [...line.matchAll(/ --([a-z-]+)/g)].map((hit) => hit[1] ?? "");
    const help = await boundaryctl(["log", "ship", "--help"]);
    const ofNode = [...OF_NODE, "max-semi-space-size", "optimize-for-size"];
    for (const option of options.filter((one) => !ofNode.includes(one)))
      expect(help.stdout).toContain(`--${option}`);
    expect(options).toContain("follow");
  });

  test.each([...NODE_UNITS, SHIP_UNIT, WORKER_UNIT, EGRESS_UNIT])(
    "%s: nothing that aborts V8 or makes it crash, and no code from text",
    (name) => {
      const unit = readUnit(name);
      expect(valuesOf(unit, "Service", "MemoryDenyWriteExecute")).toEqual([]);
      for (const key of ["ExecStart", "ExecStopPost"]) {
        for (const line of valuesOf(unit, "Service", key)) {
          for (const flag of OF_NODE) expect(line).toContain(` --${flag} `);
        }
      }
    },
  );

  test("a crash is followed by closing, by a restart, and when that does not help by a lockdown without Node", () => {
    const unit = readUnit("boundary-daemon.service");
    expect(valuesOf(unit, "Service", "ExecStopPost")[0]).toMatch(/ --close$/);
    expect(valuesOf(unit, "Service", "Restart")).toEqual(["on-failure"]);
    expect(valuesOf(unit, "Service", "KillMode")).toEqual(["mixed"]);
    expect(valuesOf(unit, "Unit", "StartLimitIntervalSec")).not.toEqual([]);
    expect(valuesOf(unit, "Unit", "OnFailure")).toEqual(["boundary-lockdown.service"]);
    expect(valuesOf(readUnit("boundary-early.service"), "Unit", "OnFailure")).toEqual([
      "boundary-lockdown.service",
    ]);
    expect(valuesOf(readUnit("boundary-lockdown.service"), "Service", "ExecStart")[0]).not.toContain("node");
  });

  test("the directories have the modes that are promised", () => {
    const unit = readUnit("boundary-daemon.service");
    const modes = ["Runtime", "State", "Logs", "Configuration"].map((kind) =>
      valuesOf(unit, "Service", `${kind}DirectoryMode`).join(),
    );
    expect(modes).toEqual(["0755", "0700", "0700", "0700"]);
  });
});

describe.skipIf(VERSION === null)("systemd-analyze (needs systemd)", () => {
  test("verify has nothing to say", () => {
    expect(verifyUnits()).toBe("");
  });

  test("verify would say something: a setting that does not exist, a program that is not there", () => {
    withUnits((directory) => {
      const path = join(directory, "boundary-broken.service");
      writeFileSync(path, "[Service]\nExecStart=/nonexistent/program\nNoSuchSetting=yes\n");
      const ran = spawnSync("systemd-analyze", ["verify", "--man=no", path], { encoding: "utf8" });
      expect(ran.stderr).toContain("NoSuchSetting");
      expect(ran.stderr).toContain("/nonexistent/program");
    });
  });

  test("every unit has its score on record", () => {
    expect(new Set(RECORDED.map(([name]) => name))).toEqual(new Set(unitNames()));
  });

  test.skipIf(VERSION !== RECORDED_VERSION).each(unitNames())(
    "%s scores no worse than docs/OPERATIONS.md says (compared on the same systemd only)",
    (name) => {
      const recorded = Number(RECORDED.find(([unit]) => unit === name)?.[1]);
      expect(recorded).toBeGreaterThan(0);
      expect(exposureOf(name)).toBeLessThanOrEqual(recorded);
    },
  );
});

describe.skipIf(VERSION === null || !ROOT)("sysusers and tmpfiles (need systemd and root)", () => {
  let root: string;
  beforeAll(() => {
    root = mkdtempSync(join(tmpdir(), "boundary-root-"));
    for (const dir of ["etc", "usr/lib", "var/lib", "var/log"])
      mkdirSync(join(root, dir), { recursive: true });
  });
  afterAll(() => rmSync(root, { recursive: true, force: true }));

  test("make the user, the group and the directories, for nobody else to read", () => {
    const sysusers = join(PROJECT, "systemd/boundary-daemon.sysusers.conf");
    const tmpfiles = join(PROJECT, "systemd/boundary-daemon.tmpfiles.conf");
    const user = spawnSync("systemd-sysusers", [`--root=${root}`, sysusers], { encoding: "utf8" });
    expect(user).toMatchObject({ status: 0 });
    const uid = Number(/^boundary:[^:]*:(\d+):/m.exec(readFileSync(join(root, "etc/passwd"), "utf8"))?.[1]);
    expect(uid).toBeGreaterThan(0);
    // nobody's own group, with nobody in it
    expect(readFileSync(join(root, "etc/group"), "utf8")).toMatch(/^boundary-usb:[^:]*:\d+:$/m);
    expect(readFileSync(join(root, "etc/passwd"), "utf8")).not.toContain("boundary-usb");
    const made = spawnSync("systemd-tmpfiles", ["--create", `--root=${root}`, tmpfiles], {
      encoding: "utf8",
    });
    expect(made).toMatchObject({ status: 0, stderr: "" });
    for (const dir of ["etc/boundary-daemon", "var/lib/boundary-daemon", "var/log/boundary-daemon"]) {
      const { mode, uid: owner } = statSync(join(root, dir));
      expect([dir, (mode & 0o7777).toString(8), owner]).toEqual([dir, "700", uid]);
    }
  });
});

const TRACED = VERSION !== null && ROOT && isOnHost("strace") && isOnHost("libnftables.so.1") && canUnshare();

describe.skipIf(!TRACED)(
  "the sandbox (needs root, strace, systemd and nftables)",
  { timeout: 60_000 },
  () => {
    const unit = readUnit("boundary-daemon.service");
    let calls: ReadonlySet<string>;
    let families: ReadonlySet<string>;

    beforeAll(() => {
      const directory = mkdtempSync(join(tmpdir(), "boundary-strace-"));
      try {
        const trace = join(directory, "trace");
        const ran = spawnSync(
          "unshare",
          [
            "-n",
            "strace",
            "-f",
            "-qq",
            "-o",
            trace,
            join(PROJECT, "node_modules/.bin/node"),
            "--disallow-code-generation-from-strings",
            join(PROJECT, "tests/support/typical-calls.ts"),
          ],
          { encoding: "utf8", timeout: 50_000 },
        );
        if (ran.stdout !== "done\n") throw new Error(`typical-calls: ${ran.stdout}${ran.stderr}`);
        const text = readFileSync(trace, "utf8");
        calls = new Set([...text.matchAll(/^\d+ +([a-z_0-9]+)\(/gm)].map((hit) => hit[1] ?? ""));
        families = new Set([...text.matchAll(/ socket\((AF_[A-Z0-9]+)/g)].map((hit) => hit[1] ?? ""));
      } finally {
        rmSync(directory, { recursive: true, force: true });
      }
    });

    test("lets through every system call of Node, koffi, libnftables, nft and ip", () => {
      const allowed = allowedCalls(unit);
      expect(calls.size).toBeGreaterThan(30);
      expect(calls).toContain("inotify_add_watch");
      expect([...calls].filter((name) => !allowed.has(name))).toEqual([]);
    });

    test("lets through every address family they use", () => {
      const allowed = valuesOf(unit, "Service", "RestrictAddressFamilies").join(" ").split(" ");
      expect(families).toContain("AF_NETLINK");
      expect([...families].filter((name) => !allowed.includes(name))).toEqual([]);
    });

    test("an ordinary user with the ambient capability loads the last resort, which drops even loopback", () => {
      const script = `
      ip link set lo up
      timeout 1 bash -c 'exec 3<>/dev/tcp/127.0.0.1/9' 2>/dev/null; echo "before $?"
      setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs \\
        --inh-caps -all,+net_admin --ambient-caps -all,+net_admin --bounding-set -all,+net_admin \\
        bash -c 'nft -f - <"$0/lockdown.nft" && nft -f - <"$0/lockdown-arp.nft"' ${PROJECT}/systemd; echo "loaded $?"
      timeout 1 bash -c 'exec 3<>/dev/tcp/127.0.0.1/9' 2>/dev/null; echo "after $?"
    `;
      const ran = spawnSync("unshare", ["-n", "bash", "-c", script], { encoding: "utf8", timeout: 20_000 });
      // nobody listens there: refused at once while open, no answer until the time is up when closed
      expect(ran.stdout.trim().split("\n")).toEqual(["before 1", "loaded 0", "after 124"]);
    });
  },
);

describe.skipIf(VERSION === null || !isOnHost("strace") || !isOnHost("openssl"))(
  "the sandbox of shipping (needs strace, systemd and openssl)",
  { timeout: 60_000 },
  () => {
    test("lets through every system call and address family of a hand-over by TLS, with a name to look up", async () => {
      const base = shipDirectory();
      const pem = makeCertificates(base.path);
      const receiver = await startReceiver(pem.server);
      try {
        const log = await evenLog({ segments: 2, batches: 3, perBatch: 3 });
        putLog(join(base.path, "log"), log);
        const trace = join(base.path, "trace");
        const where = [
          "--dir",
          join(base.path, "log"),
          "--cursor",
          join(base.path, "cursor"),
          "--key",
          log.vkey,
        ];
        const to = ["--to", `tls://localhost:${receiver.port}`, "--ca", pem.ca];
        const node = [join(PROJECT, "node_modules/.bin/node"), "--disallow-code-generation-from-strings"];
        const args = [
          "-f",
          "-qq",
          "-o",
          trace,
          ...node,
          join(PROJECT, "cli/main.ts"),
          "log",
          "ship",
          "--once",
          ...to,
          ...where,
        ];
        const [code] = (await once(spawn("strace", args, { stdio: "ignore" }), "exit")) as [number | null];
        expect(code).toBe(0);
        expect(receiver.messages).toHaveLength(log.lines.length);
        const text = readFileSync(trace, "utf8");
        const calls = new Set([...text.matchAll(/^\d+ +([a-z_0-9]+)\(/gm)].map((hit) => hit[1] ?? ""));
        const families = new Set([...text.matchAll(/ socket\((AF_[A-Z0-9]+)/g)].map((hit) => hit[1] ?? ""));
        const unit = readUnit(SHIP_UNIT);
        const allowed = allowedCalls(unit);
        expect(calls).toContain("fsync");
        expect([...calls].filter((name) => !allowed.has(name))).toEqual([]);
        // glibc asks netlink for the host's addresses to sort what it found, and does without when it may not
        const may = [
          ...valuesOf(unit, "Service", "RestrictAddressFamilies").join(" ").split(" "),
          "AF_NETLINK",
        ];
        expect(families).toContain("AF_INET");
        expect([...families].filter((name) => !may.includes(name))).toEqual([]);
      } finally {
        await receiver.stop();
        base.remove();
      }
    });
  },
);

function canUnshare(): boolean {
  return spawnSync("unshare", ["-n", "true"]).status === 0;
}
