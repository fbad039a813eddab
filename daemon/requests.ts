import { createHash, randomInt, randomUUID } from "node:crypto";
import type { z } from "zod";
import type { Data } from "./audit/record.ts";
import type { AuditStream } from "./audit-stream.ts";
import type { Baseline, Comparison } from "./baseline.ts";
import { decide, type View } from "./core/authority.ts";
import { capLines, capList } from "./core/capped-list.ts";
import type { Config } from "./core/config.ts";
import { codeOf } from "./core/errno.ts";
import { BoundaryError, type ErrorCode, renderErrorChain } from "./core/errors.ts";
import { isStricter, type Mode } from "./core/mode.ts";
import { limitsOf, type WouldBlock } from "./core/nft-shadow.ts";
import {
  describeNeeded,
  describeRights,
  mayAct,
  type Needed,
  type RoleTable,
  rightsOf,
} from "./core/roles.ts";
import type { Person } from "./core/state.ts";
import type { Tripwire } from "./core/tripwire.ts";
import type { UsbTarget } from "./core/usb-facts.ts";
import type { Daemon, Outcome } from "./daemon.ts";
import type { Feed } from "./feed.ts";
import type { Connection, HostSockets, OpLog, Peer, PeerFacts } from "./ports.ts";
import { flowToKeep, preflightReply } from "./preflight-reply.ts";
import {
  type CeremonyReply,
  type Decision,
  type Event,
  type KeyReply,
  type ModeReply,
  PARAMS,
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
import type { Selftest } from "./selftest.ts";
import type { UsbPeople } from "./usb-people.ts";
import type { Vault } from "./vault.ts";
import { addPeer, checkMessage, putSecret, rewrap, unlock } from "./vault-verbs.ts";

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
  readonly usb: UsbPeople;
  readonly vault: Vault;
  readonly opLog: OpLog;
};

type Call<V extends Verb> = {
  readonly params: z.output<(typeof PARAMS)[V]>;
  readonly peer: Peer;
  /** Looked up when it is needed: it reads /proc, and most requests are decisions that need no name. */
  readonly person: () => Person;
  readonly connection: Connection;
};
type Handler<V extends Verb> = (office: Office, call: Call<V>) => Promise<object> | object;
type Row<V extends Verb> = Needed & { readonly handle: Handler<V> };

/** Everything that can be asked, by whom. What each verb takes is PARAMS in protocol/messages.ts. */
const VERBS: { readonly [V in Verb]: Row<V> } = {
  status: { role: "readonly", handle: (office) => office.status() },
  "mode.set": { role: "operator", handle: setMode },
  "mode.confirm": { role: "operator", handle: confirmMode },
  "mode.preflight": {
    role: "operator",
    handle: ({ sockets, config, usbOutlook, daemon }, { params: { mode, session = null, keep } }) =>
      preflightReply({ sockets, network: config.network, usb: usbOutlook }, daemon.state(), {
        mode,
        session,
        keep,
      }),
  },
  "enforcement.enforce": { role: "operator", handle: enforce },
  "enforcement.shadow": { role: "operator", handle: shadow },
  "ceremony.begin": { role: "operator", handle: ceremonyBegin },
  "ceremony.confirm": { role: "operator", handle: ceremonyConfirm },
  "ceremony.cancel": { role: "operator", handle: ceremonyCancel },
  "clock.clear": { role: "operator", handle: clockClear },
  "events.list": {
    role: "readonly",
    handle: (office, { params }) => ({ events: office.feed.list(params.limit) }),
  },
  "events.subscribe": { role: "readonly", handle: subscribe },
  "tripwire.list": { role: "readonly", handle: tripwireList },
  "selftest.run": {
    role: "operator",
    handle: (office, { person }) => office.selftest.run(person().name),
  },
  "usb.list": { role: "readonly", handle: ({ usb }) => usb.list() },
  "usb.explain": { role: "readonly", handle: ({ usb }, { params }) => usb.explain(params.device) },
  "usb.generate": { role: "readonly", handle: ({ usb }, { params }) => usb.propose(params) },
  "usb.allow": { role: "operator", handle: (office, call) => sayOfUsb("allow", office, call) },
  "usb.block": { role: "operator", handle: (office, call) => sayOfUsb("block", office, call) },
  "usb.reject": { role: "operator", handle: (office, call) => sayOfUsb("reject", office, call) },
  "usb.challenge": {
    role: "operator",
    handle: ({ usb }, { params, person }) => usb.challenge(params.device, person()),
  },
  check: { role: "readonly", handle: check },
  "check.message": {
    role: "readonly",
    handle: (office, { params, peer }) => checkMessage(office, params, peer),
  },
  "secret.list": {
    role: "readonly",
    handle: ({ vault }, { params }) => vault.list("secret", params.workspace ?? null),
  },
  "secret.put": {
    role: "operator",
    handle: ({ vault }, { params, person }) => putSecret(vault, "put", params, person().name),
  },
  "secret.rotate": {
    role: "operator",
    handle: ({ vault }, { params, person }) => putSecret(vault, "rotate", params, person().name),
  },
  "secret.revoke": {
    role: "operator",
    handle: ({ vault }, { params, person }) => vault.revoke({ ...params, by: person().name }),
  },
  "vault.status": { role: "readonly", handle: ({ vault }) => vault.status() },
  "vault.unlock": {
    role: "operator",
    handle: ({ vault }, { params, person }) => unlock(vault, params, person().name),
  },
  "vault.lock": {
    role: "operator",
    handle: ({ vault }, { params, person }) => vault.lock(params.workspace ?? null, person().name),
  },
  "vault.rewrap": {
    role: "operator",
    handle: ({ vault }, { params, person }) => rewrap(vault, params, person().name),
  },
  "peer.list": {
    role: "readonly",
    handle: ({ vault }, { params }) => vault.list("psk", params.workspace ?? null),
  },
  "peer.add": {
    role: "operator",
    handle: ({ vault }, { params, person }) => addPeer(vault, params, person().name),
  },
  "peer.export": {
    role: "operator",
    handle: ({ vault }, { params, person }) => vault.exportPeers({ ...params, by: person().name }),
  },
  "key.show": { role: "readonly", auditor: true, handle: (office) => office.head() },
  "log.prune": { role: "admin", handle: pruneLog },
  "audit.head": { role: "admin", auditor: true, handle: (office) => office.audit.head() },
  "audit.lines": {
    role: "admin",
    auditor: true,
    handle: (office, { params }) => office.audit.lines(params.from, params.limit),
  },
};

/** A refusal on its way to the reply. */
class Refusal extends Error {
  readonly code: ErrorCode;
  constructor(code: ErrorCode, why: string) {
    super(why);
    this.code = code;
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
    return { ok: true, data: await dispatchVerb(office, connection, verb, params) };
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
): Promise<object> {
  const row = VERBS[verb] as unknown as Row<V>;
  const held = rightsOf(connection.peer, office.roles, office.ownUid);
  if (!mayAct(held, row)) {
    recordRefusal(office, connection.peer, verb);
    throw new Refusal(
      "role-required",
      `${verb} takes the role ${describeNeeded(row)}; uid ${connection.peer.uid} holds ${describeRights(held)}`,
    );
  }
  const params = PARAMS[verb].safeParse(raw);
  if (!params.success) throw new Refusal("request-invalid", issues(params.error));
  if (office.daemon.stopping()) throw new Refusal("stopping", "the daemon is stopping");
  const person = () => personOf(office, connection.peer);
  return row.handle(office, {
    params: params.data as z.output<(typeof PARAMS)[V]>,
    peer: connection.peer,
    person,
    connection,
  });
}

/** Who asks, by what the kernel says; the terminal is looked up, never taken from the caller. */
function personOf(office: Office, peer: Peer): Person {
  return {
    uid: peer.uid,
    name: office.facts.userName(peer.uid),
    terminal: office.facts.terminalOf(peer.pid) ?? "",
  };
}

function recordRefusal(office: Office, peer: Peer, verb: string): void {
  office.daemon.refused({ uid: peer.uid, pid: peer.pid, verb, why: "role-required" });
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

/** Once a connection: asking again changes nothing. */
function subscribe(office: Office, { connection }: Call<"events.subscribe">): object {
  const send = (event: Event): boolean => connection.send({ type: "event", data: event });
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

/** Decides on the state of this instant, and answers when the decision is on disk. What cannot be recorded is denied. */
async function check(office: Office, { params, peer }: Call<"check">): Promise<Decision> {
  const { wanted, applied } = office.daemon.state();
  const view: View = {
    wanted,
    applied,
    assurance: office.daemon.assurance(),
    trustedInterfaces: office.config.network.trustedInterfaces,
  };
  const verdict = decide(view, params);
  if (office.daemon.state().room === "low") return denyForRoom(office, peer, params, verdict);
  const receipt = office.daemon.record({ kind: "decision", data: decisionData(peer, params, verdict) });
  const correlationId = String(receipt.seq);
  try {
    await receipt.durable;
  } catch {
    return {
      ...verdict,
      decision: false,
      reason: ["log-unavailable"],
      wouldAllow: "",
      askPerson: false,
      correlationId,
    };
  }
  return { ...verdict, correlationId };
}

/** The log's disk is nearly full: nothing is allowed, and a denial is not recorded twice. */
async function denyForRoom(
  office: Office,
  peer: Peer,
  params: Call<"check">["params"],
  verdict: Omit<Decision, "correlationId">,
): Promise<Decision> {
  const reason = verdict.decision ? ["log-unavailable"] : verdict.reason;
  const denial = { ...verdict, decision: false, reason, wouldAllow: "", askPerson: false };
  const key = JSON.stringify([peer.uid, params.action.name, reason]);
  const receipt = office.daemon.denied(key, decisionData(peer, params, denial));
  await receipt.durable.catch(() => undefined); // a denial stands without its record
  return { ...denial, correlationId: receipt.seq === -1 ? "" : String(receipt.seq) };
}

function decisionData(
  peer: Peer,
  params: Call<"check">["params"],
  verdict: Omit<Decision, "correlationId">,
): Data {
  const properties = Object.fromEntries(
    Object.entries(params.resource.properties).filter(([, value]) => value !== undefined),
  );
  return {
    subject: { type: "uid", id: String(peer.uid), pid: peer.pid },
    action: params.action.name,
    resource: { type: params.resource.type, id: params.resource.id, properties: properties as Data },
    decision: verdict.decision ? "allow" : "deny",
    reason: verdict.reason,
    mode: verdict.mode,
    assurance: verdict.assurance,
  };
}

function toProblem(office: Office, verb: string, error: unknown): Problem {
  if (error instanceof Refusal) return problem(error.code, error.message);
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
