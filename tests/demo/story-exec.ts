import { spawn, spawnSync } from "node:child_process";
import { chownSync, mkdirSync, readdirSync, readFileSync, realpathSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { stringify } from "yaml";
import { readOwnVkey } from "../../cli/own-state.ts";
import type { Ran } from "../support/boundaryctl.ts";
import { type DaemonHome, startDaemon } from "../support/daemon-process.ts";
import { asWorker, NO_SANDBOX, startWorker, UID, until, type WorkerHost } from "../support/worker-host.ts";
import { type Ctl, createCtl } from "./ctl.ts";
import type { Report } from "./report.ts";

const MAIN = fileURLToPath(new URL("../../cli/main.ts", import.meta.url));
const WORKER = fileURLToPath(new URL("../../daemon/worker/main.ts", import.meta.url));
const ROOT = process.getuid?.() === 0;
/** Who asks: nobody where root can play him, and else ourselves. */
const ASKER = ROOT ? 65_534 : (process.getuid?.() ?? 0);
const READY_MS = 15_000;
/** Of no form: known because it is sealed. */
const SEALED = ["correct", "horse", "battery", "7f3a9b"].join("-");
/** As GitLab makes them; nobody's. */
const PLANTED = ["glpat", "R8sKd02LmQx7VbNcT5yWz"].join("-");

const PROFILES = `version: 1
profiles:
  - name: demo
    modes: [OPEN, RESTRICTED, TRUSTED, AIRGAP]
    unlisted: deny
    unresolved: deny
    searchPath: [/usr/bin]
    programs:
      - name: [cat]
        rules:
          - { id: show, verdict: allow, operands: ['readable*'], match: ['cat a.txt'] }
      - name: [sha256sum]
        rules:
          - { id: sum, verdict: allow, operands: ['readable*'], match: ['sha256sum a.txt'] }
      - name: [sleep]
        rules:
          - { id: wait, verdict: allow, operands: ['number'], match: ['sleep 1'] }
      - name: [touch]
        rules:
          - { id: make, verdict: ask, operands: ['writable'], match: ['touch a.txt'] }
`;

type Story = {
  readonly report: Report;
  readonly home: DaemonHome;
  readonly ctl: Ctl;
  readonly worker: WorkerHost;
  /** boundaryctl, by who asks: a word or two, then what they take. */
  readonly ask: (words: readonly string[], args: readonly string[], stdin?: string) => Promise<Ran>;
  /** `exec run` in the worker's workspace. */
  readonly run: (args: readonly string[], stdin?: string) => Promise<Ran>;
};

/** `npm run demo -- exec`: a real daemon, and a real worker with its sandbox, under a user of its own where root can give it one. */
export async function tellExec(report: Report, home: DaemonHome): Promise<void> {
  const why = NO_SANDBOX === "" ? unreadable() : NO_SANDBOX;
  const profilesFile = join(home.path, "etc", "exec.yaml");
  const entitiesFile = join(home.path, "etc", "entities.yaml");
  writeFileSync(profilesFile, PROFILES, { mode: 0o600 });
  writeFileSync(
    entitiesFile,
    stringify({
      users: [{ id: String(ASKER), workspaces: ["build"] }],
      resources: [{ type: "secret", id: "build/deploy", properties: { workspace: "build" } }],
    }),
    { mode: 0o600 },
  );
  writeFileSync(
    home.configFile,
    stringify({
      initialMode: "OPEN",
      log: { appendOnly: false },
      roles: { operator: { users: [ASKER] } },
      ...(ROOT ? { socket: { group: ASKER } } : {}),
      policy: { entitiesFile },
      exec: { profilesFile, workspaces: [realpathSync(tmpdir())] },
    }),
    { mode: 0o600 },
  );
  const daemon = await startDaemon(home);
  try {
    if (why === "") await withWorker(report, home, daemon.lines);
    else await withoutWorker(report, home, why);
    report.step(9, "boundaryctl verify-log: what was decided, started and ended is on record");
    await daemon.stop();
    await verified(report, home, why === "");
  } finally {
    await daemon.kill();
  }
}

async function withWorker(report: Report, home: DaemonHome, lines: readonly string[]): Promise<void> {
  const at = `${home.runtimeDir}-worker`;
  mkdirSync(at, { mode: 0o750 });
  chownSync(at, UID, process.getgid?.() ?? 0);
  const worker = await startWorker([], [], join(at, "worker.sock"));
  try {
    await until(() => lines.some((line) => line.includes("the worker is ready")), READY_MS);
    const ask: Story["ask"] = (words, args, stdin) =>
      asAsker([...words, "--runtime-dir", home.runtimeDir, ...args], stdin);
    const place = ["--profile", "demo", "--workspace", worker.workspace, "--cwd", worker.workspace];
    const run: Story["run"] = (args, stdin) => ask(["exec", "run"], [...place, ...args], stdin);
    await tell({ report, home, ctl: createCtl(home), worker, ask, run }, place);
  } finally {
    await worker.stop();
  }
}

async function tell(story: Story, place: readonly string[]): Promise<void> {
  const { report, ctl } = story;
  report.step(1, "boundary-daemon decides, boundary-worker runs");
  const status = await ctl.run("status");
  const line = status.stdout.split("\n").find((one) => /^\s*exec\b/.test(one)) ?? "";
  report.saw(
    "status says that the worker's sandbox holds commands",
    line.includes("enforced"),
    line.trim().slice(0, 110),
  );
  await allowedAndDenied(story);
  await approved(story);
  await injected(story, place);
  await planted(story);
  await redacted(story);
  await timedOut(story);
  await lockedDown(story);
}

async function allowedAndDenied({ report, worker, run }: Story): Promise<void> {
  report.step(2, "boundaryctl exec run: what the profile allows, and what it does not");
  writeFileSync(join(worker.workspace, "notes.txt"), "read in the sandbox\n", { mode: 0o644 });
  const good = await run(["--", "cat", "notes.txt"]);
  report.saw(
    "cat notes.txt runs, its output and exit code come",
    good.code === 0 && good.stdout === "read in the sandbox\n",
    firstLine(good),
  );
  const bad = await run(["--", "rm", "-rf", "notes.txt"]);
  report.saw(
    "rm -rf notes.txt: denied, with code and rule",
    bad.code === 126 && /exec-denied.*unlisted/.test(bad.stderr),
    firstLine(bad),
  );
  const shadow = await run(["--", "cat", "/etc/shadow"]);
  report.saw("cat /etc/shadow: denied", shadow.code === 126, firstLine(shadow));
  report.saw(
    "and nothing happened to the file",
    readFileSync(join(worker.workspace, "notes.txt"), "utf8") === "read in the sandbox\n",
  );
}

async function approved({ report, ctl, worker, run }: Story): Promise<void> {
  report.step(3, "What a person has to approve");
  const wish = ["--", "touch", "made.txt"];
  const waits = await run(wish);
  const id = /approvals approve (\S+?),/.exec(waits.stderr)?.[1] ?? "";
  report.saw(
    "touch made.txt: the profile says ask",
    waits.code === 126 && id !== "" && waits.stderr.includes("approval-required"),
    firstLine(waits),
  );
  if (!ROOT) {
    report.note("not shown: nobody approves his own question, and without root there is nobody else here");
    return;
  }
  const said = await ctl.onTerminal("approvals", "approve", id, "--yes");
  report.saw("another person approves exactly this", said.code === 0, said.code === 0 ? "" : said.stdout);
  const other = await run(["--", "touch", "other.txt"]);
  report.saw("another file is another question", other.code === 126, firstLine(other));
  const done = await run(wish);
  const isMade = readdirSync(worker.workspace).includes("made.txt");
  report.saw("touch made.txt runs", done.code === 0 && isMade, firstLine(done));
  const again = await run(wish);
  report.saw("once: the next asks anew", again.code === 126, firstLine(again));
}

async function injected({ report, ask }: Story, place: readonly string[]): Promise<void> {
  report.step(4, "A sealed secret, on the stdin of a command and nowhere else");
  const opened = await ask(["vault", "unlock"], ["build", "--create", "--kek", "file"]);
  const put = await ask(["secret", "put"], ["deploy", "--workspace", "build"], SEALED);
  report.saw("it is sealed in the vault", opened.code === 0 && put.code === 0, firstLine(put));
  const given = await ask(["secret", "inject"], ["build/deploy", ...place, "--", "sha256sum"]);
  const digest = spawnSync("sha256sum", { input: SEALED, encoding: "utf8" }).stdout;
  report.saw(
    "sha256sum reads it: the digest is that of the secret",
    given.code === 0 && given.stdout === digest && digest !== "",
    firstLine(given),
  );
  const shown = await ask(["secret", "inject"], ["build/deploy", ...place, "--", "cat"]);
  report.saw(
    "cat would put it out: it is taken out of the output",
    shown.code === 0 && shown.stdout === "[redacted:known]",
    firstLine(shown),
  );
}

async function planted({ report, worker, run }: Story): Promise<void> {
  report.step(5, "What looks like a secret is given to no command");
  writeFileSync(join(worker.workspace, "deploy.conf"), `# first\ntoken = ${PLANTED}\n`, { mode: 0o644 });
  const tries = {
    "in a file that it names": await run(["--", "cat", "deploy.conf"]),
    "on its stdin": await run(["--stdin", "--", "cat"], `the token is ${PLANTED}\n`),
    "among its words": await run(["--", "cat", PLANTED]),
  };
  for (const [where, { code, stdout, stderr }] of Object.entries(tries))
    report.saw(
      `${where}: refused, with rule and place`,
      code === 126 && stderr.includes("exec-secret") && !(stdout + stderr).includes(PLANTED),
      firstLine({ stdout, stderr }),
    );
}

async function redacted({ report, run }: Story): Promise<void> {
  report.step(6, "Output is searched as it comes");
  const said = await run(["--stdin", "--", "cat"], `before\nit is ${SEALED}, and no more\nafter\n`);
  report.saw(
    "a sealed secret that a command puts out is replaced",
    said.code === 0 && said.stdout === "before\nit is [redacted:known], and no more\nafter\n",
    said.stdout.split("\n")[1] ?? "",
  );
}

async function timedOut({ report, run }: Story): Promise<void> {
  report.step(7, "Time");
  const begunMs = performance.now();
  const late = await run(["--timeout", "1s", "--grace", "1s", "--", "sleep", "60"]);
  const tookMs = performance.now() - begunMs;
  report.saw(
    "sleep 60 is ended after the second that it was given: exit code 124",
    late.code === 124 && late.stderr.includes("its time was over") && tookMs < 10_000,
    firstLine(late),
  );
}

async function lockedDown({ report, home, ctl, run }: Story): Promise<void> {
  report.step(8, "LOCKDOWN ends what runs");
  const before = kinds(home, "exec.started");
  const running = run(["--", "sleep", "60"]);
  await until(() => kinds(home, "exec.started") > before, READY_MS);
  const set = await ctl.run("mode", "set", "lockdown", "--reason", "the demo");
  const ended = await running;
  report.saw(
    "the command that runs is ended, and says by what",
    set.code === 0 && ended.code !== 0 && ended.stderr.includes("mode LOCKDOWN"),
    firstLine(ended),
  );
  const next = await run(["--", "cat", "notes.txt"]);
  report.saw("and none is started", next.code === 126, firstLine(next));
}

async function withoutWorker(report: Report, home: DaemonHome, why: string): Promise<void> {
  console.log(`No command runs here: ${why}. Not shown: anything but that.`);
  report.step(1, "Without a worker");
  const here = realpathSync(home.path);
  const args = ["exec", "run", "--runtime-dir", home.runtimeDir, "--profile", "demo", "--cwd", here];
  const said = await asAsker([...args, "--", "sleep", "1"]);
  report.saw(
    "nothing runs: exit code 125",
    said.code === 125 && said.stderr.includes("exec-unavailable"),
    firstLine(said),
  );
}

async function verified(report: Report, home: DaemonHome, ran: boolean): Promise<void> {
  const key = readOwnVkey(home.stateDir);
  if (key === null) throw new Error("the daemon left no key");
  const said = await createCtl(home).json("verify-log", home.logDir, "--key", key);
  report.saw(
    "the log verifies with the public key alone",
    said["verdict"] === "sound",
    `${said["records"]} records`,
  );
  if (!ran) return;
  const [started, ended] = [kinds(home, "exec.started"), kinds(home, "exec.ended")];
  report.saw("each start has its end", started > 0 && started === ended, `${started} and ${ended}`);
  const text = logText(home);
  report.saw("no secret is in it", ![SEALED, PLANTED].some((secret) => text.includes(secret)));
}

function kinds(home: DaemonHome, kind: string): number {
  return logText(home).split(`"kind":"${kind}"`).length - 1;
}

function logText(home: DaemonHome): string {
  const files = readdirSync(home.logDir).filter((name) => name.endsWith(".jsonl"));
  return files.map((name) => readFileSync(join(home.logDir, name), "utf8")).join("");
}

/** boundaryctl as the one who asks. */
function asAsker(args: readonly string[], stdin = ""): Promise<Ran> {
  const ids = [`--reuid=${ASKER}`, `--regid=${ASKER}`, "--clear-groups", "--"];
  const [program = "", ...rest] = [
    ...(ROOT ? ["/usr/bin/setpriv", ...ids] : []),
    process.execPath,
    MAIN,
    ...args,
  ];
  const child = spawn(program, rest, {
    env: { PATH: process.env["PATH"] ?? "", HOME: "/nonexistent" },
    cwd: "/",
    stdio: ["pipe", "pipe", "pipe"],
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (text: Buffer) => {
    stdout += text.toString();
  });
  child.stderr.on("data", (text: Buffer) => {
    stderr += text.toString();
  });
  child.stdin.on("error", () => undefined); // it may end without having read all
  child.stdin.end(stdin);
  return new Promise((resolve) => child.on("close", (code) => resolve({ code, stdout, stderr })));
}

/** Why the worker's user cannot run our files; "" when he can. */
function unreadable(): string {
  const [program = "", ...args] = asWorker([
    "/usr/bin/test",
    "-r",
    WORKER,
    "-a",
    "-x",
    realpathSync(process.execPath),
  ]);
  return spawnSync(program, args).status === 0
    ? ""
    : `uid ${UID} may not read ${WORKER}, or not run our Node`;
}

function firstLine({ stdout, stderr }: Pick<Ran, "stdout" | "stderr">): string {
  const [line = ""] = (stderr || stdout).trimEnd().split("\n");
  return line.replace(/^boundaryctl: /, "").slice(0, 110);
}
