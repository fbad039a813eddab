import { randomBytes } from "node:crypto";
import type { Entry } from "./audit/record.ts";
import type { AccessRequest, Caller, Governor, VerbQuestion } from "./core/access.ts";
import { BoundaryError, type ErrorCode } from "./core/errors.ts";
import { leaseData, makerData } from "./core/grant-data.ts";
import type { Grants } from "./core/grants.ts";
import {
  isOf,
  isOver,
  LEASE_BOUNDS,
  type Lease,
  type LeaseTemplate,
  type Moment,
  PENDING_LIFE_MS,
  worksIn,
} from "./core/lease.ts";
import type { Mode } from "./core/mode.ts";
import { renderPrincipal } from "./core/principal.ts";
import { shardEach, shardGet, shardValues } from "./core/shards.ts";
import type { Person } from "./core/state.ts";
import { coversAction, coversResource, type Maker } from "./core/token.ts";
import { namesOf, sameTree } from "./core/token-standing.ts";
import type { LeaseList, LeaseReply, LeaseView } from "./protocol/grants.ts";

type Question = Pick<AccessRequest, "action" | "resource">;

/** The leases of this daemon: a fold of the log, as the tokens are. */
export type Leases = {
  /** The templates whose leases this caller holds and that work in this mode, sorted; those that are for this question alone, when one is given. */
  live(caller: Holder, privilege: Mode, question?: Question): readonly string[];
  /** The leases with counted uses that an allowed answer to this question uses up: for `leases` of its record. */
  used(caller: Holder, privilege: Mode, question: Question): readonly string[];
  /**
   * Waits for a person, or is granted at once where policy permits it. The one that is open already, when there is one.
   * Throws BoundaryError: "lease-unknown", "lease-limit", "lease-mode", what `obstacle` says, and what policy does.
   */
  request(
    caller: Caller,
    wish: { readonly template: string; readonly reason: string; readonly forMs?: number | undefined },
  ): Promise<LeaseReply>;
  /** Throws BoundaryError: "lease-unknown", "lease-settled", "lease-own", "lease-no-terminal", "lease-mode", and what `obstacle` says. */
  approve(by: Maker, person: Person, id: string): Promise<LeaseReply>;
  deny(by: Maker, id: string, reason: string): Promise<LeaseReply>;
  revoke(by: Maker, id: string, reason: string): Promise<LeaseReply>;
  /** What policy is asked before a person approves it. Throws BoundaryError: "lease-unknown", "lease-settled". */
  approving(id: string): VerbQuestion;
  /** Throws BoundaryError("lease-unknown"). */
  isOf(id: string, caller: Maker): boolean;
  /** All, or one caller's. */
  list(of: Maker | null, after: string | undefined): LeaseList;
  /** What a mode would suspend of what works now, a line each. */
  suspendedBy(mode: Mode): readonly string[];
  /** Records what the mode suspended or let work again, and what is over. */
  tick(): void;
};

/** Who asks, with all that policy may want to know of him. */
export type Holder = Pick<Caller, "uid" | "token" | "groups">;

export type LeaseParts = {
  readonly grants: () => Grants;
  readonly record: (entry: Entry) => { readonly seq: number; readonly durable: Promise<unknown> };
  readonly now: () => Moment;
  /** The stricter of the wanted and the applied mode. */
  readonly privilege: () => Mode;
  readonly templates: readonly LeaseTemplate[];
  readonly obstacle: () => { readonly code: ErrorCode; readonly why: string } | null;
  /** `settled`: the first policies are there, or could not be loaded. */
  readonly policy: Governor & { readonly settled: () => Promise<void> };
  /** Whether whoever approves has to sit at a terminal. */
  readonly requireTerminal: boolean;
};

const MAX_LIST_BYTES = 40 * 1024;

export function createLeases(parts: LeaseParts): Leases {
  const { grants, now, obstacle, privilege } = parts;
  const templates = new Map(parts.templates.map((each) => [each.name, each]));
  const ended = new Set<string>(); // whose record could not be taken
  // of whom policy granted one, as the kernel named them last: a tick has no connection to ask
  const groups = new Map<string, readonly number[]>();

  function works(lease: Lease, mode: Mode, at: Moment): boolean {
    if (lease.state !== "granted" || ended.has(lease.id) || isOver(lease, at) || !worksIn(lease, mode))
      return false;
    // a template that was taken away, or closed further, since
    const template = templates.get(lease.template);
    return template !== undefined && worksIn(template, mode);
  }

  function held(caller: Holder, mode: Mode, question?: Question): readonly Lease[] {
    const { leases } = grants();
    if (leases.size === 0) return [];
    const [maker, at] = [{ uid: caller.uid, tokenId: caller.token ?? "" }, now()];
    return [...shardEach(leases)].filter(
      (lease) =>
        isOf(lease, maker) && works(lease, mode, at) && isFor(lease, question) && isPermitted(lease, caller),
    );
  }

  /** What policy grants works only while policy would grant it. */
  function isPermitted(lease: Lease, caller: Holder): boolean {
    if (!isByPolicy(lease)) return true;
    groups.set(lease.id, caller.groups);
    return parts.policy.permits(caller, questionOf(lease));
  }

  /** The same where nobody asks. Of a user who has not asked since the start it is not known, and stays as was told. */
  function isPermittedUnseen(lease: Lease): boolean {
    if (!isByPolicy(lease)) return true;
    const { uid, tokenId } = lease.by;
    const seen = groups.get(lease.id) ?? (tokenId === "" ? null : []);
    if (seen === null) return !lease.suspended;
    const caller = { uid, token: tokenId === "" ? null : tokenId, groups: seen };
    return parts.policy.permits(caller, questionOf(lease));
  }

  function isByPolicy({ template }: Pick<Lease, "template">): boolean {
    return templates.get(template)?.needs === "policy";
  }

  function questionOf(lease: Pick<Lease, "template" | "forMs" | "by">): VerbQuestion {
    return { action: "lease.grant", ...aboutLease(lease) };
  }

  function aboutLease({ template, forMs, by }: Pick<Lease, "template" | "forMs" | "by">) {
    const token = shardGet(grants().tokens, by.tokenId);
    const holder = token ? renderPrincipal(token.principal) : `User::${by.uid}`;
    return { type: "lease", id: template, properties: { forMs, holder } } as const;
  }

  function isFor(lease: Lease, question: Question | undefined): boolean {
    const template = templates.get(lease.template);
    if (question === undefined || template === undefined) return template !== undefined;
    const { action, resource } = question;
    return coversAction(template.actions, action.name) && coversResource(template.resources, resource);
  }

  function known(id: string): Lease {
    const lease = shardGet(grants().leases, id);
    if (lease === undefined) throw new BoundaryError("lease-unknown", `there is no lease ${id}`);
    return lease;
  }

  function pending(id: string): Lease {
    const lease = known(id);
    if (lease.state !== "pending" || isStale(lease, now()))
      throw new BoundaryError("lease-settled", `lease ${id} does not wait for an answer`);
    return lease;
  }

  function refuseNow(maxMode: Mode): void {
    const hindrance = obstacle();
    if (hindrance) throw new BoundaryError(hindrance.code, hindrance.why);
    if (!worksIn({ maxMode }, privilege()))
      throw new BoundaryError(
        "lease-mode",
        `it would not work: this is ${privilege()}, and it is for ${maxMode} and looser`,
      );
  }

  async function request(caller: Caller, wish: Parameters<Leases["request"]>[1]): Promise<LeaseReply> {
    const by: Maker = { uid: caller.uid, tokenId: caller.token ?? "" };
    const template = templates.get(wish.template);
    if (template === undefined)
      throw new BoundaryError("lease-unknown", `there is no template ${JSON.stringify(wish.template)}`);
    if (isByPolicy({ template: template.name })) await parts.policy.settled();
    const at = now();
    const open = [...shardEach(grants().leases)].filter((each) => !isSettled(each, at));
    const mine = open.filter((each) => isOf(each, by));
    const same = mine.find((each) => each.template === template.name);
    if (same !== undefined) return { lease: viewOf(same) };
    refuseNow(template.maxMode);
    const waiting = open.filter((each) => each.state === "pending").length;
    if (
      waiting >= LEASE_BOUNDS.pending ||
      mine.length >= LEASE_BOUNDS.openEach ||
      open.length >= LEASE_BOUNDS.leases
    )
      throw new BoundaryError("lease-limit", "too many leases are asked for, or live");
    const lease: Lease = {
      id: randomBytes(8).toString("hex"),
      template: template.name,
      by,
      reason: wish.reason,
      forMs: Math.min(wish.forMs ?? template.maxMs, template.maxMs),
      maxMode: template.maxMode,
      askedAtMs: at.wallMs,
      state: "pending",
      start: null,
      uses: template.maxUses,
      suspended: false,
      endedAtMs: null,
    };
    const isByPolicyAlone = isByPolicy(lease);
    if (isByPolicyAlone) {
      const permitted = parts.policy.permit(caller, "lease.request", questionOf(lease));
      if (!permitted.ok) throw new BoundaryError(permitted.code, permitted.why);
      groups.set(lease.id, caller.groups);
    }
    const asked = parts.record({ kind: "lease.requested", data: { lease: leaseData(lease) } });
    const given =
      isByPolicyAlone && asked.seq !== -1
        ? parts.record({ kind: "lease.granted", data: { id: lease.id, why: "policy" } })
        : asked;
    await recorded(given, "recording the lease");
    return { lease: viewOf(known(lease.id)) };
  }

  async function approve(by: Maker, person: Person, id: string): Promise<LeaseReply> {
    const lease = pending(id);
    if (isSame(lease.by, by))
      throw new BoundaryError("lease-own", "who asked for a lease does not approve it");
    if (parts.requireTerminal && person.terminal === "")
      throw new BoundaryError("lease-no-terminal", "approving a lease takes a terminal");
    refuseNow(lease.maxMode);
    const data = { id, why: "person", by: makerData(by), name: person.name };
    await recorded(parts.record({ kind: "lease.granted", data }), "recording the approval");
    return { lease: viewOf(known(id)) };
  }

  /** The same user, also where a token stands for him, is bound to him or made by him; the same token, or of one tree. */
  function isSame(asker: Maker, decider: Maker): boolean {
    const { tokens } = grants();
    const principal = shardGet(tokens, asker.tokenId)?.principal;
    const asked = [`User::${asker.uid}`, ...(principal === undefined ? [] : [renderPrincipal(principal)])];
    if (namesOf(tokens, decider).some((name) => asked.includes(name))) return true;
    if (asker.tokenId === "" || decider.tokenId === "") return false;
    return sameTree(tokens, asker.tokenId, decider.tokenId);
  }

  async function end(
    kind: "lease.denied" | "lease.revoked",
    lease: Lease,
    by: Maker,
    reason: string,
  ): Promise<LeaseReply> {
    const { id } = lease;
    ended.add(id);
    const receipt = parts.record({ kind, data: { id, reason, by: makerData(by) } });
    if (receipt.seq !== -1) ended.delete(id); // the fold has it
    await recorded(receipt, "recording the end of the lease (it stands)");
    return { lease: viewOf(known(id)) };
  }

  function revoke(by: Maker, id: string, reason: string): Promise<LeaseReply> {
    const lease = known(id);
    if (isSettled(lease, now())) throw new BoundaryError("lease-settled", `lease ${id} is over`);
    return end("lease.revoked", lease, by, reason);
  }

  function viewOf(lease: Lease): LeaseView {
    const { id, template, by, reason, forMs, maxMode, askedAtMs, start, uses } = lease;
    return {
      id,
      template,
      by,
      reason,
      forMs,
      maxMode,
      uses,
      state: stateOf(lease),
      asked: new Date(askedAtMs).toISOString(),
      until: start === null ? "" : new Date(start.wallMs + forMs).toISOString(),
    };
  }

  function stateOf(lease: Lease): LeaseView["state"] {
    const at = now();
    if (lease.state === "pending") return isStale(lease, at) ? "over" : "pending";
    if (lease.state !== "granted") return lease.state;
    if (isOver(lease, at) || !templates.has(lease.template)) return "over";
    return works(lease, privilege(), at) && isPermittedUnseen(lease) ? "live" : "suspended";
  }

  function list(of: Maker | null, after: string | undefined): LeaseList {
    const all = shardValues(grants().leases).filter((lease) => of === null || isOf(lease, of));
    const rest = all.filter(({ id }) => after === undefined || id > after);
    const shown: LeaseView[] = [];
    let bytes = 0;
    for (const lease of rest) {
      const view = viewOf(lease);
      bytes += Buffer.byteLength(JSON.stringify(view)) + 1;
      if (bytes > MAX_LIST_BYTES) break;
      shown.push(view);
    }
    const offered = parts.templates.map(({ name, needs, maxMode, maxMs, maxUses }) => ({
      name,
      needs,
      maxMode,
      maxMs,
      maxUses,
    }));
    return { leases: shown, more: rest.length - shown.length, templates: offered };
  }

  function suspendedBy(mode: Mode): readonly string[] {
    const at = now();
    return shardValues(grants().leases)
      .filter((lease) => works(lease, privilege(), at) && !works(lease, mode, at) && isPermittedUnseen(lease))
      .map(({ id, template, by }) => `${id} ${template} (uid ${by.uid})`);
  }

  function tick(): void {
    const [at, mode] = [now(), privilege()];
    const { leases } = grants();
    for (const id of groups.keys()) if (shardGet(leases, id) === undefined) groups.delete(id);
    for (const lease of shardEach(leases)) {
      const told = toTell(lease, mode, at);
      if (told === null) continue;
      parts.record(told).durable.catch(() => undefined); // it is told at the next tick
    }
  }

  function toTell(lease: Lease, mode: Mode, at: Moment): Entry | null {
    const { id, template, suspended } = lease;
    if (lease.state === "pending")
      return isStale(lease, at) ? { kind: "lease.ended", data: { id, template, why: "not answered" } } : null;
    if (lease.state !== "granted") return null;
    if (!templates.has(template))
      return { kind: "lease.ended", data: { id, template, why: "no such template" } };
    if (isOver(lease, at)) {
      const why = lease.uses !== null && lease.uses <= 0 ? "used up" : "time";
      return { kind: "lease.ended", data: { id, template, why } };
    }
    const isInMode = works(lease, mode, at);
    const isLive = isInMode && isPermittedUnseen(lease);
    if (isLive !== suspended) return null;
    if (isLive) return { kind: "lease.resumed", data: { id, template, mode } };
    return { kind: "lease.suspended", data: { id, template, mode, why: isInMode ? "policy" : "mode" } };
  }

  return {
    live: (caller, mode, question) =>
      [...new Set(held(caller, mode, question).map(({ template }) => template))].toSorted(),
    used: (caller, mode, question) =>
      held(caller, mode, question)
        .filter(({ uses }) => uses !== null)
        .map(({ id }) => id)
        .toSorted(),
    request,
    approve,
    revoke,
    list,
    suspendedBy,
    tick,
    deny: async (by, id, reason) => end("lease.denied", pending(id), by, reason),
    approving: (id) => ({ action: "lease.approve", ...aboutLease(pending(id)) }),
    isOf: (id, caller) => isOf(known(id), caller),
  };
}

function isStale(lease: Lease, at: Moment): boolean {
  return at.wallMs >= lease.askedAtMs + PENDING_LIFE_MS;
}

function isSettled(lease: Lease, at: Moment): boolean {
  return lease.state === "pending" ? isStale(lease, at) : isOver(lease, at);
}

async function recorded(
  { seq, durable }: { readonly seq: number; readonly durable: Promise<unknown> },
  doing: string,
): Promise<void> {
  try {
    await durable;
  } catch (cause) {
    throw new BoundaryError("log-unavailable", doing, { cause });
  }
  if (seq === -1) throw new BoundaryError("log-unavailable", doing);
}
