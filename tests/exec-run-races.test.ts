import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test, vi } from "vitest";
import type { DecideParts } from "../daemon/decide.ts";
import type { EgressDoor } from "../daemon/ports.ts";
import type { ExecRunReply } from "../daemon/protocol/exec.ts";
import { PERMIT } from "./support/decisions-of.ts";
import { type ExecService, execService, until } from "./support/exec-service.ts";
import { WHOLE } from "./support/fake-worker.ts";
import { codeOf, dataOf, UIDS } from "./support/office.ts";

/** What happens to a guarded command on its way while something else happens, and what nobody can find out by asking. */

const { operator, admin, readonly: reader } = UIDS;
const KEY = ["glpat", "R8sKd02LmQx7VbNcT5yWz"].join("-");

/** Of no form: known because it is sealed. */
const SEALED = ["correct", "horse", "7f3a"].join("-");
const PERMITTING: DecideParts["policies"] = {
  answer: () => PERMIT,
  digest: () => "",
  withKnown: (request) => request,
  settled: () => Promise.resolve(),
};

const open: ExecService[] = [];
afterEach(async () => {
  vi.restoreAllMocks();
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

/** How many more of one user's commands can be begun: all that are free. */
async function places(on: ExecService, uid = operator): Promise<number> {
  let begun = 0;
  for (; begun < 20; begun++) {
    const said = await on.ask(uid, "exec.run", { argv: ["tool", "run"], cwd: on.workspace });
    if (codeOf(said) === "too-many-requests") break;
  }
  return begun;
}

/** The first write of the log that is held, and what is asked meanwhile. */
async function held(on: ExecService, writes: number, asked: Promise<unknown>): Promise<void> {
  const { store } = on.host;
  for (let write = 1; ; write++) {
    await Promise.race([until(() => store.holding() > 0), asked]);
    if (write === writes) return;
    store.release();
    store.behaviour = "holds";
  }
}

/** The worker's connection ends, and there is another. */
async function dropped(on: ExecService): Promise<void> {
  on.worker.drop();
  await until(() => on.told.some((line) => line.startsWith("no worker")));
  await until(() => on.adapter.state().kind === "ready");
}

describe("while its start is recorded", () => {
  test("the worker goes and comes back: what is over is ordered of nobody", async () => {
    const on = await service();
    on.host.store.behaviour = "holds";
    const asked = on.run(operator, ["tool", "run"]);
    await held(on, 2, asked);
    await dropped(on);
    on.host.store.release();
    expect(await asked).toMatchObject({ decision: false, code: "answer-lapsed", id: "" });
    expect(on.worker.runs).toEqual([]);
    await until(() => on.host.last("exec.ended") !== undefined);
    expect(on.host.last("exec.ended")?.data).toMatchObject({ ran: "no" });
    expect(await places(on)).toBe(8);
  });

  test("who asked goes: nobody could end it, so it is not ordered", async () => {
    const on = await service();
    const closing: (() => void)[] = [];
    const connection = {
      ...on.office.connectionOf(operator),
      onClose: (then: () => void) => void closing.push(then),
    };
    on.host.store.behaviour = "holds";
    const asked = on.office.over(connection, "exec.run", { argv: ["tool", "run"], cwd: on.workspace });
    await held(on, 2, asked);
    for (const then of closing) then();
    on.host.store.release();
    expect(dataOf<ExecRunReply>(await asked)).toMatchObject({
      decision: false,
      code: "answer-lapsed",
      why: expect.stringContaining("who asked for it is gone"),
    });
    expect(on.worker.runs).toEqual([]);
    // however often he asks, he is listened for once
    await on.office.over(connection, "exec.check", { argv: ["tool", "run"], cwd: on.workspace });
    expect(closing).toHaveLength(1);
  });

  test("the secret's workspace is locked: it is not ordered", async () => {
    const on = await service({ policies: PERMITTING });
    await on.vault.make("build");
    await on.vault.put("build", "deploy", SEALED);
    on.host.store.behaviour = "holds";
    const asked = on.run(operator, ["tool", "run"], { secret: { workspace: "build", name: "deploy" } });
    await held(on, 3, asked);
    await on.vault.vault.lock("build", "ana");
    on.host.store.release();
    expect(await asked).toMatchObject({ decision: false, code: "vault-locked", id: "" });
    expect(on.worker.runs).toEqual([]);
  });

  test("or before that: the daemon stops, and there is no record of a start", async () => {
    const on = await service();
    on.host.store.behaviour = "holds";
    const asked = on.ask(operator, "exec.run", { argv: ["tool", "run"], cwd: on.workspace });
    await held(on, 1, asked);
    on.exec.stop();
    on.host.store.release();
    expect(codeOf(await asked)).toBe("stopping");
    expect(on.host.kinds()).not.toContain("exec.started");
  });

  test("the daemon stops: it is not ordered, and the stop is the last record", async () => {
    const on = await service();
    on.host.store.behaviour = "holds";
    const asked = on.run(operator, ["tool", "run"]);
    await held(on, 2, asked);
    on.exec.stop();
    on.host.store.release();
    expect(await asked).toMatchObject({ decision: false, code: "answer-lapsed" });
    expect(on.worker.runs).toEqual([]);
  });
});

test("who asked goes before he could hear its id: it is ended", async () => {
  const closing: (() => void)[] = [];
  const on = await service({
    onRun: (run) => {
      for (const then of closing) then();
      run.started();
    },
  });
  const connection = {
    ...on.office.connectionOf(operator),
    onClose: (then: () => void) => void closing.push(then),
  };
  const said = await on.office.over(connection, "exec.run", { argv: ["tool", "run"], cwd: on.workspace });
  const { id } = dataOf<ExecRunReply>(said);
  await until(() => on.worker.ends.length === 1);
  expect(on.worker.ends).toEqual([{ id, why: "ended by the daemon, since who asked for it is gone" }]);
});

describe("its place among those that run", () => {
  test("is held until it has ended, also where the worker began it without its sandbox", async () => {
    const on = await service({ onRun: (run) => run.started({ ...WHOLE, seccomp: false }) });
    expect(await on.run(operator, ["tool", "run"])).toMatchObject({ code: "exec-isolation", id: "" });
    expect(await places(on)).toBe(7);
    for (const run of on.worker.runs) run.ended({ exitCode: null, signal: "SIGKILL", cancelled: true });
    await until(() => on.host.kinds().filter((kind) => kind === "exec.ended").length === 8);
    expect(await places(on)).toBe(8);
  });

  test("is free after each way to a no", async () => {
    const on = await service();
    const run = (params: object) =>
      on.ask(operator, "exec.run", { argv: ["tool", "run"], cwd: on.workspace, ...params });
    for (let turn = 0; turn < 3; turn++) {
      await run({ argv: ["tool", "burn"] });
      await run({ argv: ["tool", "push", "x"] });
      await run({ argv: ["tool", "run", KEY] });
      await run({ argv: ["tool", "run", "\ud800"] });
      await run({ profile: "none" });
      await run({ cwd: "/" });
      await run({ secret: { name: "none" } });
      await run({ network: true, argv: ["tool", "fetch"] });
    }
    expect(await places(on)).toBe(8);
  });

  test("is free where nothing can be recorded", async () => {
    const on = await service();
    on.host.store.behaviour = "fails";
    expect(await places(on)).toBe(20);
    expect(on.worker.runs).toEqual([]);
  });

  test("is free when the order could not be written, and nobody else's command ends for it", async () => {
    const on = await service();
    const other = await on.run(admin, ["tool", "run"]);
    vi.spyOn(on.adapter, "run").mockImplementationOnce(() => {
      throw new Error("no order");
    });
    const said = await on.run(operator, ["tool", "run"]);
    expect(said).toMatchObject({ decision: false, code: "internal", id: "" });
    await until(() => on.host.last("exec.ended") !== undefined);
    expect(on.host.last("exec.ended")?.data).toMatchObject({
      ran: "no",
      why: "the order could not be written",
    });
    on.host.clock.pass(12_000);
    on.exec.tick();
    expect(dataOf(await on.ask(admin, "exec.wait", { id: other.id, forMs: 0 }))).toMatchObject({
      state: "running",
    });
    expect(await places(on)).toBe(8);
  });
});

test("a mode that the kernel does not confirm ends what runs, at the next tick", async () => {
  const on = await service();
  const { id } = await on.run(operator, ["tool", "run"]);
  on.host.firewall.behaviour = "refuses";
  await on.host.set("RESTRICTED");
  expect(on.host.daemon.state().applied).toBeNull();
  on.exec.tick();
  await until(() => on.worker.ends.length === 1);
  expect(on.worker.ends).toEqual([{ id, why: "mode LOCKDOWN" }]);
  on.host.firewall.behaviour = "works";
});

test("LOCKDOWN, and a worker that says nothing more: it is told at once, and its connection ended in time", async () => {
  const on = await service();
  const { id } = await on.run(operator, ["tool", "run"], { timeoutMs: 180_000, graceMs: 1_000 });
  await on.host.set("LOCKDOWN");
  await until(() => on.worker.ends.length === 1);
  on.host.clock.pass(5_900);
  on.exec.tick();
  expect(on.host.last("exec.ended")).toBeUndefined();
  on.host.clock.pass(200);
  on.exec.tick();
  const { end } = await on.rest(operator, id);
  expect(end).toMatchObject({ exitCode: null, why: "mode LOCKDOWN", codes: ["exec-unavailable"] });
  await until(() => on.told.some((line) => line.startsWith("no worker")));
});

describe("a way out", () => {
  const doorOf = (over: Partial<EgressDoor> = {}) => {
    const ended: string[] = [];
    const opening: (() => void)[] = [];
    const egress: EgressDoor = {
      start: () => undefined,
      state: () => ({ kind: "ready", runs: 0 }),
      endAll: () => undefined,
      stop: () => undefined,
      open: ({ id }) =>
        new Promise((resolve) => {
          opening.push(() =>
            resolve({ path: `/run/egress/${id}.sock`, end: async (why) => void ended.push(why) }),
          );
        }),
      ...over,
    };
    return { egress, ended, opening };
  };

  test("that does not open in time is a no; one that opens later is closed", async () => {
    const { egress, ended, opening } = doorOf();
    const on = await service({ egress });
    const set = vi.spyOn(globalThis, "setTimeout");
    const asked = on.run(operator, ["tool", "fetch"], { network: true });
    await until(() => opening.length === 1);
    const alarm = set.mock.calls.find(([, ms]) => ms === 10_000);
    alarm?.[0]();
    expect(await asked).toMatchObject({ decision: false, code: "exec-unavailable", id: "" });
    opening[0]?.();
    await until(() => ended.length === 1);
    expect(on.worker.runs).toEqual([]);
    expect(await places(on)).toBe(8);
  });

  test("that is opened for what is over meanwhile is closed", async () => {
    const { egress, ended, opening } = doorOf();
    const on = await service({ egress });
    const asked = on.run(operator, ["tool", "fetch"], { network: true });
    await until(() => opening.length === 1);
    await dropped(on);
    opening[0]?.();
    expect(await asked).toMatchObject({ decision: false, id: "" });
    await until(() => ended.length === 1);
    expect(on.worker.runs).toEqual([]);
  });

  test("and AIRGAP while it is opened: nothing is ordered, and it is closed", async () => {
    const { egress, ended, opening } = doorOf();
    const on = await service({ egress });
    const asked = on.run(operator, ["tool", "fetch"], { network: true });
    await until(() => opening.length === 1);
    await on.host.set("AIRGAP");
    opening[0]?.();
    expect(await asked).toMatchObject({ decision: false, code: "answer-lapsed" });
    await until(() => ended.length === 1);
    expect(on.worker.runs).toEqual([]);
  });

  test("that cannot be opened is a no, with what it says", async () => {
    const { egress } = doorOf({ open: () => Promise.reject(new Error("no room for a socket")) });
    const on = await service({ egress });
    expect(await on.run(operator, ["tool", "fetch"], { network: true })).toMatchObject({ code: "internal" });
    expect(await places(on)).toBe(8);
  });
});

describe("what nobody finds out by asking", () => {
  test("which directories there are on the host", async () => {
    const on = await service();
    const say = async (params: object) => {
      const said = await on.ask(reader, "exec.check", {
        argv: ["tool", "run"],
        profile: "default",
        ...params,
      });
      return said.ok ? "" : said.problem.detail;
    };
    const told = await Promise.all(
      ["/etc", "/etc/hosts", "/nowhere", "/root/nowhere", "/", on.bin].flatMap((path) => [
        say({ cwd: path }),
        say({ cwd: on.workspace, workspace: path }),
      ]),
    );
    expect(new Set(told)).toEqual(new Set([expect.stringContaining("no configured workspace")]));
  });

  test("which programs there are outside of the profile's places", async () => {
    const on = await service();
    const say = async (name: string) =>
      dataOf(await on.ask(reader, "exec.check", { argv: [name], cwd: on.workspace, profile: "default" }));
    const { correlationId: _, layers: __, ...there } = await say("/usr/bin/env");
    expect(await say("/usr/bin/nothing-of-that-name")).toMatchObject(there);
  });

  test("what is in files that a link of the workspace leads to", async () => {
    const on = await service();
    const secret = join(on.home, "elsewhere");
    mkdirSync(secret);
    writeFileSync(join(secret, "conf"), `token = ${KEY}\n`);
    writeFileSync(join(on.workspace, "mine"), `token = ${KEY}\n`);
    symlinkSync(join(secret, "conf"), join(on.workspace, "out"));
    symlinkSync(secret, join(on.workspace, "dir"));
    symlinkSync(join(secret, "none"), join(on.workspace, "none"));
    symlinkSync("mine", join(on.workspace, "inside"));
    for (const word of ["out", "dir/conf", "none"])
      expect(await on.run(operator, ["tool", "run", word])).toMatchObject({ decision: true });
    for (const word of ["mine", "inside"])
      expect(await on.run(operator, ["tool", "run", word])).toMatchObject({ code: "exec-secret" });
  });
});

describe("what is searched", () => {
  test("has no sealed secret among words and in the environment: it comes by stdin", async () => {
    const on = await service();
    await on.vault.make("build");
    await on.vault.put("build", "deploy", SEALED);
    const hex = Buffer.from(SEALED).toString("hex");
    expect(await on.run(operator, ["tool", "run", `x=${SEALED}`])).toMatchObject({
      code: "exec-secret",
      why: expect.stringContaining("known in argv, word 3"),
    });
    expect(await on.run(operator, ["tool", "run"], { environment: { GREETING: hex } })).toMatchObject({
      code: "exec-secret",
      why: expect.stringContaining("known in environment, GREETING"),
    });
    expect(on.log()).not.toContain("exec.started");
  });

  test("and refused leaves nothing that it could be tried against: all of those count as one", async () => {
    const on = await service();
    const say = async (text: string) =>
      dataOf<{ correlationId: string; verdict: string }>(
        await on.ask(operator, "exec.check", {
          line: `tool run ${text}`,
          cwd: on.workspace,
          profile: "default",
        }),
      );
    const [one, other] = [await say(KEY), await say(KEY.replaceAll("R", "S"))];
    expect(one.verdict).toBe("deny");
    expect(other).toEqual(one);
    const [first, second] = [
      await on.run(operator, ["tool", "run", KEY]),
      await on.run(operator, ["tool", "run", KEY.replaceAll("R", "S")]),
    ];
    expect(second?.correlationId).toBe(first?.correlationId);
    // what only may be one, among words that no rule has
    const [third, fourth] = [
      await on.run(operator, ["tool", "burn", "the password: hunter2 is"]),
      await on.run(operator, ["tool", "burn", "the password: hunter3 is"]),
    ];
    expect([third?.code, fourth?.code]).toEqual(["exec-secret", "exec-secret"]);
    expect(fourth?.correlationId).toBe(third?.correlationId);
  });

  test("is the program as well: one that is pinned, and was changed since it was judged, is not run", async () => {
    const changed = await service({ host: { digest: async () => "0".repeat(64) } });
    expect(await changed.run(operator, ["pinned"])).toMatchObject({
      code: "exec-denied",
      reason: ["exec-denied", "program"],
    });
    expect(changed.worker.runs).toEqual([]);
    const on = await service();
    expect((await on.run(operator, ["pinned"])).decision).toBe(true);
  });

  test("is a long value of the environment to its end, in turns", async () => {
    const on = await service();
    const value = `${"word ".repeat(5_000)}${KEY}`;
    expect(await on.run(operator, ["tool", "run"], { environment: { GREETING: value } })).toMatchObject({
      code: "exec-secret",
      why: expect.stringContaining("environment, GREETING"),
    });
    const honest = "word ".repeat(6_000);
    expect((await on.run(operator, ["tool", "run"], { environment: { GREETING: honest } })).decision).toBe(
      true,
    );
  });

  test("and allowed is no yes while the log's disk is nearly full", async () => {
    const on = await service();
    on.host.disk.freeBytes = 1;
    on.host.daemon.tick();
    expect(
      dataOf(
        await on.ask(operator, "exec.check", {
          argv: ["tool", "run"],
          cwd: on.workspace,
          profile: "default",
        }),
      ),
    ).toMatchObject({ verdict: "deny", rule: "log-unavailable" });
  });

  test("has a limit where it is only judged", async () => {
    const on = await service();
    const say = (params: object) =>
      on
        .ask(operator, "exec.check", { cwd: on.workspace, profile: "default", ...params })
        .then((said) => codeOf(said));
    expect(await say({ line: "a".repeat(16_384) })).toBe("");
    expect(await say({ line: "a".repeat(16_385) })).toBe("request-invalid");
    expect(await say({ argv: ["tool", "a".repeat(16_379)] })).toBe("");
    expect(await say({ argv: ["tool", "a".repeat(16_380)] })).toBe("request-invalid");
  });

  test("is stdout and stderr by turns, each whole and in order", async () => {
    const texts = { stdout: "out 1\n".repeat(6_000), stderr: "err 2\n".repeat(6_000) };
    const on = await service({
      onRun: (run) => {
        run.started();
        for (const stream of ["stdout", "stderr"] as const) run.output(stream, texts[stream]);
        run.ended();
      },
    });
    const { id } = await on.run(operator, ["tool", "run"], { outputBytes: 1_048_576 });
    const { stdout, stderr, end } = await on.rest(operator, id);
    expect([stdout === texts.stdout, stderr === texts.stderr, end.codes]).toEqual([true, true, []]);
  });
});
