import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import type { AccessRequest, Caller, Found, SearchQuery } from "./core/access.ts";
import { privilegeMode } from "./core/authority.ts";
import { searchDigest } from "./core/search-page.ts";
import type { DecideParts } from "./decide.ts";
import type { LimitDesk } from "./limits.ts";
import type { DecisionService } from "./ports.ts";
import type { Tokens } from "./tokens.ts";

/** So many are tried for one page, found or not: then the caller has to ask on. */
const MAX_TRIED = 1_000;
/** Tried in one turn of the loop, and for what one question counts against the limits. */
const PER_TURN = 32;

/** Who may search on, and that it is known what was found. */
type Door = {
  /** Before every so many that are tried, and once where there are none. */
  readonly take: (caller: Caller) => ReturnType<LimitDesk["take"]>;
  /** Before the answer. False: what was found must not be told. */
  readonly told: (caller: Caller, query: SearchQuery, came: Came) => Promise<boolean>;
};
type Came = { readonly tried: number; readonly found: number };

const OPEN_DOOR: Door = { take: () => ({ ok: true }), told: () => Promise.resolve(true) };
const NO_PAGE: Found = {
  ok: false,
  code: "page-invalid",
  why: "page.token is of another daemon, or of one that has ended",
  retryAfterMs: 0,
};
const UNTOLD: Found = {
  ok: false,
  code: "log-unavailable",
  why: "what was found could not be recorded",
  retryAfterMs: 0,
};

/**
 * Search by trying: everything the registry knows of what is asked for is put into the question, and what would be
 * allowed is found. Where a limit is met, the page ends; nothing is told that has no record. `candidates`: ids (names, for actions) in any order, without repeats; [] for a type that nobody
 * knows. `probe`: whether that would be allowed now, without a record and without using anything up.
 */
export function createSearch({
  candidates,
  probe,
  door: { take, told } = OPEN_DOOR,
}: {
  readonly candidates: (query: SearchQuery) => readonly string[];
  readonly probe: (caller: Caller, request: AccessRequest) => boolean;
  readonly door?: Door;
}): DecisionService["search"] {
  const seal = createSeal();
  return async (caller, query, page) => {
    const { limit } = page;
    const after = page.after === null ? null : seal.open(query, page.after);
    if (after === null && page.after !== null) return NO_PAGE;
    // by UTF-16 code units: the same order for every page, whatever comes or goes between two
    const left = candidates(query)
      .filter((id) => after === null || id > after)
      .toSorted((a, b) => (a < b ? -1 : 1));
    const most = Math.min(left.length, MAX_TRIED);
    const ids: string[] = [];
    let tried = 0;
    do {
      const taken = take(caller);
      if (!taken.ok && tried === 0) return taken;
      if (!taken.ok) break;
      if (tried > 0) await new Promise((resolve) => setImmediate(resolve));
      for (const id of left.slice(tried, Math.min(tried + PER_TURN, most))) {
        if (ids.length === limit) break;
        tried++;
        if (probe(caller, requestWith(query, id))) ids.push(id);
      }
    } while (tried < most && ids.length < limit);
    if (!(await told(caller, query, { tried, found: ids.length }))) return UNTOLD;
    return {
      ok: true,
      ids,
      next: tried === left.length ? null : seal.close(query, left[tried - 1] ?? after ?? ""),
    };
  };
}

/**
 * Where a search goes on is what it looked at last, and that may be nothing that the caller may know of. So it goes out
 * encrypted, with a key that lives as long as the daemon, and is good for its own question.
 */
function createSeal() {
  const [cipher, nonceBytes, tagBytes] = ["aes-256-gcm", 12, 16] as const;
  const key = randomBytes(32);
  const boundTo = (query: SearchQuery) => Buffer.from(searchDigest(query));
  return {
    close(query: SearchQuery, text: string): string {
      const nonce = randomBytes(nonceBytes);
      const closing = createCipheriv(cipher, key, nonce).setAAD(boundTo(query));
      const sealed = Buffer.concat([closing.update(text, "utf8"), closing.final()]);
      return Buffer.concat([nonce, closing.getAuthTag(), sealed]).toString("base64url");
    },
    open(query: SearchQuery, text: string): string | null {
      const bytes = Buffer.from(text, "base64url");
      if (bytes.length < nonceBytes + tagBytes) return null;
      const nonce = bytes.subarray(0, nonceBytes);
      const opening = createDecipheriv(cipher, key, nonce, { authTagLength: tagBytes });
      opening.setAAD(boundTo(query)).setAuthTag(bytes.subarray(nonceBytes, nonceBytes + tagBytes));
      try {
        const opened = opening.update(bytes.subarray(nonceBytes + tagBytes));
        return Buffer.concat([opened, opening.final()]).toString("utf8");
      } catch {
        return null;
      }
    },
  };
}

/**
 * The door for decide.sock: it counts as questions do, against the same limits. A search has one record, a `decision`
 * with `search`: an allow where something was found, else a denial as others are, which counts for probing.
 */
export function searchDoor({
  daemon,
  tokens,
  denials,
  limits,
}: Pick<DecideParts, "daemon" | "denials"> & {
  readonly tokens: Pick<Tokens, "standing" | "rootOf">;
  readonly limits: Pick<LimitDesk, "take">;
}): Door {
  return {
    take: ({ uid, token }) => {
      // one that is not live is nobody's tree: it uses up nothing of those that are
      const privilege = privilegeMode(daemon.state());
      const isLive = token !== null && tokens.standing(token, { uid, privilege }).ok;
      const root = isLive ? tokens.rootOf(token) : null;
      const counted = { uid, token: root?.id ?? null, tokenLabel: root?.label ?? "" };
      return limits.take({ ...counted, verb: "check", kind: "decision" });
    },
    told: async (caller, query, { tried, found }) => {
      const { uid, pid, token } = caller;
      const digest = searchDigest(query);
      const code = found > 0 ? "allowed" : "policy-denied";
      const data = {
        ...partsOf(query),
        by: { uid, pid, ...(token === null ? {} : { tokenId: token }) },
        decision: found > 0 ? "allow" : "deny",
        code,
        mode: privilegeMode(daemon.state()),
        search: { for: query.kind, digest, tried, found },
      };
      if (found === 0) {
        await denials.record(caller, { digest, answer: `search ${data.mode} ${tried}`, data }).durable;
        return true;
      }
      return daemon.record({ kind: "decision", data }).durable.then(
        () => true,
        () => false,
      );
    },
  };
}

/** Of a question with one part open, the others as a `decision` has them. */
function partsOf(query: SearchQuery) {
  const named = ({ type, id }: { readonly type: string; readonly id: string }) => ({ type, id });
  return {
    ...(query.kind === "subject" ? {} : { subject: named(query.subject) }),
    ...(query.kind === "action" ? {} : { action: query.action.name }),
    ...(query.kind === "resource" ? {} : { resource: named(query.resource) }),
  };
}

function requestWith(query: SearchQuery, id: string): AccessRequest {
  const { context } = query;
  switch (query.kind) {
    case "subject":
      return { subject: { ...query.subject, id }, action: query.action, resource: query.resource, context };
    case "resource":
      return { subject: query.subject, action: query.action, resource: { ...query.resource, id }, context };
    case "action":
      return {
        subject: query.subject,
        action: { name: id, properties: {} },
        resource: query.resource,
        context,
      };
  }
}
