import { z } from "zod";
import { ACTIONS } from "../core/access.ts";
import type { Assurance } from "../core/assurance.ts";
import type { ErrorCode, ErrorFacts } from "../core/errors.ts";
import type { Hold } from "../core/hold.ts";
import { MODES, type Mode } from "../core/mode.ts";
import type { Outlook } from "../core/preflight.ts";
import { redactText } from "../core/redact.ts";
import { CEREMONY_PURPOSES } from "../core/state.ts";
import type { SensorHealth } from "../ports.ts";
import { MAX_SECRET_BYTES, NAME, type PeerFacts, PeerSchema } from "../vault/document.ts";
import { Id, PropertiesSchema, Type } from "./access-schema.ts";
import { EXEC_PARAMS } from "./exec.ts";
import { LEASE_PARAMS, TOKEN_PARAMS } from "./grants.ts";

/**
 * What goes over the control socket. A frame is JSON text (UTF-8, at most 64 KiB) followed by "\f":
 * `{"type":"request","data":Request}` one way, `{"type":"reply","data":{"id":…,"ok":true,"data":…}}` (or `"ok":false,"problem":…`) and `{"type":"event","data":Event}` back.
 */
export const MAX_FRAME_BYTES = 65_536;
export const MAX_DEPTH = 32;

export const RequestSchema = z.strictObject({
  /** Chosen by the caller, comes back in the reply. */
  id: z.string().min(1).max(64),
  verb: z.string().min(1).max(64),
  params: z.unknown().optional(),
  /** A capability token's text: whoever shows it is its holder, and no more. In no record, no message, no error. */
  token: z.string().max(128).optional(),
});
export type Request = z.infer<typeof RequestSchema>;

/** RFC 9457 problem details. `code` is stable. `id` of the reply is "" when the frame could not be read that far. */
export type Problem = {
  readonly type: `urn:boundary:error:${string}`;
  readonly title: string;
  readonly code: ErrorCode;
  readonly detail: string;
  readonly hint: string;
  readonly category: ErrorFacts["category"];
  readonly severity: ErrorFacts["severity"];
  /** The same may be let through after so long, and not before. Absent where that is not known. */
  readonly retryAfterMs?: number;
};

/** Something that happened, to whoever subscribed with `events.subscribe`: one per record of the log, as recorded. */
export type Event = {
  readonly seq: number;
  readonly at: string;
  /** CLOCK_MONOTONIC of the daemon's host, nanoseconds. */
  readonly mono: string;
  readonly kind: string;
  readonly data: object;
};

const ModeName = z.enum(MODES);
/** Redacted on the way in: it is shown in the status as well as recorded. */
const Reason = z.string().trim().min(1, "say why").max(500).transform(redactText);
const None = z.strictObject({}).default({});
const Text = z.string().max(1024);

const Port = z.number().int().min(1).max(65_535);
/** A TCP connection of the daemon's host, as the caller says; the daemon looks it up. */
const FlowClaimSchema = z.strictObject({
  localAddress: z.string().max(64),
  localPort: Port,
  remoteAddress: z.string().max(64),
  remotePort: Port,
});
export type FlowClaim = z.infer<typeof FlowClaimSchema>;
/** How long something may be tried before it goes back by itself. */
const ConfirmMs = z.number().int().min(5_000).max(3_600_000);

/** AuthZEN Authorization API 1.0 names. Without a subject the caller is it: his token's principal, or his user. */
export const CheckSchema = z.strictObject({
  subject: z.strictObject({ type: Type, id: Id, properties: PropertiesSchema }).optional(),
  action: z.strictObject({ name: z.enum(ACTIONS), properties: PropertiesSchema }),
  resource: z.strictObject({ type: Type, id: Id, properties: PropertiesSchema }),
  context: PropertiesSchema,
});

/** A port ("1-2"), an id ("0781:5581") or a hash, as `usb.list` shows them. */
const UsbDeviceName = z.string().min(1).max(128);
const UsbWish = z
  .strictObject({
    device: UsbDeviceName,
    /** For good: a rule of its own before all others. */
    permanent: z.boolean().default(false),
    /** For so long, through any re-plugging. Without either: until it is unplugged. */
    forMs: z.number().int().min(1_000).max(86_400_000).optional(),
  })
  .refine(({ permanent, forMs }) => !permanent || forMs === undefined, {
    message: "either for good or for a time",
    path: ["forMs"],
  });

/** Of a secret, a peer, or a workspace. */
const SecretName = z.string().regex(NAME, "use lower case letters, digits, - and _, 63 at most");
const Workspace = SecretName.default("default");
/** A secret's bytes in base64. Nothing that is told of a request repeats it. */
const SecretValue = z
  .string()
  .min(1)
  .max(Math.ceil(MAX_SECRET_BYTES / 3) * 4)
  .regex(/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/, "give it in base64");
/** UTF-8 of a passphrase in base64. */
const Passphrase = z
  .string()
  .max(1_400)
  .regex(/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/, "give it in base64");
/** A text to be looked at: longer ones are not, and that is a no. Bytes of UTF-8. */
export const MAX_MESSAGE_BYTES = 49_152;
const KekKind = z.enum(["passphrase", "file", "systemd-creds", "pkcs11"]);
const ApprovalId = z.string().min(1).max(64);

/** What every verb takes. The verb table in requests.ts adds role and handler. */
export const PARAMS = {
  status: None,
  "mode.set": z.strictObject({
    mode: ModeName,
    reason: Reason,
    forMs: z.number().int().min(1_000).max(86_400_000).optional(),
    /** Back to where it was after this time, unless `mode.confirm` comes or a tripwire fires. Not with forMs. */
    confirmForMs: ConfirmMs.optional(),
    /** One connection that passes all the same: TRUSTED, AIRGAP, COLDROOM. */
    keep: FlowClaimSchema.optional(),
  }),
  /** What waits for a confirmation stays. */
  "mode.confirm": None,
  /** What a mode would cut, as things are now. */
  "mode.preflight": z.strictObject({
    mode: ModeName,
    session: FlowClaimSchema.optional(),
    /** The session would be kept. */
    keep: z.boolean().default(false),
  }),
  /** From shadow or released to enforcing. */
  "enforcement.enforce": z.strictObject({ reason: Reason, confirmForMs: ConfirmMs.optional() }),
  /** What shadow would have refused. */
  "enforcement.shadow": None,
  "ceremony.begin": z.strictObject({
    reason: Reason,
    purpose: z.enum(CEREMONY_PURPOSES).default("leave-lockdown"),
  }),
  "ceremony.confirm": z.strictObject({ code: Text, acceptChanges: z.boolean().default(false) }),
  "ceremony.cancel": None,
  "clock.clear": z.strictObject({ reason: Reason }),
  /** The newest records the daemon still holds in memory, oldest first. */
  "events.list": z.strictObject({ limit: z.number().int().min(1).max(200).default(50) }),
  "events.subscribe": None,
  "tripwire.list": None,
  "selftest.run": None,
  /** Sees to it that the kernel holds the configured domains: what is called enforce_isolation elsewhere. */
  "isolation.apply": None,
  /** Whether what it takes is there: means, privileges, interfaces. */
  "isolation.validate": None,
  "isolation.status": None,
  "usb.list": None,
  "usb.explain": z.strictObject({ device: UsbDeviceName }),
  "usb.allow": UsbWish,
  "usb.block": UsbWish,
  "usb.reject": UsbWish,
  /** A new keyboard: gives the code that is to be typed on it. */
  "usb.challenge": z.strictObject({ device: UsbDeviceName }),
  /** A policy that allows what is plugged in. */
  "usb.generate": z.strictObject({ ports: z.boolean().default(false), hashes: z.boolean().default(true) }),
  check: CheckSchema,
  /** Whether a text may go to a prompt: it holds no secret that is known or looks like one. */
  "check.message": z.strictObject({ text: z.string().max(MAX_FRAME_BYTES) }),
  "secret.list": z.strictObject({ workspace: SecretName.optional() }).default({}),
  "secret.put": z.strictObject({ workspace: Workspace, name: SecretName, value: SecretValue }),
  "secret.rotate": z.strictObject({ workspace: Workspace, name: SecretName, value: SecretValue }),
  "secret.revoke": z.strictObject({
    workspace: Workspace,
    name: SecretName,
    kind: z.enum(["secret", "psk"]).default("secret"),
  }),
  "vault.status": None,
  "vault.unlock": z.strictObject({
    workspace: Workspace,
    passphrase: Passphrase.optional(),
    /** Make the workspace, with a key of this kind. */
    create: KekKind.optional(),
    /** Locked after this time, or after vault.autoLockMs where that is shorter. */
    forMs: z.number().int().min(1_000).max(86_400_000).optional(),
  }),
  /** Without a workspace: all. */
  "vault.lock": z.strictObject({ workspace: SecretName.optional() }).default({}),
  /** A new KEK, of the kind that it was where none is named. */
  "vault.rewrap": z.strictObject({
    workspace: Workspace,
    kind: KekKind.optional(),
    passphrase: Passphrase.optional(),
  }),
  "peer.list": z.strictObject({ workspace: SecretName.optional() }).default({}),
  "peer.add": z.strictObject({
    workspace: Workspace,
    name: SecretName,
    /** The text of the pre-shared key, in base64: what it says is 32 bytes in hex, or in base64 once more. */
    value: SecretValue,
    replace: z.boolean().default(false),
    peer: PeerSchema,
  }),
  "peer.export": z.strictObject({ workspace: Workspace }),
  ...TOKEN_PARAMS,
  ...LEASE_PARAMS,
  ...EXEC_PARAMS,
  /** What waits for a person, was approved and not used, or was denied lately. */
  "approvals.list": None,
  "approvals.show": z.strictObject({ id: ApprovalId }),
  "approvals.approve": z.strictObject({ id: ApprovalId }),
  "approvals.deny": z.strictObject({ id: ApprovalId }),
  /** What the caller has asked for. */
  "approvals.mine": None,
  /** What has become of one of them, as soon as it is no longer pending, or after this time. */
  "approvals.wait": z.strictObject({
    id: ApprovalId,
    forMs: z.number().int().min(0).max(60_000).default(30_000),
  }),
  /** The policies are read anew, and taken up as a whole or not at all. */
  "policy.reload": None,
  "key.show": None,
  /** Segments whose records are all older are removed, and leave tombstones. */
  "log.prune": z.strictObject({ keptDays: z.number().int().min(90).max(36_500).default(90) }),
  "audit.head": None,
  /** Lines of the audit stream as they stand on disk, from a number on; fewer when they would not fit into a frame. */
  "audit.lines": z.strictObject({
    from: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER),
    limit: z.number().int().min(1).max(200).default(200),
  }),
} as const;

export type Verb = keyof typeof PARAMS;

export type Control = {
  readonly name: string;
  /** absent: nothing there to control. */
  readonly state: "enforced" | "observed" | "absent" | "failed";
  /** What holds it, or what is missing. */
  readonly detail: string;
  /** RFC 3339: when it was last seen to be so; "" when never. */
  readonly checkedAt: string;
  /** RFC 3339: its last self-test; "" when none tests it, or none was run yet. */
  readonly testedAt: string;
};

/** One claim that was tried out. */
export type SelftestResult = {
  readonly name: string;
  /** The row of the status that makes the claim. */
  readonly control: string;
  /** moot: nothing is claimed here and now, so there is nothing to try. not-run: there is, and it could not be tried. */
  readonly outcome: "passed" | "failed" | "not-run" | "moot";
  readonly detail: string;
  readonly milliseconds: number;
};

export type SelftestReply = {
  readonly at: string;
  readonly by: string;
  readonly results: readonly SelftestResult[];
};

export type Status = {
  readonly mode: {
    readonly wanted: Mode;
    readonly applied: Mode | null;
    readonly cause: string;
    readonly since: string;
    readonly epoch: number;
    readonly until: string;
    /** Whether `until` is the end of a time for confirming. */
    readonly confirmable: boolean;
    readonly hold: Hold;
    /** "boot": by the boot parameter, for this boot. */
    readonly holdLasts: "always" | "boot";
    /** Until when enforcing is on trial; "" when it is not. */
    readonly trialUntil: string;
    /** The connection that is kept, for a person to read; "" for none. */
    readonly keep: string;
  };
  readonly assurance: Assurance;
  readonly frozen: string;
  readonly controls: readonly Control[];
  readonly sensors: readonly (SensorHealth & { readonly name: string })[];
  /** Packets dropped since the present rules were loaded, by counter name; empty when nothing is enforced. */
  readonly drops: Readonly<Record<string, number>>;
  readonly log: {
    readonly dir: string;
    readonly size: number;
    readonly root: string;
    readonly sealedAt: string;
    readonly vkey: string;
    readonly state: "writing" | "failed";
  };
  /** The newest self-test; null before the first one. */
  readonly selftest: SelftestReply | null;
  readonly changedFiles: readonly string[];
  /** What the host is (system, network interfaces), or `missing` with the reason. For people: nothing depends on it. */
  readonly inventory: object;
  readonly daemon: {
    readonly version: string;
    readonly pid: number;
    readonly startedAt: string;
    readonly boot: string;
  };
  readonly ceremony: {
    readonly id: string;
    readonly purpose: (typeof CEREMONY_PURPOSES)[number];
    readonly by: string;
    readonly readyInMs: number;
  } | null;
};

/** `what`: lines, plain, all of what is allowed by approving it. `until`: RFC 3339. `by`: who decided. `why`: how it ended. */
export type ApprovalView = {
  readonly id: string;
  readonly state: "pending" | "approved" | "denied" | "expired" | "used";
  readonly what: string;
  /** SHA-256 of the exact request, hex. */
  readonly digest: string;
  readonly uid: number;
  /** "" without one. */
  readonly tokenId: string;
  readonly principal: string;
  readonly askedAt: string;
  readonly until: string;
  readonly by: string;
  readonly why: string;
};
export type ApprovalList = { readonly approvals: readonly ApprovalView[] };

export type ModeReply = {
  readonly wanted: Mode;
  readonly applied: Mode | null;
  readonly assurance: Assurance;
  readonly changed: boolean;
  readonly seq: number;
  /** What the caller has to know of it; absent when there is nothing. */
  readonly notes?: readonly string[];
};

/** What would be cut first, as many as fit; `cut` and `kept` count all. */
export type CappedOutlooks = {
  readonly shown: readonly Outlook[];
  readonly cut: number;
  readonly kept: number;
};
export type UsbOutlook = { readonly port: string; readonly name: string; readonly verdict: string };
export type PreflightReply = {
  readonly mode: Mode;
  readonly wanted: Mode;
  readonly hold: Hold;
  /** null: none was named, or there is no such connection here. */
  readonly session: Outlook | null;
  readonly flows: CappedOutlooks;
  readonly listeners: CappedOutlooks;
  readonly usb: { readonly shown: readonly UsbOutlook[]; readonly more: number };
  /** What works now and would be suspended, as many as fit. */
  readonly leases: { readonly shown: readonly string[]; readonly more: number };
  /** Lines of the kernel's socket tables that could not be read. */
  readonly unread: number;
};
export type ShadowReply = {
  readonly hold: Hold;
  readonly blocked: readonly {
    readonly direction: "in" | "out" | "forward";
    readonly address: string;
    readonly protocol: string;
    readonly port: number | null;
  }[];
  /** How many were left off. */
  readonly more: number;
  /** What the list may lack, a sentence each. */
  readonly notes: readonly string[];
};
/**
 * `changes`: watched files that differ from the baseline, as many as fit, and `moreChanges` how many are left off;
 * confirming takes --accept-changes then, and accepts what differs now, all of it.
 */
export type CeremonyReply = {
  readonly id: string;
  readonly code: string;
  readonly coolDownMs: number;
  readonly lifeMs: number;
  readonly people: number;
  readonly changes: readonly string[];
  readonly moreChanges: number;
};
export type PolicyReloadReply = {
  /** SHA-256 of the set that answers now, with its registry. */
  readonly digest: string;
  /** SHA-256 of the registry; "" where there is none. */
  readonly entities: string;
  readonly policies: number;
  /** Whether it is another one than before. */
  readonly changed: boolean;
};

/** Why not, a sentence each; `via`: by what rules are loaded, "" where they are not. */
export type IsolationCheck = {
  readonly ok: boolean;
  readonly via: string;
  readonly problems: readonly string[];
};
/** `changed`: the kernel held something else before. `missing`: interfaces that are not there (yet). */
export type IsolationReply = {
  readonly changed: boolean;
  readonly missing: readonly string[];
  readonly tested: readonly Pick<SelftestResult, "name" | "outcome" | "detail">[];
};
export type IsolationStatus = {
  readonly state: Control["state"];
  readonly detail: string;
  readonly checkedAt: string;
  readonly domains: readonly {
    readonly name: string;
    readonly interfaces: readonly { readonly name: string; readonly present: boolean }[];
    /** This host itself is of it. */
    readonly host: boolean;
    readonly unaffected: boolean;
    /** Packets from it that were refused since the rules were loaded; the self-test's own among them. */
    readonly refused: number;
  }[];
  readonly passes: readonly string[];
  /** Packets into a confined domain from interfaces of none. */
  readonly refusedOutside: number;
};

export type TripwireList = {
  readonly tripwires: readonly {
    readonly id: string;
    readonly on: string;
    readonly match: string;
    readonly armed: readonly Mode[];
    readonly action: string;
    readonly armedNow: boolean;
    readonly whenBlind: string;
    readonly fired: number;
  }[];
};
/** `until`: RFC 3339, when it is decided anew; "". `refused`: interfaces that are kept out of a device that is let in. */
export type UsbDeviceView = {
  readonly port: string;
  readonly id: string;
  readonly name: string;
  readonly serial: string;
  readonly hash: string;
  readonly interfaces: readonly string[];
  readonly connectType: string;
  /** What the kernel holds now. */
  readonly authorized: "yes" | "no" | "unknown";
  readonly drivers: readonly string[];
  /** What is decided. */
  readonly target: "allow" | "block" | "reject";
  readonly refused: readonly string[];
  readonly rule: string;
  readonly why: string;
  readonly until: string;
  readonly failure: string;
};
export type UsbList = {
  readonly control: Omit<Control, "testedAt">;
  readonly devices: readonly UsbDeviceView[];
  /** Devices that found no room in the reply. */
  readonly more: number;
  readonly controllers: readonly {
    readonly port: string;
    readonly newDevices: string;
    readonly newInterfaces: string;
  }[];
  readonly rules: { readonly permanent: number; readonly configured: number };
  /** In shadow: how often something would have been refused. */
  readonly wouldBlock: number;
};
export type UsbExplanationReply = {
  readonly device: UsbDeviceView;
  /** Each rule, in the order in which they are asked: did it match, and why (not). */
  readonly rules: readonly { readonly rule: string; readonly matched: boolean; readonly because: string }[];
  readonly more: number;
};
/** `until`: RFC 3339; "" for good, or until it is unplugged. `rule`: the permanent rule, "" when there is none. */
export type UsbGrantReply = {
  readonly device: UsbDeviceView;
  readonly until: string;
  readonly rule: string;
};
/** `until`: RFC 3339. How it ends is a `usb.challenged` record. */
export type UsbChallengeReply = {
  readonly port: string;
  readonly id: string;
  readonly code: string;
  readonly until: string;
};
export type UsbPolicyReply = { readonly text: string; readonly devices: number };
/** One version of a secret, or of a pre-shared key; never its value. */
export type SecretReply = {
  readonly workspace: string;
  readonly kind: "secret" | "psk";
  readonly name: string;
  readonly version: number;
  readonly state: "sealed" | "revoked" | "damaged";
  /** RFC 3339: when it was sealed, or revoked. */
  readonly at: string;
  /** Equal for equal secrets of a workspace; "" where there is none. */
  readonly fingerprint: string;
  /** Of a damaged one. */
  readonly why: string;
  readonly peer?: PeerFacts;
};
export type SecretList = {
  readonly secrets: readonly SecretReply[];
  /** How many were left off. */
  readonly more: number;
};
export type VaultReply = {
  readonly workspace: string;
  readonly state: "locked" | "unlocked";
  /** The KEK's id, and its kind. */
  readonly kek: string;
  readonly kind: string;
  /** What is wrong with the keyring; "" when nothing is. */
  readonly fault: string;
  /** RFC 3339: when it locks itself; "" when it is locked. */
  readonly until: string;
  readonly secrets: number;
  readonly damaged: number;
};
export type VaultStatus = {
  /** Why nothing of the vault can be used; "" when it can. */
  readonly fault: string;
  /** Why an exported configuration, with keys in clear, could not be erased; "" when none is left. */
  readonly leftover: string;
  /** The kinds of KEKs for which a person gives something: a passphrase, or the PIN of a token. */
  readonly asks: readonly string[];
  readonly workspaces: readonly VaultReply[];
  readonly more: number;
};
/** `path`: where the configuration is, for root and the daemon alone. */
export type PeerExport = { readonly path: string; readonly peers: readonly string[] };
/** `decision`: true for "clean" alone. `found`: kinds and names, never what stands there. */
export type MessageReply = {
  readonly decision: boolean;
  readonly verdict: "clean" | "blocked" | "unscanned";
  readonly found: readonly string[];
  readonly why: string;
  readonly correlationId: string;
};
export type EventList = { readonly events: readonly Event[] };
/** `through`: the first record that is kept. */
export type PruneReply = { readonly segments: number; readonly through: number };
export type KeyReply = { readonly vkey: string; readonly size: number; readonly note: string };
/** `size` and `note` are those of the audit stream's newest seal; all lines up to number `size` are durable. */
export type AuditHead = KeyReply;
/** Verbatim, without their "\n", in order; empty where the stream does not go that far. */
export type AuditLines = { readonly lines: readonly string[] };
