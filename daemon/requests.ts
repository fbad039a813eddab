import { createHash, randomInt, randomUUID } from "node:crypto";
import type { z } from "zod";
import type { Approvals, Said } from "./approvals.ts";
import type { AuditStream } from "./audit-stream.ts";
import type { Baseline, Comparison } from "./baseline.ts";
import type { Evaluation, Evaluator, GovernedVerb, Governor, VerbQuestion } from "./core/access.ts";
import type { Decider } from "./core/approval.ts";
import { privilegeMode } from "./core/authority.ts";
import { capLines, capList } from "./core/capped-list.ts";
import type { Config } from "./core/config.ts";
import { codeOf } from "./core/errno.ts";
import { BoundaryError, type ErrorCode, renderErrorChain } from "./core/errors.ts";
import type { LimitClass } from "./core/limit-charges.ts";
import { isStricter, type Mode } from "./core/mode.ts";
import { limitsOf, type WouldBlock } from "./core/nft-shadow.ts";
import {
  describeNeeded,
  describeRights,
  mayAct,
  type Needed,
  type Rights,
  type RoleTable,
  rightsOf,
} from "./core/roles.ts";
import type { Person } from "./core/state.ts";
import { coversAction, describeActions, type Maker, type Token } from "./core/token.ts";
import type { Standing, TokenRefusal } from "./core/token-standing.ts";
import type { Tripwire } from "./core/tripwire.ts";
import type { UsbTarget } from "./core/usb-facts.ts";
import type { Daemon, Outcome } from "./daemon.ts";
import type { Denials } from "./denials.ts";
import type { Asker, Exec } from "./exec-run.ts";
import type { RunOwner } from "./exec-runs.ts";
import type { Feed } from "./feed.ts";
import * as grants from "./grant-verbs.ts";
import type { IsolationControl } from "./isolation.ts";
import type { Leases } from "./leases.ts";
import type { LimitDesk } from "./limits.ts";
import type { Policies } from "./policies.ts";
import type { Connection, HostSockets, OpLog, Peer, PeerFacts } from "./ports.ts";
import { flowToKeep, preflightReply } from "./preflight-reply.ts";
import type { AskedAtDoor } from "./protocol/asked-of-policy.ts";
import type { ExecRunReply } from "./protocol/exec.ts";
import {
  type ApprovalList,
  type ApprovalView,
  type CeremonyReply,
  type Event,
  type IsolationReply,
  type KeyReply,
  type ModeReply,
  PARAMS,
  type PolicyReloadReply,
  type Problem,
  type PruneReply,
  type Request,
  type ShadowReply,
  type Status,
  type TripwireList,
  type UsbGrantReply,
  type UsbOutlook,
  type Verb,
} from "./protocol/messages.ts";
import { problem } from "./protocol/problem.ts";
import type { Probe, Selftest } from "./selftest.ts";
import type { Tokens } from "./tokens.ts";
import type { UsbPeople } from "./usb-people.ts";
import type { Vault } from "./vault.ts";
import { addPeer, checkMessage, putSecret, rewrap, unlock } from "./vault-verbs.ts";
import * as questions from "./verb-questions.ts";

/** What the verbs need of the rest of the daemon. */
export type Office = {
  readonly daemon: Daemon;
  readonly baseline: Baseline;
  readonly feed: Feed;
  readonly config: Config;
  readonly tripwires: readonly Tripwire[];
  readonly roles: RoleTable;
  readonly ownUid: number;
  readonly facts: PeerFacts;
  readonly status: () => Status;
  readonly head: () => KeyReply;
  /** One at a time. */
  readonly prune: (keptDays: number, by: number) => Promise<PruneReply>;
  readonly sockets: HostSockets;
  /** What a mode would do with the USB devices that are there. */
  readonly usbOutlook: (mode: Mode) => readonly UsbOutlook[];
  readonly wouldBlock: () => readonly WouldBlock[];
  readonly audit: Pick<AuditStream, "head" | "lines">;
  readonly selftest: Pick<Selftest, "run">;
  readonly isolation: {
    readonly control: Pick<IsolationControl, "apply" | "validate" | "status">;
    readonly probes: readonly Probe[];
  };
  readonly usb: UsbPeople;
  readonly vault: Vault;
  readonly exec: Exec;
  readonly tokens: Tokens;
  readonly leases: Leases;
  readonly limits: LimitDesk;
  readonly denials: Denials;
  readonly approvals: Approvals;
  readonly evaluator: Evaluator;
  readonly governor: Governor;
  readonly policies: Pick<Policies, "load" | "settled" | "state">;
  /** How many verbs have tightened something: what waited for policies meanwhile is not done behind them. */
  readonly tightened: { count: number };
  readonly opLog: OpLog;
};

type Call<V extends Verb> = {
  readonly params: z.output<(typeof PARAMS)[V]>;
  readonly peer: Peer;
  /** Looked up when it is needed: it reads /proc, and most requests are decisions that need no name. */
  readonly person: () => Person;
  readonly connection: Connection;
  readonly rights: Rights;
  /** The live token that was shown; null without one. */
  readonly token: Token | null;
  readonly maker: Maker;
};
type Handler<V extends Verb> = (office: Office, call: Call<V>) => Promise<object> | object;
type Row<V extends Verb> = Needed & {
  /** What it counts against, for somebody whose role it is; for anybody else it is a "verb". docs/LIMITS.md. */
  readonly limit: LimitClass | ((office: Office, call: Pick<Call<V>, "params" | "rights">) => LimitClass);
  /** Only a person does it: a token that is shown, and each that it grew from, has to stand for a user. Or only then. */
  readonly person?: true | ((office: Office, params: Call<V>["params"]) => boolean);
  /** What the scope of a token has to have for it; with a condition in `person`, only then. */
  readonly scope?: GovernedVerb;
  /**
   * What policy is asked before it, a further condition beside role and scope; with a condition in `person`, only then. Null
   * where there is nothing to ask about, which the verb refuses itself. Never for what tightens, nor for what repairs.
   */
  readonly policy?: (office: Office, call: Pick<Call<V>, "params" | "token">) => VerbQuestion | null;
  readonly handle: Handler<V>;
};

/** Which rows ask is said once, where clients see it, too. */
type Asking<V extends Verb> = { readonly policy: NonNullable<Row<V>["policy"]> };
type NotAsking = { readonly policy?: never };

const LOOSENS = { person: true, scope: "mode.loosen" } as const;

/** Everything that can be asked, by whom, with what limits. What each verb takes is PARAMS in protocol/messages.ts. */
const VERBS: { readonly [V in Verb]: Row<V> & (V extends AskedAtDoor ? Asking<V> : NotAsking) } = {
  status: { role: "readonly", limit: "verb", handle: (office) => office.status() },
  "mode.set": {
    role: "operator",
    limit: limitOfMode,
    person: (office, params) => limitOfMode(office, { params }) === "loosening",
    scope: "mode.loosen",
    policy: (_, { params }) => questions.loosening(params.mode),
    handle: setMode,
  },
  "mode.confirm": {
    role: "operator",
    limit: "verb",
    person: keepsLooser,
    scope: "mode.loosen",
    policy: ({ daemon }) => questions.loosening(daemon.state().wanted),
    handle: confirmMode,
  },
  "mode.preflight": {
    role: "operator",
    limit: "verb",
    handle: ({ sockets, config, usbOutlook, daemon, leases }, { params: { mode, session = null, keep } }) =>
      preflightReply(
        { sockets, network: config.network, usb: usbOutlook, leases: leases.suspendedBy },
        daemon.state(),
        { mode, session, keep },
      ),
  },
  "enforcement.enforce": { role: "operator", limit: "tightening", handle: enforce },
  "enforcement.shadow": { role: "operator", limit: "verb", handle: shadow },
  "ceremony.begin": { role: "operator", limit: "verb", ...LOOSENS, handle: ceremonyBegin },
  "ceremony.confirm": { role: "operator", limit: "loosening", ...LOOSENS, handle: ceremonyConfirm },
  "ceremony.cancel": { role: "operator", limit: "tightening", person: true, handle: ceremonyCancel },
  "clock.clear": { role: "operator", limit: "loosening", ...LOOSENS, handle: clockClear },
  "events.list": {
    role: "readonly",
    limit: "verb",
    handle: (office, { params }) => ({ events: office.feed.list(params.limit) }),
  },
  "events.subscribe": { role: "readonly", limit: "verb", handle: subscribe },
  "tripwire.list": { role: "readonly", limit: "verb", handle: tripwireList },
  "selftest.run": {
    role: "operator",
    limit: "verb",
    handle: (office, { person }) => office.selftest.run(person().name),
  },
  "isolation.apply": { role: "operator", limit: "tightening", handle: applyIsolation },
  "isolation.validate": {
    role: "readonly",
    limit: "verb",
    handle: ({ isolation }) => isolation.control.validate(),
  },
  "isolation.status": {
    role: "readonly",
    limit: "verb",
    handle: ({ isolation }) => isolation.control.status(),
  },
  "usb.list": { role: "readonly", limit: "verb", handle: ({ usb }) => usb.list() },
  "usb.explain": {
    role: "readonly",
    limit: "verb",
    handle: ({ usb }, { params }) => usb.explain(params.device),
  },
  "usb.generate": { role: "readonly", limit: "verb", handle: ({ usb }, { params }) => usb.propose(params) },
  "usb.allow": {
    role: "operator",
    limit: "verb",
    policy: ({ usb }, { params: { device, permanent } }) =>
      questions.admitting("usb.allow", usb.show(device), permanent),
    handle: (office, call) => sayOfUsb("allow", office, call),
  },
  "usb.block": {
    role: "operator",
    limit: "tightening",
    handle: (office, call) => sayOfUsb("block", office, call),
  },
  "usb.reject": {
    role: "operator",
    limit: "tightening",
    handle: (office, call) => sayOfUsb("reject", office, call),
  },
  "usb.challenge": {
    role: "operator",
    limit: "verb",
    policy: ({ usb }, { params }) => questions.admitting("usb.challenge", usb.show(params.device), false),
    handle: ({ usb }, { params, person }) => usb.challenge(params.device, person()),
  },
  check: { role: "readonly", token: "suffices", limit: "decision", handle: check },
  "token.bootstrap": { role: "admin", limit: "loosening", handle: grants.bootstrap },
  "token.mint": {
    role: "admin",
    token: "needed",
    limit: "verb",
    scope: "token.mint",
    policy: (_, { params }) => questions.minting(params),
    handle: grants.mint,
  },
  "token.narrow": {
    role: "none",
    token: "needed",
    limit: "verb",
    scope: "token.narrow",
    policy: (_, { params, token }) => token && questions.narrowing(params, token),
    handle: grants.narrow,
  },
  "token.list": {
    role: "operator",
    limit: "verb",
    handle: ({ tokens }, { params }) => tokens.list(params.after),
  },
  "token.show": { role: "operator", token: "suffices", limit: "verb", handle: grants.show },
  "token.revoke": { role: "operator", token: "suffices", limit: limitOfRevoking, handle: grants.revoke },
  "lease.request": { role: "readonly", token: "suffices", limit: "verb", handle: grants.leaseRequest },
  "lease.list": { role: "operator", token: "suffices", limit: "verb", handle: grants.leaseList },
  "lease.approve": {
    role: "operator",
    limit: "verb",
    person: true,
    scope: "lease.approve",
    policy: ({ leases }, { params }) => leases.approving(params.id),
    handle: grants.leaseApprove,
  },
  "lease.deny": { role: "operator", limit: "tightening", handle: grants.leaseDeny },
  "lease.revoke": {
    role: "operator",
    token: "suffices",
    limit: limitOfRevoking,
    handle: grants.leaseRevoke,
  },
  "approvals.list": {
    role: "operator",
    limit: "verb",
    handle: ({ approvals }): ApprovalList => ({ approvals: approvals.list() }),
  },
  "approvals.show": {
    role: "operator",
    limit: "verb",
    handle: ({ approvals }, { params }) => approvals.show(params.id) ?? unknownApproval(params.id),
  },
  "approvals.approve": {
    role: "operator",
    limit: "verb",
    person: true,
    scope: "approval.approve",
    policy: ({ approvals }, { params }) => {
      const view = approvals.show(params.id);
      return view && questions.approving(view);
    },
    handle: approve,
  },
  "approvals.deny": {
    role: "operator",
    limit: "tightening",
    handle: (office, { params, person, maker }) =>
      saidOf(office.approvals.deny(params.id, deciderOf(office.tokens, person(), maker))),
  },
  "approvals.mine": {
    role: "readonly",
    token: "suffices",
    limit: "verb",
    handle: ({ approvals }, { maker }): ApprovalList => ({
      approvals: approvals.mine(maker),
    }),
  },
  "approvals.wait": {
    role: "readonly",
    token: "suffices",
    limit: "verb",
    handle: async ({ approvals }, { maker, params }) =>
      (await approvals.wait(maker, params.id, params.forMs)) ?? unknownApproval(params.id),
  },
  "policy.reload": {
    role: "admin",
    limit: "verb",
    handle: ({ policies }, { person }): Promise<PolicyReloadReply> => policies.load(person().name),
  },
  "check.message": {
    role: "readonly",
    limit: "decision",
    handle: (office, { params, peer, token }) =>
      checkMessage(office, params, { peer, token: token?.id ?? null }),
  },
  "secret.list": {
    role: "readonly",
    limit: "verb",
    handle: ({ vault }, { params }) => vault.list("secret", params.workspace ?? null),
  },
  "secret.put": {
    role: "operator",
    limit: "verb",
    policy: (_, { params }) => questions.ofVault("secret.put", params.workspace, params.name),
    handle: ({ vault }, { params, person }) => putSecret(vault, "put", params, person().name),
  },
  "secret.rotate": {
    role: "operator",
    limit: "verb",
    policy: (_, { params }) => questions.ofVault("secret.rotate", params.workspace, params.name),
    handle: ({ vault }, { params, person }) => putSecret(vault, "rotate", params, person().name),
  },
  "secret.revoke": {
    role: "operator",
    limit: "tightening",
    handle: ({ vault }, { params, person }) => vault.revoke({ ...params, by: person().name }),
  },
  "vault.status": { role: "readonly", limit: "verb", handle: ({ vault }) => vault.status() },
  "vault.unlock": {
    role: "operator",
    limit: "loosening",
    policy: (_, { params }) => questions.ofVault("vault.unlock", params.workspace),
    handle: ({ vault }, { params, person }) => unlock(vault, params, person().name),
  },
  "vault.lock": {
    role: "operator",
    limit: "tightening",
    handle: ({ vault }, { params, person }) => vault.lock(params.workspace ?? null, person().name),
  },
  "vault.rewrap": {
    role: "operator",
    limit: "verb",
    policy: (_, { params }) => questions.ofVault("vault.rewrap", params.workspace),
    handle: ({ vault }, { params, person }) => rewrap(vault, params, person().name),
  },
  "peer.list": {
    role: "readonly",
    limit: "verb",
    handle: ({ vault }, { params }) => vault.list("psk", params.workspace ?? null),
  },
  "peer.add": {
    role: "operator",
    limit: "verb",
    policy: (_, { params }) => questions.ofVault("peer.add", params.workspace, params.name),
    handle: ({ vault }, { params, person }) => addPeer(vault, params, person().name),
  },
  "peer.export": {
    role: "operator",
    limit: "verb",
    policy: (_, { params }) => questions.ofVault("peer.export", params.workspace),
    handle: ({ vault }, { params, person }) => vault.exportPeers({ ...params, by: person().name }),
  },
  "exec.check": {
    role: "readonly",
    token: "suffices",
    limit: "decision",
    handle: (office, call) => office.exec.check(call.params, askerOf(office, call)),
  },
  "exec.run": {
    role: "readonly",
    token: "suffices",
    limit: "decision",
    handle: runCommand,
  },
  "exec.wait": {
    role: "readonly",
    token: "suffices",
    // output comes as it comes: who waits for his own is held by it, and not by a count
    limit: ({ exec }, { params }) => (exec.isLive(params?.id ?? "") ? "tightening" : "verb"),
    handle: (office, call) => office.exec.wait(call.params, ownerOf(office, call)),
  },
  "exec.end": {
    role: "readonly",
    token: "suffices",
    limit: "tightening",
    handle: (office, call) => office.exec.end(call.params, ownerOf(office, call), call.person().name),
  },
  "key.show": { role: "readonly", auditor: true, limit: "verb", handle: (office) => office.head() },
  "log.prune": { role: "admin", limit: "verb", handle: pruneLog },
  "audit.head": { role: "admin", auditor: true, limit: "verb", handle: (office) => office.audit.head() },
  "audit.lines": {
    role: "admin",
    limit: "verb",
    auditor: true,
    handle: (office, { params }) => office.audit.lines(params.from, params.limit),
  },
};

/** A refusal on its way to the reply. */
class Refusal extends Error {
  readonly code: ErrorCode;
  readonly retryAfterMs: number;
  constructor(code: ErrorCode, why: string, retryAfterMs = 0) {
    super(why);
    this.code = code;
    this.retryAfterMs = retryAfterMs;
  }
}

/** What came of a request: the reply without its id. */
export type Reply =
  | { readonly ok: true; readonly data: object }
  | { readonly ok: false; readonly problem: Problem };

/**
 * Answers one request of a connection: verb, role, parameters, then the verb's work. Never rejects: whatever goes
 * wrong is a problem in the reply, and an unknown failure is told as "internal" without its details.
 */
export async function answer(office: Office, connection: Connection, request: Request): Promise<Reply> {
  const { verb, params } = request;
  try {
    if (!isVerb(verb)) throw new Refusal("verb-unknown", `there is no verb ${JSON.stringify(verb)}`);
    return { ok: true, data: await dispatchVerb(office, connection, verb, params, request.token) };
  } catch (error) {
    return { ok: false, problem: toProblem(office, verb, error) };
  }
}

function isVerb(verb: string): verb is Verb {
  return Object.hasOwn(VERBS, verb);
}

async function dispatchVerb<V extends Verb>(
  office: Office,
  connection: Connection,
  verb: V,
  raw: unknown,
  text: string | undefined,
): Promise<object> {
  const row = VERBS[verb] as unknown as Row<V>;
  const { peer } = connection;
  const params = PARAMS[verb].safeParse(raw);
  const data = params.data as z.output<(typeof PARAMS)[V]>;
  // before anything is looked at: what is found then has to be so when it is done. Only at a start: requests keep their order
  const waits =
    params.success && office.policies.state().state === "loading" && isGoverned(office, row, data);
  const lapsed = waits ? await firstPolicies(office, connection) : "";
  const shown = text === undefined ? null : shownToken(office, peer, text);
  const token = shown?.ok ? shown.token : null;
  const held: Rights = token
    ? { role: token.role, auditor: false, token: true }
    : rightsOf(peer, office.roles, office.ownUid);
  if (office.daemon.stopping()) throw new Refusal("stopping", "the daemon is stopping");
  const { limit } = row;
  const beyond = token !== null && params.success ? beyondToken(office, token, verb, data) : null;
  const isHis = mayAct(held, row) && shown?.ok !== false && beyond === null;
  const usual = limit === "decision" ? "decision" : "verb";
  const kind =
    typeof limit === "function" ? () => limit(office, { params: data, rights: held }) : () => limit;
  const counted = isHis && params.success ? kind() : usual;
  takeLimit(office, peer, token, { verb, kind: counted });
  if (shown?.ok === false) {
    refuse(office, peer, null, { verb, code: shown.code });
    throw new Refusal(
      shown.code,
      shown.wouldAllow === "" ? shown.why : `${shown.why}; it works ${shown.wouldAllow}`,
    );
  }
  if (!mayAct(held, row)) {
    const code = row.token === "needed" && !held.token ? "token-needed" : "role-required";
    refuse(office, peer, token, { verb, code });
    throw new Refusal(
      code,
      `${verb} takes the role ${describeNeeded(row)}; uid ${connection.peer.uid} holds ${describeRights(held)}`,
    );
  }
  if (beyond !== null) {
    refuse(office, peer, token, { verb, code: beyond.code });
    throw new Refusal(beyond.code, `${beyond.why}; it works ${beyond.wouldAllow}`);
  }
  if (!params.success) throw new Refusal("request-invalid", issues(params.error));
  if (counted === "tightening") office.tightened.count++;
  if (lapsed !== "") {
    recordRefusal(office, peer, verb, "loosening-lapsed");
    throw new Refusal("loosening-lapsed", lapsed);
  }
  askPolicy(office, row, { params: data, token, verb, peer });
  if (token && !COUNTED_ELSEWHERE.has(verb)) office.tokens.consume(token.id, verb); // an answer counts in its own record
  const person = () => personOf(office, peer, token);
  return row.handle(office, {
    params: data,
    peer: connection.peer,
    person,
    connection,
    rights: held,
    token,
    maker: { uid: connection.peer.uid, tokenId: token?.id ?? "" },
  });
}

/** Verbs that are decided by policy: an answer counts as a use of the token in its own record. Waiting for it does not. */
const COUNTED_ELSEWHERE: ReadonlySet<string> = new Set(["check", "exec.run", "exec.wait", "exec.end"]);

/** Whether what is asked for opens something that policy is asked about. */
function isGoverned<V extends Verb>(
  office: Office,
  { policy, person }: Row<V>,
  params: Call<V>["params"],
): boolean {
  return policy !== undefined && (typeof person !== "function" || person(office, params));
}

const ends = new WeakMap<Connection, () => boolean>();

/** Says whether a connection has ended since it was asked about first. Listens once, however often it is asked. */
function endOf(connection: Connection): () => boolean {
  const before = ends.get(connection);
  if (before !== undefined) return before;
  let isGone = false;
  connection.onClose(() => {
    isGone = true;
  });
  const said = (): boolean => isGone;
  ends.set(connection, said);
  return said;
}

/** Waits for the first policies. Why what waited lapses ("" when it does not): what tightens does not wait, and has to stand. */
async function firstPolicies(
  { policies, daemon, tightened }: Office,
  connection: Connection,
): Promise<string> {
  const [{ epoch }, { count }] = [daemon.state(), tightened];
  const isGone = endOf(connection);
  await policies.settled();
  if (isGone()) return "who asked for it is gone";
  if (daemon.state().epoch === epoch && tightened.count === count) return "";
  return "something was tightened while it waited for the policies to be read";
}

/** In the turn in which the verb is done, so on the state that it is done in. */
function askPolicy<V extends Verb>(
  office: Office,
  row: Row<V>,
  { params, token, verb, peer }: Pick<Call<V>, "params" | "token" | "peer"> & { readonly verb: V },
): void {
  if (!isGoverned(office, row, params)) return;
  const question = row.policy?.(office, { params, token }) ?? null;
  if (question === null) return;
  const permitted = office.governor.permit({ ...peer, token: token?.id ?? null }, verb, question);
  if (!permitted.ok) throw new Refusal(permitted.code, permitted.why);
}

/** The token that is shown. One that is not live is refused, whatever the peer may without it. */
function shownToken(office: Office, peer: Peer, text: string): Standing {
  const id = office.tokens.identify(text);
  return id === null
    ? UNKNOWN_TOKEN
    : office.tokens.standing(id, { uid: peer.uid, privilege: privilegeMode(office.daemon.state()) });
}

const UNKNOWN_TOKEN: Standing = {
  ok: false,
  code: "token-unknown",
  why: "there is no such token (any more)",
  wouldAllow: "",
};

/** Why a token does not do for a verb, whatever its role; null when it does. */
function beyondToken<V extends Verb>(
  office: Office,
  token: Token,
  verb: V,
  params: Call<V>["params"],
): Omit<TokenRefusal, "ok"> | null {
  const { person = false, scope } = VERBS[verb] as unknown as Row<V>;
  if (typeof person === "function" && !person(office, params)) return null;
  if (person !== false && !office.tokens.lineOf(token.id).every(({ principal }) => principal.type === "User"))
    return {
      code: "person-required",
      why: `only a person does ${verb}`,
      wouldAllow: "without a token, or with one that stands for a user, as each does that it grew from",
    };
  if (scope === undefined || coversAction(token.actions, scope)) return null;
  return {
    code: "token-scope",
    why: `the token's scope has no action ${scope}`,
    wouldAllow: `for actions: ${describeActions(token.actions)}`,
  };
}

/** May this caller ask at all? Refusals are one record and a count. */
function takeLimit(
  office: Office,
  peer: Peer,
  token: Token | null,
  { verb, kind }: { readonly verb: Verb; readonly kind: LimitClass },
): void {
  const root = token && office.tokens.rootOf(token.id);
  const taken = office.limits.take({
    uid: peer.uid,
    token: root?.id ?? null,
    tokenLabel: root?.label ?? "",
    verb,
    kind,
  });
  if (taken.ok) return;
  recordRefusal(office, peer, verb, taken.code);
  throw new Refusal(taken.code, taken.why, taken.retryAfterMs);
}

/** To the present mode is one too: it calls off what would open, unless it calls off a tightening that is set for later. */
function limitOfMode(
  { daemon }: Office,
  { params: { mode, keep, forMs, confirmForMs } }: Pick<Call<"mode.set">, "params">,
): LimitClass {
  const { wanted, deadline } = daemon.state();
  if (isStricter(mode, wanted)) return "tightening";
  const isPlain = keep === undefined && forMs === undefined && confirmForMs === undefined;
  const tightensLater = deadline !== null && isStricter(deadline.to, wanted);
  return mode === wanted && isPlain && !tightensLater ? "tightening" : "loosening";
}

/** Of one's own anybody makes as many as he likes: an operator alone is never kept waiting. */
function limitOfRevoking(_: Office, { rights }: { readonly rights: Rights }): LimitClass {
  return mayAct(rights, { role: "operator" }) ? "tightening" : "verb";
}

/** Whether what would go back by itself, and is confirmed, is the looser one. */
function keepsLooser({ daemon }: Office): boolean {
  const { wanted, deadline } = daemon.state();
  return deadline !== null && isStricter(deadline.to, wanted);
}

/** Who asks, by what the kernel says; the terminal is looked up, never taken from the caller. */
function personOf(office: Office, peer: Peer, token: Token | null): Person {
  const name = office.facts.userName(peer.uid);
  return {
    uid: peer.uid,
    name: token ? `${name} (token ${token.id})` : name,
    terminal: office.facts.terminalOf(peer.pid) ?? "",
  };
}

function recordRefusal(office: Office, peer: Peer, verb: string, why: ErrorCode): void {
  office.daemon.refused({ uid: peer.uid, pid: peer.pid, verb, why });
}

/** Recorded, and counted: many of them are a probe. */
function refuse(
  office: Office,
  peer: Peer,
  token: Token | null,
  { verb, code }: { readonly verb: string; readonly code: ErrorCode },
): void {
  recordRefusal(office, peer, verb, code);
  office.denials.refused({ uid: peer.uid, token: token?.id ?? null });
}

async function setMode(office: Office, { params, person }: Call<"mode.set">): Promise<ModeReply> {
  const { sockets, config, daemon } = office;
  // looked up and judged in the turn in which the machine decides
  const keep = params.keep
    ? flowToKeep({ sockets, network: config.network }, daemon.state().wanted, params.keep)
    : null;
  const outcome = await daemon.ask((request) => ({
    kind: "set-mode",
    request,
    to: params.mode,
    by: person(),
    reason: params.reason,
    forMs: params.forMs ?? null,
    confirmMs: params.confirmForMs ?? null,
    keep,
  }));
  return withNotes(office, await modeReply(office, outcome), params.confirmForMs !== undefined);
}

async function confirmMode(office: Office, { person }: Call<"mode.confirm">): Promise<ModeReply> {
  return modeReply(
    office,
    await office.daemon.ask((request) => ({ kind: "confirm", request, by: person() })),
  );
}

async function enforce(office: Office, { params, person }: Call<"enforcement.enforce">): Promise<ModeReply> {
  const outcome = await office.daemon.ask((request) => ({
    kind: "enforce",
    request,
    by: person(),
    reason: params.reason,
    confirmMs: params.confirmForMs ?? null,
  }));
  return withNotes(office, await modeReply(office, outcome), params.confirmForMs !== undefined);
}

/** A way back that is a loosening may be in the way of something: said now, while the caller can still be heard. */
function withNotes(office: Office, reply: ModeReply, goesBack: boolean): ModeReply {
  const { frozen, room, deadline, trial, held } = office.daemon.state();
  const tightens = trial === null && deadline !== null && isStricter(deadline.to, reply.wanted);
  const notes = [
    ...(goesBack && !tightens && frozen
      ? [`it will NOT go back by itself before the clock is cleared: ${frozen.why}`]
      : []),
    ...(goesBack && !tightens && room === "low"
      ? ["it will NOT go back by itself while the log's disk is nearly full"]
      : []),
    ...(held.hold === "enforcing" ? [] : [`the host is ${HELD_AS[held.hold]}: the kernel refuses nothing`]),
  ];
  return notes.length === 0 ? reply : { ...reply, notes };
}

const HELD_AS = { shadow: "in shadow", released: "released" } as const;

function shadow({ daemon, wouldBlock }: Office): ShadowReply {
  const all = wouldBlock();
  const blocked = all.slice(0, MAX_BLOCKED);
  const { hold } = daemon.state().held;
  return { hold, blocked, more: all.length - blocked.length, notes: hold === "shadow" ? limitsOf(all) : [] };
}

/** Some 100 bytes each, of a frame's 64 KiB. */
const MAX_BLOCKED = 400;

async function modeReply(office: Office, outcome: Outcome): Promise<ModeReply> {
  const changed = await done(outcome);
  const { wanted, applied } = office.daemon.state();
  return { wanted, applied, assurance: office.daemon.assurance(), changed, seq: outcome.seq };
}

/** Throws the machine's refusal; waits until what was recorded is durable. A tightening stands even when its record failed. */
async function done(outcome: Outcome): Promise<boolean> {
  const { answer: given } = outcome;
  if (given.kind === "refused") throw new Refusal(given.code, given.why);
  try {
    await outcome.durable;
  } catch (cause) {
    throw new BoundaryError("log-unavailable", "recording what was done (it stands)", { cause });
  }
  return given.kind === "done" && given.changed;
}

async function ceremonyBegin(
  office: Office,
  { params, person }: Call<"ceremony.begin">,
): Promise<CeremonyReply> {
  const code = Array.from({ length: 3 }, () => String(randomInt(1_000)).padStart(3, "0")).join("-");
  const id = randomUUID().slice(0, 8);
  const outcome = await office.daemon.ask((request) => ({
    kind: "ceremony-begin",
    request,
    purpose: params.purpose,
    id,
    codeDigest: digest(code),
    by: person(),
    reason: params.reason,
  }));
  await done(outcome);
  const { shown, more } = capList((await office.baseline.show()).changes);
  const { coolDownMs, lifeMs, people } = office.config.ceremony;
  return { id, code, coolDownMs, lifeMs, people, changes: shown, moreChanges: more };
}

async function ceremonyConfirm(
  office: Office,
  { params, person }: Call<"ceremony.confirm">,
): Promise<ModeReply> {
  const seen = await office.baseline.compare();
  refuseUnseen(office, seen, params.acceptChanges ? "accept" : "refuse");
  const by = person();
  const leave = async (): Promise<ModeReply> => {
    const codeDigest = digest(params.code.trim());
    const outcome = await office.daemon.ask((request) => ({
      kind: "ceremony-confirm",
      request,
      codeDigest,
      by,
    }));
    return modeReply(office, outcome);
  };
  return office.baseline.acceptWith(seen, by.name, leave);
}

/** What differs must have been shown, and accepted as it was shown. */
function refuseUnseen(office: Office, seen: Comparison, changes: "accept" | "refuse"): void {
  if (seen.changes.length === 0) return;
  const list = capLines(seen.changes).join("; ");
  if (changes === "refuse") throw new Refusal("ceremony-changes", `these differ from the baseline: ${list}`);
  if (!office.baseline.isAsShown(seen))
    throw new Refusal("ceremony-changes", `changed since it was shown, begin again: ${list}`);
}

async function ceremonyCancel(office: Office, { person }: Call<"ceremony.cancel">): Promise<ModeReply> {
  return modeReply(
    office,
    await office.daemon.ask((request) => ({ kind: "ceremony-cancel", request, by: person() })),
  );
}

async function clockClear(office: Office, { params, person }: Call<"clock.clear">): Promise<ModeReply> {
  const outcome = await office.daemon.ask((request) => ({
    kind: "unfreeze",
    request,
    by: person(),
    reason: params.reason,
  }));
  return modeReply(office, outcome);
}

/** In the kernel first; then its record, and the packets that have to be refused. */
async function applyIsolation(
  { isolation: { control, probes } }: Office,
  { person }: Call<"isolation.apply">,
): Promise<IsolationReply> {
  const { changed, durable } = control.apply(person().name);
  const tested: IsolationReply["tested"][number][] = [];
  for (const { name, run } of probes) tested.push({ name, ...(await run()) });
  try {
    await durable;
  } catch (cause) {
    throw new BoundaryError("log-unavailable", "recording what was done (it stands)", { cause });
  }
  const missing = control
    .status()
    .domains.flatMap(({ interfaces }) => interfaces.flatMap(({ name, present }) => (present ? [] : [name])));
  return { changed, missing, tested };
}

/** Age is told by the clock: while that is in doubt, nothing is old enough. */
async function pruneLog(office: Office, { params, peer }: Call<"log.prune">): Promise<PruneReply> {
  if (office.daemon.state().frozen)
    throw new Refusal("clock-frozen", "what is old cannot be told: the clock moved");
  return office.prune(params.keptDays, peer.uid);
}

function sayOfUsb(
  target: UsbTarget,
  office: Office,
  { params, person }: Pick<Call<"usb.allow">, "params" | "person">,
): Promise<UsbGrantReply> {
  const { device, permanent, forMs } = params;
  return office.usb.say(target, { device, permanent, forMs: forMs ?? null, by: person() });
}

/** Once a connection: asking again changes nothing. It ends with the token that it was asked with. */
function subscribe(office: Office, { connection, token, peer }: Call<"events.subscribe">): object {
  const isLive = (): boolean =>
    token === null ||
    office.tokens.standing(token.id, { uid: peer.uid, privilege: privilegeMode(office.daemon.state()) }).ok;
  const send = (event: Event): boolean => isLive() && connection.send({ type: "event", data: event });
  connection.onClose(office.feed.subscribe(connection, send));
  return { subscribed: true };
}

function tripwireList(office: Office): TripwireList {
  const { wanted } = office.daemon.state();
  const fired = office.daemon.fired();
  return {
    tripwires: office.tripwires.map((wire) => ({
      id: wire.id,
      on: wire.on,
      match: Object.entries(wire.match)
        .map(([name, matcher]) => `${name} ${matcher.negate ? "not " : ""}${matcher.values.join(" | ")}`)
        .join(", "),
      armed: wire.armed,
      action: wire.action.kind === "note" ? "note" : `trip ${wire.action.to}`,
      armedNow: wire.armed.includes(wanted),
      whenBlind: wire.whenBlind,
      fired: fired.get(wire.id) ?? 0,
    })),
  };
}

async function approve(
  office: Office,
  { params, peer, person, token, maker }: Call<"approvals.approve">,
): Promise<ApprovalView> {
  const said = office.approvals.approve(params.id, deciderOf(office.tokens, person(), maker));
  if (!said.ok && said.code === "approval-own")
    refuse(office, peer, token, { verb: "approvals.approve", code: said.code });
  return saidOf(said);
}

/** Throws the refusal; waits until it is on disk. A denial stands without. */
async function saidOf(said: Said): Promise<ApprovalView> {
  if (!said.ok) throw new Refusal(said.code, said.why, said.retryAfterMs);
  try {
    await said.durable;
  } catch (cause) {
    throw new BoundaryError("log-unavailable", "recording what was decided", { cause });
  }
  return said.view;
}

function unknownApproval(id: string): never {
  throw new Refusal("approval-unknown", `there is no approval ${JSON.stringify(id)}`);
}

function deciderOf(tokens: Tokens, { uid, name, terminal }: Person, { tokenId }: Maker): Decider {
  const names = tokens.namesOf({ uid, tokenId });
  return { uid, name, terminal, tokenId, names, tree: tokens.rootOf(tokenId)?.id ?? "" };
}

/** Whoever asked and cannot hear its id leaves a command that nobody could end: it is ended with him. */
async function runCommand(office: Office, call: Call<"exec.run">): Promise<ExecRunReply> {
  const asker = askerOf(office, call);
  const reply = await office.exec.run(call.params, asker);
  if (reply.id !== "" && asker.isGone())
    office.exec.end({ id: reply.id }, asker.owner, "the daemon, since who asked for it is gone");
  return reply;
}

/** For whom a command is to run: without a token for his user, and nobody else. */
function askerOf(
  { tokens }: Office,
  { peer, token, maker, connection }: Pick<Call<"exec.run">, "peer" | "token" | "maker" | "connection">,
): Asker {
  return {
    isGone: endOf(connection),
    caller: { ...peer, token: token?.id ?? null },
    principal: token?.principal ?? { type: "User", id: String(peer.uid) },
    owner: { uid: peer.uid, tree: tokens.rootOf(maker.tokenId)?.id ?? "" },
  };
}

/** Whose runs he may see and end: his own, of his tree of tokens; an admin all. */
function ownerOf(
  { tokens }: Office,
  { rights, maker }: Pick<Call<"exec.end">, "rights" | "maker">,
): RunOwner | "admin" {
  if (mayAct(rights, { role: "admin" })) return "admin";
  return { uid: maker.uid, tree: tokens.rootOf(maker.tokenId)?.id ?? "" };
}

/** Decides on the state of this instant, and answers when the decision is on disk. What cannot be recorded is denied. */
async function check(office: Office, { params, peer, token }: Call<"check">): Promise<Evaluation> {
  const principal = token?.principal ?? { type: "User", id: String(peer.uid) };
  const { subject = principal, action, resource, context = {} } = params;
  const request = {
    subject: { type: subject.type, id: subject.id, properties: {} },
    action: { name: action.name, properties: action.properties ?? {} },
    resource: { type: resource.type, id: resource.id, properties: resource.properties ?? {} },
    context,
  };
  return office.evaluator.evaluate({ ...peer, token: token?.id ?? null }, request);
}

function toProblem(office: Office, verb: string, error: unknown): Problem {
  if (error instanceof Refusal) return problem(error.code, error.message, error.retryAfterMs);
  if (error instanceof BoundaryError) return problem(error.code, error.message);
  office.opLog.error({ verb, code: codeOf(error), err: renderErrorChain(error) }, "a request failed");
  return problem("internal", "the request failed inside the daemon; nothing was allowed");
}

function issues(error: z.ZodError): string {
  return error.issues.map((issue) => `${issue.path.join(".") || "request"}: ${issue.message}`).join("; ");
}

function digest(code: string): string {
  return createHash("sha256").update(code).digest("hex");
}
