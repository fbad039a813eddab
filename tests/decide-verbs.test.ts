import { describe, expect, test } from "vitest";
import type { Caller } from "../daemon/core/access.ts";
import type { DecideParts } from "../daemon/decide.ts";
import type { PolicyAnswer } from "../daemon/policy/answer.ts";
import { PERMIT, startedOffice } from "./support/decisions-of.ts";
import { settled } from "./support/host.ts";
import { UIDS } from "./support/office.ts";

/** What policy is asked before a verb, and as whom. Which verbs ask, tests/flows/verbs.test.ts says. */

type Asked = Parameters<DecideParts["policies"]["answer"]>;

const QUESTION = {
  action: "usb.allow",
  type: "usb",
  id: "0781:5581",
  properties: { permanent: true },
} as const;
const callerOf = (uid: number, token: string | null): Caller => ({
  uid,
  gid: uid,
  pid: 7,
  groups: [uid],
  token,
});

async function governing(answer: (...asked: Asked) => PolicyAnswer) {
  const seen: Asked[] = [];
  const on = await startedOffice(
    {},
    {
      policies: {
        answer: (...asked) => {
          if (asked[0].action.name !== QUESTION.action) return PERMIT;
          seen.push(asked);
          return answer(...asked);
        },
        digest: () => "d",
        withKnown: (request) => request,
        settled: () => Promise.resolve(),
      },
    },
  );
  return { ...on, seen, governor: on.host.governor };
}

describe("a verb's question", () => {
  test("is asked as whom the token stands for, in its role, and as nobody else", async () => {
    const { make, admin, governor, seen, host } = await governing(() => PERMIT);
    const wish = { principal: "Agent::coder", role: "readonly" };
    const { token } = await make(0, "token.mint", wish, admin);
    expect(governor.permit(callerOf(UIDS.admin, token.id), "usb.allow", QUESTION)).toEqual({ ok: true });
    const [request, principal, circumstances] = seen[0] ?? [];
    expect(request).toMatchObject({
      subject: { type: "Agent", id: "coder", properties: {} },
      resource: { type: "usb", id: "0781:5581", properties: { permanent: true } },
      context: {},
    });
    expect(principal).toEqual({ type: "Agent", id: "coder", roles: ["readonly"] });
    expect(circumstances).toMatchObject({ leases: [], approved: false, token: true });
    await settled();
    expect(host.last("decision")?.data).toMatchObject({
      subject: { type: "Agent", id: "coder" },
      by: { uid: UIDS.admin, tokenId: token.id },
      verb: "usb.allow",
      decision: "allow",
    });
  });

  test("without a token is its user's", async () => {
    const { governor, seen } = await governing(() => PERMIT);
    expect(governor.permits(callerOf(UIDS.operator, null), QUESTION)).toBe(true);
    expect(seen[0]?.[1]).toEqual({ type: "User", id: String(UIDS.operator), roles: ["operator"] });
    expect(seen[0]?.[2]).toMatchObject({ token: false });
  });

  test("with a token that is not live is no question: it is a denial, and not its user's own", async () => {
    const { make, ask, admin, governor, seen } = await governing(() => PERMIT);
    const { token } = await make(0, "token.mint", { principal: "User::0", role: "operator" }, admin);
    await ask(0, "token.revoke", { id: token.id });
    for (const id of [token.id, "no-such-token"]) {
      expect(governor.permit(callerOf(0, id), "usb.allow", QUESTION)).toMatchObject({
        ok: false,
        code: expect.stringMatching(/^token-/),
      });
      expect(governor.permits(callerOf(0, id), QUESTION)).toBe(false);
    }
    expect(seen).toEqual([]);
  });

  test("that a person may lift is a plain denial, and nobody is asked", async () => {
    const { governor, host } = await governing(() => ({
      ...PERMIT,
      decision: "deny",
      code: "policy-denied",
      reasons: ["site.never"],
      needsPerson: true,
      advice: "ask the site",
    }));
    expect(governor.permit(callerOf(UIDS.operator, null), "usb.allow", QUESTION)).toEqual({
      ok: false,
      code: "policy-denied",
      why: "policy does not permit usb.allow in OPEN: site.never; it permits: ask the site",
    });
    expect(governor.permits(callerOf(UIDS.operator, null), QUESTION)).toBe(false);
    expect(host.approvals.list()).toEqual([]);
  });
});
