import { z } from "zod";
import type { AccessRequest, Properties, SearchQuery } from "../core/access.ts";
import type { ErrorCode } from "../core/errors.ts";
import { type Page, readPageToken } from "../core/search-page.ts";
import { Id, PropertiesSchema, Type } from "./access-schema.ts";
import { readExactJson } from "./exact-json.ts";

/**
 * Requests of the OpenID AuthZEN Authorization API 1.0, read. Fields that the specification does not know are ignored,
 * as it wants; what `properties` and `context` may hold is in properties.ts.
 */
export const MAX_EVALUATIONS = 100;
/** Results on one page of a search, unless the caller wants fewer. */
export const PAGE_LIMIT = 100;
/** Of what zod says about a body, this much goes back to its sender. */
const MAX_DETAIL_CHARACTERS = 300;
const MAX_PAGE_TOKEN_CHARACTERS = 4_096;

export type Unread = { readonly ok: false; readonly code: ErrorCode; readonly why: string };
type Read<T> = { readonly ok: true; readonly value: T } | Unread;

export type Semantic = "execute_all" | "deny_on_first_deny" | "permit_on_first_permit";

/** `one`: asked without `evaluations`, or with none in it, and answered as a single evaluation is. */
export type Evaluations =
  | { readonly kind: "one"; readonly request: AccessRequest }
  | { readonly kind: "many"; readonly items: readonly Read<AccessRequest>[]; readonly semantic: Semantic };

export type Search = { readonly query: SearchQuery; readonly page: Page };

const SubjectSchema = z.object({ type: Type, id: Id, properties: PropertiesSchema });
const ActionSchema = z.object({ name: Type, properties: PropertiesSchema });
const OpenSchema = z.object({ type: Type, properties: PropertiesSchema });

const EvaluationSchema = z.object({
  subject: SubjectSchema,
  action: ActionSchema,
  resource: SubjectSchema,
  context: PropertiesSchema,
});

/** A default may lack what each item says for itself. */
const Default = z
  .custom<object>((value) => typeof value === "object" && value !== null && !Array.isArray(value), {
    message: "not an object",
  })
  .optional();
const EvaluationsSchema = z.object({
  subject: Default,
  action: Default,
  resource: Default,
  context: Default,
  evaluations: z.array(z.unknown()).max(MAX_EVALUATIONS).optional(),
  options: z
    .object({
      evaluations_semantic: z
        .enum(["execute_all", "deny_on_first_deny", "permit_on_first_permit"])
        .default("execute_all"),
    })
    .optional(),
});

const PageSchema = z
  .object({
    token: z.string().max(MAX_PAGE_TOKEN_CHARACTERS).optional(),
    limit: z.number().int().min(0).optional(),
  })
  .optional();

// what is searched for has no id, and one that is there is ignored
const SEARCHES = {
  subject: z.object({
    subject: OpenSchema,
    action: ActionSchema,
    resource: SubjectSchema,
    context: PropertiesSchema,
    page: PageSchema,
  }),
  resource: z.object({
    subject: SubjectSchema,
    action: ActionSchema,
    resource: OpenSchema,
    context: PropertiesSchema,
    page: PageSchema,
  }),
  action: z.object({
    subject: SubjectSchema,
    resource: SubjectSchema,
    context: PropertiesSchema,
    page: PageSchema,
  }),
} as const;

/** The body of an Access Evaluation request. */
export function readEvaluation(body: Uint8Array): Read<AccessRequest> {
  const json = readExactJson(body);
  return json.ok ? requestOf(json.value) : json;
}

/**
 * The body of an Access Evaluations request, the defaults merged into its items. An entity of an item replaces the
 * default's as a whole; only `type`, `id` and `name` that it lacks come from there. An item that cannot be read is a
 * value of its own: the others are asked all the same.
 */
export function readEvaluations(body: Uint8Array): Read<Evaluations> {
  const json = readExactJson(body);
  if (!json.ok) return json;
  const read = readAs(EvaluationsSchema, json.value);
  if (!read.ok) return read;
  const { evaluations = [], options, ...defaults } = read.value;
  if (evaluations.length === 0) {
    const one = requestOf(json.value);
    return one.ok ? { ok: true, value: { kind: "one", request: one.value } } : one;
  }
  const items = evaluations.map((item) => requestOf(withDefaults(defaults, item)));
  const semantic = options?.evaluations_semantic ?? "execute_all";
  return { ok: true, value: { kind: "many", items, semantic } };
}

/** The body of a Subject, Resource or Action Search request. A page token of another question is "page-invalid". */
export function readSearch(kind: SearchQuery["kind"], body: Uint8Array): Read<Search> {
  const json = readExactJson(body);
  if (!json.ok) return json;
  const read = queryOf(kind, json.value);
  if (!read.ok) return read;
  const { query, page } = read.value;
  const limit = page?.limit === undefined ? undefined : Math.min(page.limit, PAGE_LIMIT);
  if (page?.token === undefined || page.token === "")
    return { ok: true, value: { query, page: { after: null, limit: limit ?? PAGE_LIMIT } } };
  const from = readPageToken(query, page.token);
  if (from === null || (limit !== undefined && limit !== from.limit))
    return { ok: false, code: "page-invalid", why: "page.token is not of this question and limit" };
  return { ok: true, value: { query, page: { after: from.after, limit: Math.min(from.limit, PAGE_LIMIT) } } };
}

function queryOf(
  kind: SearchQuery["kind"],
  value: unknown,
): Read<{ query: SearchQuery; page: z.output<typeof PageSchema> }> {
  switch (kind) {
    case "subject": {
      const read = readAs(SEARCHES.subject, value);
      if (!read.ok) return read;
      const { subject, action, resource, context, page } = read.value;
      const query = { kind, subject: full(subject), action: full(action), resource: full(resource) };
      return { ok: true, value: { query: { ...query, context: context ?? {} }, page } };
    }
    case "resource": {
      const read = readAs(SEARCHES.resource, value);
      if (!read.ok) return read;
      const { subject, action, resource, context, page } = read.value;
      const query = { kind, subject: full(subject), action: full(action), resource: full(resource) };
      return { ok: true, value: { query: { ...query, context: context ?? {} }, page } };
    }
    case "action": {
      const read = readAs(SEARCHES.action, value);
      if (!read.ok) return read;
      const { subject, resource, context, page } = read.value;
      const query = { kind, subject: full(subject), resource: full(resource) };
      return { ok: true, value: { query: { ...query, context: context ?? {} }, page } };
    }
  }
}

function requestOf(value: unknown): Read<AccessRequest> {
  const read = readAs(EvaluationSchema, value);
  if (!read.ok) return read;
  const { subject, action, resource, context } = read.value;
  const request = { subject: full(subject), action: full(action), resource: full(resource) };
  return { ok: true, value: { ...request, context: context ?? {} } };
}

function full<T extends { readonly properties?: Properties | undefined }>(
  entity: T,
): Omit<T, "properties"> & { readonly properties: Properties } {
  return { ...entity, properties: entity.properties ?? {} };
}

type Defaults = Readonly<Record<"subject" | "action" | "resource" | "context", object | undefined>>;

function withDefaults(
  defaults: { readonly [K in keyof Defaults]?: object | undefined },
  item: unknown,
): unknown {
  if (typeof item !== "object" || item === null || Array.isArray(item)) return item;
  const own = (name: string): unknown => (Object.hasOwn(item, name) ? Reflect.get(item, name) : undefined);
  return {
    subject: merged(defaults.subject, own("subject"), ["type", "id"]),
    action: merged(defaults.action, own("action"), ["name"]),
    resource: merged(defaults.resource, own("resource"), ["type", "id"]),
    context: own("context") === undefined ? defaults.context : own("context"),
  };
}

function merged(given: object | undefined, own: unknown, needed: readonly string[]): unknown {
  if (own === undefined) return given;
  if (given === undefined || typeof own !== "object" || own === null || Array.isArray(own)) return own;
  const lacking = needed.filter((name) => !Object.hasOwn(own, name) && Object.hasOwn(given, name));
  return { ...own, ...Object.fromEntries(lacking.map((name) => [name, Reflect.get(given, name)])) };
}

function readAs<S extends z.ZodType>(schema: S, value: unknown): Read<z.output<S>> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return { ok: true, value: parsed.data };
  const issues = parsed.error.issues.map((issue) => `${issue.path.join(".") || "body"}: ${issue.message}`);
  return { ok: false, code: "request-invalid", why: issues.join("; ").slice(0, MAX_DETAIL_CHARACTERS) };
}
