import { describe, expect, test } from "vitest";
import type { AccessRequest } from "../../daemon/core/access.ts";
import type { NewToken, RevokeReply, TokenList, TokenReply } from "../../daemon/protocol/grants.ts";
import { settled, startHost } from "../support/host.ts";
import { codeOf, dataOf, officeOf, ROLES_CONFIG, UIDS } from "../support/office.ts";

const HOUR_MS = 3_600_000;
const CHECK = {
  action: { name: "recall" },
  resource: { type: "memory", id: "note-1", properties: { class: "PUBLIC" } },
};

async function started(mode: "OPEN" | "RESTRICTED" | "LOCKDOWN" = "OPEN", config: object = {}) {
  const host = await startHost({ mode, config: { roles: ROLES_CONFIG, ...config } });
  const office = officeOf(host);
  const { ask } = office;
  const make = async (uid: number, verb: string, params: object = {}, token?: string) =>
    dataOf<NewToken>(await ask(uid, verb, params, token));
  return { host, ...office, make };
}

async function bootstrapped(...args: Parameters<typeof started>) {
  const host = await started(...args);
  const { text: admin } = await host.make(0, "token.bootstrap");
  return { ...host, admin };
}

describe("the first token", () => {
  test("is made once, by root or the daemon's own user, and never again", async () => {
    const { ask, make, host } = await started();
    expect(codeOf(await ask(UIDS.admin, "token.bootstrap"))).toBe("token-unwanted");
    const { text, token } = await make(999, "token.bootstrap", { label: "mine" });
    expect(text).toMatch(/^bd_[A-Za-z0-9_-]{43}$/);
    expect(token).toMatchObject({ role: "admin", principal: "User::999", label: "mine", state: "live" });
    for (const uid of [0, 999]) expect(codeOf(await ask(uid, "token.bootstrap"))).toBe("token-bootstrapped");
    dataOf(await ask(0, "token.revoke", { id: token.id }));
    expect(codeOf(await ask(0, "token.bootstrap"))).toBe("token-bootstrapped");
    expect(codeOf(await ask(0, "token.bootstrap", {}, text))).toBe("token-revoked");
    await host.checkInvariants();
  });

  test("is not made in LOCKDOWN, nor while the clock is in doubt or the disk is full", async () => {
    const locked = await started("LOCKDOWN");
    expect(codeOf(await locked.ask(0, "token.bootstrap"))).toBe("lockdown");
    const full = await started();
    full.host.disk.freeBytes = 0;
    full.host.daemon.tick();
    expect(codeOf(await full.ask(0, "token.bootstrap"))).toBe("log-unavailable");
    expect(full.host.log.fold().grants.bootstrapped).toBe(false);
  });

  test("is not given out when its record is not durable", async () => {
    const { ask, host } = await started();
    host.store.behaviour = "fails";
    expect(codeOf(await ask(0, "token.bootstrap"))).toBe("log-unavailable");
  });
});

describe("minting and narrowing", () => {
  test("minting takes an admin token that was minted itself: no role does instead", async () => {
    const { ask, make, admin } = await bootstrapped();
    const wish = { principal: "Agent::build" };
    expect(codeOf(await ask(0, "token.mint", wish))).toBe("token-needed");
    const { text: narrowed } = await make(0, "token.narrow", {}, admin);
    expect(codeOf(await ask(0, "token.mint", wish, narrowed))).toBe("token-needed");
    const { token } = await make(UIDS.none, "token.mint", wish, admin);
    expect(token).toMatchObject({
      parent: "",
      principal: "Agent::build",
      role: "none",
      maxMode: "COLDROOM",
      subjects: [],
      actions: "all",
    });
  });

  test("a holder narrows what he has, and gets no more; nothing said is as the parent, for an hour", async () => {
    const { ask, make, admin, host } = await bootstrapped();
    const agent = await make(
      0,
      "token.mint",
      { principal: "Agent::a", actions: ["recall"], subjects: ["Agent::a-*"], uid: UIDS.none, uses: 50 },
      admin,
    );
    const child = await make(UIDS.none, "token.narrow", {}, agent.text);
    expect(child.token).toMatchObject({
      parent: agent.token.id,
      actions: ["recall"],
      uid: UIDS.none,
      uses: 49, // asking was a use
      expires: new Date(host.clock.realMs + HOUR_MS).toISOString(),
    });
    const sub = await make(UIDS.none, "token.narrow", { principal: "Agent::a-1" }, agent.text);
    expect(sub.token).toMatchObject({ principal: "Agent::a-1", subjects: [] });
    for (const wider of [
      { principal: "Agent::b" },
      { role: "readonly" },
      { actions: ["tool.run"] },
      { subjects: ["Agent::*"] },
      { maxMode: "LOCKDOWN" },
      { forMs: 31 * 24 * HOUR_MS },
      { uses: 100 },
      { uid: 0 },
    ])
      expect(codeOf(await ask(UIDS.none, "token.narrow", wider, agent.text)), JSON.stringify(wider)).toBe(
        "token-wider",
      );
    expect(codeOf(await ask(0, "token.mint", { principal: "Role::admin" }, admin))).toBe("request-invalid");
    expect(codeOf(await ask(0, "token.mint", { principal: "Agent::a", actions: ["fly"] }, admin))).toBe(
      "request-invalid",
    );
    await host.checkInvariants();
  });

  test("a tree is at most eight deep", async () => {
    const { ask, make, admin } = await bootstrapped();
    let text = admin;
    for (let depth = 0; depth < 8; depth++) ({ text } = await make(0, "token.narrow", {}, text));
    expect(codeOf(await ask(0, "token.narrow", {}, text))).toBe("token-limit");
  });

  test("what looks like a secret is not put into a token", async () => {
    const { ask, admin } = await bootstrapped();
    const label = ["AKIA", "IOSFODNN7EXAMPLE"].join("");
    expect(codeOf(await ask(0, "token.mint", { principal: "Agent::a", label }, admin))).toBe(
      "request-invalid",
    );
  });
});

describe("the end of a token", () => {
  test("revoking ends all that grew from it, at once; a holder ends his own and no other", async () => {
    const { ask, make, admin, host } = await bootstrapped();
    const one = await make(0, "token.mint", { principal: "Agent::one" }, admin);
    const two = await make(0, "token.mint", { principal: "Agent::two" }, admin);
    const child = await make(UIDS.none, "token.narrow", {}, one.text);
    const grandchild = await make(UIDS.none, "token.narrow", {}, child.text);
    expect(codeOf(await ask(UIDS.none, "token.revoke", { id: one.token.id }, two.text))).toBe(
      "role-required",
    );
    expect(codeOf(await ask(UIDS.none, "token.revoke", { id: one.token.id }, child.text))).toBe(
      "role-required",
    );
    expect(codeOf(await ask(UIDS.none, "token.show", { id: one.token.id }, two.text))).toBe("role-required");
    const shown = dataOf<TokenReply>(await ask(UIDS.none, "token.show", {}, grandchild.text));
    expect(shown.token.id).toBe(grandchild.token.id);
    const ended = dataOf<RevokeReply>(await ask(UIDS.none, "token.revoke", { id: child.token.id }, one.text));
    expect(ended.ended).toBe(2);
    expect(codeOf(await ask(UIDS.none, "check", CHECK, grandchild.text))).toBe("token-revoked");
    expect(codeOf(await ask(UIDS.none, "check", CHECK, one.text))).toBe("");
    const list = dataOf<TokenList>(await ask(UIDS.operator, "token.list"));
    expect(list.tokens.map(({ state }) => state).toSorted()).toEqual([
      "live",
      "live",
      "live",
      "revoked",
      "revoked",
    ]);
    await host.checkInvariants();
  });

  test("a revocation whose record cannot be taken stands all the same", async () => {
    const { ask, make, admin, host } = await bootstrapped();
    const { token, text } = await make(
      0,
      "token.mint",
      { principal: "Agent::a", maxMode: "LOCKDOWN" },
      admin,
    );
    await host.log.close();
    expect(codeOf(await ask(UIDS.operator, "token.revoke", { id: token.id }))).toBe("log-unavailable");
    expect(host.grants.tokens.standing(token.id, { uid: 5, privilege: "OPEN" })).toMatchObject({
      code: "token-revoked",
    });
    expect(host.grants.tokens.identify(text)).toBe(token.id);
  });

  test("it ends by time; a clock that is set back does not make it longer", async () => {
    const { ask, make, admin, host } = await bootstrapped();
    const { text } = await make(0, "token.mint", { principal: "Agent::a", forMs: 60_000 }, admin);
    host.clock.pass(30_000);
    expect(codeOf(await ask(UIDS.none, "check", CHECK, text))).toBe("");
    host.clock.realMs -= HOUR_MS;
    host.clock.pass(29_000);
    expect(codeOf(await ask(UIDS.none, "check", CHECK, text))).toBe("");
    host.clock.pass(1_000);
    expect(codeOf(await ask(UIDS.none, "check", CHECK, text))).toBe("token-expired");
  });

  test("that it ends soon is said once, and not of those that are brief", async () => {
    const { make, admin, host } = await bootstrapped("OPEN", { tokens: { warnMs: HOUR_MS } });
    const { token } = await make(0, "token.mint", { principal: "Agent::a", forMs: 3 * HOUR_MS }, admin);
    await make(0, "token.mint", { principal: "Agent::b", forMs: HOUR_MS }, admin);
    for (const ms of [HOUR_MS, HOUR_MS, 60_000, 60_000, 60_000]) {
      host.clock.pass(ms);
      host.grants.tick();
    }
    await settled();
    const told = host.records.filter(({ kind }) => kind === "token.expiring");
    expect(told.map(({ data }) => data["id"])).toEqual([token.id]);
  });

  test("who follows the events with it hears nothing more", async () => {
    const { over, connectionOf, feed, make, admin, ask, host } = await bootstrapped();
    const { text, token } = await make(0, "token.mint", { principal: "Agent::a", role: "readonly" }, admin);
    const heard: unknown[] = [];
    const connection = connectionOf(UIDS.none, (message) => heard.push(message) > 0);
    dataOf(await over(connection, "events.subscribe", {}, text));
    const publish = () => feed.publish(host.records.at(-1) as (typeof host.records)[number]);
    host.log.append({ kind: "sensor.blind", data: {} });
    await settled();
    const [blind] = host.records.filter(({ kind }) => kind === "sensor.blind");
    if (blind === undefined) throw new Error("no record");
    feed.publish(blind);
    expect(heard).toHaveLength(1);
    dataOf(await ask(0, "token.revoke", { id: token.id }));
    feed.publish(blind);
    publish();
    expect(heard).toHaveLength(1);
  });
});

describe("uses", () => {
  test.each([1, 3, 7])("%d, and never one more, however many ask at once", async (uses) => {
    const { ask, make, admin, host } = await bootstrapped();
    const { text } = await make(0, "token.mint", { principal: "Agent::a", role: "readonly", uses }, admin);
    host.store.behaviour = "holds";
    const answers = Array.from({ length: 20 }, (_, n) =>
      n % 2 === 0 ? ask(UIDS.none, "check", CHECK, text) : ask(UIDS.none, "events.list", {}, text),
    );
    await settled();
    host.store.release();
    const codes = (await Promise.all(answers)).map(codeOf);
    expect(codes.filter((code) => code === "")).toHaveLength(uses);
    expect(codes.filter((code) => code === "token-spent")).toHaveLength(20 - uses);
    await host.checkInvariants();
  });

  test("a denial is none, and neither is a question that cannot be read", async () => {
    const { ask, make, admin, host } = await bootstrapped();
    const wish = { principal: "Agent::a", actions: ["recall"], uses: 1 };
    const { text, token } = await make(0, "token.mint", wish, admin);
    const secret = { ...CHECK, resource: { ...CHECK.resource, properties: { class: "SECRET" } } };
    const tool = {
      action: { name: "tool.run" },
      resource: { type: "tool", id: "x", properties: { reach: "none" } },
    };
    expect(dataOf(await ask(UIDS.none, "check", secret, text))).toMatchObject({ decision: false });
    expect(dataOf(await ask(UIDS.none, "check", tool, text))).toMatchObject({
      decision: false,
      reason: ["token-scope"],
      wouldAllow: "actions: recall",
    });
    expect(codeOf(await ask(UIDS.none, "check", {}, text))).toBe("request-invalid");
    expect(dataOf(await ask(UIDS.none, "check", CHECK, text))).toMatchObject({ decision: true });
    expect(codeOf(await ask(UIDS.none, "check", CHECK, text))).toBe("token-spent");
    expect(host.last("decision")?.data).toMatchObject({ tokenId: token.id, uses: 1, decision: "allow" });
  });
});

describe("what it takes to be believed", () => {
  test("the whole text and nothing else", async () => {
    const { host, admin } = await bootstrapped();
    const { tokens } = host.grants;
    expect(tokens.identify(admin)).toMatch(/^[0-9a-f]{16}$/);
    const other = admin.endsWith("A") ? "B" : "A";
    for (const wrong of [
      "",
      "bd_",
      admin.slice(0, -1),
      `${admin.slice(0, -1)}${other}`,
      `${admin} `,
      admin.toUpperCase(),
    ])
      expect(tokens.identify(wrong)).toBeNull();
    const digest = host.last("token.minted")?.data["grant"] as { digest: string };
    expect(tokens.identify(digest.digest)).toBeNull();
  });

  test("no record, message or error has a token's text", async () => {
    const { host, ask, make, admin } = await bootstrapped();
    const { text } = await make(0, "token.mint", { principal: "Agent::a" }, admin);
    const wrong = `bd_${"x1Y".repeat(15)}`.slice(0, 46);
    const replies = [
      await ask(0, "token.list", {}, admin),
      await ask(UIDS.none, "status", {}, text),
      await ask(UIDS.none, "status", { why: text }, admin),
      await ask(UIDS.none, "status", {}, wrong),
      await ask(0, `mode.${text}`, {}, text),
      await ask(0, "mode.set", { mode: "AIRGAP", reason: `with ${text}` }, admin),
    ];
    await settled();
    const told = JSON.stringify(replies) + JSON.stringify(host.told) + host.store.bytes.toString("utf8");
    for (const secret of [text, admin, wrong, text.slice(3, 30), admin.slice(3, 30)])
      expect(told).not.toContain(secret);
  });

  test("a scope, a subject, a mode and a peer are each a reason of their own, with what would be allowed", async () => {
    const { host, make, admin } = await bootstrapped();
    const { token } = await make(
      0,
      "token.mint",
      {
        principal: "Agent::a",
        actions: ["recall"],
        resources: ["memory::note-*"],
        subjects: ["Agent::a-*"],
        maxMode: "RESTRICTED",
        uid: 5,
      },
      admin,
    );
    const request = (over: Partial<AccessRequest> = {}): AccessRequest => ({
      subject: { type: "Agent", id: "a", properties: {} },
      action: { name: "recall", properties: {} },
      resource: { type: "memory", id: "note-1", properties: {} },
      context: {},
      ...over,
    });
    const asked = (over: Partial<AccessRequest> = {}, uid = 5, privilege: "OPEN" | "AIRGAP" = "OPEN") =>
      host.grants.tokens.authorize(token.id, { request: request(over), uid, privilege });
    expect(asked()).toMatchObject({ ok: true, token: { id: token.id } });
    expect(asked({ subject: { type: "Agent", id: "a-1", properties: {} } })).toMatchObject({ ok: true });
    const refused = [
      asked({ subject: { type: "Agent", id: "b", properties: {} } }),
      asked({ action: { name: "tool.run", properties: {} } }),
      asked({ resource: { type: "memory", id: "diary", properties: {} } }),
      asked({}, 6),
      asked({}, 5, "AIRGAP"),
    ];
    expect(refused).toMatchObject([
      { ok: false, code: "token-scope", wouldAllow: "for Agent::a, Agent::a-*" },
      { ok: false, code: "token-scope", wouldAllow: "actions: recall" },
      { ok: false, code: "token-scope", wouldAllow: "resources: memory::note-*" },
      { ok: false, code: "token-peer", wouldAllow: "from the user it is bound to" },
      { ok: false, code: "token-suspended", wouldAllow: "in RESTRICTED and looser modes" },
    ]);
  });

  test("a use that a record cannot be taken of is no use", async () => {
    const { ask, make, admin, host } = await bootstrapped();
    const wish = { principal: "Agent::a", role: "readonly", uses: 5, maxMode: "LOCKDOWN" };
    const { text } = await make(0, "token.mint", wish, admin);
    await host.log.close();
    expect(codeOf(await ask(UIDS.none, "events.list", {}, text))).toBe("log-unavailable");
  });
});
