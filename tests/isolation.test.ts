import { describe, expect, test } from "vitest";
import type { Entry } from "../daemon/audit/record.ts";
import { BoundaryError } from "../daemon/core/errors.ts";
import { readIsolation } from "../daemon/core/isolation.ts";
import type { Signal } from "../daemon/core/signal.ts";
import { createIsolation } from "../daemon/isolation.ts";
import { isolationProbes } from "../daemon/isolation-probe.ts";
import type { CanarySender, Firewall } from "../daemon/ports.ts";
import { FakeClock, settled } from "./support/host.ts";

/** Keeps the domains' table as text; what it takes to be the kernel's counters is a number of ours. */
class FakeTable implements Firewall {
  readonly via = "libnftables";
  behaviour: "works" | "refuses" | "lies" = "works";
  listFails = false;
  text = "";
  refused = 0;
  readonly scripts: string[] = [];
  run(script: string): void {
    this.scripts.push(script);
    if (this.behaviour === "refuses")
      throw new BoundaryError("nft-failed", "loading rules", { cause: new Error("no") });
    const start = script.search(/^table /m);
    if (this.behaviour === "works") this.text = start < 0 ? "" : script.slice(start);
  }
  list(name?: string): string {
    if (name !== "boundary_isolation") throw new Error(`asked for ${name}`);
    if (this.listFails) throw new BoundaryError("nft-failed", "listing our tables");
    return this.text.replaceAll(/(counter refused_from_\w+ \{)/g, `$1\npackets ${this.refused} bytes 0`);
  }
  generation(): null {
    return null;
  }
}

const read = readIsolation({
  domains: [
    { name: "CT", interfaces: ["ct0"], host: false, unaffected: false },
    { name: "PT", interfaces: ["pt0"], host: false, unaffected: false },
  ],
  passes: [{ between: ["CT", "PT"], protocol: "esp" }],
});
if (!read.ok) throw new Error("they cannot be read");
const DOMAINS = read.value;

const LEFTOVER = "table inet boundary_isolation {\n}\n";

type Over = {
  readonly isolation?: null;
  readonly firewall?: null;
  readonly links?: () => readonly string[];
  readonly durable?: () => Promise<void>;
};

function world(over: Over = {}) {
  const clock = new FakeClock();
  const table = new FakeTable();
  const records: Entry[] = [];
  const signals: Signal[] = [];
  const errors: object[] = [];
  const control = createIsolation({
    firewall: over.firewall === null ? null : table,
    missing: ["the privilege CAP_NET_ADMIN"],
    isolation: over.isolation === null ? null : DOMAINS,
    links: over.links ?? (() => ["lo", "ct0", "pt0"]),
    record: (entry) => {
      records.push(entry);
      return { seq: records.length, durable: (over.durable ?? (() => Promise.resolve()))() };
    },
    submit: (signal) => signals.push(signal),
    clock,
    opLog: { info: () => undefined, warn: () => undefined, error: (fields) => void errors.push(fields) },
  });
  const tick = (ms = 500) => {
    clock.pass(ms);
    control.tick();
  };
  return { control, table, records, signals, errors, tick, kinds: () => records.map(({ kind }) => kind) };
}

describe("the domains' table", () => {
  test("is loaded at the start, before anything is recorded; its record comes with the first tick", () => {
    const { control, table, tick, records, kinds } = world();
    expect(control.claim()).toMatchObject({ state: "observed", detail: "not loaded yet" });
    control.begin("enforcing");
    expect(table.text).toContain("chain from_CT");
    expect(control.claim()).toMatchObject({ state: "enforced" });
    expect(records).toEqual([]);
    tick();
    expect(records).toEqual([
      {
        kind: "isolation.applied",
        data: { by: "start", what: "loaded", domains: ["CT", "PT"], passes: ["CT > PT esp", "PT > CT esp"] },
      },
    ]);
    tick();
    expect(kinds()).toHaveLength(1);
  });

  test("that is there already is left alone", () => {
    const { control, table, tick, kinds } = world();
    control.begin("enforcing");
    table.scripts.length = 0;
    expect(control.apply("ana")).toEqual({ changed: false, durable: null });
    tick(60_000);
    expect(table.scripts).toEqual([]);
    expect(kinds()).toEqual(["isolation.applied"]);
  });

  test("is taken away where no domains are configured, and nothing is done where it is not there", async () => {
    const { control, table, records, tick } = world({ isolation: null });
    control.begin("enforcing");
    tick();
    expect([table.scripts, records]).toEqual([[], []]);
    table.text = LEFTOVER;
    control.touched(null);
    tick();
    await settled();
    expect(table.scripts).toHaveLength(1);
    expect(table.scripts[0]).toContain("delete table inet boundary_isolation");
    expect(control.claim()).toMatchObject({ state: "absent" });
    expect(records).toMatchObject([{ kind: "isolation.applied", data: { what: "removed" } }]);
    expect(() => control.apply("ana")).toThrow(expect.objectContaining({ code: "isolation-none" }));
  });

  test("is not taken away before that is on disk, at a start neither", async () => {
    const disk = Promise.withResolvers<void>();
    const { control, table, tick } = world({ isolation: null, durable: () => disk.promise });
    table.text = LEFTOVER;
    control.begin("enforcing");
    tick();
    tick(60_000);
    await settled();
    expect(table.scripts).toEqual([]);
    disk.resolve();
    await settled();
    expect(table.scripts).toHaveLength(1);
  });

  test("stays where that cannot be recorded, and is asked about again", async () => {
    let works = false;
    const durable = () => (works ? Promise.resolve() : Promise.reject(new Error("EIO")));
    const { control, table, tick } = world({ isolation: null, durable });
    table.text = LEFTOVER;
    control.begin("enforcing");
    tick();
    await settled();
    expect(table.scripts).toEqual([]);
    works = true;
    tick();
    await settled();
    expect(table.scripts).toHaveLength(1);
  });

  test("log-only: says what is missing, and refuses to say that it is held", () => {
    const { control } = world({ firewall: null });
    control.begin("enforcing");
    control.touched("x");
    expect(control.claim()).toMatchObject({
      state: "observed",
      detail: "log-only; missing: the privilege CAP_NET_ADMIN",
    });
    expect(() => control.apply("ana")).toThrow(expect.objectContaining({ code: "isolation-observed" }));
    expect(control.validate()).toEqual({
      ok: false,
      via: "",
      problems: ["missing: the privilege CAP_NET_ADMIN"],
    });
    expect(control.failure()).toBe("");
  });

  test.each(["refuses", "lies"] as const)(
    "that the kernel does not take (%s) is a failure, told once, and tried again until it is there",
    (behaviour) => {
      const { control, table, tick, kinds, signals, errors } = world();
      table.behaviour = behaviour;
      control.begin("enforcing");
      expect(control.claim()).toMatchObject({ state: "failed" });
      expect(control.failure()).not.toBe("");
      expect(() => control.apply("ana")).toThrow(expect.objectContaining({ code: "nft-failed" }));
      tick();
      tick(10_000);
      expect(kinds()).toEqual(["isolation.failed"]);
      expect(errors).toHaveLength(1);
      table.behaviour = "works";
      tick(10_000);
      expect(control.claim()).toMatchObject({ state: "enforced" });
      expect(control.failure()).toBe("");
      expect(kinds()).toEqual(["isolation.failed", "isolation.applied"]);
      expect(signals).toEqual([]);
    },
  );

  test("that cannot be read is no table that is held", () => {
    const { control, table, tick } = world();
    control.begin("enforcing");
    table.listFails = true;
    tick(10_000);
    expect(control.claim()).toMatchObject({ state: "failed" });
    expect(control.check()).toMatchObject({ same: false });
  });

  test("that somebody changed is put back; what could not be put back is told as that", () => {
    const { control, table, tick, signals } = world();
    control.begin("enforcing");
    tick();
    table.text = "";
    control.touched("process 7 (nft): delete table inet boundary_isolation");
    expect(table.text).toContain("chain from_CT");
    table.text = table.text.replace("drop", "accept");
    table.behaviour = "refuses";
    tick(10_000); // nobody saw it: the look every ten seconds does
    expect(signals.map(({ kind, facts }) => [kind, facts["what"], facts["put"]])).toEqual([
      ["isolation.changed", "missing", "back"],
      ["isolation.changed", "differs", "failed"],
    ]);
    expect(signals[0]?.facts["detail"]).toContain("process 7");
    expect(control.claim()).toMatchObject({ state: "failed" });
  });

  test("stays when the daemon stops, and nothing is recorded or loaded afterwards", () => {
    const { control, table, tick, kinds } = world();
    control.begin("enforcing");
    tick();
    control.stop();
    table.scripts.length = 0;
    table.text = "";
    control.touched("gone");
    tick(60_000);
    expect(table.scripts).toEqual([]);
    expect(kinds()).toEqual(["isolation.applied"]);
  });

  test("waits for interfaces, and says so; links that cannot be listed are not known to be there", () => {
    expect(world({ links: () => ["lo", "ct0"] }).control.validate().problems).toEqual([
      "there is no interface pt0",
    ]);
    const blind = world({
      links: () => {
        throw new Error("no /proc");
      },
    });
    blind.control.begin("enforcing");
    expect(blind.control.claim()).toMatchObject({ state: "observed" });
    expect(blind.control.claim().detail).toContain("not there: ct0, pt0");
  });
});

describe("the self-test's packets", () => {
  async function probe(send: (table: FakeTable) => CanarySender, hold: "enforcing" | "shadow" = "enforcing") {
    const { control, table } = world();
    control.begin(hold);
    const probes = isolationProbes({ control, isolation: DOMAINS, send: send(table) });
    return Promise.all(probes.map(({ run }) => run()));
  }
  const counted = (table: FakeTable) => async () => {
    table.refused += 1;
    return { kind: "refused" } as const;
  };

  test.each([
    ["refused and counted", counted, "passed"],
    ["refused by somebody else", () => async () => ({ kind: "refused" }) as const, "failed"],
    ["sent", () => async () => ({ kind: "sent" }) as const, "failed"],
    ["not sent", () => async () => ({ kind: "not-sent", why: "ENETUNREACH" }) as const, "not-run"],
  ])("%s", async (_, send, outcome) => {
    const [readBack, refuses] = await probe(send);
    expect(readBack?.outcome).toBe("passed");
    expect(refuses?.outcome).toBe(outcome);
  });

  test("are moot where nothing is held", async () => {
    expect((await probe(counted, "shadow")).map(({ outcome }) => outcome)).toEqual(["moot", "moot"]);
  });
});
