import { createHash } from "node:crypto";
import { chmodSync, chownSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { BoundaryError } from "../daemon/core/errors.ts";
import type { DecideParts } from "../daemon/decide.ts";
import type { EgressDoor } from "../daemon/ports.ts";
import type { ApprovalList } from "../daemon/protocol/messages.ts";
import { type ExecService, execService, until } from "./support/exec-service.ts";
import { WHOLE } from "./support/fake-worker.ts";
import { codeOf, dataOf, UIDS } from "./support/office.ts";

const { operator, admin, readonly: reader } = UIDS;
/** Of no form: known because it is sealed. */
const SEALED = ["correct", "horse", "7f3a"].join("-");
const KEY = ["ghp", "R8sKd02LmQx7VbNcT5yWzE3uJhPa9FgD1oXi"].join("_");

const open: ExecService[] = [];
afterEach(async () => {
  const all = open.splice(0);
  try {
    for (const one of all) await one.host.checkInvariants();
  } finally {
    for (const one of all) await one.remove();
  }
});

async function service(options: Parameters<typeof execService>[0] = {}): Promise<ExecService> {
  const one = await execService(options);
  open.push(one);
  return one;
}

const answering = (
  answer: (action: string, approved: boolean) => "allow" | "person" | "deny",
): DecideParts["policies"] => ({
  answer: ({ action }, _principal, { approved }) => {
    const said = answer(action.name, approved);
    return {
      decision: said === "allow" ? "allow" : "deny",
      code: said === "allow" ? "allowed" : "policy-denied",
      reasons: [`test.${action.name}`],
      errors: [],
      needsPerson: said === "person",
      advice: "",
    };
  },
  digest: () => "",
  withKnown: (request) => request,
  settled: () => Promise.resolve(),
});

/** A proxy that opens whatever it is asked for, once it may. */
function openDoor(may: Promise<void> = Promise.resolve()) {
  const [ended, all, opened]: [string[], string[], string[]] = [[], [], []];
  const egress: EgressDoor = {
    start: () => undefined,
    state: () => ({ kind: "ready", runs: 0 }),
    open: async ({ id }) => {
      opened.push(id);
      await may;
      return { path: `/run/egress/${id}.sock`, end: async () => void ended.push(id) };
    },
    endAll: (why) => void all.push(why),
    stop: () => undefined,
  };
  return { egress, ended, all, opened };
}

/** Another person says yes to the one question that is open. */
async function approve(on: ExecService): Promise<void> {
  const { approvals } = dataOf<ApprovalList>(await on.ask(admin, "approvals.list"));
  expect(approvals).toHaveLength(1);
  dataOf(await on.ask(admin, "approvals.approve", { id: approvals[0]?.id }));
}

describe("an allowed command", () => {
  test("is recorded, then ordered, as it was judged; its output and end come, and are recorded by digest", async () => {
    const on = await service({
      onRun: (run) => {
        expect(on.host.kinds()).toContain("exec.started");
        run.started();
        run.output("stdout", "one\ntw");
        run.output("stderr", "oops\n");
        run.output("stdout", "o\n");
        run.ended({ exitCode: 3 });
      },
    });
    const said = await on.run(operator, ["tool", "run", "e\u0301"], {
      environment: { GREETING: "hello", LANG: "C" },
      stdin: Buffer.from("given").toString("base64"),
    });
    expect(said).toMatchObject({
      decision: true,
      code: "allowed",
      verdict: { verdict: "allow", rule: "tool/run" },
    });
    const [ordered] = on.worker.runs;
    expect(ordered?.stdin.toString()).toBe("given");
    expect(ordered?.order).toMatchObject({
      id: said.id,
      // in one form of Unicode
      argv: ["tool", "run", "\u00e9"],
      program: {
        path: join(on.bin, "tool"),
        sha256: createHash("sha256").update("#!/bin/true\n").digest("hex"),
      },
      cwd: on.workspace,
      workspace: on.workspace,
      environment: [
        ["GREETING", "hello"],
        ["LANG", "C"],
      ],
      network: "none",
      proxySocket: "",
      limits: { timeoutMs: 30_000, graceMs: 5_000, outputBytes: 51_200, memoryBytes: 536_870_912, cpus: 1 },
    });
    const { stdout, stderr, end } = await on.rest(operator, said.id);
    expect([stdout, stderr]).toEqual(["one\ntwo\n", "oops\n"]);
    expect(end).toMatchObject({ exitCode: 3, timedOut: false, cancelled: false, redacted: 0, codes: [] });
    expect(on.host.kinds().filter((kind) => kind.startsWith("exec."))).toEqual([
      "exec.started",
      "exec.ended",
    ]);
    expect(on.host.last("exec.started")?.data).toMatchObject({
      id: said.id,
      by: { uid: operator },
      profile: "default",
      program: join(on.bin, "tool"),
      command: "tool run '\u00e9'",
      environment: ["GREETING", "LANG"],
      stdin: "5 bytes",
    });
    expect(on.host.last("exec.ended")?.data).toMatchObject({
      id: said.id,
      exitCode: 3,
      timedOut: "no",
      stdout: { bytes: 8, sha256: createHash("sha256").update("one\ntwo\n").digest("hex") },
    });
    expect(on.log()).not.toContain("one\\ntwo");
    expect(on.log()).not.toContain("hello");
  });

  test("that ran out of time, or put out too much, says so", async () => {
    const on = await service({
      exec: {},
      onRun: (run) => {
        run.started();
        // a worker that does not keep to the limit is counted after
        run.output("stdout", "x".repeat(70));
        run.ended({ exitCode: null, signal: "SIGKILL", timedOut: true, truncated: { stdout: 5, stderr: 0 } });
      },
    });
    const { id } = await on.run(operator, ["tool", "run"], { outputBytes: 50, timeoutMs: 100 });
    const { stdout, end } = await on.rest(operator, id);
    expect(stdout).toBe("x".repeat(50));
    expect(end).toMatchObject({ timedOut: true, signal: "SIGKILL", truncated: { stdout: 25, stderr: 0 } });
    expect(end.codes).toEqual(["exec-timeout", "exec-truncated"]);
  });
});

describe("a lot of output", () => {
  test("is looked at in turns, and the loop goes on between them", async () => {
    const line = `${"a line of text".repeat(5)}\n`;
    const text = line.repeat(8_000);
    const on = await service({
      onRun: (run) => {
        run.started();
        run.output("stdout", text);
        run.ended();
      },
    });
    const { id } = await on.run(operator, ["tool", "run"], { outputBytes: 1_048_576 });
    let turns = 0;
    let over = false;
    const rest = on.rest(operator, id).finally(() => {
      over = true;
    });
    while (!over) {
      await new Promise((resolve) => setImmediate(resolve));
      turns += 1;
    }
    const { stdout, end } = await rest;
    expect([stdout === text, end.codes, turns > text.length / 8_192]).toEqual([true, [], true]);
  });

  test("that takes too long to be looked at is not told, and that is", async () => {
    const on = await service();
    const { id } = await on.run(operator, ["tool", "run"], { outputBytes: 1_048_576 });
    const { clock } = on.host;
    const real = clock.monoNs;
    clock.monoNs = () => {
      clock.monoMs += 1_000;
      return real();
    };
    on.worker.runs[0]?.output("stdout", "a line\n".repeat(10_000));
    on.worker.runs[0]?.ended();
    const { stdout, end } = await on.rest(operator, id);
    expect(stdout).toMatch(/^(?:a line\n)+\[redacted:unscanned\]$/);
    expect(end.codes).toEqual(["exec-redaction"]);
    clock.monoNs = real;
  });

  test("is asked for at a pace, however often", async () => {
    const on = await service();
    const { id } = await on.run(operator, ["tool", "run"]);
    const asked = Array.from({ length: 20 }, () => on.ask(operator, "exec.wait", { id, forMs: 0 }));
    const codes = (await Promise.all(asked)).map(codeOf);
    expect(codes.filter((code) => code === "").length).toBe(16);
    expect(codes.filter((code) => code === "too-many-requests").length).toBe(4);
  });
});

describe("what is not run", () => {
  test.each([
    ["a program that is not listed", ["other"], {}, "exec-denied"],
    ["arguments that no rule fits", ["tool", "burn"], {}, "exec-denied"],
    [
      "a name of the environment that is not listed",
      ["tool", "run"],
      { environment: { LD_PRELOAD: "x" } },
      "exec-denied",
    ],
    ["the network for what reaches none", ["tool", "run"], { network: true }, "exec-denied"],
    ["the network where there is no proxy", ["tool", "fetch"], { network: true }, "exec-unavailable"],
    ["a secret among the words", ["tool", "run", KEY], {}, "exec-secret"],
    ["a secret cut into words", ["tool", "run", KEY.slice(0, 12), KEY.slice(12)], {}, "exec-secret"],
    ["a secret in the environment", ["tool", "run"], { environment: { GREETING: KEY } }, "exec-secret"],
    [
      "a secret in stdin",
      ["tool", "run"],
      {
        stdin: Buffer.from(`${"line\n".repeat(5_000)}token: 9f3kd02LmQx7VbNcT5yWzE3uJ\n`).toString("base64"),
      },
      "exec-secret",
    ],
  ])("%s", async (_, argv, more, code) => {
    const on = await service();
    const said = await on.run(operator, argv, more);
    expect(said).toMatchObject({ decision: false, code, id: "" });
    expect(said.correlationId).not.toBe("");
    expect(on.worker.runs).toEqual([]);
    expect(on.host.kinds()).not.toContain("exec.started");
    const everything = on.log() + JSON.stringify(said) + on.told.join();
    for (const secret of [KEY, KEY.slice(12), "9f3kd02Lm"]) expect(everything).not.toContain(secret);
    expect(on.host.last("decision")?.data).toMatchObject({ decision: "deny", code, by: { uid: operator } });
  });

  test("a file with a secret in it, however it is named: the rule, the file and the line are told", async () => {
    const on = await service();
    writeFileSync(
      join(on.workspace, "deploy.conf"),
      `# first\nkey = "${KEY.replace("ghp", "glpat").replace("_", "-")}"\n`,
    );
    for (const word of [
      "deploy.conf",
      "--config=deploy.conf",
      "@deploy.conf",
      join(on.workspace, "deploy.conf"),
    ]) {
      const said = await on.run(operator, ["tool", "run", word]);
      expect(said).toMatchObject({ decision: false, code: "exec-secret" });
      expect(said.why).toMatch(/gitlab-token in the file \/.*\/deploy.conf, line 2$/);
    }
    writeFileSync(join(on.workspace, "deploy.conf"), "# nothing\n");
    expect((await on.run(operator, ["tool", "run", "deploy.conf"])).decision).toBe(true);
    expect(on.log()).not.toContain(KEY.slice(12));
  });

  test("what cannot be searched in full: a file that we may not read", async () => {
    const on = await service({ host: { read: async () => ({ kind: "unreadable" }) } });
    const said = await on.run(operator, ["tool", "run", "a.txt"]);
    expect(said).toMatchObject({
      decision: false,
      code: "exec-secret",
      reason: ["exec-secret", "unscanned"],
    });
  });

  test("elsewhere than in a configured workspace, also by a link, and nowhere without one", async () => {
    const on = await service();
    for (const cwd of ["/", "/etc", `${on.workspace}/..`, `${on.workspace}/none`, "work"])
      expect(codeOf(await on.ask(operator, "exec.run", { argv: ["tool", "run"], cwd }))).toBe("exec-cwd");
    const other = { argv: ["tool", "run"], cwd: on.workspace, workspace: on.bin };
    expect(codeOf(await on.ask(operator, "exec.run", other))).toBe("exec-cwd");
    const none = await service({ exec: { workspaces: [] } });
    expect(codeOf(await none.ask(operator, "exec.run", { argv: ["tool", "run"], cwd: none.workspace }))).toBe(
      "exec-cwd",
    );
  });

  test("what is no request: no words, two inputs, over the ceilings, half a character", async () => {
    const on = await service();
    const ask = (more: object) =>
      on.ask(operator, "exec.run", { argv: ["tool", "run"], cwd: on.workspace, ...more }).then(codeOf);
    expect(await ask({ argv: [] })).toBe("request-invalid");
    expect(await ask({ timeoutMs: 180_001 })).toBe("request-invalid");
    expect(await ask({ graceMs: 10_001 })).toBe("request-invalid");
    expect(await ask({ outputBytes: 1_048_577 })).toBe("request-invalid");
    expect(await ask({ stdin: "eA==", secret: { name: "x" } })).toBe("request-invalid");
    expect(await ask({ argv: ["tool", "\ud800"] })).toBe("exec-normalisation");
    expect(await ask({ argv: ["tool", "run", "a\u200bb"] })).toBe("exec-invalid");
    expect(await ask({ profile: "other" })).toBe("exec-invalid");
    expect(await ask({ argv: ["tool", "run", "x".repeat(5_000)] })).toBe("exec-invalid");
  });

  test("without a worker, or with one whose sandbox lacks what has to be there", async () => {
    const none = await service({ worker: false });
    expect(await none.run(operator, ["tool", "run"])).toMatchObject({
      decision: false,
      code: "exec-unavailable",
    });
    expect(none.exec.status().state).toBe("absent");
    const half = await service({ sandbox: { ...WHOLE, seccomp: false, missing: ["seccomp: not built in"] } });
    expect(await half.run(operator, ["tool", "run"])).toMatchObject({
      code: "exec-isolation",
      verdict: { missing: ["seccomp: not built in"] },
    });
    expect(half.exec.status()).toMatchObject({ state: "failed" });
    const less = await service({ sandbox: { ...WHOLE, cgroup: false, missing: ["cgroup: not delegated"] } });
    expect((await less.run(operator, ["tool", "run"])).decision).toBe(true);
    expect(less.exec.status()).toMatchObject({
      state: "enforced",
      detail: expect.stringContaining("not delegated"),
    });
  });

  test("policy says no; nothing is ordered", async () => {
    const on = await service({ policies: answering(() => "deny") });
    expect(await on.run(operator, ["tool", "run"])).toMatchObject({ decision: false, code: "policy-denied" });
    expect(on.worker.runs).toEqual([]);
  });

  test("a log that cannot be written: nothing runs", async () => {
    const on = await service();
    on.host.store.behaviour = "fails";
    const said = await on.run(operator, ["tool", "run"]);
    expect(said).toMatchObject({ decision: false, code: "log-unavailable" });
    expect(on.worker.runs).toEqual([]);
  });

  test.each([
    ["the decision", 1],
    ["the start", 2],
  ])(
    "nothing is ordered before the record of %s is on disk, and not at all when a mode came meanwhile",
    async (_, writes) => {
      const on = await service();
      const { store } = on.host;
      store.behaviour = "holds";
      const asked = on.run(operator, ["tool", "run"]);
      for (let write = 1; write <= writes; write++) {
        await until(() => store.holding() > 0);
        if (write === writes) break;
        store.release();
        store.behaviour = "holds";
      }
      expect(on.worker.runs).toEqual([]);
      const tightened = on.host.set("LOCKDOWN");
      store.release();
      await tightened;
      expect(await asked).toMatchObject({ decision: false, code: "answer-lapsed" });
      expect(on.worker.runs).toEqual([]);
      expect(on.host.kinds().includes("exec.started")).toBe(writes === 2);
    },
  );

  test("nothing, when a mode came while files were looked at: what was judged was judged before", async () => {
    const waiting: (() => void)[] = [];
    const on = await service({
      policies: answering(() => "allow"),
      host: {
        read: async () => {
          if (waiting.length === 0) await new Promise<void>((resolve) => void waiting.push(resolve));
          return { kind: "none" };
        },
      },
    });
    const asked = on.run(operator, ["tool", "run", "a.txt"]);
    await until(() => waiting.length > 0);
    await on.host.set("RESTRICTED");
    waiting[0]?.();
    expect(await asked).toMatchObject({ decision: false, code: "answer-lapsed" });
    expect([on.worker.runs, on.host.kinds().includes("exec.started")]).toEqual([[], false]);
  });

  test("nothing, when a mode came while the vault was busy: no record of a start, and no order", async () => {
    const waiting: (() => void)[] = [];
    const on = await service({ policies: answering(() => "allow"), beforeSecret: waiting });
    await on.vault.make("build");
    await on.vault.put("build", "deploy", SEALED);
    const asked = on.run(operator, ["tool", "run"], { secret: { workspace: "build", name: "deploy" } });
    await until(() => waiting.length > 0);
    await on.host.set("RESTRICTED");
    waiting[0]?.();
    expect(await asked).toMatchObject({ decision: false, code: "answer-lapsed" });
    expect([on.worker.runs, on.host.kinds().includes("exec.started")]).toEqual([[], false]);
  });

  test("what the worker refuses, or starts without its sandbox", async () => {
    const on = await service({ onRun: (run) => run.refused("exec-spawn", "no such file") });
    expect(await on.run(operator, ["tool", "run"])).toMatchObject({
      decision: false,
      code: "exec-spawn",
      id: "",
    });
    await until(() => on.host.last("exec.ended") !== undefined);
    expect(on.host.last("exec.ended")?.data).toMatchObject({ ran: "no", codes: ["exec-spawn"] });
    const lies = await service({ onRun: (run) => run.started({ ...WHOLE, namespaces: false }) });
    expect(await lies.run(operator, ["tool", "run"])).toMatchObject({
      decision: false,
      code: "exec-isolation",
    });
    await until(() => lies.worker.ends.length === 1);
  });
});

describe("what a person has to approve", () => {
  test("an ask of the profile: asked, approved by another person, run once, and for exactly that", async () => {
    const on = await service();
    const first = await on.run(operator, ["tool", "push", "main"]);
    expect(first).toMatchObject({ decision: false, code: "approval-required", askPerson: true });
    expect(first.approval).not.toBe("");
    await approve(on);
    // another stdin, place or program is another question
    const other = await on.run(operator, ["tool", "push", "main"], { stdin: "eA==" });
    expect(other).toMatchObject({ decision: false, code: "approval-required" });
    const second = await on.run(operator, ["tool", "push", "main"]);
    expect(second).toMatchObject({ decision: true, approval: first.approval });
    expect(on.host.last("exec.started")?.data).toMatchObject({ approval: first.approval, rule: "tool/push" });
    expect(await on.run(operator, ["tool", "push", "main"])).toMatchObject({ decision: false });
    expect(on.worker.runs).toHaveLength(1);
  });

  test("a secret that takes one as well is under the same approval", async () => {
    const on = await service({
      policies: answering((action, approved) => (action === "secret.read" && !approved ? "person" : "allow")),
    });
    await on.vault.make("build");
    await on.vault.put("build", "deploy", SEALED);
    const more = { secret: { workspace: "build", name: "deploy" } };
    expect(await on.run(operator, ["tool", "run"], more)).toMatchObject({
      code: "approval-required",
      reason: ["secret.read"],
    });
    // he is shown the command that it is for, and not the secret alone
    const { approvals } = dataOf<ApprovalList>(await on.ask(admin, "approvals.list"));
    expect(JSON.stringify(approvals)).toContain("command.run");
    expect(JSON.stringify(approvals)).not.toContain("secret.read");
    await approve(on);
    expect((await on.run(operator, ["tool", "run"], more)).decision).toBe(true);
    expect(on.worker.runs[0]?.stdin.toString()).toBe(SEALED);
    const allowed = on.host.records.filter(
      ({ kind, data }) => kind === "decision" && data["decision"] === "allow",
    );
    expect(allowed.map(({ data }) => data["action"]).slice(-2)).toEqual(["command.run", "secret.read"]);
  });
});

describe("a secret that is injected", () => {
  test("is in the command's stdin, in no record and no output, also when its workspace is locked meanwhile", async () => {
    const secret = SEALED;
    const on = await service();
    await on.vault.make("build");
    await on.vault.put("build", "deploy", secret);
    const said = await on.run(operator, ["tool", "run"], { secret: { workspace: "build", name: "deploy" } });
    expect(on.worker.runs[0]?.stdin.toString()).toBe(secret);
    await on.vault.vault.lock("build", "ana");
    for (const letter of `got ${secret}, and ${Buffer.from(secret).toString("hex")}\n`)
      on.worker.runs[0]?.output("stdout", letter);
    on.worker.runs[0]?.ended();
    const { stdout, end } = await on.rest(operator, said.id);
    expect(stdout).toBe("got [redacted:known], and [redacted:known]\n");
    expect(end.redacted).toBe(2);
    expect(on.log()).not.toContain(secret);
    expect(on.log()).not.toContain(createHash("sha256").update(secret).digest("hex"));
    expect(on.host.last("exec.started")?.data).toMatchObject({ stdin: "secret build/deploy, version 1" });
  });

  test("is not given where policy says no, the workspace is locked, or there is none", async () => {
    const on = await service({
      policies: answering((action) => (action === "secret.read" ? "deny" : "allow")),
    });
    await on.vault.make("build");
    await on.vault.put("build", "deploy", SEALED);
    const more = { secret: { workspace: "build", name: "deploy" } };
    expect(await on.run(operator, ["tool", "run"], more)).toMatchObject({
      decision: false,
      code: "policy-denied",
    });
    // nobody is asked about a command that would not get it
    const asks = await service({
      policies: answering((action, approved) =>
        action === "secret.read" ? "deny" : approved ? "allow" : "person",
      ),
    });
    expect(await asks.run(operator, ["tool", "run"], more)).toMatchObject({
      code: "policy-denied",
      approval: "",
    });
    expect(dataOf<ApprovalList>(await asks.ask(admin, "approvals.list")).approvals).toEqual([]);
    const free = await service();
    await free.vault.make("build");
    await free.vault.put("build", "deploy", SEALED);
    const ask = (name: string) =>
      free.ask(operator, "exec.run", {
        argv: ["tool", "run"],
        cwd: free.workspace,
        secret: { workspace: "build", name },
      });
    expect(codeOf(await ask("none"))).toBe("secret-unknown");
    await free.vault.vault.lock("build", "ana");
    expect(codeOf(await ask("deploy"))).toBe("vault-locked");
    expect([...on.worker.runs, ...free.worker.runs]).toEqual([]);
    // a place that was taken is free again
    for (let turn = 0; turn < 20; turn++) expect(codeOf(await ask("deploy"))).toBe("vault-locked");
  });

  test("counts as tainted: policy hears of it", async () => {
    const seen: unknown[] = [];
    const policies = answering(() => "allow");
    const on = await service({
      policies: {
        ...policies,
        answer: (request, ...rest) => {
          seen.push(request);
          return policies.answer(request, ...rest);
        },
      },
    });
    await on.vault.make("build");
    await on.vault.put("build", "deploy", SEALED);
    await on.run(operator, ["tool", "run"], { secret: { workspace: "build", name: "deploy" } });
    expect(seen).toContainEqual(
      expect.objectContaining({
        action: expect.objectContaining({ name: "command.run" }),
        context: { taint: ["secret"] },
      }),
    );
    expect(seen).toContainEqual(
      expect.objectContaining({ resource: { type: "secret", id: "build/deploy", properties: {} } }),
    );
  });
});

describe("the end", () => {
  test("LOCKDOWN ends what runs before its own record, and no wait outlasts it", async () => {
    const on = await service();
    const { id } = await on.run(operator, ["tool", "run"]);
    on.worker.runs[0]?.output("stdout", "begun\n");
    const set = on.host.set("LOCKDOWN");
    // said to the worker in the turn in which the mode came to be wanted
    await until(() => on.worker.ends.length === 1);
    expect(on.worker.ends).toEqual([{ id, why: "mode LOCKDOWN" }]);
    on.worker.runs[0]?.ended({ exitCode: null, signal: "SIGTERM", cancelled: true, why: "mode LOCKDOWN" });
    await set;
    const { end, stdout } = await on.rest(operator, id);
    expect(stdout).toBe("begun\n");
    expect(end).toMatchObject({ cancelled: true, why: "mode LOCKDOWN", codes: ["cancelled"] });
    expect(await on.run(operator, ["tool", "run"])).toMatchObject({ decision: false, code: "exec-denied" });
  });

  test("AIRGAP ends what has the network, and lets the others be", async () => {
    const { egress, ended, all } = openDoor();
    const on = await service({ egress });
    const plain = await on.run(operator, ["tool", "run"]);
    const wide = await on.run(operator, ["tool", "fetch"], { network: true });
    expect(on.worker.runs[1]?.order).toMatchObject({
      network: "proxy",
      proxySocket: `/run/egress/${wide.id}.sock`,
    });
    expect(all).toEqual([]);
    await on.host.set("AIRGAP");
    // not when the command has ended: it may take its time
    expect([all[0], ended]).toEqual(["mode AIRGAP", []]);
    await until(() => on.worker.ends.length > 0);
    expect(on.worker.ends.map(({ id }) => id)).toEqual([wide.id]);
    on.worker.runs[1]?.ended({ exitCode: null, signal: "SIGTERM", cancelled: true });
    await on.rest(operator, wide.id);
    expect(ended).toEqual([wide.id]);
    expect(plain.decision).toBe(true);
  });

  test("the network of a command ends with it, before its output is looked at, and with its worker", async () => {
    const { egress, ended } = openDoor();
    const on = await service({ egress });
    const one = await on.run(operator, ["tool", "fetch"], { network: true });
    on.worker.runs[0]?.output("stdout", "x\n".repeat(20_000));
    on.worker.runs[0]?.ended();
    await until(() => ended.length === 1);
    expect(on.host.kinds()).not.toContain("exec.ended");
    await on.rest(operator, one.id);
    const two = await on.run(operator, ["tool", "fetch"], { network: true });
    on.worker.drop();
    await on.rest(operator, two.id);
    expect([...new Set(ended)]).toEqual([one.id, two.id]);
  });

  test("a command that is over while its way out is opened has none", async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const { egress, ended, opened } = openDoor(promise);
    const on = await service({ egress });
    const asked = on.run(operator, ["tool", "fetch"], { network: true });
    await until(() => opened.length === 1);
    on.worker.drop();
    await until(() => on.host.kinds().includes("exec.ended"));
    resolve();
    expect(await asked).toMatchObject({ decision: false, code: "answer-lapsed" });
    expect(ended).toEqual(opened);
    expect(on.worker.runs).toHaveLength(0);
  });

  test("by whoever asked, or an admin; anybody else hears that there is none", async () => {
    const on = await service();
    const { id } = await on.run(operator, ["tool", "run"]);
    for (const verb of ["exec.wait", "exec.end"])
      expect(codeOf(await on.ask(reader, verb, { id, ...(verb === "exec.wait" ? { forMs: 0 } : {}) }))).toBe(
        "exec-unknown",
      );
    expect(dataOf(await on.ask(operator, "exec.wait", { id, forMs: 0 }))).toMatchObject({
      state: "running",
      output: [],
    });
    expect(dataOf(await on.ask(admin, "exec.end", { id }))).toMatchObject({ id, state: "running" });
    await until(() => on.worker.ends.length === 1);
    expect(on.worker.ends[0]?.why).toBe(`ended by user${admin}`);
  });

  test("a token's run is its tree's, and not its user's, who asks without it", async () => {
    const on = await service();
    const root = dataOf<{ text: string }>(await on.ask(0, "token.bootstrap")).text;
    const mint = async (principal: string): Promise<string> =>
      dataOf<{ text: string }>(await on.ask(operator, "token.mint", { principal, role: "operator" }, root))
        .text;
    const [one, other] = [await mint("Agent::one"), await mint("Agent::other")];
    const { id } = await on.run(operator, ["tool", "run"], {}, one);
    expect(on.host.last("exec.started")?.data).toMatchObject({ subject: { type: "Agent", id: "one" } });
    const sees = async (token?: string) =>
      codeOf(await on.ask(operator, "exec.wait", { id, forMs: 0 }, token));
    expect([await sees(), await sees(one)]).toEqual(["exec-unknown", ""]);
    const child = dataOf<{ text: string }>(await on.ask(operator, "token.narrow", {}, one)).text;
    expect([await sees(child), await sees(other)]).toEqual(["", "exec-unknown"]);
    expect(codeOf(await on.ask(reader, "exec.wait", { id, forMs: 0 }, one))).toBe("exec-unknown");
    const plain = await on.run(operator, ["tool", "run"]);
    expect(codeOf(await on.ask(operator, "exec.end", { id: plain.id }, one))).toBe("exec-unknown");
  });

  test("of the worker in the middle: the run is over, and that is recorded; the next worker is taken up", async () => {
    const on = await service();
    const { id } = await on.run(operator, ["tool", "run"]);
    on.worker.runs[0]?.output("stdout", "half a li");
    await new Promise((resolve) => setTimeout(resolve, 50));
    on.worker.drop();
    const { stdout, end } = await on.rest(operator, id);
    expect(stdout).toBe("half a li");
    expect(end).toMatchObject({ exitCode: null, codes: ["exec-unavailable"] });
    await until(() => on.adapter.state().kind === "ready");
    expect((await on.run(operator, ["tool", "run"])).decision).toBe(true);
  });

  test("a worker that says nothing more is dropped when its time is over", async () => {
    const on = await service();
    const { id } = await on.run(operator, ["tool", "run"], { timeoutMs: 1_000, graceMs: 100 });
    on.host.clock.pass(7_000);
    on.exec.tick();
    expect((await on.rest(operator, id)).end).toMatchObject({ codes: ["exec-unavailable"] });
    await until(() => on.told.some((line) => line.includes("does not say that a command is over")));
  });

  test("without a proxy it is said what to start; one that is gone by then, or refuses, is no start", async () => {
    const without = await service();
    expect(await without.run(operator, ["tool", "fetch"], { network: true })).toMatchObject({
      decision: false,
      code: "exec-unavailable",
      why: "there is no egress proxy (start boundary-egress.service): there is none in this test",
    });
    expect(without.host.kinds()).not.toContain("exec.started");
    const no = Promise.withResolvers<void>();
    const { egress, opened } = openDoor(no.promise);
    const on = await service({ egress });
    const asked = on.run(operator, ["tool", "fetch"], { network: true });
    await until(() => opened.length === 1);
    no.reject(new BoundaryError("egress-ended", "the mode came"));
    expect(await asked).toMatchObject({ decision: false, code: "egress-ended" });
    expect(on.worker.runs).toHaveLength(0);
  });

  test("a stop ends all, with its record before the daemon's own", async () => {
    const on = await service();
    const { id } = await on.run(operator, ["tool", "run"]);
    on.exec.stop();
    await on.host.daemon.stop("test");
    expect(on.host.kinds().slice(-2)).toEqual(["exec.ended", "daemon.stopped"]);
    expect(on.host.last("exec.ended")?.data).toMatchObject({ id, cancelled: "yes", why: "the daemon stops" });
  });

  test("a worker that lies about runs, or sends garbage, changes nothing but its own standing", async () => {
    const on = await service();
    const { id } = await on.run(operator, ["tool", "run"]);
    on.worker.runs[0]?.ended({ exitCode: 0 });
    const { end } = await on.rest(operator, id);
    on.worker.runs[0]?.output("stdout", "after the end\n");
    on.worker.runs[0]?.ended({ exitCode: 1 });
    expect((await on.rest(operator, id)).end).toEqual(end);
    on.worker.raw(Buffer.from([0xff, 0xff, 0xff, 0xff, 1]));
    await until(() => on.told.some((line) => line.includes("a frame of 4294967295 bytes")));
  });
});

describe("limits", () => {
  test("8 at once for one user, 16 for all; a place is free when a command has ended", async () => {
    const on = await service();
    const ids: string[] = [];
    for (let turn = 0; turn < 8; turn++) ids.push((await on.run(operator, ["tool", "run"])).id);
    const ask = (uid: number) =>
      on.ask(uid, "exec.run", { argv: ["tool", "run"], cwd: on.workspace }).then(codeOf);
    expect(await ask(operator)).toBe("too-many-requests");
    for (let turn = 0; turn < 8; turn++) expect(await ask(admin)).toBe("");
    expect(await ask(reader)).toBe("too-many-requests");
    on.worker.runs[0]?.ended();
    await on.rest(operator, ids[0] ?? "");
    expect(await ask(reader)).toBe("");
  });

  test("what is over is forgotten after a while", async () => {
    const on = await service({
      onRun: (run) => {
        run.started();
        run.ended();
      },
    });
    const { id } = await on.run(operator, ["tool", "run"]);
    await on.rest(operator, id);
    on.host.clock.pass(61_000);
    on.exec.tick();
    expect(codeOf(await on.ask(operator, "exec.wait", { id }))).toBe("exec-unknown");
  });
});

describe("whoever listens", () => {
  test("is believed where nobody else could have put the socket there", async () => {
    const on = await service();
    chmodSync(join(on.home, "worker"), 0o777);
    on.worker.drop();
    await until(() => on.told.some((line) => line.includes("others may write")));
    expect(on.adapter.state().kind).toBe("absent");
    chmodSync(join(on.home, "worker"), 0o750);
    await until(() => on.adapter.state().kind === "ready");
  });

  test("and where nobody else could have made its directory", async () => {
    const on = await service();
    chmodSync(on.home, 0o777);
    on.worker.drop();
    await until(() =>
      on.told.some((line) => line.includes(`others may have put ${join(on.home, "worker")} into`)),
    );
    expect(on.adapter.state().kind).toBe("absent");
    chmodSync(on.home, 0o700);
    await until(() => on.adapter.state().kind === "ready");
  });

  test.skipIf(process.getuid?.() !== 0)("and only as the directory's owner (needs root)", async () => {
    const on = await service();
    chownSync(join(on.home, "worker"), 61_234, 61_234);
    on.worker.drop();
    await until(() =>
      on.told.some((line) => line.includes("uid 0 listens, and the directory is uid 61234's")),
    );
    expect(await on.run(operator, ["tool", "run"])).toMatchObject({ code: "exec-unavailable" });
  });
});

describe("exec.check", () => {
  test("judges words and lines by a profile, and records what it said", async () => {
    const on = await service({ exec: { hookProfile: "default" } });
    const ask = async (more: object) =>
      dataOf(await on.ask(operator, "exec.check", { cwd: on.workspace, ...more }));
    expect(await ask({ argv: ["tool", "run"] })).toMatchObject({
      configured: true,
      verdict: "allow",
      rule: "tool/run",
    });
    expect(await ask({ line: "tool run | tool push x" })).toMatchObject({
      verdict: "ask",
      rule: "tool/push",
    });
    expect(await ask({ line: `tool run ${KEY}` })).toMatchObject({ verdict: "deny" });
    expect(await ask({ line: "tool run; rm -rf x" })).toMatchObject({ verdict: "deny", rule: "unlisted" });
    expect(on.worker.runs).toEqual([]);
    expect(on.log()).not.toContain(KEY);
    const decisions = on.host.records
      .filter(({ kind }) => kind === "decision")
      .map(({ data }) => data["decision"]);
    expect(decisions).toEqual(["allow", "deny", "deny", "deny"]);
  });

  test("says where no profile is configured for it, and is a no where it cannot be recorded", async () => {
    const on = await service();
    const params = { argv: ["tool", "run"], cwd: on.workspace };
    expect(dataOf(await on.ask(operator, "exec.check", params))).toMatchObject({
      configured: false,
      verdict: "deny",
    });
    on.host.store.behaviour = "fails";
    expect(dataOf(await on.ask(operator, "exec.check", { ...params, profile: "default" }))).toMatchObject({
      verdict: "deny",
      rule: "log-unavailable",
    });
  });
});
