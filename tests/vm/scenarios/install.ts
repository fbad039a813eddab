import { OPERATOR, until } from "../guest.ts";
import { quoted, type Stage } from "../stage.ts";

/** CAP_LINUX_IMMUTABLE (9) and CAP_NET_ADMIN (12). */
const CAPABILITIES = "0000000000001200";
/** A host of one's own does it in a second. */
const POLICIES_MS = 180_000;
/** What the units may score at most on a running systemd: docs/OPERATIONS.md has the offline scores. */
const MAX_EXPOSURE = 2.5;

/** An emulated CPU, shared with others, is tens of times slower than a real one. Nothing else of the units is changed. */
const SLOW_HOST = `
for unit in boundary-daemon boundary-early boundary-lockdown; do
  mkdir -p /etc/systemd/system/$unit.service.d
  printf '[Service]\\nTimeoutStartSec=240\\nTimeoutStopSec=60\\n' >/etc/systemd/system/$unit.service.d/slow-host.conf
done
systemctl daemon-reload`;

/** As a user would: from a built tree, by install.sh, then enabled. Leaves a daemon in RESTRICTED, in shadow. */
export async function install(stage: Stage): Promise<void> {
  const { guest, check } = stage;
  await guest.ok(
    "echo net.ipv4.ip_forward=1 >/etc/sysctl.d/forward.conf; echo 1 >/proc/sys/net/ipv4/ip_forward",
  );
  await stage.checkPaths("a host without the daemon", "all");

  await guest.ok("mkdir -p /mnt/product && mount -o ro /dev/vdb /mnt/product");
  const installed = await guest.run("sh /mnt/product/systemd/install.sh", 400);
  check("install.sh ends with 0", installed.code === 0, installed.stderr + installed.stdout);
  await guest.ok("usermod -aG boundary olga");
  // what a person waits for is not what is tested here
  await guest.ok("printf 'ceremony:\\n  coolDownMs: 1000\\n' >>/etc/boundary-daemon/config.yaml");
  await guest.ok("touch /etc/boundary-daemon/lockdown-on-failure");
  const good = await guest.run(
    "runuser -u boundary -- boundary-daemon --check-config --config /etc/boundary-daemon/config.yaml",
  );
  check("the installed configuration is good", good.code === 0, good.stderr);

  await guest.ok(SLOW_HOST);
  const enabled = await guest.run("systemctl enable --now boundary-early boundary-daemon", 300);
  check("systemctl enable --now ends with 0", enabled.code === 0, enabled.stderr);
  const pid = await stage.daemonUp();
  await identity(stage, pid);
  await sandbox(stage, pid);
  await asked(stage);
  await stage.checkPaths("RESTRICTED", "all");
  await shipping(stage);
  // what the guests that go on from here need not read again
  const read = await until(async () => (await stage.records("policy.loaded")).length > 0, POLICIES_MS);
  check("the policies are read", read, await stage.records("policy.refused"));
}

/** Rules for what is plugged in, and then enforcing. Leaves a daemon in RESTRICTED that enforces. */
export async function enforce(stage: Stage): Promise<void> {
  const { guest, check } = stage;
  const proposed = await stage.ctl("usb", "generate-policy");
  check(
    "usb generate-policy names the keyboard that is plugged in",
    proposed.code === 0 && proposed.stdout.includes(OPERATOR),
    proposed,
  );
  await guest.ok(
    `systemctl stop boundary-daemon
     cd /etc/boundary-daemon
     install -o boundary -g boundary -m 0600 /dev/null usb.rules
     cat >usb.rules <<'END'\n${proposed.stdout}\nEND
     printf 'usb:\\n  rulesFile: /etc/boundary-daemon/usb.rules\\n' >>config.yaml
     boundaryctl usb check usb.rules
     systemctl start boundary-daemon`,
    300,
  );
  await stage.daemonUp();
  const enforced = await stage.ctl("enforce", "--reason", "the test asks for it");
  const { mode, assurance, controls } = await stage.status();
  check(
    "enforced, an operator sees RESTRICTED, applied and enforced",
    enforced.code === 0 &&
      mode.hold === "enforcing" &&
      mode.applied === "RESTRICTED" &&
      assurance === "enforced",
    [enforced, mode, controls],
  );
  for (const name of ["network", "usb"]) {
    const control = controls.find((one) => one.name === name);
    check(`the control ${name} is enforced`, control?.state === "enforced", control);
  }
  await stage.checkPaths("RESTRICTED, enforced", "all");
}

async function identity({ guest, check }: Stage, pid: number): Promise<void> {
  const status = await guest.ok(`cat /proc/${pid}/status; stat -c %U /proc/${pid}`);
  const field = (name: string) => new RegExp(`^${name}:\\s+(.*)$`, "m").exec(status)?.[1] ?? "";
  check("the daemon runs as boundary", status.trimEnd().endsWith("boundary"), status);
  for (const name of ["CapEff", "CapPrm", "CapBnd", "CapAmb"])
    check(`${name} is CAP_NET_ADMIN and CAP_LINUX_IMMUTABLE`, field(name) === CAPABILITIES, field(name));
  check(
    "it cannot gain privileges, and has a system call filter",
    field("NoNewPrivs") === "1" && field("Seccomp") === "2",
  );
  const watchdog = await guest.ok("systemctl show -P WatchdogUSec boundary-daemon");
  check("systemd waits for its watchdog messages", watchdog.trim() === "10s", watchdog);
  const security = await guest.ok(
    "systemd-analyze security --no-pager boundary-daemon.service boundary-early.service | grep Overall",
  );
  const worst = Math.max(...[...security.matchAll(/: ([0-9.]+)/g)].map((hit) => Number(hit[1])));
  check(
    `systemd-analyze security of the running units: at most ${MAX_EXPOSURE}`,
    worst <= MAX_EXPOSURE,
    security,
  );
}

/** From within the daemon's mount namespace and control group, as its user: what the unit lets through and what not. */
async function sandbox({ guest, check }: Stage, pid: number): Promise<void> {
  const within = (line: string) =>
    guest.run(
      `echo $$ >/sys/fs/cgroup/system.slice/boundary-daemon.service/cgroup.procs && exec nsenter -t ${pid} -m ${line}`,
    );
  const asBoundary = (line: string) =>
    within(`setpriv --reuid boundary --regid boundary --groups boundary-usb bash -c ${quoted(line)}`);
  const usb = "/sys/bus/usb/devices/usb1";
  const may: readonly (readonly [string, string])[] = [
    ["write a controller's authorized_default", `echo 1 >${usb}/authorized_default`],
    ["write a controller's interface_authorized_default", `echo 1 >${usb}/interface_authorized_default`],
    ["write an interface's authorized", "echo 1 >/sys/bus/usb/devices/1-0:1.0/authorized"],
    ["open drivers_probe for writing", ": >>/sys/bus/usb/drivers_probe"],
  ];
  for (const [what, line] of may) {
    const ran = await asBoundary(line);
    check(`the daemon's user may ${what}`, ran.code === 0, ran.stderr);
  }
  const operator = await within(
    `setpriv --reuid nobody --regid boundary --clear-groups bash -c ${quoted(may[0]?.[1] ?? "")}`,
  );
  check("but not a member of the group boundary, which operators are", operator.code !== 0);
  const power = await asBoundary(`echo on >${usb}/power/control`);
  check("but not a controller's other files", power.code !== 0);
  const denied: readonly (readonly [string, string])[] = [
    ["/proc/sys", "echo 60 >/proc/sys/vm/swappiness"],
    ["/sys outside the devices", "echo 2 >/sys/module/usbcore/parameters/autosuspend"],
    ["the program", ": >>/usr/lib/boundary-daemon/package.json"],
    ["the configuration", ": >>/etc/boundary-daemon/config.yaml"],
    ["a disk", ": </dev/vda"],
  ];
  for (const [what, line] of denied) {
    const ran = await within(`bash -c ${quoted(line)}`);
    const outside = await guest.run(line); // else the line itself would be wrong
    check(
      `not even root inside the sandbox touches ${what}`,
      ran.code !== 0 && outside.code === 0,
      outside.stderr,
    );
  }
  const input = await within(`bash -c ${quoted(": </dev/input/event0")}`);
  check("keyboards can be opened for reading", input.code === 0, input.stderr);
  const bus = await within(`bash -c ${quoted(": <>/dev/bus/usb/001/001")}`);
  check("USB devices can be opened", bus.code === 0, bus.stderr);
}

async function asked(stage: Stage): Promise<void> {
  const { guest, check } = stage;
  const status = await stage.status();
  check(
    "an operator sees RESTRICTED, in shadow, and no claim that anything is held",
    status.mode.wanted === "RESTRICTED" && status.mode.hold === "shadow" && status.assurance === "observed",
    [status.mode, status.assurance],
  );
  const stranger = await guest.run("runuser -u mallory -- boundaryctl status", 240);
  check("who is not in the group gets no answer", stranger.code !== 0 && stranger.stdout === "", stranger);
  const version = await guest.run(
    "man -w boundaryctl 2>/dev/null; ls /usr/share/man/man1/boundaryctl.1 /usr/share/bash-completion/completions/boundaryctl",
  );
  check("man page and completion are there", version.code === 0, version.stderr);
}

async function shipping({ guest, check }: Stage): Promise<void> {
  await guest.ok("systemctl start boundary-ship");
  const shown = await guest.ok("systemctl show -P ConditionResult -P ActiveState boundary-ship");
  check(
    "boundary-ship is left out: it was not told where to",
    shown.includes("no") && shown.includes("inactive"),
    shown,
  );
}
