import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Entry } from "../../daemon/audit/record.ts";
import type { EgressVerdict } from "../../daemon/egress/gate.ts";
import { parseHost } from "../../daemon/egress/host.ts";
import { createLedger } from "../../daemon/egress/ledger.ts";
import { type Claim, readFromEgress } from "../../daemon/egress/messages.ts";
import { createRunBook } from "../../daemon/egress/run-book.ts";

const ID = "0123456789abcdef0123456789abcdef";
const ALLOW: EgressVerdict = { allow: true, why: "", seq: 100 };

function setup(
  options: {
    readonly policy?: (host: string, port: number) => Promise<EgressVerdict>;
    readonly append?: (entry: Entry) => { seq: number; durable: Promise<unknown> };
    readonly connections?: number;
    readonly connectionsInAll?: number;
  } = {},
) {
  const log: Entry[] = [];
  const asked: string[] = [];
  const { connections = 8, connectionsInAll = 100 } = options;
  const book = createRunBook({
    id: ID,
    limits: { connections, connectionsInAll },
    policy: (host, port) => {
      asked.push(`${host}:${port}`);
      return options.policy?.(host, port) ?? Promise.resolve(ALLOW);
    },
    append:
      options.append ??
      ((entry) => {
        log.push(entry);
        return { seq: 1_000 + log.length, durable: Promise.resolve() };
      }),
  });
  const ask = async (n: number, host = "a.example", port = 443) => {
    const put = book.ask(n, host, port);
    return "fault" in put ? put.fault : put.answer;
  };
  const record = async (n: number, claim: Claim) => {
    const taken = book.record(n, claim);
    return "fault" in taken ? taken.fault : taken.durable;
  };
  return { book, log, asked, ask, record };
}

const place = { run: ID, way: "tls" as const, host: "a.example", port: 443 };
const opened = (decision: number, more: object = {}): Claim => ({
  kind: "egress.opened",
  data: { ...place, addresses: ["93.184.216.34"], decision, ...more },
});
const closed = (was: number, more: object = {}): Claim => ({
  kind: "egress.closed",
  data: {
    ...place,
    opened: was,
    connections: 1,
    sent: 2,
    received: 3,
    ms: 4,
    why: "what the proxy says",
    ...more,
  },
});
const refused = (why: string, more: object = {}): Claim => ({
  kind: "egress.refused",
  data: { ...place, code: "egress-denied", why, ...more },
});

describe("what a proxy that keeps to its order says", () => {
  test("is on record with the log's own numbers and the daemon's own reason", async () => {
    const { book, log, asked, ask, record } = setup();
    expect(await ask(1)).toEqual({ allow: true, why: "" });
    expect(await record(2, opened(1, { serverName: "a.example" }))).toBe(true);
    expect(await record(3, refused("no"))).toBe(true);
    book.ending("mode AIRGAP");
    expect(await record(4, { kind: "egress.repeated", data: { run: ID, count: 7, first: 3 } })).toBe(true);
    expect(await record(5, closed(2, { failed: "idle" }))).toBe(true);
    book.close("");
    expect(asked).toEqual(["a.example:443"]);
    expect(log).toEqual([
      {
        kind: "egress.opened",
        data: { ...place, addresses: ["93.184.216.34"], serverName: "a.example", decision: 100 },
      },
      { kind: "egress.refused", data: { ...place, code: "egress-denied", why: "no" } },
      { kind: "egress.repeated", data: { run: ID, count: 7, first: 1_002 } },
      {
        kind: "egress.closed",
        data: {
          ...place,
          opened: 1_001,
          connections: 1,
          sent: 2,
          received: 3,
          ms: 4,
          why: "mode AIRGAP",
          failed: "idle",
        },
      },
    ]);
  });

  test("that it did not tell of what it had opened is on record too", async () => {
    const { book, log, ask, record } = setup();
    await ask(1);
    await record(2, opened(1));
    book.close("the egress process is gone");
    expect(log.at(-1)).toEqual({
      kind: "egress.closed",
      data: {
        ...place,
        opened: 1_001,
        why: "the egress process is gone",
        failed: expect.stringContaining("did not tell"),
      },
    });
    book.close("again");
    expect(log).toHaveLength(2);
  });

  test("a denial, and a policy that cannot be asked, allow nothing", async () => {
    const said = setup({ policy: () => Promise.resolve({ allow: false, why: "mode-ceiling", seq: 3 }) });
    expect(await said.ask(1)).toEqual({ allow: false, why: "mode-ceiling" });
    const broken = setup({ policy: () => Promise.reject(new Error("x")) });
    expect(await broken.ask(1)).toEqual({ allow: false, why: "policy could not be asked" });
    for (const { record, log } of [said, broken]) {
      expect(await record(2, opened(1))).toBe(false);
      expect(log).toEqual([]);
    }
  });

  test("what the log does not take, or not durably, is not open, and closes nothing", async () => {
    const appends = [
      () => {
        throw new Error("stopping");
      },
      () => ({ seq: 5, durable: Promise.reject(new Error("disk")) }),
    ];
    for (const append of appends) {
      const { book, ask, record } = setup({ append });
      await ask(1);
      expect(await record(2, opened(1))).toBe(false);
      book.ending("over");
      expect(await record(3, closed(2))).toBe(false);
      book.close("over");
    }
  });
});

describe("after the run has no network", () => {
  test("an answer that was under way allows nothing, and what was allowed before opens nothing", async () => {
    const { promise, resolve } = Promise.withResolvers<EgressVerdict>();
    const { book, log, asked, ask, record } = setup({
      policy: (host) => (host === "a.example" ? Promise.resolve(ALLOW) : promise),
    });
    expect(await ask(1)).toMatchObject({ allow: true });
    const late = ask(2, "b.example");
    book.ending("mode AIRGAP");
    resolve(ALLOW);
    expect(await late).toEqual({ allow: false, why: "mode AIRGAP" });
    expect(await record(3, opened(1))).toBe(false);
    expect(await record(4, opened(2, { host: "b.example" }))).toBe(false);
    expect(await ask(5)).toEqual({ allow: false, why: "mode AIRGAP" });
    expect(asked).toHaveLength(2);
    expect(log).toEqual([]);
  });
});

describe("what it may not say is a fault", () => {
  test("a number again, or a smaller one, for questions and records alike", async () => {
    const { ask, record } = setup();
    await ask(5);
    expect(await ask(5)).toBe("number 5 after 5");
    expect(await record(4, refused("no"))).toBe("number 4 after 5");
  });

  test("another spelling of a host, or none", async () => {
    const { ask, asked } = setup();
    let n = 0;
    for (const host of ["A.example", "a.example.", "127.1", "a b", "", "[::1]", "::0001", "*.example"])
      expect([host, await ask(++n, host)]).toEqual([host, expect.stringContaining("not in the form")]);
    expect(asked).toEqual([]);
  });

  test("never what the proxy compares by: an address in its form, of either family, a name", async () => {
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.ipV4(), fc.ipV6(), fc.domain()), async (text) => {
        const host = parseHost(text)?.text;
        fc.pre(host !== undefined);
        expect(await setup().ask(1, host)).toEqual({ allow: true, why: "" });
      }),
    );
  });

  test("more questions at a time, or in all, than a run may have connections", async () => {
    const slow = setup({ policy: () => new Promise(() => undefined), connections: 2 });
    void slow.ask(1);
    void slow.ask(2);
    expect(await slow.ask(3)).toBe("more than 2 questions at a time");
    const many = setup({ connectionsInAll: 3 });
    for (const n of [1, 2, 3]) expect(await many.ask(n)).toMatchObject({ allow: true });
    expect(await many.ask(4)).toBe("more than 3 questions about a run");
    expect(many.asked).toHaveLength(3);
  });

  test("a connection to another host or port than was asked about", async () => {
    for (const more of [{ host: "b.example" }, { port: 80 }]) {
      const { ask, record, log } = setup();
      await ask(1);
      expect(await record(2, opened(1, more))).toContain("another host");
      expect(log).toEqual([]);
    }
  });

  test("a record of another run", async () => {
    const { record } = setup();
    expect(await record(1, refused("no", { run: "f".repeat(32) }))).toBe("a record of another run");
  });

  test("what closes, or is counted, before the end; another place than was opened", async () => {
    const { book, ask, record } = setup();
    await ask(1);
    await record(2, opened(1));
    expect(await record(3, closed(2))).toContain("before the end");
    expect(await record(4, { kind: "egress.repeated", data: { run: ID, count: 1 } })).toContain(
      "before the end",
    );
    book.ending("over");
    expect(await record(5, closed(2, { way: "http" }))).toContain("another connection");
  });

  test("refusals without end", async () => {
    const { record, log } = setup();
    for (let n = 1; n <= 64; n++) expect(await record(n, refused(`no ${n}`))).toBe(true);
    expect(await record(65, refused("no"))).toContain("more than 64");
    expect(log).toHaveLength(64);
  });
});

test("all that a real ledger says is taken, whatever the names are: also one that looks like a secret", async () => {
  const label = fc.stringMatching(/^[a-z0-9]{1,40}$/);
  const secret = fc.constantFrom(
    ["ghp", "R8sKd02LmQx7VbNcT5yWzE3uJhPa9FgD1oXi"].join("_"),
    ["AKIA", "IOSFODNN7EXAMPLE"].join(""),
  );
  const name = fc.tuple(fc.oneof(label, secret), label).map(([a, b]) => `${a}.${b}.example`.toLowerCase());
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(name, fc.string({ maxLength: 400 })), { maxLength: 40 }),
      async (asked) => {
        const { book, log, ask } = setup({ connections: 100 });
        let n = 0;
        const faults: string[] = [];
        const ledger = createLedger({
          run: ID,
          totalBytes: null,
          nowMs: () => 0,
          append: (entry) => {
            n += 1;
            const heard = readFromEgress(JSON.parse(JSON.stringify({ kind: "record", id: ID, n, entry })));
            if (!heard.ok || heard.message.kind !== "record") faults.push(JSON.stringify(heard));
            else {
              const taken = book.record(n, heard.message.entry);
              if ("fault" in taken) faults.push(taken.fault);
            }
            return { seq: n, durable: Promise.resolve() };
          },
        });
        for (const [text, why] of asked) {
          const host = parseHost(text);
          fc.pre(host !== null);
          n += 1;
          const decision = n;
          await ask(decision, host.text);
          const to = { host, port: 443, way: "tls" } as const;
          const opening = {
            asked: to,
            addresses: ["93.184.216.34"],
            serverName: text.toUpperCase(),
            decision,
          };
          ledger.open(opening).flow.close(why);
          ledger.refused(to, "egress-name", why);
        }
        book.ending("over");
        ledger.end("over");
        expect(faults).toEqual([]);
        const count = (kind: string) => log.filter((entry) => entry.kind === kind).length;
        expect(count("egress.closed")).toBe(count("egress.opened"));
      },
    ),
  );
});

test("one answer opens one connection, once; one opened is closed once", async () => {
  const { book, log, ask, record } = setup();
  await ask(1);
  expect(await record(2, opened(1))).toBe(true);
  expect(await record(3, opened(1))).toBe(false);
  expect(await record(4, opened(99))).toBe(false);
  book.ending("over");
  expect([await record(5, closed(2)), await record(6, closed(2)), await record(7, closed(4))]).toEqual([
    true,
    false,
    false,
  ]);
  expect(log.map(({ kind }) => kind)).toEqual(["egress.opened", "egress.closed"]);
});

test("the oldest answer that nothing came of is forgotten, and opens nothing", async () => {
  const { ask, record } = setup({ connectionsInAll: 1_000 });
  for (let n = 1; n <= 257; n++) await ask(n);
  expect(await record(258, opened(1))).toBe(false);
  expect(await record(259, opened(2))).toBe(true);
});

test("whatever it says: each record of a connection is of a question that was allowed, and no other kind is written", async () => {
  const step = fc.oneof(
    fc.record({
      do: fc.constant("ask" as const),
      host: fc.constantFrom("a.example", "b.example", "no.example"),
    }),
    fc.record({
      do: fc.constant("open" as const),
      of: fc.nat(20),
      host: fc.constantFrom("a.example", "b.example"),
    }),
    fc.record({
      do: fc.constant("close" as const),
      of: fc.nat(20),
      host: fc.constantFrom("a.example", "b.example"),
    }),
    fc.record({ do: fc.constant("refuse" as const), host: fc.constant("a.example") }),
    fc.record({ do: fc.constant("ending" as const), host: fc.constant("") }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
      const { book, log, ask, record } = setup({
        policy: (host) => Promise.resolve({ allow: host !== "no.example", why: "", seq: 100 }),
      });
      const allowed: string[] = [];
      let n = 0;
      let over = false;
      for (const one of steps) {
        n += 1;
        if (one.do === "ask") {
          const said = await ask(n, one.host);
          if (typeof said === "object" && said.allow) allowed.push(one.host);
        } else if (one.do === "open") {
          const before = log.length;
          await record(n, opened(one.of, { host: one.host }));
          if (over) expect(log.length).toBe(before);
        } else if (one.do === "close") await record(n, closed(one.of, { host: one.host }));
        else if (one.do === "refuse") await record(n, refused("no"));
        else {
          over = true;
          book.ending("over");
        }
      }
      book.close("over");
      const told = (kind: string) =>
        log.filter((entry) => entry.kind === kind).map(({ data }) => String(data["host"]));
      for (const host of ["a.example", "b.example"])
        expect(told("egress.opened").filter((one) => one === host).length).toBeLessThanOrEqual(
          allowed.filter((one) => one === host).length,
        );
      expect(inOrder(told("egress.closed"))).toEqual(inOrder(told("egress.opened")));
    }),
  );
});

function inOrder(names: readonly string[]): readonly string[] {
  return names.toSorted((a, b) => a.localeCompare(b));
}
