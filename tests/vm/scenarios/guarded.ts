import { setTimeout as sleep } from "node:timers/promises";
import type { Ran } from "../agent.ts";
import { until } from "../guest.ts";
import type { Stage } from "../stage.ts";

const WORKER = "boundary-worker.service";
const EGRESS = "boundary-egress.service";
const WORKSPACE = "/srv/work";
const MEMORY_BYTES = 96 * 1024 * 1024;
const PROCESSES = 40;
const SECRET = ["open", "sesame", "9f2c1d7b6a"].join("-");

/** What is run here, each with a name of its own: a script is a program like any other. */
const PROGRAMS: Readonly<Record<string, string>> = {
  "t-look":
    "cat note; echo written >out; chmod u+s out; id -un; ls -A /run /var/log/boundary-daemon /etc/boundary-daemon 2>&1",
  "t-group": "cat /proc/self/cgroup; head -n1 /proc/1/comm; ls -d /proc/[0-9]* | wc -l",
  "t-memory": "v=xxxxxxxxxxxxxxxx; while :; do v=$v$v; done",
  "t-many": "i=0; while [ $i -lt 100 ]; do sleep 30 & i=$((i+1)); done; echo all started",
  "t-tree": "(trap '' TERM; setsid sleep 7919) & (setsid sleep 7919) & trap '' TERM; sleep 7919",
  "t-wait": "echo begun; sleep 7927",
  "t-out": "ping -c1 -W2 10.66.0.1 2>&1; ip -br link 2>&1 || true",
  "t-digest": "sha256sum",
  "t-show": "cat",
};

const PROFILES = `version: 1
profiles:
  - name: default
    modes: [OPEN, RESTRICTED, TRUSTED, AIRGAP]
    unlisted: deny
    unresolved: deny
    searchPath: [/usr/local/bin]
    environment: []
    programs:
${Object.keys(PROGRAMS)
  .map((name) => `      - { name: [${name}], rules: [{ id: run, verdict: allow, match: [${name}] }] }`)
  .join("\n")}
`;

/** The worker as it is shipped: its unit, its groups, and commands in its sandbox. Leaves a vault that is locked. */
export async function guarded(stage: Stage): Promise<void> {
  await prepare(stage);
  await unit(stage);
  await sandbox(stage);
  await limits(stage);
  await secrets(stage);
  await ends(stage);
}

async function prepare(stage: Stage): Promise<void> {
  const { guest, check } = stage;
  const programs = Object.entries(PROGRAMS).map(
    ([name, text]) =>
      `install -m 0755 /dev/null /usr/local/bin/${name}; cat >/usr/local/bin/${name} <<'END'\n#!/bin/sh\n${text}\nEND`,
  );
  const uid = (await guest.ok("id -u olga")).trim();
  await guest.ok(
    `${programs.join("\n")}
     install -d -m 0775 -o olga -g boundary-worker ${WORKSPACE}
     echo hello >${WORKSPACE}/note
     systemctl stop boundary-daemon
     cd /etc/boundary-daemon
     cat >exec.yaml <<'END'\n${PROFILES}END
     cat >entities.yaml <<'END'
users: [{ id: "${uid}", workspaces: [site] }]
resources: [{ type: secret, id: site/token, properties: { workspace: site } }]
END
     chown boundary:boundary exec.yaml entities.yaml; chmod 0600 exec.yaml entities.yaml
     cat >>config.yaml <<'END'
exec:
  profilesFile: /etc/boundary-daemon/exec.yaml
  workspaces: [${WORKSPACE}]
  require: [namespaces, seccomp, readOnlyRoot, cgroup]
  memoryBytes: ${MEMORY_BYTES}
  processes: ${PROCESSES}
policy:
  entitiesFile: /etc/boundary-daemon/entities.yaml
END
     for unit in ${WORKER} ${EGRESS}; do
       mkdir -p /etc/systemd/system/$unit.d
       printf '[Service]\\nTimeoutStartSec=240\\nTimeoutStopSec=60\\n' >/etc/systemd/system/$unit.d/slow-host.conf
     done
     systemctl daemon-reload`,
    300,
  );
  const enabled = await guest.run(
    `systemctl enable ${WORKER} ${EGRESS} && systemctl start boundary-daemon`,
    300,
  );
  check("the daemon starts with profiles, a workspace and a registry", enabled.code === 0, enabled);
  await stage.daemonUp();
  const read = await until(() => policiesRead(stage), 180_000, 2_000);
  check("and reads the policies with it", read, await stage.records("policy.refused"));
}

async function policiesRead(stage: Stage): Promise<boolean> {
  return /^\d+ policies/.test((await row(stage, "policy"))?.detail ?? "");
}

async function unit(stage: Stage): Promise<void> {
  const { guest, check } = stage;
  const up = await until(() => ready(stage), 180_000, 1_000);
  check("the worker comes with the daemon, and its sandbox has every part", up, await stage.status());
  const way = await until(
    async () => (await row(stage, "egress"))?.detail.startsWith("commands reach") ?? false,
    60_000,
  );
  check("and so does the egress process", way, await row(stage, "egress"));
  for (const name of ["worker", "egress"]) {
    const main = (await guest.ok(`systemctl show -P MainPID boundary-${name}`)).trim();
    const status = await guest.ok(`cat /proc/${main}/status; stat -c %U /proc/${main}`);
    check(
      `boundary-${name} runs as a user of its own`,
      status.trimEnd().endsWith(`boundary-${name}`),
      status,
    );
    const held = ["CapEff", "CapPrm", "CapBnd", "CapAmb", "CapInh"].filter(
      (set) => !new RegExp(`^${set}:\\s+0+$`, "m").test(status),
    );
    check("without any capability", held.length === 0, status);
  }
  const pid = (await guest.ok(`systemctl show -P MainPID ${WORKER}`)).trim();
  const open = await guest.run(`ls -l /proc/${pid}/fd | grep -E 'boundary-daemon/(vault|log|[a-z]*\\.key)'`);
  check("the worker has none of the daemon's files open", open.code === 1, open.stdout);
}

async function sandbox(stage: Stage): Promise<void> {
  const { guest, check } = stage;
  const looked = await run(stage, "t-look");
  check("a command reads its workspace", looked.stdout.startsWith("hello\n"), looked);
  const written = await guest.run(`cat ${WORKSPACE}/out; stat -c %A ${WORKSPACE}/out`);
  check(
    "and writes it, and makes no program of it that runs as another",
    written.stdout === "written\n-rw-r--r--\n",
    written,
  );
  const hidden = looked.stdout.split("\n").slice(2).join("\n");
  check(
    "and sees neither the daemon's sockets nor its log nor its configuration",
    !/\.sock|jsonl|config\.yaml/.test(hidden),
    looked.stdout,
  );
  const grouped = await run(stage, "t-group");
  check(
    "it is in a control group of its own, below the worker's, and sees no process but its own",
    /^0::\//m.test(grouped.stdout) && Number(grouped.stdout.trim().split("\n").at(-1)) < 10,
    grouped.stdout,
  );
  const network = await run(stage, "t-out");
  check(
    "it reaches nobody",
    !network.stdout.includes("1 received") && !network.stdout.includes("eth0"),
    network,
  );
  const denied = await run(stage, "id");
  check("a program that no rule names is denied", denied.code === 126, denied);
}

async function limits(stage: Stage): Promise<void> {
  const { guest, check } = stage;
  const hungry = await run(stage, "t-memory", "--timeout", "120s");
  const killed = await guest.run(
    "journalctl -k -b --no-pager -o cat | grep -c 'Memory cgroup out of memory'",
  );
  check(
    "one that takes more memory than it may is ended by the kernel, in its own group",
    hungry.code !== 0 && hungry.code !== 124 && Number(killed.stdout) > 0,
    [hungry, killed.stdout],
  );
  check("and the worker goes on", (await guest.run(`systemctl is-active ${WORKER}`)).code === 0);
  const many = await run(stage, "t-many", "--timeout", "60s");
  check(
    "one that starts more processes than it may cannot",
    !many.stdout.includes("all started") && /fork|Resource temporarily/.test(many.stderr),
    many,
  );
  const late = await run(stage, "t-tree", "--timeout", "5s", "--grace", "2s");
  check("one whose time is over is ended", late.code === 124, late);
  check("with all that it has started", await gone(stage, "sleep 7919"));
  const groups = await guest.ok(
    `find /sys/fs/cgroup/system.slice/${WORKER} -mindepth 1 -type d | grep -vc '/supervisor$' || true`,
  );
  check("no group is left behind", Number(groups) <= 1, groups);
}

async function secrets(stage: Stage): Promise<void> {
  const { guest, check } = stage;
  const made = await stage.ctl("vault", "unlock", "site", "--create", "--kek", "file");
  check("an operator makes a workspace of secrets", made.code === 0, made);
  const put = await guest.run(
    `printf '%s\\n' ${SECRET} | runuser -u olga -- boundaryctl secret put token --workspace site`,
    240,
  );
  check("and puts a secret into it", put.code === 0, put);
  const digest = (await guest.ok(`printf '%s' ${SECRET} | sha256sum | cut -d' ' -f1`)).trim();
  const injected = await inject(stage, "t-digest");
  check("a command gets it on its stdin, by the shipped policy", injected.stdout.includes(digest), injected);
  const shown = await inject(stage, "t-show");
  check(
    "one that prints it prints what stands for it",
    shown.code === 0 && shown.stdout.includes("[redacted:") && !shown.stdout.includes(SECRET),
    shown,
  );
  const locked = await stage.ctl("vault", "lock", "site");
  check("locked again", locked.code === 0, locked);
  check("it is no more to be had", (await inject(stage, "t-digest")).code !== 0);
  const found = await guest.run(
    `journalctl --no-pager -o cat | grep -c ${SECRET}; grep -rlF ${SECRET} /var/log/boundary-daemon /var/lib/boundary-daemon /run ${WORKSPACE}`,
  );
  check("its value is in no log, no file of ours and not in /run", found.stdout === "0\n", found.stdout);
}

/** Who ends a command, and how soon. */
async function ends(stage: Stage): Promise<void> {
  const { guest, check } = stage;
  await begin(stage);
  const down = await stage.ctl("mode", "set", "LOCKDOWN", "--reason", "the test asks for it");
  check("LOCKDOWN ends what runs", down.code === 0 && (await gone(stage, "sleep 7927")), down);
  const refused = await run(stage, "t-look");
  check("and nothing is begun in it", refused.code === 126, refused);
  const left = await stage.ceremony("the test goes on");
  check("an operator leaves LOCKDOWN by ceremony", left.code === 0, left);

  await begin(stage);
  const pid = (await guest.ok("systemctl show -P MainPID boundary-daemon")).trim();
  await guest.ok(`kill -9 ${pid}`);
  check("a daemon that dies takes with it what runs", await gone(stage, "sleep 7927"));
  await guest.ok(
    `until [ "$(systemctl show -P MainPID boundary-daemon)" -gt 0 ] && [ "$(systemctl show -P MainPID boundary-daemon)" != ${pid} ]; do sleep 0.5; done`,
    200,
  );
  await stage.daemonUp();
  await stage.ceremony("the test goes on");
  const back = await until(() => ready(stage), 180_000, 1_000);
  check("the worker is there again with the next daemon", back, await stage.status());
  const again = await run(stage, "t-look");
  check("and runs", again.stdout.startsWith("hello\n"), again);
}

/** A command that runs until it is ended. */
async function begin(stage: Stage): Promise<void> {
  await stage.guest.ok(
    `cd ${WORKSPACE}; systemd-run --quiet --collect --uid olga --working-directory ${WORKSPACE} boundaryctl exec run --timeout 170s -- t-wait`,
    240,
  );
  const runs = await until(
    async () => (await stage.guest.run("pgrep -fx 'sleep 7927'")).code === 0,
    120_000,
    500,
  );
  stage.check("a command runs", runs);
}

async function gone(stage: Stage, line: string): Promise<boolean> {
  const is = await until(async () => (await stage.guest.run(`pgrep -fx '${line}'`)).code === 1, 20_000, 250);
  await sleep(250);
  return is && (await stage.guest.run(`pgrep -fx '${line}'`)).code === 1;
}

async function row(stage: Stage, wanted: string) {
  return (await stage.status()).controls.find(({ name }) => name === wanted);
}

/** The worker is there, and the self-tests of the start are over: a command is ordered only as the mode was held when it was judged. */
async function ready(stage: Stage): Promise<boolean> {
  const { assurance, controls } = await stage.status();
  return assurance === "enforced" && controls.find(({ name }) => name === "exec")?.state === "enforced";
}

function run(stage: Stage, program: string, ...options: readonly string[]): Promise<Ran> {
  return asOlga(stage, `exec run ${options.join(" ")} -- ${program}`);
}

function inject(stage: Stage, program: string): Promise<Ran> {
  return asOlga(stage, `secret inject site/token -- ${program}`);
}

function asOlga({ guest }: Stage, line: string): Promise<Ran> {
  return guest.run(`cd ${WORKSPACE} && runuser -u olga -- boundaryctl ${line}`, 240);
}
