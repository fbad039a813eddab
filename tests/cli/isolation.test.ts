import { afterEach, describe, expect, test } from "vitest";
import type { IsolationStatus } from "../../daemon/protocol/messages.ts";
import { problem } from "../../daemon/protocol/problem.ts";
import { boundaryctl, type Ran } from "../support/boundaryctl.ts";
import { type FakeDaemon, fakeDaemon } from "../support/fake-daemon.ts";

const STATUS: IsolationStatus = {
  state: "enforced",
  detail: "CT (ct0), PT (pt0): 2 ways between them",
  checkedAt: "2026-01-01T00:00:00.000Z",
  domains: [
    { name: "CT", interfaces: [{ name: "ct0", present: true }], host: false, unaffected: false, refused: 7 },
    { name: "PT", interfaces: [{ name: "pt0", present: false }], host: true, unaffected: false, refused: 0 },
    { name: "MGMT", interfaces: [{ name: "m0", present: true }], host: false, unaffected: true, refused: 0 },
  ],
  passes: ["CT > PT esp", "PT > CT esp"],
  refusedOutside: 3,
};

const fakes: FakeDaemon[] = [];
afterEach(async () => {
  for (const fake of fakes.splice(0)) await fake.stop();
});

async function run(behaviours: Parameters<typeof fakeDaemon>[0], ...args: string[]): Promise<Ran> {
  const daemon = await fakeDaemon(behaviours);
  fakes.push(daemon);
  return boundaryctl(["isolation", ...args, "--runtime-dir", daemon.runtimeDir]);
}

describe("isolation", () => {
  test("status shows domains, what passes and what was refused", async () => {
    const ran = await run({ "isolation.status": { data: STATUS } }, "status");
    expect(ran).toMatchObject({ code: 0, stderr: "" });
    expect(ran.stdout.split("\n").map((line) => line.replace(/ +/g, " ").trim())).toEqual([
      "isolation enforced: CT (ct0), PT (pt0): 2 ways between them",
      "read back 2026-01-01T00:00:00.000Z",
      "CT ct0 7 refused",
      "PT this host, pt0 (not there) 0 refused",
      "MGMT m0 unaffected",
      "passes CT > PT esp",
      "passes PT > CT esp",
      "refused from interfaces of no domain: 3",
      "",
    ]);
    const failed = { ...STATUS, state: "failed" } as const;
    expect((await run({ "isolation.status": { data: failed } }, "status", "--json")).code).toBe(1);
  });

  test.each([
    [{ ok: true, via: "libnftables", problems: [] }, 0, "everything is there"],
    [{ ok: false, via: "", problems: ["there is no interface pt0"] }, 1, "there is no interface pt0"],
  ])("validate %j: exit code %i", async (data, code, text) => {
    const ran = await run({ "isolation.validate": { data } }, "validate");
    expect(ran.code).toBe(code);
    expect(ran.stdout).toContain(text);
  });

  const TESTED = { name: "isolation-refuses", outcome: "passed", detail: "refused and counted" } as const;
  test.each([
    [{ changed: true, missing: [], tested: [TESTED] }, 0, "loaded, read back"],
    [{ changed: false, missing: [], tested: [TESTED] }, 0, "nothing to change"],
    [{ changed: true, missing: ["pt0"], tested: [TESTED] }, 1, "no interface pt0"],
    [{ changed: true, missing: [], tested: [{ ...TESTED, outcome: "failed" as const }] }, 1, "failed"],
  ])("apply %j: exit code %i", async (data, code, text) => {
    const ran = await run({ "isolation.apply": { data } }, "apply");
    expect(ran.code).toBe(code);
    expect(ran.stdout).toContain(text);
  });

  test("a refusal says what to do", async () => {
    const refused = problem("isolation-observed", "log-only; missing: the switch");
    const ran = await run({ "isolation.apply": { problem: refused } }, "apply");
    expect(ran.code).toBe(1);
    expect(ran.stderr).toContain("log-only; missing: the switch");
    expect(ran.stderr).toContain("boundaryctl isolation validate");
  });

  test("text from the daemon cannot steer the terminal", async () => {
    const hostile = "\u001b]0;owned\u0007\u202e\nisolation  enforced";
    const data = { ...STATUS, detail: hostile, passes: [hostile] };
    const ran = await run({ "isolation.status": { data } }, "status");
    for (const steers of ["\u001b", "\u0007", "\u202e"]) expect(ran.stdout).not.toContain(steers);
    expect(ran.stdout.match(/^isolation {2}enforced/gm)).toHaveLength(1);
  });
});
