import { connect, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import type { input } from "zod";
import type { Evaluation } from "../daemon/core/access.ts";
import { codeOf } from "../daemon/core/errno.ts";
import { BoundaryError } from "../daemon/core/errors.ts";
import { retry } from "../daemon/core/retry.ts";
import type { ExecCheckReply, ExecEndReply, ExecRunReply, ExecWaitReply } from "../daemon/protocol/exec.ts";
import { createFrameReader, type Frame, renderFrame } from "../daemon/protocol/frame.ts";
import type {
  LeaseList,
  LeaseReply,
  NewToken,
  RevokeReply,
  TokenList,
  TokenReply,
} from "../daemon/protocol/grants.ts";
import type {
  ApprovalList,
  ApprovalView,
  AuditHead,
  AuditLines,
  CeremonyReply,
  Event,
  EventList,
  IsolationCheck,
  IsolationReply,
  IsolationStatus,
  KeyReply,
  MessageReply,
  ModeReply,
  PARAMS,
  PeerExport,
  PolicyReloadReply,
  PreflightReply,
  Problem,
  PruneReply,
  SecretList,
  SecretReply,
  SelftestReply,
  ShadowReply,
  Status,
  TripwireList,
  UsbChallengeReply,
  UsbExplanationReply,
  UsbGrantReply,
  UsbList,
  UsbPolicyReply,
  VaultReply,
  VaultStatus,
  Verb,
} from "../daemon/protocol/messages.ts";
import { faultOfPlace } from "./socket-place.ts";

/** What each verb answers. */
export type Replies = {
  status: Status;
  "mode.set": ModeReply;
  "mode.confirm": ModeReply;
  "mode.preflight": PreflightReply;
  "enforcement.enforce": ModeReply;
  "enforcement.shadow": ShadowReply;
  "ceremony.begin": CeremonyReply;
  "ceremony.confirm": ModeReply;
  "ceremony.cancel": object;
  "clock.clear": object;
  "events.list": EventList;
  "events.subscribe": object;
  "tripwire.list": TripwireList;
  "selftest.run": SelftestReply;
  "isolation.apply": IsolationReply;
  "isolation.validate": IsolationCheck;
  "isolation.status": IsolationStatus;
  check: Evaluation;
  "token.bootstrap": NewToken;
  "token.mint": NewToken;
  "token.narrow": NewToken;
  "token.list": TokenList;
  "token.show": TokenReply;
  "token.revoke": RevokeReply;
  "lease.request": LeaseReply;
  "lease.list": LeaseList;
  "lease.approve": LeaseReply;
  "lease.deny": LeaseReply;
  "lease.revoke": LeaseReply;
  "policy.reload": PolicyReloadReply;
  "key.show": KeyReply;
  "log.prune": PruneReply;
  "audit.head": AuditHead;
  "audit.lines": AuditLines;
  "usb.list": UsbList;
  "usb.explain": UsbExplanationReply;
  "usb.allow": UsbGrantReply;
  "usb.block": UsbGrantReply;
  "usb.reject": UsbGrantReply;
  "usb.challenge": UsbChallengeReply;
  "usb.generate": UsbPolicyReply;
  "check.message": MessageReply;
  "secret.list": SecretList;
  "secret.put": SecretReply;
  "secret.rotate": SecretReply;
  "secret.revoke": SecretReply;
  "vault.status": VaultStatus;
  "vault.unlock": VaultReply;
  "vault.lock": VaultStatus;
  "vault.rewrap": VaultReply;
  "peer.list": SecretList;
  "peer.add": SecretReply;
  "peer.export": PeerExport;
  "exec.check": ExecCheckReply;
  "exec.run": ExecRunReply;
  "exec.wait": ExecWaitReply;
  "exec.end": ExecEndReply;
  "approvals.list": ApprovalList;
  "approvals.show": ApprovalView;
  "approvals.approve": ApprovalView;
  "approvals.deny": ApprovalView;
  "approvals.mine": ApprovalList;
  "approvals.wait": ApprovalView;
};

export type Params<V extends Verb> = input<(typeof PARAMS)[V]>;
export type Outcome<T> =
  | { readonly ok: true; readonly data: T }
  | { readonly ok: false; readonly problem: Problem };

export type Client = {
  /**
   * Asks one thing. Rejects with BoundaryError: "no-daemon" when the connection ends first, "deadline",
   * "frame-too-large" (it was not sent), "reply-invalid" when what comes back is not ours.
   */
  call<V extends Verb>(verb: V, params: Params<V>, deadlineMs?: number): Promise<Outcome<Replies[V]>>;
  /** The exchange below `call`: any verb, no deadline, and nothing is known of the reply's fields. Rejects alike. */
  send(verb: string, params: object | undefined): Exchange;
  /** Every event from now on; ask for them with events.subscribe. */
  onEvent(then: (event: Event) => void): void;
  /** Settles when the connection ends: resolves after close(), rejects with the BoundaryError otherwise. */
  readonly ended: Promise<void>;
  close(): void;
};

export type Exchange = {
  readonly reply: Promise<Outcome<object>>;
  /** Nobody waits for the reply any more; it never comes then. */
  forget(): void;
};

/** What the daemon takes in (protocol/messages.ts has it too, with the schemas that start slowly). */
export const MAX_REQUEST_BYTES = 65_536;
/** Replies may be longer than what the daemon takes in; this bounds what a false daemon can make us hold. */
const MAX_REPLY_BYTES = 8_388_608;
const MAX_DEPTH = 64;
const CONNECT_DEADLINE_MS = 3_000;
/** EAGAIN: so many connect at once that the daemon's queue is full. */
const CONNECT_AGAIN = {
  firstMs: 5,
  mostMs: 200,
  deadlineMs: CONNECT_DEADLINE_MS,
  again: (error: unknown) => error instanceof Error && codeOf(error.cause) === "busy",
};
const CALL_DEADLINE_MS = 5_000;

type Kind = "string" | "number" | "boolean" | "object";

const APPROVAL = {
  id: "string",
  state: "string",
  what: "string",
  digest: "string",
  until: "string",
} as const;

/** The fields without which a reply cannot be shown, and what typeof says of them. */
const NEEDED: { readonly [V in Verb]: Readonly<Partial<Record<keyof Replies[V], Kind>>> } = {
  status: {
    mode: "object",
    assurance: "string",
    controls: "object",
    sensors: "object",
    log: "object",
    daemon: "object",
  },
  "mode.set": { wanted: "string", assurance: "string", changed: "boolean" },
  "mode.confirm": { wanted: "string", assurance: "string", changed: "boolean" },
  "mode.preflight": { mode: "string", flows: "object", listeners: "object", usb: "object" },
  "enforcement.enforce": { wanted: "string", assurance: "string", changed: "boolean" },
  "enforcement.shadow": { hold: "string", blocked: "object", notes: "object" },
  "ceremony.begin": {
    id: "string",
    code: "string",
    coolDownMs: "number",
    people: "number",
    changes: "object",
  },
  "ceremony.confirm": { wanted: "string", assurance: "string" },
  "ceremony.cancel": {},
  "clock.clear": {},
  "events.list": { events: "object" },
  "events.subscribe": {},
  "selftest.run": { at: "string", results: "object" },
  "tripwire.list": { tripwires: "object" },
  "isolation.apply": { changed: "boolean", missing: "object", tested: "object" },
  "isolation.validate": { ok: "boolean", via: "string", problems: "object" },
  "isolation.status": { state: "string", detail: "string", domains: "object", passes: "object" },
  check: { decision: "boolean", reason: "object", mode: "string", assurance: "string" },
  "token.bootstrap": { text: "string", token: "object" },
  "token.mint": { text: "string", token: "object" },
  "token.narrow": { text: "string", token: "object" },
  "token.list": { tokens: "object", more: "number" },
  "token.show": { token: "object" },
  "token.revoke": { id: "string", ended: "number" },
  "lease.request": { lease: "object" },
  "lease.list": { leases: "object", more: "number", templates: "object" },
  "lease.approve": { lease: "object" },
  "lease.deny": { lease: "object" },
  "lease.revoke": { lease: "object" },
  "policy.reload": { digest: "string", policies: "number", changed: "boolean" },
  "key.show": { vkey: "string", size: "number", note: "string" },
  "log.prune": { segments: "number", through: "number" },
  "audit.head": { vkey: "string", size: "number", note: "string" },
  "audit.lines": { lines: "object" },
  "usb.list": { control: "object", devices: "object", controllers: "object", rules: "object" },
  "usb.explain": { device: "object", rules: "object" },
  "usb.allow": { device: "object" },
  "usb.block": { device: "object" },
  "usb.reject": { device: "object" },
  "usb.challenge": { port: "string", code: "string", until: "string" },
  "usb.generate": { text: "string" },
  "check.message": { decision: "boolean", verdict: "string", found: "object", why: "string" },
  "secret.list": { secrets: "object", more: "number" },
  "secret.put": { name: "string", version: "number", fingerprint: "string" },
  "secret.rotate": { name: "string", version: "number", fingerprint: "string" },
  "secret.revoke": { name: "string", version: "number" },
  "vault.status": { fault: "string", workspaces: "object" },
  "vault.unlock": { workspace: "string", state: "string", until: "string" },
  "vault.lock": { fault: "string", workspaces: "object" },
  "vault.rewrap": { workspace: "string", kek: "string" },
  "peer.list": { secrets: "object", more: "number" },
  "peer.add": { name: "string", version: "number", fingerprint: "string" },
  "peer.export": { path: "string", peers: "object" },
  "exec.check": { configured: "boolean", verdict: "string", rule: "string", why: "string" },
  "exec.run": { decision: "boolean", code: "string", id: "string", why: "string", mode: "string" },
  "exec.wait": { id: "string", state: "string", output: "object", next: "number" },
  "exec.end": { id: "string", state: "string" },
  "approvals.list": { approvals: "object" },
  "approvals.show": APPROVAL,
  "approvals.approve": APPROVAL,
  "approvals.deny": APPROVAL,
  "approvals.mine": { approvals: "object" },
  "approvals.wait": APPROVAL,
};

/**
 * One connection to a control socket, until it ends. `token` goes with every request. Throws BoundaryError "no-daemon",
 * "role-required" when we may not connect, "socket-unsafe" where somebody else may have put the socket there.
 */
export async function connectControl(path: string, token?: string): Promise<Client> {
  const socket = await retry(() => open(path), CONNECT_AGAIN, {
    nowMs: () => performance.now(),
    random: Math.random,
    sleep: (ms) => delay(ms),
  });
  const reader = createFrameReader({ maxBytes: MAX_REPLY_BYTES, maxDepth: MAX_DEPTH });
  const waiting = new Map<string, (settled: Outcome<object> | BoundaryError) => void>();
  const listeners: ((event: Event) => void)[] = [];
  const { promise: ended, resolve, reject } = Promise.withResolvers<void>();
  ended.catch(() => undefined); // whoever calls hears of it through the call
  let nextId = 1;
  let over: BoundaryError | "closed" | null = null;

  function finish(why: BoundaryError | "closed"): void {
    if (over !== null) return;
    over = why;
    socket.destroy();
    const told = why === "closed" ? new BoundaryError("no-daemon", "the connection was closed") : why;
    for (const settle of waiting.values()) settle(told);
    waiting.clear();
    if (why === "closed") resolve();
    else reject(why);
  }

  function take(frame: Frame): void {
    const heard = parseFromDaemon(frame);
    if (heard.kind === "garbage") {
      finish(new BoundaryError("reply-invalid", `reading from ${path}: ${heard.why}`));
    } else if (heard.kind === "event") {
      for (const listener of listeners) listener(heard.event);
    } else if (heard.id === "" && !heard.outcome.ok) {
      // without an id: the daemon refuses the connection, or a frame as a whole
      refuseAll(heard.outcome);
    } else {
      waiting.get(heard.id)?.(heard.outcome);
      waiting.delete(heard.id);
    }
  }

  function refuseAll(outcome: Outcome<object>): void {
    for (const settle of waiting.values()) settle(outcome);
    waiting.clear();
  }

  function send(verb: string, params: object | undefined): Exchange {
    const id = String(nextId++);
    const reply = new Promise<Outcome<object>>((done, fail) => {
      if (over !== null)
        return fail(over === "closed" ? new BoundaryError("no-daemon", "the connection was closed") : over);
      const frame = renderFrame("request", {
        id,
        verb,
        params,
        ...(token === undefined ? {} : { token }),
      });
      // the daemon would end the connection over it, and with it what others wait for
      if (Buffer.byteLength(frame) - 1 > MAX_REQUEST_BYTES)
        return fail(new BoundaryError("frame-too-large", `a request of ${verb} was not sent`));
      waiting.set(id, (settled) => (settled instanceof BoundaryError ? fail(settled) : done(settled)));
      socket.write(frame);
    });
    return { reply, forget: () => void waiting.delete(id) };
  }

  async function call<V extends Verb>(verb: V, params: Params<V>, deadlineMs = CALL_DEADLINE_MS) {
    const exchange = send(verb, params);
    const outcome = await beforeDeadline(exchange, verb, deadlineMs);
    const wrong = outcome.ok ? wrongField(verb, outcome.data) : null;
    if (wrong === null) return outcome as Outcome<Replies[V]>;
    throw new BoundaryError(
      "reply-invalid",
      `reading the reply to ${verb}: its ${wrong} is missing or wrong`,
    );
  }

  socket.on("data", (chunk: Buffer) => {
    for (const frame of reader.push(chunk)) if (over === null) take(frame);
  });
  socket.on("error", () => undefined); // "close" follows, and says enough
  socket.on("close", () => finish(new BoundaryError("no-daemon", `the connection to ${path} was lost`)));
  return { call, send, onEvent: (then) => void listeners.push(then), ended, close: () => finish("closed") };
}

/** The reply; it is forgotten, and that is BoundaryError "deadline", when it does not come in time. */
export async function beforeDeadline(
  { reply, forget }: Exchange,
  verb: string,
  deadlineMs: number,
): Promise<Outcome<object>> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_done, fail) => {
    timer = setTimeout(() => {
      forget();
      const what = `no answer to ${verb} in ${Math.round(deadlineMs)} ms; it may still be carried out`;
      fail(new BoundaryError("deadline", what));
    }, deadlineMs);
  });
  try {
    return await Promise.race([reply, late]);
  } finally {
    clearTimeout(timer);
  }
}

async function open(path: string): Promise<Socket> {
  const fault = look(path);
  if (fault !== null) throw new BoundaryError("socket-unsafe", `connecting to ${path}: ${fault}`);
  return new Promise((resolve, reject) => {
    const socket = connect({ path });
    const timer = setTimeout(() => fail(new Error("it does not accept")), CONNECT_DEADLINE_MS);
    const fail = (cause: NodeJS.ErrnoException): void => {
      clearTimeout(timer);
      socket.destroy();
      reject(unreachable(path, cause));
    };
    socket.once("error", fail);
    socket.once("connect", () => {
      clearTimeout(timer);
      socket.off("error", fail);
      resolve(socket);
    });
  });
}

function look(path: string): string | null {
  try {
    return faultOfPlace(path);
  } catch (error) {
    throw unreachable(path, error as NodeJS.ErrnoException);
  }
}

function unreachable(path: string, cause: NodeJS.ErrnoException): BoundaryError {
  const denied = cause.code === "EACCES" || cause.code === "EPERM";
  const doing = denied ? `you may not connect to ${path}` : `no daemon answers at ${path}`;
  return new BoundaryError(denied ? "role-required" : "no-daemon", doing, { cause });
}

function wrongField(verb: Verb, data: object): string | null {
  const kinds: Readonly<Record<string, Kind | undefined>> = NEEDED[verb];
  const wrong = Object.keys(kinds).find((name) => {
    const value: unknown = Object.hasOwn(data, name) ? Reflect.get(data, name) : undefined;
    return typeof value !== kinds[name] || value === null;
  });
  return wrong ?? null;
}

type FromDaemon =
  | { readonly kind: "reply"; readonly id: string; readonly outcome: Outcome<object> }
  | { readonly kind: "event"; readonly event: Event }
  | { readonly kind: "garbage"; readonly why: string };

function parseFromDaemon(frame: Frame): FromDaemon {
  if (frame.kind === "bad") return { kind: "garbage", why: frame.code };
  const data = frame.data;
  if (!isObject(data)) return { kind: "garbage", why: "data is no object" };
  if (frame.type === "event") {
    const { seq, at, mono, kind } = data;
    const timed = typeof at === "string" && typeof mono === "string";
    return typeof seq === "number" && timed && typeof kind === "string" && isObject(data["data"])
      ? { kind: "event", event: { seq, at, mono, kind, data: data["data"] } }
      : { kind: "garbage", why: "an event without seq, at, mono, kind or data" };
  }
  const { id, ok } = data;
  if (frame.type !== "reply" || typeof id !== "string")
    return { kind: "garbage", why: "no reply, and no event" };
  if (ok === true && isObject(data["data"]))
    return { kind: "reply", id, outcome: { ok, data: data["data"] } };
  if (ok === false && isProblem(data["problem"])) {
    return { kind: "reply", id, outcome: { ok, problem: data["problem"] } };
  }
  return { kind: "garbage", why: "a reply without data or problem" };
}

function isProblem(value: unknown): value is Problem {
  return (
    isObject(value) && ["title", "code", "detail", "hint"].every((name) => typeof value[name] === "string")
  );
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
