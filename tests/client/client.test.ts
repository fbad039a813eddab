import { setTimeout as delay } from "node:timers/promises";
import { afterEach, describe, expect, test } from "vitest";
import { type BoundaryClient, type ConnectOptions, connect } from "../../client/client.ts";
import { MAX_REQUEST_BYTES } from "../../client/control.ts";
import type { ModeNews } from "../../client/mode-news.ts";
import { renderFrame } from "../../daemon/protocol/frame.ts";
import { MAX_FRAME_BYTES, type Request } from "../../daemon/protocol/messages.ts";
import { problem } from "../../daemon/protocol/problem.ts";
import { type Behaviour, type FakeDaemon, fakeDaemon } from "../support/fake-daemon.ts";

const fakes: FakeDaemon[] = [];
const clients: BoundaryClient[] = [];
afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  for (const fake of fakes.splice(0)) await fake.stop();
});

async function fake(...given: Parameters<typeof fakeDaemon>): Promise<FakeDaemon> {
  const made = await fakeDaemon(...given);
  fakes.push(made);
  return made;
}

function client(options: Partial<ConnectOptions>): BoundaryClient {
  const made = connect({ deadlineMs: 5_000, ...options });
  clients.push(made);
  return made;
}

const QUESTION = { action: { name: "tool.run" }, resource: { type: "tool", id: "ls" } };
const about = (id: string) => ({ action: { name: "tool.run" }, resource: { type: "tool", id } });
const ALLOW = { data: evaluation(true) };
const DENY = { data: evaluation(false) };

function evaluation(decision: boolean): object {
  const code = decision ? "allowed" : "role-required";
  return { decision, code, reason: ["r"], mode: "OPEN", assurance: "enforced", correlationId: "1" };
}

function status(wanted: string): Behaviour {
  const mode = { wanted, applied: wanted };
  return { data: { mode, assurance: "enforced", controls: [], sensors: [], log: {}, daemon: {} } };
}

/** A behaviour that waits until it is told. */
function held(then: Behaviour): { behave: () => Promise<Behaviour>; release: () => void } {
  const { promise, resolve } = Promise.withResolvers<Behaviour>();
  return { behave: () => promise, release: () => resolve(then) };
}

async function until(met: () => boolean): Promise<void> {
  for (const stopMs = performance.now() + 10_000; !met(); ) {
    if (performance.now() > stopMs) throw new Error("it did not come to be");
    await delay(5);
  }
}

/** Asks until the daemon is reached again. */
async function reached(asking: BoundaryClient): Promise<void> {
  for (let tries = 0; tries < 1_000; tries++) {
    if ((await asking.check(QUESTION)).code !== "daemon-unreachable") return;
    await delay(10);
  }
  throw new Error("never reached");
}

describe("an answer", () => {
  test("is the daemon's", async () => {
    const { socket, requests } = await fake({ check: ALLOW });
    expect(await client({ socket }).check(QUESTION)).toMatchObject({
      decision: true,
      code: "allowed",
      mode: "OPEN",
      correlationId: "1",
    });
    expect(requests).toEqual([{ id: "1", verb: "check", params: QUESTION }]);
  });

  test("goes with subject, context and token when they are given, and only then", async () => {
    const { socket, requests } = await fake({ check: DENY });
    const whole = { subject: { type: "Agent", id: "a" }, ...QUESTION, context: { taint: ["x"] } };
    await client({ socket, token: "bd_x" }).check(whole);
    expect(requests).toEqual([{ id: "1", verb: "check", params: whole, token: "bd_x" }]);
  });

  test.each<readonly [string, Behaviour, string]>([
    ["a refusal", { problem: problem("role-required", "no") }, "role-required"],
    ["no answer we can read", { data: { decision: true } }, "reply-invalid"],
    ["no frame", { raw: "garbage\f" }, "reply-invalid"],
    ["half a frame, and the end", { raw: '{"type":"reply"', after: "close" }, "daemon-unreachable"],
    ["binary", { raw: Buffer.from([0xff, 0xfe, 0x0c]) }, "reply-invalid"],
    ["a frame of another kind", { raw: renderFrame("allow", { decision: true }) }, "reply-invalid"],
    ["a broken connection", "close", "daemon-unreachable"],
  ])("%s is a denial", async (_what, behaviour, code) => {
    const { socket } = await fake({ check: behaviour });
    expect(await client({ socket }).check(QUESTION)).toMatchObject({ decision: false, code });
  });

  test("without a daemon is a denial at once, long before the deadline", async () => {
    const asking = client({ socket: "/nonexistent/control.sock", deadlineMs: 3_600_000 });
    const answer = await asking.check(QUESTION);
    expect(answer).toMatchObject({
      decision: false,
      code: "daemon-unreachable",
      mode: null,
      retryable: true,
    });
    expect(answer.detail).toContain("/nonexistent/control.sock");
  });

  test.each([
    ["a cycle", () => ({ ...QUESTION, context: cycle() })],
    ["a bigint", () => ({ ...QUESTION, context: { n: 1n } })],
    ["nothing at all", () => undefined],
  ])("to %s is a denial", async (_what, make) => {
    const { socket, requests } = await fake({ check: ALLOW });
    const answer = await client({ socket }).check(make() as unknown as typeof QUESTION);
    expect(answer).toMatchObject({ decision: false, code: "request-invalid" });
    expect(requests).toEqual([]);
  });

  test("to what does not fit into a frame is a denial, and the connection lives", async () => {
    expect(MAX_REQUEST_BYTES).toBe(MAX_FRAME_BYTES);
    const { socket, requests } = await fake({ check: ALLOW });
    const asking = client({ socket });
    expect(await asking.check(about("x".repeat(70_000)))).toMatchObject({ code: "frame-too-large" });
    expect(await asking.check(QUESTION)).toMatchObject({ decision: true });
    expect(requests).toHaveLength(1);
  });
});

describe("a slow daemon", () => {
  test("is a denial at the deadline; a late answer is nobody's, and the next question is answered", async () => {
    const slow = held(ALLOW);
    const { socket } = await fake({
      check: (request: Request) => (JSON.stringify(request).includes("slow") ? slow.behave() : DENY),
    });
    const asking = client({ socket });
    expect(await asking.check(about("slow"), { deadlineMs: 50 })).toMatchObject({
      decision: false,
      code: "deadline",
    });
    slow.release();
    expect(await asking.check(QUESTION)).toMatchObject({ decision: false, code: "role-required" });
  });

  test("an aborted question is a denial, and so is one that was aborted before", async () => {
    const { socket, requests } = await fake({ check: "silent" });
    const asking = client({ socket });
    const abort = new AbortController();
    const answer = asking.check(QUESTION, { signal: abort.signal });
    await until(() => requests.length === 1);
    abort.abort();
    expect(await answer).toMatchObject({ decision: false, code: "cancelled" });
    expect(await asking.check(QUESTION, { signal: abort.signal })).toMatchObject({ code: "cancelled" });
    expect(requests).toHaveLength(1);
  });

  test.each([0, -1, Number.NaN, Number.POSITIVE_INFINITY])(
    "a deadline of %d is a denial",
    async (deadlineMs) => {
      const { socket } = await fake({ check: ALLOW });
      expect(await client({ socket }).check(QUESTION, { deadlineMs })).toMatchObject({
        code: "argument-invalid",
      });
      expect(() => connect({ socket, deadlineMs })).toThrow("deadlineMs");
    },
  );
});

describe("many questions at a time", () => {
  test("go over one connection, at most so many unanswered, each with its own answer", async () => {
    let open = 0;
    let most = 0;
    const daemon = await fake({
      check: async (request) => {
        open += 1;
        most = Math.max(most, open);
        await delay(2);
        open -= 1;
        return JSON.stringify(request).includes('"even') ? ALLOW : DENY;
      },
    });
    const asking = client({ socket: daemon.socket, maxInFlight: 4 });
    const names = Array.from({ length: 40 }, (_, at) => `${at % 2 === 0 ? "even" : "odd"}-${at}`);
    const answers = await Promise.all(names.map((name) => asking.check(about(name))));
    expect(answers.map(({ decision }) => decision)).toEqual(names.map((name) => name.startsWith("even")));
    expect(most).toBe(4);
    expect(daemon.connections()).toBe(1);
  });

  test("a denial is shared by all who ask the same meanwhile", async () => {
    const slow = held(DENY);
    const { socket, requests } = await fake({ check: slow.behave });
    const asking = client({ socket });
    const answers = Promise.all(Array.from({ length: 10 }, () => asking.check(QUESTION)));
    await until(() => requests.length === 1);
    slow.release();
    expect((await answers).map(({ decision }) => decision)).toEqual(Array(10).fill(false));
    expect(requests).toHaveLength(1);
  });

  test("an allow is one caller's: what is good for one use is not used twice", async () => {
    let uses = 1;
    const { socket, requests } = await fake({ check: () => (uses-- > 0 ? ALLOW : DENY) });
    const asking = client({ socket });
    const answers = await Promise.all(Array.from({ length: 10 }, () => asking.check(QUESTION)));
    expect(answers.filter(({ decision }) => decision)).toHaveLength(1);
    expect(requests).toHaveLength(10);
  });

  test("whoever leaves does not take the others' answer along", async () => {
    const slow = held(ALLOW);
    const { socket, requests } = await fake({ check: slow.behave });
    const asking = client({ socket });
    const abort = new AbortController();
    const left = asking.check(QUESTION, { signal: abort.signal });
    const stays = asking.check(QUESTION);
    await until(() => requests.length === 1);
    abort.abort();
    slow.release();
    expect(await left).toMatchObject({ decision: false, code: "cancelled" });
    expect(await stays).toMatchObject({ decision: true });
    expect(requests).toHaveLength(1);
  });

  test("one that is asked anew after another's allow can still be aborted", async () => {
    const { socket, requests } = await fake({ check: () => (requests.length === 1 ? ALLOW : "silent") });
    const asking = client({ socket, maxInFlight: 1 });
    const abort = new AbortController();
    const first = asking.check(QUESTION);
    const second = asking.check(QUESTION, { signal: abort.signal });
    expect(await first).toMatchObject({ decision: true });
    await until(() => requests.length === 2);
    abort.abort();
    expect(await second).toMatchObject({ decision: false, code: "cancelled" });
    // its place is free again
    const third = asking.check(about("other"), { deadlineMs: 1_000 });
    await until(() => requests.length === 3);
    expect(await third).toMatchObject({ code: "deadline" });
  });
});

describe("a restart in the middle", () => {
  test("what was on its way is denied and not asked again; later questions are answered", async () => {
    const first = await fake({ check: "silent" });
    const asking = client({ socket: first.socket });
    const onTheWay = [asking.check(about("a")), asking.check(about("b"))];
    await until(() => first.requests.length === 2);
    await first.stop();
    expect(await Promise.all(onTheWay)).toMatchObject([
      { decision: false, code: "daemon-unreachable" },
      { decision: false, code: "daemon-unreachable" },
    ]);
    expect(await asking.check(QUESTION)).toMatchObject({ decision: false, code: "daemon-unreachable" });

    const second = await fake({ check: ALLOW }, first.runtimeDir);
    await reached(asking);
    expect(await asking.check(QUESTION)).toMatchObject({ decision: true });
    const asked = second.requests.map(({ params }) => JSON.stringify(params));
    expect(asked).not.toContain(JSON.stringify(about("a")));
    expect(asked).not.toContain(JSON.stringify(about("b")));
  });

  test("what waited for a place is denied too, without being sent", async () => {
    const daemon = await fake({ check: "silent" });
    const asking = client({ socket: daemon.socket, maxInFlight: 1 });
    const answers = ["a", "b", "c"].map((id) => asking.check(about(id)));
    await until(() => daemon.requests.length === 1);
    daemon.drop();
    for (const answer of answers) expect((await answer).code).toBe("daemon-unreachable");
    expect(daemon.requests).toHaveLength(1);
  });

  test("two clients do not disturb each other", async () => {
    const daemon = await fake({
      check: (request) => (JSON.stringify(request).includes("bad") ? "close" : ALLOW),
    });
    const [one, other] = [client({ socket: daemon.socket }), client({ socket: daemon.socket })];
    expect(await one.check(QUESTION)).toMatchObject({ decision: true });
    const [broken, fine] = await Promise.all([one.check(about("bad")), other.check(QUESTION)]);
    expect(broken).toMatchObject({ decision: false, code: "daemon-unreachable" });
    expect(fine).toMatchObject({ decision: true });
  });

  test("closing denies what waits, and ends the connection", async () => {
    const daemon = await fake({ check: "silent" });
    const asking = client({ socket: daemon.socket });
    const waits = asking.check(QUESTION);
    await until(() => daemon.requests.length === 1);
    asking.close();
    asking.close();
    expect(await waits).toMatchObject({ decision: false });
    expect(await asking.check(QUESTION)).toMatchObject({ decision: false, code: "cancelled" });
    await until(() => daemon.connections() === 0);
    await expect(asking.call("status", {})).rejects.toMatchObject({ code: "cancelled" });
  });
});

describe("other verbs", () => {
  test("resolve with the reply, and reject with the refusal", async () => {
    const { socket } = await fake({
      status: status("OPEN"),
      "mode.confirm": { problem: problem("confirm-none", "nothing waits") },
      "key.show": { data: { vkey: 7 } },
      "selftest.run": "silent",
    });
    const asking = client({ socket });
    expect(await asking.call("status", {})).toMatchObject({ assurance: "enforced" });
    await expect(asking.call("mode.confirm", {})).rejects.toMatchObject({
      code: "confirm-none",
      message: "nothing waits",
    });
    await expect(asking.call("key.show", {})).rejects.toMatchObject({ code: "reply-invalid" });
    await expect(asking.call("selftest.run", {}, { deadlineMs: 30 })).rejects.toMatchObject({
      code: "deadline",
    });
  });

  test("that are not known here can be asked all the same", async () => {
    const { socket, requests } = await fake({
      "tea.make": { data: { cups: 2 } },
      "tea.drink": { problem: { ...problem("internal", "hot"), code: "too-hot" as "internal" } },
    });
    const asking = client({ socket });
    expect(await asking.callUnchecked("tea.make", { cups: 2 })).toEqual({ cups: 2 });
    await expect(asking.callUnchecked("tea.drink", {})).rejects.toThrow("too-hot: hot");
    expect(requests[0]).toMatchObject({ verb: "tea.make", params: { cups: 2 } });
  });

  test("reject when there is no daemon", async () => {
    const asking = client({ socket: "/nonexistent/control.sock" });
    await expect(asking.call("status", {})).rejects.toMatchObject({ code: "no-daemon" });
    await expect(asking.callUnchecked("x", {})).rejects.toMatchObject({ code: "no-daemon" });
  });
});

describe("news of the mode", () => {
  const event = (kind: string) => ({ seq: 1, at: "t", mono: "1", kind, data: {} });

  test("begin with the mode as it is, then each change once, and a gap is told after a reconnect", async () => {
    let mode = "OPEN";
    const table = { "events.subscribe": { data: {} }, status: () => status(mode), check: ALLOW };
    const first = await fake(table);
    const news: ModeNews[] = [];
    client({ socket: first.socket, onModeChange: (one) => news.push(one) });
    await until(() => news.length === 1);

    first.emit(event("decision"));
    first.emit(event("mode.applied")); // of what is known already
    mode = "AIRGAP";
    first.emit(event("mode.changed"));
    first.emit(event("mode.applied"));
    await until(() => news.length === 2);

    await first.stop();
    await until(() => news.length === 3);
    await fake(table, first.runtimeDir);
    await until(() => news.length === 4);
    const known = { kind: "mode", assurance: "enforced" };
    expect(news).toEqual([
      { ...known, wanted: "OPEN", applied: "OPEN", missed: false },
      { ...known, wanted: "AIRGAP", applied: "AIRGAP", missed: false },
      { kind: "unknown", why: expect.any(String) as string },
      { ...known, wanted: "AIRGAP", applied: "AIRGAP", missed: true },
    ]);
  });

  test("say that nothing is known where there is no daemon, once", async () => {
    const news: ModeNews[] = [];
    client({ socket: "/nonexistent/control.sock", onModeChange: (one) => news.push(one) });
    await until(() => news.length === 1);
    await delay(200);
    expect(news).toEqual([{ kind: "unknown", why: expect.stringContaining("/nonexistent") as string }]);
  });

  test.each<readonly [string, Readonly<Record<string, Behaviour>>]>([
    ["a refused subscription", { "events.subscribe": { problem: problem("role-required", "no") } }],
    ["an unknown mode", { "events.subscribe": { data: {} }, status: status("AJAR") }],
  ])("%s is no mode", async (_what, table) => {
    const { socket } = await fake(table);
    const news: ModeNews[] = [];
    client({ socket, onModeChange: (one) => news.push(one) });
    await until(() => news.length === 1);
    expect(news).toMatchObject([{ kind: "unknown" }]);
  });

  test("come over a connection of their own: decisions go on when it breaks", async () => {
    const daemon = await fake({ "events.subscribe": { data: {} }, status: "close", check: ALLOW });
    const asking = client({ socket: daemon.socket, onModeChange: () => undefined });
    for (let asked = 0; asked < 20; asked++) {
      expect(await asking.check(QUESTION)).toMatchObject({ decision: true });
      await delay(2);
    }
  });
});

function cycle(): Record<string, never> {
  const around: Record<string, unknown> = {};
  around["self"] = around;
  return around as Record<string, never>;
}
