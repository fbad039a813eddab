import { hash, randomBytes, timingSafeEqual } from "node:crypto";
import type { Data, Entry } from "./audit/record.ts";
import type { AccessRequest } from "./core/access.ts";
import { BoundaryError, type ErrorCode } from "./core/errors.ts";
import { makerData, tokenData } from "./core/grant-data.ts";
import { clearedAt, type Grants, noRoomFor } from "./core/grants.ts";
import { isStricter, type Mode } from "./core/mode.ts";
import { redactValue } from "./core/redact.ts";
import type { Role } from "./core/roles.ts";
import { shardEach, shardGet, shardValues } from "./core/shards.ts";
import { type Maker, type Terms, type Token, tokenIdOf, widerTerms } from "./core/token.ts";
import {
  descendsFrom,
  isCounted,
  lineageOf,
  namesOf,
  rootOf,
  type Standing,
  scopeOf,
  standingOf,
  type TokenRefusal,
} from "./core/token-standing.ts";
import type {
  NewToken,
  RevokeReply,
  TermsWish,
  TokenList,
  TokenState,
  TokenView,
} from "./protocol/grants.ts";

/** The tokens of this daemon. They are a fold of the log: this holds none, only asks the fold and appends. */
export type Tokens = {
  /** The id of the token with this text; null when there is none. Says nothing of whether it is live. */
  identify(text: string): string | null;
  /** Whether it is live for this peer in this mode. */
  standing(id: string, showing: { readonly uid: number; readonly privilege: Mode }): Standing;
  /** Whether it is live, and its scope has this question. */
  authorize(
    id: string,
    asked: { readonly request: AccessRequest; readonly uid: number; readonly privilege: Mode },
  ): Standing;
  /**
   * For the record of an allowed answer: its uses count from the moment that it is appended. In the turn in which
   * `authorize` said yes; n uses are never more than n then.
   */
  useOf(id: string | null): Data;
  /** A use by a verb, recorded here where it is counted. Throws BoundaryError("token-spent") and "log-unavailable". */
  consume(id: string, verb: string): void;
  /** Throws BoundaryError: "token-bootstrapped", and what `obstacle` says. */
  bootstrap(by: Maker, wish: Pick<TermsWish, "forMs" | "uid" | "label">): Promise<NewToken>;
  /** A token without a parent. Throws BoundaryError: "token-needed", "token-wider", "token-limit", "request-invalid". */
  mint(by: Maker, wish: MintWish): Promise<NewToken>;
  /** A child of the token that is shown. Throws as `mint` does. */
  narrow(by: Maker, wish: NarrowWish): Promise<NewToken>;
  /**
   * It and all that grew from it, at once; `ended` says how many tokens, 0 when it was revoked before. What cannot be
   * recorded now is so all the same, and is recorded later. Throws BoundaryError("token-unknown") and "log-unavailable".
   */
  revoke(by: Maker, id: string, reason: string): Promise<RevokeReply>;
  list(after: string | undefined): TokenList;
  /** Throws BoundaryError("token-unknown"). */
  show(id: string): TokenView;
  /** The token that it grew from, itself where it grew from none; null when it is not known. */
  rootOf(id: string): Token | null;
  /** The token and those that it grew from; none when it is not known. */
  lineOf(id: string): readonly Token[];
  /** Who it may be that shows this token: core/token-standing.ts. */
  namesOf(shown: Maker): readonly string[];
  /** Whether `id` is the token itself or grew from it. */
  isOwn(id: string, ancestor: string): boolean;
  /** Says once of each token that it ends soon. */
  tick(): void;
};

/** What of a token is asked for: of a minted one, whom it is for has to be said. */
export type NarrowWish = TermsWish;
export type MintWish = NarrowWish & { readonly principal: Terms["principal"] };

export type TokenParts = {
  /** As the log's records, durable or not, leave them. */
  readonly grants: () => Grants;
  readonly record: (entry: Entry) => { readonly seq: number; readonly durable: Promise<unknown> };
  /** CLOCK_REALTIME, ms, as core/steady-time.ts gives it. */
  readonly nowMs: () => number;
  readonly privilege: () => Mode;
  /** Why nothing is handed out now, or null. */
  readonly obstacle: () => { readonly code: ErrorCode; readonly why: string } | null;
  readonly warnMs: number;
  /** So many random bytes. */
  readonly random?: (bytes: number) => Buffer;
};

const TEXT = /^bd_[A-Za-z0-9_-]{43}$/;
const SECRET_BYTES = 32;
const HOUR_MS = 3_600_000;
const DAY_MS = 86_400_000;
const BOOTSTRAP_MS = 365 * DAY_MS;
const MINT_MS = 30 * DAY_MS;
const WARN_LOOK_MS = 60_000;
const CLEAR_LOOK_MS = 1_000;
/** Of a frame's 64 KiB. */
const MAX_LIST_BYTES = 48 * 1024;

export function createTokens(parts: TokenParts): Tokens {
  const { grants, nowMs, obstacle, random = randomBytes } = parts;
  const revoked = new Map<string, Entry>(); // whose record could not be taken yet: they are so as long as we live
  let revocation: Promise<unknown> = Promise.resolve(); // the newest is on disk, and with it all before it
  let warnedMs = Number.NEGATIVE_INFINITY;
  let inVainMs = Number.NEGATIVE_INFINITY; // when there was nothing to clear out

  function identify(text: string): string | null {
    if (!TEXT.test(text)) return null;
    const digest = hash("sha256", text, "buffer");
    const token = shardGet(grants().tokens, tokenIdOf(digest.toString("hex")));
    if (token === undefined) return null;
    return timingSafeEqual(digest, Buffer.from(token.digest, "hex")) ? token.id : null;
  }

  function standing(id: string, showing: { readonly uid: number; readonly privilege: Mode }): Standing {
    const { tokens } = grants();
    if (revoked.size > 0 && lineageOf(tokens, id)?.some((each) => revoked.has(each.id)))
      return { ok: false, code: "token-revoked", why: "the token was revoked", wouldAllow: "" };
    return standingOf(tokens, id, { ...showing, nowMs: nowMs() });
  }

  function authorize(id: string, asked: Parameters<Tokens["authorize"]>[1]): Standing {
    const found = standing(id, asked);
    return found.ok ? (scopeOf(grants().tokens, id, asked.request) ?? found) : found;
  }

  function useOf(id: string | null): Data {
    if (id === null) return {};
    return isCounted(grants().tokens, id) ? { tokenId: id, uses: 1 } : { tokenId: id };
  }

  function consume(id: string, verb: string): void {
    if (!isCounted(grants().tokens, id)) return;
    const { seq } = parts.record({ kind: "token.used", data: { tokenId: id, verb } });
    if (seq === -1) throw new BoundaryError("log-unavailable", "recording a use of the token");
  }

  function known(id: string): Token {
    const token = shardGet(grants().tokens, id);
    if (token === undefined) throw new BoundaryError("token-unknown", `there is no token ${id}`);
    return token;
  }

  /** Makes it, and gives its text out when its record is durable. */
  async function make(
    kind: "token.minted" | "token.narrowed",
    by: Maker,
    terms: Terms,
    parent: Token | null,
  ): Promise<NewToken> {
    const hindrance = obstacle();
    if (hindrance) throw new BoundaryError(hindrance.code, hindrance.why);
    const text = `bd_${random(SECRET_BYTES).toString("base64url")}`;
    const digest = hash("sha256", text, "hex");
    const token: Token = {
      ...terms,
      id: tokenIdOf(digest),
      digest,
      parent: parent?.id ?? "",
      depth: parent === null ? 0 : parent.depth + 1,
      madeAtMs: nowMs(),
      by,
      revokedAtMs: null,
      below: 0,
      belowBytes: 0,
      warned: false,
    };
    const clear = makeRoom(token);
    if (shardGet(grants().tokens, token.id)) throw new BoundaryError("internal", "two tokens of one id");
    const grant = tokenData(token);
    if (redactValue(grant) !== grant)
      throw new BoundaryError(
        "request-invalid",
        "something in the token looks like a secret: the log would not keep it",
      );
    const data = { grant, by: makerData(by), ...(clear ? { clear: 1 } : {}) };
    const { seq, durable } = parts.record({ kind, data });
    await recorded(seq, durable, "recording the token");
    return { text, token: viewOf(token) };
  }

  /** Whether its record has to clear out what is over, for it to find room. Throws BoundaryError("token-limit"). */
  function makeRoom(token: Token): boolean {
    const full = noRoomFor(grants(), token);
    if (full === null) return false;
    const now = nowMs();
    // it looks at all tokens: for whoever narrows not at every try
    if (token.parent === "" || now - inVainMs >= CLEAR_LOOK_MS) {
      if (noRoomFor(clearedAt(grants(), now), token) === null) return true;
      inVainMs = now;
    }
    throw new BoundaryError("token-limit", full);
  }

  function viewOf(token: Token): TokenView {
    const { id, parent, role, actions, resources, subjects, maxMode, uses, uid, label, below } = token;
    return {
      id,
      parent,
      role,
      actions,
      subjects,
      maxMode,
      uses,
      uid,
      label,
      below,
      principal: `${token.principal.type}::${token.principal.id}`,
      resources: resources === "all" ? "all" : resources.map((each) => `${each.type}::${each.id}`),
      expires: new Date(token.expiresAtMs).toISOString(),
      made: new Date(token.madeAtMs).toISOString(),
      madeBy: token.by,
      state: stateOf(token),
    };
  }

  /** As it is for the user that it is bound to. */
  function stateOf({ id }: Token): TokenState {
    const line = lineageOf(grants().tokens, id) ?? [];
    const uid = line.find((each) => each.uid !== null)?.uid ?? 0;
    const found = standing(id, { uid, privilege: parts.privilege() });
    return found.ok ? "live" : (STATES[found.code] ?? "unknown");
  }

  async function bootstrap(by: Maker, wish: Pick<TermsWish, "forMs" | "uid" | "label">): Promise<NewToken> {
    if (grants().bootstrapped)
      throw new BoundaryError("token-bootstrapped", "the first token has been made: there is no second one");
    const terms: Terms = {
      principal: { type: "User", id: String(by.uid) },
      role: "admin",
      actions: "all",
      resources: "all",
      subjects: ["User::*", "Service::*", "Agent::*"],
      maxMode: "LOCKDOWN",
      expiresAtMs: nowMs() + (wish.forMs ?? BOOTSTRAP_MS),
      uses: null,
      uid: wish.uid ?? null,
      label: wish.label ?? "bootstrap",
    };
    return make("token.minted", by, terms, null);
  }

  async function mint(by: Maker, wish: MintWish): Promise<NewToken> {
    const minter = known(by.tokenId);
    if (minter.role !== "admin" || minter.parent !== "")
      throw new BoundaryError(
        "token-needed",
        "minting takes an admin token that was minted, not narrowed, itself",
      );
    const asked = askedOf(wish, null);
    const terms: Terms = {
      principal: wish.principal,
      role: asked.role,
      actions: wish.actions ?? minter.actions,
      resources: wish.resources ?? minter.resources,
      subjects: wish.subjects ?? [],
      maxMode: wish.maxMode ?? (isStricter("COLDROOM", minter.maxMode) ? minter.maxMode : "COLDROOM"),
      expiresAtMs: nowMs() + asked.forMs,
      uses: wish.uses ?? null,
      uid: wish.uid ?? null,
      label: wish.label ?? "",
    };
    // it may outlive its maker; in nothing else has it more
    refuseWider({ ...minter, expiresAtMs: terms.expiresAtMs }, terms);
    return make("token.minted", by, terms, null);
  }

  async function narrow(by: Maker, wish: NarrowWish): Promise<NewToken> {
    const parent = known(by.tokenId);
    const { forMs, ...wished } = wish;
    const asked = askedOf(wish, parent);
    const untilMs = nowMs() + asked.forMs;
    const { principal, role, actions, resources, subjects, maxMode, uses, uid, label } = parent;
    const terms: Terms = {
      principal,
      role,
      actions,
      resources,
      maxMode,
      uses,
      uid,
      label,
      // whom a child stands for must not be passed on to its children unless it was said so
      subjects: wish.principal === undefined ? subjects : [],
      ...defined(wished),
      expiresAtMs: forMs === undefined ? Math.min(parent.expiresAtMs, untilMs) : untilMs,
    };
    refuseWider(parent, terms);
    return make("token.narrowed", by, terms, parent);
  }

  async function revoke(by: Maker, id: string, reason: string): Promise<RevokeReply> {
    const token = known(id);
    const isNew = token.revokedAtMs === null;
    const ended = isNew ? token.below + 1 : 0;
    const data = { id, reason, ended, by: makerData(by) };
    const seq = isNew ? recordRevocation(id, revoked.get(id) ?? { kind: "token.revoked", data }) : 0;
    await recorded(seq, revocation, "recording the revocation (it stands)");
    return { id, ended };
  }

  function recordRevocation(id: string, entry: Entry): number {
    const { seq, durable } = parts.record(entry);
    revocation = durable;
    if (seq === -1) revoked.set(id, entry);
    else revoked.delete(id); // the fold has it
    return seq;
  }

  function list(after: string | undefined): TokenList {
    const rest = shardValues(grants().tokens).filter(({ id }) => after === undefined || id > after);
    const shown: TokenView[] = [];
    let bytes = 0;
    for (const token of rest) {
      const view = viewOf(token);
      bytes += Buffer.byteLength(JSON.stringify(view)) + 1;
      if (bytes > MAX_LIST_BYTES) break;
      shown.push(view);
    }
    return { tokens: shown, more: rest.length - shown.length };
  }

  function tick(): void {
    for (const [id, entry] of revoked) if (recordRevocation(id, entry) === -1) break; // there is no room yet
    const now = nowMs();
    if (now - warnedMs < WARN_LOOK_MS) return;
    warnedMs = now;
    for (const token of shardEach(grants().tokens)) {
      const { id, expiresAtMs, madeAtMs, warned, label } = token;
      if (warned || expiresAtMs - now > parts.warnMs || expiresAtMs - madeAtMs <= 2 * parts.warnMs) continue;
      if (stateOf(token) !== "live" && stateOf(token) !== "suspended") continue;
      const expires = new Date(expiresAtMs).toISOString();
      const { durable } = parts.record({ kind: "token.expiring", data: { id, expires, label } });
      durable.catch(() => undefined); // it is said again
    }
  }

  return {
    identify,
    standing,
    authorize,
    useOf,
    consume,
    bootstrap,
    mint,
    narrow,
    revoke,
    list,
    tick,
    show: (id) => viewOf(known(id)),
    rootOf: (id) => rootOf(grants().tokens, id),
    lineOf: (id) => lineageOf(grants().tokens, id) ?? [],
    namesOf: (shown) => namesOf(grants().tokens, shown),
    isOwn: (id, ancestor) => descendsFrom(grants().tokens, id, ancestor),
  };
}

const STATES: Partial<Record<TokenRefusal["code"], TokenState>> = {
  "token-expired": "expired",
  "token-revoked": "revoked",
  "token-spent": "spent",
  "token-suspended": "suspended",
};

/** What the token would be, where it is not said: of a minted one, of a child of `parent`. A child ends with its parent. */
export function askedOf(
  { principal, role, forMs }: NarrowWish,
  parent: Token | null,
): { readonly principal: Terms["principal"] | null; readonly role: Role; readonly forMs: number } {
  return {
    principal: principal ?? parent?.principal ?? null,
    role: role ?? parent?.role ?? "none",
    forMs: forMs ?? (parent === null ? MINT_MS : HOUR_MS),
  };
}

function refuseWider(parent: Terms, terms: Terms): void {
  const wider = widerTerms(parent, terms);
  if (wider.length > 0) throw new BoundaryError("token-wider", `more than it may have; ${wider.join("; ")}`);
}

async function recorded(seq: number, durable: Promise<unknown>, doing: string): Promise<void> {
  try {
    await durable;
  } catch (cause) {
    throw new BoundaryError("log-unavailable", doing, { cause });
  }
  if (seq === -1) throw new BoundaryError("log-unavailable", doing);
}

/** Without the fields that are undefined. */
function defined<T extends object>(value: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  const entries = Object.entries(value).filter(([, each]) => each !== undefined);
  return Object.fromEntries(entries) as { [K in keyof T]?: Exclude<T[K], undefined> };
}
