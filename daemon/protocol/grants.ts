import { z } from "zod";
import { parseResource } from "../core/grant-data.ts";
import { MODES, type Mode } from "../core/mode.ts";
import { isSubjectPattern, parsePrincipal } from "../core/principal.ts";
import { redactText } from "../core/redact.ts";
import { ROLES, type Role } from "../core/roles.ts";
import { SCOPE_ACTIONS, TERM_BOUNDS } from "../core/token.ts";

/** What the verbs of tokens and leases take and answer. docs/TOKENS.md says what they mean. */
const DAY_MS = 86_400_000;
const Id = z.string().regex(/^[0-9a-f]{16}$/, "an id has 16 hex digits");
const Principal = z
  .string()
  .max(150)
  .transform(
    (text, context) => parsePrincipal(text) ?? bad(context, 'write "Agent::NAME", or User, Service'),
  );
const Resource = z
  .string()
  .max(330)
  .transform(
    (text, context) => parseResource(text) ?? bad(context, 'write "TYPE::ID", or "TYPE::BEGINNING*"'),
  );
const Subject = z
  .string()
  .max(150)
  .refine(isSubjectPattern, 'write "Agent::NAME", "Agent::BEGINNING*" or "Agent::*"');
const Action = z.enum(SCOPE_ACTIONS as [string, ...string[]]);
const Label = z.string().regex(/^[ -~]{0,64}$/, "a label has up to 64 plain characters");
const ForMs = z
  .number()
  .int()
  .min(1_000)
  .max(3_650 * DAY_MS);
const Uid = z.number().int().min(0).max(4_294_967_294);

/** Of a child: what is left out is as its parent has it. */
const TermsSchema = z.strictObject({
  principal: Principal.optional(),
  role: z.enum(ROLES).optional(),
  actions: z.array(Action).max(SCOPE_ACTIONS.length).optional(),
  resources: z.array(Resource).max(TERM_BOUNDS.resources).optional(),
  subjects: z.array(Subject).max(TERM_BOUNDS.subjects).optional(),
  maxMode: z.enum(MODES).optional(),
  /** From now on. */
  forMs: ForMs.optional(),
  uses: z.number().int().min(1).max(TERM_BOUNDS.uses).optional(),
  uid: Uid.optional(),
  label: Label.optional(),
});
export type TermsWish = z.output<typeof TermsSchema>;

const Reason = z
  .string()
  .trim()
  .min(1, "say why")
  .max(200)
  .refine((text) => !/\p{Cc}/u.test(text), "no control characters")
  .transform(redactText);

export const TOKEN_PARAMS = {
  /** The first token, once. */
  "token.bootstrap": z.strictObject({
    forMs: ForMs.optional(),
    uid: Uid.optional(),
    label: Label.optional(),
  }),
  "token.mint": TermsSchema.extend({ principal: Principal }),
  "token.narrow": TermsSchema,
  /** By id; from the one after `after` on, as many as fit. */
  "token.list": z.strictObject({ after: Id.optional() }),
  /** Without an id: the token that is shown. */
  "token.show": z.strictObject({ id: Id.optional() }),
  /** With all that grew from it. */
  "token.revoke": z.strictObject({ id: Id, reason: Reason.default("revoked") }),
} as const;

export const LEASE_PARAMS = {
  "lease.request": z.strictObject({
    template: z.string().min(1).max(64),
    reason: Reason,
    /** Not longer than the template allows, which is what is asked for without it. */
    forMs: z
      .number()
      .int()
      .min(1_000)
      .max(31 * DAY_MS)
      .optional(),
  }),
  "lease.list": z.strictObject({ after: Id.optional() }),
  "lease.approve": z.strictObject({ id: Id }),
  "lease.deny": z.strictObject({ id: Id, reason: Reason.default("denied") }),
  "lease.revoke": z.strictObject({ id: Id, reason: Reason.default("revoked") }),
} as const;

/** How a token is: its own state, or that of the ancestor which ends it. */
export type TokenState = "live" | "suspended" | "expired" | "revoked" | "spent" | "unknown";

/** All of a token but its text and digest. */
export type TokenView = {
  readonly id: string;
  /** "" for none. */
  readonly parent: string;
  readonly principal: string;
  readonly role: Role;
  readonly actions: readonly string[] | "all";
  readonly resources: readonly string[] | "all";
  readonly subjects: readonly string[];
  readonly maxMode: Mode;
  /** RFC 3339. */
  readonly expires: string;
  /** null: as many as you like. */
  readonly uses: number | null;
  /** null: any user. */
  readonly uid: number | null;
  readonly label: string;
  readonly made: string;
  readonly madeBy: { readonly uid: number; readonly tokenId: string };
  readonly state: TokenState;
  readonly below: number;
};
/** `text`: to be kept by whoever asked; it is in no record and cannot be shown again. */
export type NewToken = { readonly text: string; readonly token: TokenView };
export type TokenList = { readonly tokens: readonly TokenView[]; readonly more: number };
export type TokenReply = { readonly token: TokenView };
/** `ended`: how many tokens ended, the one itself among them. */
export type RevokeReply = { readonly id: string; readonly ended: number };

export type LeaseView = {
  readonly id: string;
  readonly template: string;
  readonly state: "pending" | "live" | "suspended" | "denied" | "revoked" | "over";
  readonly by: { readonly uid: number; readonly tokenId: string };
  readonly reason: string;
  readonly forMs: number;
  readonly maxMode: Mode;
  readonly asked: string;
  /** RFC 3339, by the wall clock; "" before the approval. */
  readonly until: string;
  readonly uses: number | null;
};
export type LeaseReply = { readonly lease: LeaseView };
export type LeaseList = {
  readonly leases: readonly LeaseView[];
  readonly more: number;
  readonly templates: readonly {
    readonly name: string;
    readonly needs: "person" | "policy";
    readonly maxMode: Mode;
    readonly maxMs: number;
    readonly maxUses: number | null;
  }[];
};

function bad(context: z.RefinementCtx, message: string): never {
  context.addIssue({ code: "custom", message });
  return z.NEVER;
}
