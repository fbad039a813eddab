import type { Assurance } from "./assurance.ts";
import type { ErrorCode } from "./errors.ts";
import type { Mode } from "./mode.ts";

/** A JSON value, as strict JSON gave it. */
export type Json = string | number | boolean | null | readonly Json[] | { readonly [name: string]: Json };
export type Properties = { readonly [name: string]: Json };

/** A question in the words of the OpenID AuthZEN Authorization API 1.0: who, does what, to what, and in which circumstances. */
export type AccessRequest = {
  readonly subject: { readonly type: string; readonly id: string; readonly properties: Properties };
  readonly action: { readonly name: string; readonly properties: Properties };
  readonly resource: { readonly type: string; readonly id: string; readonly properties: Properties };
  readonly context: Properties;
};

/** Everything a question may ask for. The first eight are the points of A2. */
export const ACTIONS = [
  "command.run",
  "tool.run",
  "file.read",
  "file.write",
  "network.connect",
  "message.send",
  "process.spawn",
  "stage.enter",
  "secret.read",
  "recall",
  "model.call",
  "io",
] as const;
export type ActionName = (typeof ACTIONS)[number];

/** What a token's scope has to have, beside its role, for verbs of the control socket that open or hand out something. */
export const GOVERNED_VERBS = [
  "mode.loosen",
  "token.mint",
  "token.narrow",
  "lease.approve",
  "approval.approve",
] as const;
export type GovernedVerb = (typeof GOVERNED_VERBS)[number];

/** What the daemon itself asks policy before a verb is done, each with the type that it is about on the wire. No caller asks these. */
export const VERB_ACTIONS = {
  "mode.loosen": "mode",
  "token.mint": "token",
  "token.narrow": "token",
  "lease.grant": "lease",
  "lease.approve": "lease",
  "approval.approve": "approval",
  "usb.allow": "usb",
  "usb.challenge": "usb",
  "secret.put": "vault",
  "secret.rotate": "vault",
  "vault.unlock": "vault",
  "vault.rewrap": "vault",
  "peer.add": "vault",
  "peer.export": "vault",
} as const;
export type VerbAction = keyof typeof VERB_ACTIONS;

/** A verb as policy is asked about it. All of it is the daemon's word. */
export type VerbQuestion = {
  readonly [A in VerbAction]: {
    readonly action: A;
    readonly type: (typeof VERB_ACTIONS)[A];
    readonly id: string;
    readonly properties: Properties;
  };
}[VerbAction];

/** Who asks, by what the kernel says of the peer and by what the log says of the token. Nothing of it is the caller's word. */
export type Caller = {
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  readonly groups: readonly number[];
  /** The id of the live token he showed; null without one. */
  readonly token: string | null;
};

/** The state an answer is given on: that of one instant. */
export type Situation = {
  readonly wanted: Mode;
  readonly applied: Mode | null;
  readonly assurance: Assurance;
  readonly frozen: boolean;
  readonly trustedInterfaces: readonly string[];
  readonly wallMs: number;
};

/** The answer, the same over both sockets. `reason`: ids of the rules and policies that decided, sorted. */
export type Evaluation = {
  readonly decision: boolean;
  /** "allowed", or why not: stable. */
  readonly code: "allowed" | ErrorCode;
  readonly reason: readonly string[];
  readonly mode: Mode;
  readonly assurance: Assurance;
  /** The number of the answer's record; "" where none was written. */
  readonly correlationId: string;
  /** On a denial: what would be allowed instead, in words; "" where nothing would. */
  readonly wouldAllow: string;
  /** Whether a person may be asked, or has been: then `approval` is the id of what waits for him. */
  readonly askPerson: boolean;
  readonly approval: string;
  /** Whether the same question may be answered otherwise later without anybody doing anything, and when at the earliest. */
  readonly retryable: boolean;
  readonly retryAfterMs: number;
};

/** What an answer has beside itself where there is nothing to tell. */
export const NOTHING_BESIDE = {
  correlationId: "",
  wouldAllow: "",
  askPerson: false,
  approval: "",
  retryAfterMs: 0,
} as const satisfies Partial<Evaluation>;

/** The one way to an answer, for both sockets. Never rejects: what goes wrong is a denial. */
export type Evaluator = {
  evaluate(caller: Caller, request: AccessRequest, terms?: Terms): Promise<Evaluation>;
};

/** What somebody of the daemon's own asks a question with, beside what policy says. */
export type Terms = {
  /** A person has to approve it, whatever policy says: the rules that say so. */
  readonly person?: readonly string[];
  /** The id of an approval that was used up a moment ago for something that this is a part of. */
  readonly approval?: string;
};

/** Whether policy lets a verb be done: beside role and scope, never instead of them. */
export type Permitted =
  | { readonly ok: true }
  | { readonly ok: false; readonly code: ErrorCode; readonly why: string };

/** The way to an answer for what the daemon asks itself. Answers at once, on the state of this instant. Never throws. */
export type Governor = {
  /**
   * Before a verb is done, in the same turn. The answer is a record, which stands before those of the verb: who waits for
   * these to be durable waits for it.
   */
  permit(caller: Caller, verb: string, question: VerbQuestion): Permitted;
  /** The same of what was permitted before. Nothing is recorded. */
  permits(caller: Pick<Caller, "uid" | "groups" | "token">, question: VerbQuestion): boolean;
};

/** Who may, on what may he, or what may he do: a question with one of its three left open. */
export type SearchQuery =
  | {
      readonly kind: "subject";
      readonly subject: { readonly type: string; readonly properties: Properties };
      readonly action: AccessRequest["action"];
      readonly resource: AccessRequest["resource"];
      readonly context: Properties;
    }
  | {
      readonly kind: "resource";
      readonly subject: AccessRequest["subject"];
      readonly action: AccessRequest["action"];
      readonly resource: { readonly type: string; readonly properties: Properties };
      readonly context: Properties;
    }
  | {
      readonly kind: "action";
      readonly subject: AccessRequest["subject"];
      readonly resource: AccessRequest["resource"];
      readonly context: Properties;
    };

/** What was found, in order of ids (of names, for actions). */
export type Found =
  | {
      readonly ok: true;
      readonly ids: readonly string[];
      /** Where to go on, in words that only the search reads. null: all were looked at. */
      readonly next: string | null;
    }
  | { readonly ok: false; readonly code: ErrorCode; readonly why: string; readonly retryAfterMs: number };
