import { hash } from "node:crypto";
import { expect, test } from "vitest";
import { tokenData } from "../../daemon/core/grant-data.ts";
import { isStricter, MODES } from "../../daemon/core/mode.ts";
import { ROLES, type Role } from "../../daemon/core/roles.ts";
import { type Token, tokenIdOf } from "../../daemon/core/token.ts";
import { PARAMS } from "../../daemon/protocol/messages.ts";
import { startHost } from "../support/host.ts";
import { codeOf, officeOf, ROLES_CONFIG, UIDS } from "../support/office.ts";
import { childOf, tokenOf } from "../support/tokens.ts";

/** What each verb takes of a user, and of whoever shows a token: "any", or never a user. By hand, not from the verb table. */
const NEEDS: Readonly<Record<string, readonly [user: Role | "never", token: Role]>> = {
  status: ["readonly", "readonly"],
  "mode.set": ["operator", "operator"],
  "mode.confirm": ["operator", "operator"],
  "mode.preflight": ["operator", "operator"],
  "enforcement.enforce": ["operator", "operator"],
  "enforcement.shadow": ["operator", "operator"],
  "ceremony.begin": ["operator", "operator"],
  "ceremony.confirm": ["operator", "operator"],
  "ceremony.cancel": ["operator", "operator"],
  "clock.clear": ["operator", "operator"],
  "events.list": ["readonly", "readonly"],
  "events.subscribe": ["readonly", "readonly"],
  "tripwire.list": ["readonly", "readonly"],
  "selftest.run": ["operator", "operator"],
  "isolation.apply": ["operator", "operator"],
  "isolation.validate": ["readonly", "readonly"],
  "isolation.status": ["readonly", "readonly"],
  "usb.list": ["readonly", "readonly"],
  "usb.explain": ["readonly", "readonly"],
  "usb.generate": ["readonly", "readonly"],
  "usb.allow": ["operator", "operator"],
  "usb.block": ["operator", "operator"],
  "usb.reject": ["operator", "operator"],
  "usb.challenge": ["operator", "operator"],
  check: ["readonly", "none"],
  "token.bootstrap": ["admin", "admin"],
  "token.mint": ["never", "admin"],
  "token.narrow": ["never", "none"],
  "token.list": ["operator", "operator"],
  "token.show": ["operator", "none"],
  "token.revoke": ["operator", "none"],
  "lease.request": ["readonly", "none"],
  "lease.list": ["operator", "none"],
  "lease.approve": ["operator", "operator"],
  "lease.deny": ["operator", "operator"],
  "lease.revoke": ["operator", "none"],
  "approvals.list": ["operator", "operator"],
  "approvals.show": ["operator", "operator"],
  "approvals.approve": ["operator", "operator"],
  "approvals.deny": ["operator", "operator"],
  "approvals.mine": ["readonly", "none"],
  "approvals.wait": ["readonly", "none"],
  "exec.check": ["readonly", "none"],
  "exec.run": ["readonly", "none"],
  "exec.wait": ["readonly", "none"],
  "exec.end": ["readonly", "none"],
  "policy.reload": ["admin", "admin"],
  "check.message": ["readonly", "readonly"],
  "secret.list": ["readonly", "readonly"],
  "secret.put": ["operator", "operator"],
  "secret.rotate": ["operator", "operator"],
  "secret.revoke": ["operator", "operator"],
  "vault.status": ["readonly", "readonly"],
  "vault.unlock": ["operator", "operator"],
  "vault.lock": ["operator", "operator"],
  "vault.rewrap": ["operator", "operator"],
  "peer.list": ["readonly", "readonly"],
  "peer.add": ["operator", "operator"],
  "peer.export": ["operator", "operator"],
  "key.show": ["readonly", "readonly"],
  "log.prune": ["admin", "admin"],
  "audit.head": ["admin", "admin"],
  "audit.lines": ["admin", "admin"],
};

const STATES = [
  "live",
  "expired",
  "revoked",
  "spent",
  "suspended",
  "other peer",
  "narrowed",
  "child of a revoked one",
  "never made",
] as const;
type TokenState = (typeof STATES)[number];

const FATE: Readonly<Record<TokenState, string>> = {
  live: "",
  narrowed: "",
  expired: "token-expired",
  revoked: "token-revoked",
  spent: "token-spent",
  suspended: "token-suspended",
  "other peer": "token-peer",
  "child of a revoked one": "token-revoked",
  "never made": "token-unknown",
};

const textOf = (word: string) => `bd_${hash("sha256", word, "buffer").toString("base64url")}`;

/** The tokens of one state and role: what is in the log, and the text that is shown. */
function tokensIn(state: TokenState, role: Role, nowMs: number): { shown: string; made: readonly Token[] } {
  const shown = textOf(`${state} ${role}`);
  const digest = hash("sha256", shown, "hex");
  const own = { id: tokenIdOf(digest), digest, role, expiresAtMs: nowMs + 1_000_000, madeAtMs: nowMs };
  const parent = tokenOf(`parent ${state} ${role}`, { expiresAtMs: nowMs + 1_000_000 });
  const plain = tokenOf(shown, own);
  const made: Readonly<Record<TokenState, readonly Token[]>> = {
    live: [plain],
    expired: [{ ...plain, expiresAtMs: nowMs }],
    revoked: [{ ...plain, revokedAtMs: nowMs }],
    spent: [{ ...plain, uses: 0 }],
    suspended: [{ ...plain, maxMode: "OPEN" }],
    "other peer": [{ ...plain, uid: 4242 }],
    narrowed: [parent, childOf(parent, "", own)],
    "child of a revoked one": [{ ...parent, revokedAtMs: nowMs }, childOf(parent, "", own)],
    "never made": [],
  };
  return { shown, made: made[state] };
}

test("the table has every verb", () => {
  expect(Object.keys(NEEDS).toSorted()).toEqual(Object.keys(PARAMS).toSorted());
});

// Parameters that no verb takes: whoever may ask at all is told so ("request-invalid"), and nothing happens.
const NO_PARAMS = { "no verb takes this": 1 };

const NONE = { requests: 0 };
const NO_LIMITS = { token: NONE, uid: NONE, overall: NONE, loosening: NONE };

test.each(MODES)("%s: verb × role × token state", { timeout: 60_000 }, async (mode) => {
  const host = await startHost({ mode, config: { roles: ROLES_CONFIG, limits: NO_LIMITS } });
  const { ask } = officeOf(host);
  const wrong: string[] = [];
  let asked = 0;
  const expectCode = async (
    what: string,
    expected: string,
    ...question: Parameters<typeof ask>
  ): Promise<void> => {
    asked++;
    const code = codeOf(await ask(...question));
    if (code !== expected) wrong.push(`${what}: ${code}, not ${expected}`);
  };
  const holds = (role: Role, least: Role | "never") =>
    least !== "never" && ROLES.indexOf(role) >= ROLES.indexOf(least);

  for (const role of ROLES) {
    for (const [verb, [user]] of Object.entries(NEEDS)) {
      const refusal = user === "never" ? "token-needed" : "role-required";
      const expected = holds(role, user) ? "request-invalid" : refusal;
      await expectCode(`${verb} by a user, ${role}`, expected, UIDS[role], verb, NO_PARAMS);
    }
    for (const state of STATES) {
      const { shown, made } = tokensIn(state, role, host.clock.realMs);
      for (const each of made)
        host.log.append({
          kind: each.parent === "" ? "token.minted" : "token.narrowed",
          data: { grant: tokenData(each) },
        });
      const isSuspended = isStricter(mode, "OPEN");
      const fate = state === "suspended" && !isSuspended ? "" : FATE[state];
      for (const [verb, [, least]] of Object.entries(NEEDS)) {
        const expected = fate !== "" ? fate : holds(role, least) ? "request-invalid" : "role-required";
        // whatever the user may: he who shows a token is its holder
        for (const uid of [UIDS.none, UIDS.admin, 0])
          await expectCode(`${verb} by ${uid} with ${state}, ${role}`, expected, uid, verb, NO_PARAMS, shown);
      }
    }
  }
  expect(wrong).toEqual([]);
  expect(asked).toBe(ROLES.length * Object.keys(NEEDS).length * (1 + STATES.length * 3));
  await host.checkInvariants();
});
