import type { Data, Value } from "../audit/record.ts";
import { LEASE_STATES, type Lease } from "./lease.ts";
import { MODES } from "./mode.ts";
import { parsePrincipal, renderPrincipal } from "./principal.ts";
import { ROLES } from "./roles.ts";
import { type Maker, type ResourcePattern, type Token, tokenIdOf } from "./token.ts";

/**
 * Tokens and leases as they stand in records: strings and integers, and what says nothing is left out. Not under the name
 * "token", which the log redacts whole.
 */
export function tokenData(token: Token): Data {
  const { id, digest, parent, depth, madeAtMs, by, revokedAtMs, warned } = token;
  const { principal, role, actions, resources, subjects, maxMode, expiresAtMs, uses, uid, label } = token;
  return {
    id,
    digest,
    ...(parent === "" ? {} : { parent, depth }),
    principal: renderPrincipal(principal),
    role,
    ...(actions === "all" ? {} : { actions }),
    ...(resources === "all" ? {} : { resources: resources.map(renderPrincipal) }),
    ...(subjects.length === 0 ? {} : { subjects }),
    maxMode,
    expires: expiresAtMs,
    ...(uses === null ? {} : { uses }),
    ...(uid === null ? {} : { uid }),
    ...(label === "" ? {} : { label }),
    made: madeAtMs,
    by: makerData(by),
    ...(revokedAtMs === null ? {} : { revoked: revokedAtMs }),
    ...(warned ? { warned: 1 } : {}),
  };
}

/** null: that is no token. */
export function readToken(data: Value | undefined): Token | null {
  if (!isData(data)) return null;
  const { id, digest, parent = "", depth = 0, actions, resources, subjects = [], maxMode, label = "" } = data;
  const { expires, uses, uid, made, revoked, warned = 0 } = data;
  const principal = typeof data["principal"] === "string" ? parsePrincipal(data["principal"]) : null;
  const role = ROLES.find((each) => each === data["role"]);
  const mode = MODES.find((each) => each === maxMode);
  const by = readMaker(data["by"]);
  const patterns = resources === undefined ? "all" : readResources(resources);
  if (principal === null || role === undefined || mode === undefined || by === null || patterns === null)
    return null;
  if (!isHex(digest, 64) || id !== tokenIdOf(digest) || (parent !== "" && !isHex(parent, 16))) return null;
  if (!isCount(depth) || !isCount(expires) || !isCount(made) || !isCount(warned)) return null;
  if (!isOptionalCount(uses) || !isOptionalCount(uid) || !isOptionalCount(revoked)) return null;
  if (!areTexts(subjects) || !(actions === undefined || areTexts(actions)) || typeof label !== "string")
    return null;
  return {
    id,
    digest,
    parent,
    depth,
    principal,
    role,
    subjects,
    maxMode: mode,
    label,
    by,
    below: 0,
    actions: actions ?? "all",
    resources: patterns,
    expiresAtMs: expires,
    uses: uses ?? null,
    uid: uid ?? null,
    madeAtMs: made,
    revokedAtMs: revoked ?? null,
    warned: warned === 1,
  };
}

export function leaseData(lease: Lease): Data {
  const { id, template, by, reason, forMs, maxMode, askedAtMs, state, start, uses, suspended, endedAtMs } =
    lease;
  return {
    id,
    template,
    by: makerData(by),
    reason,
    forMs,
    maxMode,
    asked: askedAtMs,
    state,
    ...(start === null ? {} : { start: { wall: start.wallMs, mono: start.monoMs, boot: start.boot } }),
    ...(uses === null ? {} : { uses }),
    ...(suspended ? { suspended: 1 } : {}),
    ...(endedAtMs === null ? {} : { ended: endedAtMs }),
  };
}

/** null: that is no lease. */
export function readLease(data: Value | undefined): Lease | null {
  if (!isData(data)) return null;
  const { id, template, reason, forMs, asked, uses, suspended = 0, ended, start } = data;
  const by = readMaker(data["by"]);
  const maxMode = MODES.find((each) => each === data["maxMode"]);
  const state = LEASE_STATES.find((each) => each === data["state"]);
  const from = start === undefined ? null : readStart(start);
  if (by === null || maxMode === undefined || state === undefined || from === "unreadable") return null;
  if (!isHex(id, 16) || typeof template !== "string" || typeof reason !== "string") return null;
  if (!isCount(forMs) || !isCount(asked) || !isCount(suspended)) return null;
  if (!isOptionalCount(uses) || !isOptionalCount(ended)) return null;
  return {
    id,
    template,
    by,
    reason,
    forMs,
    maxMode,
    askedAtMs: asked,
    state,
    start: from,
    uses: uses ?? null,
    suspended: suspended === 1,
    endedAtMs: ended ?? null,
  };
}

export function makerData({ uid, tokenId }: Maker): Data {
  return tokenId === "" ? { uid } : { uid, tokenId };
}

function readMaker(data: Value | undefined): Maker | null {
  if (!isData(data)) return null;
  const { uid, tokenId = "" } = data;
  return isCount(uid) && (tokenId === "" || isHex(tokenId, 16)) ? { uid, tokenId } : null;
}

function readStart(data: Value): Lease["start"] | "unreadable" {
  if (!isData(data)) return "unreadable";
  const { wall, mono, boot } = data;
  return isCount(wall) && isCount(mono) && typeof boot === "string"
    ? { wallMs: wall, monoMs: mono, boot }
    : "unreadable";
}

function readResources(value: Value): readonly ResourcePattern[] | null {
  if (!areTexts(value)) return null;
  const read = value.map(parseResource);
  return read.every((each) => each !== null) ? read : null;
}

/** "memory::note-*": the type has no "::" in it, the id may. null for anything else. */
export function parseResource(text: string): ResourcePattern | null {
  const at = text.indexOf("::");
  const [type, id] = [text.slice(0, at), text.slice(at + 2)];
  return at > 0 && RESOURCE_TYPE.test(type) && RESOURCE_ID.test(id) ? { type, id } : null;
}

const RESOURCE_TYPE = /^[A-Za-z][A-Za-z0-9_.-]{0,63}$/;
/** Printable ASCII: nothing that a terminal obeys, nothing that looks like something else. */
const RESOURCE_ID = /^[ -~]{1,256}$/;

function isData(value: unknown): value is Data {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isHex(value: Value | undefined, length: number): value is string {
  return typeof value === "string" && value.length === length && /^[0-9a-f]+$/.test(value);
}

function isCount(value: Value | undefined): value is number {
  return typeof value === "number" && value >= 0;
}

function isOptionalCount(value: Value | undefined): value is number | undefined {
  return value === undefined || isCount(value);
}

function areTexts(value: Value | undefined): value is readonly string[] {
  return Array.isArray(value) && value.every((each) => typeof each === "string");
}
