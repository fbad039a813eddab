import { describe, expect, test, vi } from "vitest";
import { TOKEN } from "../support/authzen-fixture.ts";
import { ask, startDecide } from "../support/decide-server.ts";
import { callerOf, decisionsOf, PERMIT, recall, startedOffice } from "../support/decisions-of.ts";
import { settled, type startHost } from "../support/host.ts";
import { UIDS } from "../support/office.ts";
import { type RawHttp, rawHttp } from "../support/raw-http.ts";

/** A third review of step 4: what the mends of the first two left open. */

const DENY = { ...PERMIT, decision: "deny", code: "policy-denied", reasons: ["no"] } as const;

const BODY = JSON.stringify({
  subject: { type: "user", id: "a" },
  action: { name: "read" },
  resource: { type: "record", id: "1" },
});
const QUESTION = `POST /access/v1/evaluation HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${TOKEN}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(BODY)}\r\n\r\n${BODY}`;
const peerOf = (uid: number) => ({ uid, gid: uid, pid: 7, groups: [uid] });

describe("tokens", () => {
  test("a child does not carry its parent's role over to somebody that the parent stood for without one", async () => {
    const { host, make, admin } = await startedOffice();
    const asked: [string, readonly string[]][] = [];
    const { evaluator } = decisionsOf(host, (_request, { id, roles }) => {
      asked.push([id, roles]);
      return PERMIT;
    });
    const wish = { principal: "Service::s", role: "operator", subjects: ["User::*"] };
    const service = await make(0, "token.mint", wish, admin);
    const child = await make(UIDS.none, "token.narrow", { principal: "User::carol" }, service.text);
    const same = await make(UIDS.none, "token.narrow", {}, service.text);
    const carol = recall("n", { type: "User", id: "carol" });
    await evaluator.evaluate(callerOf(UIDS.none, service.token.id), carol);
    await evaluator.evaluate(callerOf(UIDS.none, child.token.id), carol);
    await evaluator.evaluate(callerOf(UIDS.none, same.token.id), recall("n", { type: "Service", id: "s" }));
    expect(asked).toEqual([
      ["carol", []],
      ["carol", []],
      ["s", ["operator"]],
    ]);
  });
});

describe("denials", () => {
  test("who narrows his token again and again takes nobody else's room in the log", async () => {
    const { host, make, admin } = await startedOffice({
      limits: { token: { requests: 0 }, uid: { requests: 0 }, overall: { requests: 0 } },
    });
    const { evaluator } = decisionsOf(host, () => DENY);
    const noisy = await make(0, "token.mint", { principal: "Agent::a" }, admin);
    const quiet = await make(0, "token.mint", { principal: "Agent::b" }, admin);
    for (let n = 0; n < 300; n++) {
      const { token } = await make(UIDS.none, "token.narrow", {}, noisy.text);
      await evaluator.evaluate(callerOf(UIDS.none, token.id), recall(`noise-${n % 40}`));
    }
    const b = { type: "Agent", id: "b" };
    const told: string[] = [];
    for (const id of ["one", "two"]) {
      const { correlationId } = await evaluator.evaluate(callerOf(1_500, quiet.token.id), recall(id, b));
      told.push(correlationId);
    }
    await settled();
    const ids = host.records.filter(({ kind }) => kind === "decision").map(({ data }) => data["resource"]);
    expect(ids).toContainEqual({ type: "memory", id: "one" });
    expect(ids).toContainEqual({ type: "memory", id: "two" });
    expect(told).not.toContain("");
  });
});

describe("the counts of denials", () => {
  /** As many callers as are told apart, each with as many denials as he has room for, all of them twice. */
  async function crowded() {
    const { host, make, admin } = await startedOffice();
    const { evaluator } = decisionsOf(host, () => DENY);
    const { token } = await make(0, "token.mint", { principal: "Agent::a" }, admin);
    for (let n = 0; n < 256 * 33 * 2; n++) {
      void evaluator.evaluate(callerOf(100_000 + (n % 256), token.id), recall(`${n % (256 * 33)}`));
      if (n % 500 === 0) await settled();
    }
    await settled();
    return host;
  }

  test("wait where the disk is slow and much waits for it: they neither end the log nor are lost", async () => {
    const host = await crowded();
    host.store.behaviour = "holds";
    host.clock.pass(120_000);
    const text = "x".repeat(10_000);
    while (host.daemon.record({ kind: "decision", data: { text } }).seq !== -1);
    host.daemon.tick();
    await settled();
    host.store.release();
    for (let n = 0; n < 4; n++) {
      await settled();
      host.clock.pass(61_000);
      host.daemon.tick();
    }
    await settled();
    expect(host.daemon.state().wanted).toBe("OPEN");
    const told = host.records.filter(({ kind }) => kind === "decision.repeated");
    const count = told.reduce((sum, { data }) => sum + Number(data["count"]), 0);
    expect(count).toBeGreaterThan(256 * 32);
  }, 60_000);
});

describe("refusals", () => {
  test("a crowd with tokens that nobody knows hides nobody who is refused a verb", async () => {
    const { host, ask: askVerb } = await startedOffice();
    const service = decisionsOf(host, () => PERMIT);
    for (let n = 0; n < 200; n++) service.identify("bd_none", peerOf(100_000 + n));
    await askVerb(UIDS.readonly, "log.prune", { keptDays: 1 });
    await settled();
    const refused = host.records.filter(({ kind }) => kind === "request.refused").map(({ data }) => data);
    expect(refused).toContainEqual(expect.objectContaining({ uid: UIDS.readonly, verb: "log.prune" }));
    expect(refused.length).toBeLessThan(70);
  });
});

describe("limits", () => {
  test("whoever has no token uses up nothing of what those with one share", async () => {
    const { host, make, admin } = await startedOffice();
    const service = decisionsOf(host, () => PERMIT);
    const agent = await make(0, "token.mint", { principal: "Agent::a" }, admin);
    for (let n = 0; n < 4_008; n++) expect(service.identify("bd_none", peerOf(5_000 + (n % 8)))).toBe(null);
    const asked = await service.evaluator.evaluate(callerOf(UIDS.none, agent.token.id), recall("n"));
    expect(asked).toMatchObject({ decision: true });
    await settled();
    // his own is used up all the same
    expect(host.last("request.refused")?.data).toMatchObject({ uid: 5007, why: "rate-limited" });
  });

  test("nor of the room in which the log keeps who is blocked", async () => {
    const { host, ask: askVerb } = await startedOffice({
      limits: { uid: { requests: 5, blockMs: 300_000 } },
    });
    const service = decisionsOf(host, () => PERMIT);
    for (let n = 0; n < 6; n++) await askVerb(UIDS.readonly, "status");
    host.clock.pass(1_000);
    for (let n = 0; n < 60 * 6; n++) service.identify("bd_none", peerOf(100_000 + (n % 60)));
    const held = () => host.log.fold().limits["blocks"];
    await settled();
    expect(held()).toEqual([expect.objectContaining({ kind: "uid", name: String(UIDS.readonly) })]);
    await host.daemon.stop("test");
    expect(held()).toEqual([expect.objectContaining({ kind: "uid", name: String(UIDS.readonly) })]);
  });

  test("nor of the room in which callers are told apart", async () => {
    const { host, make, admin } = await startedOffice({
      limits: { uid: { requests: 20, blockMs: 300_000 } },
    });
    const service = decisionsOf(host, () => PERMIT);
    const agent = await make(0, "token.mint", { principal: "Agent::a" }, admin);
    for (let n = 0; n < 4_200; n++) service.identify("bd_none", peerOf(100_000 + n));
    for (let n = 0; n < 30; n++) service.identify("bd_none", peerOf(200_000 + n));
    const asked = await service.evaluator.evaluate(callerOf(UIDS.none, agent.token.id), recall("n"));
    expect(asked).toMatchObject({ decision: true });
  });
});

describe("decide.sock", () => {
  test("whoever shows no token keeps nobody out, however many users he is", async () => {
    let uid = 100_000;
    const limits = {
      maxConnections: 8,
      maxConnectionsPerUid: 4,
      maxPendingRequests: 8,
      frameTimeoutMs: 5_000,
    };
    const server = await startDecide(undefined, { limits, peerOf: () => peerOf(uid) });
    const crowd: RawHttp[] = [];
    try {
      uid = 1_000;
      const known = await rawHttp(server.path);
      known.send(QUESTION);
      await vi.waitFor(() => expect(known.statuses()).toEqual([200]));
      for (let n = 0; n < 30; n++) {
        uid = 100_000 + (n % 10);
        crowd.push(await rawHttp(server.path));
      }
      uid = 1_001;
      expect((await ask(server.path, "/access/v1/evaluation", BODY)).status).toBe(200);
      known.send(QUESTION);
      await vi.waitFor(() => expect(known.statuses()).toEqual([200, 200]));
      expect(server.socket.connections()).toBeLessThanOrEqual(limits.maxConnections);
      known.socket.destroy();
    } finally {
      for (const { socket } of crowd) socket.destroy();
      await server.stop();
    }
  });

  test("one user's connections do not go for more of his own, nor for those of somebody who has as many", async () => {
    let uid = 1_000;
    const limits = {
      maxConnections: 2,
      maxConnectionsPerUid: 2,
      maxPendingRequests: 8,
      frameTimeoutMs: 5_000,
    };
    const server = await startDecide(undefined, { limits, peerOf: () => peerOf(uid) });
    const all: RawHttp[] = [];
    const open = async (as: number) => {
      uid = as;
      const one = await rawHttp(server.path);
      all.push(one);
      return one;
    };
    try {
      await open(1);
      await open(1);
      await vi.waitFor(() => expect(server.socket.connections()).toBe(2));
      expect(await (await open(1)).ended).toContain("503");
      await open(2);
      await vi.waitFor(() => expect(all[0]?.socket.destroyed).toBe(true));
      expect(await (await open(2)).ended).toContain("503");
      expect(await (await open(1)).ended).toContain("503");
      expect(server.socket.connections()).toBe(2);
    } finally {
      for (const { socket } of all) socket.destroy();
      await server.stop();
    }
  });
});

/** As processes that are ended are: the log is closed after them. */
function slowToStop({ sensors }: Awaited<ReturnType<typeof startHost>>): void {
  for (const sensor of sensors)
    Object.assign(sensor, { stop: () => new Promise((resolve) => setTimeout(resolve, 50)) });
}

describe("a stop", () => {
  test("stays the last record, whatever comes at decide.sock meanwhile", async () => {
    const { host, make, admin } = await startedOffice();
    const agent = await make(0, "token.mint", { principal: "Agent::a" }, admin);
    const service = decisionsOf(host, () => PERMIT);
    slowToStop(host);
    const { type, id } = recall("n").subject;
    const query = {
      kind: "action",
      subject: { type, id, properties: {} },
      resource: recall("n").resource,
      context: {},
    } as const;
    const searching = service.search(callerOf(UIDS.none, agent.token.id), query, { after: null, limit: 100 });
    let uid = 100_000;
    const junk = setInterval(() => service.identify("bd_none", peerOf(uid++)), 0);
    try {
      expect(await host.daemon.stop("SIGTERM")).toBe("recorded");
    } finally {
      clearInterval(junk);
    }
    await searching;
    expect(host.log.fold().stop).toBe("clean");
    expect(host.records.at(-1)?.kind).toMatch(/^(daemon.stopped|seal)$/);
  });

  test("is not followed by what somebody records between it and the log's end", async () => {
    const { host } = await startedOffice();
    slowToStop(host);
    const stopping = host.daemon.stop("SIGTERM");
    while (host.log.fold().stop !== "clean") await new Promise((resolve) => setImmediate(resolve));
    await settled();
    const { seq, durable } = host.daemon.record({ kind: "decision", data: {} });
    await expect(durable).rejects.toMatchObject({ code: "log-unavailable" });
    expect(seq).toBe(-1);
    await stopping;
    expect(host.log.fold().stop).toBe("clean");
  });
});

describe("answers", () => {
  test("an allow whose record could not even be begun has no number", async () => {
    const { host, make, admin } = await startedOffice();
    const agent = await make(0, "token.mint", { principal: "Agent::a" }, admin);
    const record: typeof host.daemon.record = () => {
      const durable = Promise.reject(new Error("no room"));
      durable.catch(() => undefined);
      return { seq: -1, durable };
    };
    const full = { ...host, daemon: { ...host.daemon, record } };
    const { evaluator } = decisionsOf(full, () => PERMIT);
    expect(await evaluator.evaluate(callerOf(UIDS.none, agent.token.id), recall("n"))).toMatchObject({
      decision: false,
      code: "log-unavailable",
      correlationId: "",
    });
  });
});
