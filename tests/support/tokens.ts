import { hash } from "node:crypto";
import fc from "fast-check";
import type { LogRecord } from "../../daemon/audit/record.ts";
import { ACTIONS } from "../../daemon/core/access.ts";
import { MODES } from "../../daemon/core/mode.ts";
import { PRINCIPAL_TYPES } from "../../daemon/core/principal.ts";
import { ROLES } from "../../daemon/core/roles.ts";
import { type Terms, type Token, tokenIdOf } from "../../daemon/core/token.ts";

export const START_MS = Date.UTC(2026, 0, 2, 3, 4, 5);

/** A token's terms that allow everything. */
export const ALL_TERMS: Terms = {
  principal: { type: "User", id: "0" },
  role: "admin",
  actions: "all",
  resources: "all",
  subjects: ["User::*", "Service::*", "Agent::*"],
  maxMode: "LOCKDOWN",
  expiresAtMs: START_MS + 86_400_000,
  uses: null,
  uid: null,
  label: "",
};

/** A token named by a word. */
export function tokenOf(word: string, terms: Partial<Token> = {}): Token {
  const digest = hash("sha256", word, "hex");
  return {
    ...ALL_TERMS,
    id: tokenIdOf(digest),
    digest,
    parent: "",
    depth: 0,
    madeAtMs: START_MS,
    by: { uid: 0, tokenId: "" },
    revokedAtMs: null,
    below: 0,
    warned: false,
    ...terms,
  };
}

export function childOf(parent: Token, word: string, terms: Partial<Token> = {}): Token {
  return tokenOf(word, {
    ...parent,
    ...idOf(word),
    parent: parent.id,
    depth: parent.depth + 1,
    below: 0,
    ...terms,
  });
}

function idOf(word: string): Pick<Token, "id" | "digest"> {
  const { id, digest } = tokenOf(word);
  return { id, digest };
}

export const recordOf = (kind: string, data: LogRecord["data"], atMs = START_MS): LogRecord => ({
  v: 1,
  seq: 0,
  at: new Date(atMs).toISOString(),
  mono: String((atMs - START_MS) * 1e6),
  boot: "b",
  kind,
  data,
  prev: "",
});

const ids = fc.constantFrom("a", "ab", "abc", "b", "x/y");
const patterns = fc.oneof(
  ids,
  ids.map((id) => `${id}*`),
  fc.constant("*"),
);
const types = fc.constantFrom(...PRINCIPAL_TYPES);
const resourceTypes = fc.constantFrom("memory", "tool");

export const principals = fc.record({ type: types, id: ids });
export const resources = fc.record({ type: resourceTypes, id: ids });

/** Any terms over a small world, so that they often meet. */
export const terms: fc.Arbitrary<Terms> = fc.record({
  principal: principals,
  role: fc.constantFrom(...ROLES),
  actions: fc.oneof(
    fc.constant("all" as const),
    fc.uniqueArray(fc.constantFrom(...ACTIONS.slice(0, 3)), { maxLength: 3 }),
  ),
  resources: fc.oneof(
    fc.constant("all" as const),
    fc.array(fc.record({ type: resourceTypes, id: patterns }), { maxLength: 3 }),
  ),
  subjects: fc.array(
    fc.tuple(types, patterns).map(([type, id]) => `${type}::${id}`),
    { maxLength: 3 },
  ),
  maxMode: fc.constantFrom(...MODES),
  expiresAtMs: fc.integer({ min: START_MS, max: START_MS + 10 }),
  uses: fc.option(fc.integer({ min: 0, max: 3 })),
  uid: fc.option(fc.integer({ min: 0, max: 2 })),
  label: fc.constant(""),
});
