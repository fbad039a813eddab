import { describe, expect, test } from "vitest";
import type { Entry } from "../daemon/audit/record.ts";
import { initialState, type State } from "../daemon/core/state.ts";
import { createEnforcer, type Enforcer } from "../daemon/enforce.ts";
import { networkProbes } from "../daemon/network-probe.ts";
import type { CanarySender } from "../daemon/ports.ts";
import {
  createExpectations,
  createSelftest,
  filesProbe,
  logProbe,
  type Probe,
  pathProbe,
} from "../daemon/selftest.ts";
import { FakeFirewall } from "./support/fake-firewall.ts";
import { startHost } from "./support/host.ts";
import { fakeSurroundings } from "./support/surroundings.ts";

const passing: Probe = {
  name: "a",
  control: "network",
  run: async () => ({ outcome: "passed", detail: "" }),
};

function setUp(probes: readonly Probe[], deadlineMs = 1_000) {
  const records: Entry[] = [];
  const clock = { ms: 0 };
  const selftest = createSelftest({
    probes,
    record: (entry) => {
      records.push(entry);
      return { durable: Promise.resolve() };
    },
    wallMs: () => clock.ms,
    monoMs: () => clock.ms,
    everyMs: 900_000,
    deadlineMs,
  });
  return { records, clock, selftest };
}

describe("a run", () => {
  test("is one record with every result, and names the controls that failed", async () => {
    const failing: Probe = { name: "b", control: "files", run: () => Promise.reject(new Error("no")) };
    const { selftest, records } = setUp([passing, failing]);
    expect(selftest.latest()).toBeNull();
    const report = await selftest.run("anna");
    expect(report.results.map(({ name, outcome }) => [name, outcome])).toEqual([
      ["a", "passed"],
      ["b", "failed"],
    ]);
    expect(records).toMatchObject([{ kind: "selftest.done", data: { by: "anna", failed: 1 } }]);
    expect(selftest.failures()).toMatchObject([{ name: "b", control: "files" }]);
    expect(selftest.latest()).toEqual(report);
  });

  test("ends when a probe never answers: that probe has failed", async () => {
    const { selftest } = setUp([{ ...passing, run: () => new Promise(() => undefined) }], 20);
    const { results } = await selftest.run("anna");
    expect(results).toMatchObject([{ outcome: "failed", detail: "no answer within 20 ms" }]);
  });

  test("is joined by whoever asks meanwhile", async () => {
    const { selftest, records } = setUp([passing]);
    const [one, two] = await Promise.all([selftest.run("anna"), selftest.run("ben")]);
    expect(one).toBe(two);
    expect(records).toHaveLength(1);
  });

  test("is due at once, then at intervals, and sooner after a failure", async () => {
    let outcome: "passed" | "failed" = "failed";
    const { selftest, clock, records } = setUp([{ ...passing, run: async () => ({ outcome, detail: "" }) }]);
    const tickAt = async (ms: number) => {
      clock.ms = ms;
      selftest.tick();
      await new Promise((resolve) => setImmediate(resolve));
      return records.length;
    };
    expect(await tickAt(0)).toBe(1);
    expect(await tickAt(29_999)).toBe(1);
    outcome = "passed";
    expect(await tickAt(30_000)).toBe(2);
    expect(selftest.failures()).toEqual([]);
    expect(await tickAt(929_999)).toBe(2);
    expect(await tickAt(930_000)).toBe(3);
  });

  test("that cannot be recorded still answers", async () => {
    const selftest = createSelftest({
      probes: [passing],
      record: () => {
        throw new Error("stopping");
      },
      wallMs: () => 0,
      monoMs: () => 0,
      everyMs: 1,
      deadlineMs: 10,
    });
    expect((await selftest.run("anna")).results).toHaveLength(1);
  });
});

test("a failed self-test takes the assurance with it, and gives it back", async () => {
  const host = await startHost({ mode: "RESTRICTED" });
  const before = host.daemon.assurance();
  expect(before).not.toBe("failed");
  host.failing.push({
    name: "canary-packet",
    control: "network",
    outcome: "failed",
    detail: "",
    milliseconds: 1,
  });
  expect(host.daemon.assurance()).toBe("failed");
  host.failing.length = 0;
  expect(host.daemon.assurance()).toBe(before);
});

describe("network probes", () => {
  const stateIn = (mode: State["wanted"], attempt = 1): State => ({
    ...initialState(mode, 0, { kind: "initial", why: "" }),
    applied: mode,
    attempt,
  });
  const enforcing = (mode: State["wanted"]) => {
    const firewall = new FakeFirewall();
    const network = { trustedInterfaces: [], deny: [], allow: [] };
    const enforcer = createEnforcer({
      firewall,
      network,
      timeoutMs: 2_000,
      surroundings: fakeSurroundings(),
    });
    enforcer.apply(mode);
    const drops: Record<string, number> = { canary: 0, canary_mode: 0 };
    const counting: Enforcer = {
      ...enforcer,
      check: () => {
        const found = enforcer.check();
        return found?.same ? { same: true, drops: { ...drops } } : found;
      },
    };
    return { firewall, enforcer: counting, drops };
  };
  const outcomes = async (enforcer: Enforcer, state: () => State, send: CanarySender) => {
    const found: Record<string, string> = {};
    for (const { name, run } of networkProbes({ enforcer, state, send })) found[name] = (await run()).outcome;
    return found;
  };

  test("pass when every packet is refused and counted", async () => {
    const { enforcer, drops } = enforcing("AIRGAP");
    const send: CanarySender = async () => {
      drops["canary"] = (drops["canary"] ?? 0) + 1;
      drops["canary_mode"] = (drops["canary_mode"] ?? 0) + 1;
      return { kind: "refused" };
    };
    expect(await outcomes(enforcer, () => stateIn("AIRGAP"), send)).toEqual({
      "rules-read-back": "passed",
      "canary-packet": "passed",
      "mode-refuses": "passed",
    });
    const open = enforcing("OPEN");
    expect(
      await outcomes(
        open.enforcer,
        () => stateIn("OPEN"),
        async () => ({ kind: "sent" }),
      ),
    ).toEqual({
      "rules-read-back": "passed",
      "canary-packet": "failed",
      "mode-refuses": "moot",
    });
  });

  test("fail when a packet goes out, or is refused by somebody else than our rules", async () => {
    const { enforcer } = enforcing("LOCKDOWN");
    const state = () => stateIn("LOCKDOWN");
    for (const kind of ["sent", "refused"] as const) {
      expect(await outcomes(enforcer, state, async () => ({ kind }))).toMatchObject({
        "canary-packet": "failed",
        "mode-refuses": "failed",
      });
    }
  });

  test("say that nothing was tried where no packet could be sent at all", async () => {
    const { enforcer } = enforcing("LOCKDOWN");
    const send: CanarySender = async () => ({ kind: "not-sent", why: "ENETUNREACH" });
    expect(await outcomes(enforcer, () => stateIn("LOCKDOWN"), send)).toMatchObject({
      "canary-packet": "not-run",
      "mode-refuses": "not-run",
    });
  });

  test("fail while the kernel has not confirmed the mode, or holds something else", async () => {
    const { enforcer, firewall } = enforcing("AIRGAP");
    const send: CanarySender = async () => ({ kind: "refused" });
    const pending = () => ({ ...stateIn("AIRGAP"), applied: null });
    const all = { "rules-read-back": "failed", "canary-packet": "failed", "mode-refuses": "failed" };
    expect(await outcomes(enforcer, pending, send)).toEqual(all);
    firewall.listFails = true;
    expect(await outcomes(enforcer, () => stateIn("AIRGAP"), send)).toEqual(all);
  });

  test("are taken again when the mode changed meanwhile, and never blame a change", async () => {
    const { enforcer } = enforcing("AIRGAP");
    let attempt = 0;
    const found = await outcomes(
      enforcer,
      () => stateIn("AIRGAP", ++attempt),
      async () => ({ kind: "sent" }),
    );
    expect(found).toMatchObject({ "canary-packet": "not-run", "mode-refuses": "not-run" });
  });

  test("are not run where nothing is enforced", async () => {
    const enforcer = createEnforcer({
      firewall: null,
      network: { trustedInterfaces: [], deny: [], allow: [] },
      timeoutMs: 1,
      surroundings: fakeSurroundings(),
    });
    const found = await outcomes(
      enforcer,
      () => stateIn("OPEN"),
      async () => ({ kind: "sent" }),
    );
    expect(new Set(Object.values(found))).toEqual(new Set(["moot"]));
  });
});

describe("the other probes", () => {
  const changed = (path: string, part: string) =>
    ({ kind: "self.changed", facts: { path, part, change: "modified" }, seenNs: 0n }) as const;

  test("a touched canary file is seen, and only what is awaited is taken from the tripwires", async () => {
    const awaited = createExpectations();
    expect(awaited.takes(changed("/c", "canary"))).toBe(false);
    const taken: boolean[] = [];
    const canary = {
      path: "/c",
      touch: () => {
        taken.push(awaited.takes(changed("/other", "canary")));
        taken.push(awaited.takes(changed("/c", "program")));
        taken.push(awaited.takes(changed("/c", "canary")));
        taken.push(awaited.takes(changed("/c", "canary")));
      },
    };
    expect(await filesProbe(awaited, canary, () => "").run()).toMatchObject({ outcome: "passed" });
    expect(taken).toEqual([false, false, true, false]);
  });

  test("a blind file sensor fails its test without waiting", async () => {
    const probe = filesProbe(
      createExpectations(),
      { path: "/c", touch: () => undefined },
      () => "no inotify",
    );
    expect(await probe.run()).toMatchObject({ outcome: "failed" });
  });

  test("a synthetic event passes when its own record is durable", async () => {
    const expectations = createExpectations();
    const record = (nonce: string, seq: number) =>
      expectations.recorded({
        v: 1,
        seq,
        at: "",
        mono: "",
        boot: "",
        kind: "tripwire.noted",
        data: { tripwire: "selftest", facts: { nonce } },
        prev: "",
      });
    const probe = pathProbe(expectations, (nonce) => {
      record("another", 1);
      record(nonce, 7);
    });
    expect(await probe.run()).toEqual({ outcome: "passed", detail: "the synthetic event is record 7" });
  });

  test.each([
    ["passed", {}],
    ["failed", { state: () => "failed" as const }],
    ["failed", { damage: () => ({ what: "truncated", detail: "" }) }],
    ["failed", { line: () => null }],
    ["failed", { line: () => '{"data":{"note":"another"}}' }],
    ["not-run", { head: () => ({ note: "", size: 0 }) }],
  ])("the log's checkpoint: %s", async (outcome, wrong) => {
    const note = "origin\n3\nroot\n";
    const log = {
      head: () => ({ note, size: 3 }),
      state: () => "writing" as const,
      damage: () => null,
      line: (seq: number) => (seq === 3 ? JSON.stringify({ data: { note } }) : null),
    };
    expect(await logProbe({ ...log, ...wrong }).run()).toMatchObject({ outcome });
  });
});
