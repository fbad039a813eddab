import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import type { Evaluation } from "../../daemon/core/access.ts";
import type { ErrorCode } from "../../daemon/core/errors.ts";
import { renderFrame } from "../../daemon/protocol/frame.ts";
import type { ModeReply, Status } from "../../daemon/protocol/messages.ts";
import { problem } from "../../daemon/protocol/problem.ts";
import { testSigner } from "../audit/fixture.ts";
import { boundaryctl, type Ran, startBoundaryctl } from "../support/boundaryctl.ts";
import { type Behaviour, type FakeDaemon, fakeDaemon } from "../support/fake-daemon.ts";
import { testWitnessKey } from "../support/witness-key.ts";

const VKEY = testSigner().vkey;
const WITNESS = testWitnessKey("witness.example/w1").vkey;

const fakes: FakeDaemon[] = [];
afterEach(async () => {
  for (const fake of fakes.splice(0)) await fake.stop();
});

async function fake(behaviours: Parameters<typeof fakeDaemon>[0]): Promise<FakeDaemon> {
  const made = await fakeDaemon(behaviours);
  fakes.push(made);
  return made;
}

async function run(behaviours: Parameters<typeof fakeDaemon>[0], ...args: string[]): Promise<Ran> {
  const { runtimeDir } = await fake(behaviours);
  return boundaryctl([...args, "--runtime-dir", runtimeDir]);
}

const refusal = (code: ErrorCode): Behaviour => ({ problem: problem(code, `because of ${code}`) });

const STATUS: Status = {
  inventory: { missing: "not taken yet" },
  mode: {
    wanted: "AIRGAP",
    applied: "AIRGAP",
    cause: "request",
    since: "2026-01-01T00:00:00.000Z",
    epoch: 3,
    until: "",
    confirmable: false,
    hold: "enforcing",
    holdLasts: "always",
    trialUntil: "",
    keep: "",
  },
  assurance: "enforced",
  frozen: "",
  controls: [
    {
      name: "network",
      state: "enforced",
      detail: "libnftables",
      checkedAt: "2026-01-01T00:00:01.000Z",
      testedAt: "",
    },
  ],
  sensors: [
    { name: "files", state: "watching", via: "inotify" },
    { name: "usb", state: "absent", why: "no USB bus" },
  ],
  drops: { in: 4, out: 2 },
  log: { dir: "/log", size: 42, root: "ab".repeat(32), sealedAt: "", vkey: "b+1+x", state: "writing" },
  changedFiles: [],
  daemon: { version: "0.1.0", pid: 7, startedAt: "2026-01-01T00:00:00.000Z", boot: "b" },
  selftest: null,
  ceremony: null,
};
const MODE: ModeReply = { wanted: "AIRGAP", applied: "AIRGAP", assurance: "enforced", changed: true, seq: 9 };
const ALLOW: Evaluation = {
  code: "allowed",
  approval: "",
  retryable: false,
  retryAfterMs: 0,
  decision: true,
  reason: ["mode.memory"],
  mode: "AIRGAP",
  assurance: "enforced",
  correlationId: "9",
  wouldAllow: "",
  askPerson: false,
};

describe("status", () => {
  test("says what is held, and 0", async () => {
    const ran = await run({ status: { data: STATUS } }, "status");
    expect(ran).toMatchObject({ code: 0, stderr: "" });
    for (const part of [
      "AIRGAP is in force",
      "network",
      "libnftables",
      "no USB bus",
      "in 4, out 2",
      "42 records",
      "b+1+x",
    ]) {
      expect(ran.stdout).toContain(part);
    }
  });

  test("--json is one document, the daemon's own", async () => {
    const ran = await run({ status: { data: STATUS } }, "status", "--json");
    expect(JSON.parse(ran.stdout)).toEqual(STATUS);
    expect(ran.stdout.trim().split("\n")).toHaveLength(1);
  });

  test("text from the daemon cannot steer the terminal", async () => {
    const hostile = "\u001b]0;owned\u0007\u009b2J\n";
    const status = { ...STATUS, mode: { ...STATUS.mode, cause: hostile }, changedFiles: [hostile] };
    for (const more of [[], ["--json"]]) {
      const ran = await run({ status: { data: status } }, "status", ...more);
      expect(ran.code).toBe(0);
      expect(ran.stdout.replaceAll("\n", "")).not.toMatch(/\p{Cc}/u);
    }
  });

  test("without a terminal there is no colour, whatever TERM says", async () => {
    const { runtimeDir } = await fake({ status: { data: STATUS } });
    const ran = await boundaryctl(["status", "--runtime-dir", runtimeDir], { TERM: "xterm-256color" });
    expect(ran.stdout).not.toContain("\u001b");
  });
});

describe("no daemon: 3", () => {
  test("nothing there", async () => {
    for (const more of [[], ["--json"]]) {
      const ran = await boundaryctl(["status", "--runtime-dir", "/nonexistent", ...more]);
      expect(ran.code).toBe(3);
      for (const part of ["no daemon answers", "code: no-daemon", "hint: start boundary-daemon"]) {
        expect(ran.stderr).toContain(part);
      }
    }
  });

  test("with --json the problem is the document", async () => {
    const ran = await boundaryctl(["mode", "--json", "--runtime-dir", "/nonexistent"]);
    expect(JSON.parse(ran.stdout)).toMatchObject({ problem: { code: "no-daemon" } });
  });

  test("it ends the connection instead of answering", async () => {
    const ran = await run({ status: "close" }, "status");
    expect(ran).toMatchObject({ code: 3, stdout: "" });
    expect(ran.stderr).toContain("code: no-daemon");
  });

  test("it dies in the middle of its reply", async () => {
    const whole = renderFrame("reply", { id: "1", ok: true, data: STATUS });
    const ran = await run({ status: { raw: whole.slice(0, 100), after: "close" } }, "status");
    expect(ran).toMatchObject({ code: 3, stdout: "" });
  });

  test("it never answers: the deadline", async () => {
    const ran = await run({ "tripwire.list": "silent" }, "tripwire", "list");
    expect(ran.code).toBe(3);
    expect(ran.stderr).toContain("code: deadline");
  });

  test("it accepts nothing: a socket that nobody serves", async () => {
    const directory = mkdtempSync(join(tmpdir(), "boundary-cli-"));
    writeFileSync(join(directory, "control.sock"), "");
    try {
      expect((await boundaryctl(["status", "--runtime-dir", directory])).code).toBe(3);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });
});

describe("garbage from the daemon", () => {
  const rows: readonly [name: string, raw: string | Buffer][] = [
    ["not JSON", "hello\f"],
    ["not UTF-8", Buffer.from([0xff, 0xfe, 0x0c])],
    ["another envelope", '{"a":1}\f'],
    ["a reply that is neither yes nor no", renderFrame("reply", { id: "1", ok: "yes", data: {} })],
    ["a reply without data", renderFrame("reply", { id: "1", ok: true })],
    ["a refusal without a code", renderFrame("reply", { id: "1", ok: false, problem: {} })],
    ["an empty status", renderFrame("reply", { id: "1", ok: true, data: {} })],
    [
      "a status of wrong types",
      renderFrame("reply", { id: "1", ok: true, data: { ...STATUS, controls: { x: 1 } } }),
    ],
    ["a web server", "HTTP/1.1 400 Bad Request\r\n\r\n\f"],
    ["bytes without end", Buffer.alloc(9_000_000, "x")],
  ];
  test.each(rows)("%s: 1, typed, nothing on stdout", async (_name, raw) => {
    const ran = await run({ status: { raw } }, "status");
    expect(ran).toMatchObject({ code: 1, stdout: "" });
    expect(ran.stderr).toContain("code: reply-invalid");
  });

  test("a decision that is not true or false is no allow", async () => {
    const ran = await run({ check: { data: { ...ALLOW, decision: "false" } } }, "check", "recall", "x");
    expect(ran.code).toBe(1);
    expect(ran.stderr).toContain("code: reply-invalid");
  });

  test("a reply to another request does not count", async () => {
    const other = renderFrame("reply", { id: "999", ok: true, data: STATUS });
    const ran = await run({ status: { raw: other, after: "close" } }, "status");
    expect(ran.code).toBe(3);
  });
});

test("a reply of any length, in pieces", async () => {
  const events = Array.from({ length: 200 }, (_, seq) => ({
    seq,
    at: "2026-01-01T00:00:00.000Z",
    kind: "decision",
    data: { text: "x".repeat(20_000) },
  }));
  const ran = await run({ "events.list": { data: { events } } }, "events", "--limit", "200", "--json");
  expect(ran.code).toBe(0);
  expect(JSON.parse(ran.stdout)).toEqual({ events });
});

describe("refused: 1", () => {
  const rows: readonly [verb: string, code: ErrorCode, args: readonly string[]][] = [
    ["status", "role-required", ["status"]],
    ["status", "too-many-connections", ["mode"]],
    ["mode.set", "clock-frozen", ["mode", "set", "open", "--reason", "x"]],
    ["ceremony.begin", "ceremony-no-terminal", ["ceremony", "begin", "--reason", "x"]],
    ["ceremony.confirm", "ceremony-wrong-code", ["ceremony", "confirm", "1"]],
    ["ceremony.cancel", "ceremony-none", ["ceremony", "cancel"]],
    ["clock.clear", "clock-not-frozen", ["clock", "clear", "--reason", "x"]],
    ["events.subscribe", "role-required", ["watch"]],
    ["events.list", "role-required", ["events"]],
    ["tripwire.list", "role-required", ["tripwire", "list"]],
    ["check", "role-required", ["check", "recall", "x"]],
    ["key.show", "role-required", ["key", "show"]],
    ["key.show", "stopping", ["log", "head"]],
  ];
  test.each(rows)("%s: %s", async (verb, code, args) => {
    const ran = await run({ [verb]: refusal(code) }, ...args);
    expect(ran).toMatchObject({ code: 1, stdout: "" });
    expect(ran.stderr).toContain(`because of ${code}`);
    expect(ran.stderr).toMatch(new RegExp(`code: ${code}\\n {2}hint: .`));
    const json = await run({ [verb]: refusal(code) }, ...args, "--json");
    expect(JSON.parse(json.stdout)).toMatchObject({ problem: { code } });
  });

  test("a refusal of the whole connection, without an id", async () => {
    const raw = renderFrame("reply", { id: "", ok: false, problem: problem("peer-unknown", "who?") });
    const ran = await run({ status: { raw } }, "status");
    expect(ran.code).toBe(1);
    expect(ran.stderr).toContain("code: peer-unknown");
  });
});

describe("usage: 2, and nothing is asked", () => {
  const rows: readonly (readonly string[])[] = [
    [],
    ["bogus"],
    ["mode", "bogus"],
    ["mode", "set"],
    ["mode", "set", "airgap"],
    ["mode", "set", "airgap", "--reason"],
    ["mode", "set", "airgap", "--reason", " "],
    ["mode", "set", "nowhere", "--reason", "x"],
    ["mode", "set", "airgap", "--reason", "x", "--for", "soon"],
    ["mode", "set", "airgap", "more", "--reason", "x"],
    ["status", "--wat"],
    ["status", "more"],
    ["status", "--no-json"],
    ["--wat", "status"],
    ["ceremony"],
    ["ceremony", "begin"],
    ["ceremony", "confirm"],
    ["clock"],
    ["clock", "clear"],
    ["tripwire"],
    ["key"],
    ["events", "--limit", "0"],
    ["events", "--limit", "201"],
    ["events", "--limit", "1.5"],
    ["events", "--limit", "x"],
    ["check"],
    ["check", "recall"],
    ["check", "fly", "x"],
    ["check", "recall", "x", "--class", "WHATEVER"],
    ["check", "tool", "x", "--reach", "moon"],
    ["verify-log", "/nonexistent", "--state-dir", "/nonexistent"],
    ["verify-log", "/nonexistent", "--key", "nonsense"],
    ["verify-log", "/nonexistent", "--key", "@/nonexistent"],
    ["verify-log", "/nonexistent", "--key", VKEY, "--witness", "nonsense"],
    ["verify-log", "/nonexistent", "--key", VKEY, "--witness", VKEY],
    ["verify-log", "/nonexistent", "--key", VKEY, "--witness", WITNESS, "--state-dir", "/nonexistent"],
    ["key", "show", "--state-dir", "/nonexistent"],
    ["key", "head"],
    ["log"],
    ["log", "head", "--key", VKEY],
    ["log", "head", "--drop"],
    ["log", "prove"],
    ["log", "prove", "-1"],
    ["log", "prove", "1.5", "/nonexistent"],
    ["log", "prove", "1", "/nonexistent", "--format", "der"],
    ["log", "prove", "--from", "nonsense", "/nonexistent"],
    ["log", "prove", "--from", "package.json", "/nonexistent"],
    ["log", "prove", "1", "/nonexistent", "--from", `1 ${"ab".repeat(32)}`],
    ["log", "prove", "/nonexistent", "--from", `1 ${"ab".repeat(32)}`, "--format", "c2sp"],
    ["log", "check-proof"],
    ["log", "check-proof", "/nonexistent"],
    ["log", "check-proof", "/nonexistent", "--key", VKEY],
    ["log", "check-proof", "/dev/null", "--key", VKEY],
    ["log", "check-proof", "package.json", "--key", "nonsense"],
    ["log", "witness", "--url", "https://witness.example"],
    ["log", "witness", "--witness", WITNESS],
    ["log", "witness", "--url", "http://witness.example", "--witness", WITNESS],
    ["log", "witness", "--url", "https://witness.example", "--witness", VKEY],
  ];
  test.each(rows.map((args) => [args.join(" "), args] as const))("boundaryctl %s", async (_line, args) => {
    const { requests, runtimeDir } = await fake({});
    const ran = await boundaryctl([...args, "--runtime-dir", runtimeDir]);
    expect(ran).toMatchObject({ code: 2, stdout: "" });
    expect(ran.stderr).toMatch(/^boundaryctl: .+\n {2}code: (argument|key|head)-invalid\n {2}hint: .+\n$/);
    expect(requests).toEqual([]);
  });
});

describe("what is asked", () => {
  const rows: readonly [line: string, verb: string, params: object, reply: object][] = [
    ["mode set airgap --reason audit", "mode.set", { mode: "AIRGAP", reason: "audit" }, MODE],
    [
      "mode set Open --for 10m --reason 007",
      "mode.set",
      { mode: "OPEN", reason: "007", forMs: 600_000 },
      MODE,
    ],
    ["--json mode set open --reason x", "mode.set", { mode: "OPEN", reason: "x" }, MODE],
    ["mode set open --reason a --reason b", "mode.set", { mode: "OPEN", reason: "b" }, MODE],
    ["ceremony confirm 012-345", "ceremony.confirm", { code: "012-345", acceptChanges: false }, MODE],
    ["ceremony confirm 012 --accept-changes", "ceremony.confirm", { code: "012", acceptChanges: true }, MODE],
    ["ceremony cancel", "ceremony.cancel", {}, {}],
    ["clock clear --reason x", "clock.clear", { reason: "x" }, {}],
    ["events --limit 3", "events.list", { limit: 3 }, { events: [] }],
    ["tripwire list", "tripwire.list", {}, { tripwires: [] }],
    [
      "check recall note-1 --class secret",
      "check",
      {
        action: { name: "recall" },
        resource: { type: "memory", id: "note-1", properties: { class: "SECRET" } },
      },
      ALLOW,
    ],
    [
      "check tool 42 --reach network --interface wg0",
      "check",
      {
        action: { name: "tool.run" },
        resource: { type: "tool", id: "42", properties: { reach: "network", interface: "wg0" } },
      },
      ALLOW,
    ],
    [
      "check model.call m --location external",
      "check",
      {
        action: { name: "model.call" },
        resource: { type: "model", id: "m", properties: { location: "external" } },
      },
      ALLOW,
    ],
  ];
  test.each(rows)("%s", async (line, verb, params, reply) => {
    const { requests, runtimeDir } = await fake({ [verb]: { data: reply } });
    const ran = await boundaryctl(["--runtime-dir", runtimeDir, ...line.split(" ")]);
    expect(ran).toMatchObject({ code: 0, stderr: "" });
    expect(requests).toMatchObject([{ verb, params }]);
  });
});

describe("mode", () => {
  test("alone and with get it says the same", async () => {
    const alone = await run({ status: { data: STATUS } }, "mode");
    const get = await run({ status: { data: STATUS } }, "mode", "get");
    expect(alone).toEqual(get);
    expect(alone.stdout).toContain("AIRGAP is in force");
  });

  const rows: readonly [
    assurance: ModeReply["assurance"],
    applied: ModeReply["applied"],
    code: number,
    inForce: boolean,
  ][] = [
    ["enforced", "AIRGAP", 0, true],
    ["enforced", "OPEN", 0, false],
    ["observed", "AIRGAP", 0, false],
    ["failed", "OPEN", 1, false],
  ];
  test.each(rows)(
    "set, %s with %s applied: exit code %i, in force %s",
    async (assurance, applied, code, inForce) => {
      const data = { ...MODE, assurance, applied };
      const ran = await run({ "mode.set": { data } }, "mode", "set", "airgap", "--reason", "x");
      expect(ran.code).toBe(code);
      expect(ran.stdout.includes("is in force")).toBe(inForce);
    },
  );
});

test("a denial exits with 1 and says the rule, the mode and what would be allowed", async () => {
  const denial = { ...ALLOW, decision: false, wouldAllow: "INTERNAL and below", askPerson: true };
  const ran = await run({ check: { data: denial } }, "check", "recall", "x", "--class", "SECRET");
  expect(ran.code).toBe(1);
  for (const part of ["deny", "mode.memory", "AIRGAP", "enforced", "INTERNAL and below", "a person"]) {
    expect(ran.stdout).toContain(part);
  }
  expect((await run({ check: { data: denial } }, "check", "recall", "x", "--json")).code).toBe(1);
});

test("ceremony begin shows the code, the changes and the cool-down, and does not wait without a terminal", async () => {
  const data = {
    id: "c1",
    code: "123-456-789",
    coolDownMs: 30_000,
    lifeMs: 600_000,
    people: 1,
    changes: ["/etc/x"],
  };
  const ran = await run({ "ceremony.begin": { data } }, "ceremony", "begin", "--reason", "x");
  expect(ran.code).toBe(0);
  for (const part of ["123-456-789", "/etc/x", "30 s", "--accept-changes"])
    expect(ran.stdout).toContain(part);
});

describe("key", () => {
  const note = `boundary-daemon/x\n42\n${Buffer.from("ab".repeat(32), "hex").toString("base64")}\n\n— boundary-daemon/x AAAAAAA=\n`;

  test("show prints the key alone", async () => {
    const ran = await run({ "key.show": { data: { vkey: "n+1+k", size: 42, note } } }, "key", "show");
    expect(ran).toEqual({ code: 0, stdout: "n+1+k\n", stderr: "" });
  });
});

describe("watch", () => {
  const event = (seq: number) => ({
    seq,
    at: "2026-01-01T00:00:00.000Z",
    mono: "1",
    kind: "tripwire.fired",
    data: { n: seq },
  });

  test("shows events as they come, and ends with 0 on Ctrl-C", async () => {
    const { runtimeDir } = await fake({ "events.subscribe": { data: {}, thenEvents: [event(1), event(2)] } });
    const watching = startBoundaryctl(["watch", "--runtime-dir", runtimeDir]);
    await watching.saw("#2");
    watching.child.kill("SIGINT");
    const ran = await watching.done;
    expect(ran).toMatchObject({ code: 0, stderr: "" });
    expect(ran.stdout.trim().split("\n")).toHaveLength(2);
  });

  test("--json is one document a line; a lost connection is said, and 3", async () => {
    const daemon = await fake({ "events.subscribe": { data: {}, thenEvents: [event(1), event(2)] } });
    const watching = startBoundaryctl(["watch", "--json", "--runtime-dir", daemon.runtimeDir]);
    await watching.saw('"seq":2');
    daemon.drop();
    const ran = await watching.done;
    expect(ran.code).toBe(3);
    expect(ran.stderr).toContain("the connection was lost");
    const lines = ran.stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as object);
    expect(lines.slice(0, 2)).toEqual([event(1), event(2)]);
    expect(lines[2]).toMatchObject({ problem: { code: "no-daemon" } });
  });
});

describe("help", () => {
  const lines = [
    "status",
    "mode",
    "mode get",
    "mode set",
    "ceremony",
    "ceremony begin",
    "ceremony confirm",
    "ceremony cancel",
    "watch",
    "events",
    "tripwire",
    "tripwire list",
    "check",
    "verify-log",
    "log",
    "log head",
    "log prove",
    "log check-proof",
    "log witness",
    "key",
    "key show",
    "clock",
    "clock clear",
    "doctor",
    "completion",
    "",
  ];
  test.each(lines)("boundaryctl %s --help names an example", async (line) => {
    const ran = await boundaryctl([...line.split(" ").filter(Boolean), "--help"]);
    expect(ran).toMatchObject({ code: 0, stderr: "" });
    expect(ran.stdout).toMatch(/Examples:\n.*boundaryctl /);
    expect(ran.stdout).toContain("--json");
    expect(ran.stdout).toContain("--runtime-dir");
  });
});

test("doctor needs no daemon, and says 1 only when something is missing", async () => {
  const ran = await boundaryctl(["doctor", "--json"]);
  const told = JSON.parse(ran.stdout) as { ok: boolean; findings: { state: string }[] };
  expect(told.findings.length).toBeGreaterThan(8);
  expect(told.ok).toBe(told.findings.every(({ state }) => state !== "missing"));
  expect(ran.code).toBe(told.ok ? 0 : 1);
});

test("a reader that goes away early is no failure", async () => {
  const events = Array.from({ length: 200 }, (_, seq) => ({
    seq,
    at: "a",
    kind: "k",
    data: { text: "x".repeat(9_000) },
  }));
  const { runtimeDir } = await fake({ "events.list": { data: { events } } });
  const reading = startBoundaryctl(["events", "--runtime-dir", runtimeDir]);
  reading.child.stdout?.once("data", () => reading.child.stdout?.destroy());
  expect(await reading.done).toMatchObject({ code: 0, stderr: "" });
});
