import { describe, expect, test } from "vitest";
import type { Entry } from "../../daemon/audit/record.ts";
import { parseIpRange } from "../../daemon/core/ip-range.ts";
import { type Allowlists, parseAllowlist } from "../../daemon/egress/allowlist.ts";
import { createGate, type GateParts, type Hello } from "../../daemon/egress/gate.ts";
import { parseAuthority } from "../../daemon/egress/host.ts";
import { type Asked, createLedger, type Way } from "../../daemon/egress/ledger.ts";

const RUN = "0123456789abcdef0123456789abcdef";

function allow(...entries: readonly string[]): Allowlists {
  const read = parseAllowlist(entries);
  if (!read.ok) throw new Error("a list of the test");
  return { global: read.value, project: null, blueprint: null, session: null };
}

function asked(text: string, way: Way = "tls"): Asked {
  const authority = parseAuthority(text, null);
  if (authority === null) throw new Error(`${text} is none`);
  return { ...authority, way };
}

function setup(more: Partial<GateParts> & { totalBytes?: number; durable?: () => Promise<unknown> } = {}) {
  const records: Entry[] = [];
  const calls: string[] = [];
  const state = { over: false };
  const ledger = createLedger({
    run: RUN,
    totalBytes: more.totalBytes ?? null,
    append: (entry) => {
      calls.push(entry.kind);
      records.push(entry);
      return { seq: records.length, durable: more.durable?.() ?? Promise.resolve() };
    },
    nowMs: () => 0,
  });
  const gate = createGate({
    allowlists: allow("example.com", "*.example.com", "192.0.2.1", "93.184.216.34", "10.0.0.1"),
    policy: async () => {
      calls.push("policy");
      return { allow: true, why: "", seq: 7 };
    },
    resolve: async () => {
      calls.push("resolve");
      return ["93.184.216.34", "2606:4700::1"];
    },
    addressRules: () => ({ listed: [], own: [] }),
    limits: { connections: 3, connectionsInAll: 100 },
    isOver: () => state.over,
    ...more,
    ledger,
  });
  return { gate, ledger, records, calls, state };
}

const NAMED: Hello = { serverName: "www.example.com", encrypted: false };
const WWW = asked("www.example.com:443");

async function openOf({ gate }: ReturnType<typeof setup>, hello: Hello | null = NAMED, what = WWW) {
  const judged = await gate.judge(what);
  return judged.ok ? gate.open(judged, hello) : judged;
}

describe("a connection", () => {
  test("is held against the lists, policy and its addresses, in this order, and recorded before it may be made", async () => {
    const host = setup();
    const opened = await openOf(host);
    expect(host.calls).toEqual(["policy", "resolve", "egress.opened"]);
    expect(opened).toMatchObject({ ok: true, addresses: ["93.184.216.34", "2606:4700::1"] });
    expect(host.records[0]?.data).toEqual({
      run: RUN,
      way: "tls",
      host: "www.example.com",
      port: 443,
      addresses: ["93.184.216.34", "2606:4700::1"],
      serverName: "www.example.com",
      decision: 7,
    });
  });

  test("does not wait in vain: it may be made when its record is durable, and not before", async () => {
    let durable = (): void => undefined;
    const host = setup({ durable: () => new Promise<void>((resolve) => (durable = resolve)) });
    let opened = false;
    const opening = openOf(host).then((result) => {
      opened = true;
      return result;
    });
    await new Promise((resolve) => setTimeout(resolve, 10));
    expect([opened, host.calls.at(-1)]).toEqual([false, "egress.opened"]);
    durable();
    expect((await opening).ok).toBe(true);
  });

  test("that is on no list asks neither policy nor the DNS", async () => {
    const host = setup();
    for (const text of ["example.org:443", "a.b.example.com:443", "example.com:22", "192.0.2.2:443"])
      expect(await host.gate.judge(asked(text))).toMatchObject({ ok: false, code: "egress-denied" });
    expect(new Set(host.calls)).toEqual(new Set(["egress.refused"]));
  });

  test("that policy denies is not looked up", async () => {
    const host = setup({ policy: async () => ({ allow: false, why: "network.agent", seq: 8 }) });
    expect(await host.gate.judge(WWW)).toEqual({
      ok: false,
      code: "egress-denied",
      why: "policy: network.agent",
    });
    expect(host.calls).toEqual(["egress.refused"]);
  });

  test("is refused where policy cannot be asked", async () => {
    const host = setup({ policy: () => Promise.reject(new Error("gone")) });
    expect(await host.gate.judge(WWW)).toMatchObject({ ok: false, code: "egress-denied" });
  });

  test.each([
    ["one private among public ones", ["93.184.216.34", "10.0.0.1"], "egress-address"],
    ["metadata", ["169.254.169.254"], "egress-address"],
    ["mapped", ["::ffff:93.184.216.34"], "egress-address"],
    ["what is no address", ["93.184.216.34", "example.com"], "egress-address"],
    ["no answer", [], "egress-unresolved"],
  ] as const)("whose name comes to %s is refused", async (_what, addresses, code) => {
    const host = setup({ resolve: async () => addresses });
    expect(await host.gate.judge(WWW)).toMatchObject({ ok: false, code });
  });

  test("is refused where the DNS fails", async () => {
    const host = setup({ resolve: () => Promise.reject(new Error("SERVFAIL")) });
    expect(await host.gate.judge(WWW)).toMatchObject({ ok: false, code: "egress-unresolved" });
  });

  test("to an address has to be listed, and public, or listed as not public", async () => {
    const at = (text: string, more: Partial<GateParts> = {}) => setup(more).gate.judge(asked(text));
    expect(await at("93.184.216.34:443")).toMatchObject({ ok: true, addresses: ["93.184.216.34"] });
    expect(await at("93.184.216.35:443")).toMatchObject({ code: "egress-denied" });
    expect(await at("10.0.0.1:443")).toMatchObject({ code: "egress-address" });
    const listed = [parseIpRange("10.0.0.0/8") ?? ({ family: 4, first: 0n, last: 0n } as const)];
    expect(await at("10.0.0.1:443", { addressRules: () => ({ listed, own: [] }) })).toMatchObject({
      ok: true,
    });
  });

  test("each is looked up anew, and each answer judged: what changes meanwhile is refused", async () => {
    const answers = [["93.184.216.34"], ["127.0.0.1"]];
    const host = setup({ resolve: async () => answers.shift() ?? [] });
    expect(await openOf(host)).toMatchObject({ ok: true, addresses: ["93.184.216.34"] });
    expect(await openOf(host)).toMatchObject({ ok: false, code: "egress-address" });
  });

  test.each([
    ["another name", { serverName: "example.com", encrypted: false }],
    ["no name", { serverName: null, encrypted: false }],
    ["an encrypted name behind the right one", { serverName: "www.example.com", encrypted: true }],
  ])("with %s in its ClientHello is refused, and not opened", async (_what, hello) => {
    const host = setup();
    expect(await openOf(host, hello)).toMatchObject({ ok: false, code: "egress-name" });
    expect(host.records.map(({ kind }) => kind)).toEqual(["egress.refused"]);
  });

  test("to an address names nobody in its ClientHello", async () => {
    const to = asked("93.184.216.34:443");
    expect(await openOf(setup(), { serverName: null, encrypted: false }, to)).toMatchObject({ ok: true });
    expect(await openOf(setup(), NAMED, to)).toMatchObject({ ok: false, code: "egress-name" });
  });

  test("that cannot be recorded is refused, and is not counted as open", async () => {
    const host = setup({ durable: () => Promise.reject(new Error("disk full")) });
    expect(await openOf(host)).toMatchObject({ ok: false, code: "log-unavailable" });
    expect(host.ledger.live()).toBe(0);
  });

  test("is refused at every step when the network was taken away", async () => {
    const host = setup();
    host.state.over = true;
    expect(await host.gate.judge(WWW)).toMatchObject({ code: "egress-ended" });
    host.state.over = false;
    const judged = await host.gate.judge(WWW);
    host.state.over = true;
    expect(judged.ok && (await host.gate.open(judged, NAMED))).toMatchObject({ code: "egress-ended" });

    const during = setup({
      policy: async () => {
        during.state.over = true;
        return { allow: true, why: "", seq: 1 };
      },
    });
    expect(await during.gate.judge(WWW)).toMatchObject({ code: "egress-ended" });
    expect(during.calls).not.toContain("resolve");

    const late = setup({
      durable: async () => {
        late.state.over = true;
      },
    });
    expect(await openOf(late)).toMatchObject({ code: "egress-ended" });
    expect(late.ledger.live()).toBe(0);
  });

  test("one more than a run may have at a time, or in all, is refused", async () => {
    const host = setup();
    for (let n = 0; n < 3; n++) expect((await openOf(host)).ok).toBe(true);
    expect(await host.gate.judge(WWW)).toMatchObject({ code: "egress-limit" });
    const few = setup({ limits: { connections: 10, connectionsInAll: 2 } });
    await openOf(few);
    await openOf(few);
    expect(await few.gate.judge(WWW)).toMatchObject({ code: "egress-limit" });
  });
});

describe("the records of a run", () => {
  test("connections to one place are one record, with what passed in all of them at the end", async () => {
    const host = setup();
    for (let n = 0; n < 3; n++) {
      const opened = await openOf(host);
      if (!opened.ok) throw new Error("refused");
      expect(opened.flow.sent(10) && opened.flow.received(100)).toBe(true);
      opened.flow.close(n === 1 ? "idle" : "");
      opened.flow.close("twice is once");
    }
    host.ledger.end("the command ended");
    host.ledger.end("again");
    expect(host.records.map(({ kind }) => kind)).toEqual(["egress.opened", "egress.closed"]);
    expect(host.records[1]?.data).toEqual({
      run: RUN,
      opened: 1,
      way: "tls",
      host: "www.example.com",
      port: 443,
      connections: 3,
      sent: 30,
      received: 300,
      ms: 0,
      why: "the command ended",
      failed: "idle",
    });
  });

  test("the same refusal is one record, and a count at the end; many are bounded", async () => {
    const host = setup();
    for (let n = 0; n < 200; n++) await host.gate.judge(asked("example.org:443"));
    for (let n = 0; n < 200; n++) await host.gate.judge(asked(`h${n}.example.org:443`));
    const before = host.records.length;
    expect(before).toBeLessThan(40);
    host.ledger.end("over");
    const repeated = host.records.slice(before);
    expect(repeated.length).toBeLessThan(40);
    expect(repeated.every(({ kind }) => kind === "egress.repeated")).toBe(true);
    const counted = repeated.reduce((sum, { data }) => sum + Number(data["count"]), 0);
    expect(counted + before).toBe(400);
  });

  test("a refusal, and an end, stand where the record is not even taken", async () => {
    let isStopping = false;
    const durable = () => {
      if (isStopping) throw new Error("the daemon is stopping");
      return Promise.resolve();
    };
    const host = setup({ durable });
    for (const name of ["www.example.com:443", "a.example.com:443"]) {
      const opened = await openOf(host, { serverName: name.slice(0, -4), encrypted: false }, asked(name));
      expect(opened.ok).toBe(true);
    }
    isStopping = true;
    expect(host.gate.refuse(null, "http-invalid", "no")).toMatchObject({ ok: false, code: "http-invalid" });
    expect(await openOf(host, null, asked("b.example.com:80", "http"))).toMatchObject({
      code: "log-unavailable",
    });
    expect(await host.gate.judge(asked("example.org:443"))).toMatchObject({ code: "egress-denied" });
    host.ledger.end("over");
    expect(host.records.filter(({ kind }) => kind === "egress.closed")).toHaveLength(2);
  });

  test("nothing passes any more when the run has had its bytes, or is over", async () => {
    const host = setup({ totalBytes: 100 });
    const opened = await openOf(host);
    if (!opened.ok) throw new Error("refused");
    expect([opened.flow.sent(60), opened.flow.received(41), opened.flow.received(40)]).toEqual([
      true,
      false,
      true,
    ]);
    host.ledger.end("over");
    expect(opened.flow.received(0)).toBe(false);
  });

  test("a secret in a name is in no record", async () => {
    const host = setup();
    const key = `AKIA${"ABCDEFGH".repeat(2)}`;
    await host.gate.judge(asked(`${key}.example.org:443`));
    expect(JSON.stringify(host.records).toLowerCase()).not.toContain(key.toLowerCase());
  });
});
