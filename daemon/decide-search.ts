import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import type { Data } from "./audit/record.ts";
import type { AccessRequest, Caller, Found, SearchQuery } from "./core/access.ts";
import { privilegeMode } from "./core/authority.ts";
import type { ErrorCode } from "./core/errors.ts";
import { searchDigest } from "./core/search-page.ts";
import { changedSince, charge, type DecideParts, type Moments, momentOf } from "./decide.ts";
import type { LimitDesk } from "./limits.ts";
import type { DecisionService } from "./ports.ts";

/** So many are tried for one page, found or not: then the caller has to ask on. */
const MAX_TRIED = 1_000;
/** Tried in one turn of the loop, and for what one question counts against the limits. */
const PER_TURN = 32;

/** Who may search on, and that it is known what was found. */
type Door = (caller: Caller, query: SearchQuery) => Visit;
type Visit = {
  /** Before every so many that are tried, and once where there are none. */
  readonly take: () => ReturnType<LimitDesk["take"]>;
  /** Before the answer. Why what was found must not be told; null when it may. */
  readonly told: (came: Came) => Promise<Extract<Found, { ok: false }> | null>;
};
type Came = { readonly tried: number; readonly found: number };

const NO_PAGE: Found = {
  ok: false,
  code: "page-invalid",
  why: "page.token is of another daemon, or of one that has ended",
  retryAfterMs: 0,
};

/**
 * Search by trying: everything the registry knows of what is asked for is put into the question, and what would be
 * allowed is found. Where a limit is met, the page ends; nothing is told that has no record. `candidates`: ids (names,
 * for actions) in any order, without repeats; [] for a type that nobody knows. `probe`: whether that would be allowed now, without a record and without using anything up.
 */
export function createSearch({
  candidates,
  probe,
  door,
}: {
  readonly candidates: (query: SearchQuery) => readonly string[];
  readonly probe: (caller: Caller, request: AccessRequest) => boolean;
  readonly door: Door;
}): DecisionService["search"] {
  const seal = createSeal();
  return async (caller, query, page) => {
    const { limit } = page;
    const after = page.after === null ? null : seal.open(query, page.after);
    if (after === null && page.after !== null) return NO_PAGE;
    const visit = door(caller, query);
    // before all that costs more than the question itself: who is over his limit has none of it done
    const first = visit.take();
    if (!first.ok) return first;
    // by UTF-16 code units: the same order for every page, whatever comes or goes between two
    const left = candidates(query)
      .filter((id) => after === null || id > after)
      .toSorted((a, b) => (a < b ? -1 : 1));
    const most = Math.min(left.length, MAX_TRIED);
    const ids: string[] = [];
    let tried = 0;
    do {
      if (tried > 0 && !visit.take().ok) break;
      if (tried > 0) await new Promise((resolve) => setImmediate(resolve));
      for (const id of left.slice(tried, Math.min(tried + PER_TURN, most))) {
        if (ids.length === limit) break;
        tried++;
        if (probe(caller, requestWith(query, id))) ids.push(id);
      }
    } while (tried < most && ids.length < limit);
    const refused = await visit.told({ tried, found: ids.length });
    if (refused !== null) return refused;
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
 * with `search`: an allow where something was found, else a denial as others are, which counts for probing. What was
 * found is told while the mode is the one it was begun in and the token stands; else it is a denial too, recorded as one.
 */
export function searchDoor(
  parts: Moments & Pick<DecideParts, "daemon" | "denials"> & { readonly limits: Pick<LimitDesk, "take"> },
): Door {
  const { daemon, tokens, denials } = parts;
  return (caller, query) => {
    const then = momentOf(parts);
    return {
      take: () => charge(parts, caller),
      told: async (came) => {
        if (came.found === 0) return deny("policy-denied", came, {});
        const early = obstacle();
        if (early !== null) return refuse(early, came, {});
        const receipt = daemon.record({ kind: "decision", data: dataOf("allowed", came) });
        try {
          await receipt.durable;
        } catch {
          return { ok: false, code: "log-unavailable", why: UNRECORDED, retryAfterMs: 0 };
        }
        const late = obstacle();
        return late === null ? null : refuse(late, came, { lapsed: receipt.seq });
      },
    };

    /** Why what was found must not be told now. */
    function obstacle(): Obstacle | null {
      if (daemon.stopping()) return { code: "stopping", why: "the daemon is stopping" };
      if (daemon.state().room !== "ok") return { code: "log-unavailable", why: UNRECORDED };
      const now = momentOf(parts);
      const changed = changedSince(then, now);
      if (changed !== null) return { code: "answer-lapsed", why: changed };
      const { uid, token } = caller;
      if (token === null) return null;
      const standing = tokens.standing(token, { uid, privilege: privilegeMode(now.situation) });
      return standing.ok ? null : { code: "answer-lapsed", why: standing.why };
    }

    async function refuse({ code, why }: Obstacle, came: Came, facts: Data) {
      await deny(code, came, facts);
      return { ok: false, code, why, retryAfterMs: 0 } as const;
    }

    async function deny(code: ErrorCode, came: Came, facts: Data): Promise<null> {
      const data = { ...dataOf(code, came), ...facts };
      const answer = `search ${code} ${data.mode} ${came.tried}`;
      // without room, what is denied is told apart by its kind alone
      const digest = code === "log-unavailable" ? `search ${query.kind}` : searchDigest(query);
      await denials.record(caller, { digest, answer, data }).durable;
      return null;
    }

    function dataOf(code: "allowed" | ErrorCode, { tried, found }: Came) {
      const { uid, pid, token } = caller;
      return {
        ...partsOf(query),
        by: { uid, pid, ...(token === null ? {} : { tokenId: token }) },
        decision: code === "allowed" ? "allow" : "deny",
        code,
        mode: privilegeMode(daemon.state()),
        search: { for: query.kind, digest: searchDigest(query), tried, found },
      };
    }
  };
}

type Obstacle = { readonly code: ErrorCode; readonly why: string };

const UNRECORDED = "what was found could not be recorded";

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
