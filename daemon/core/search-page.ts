import { createHash } from "node:crypto";
import type { SearchQuery } from "./access.ts";
import { parseStrictJson } from "./json.ts";

/** Where a search goes on, and how much of it at a time. */
export type Page = { readonly after: string | null; readonly limit: number };

/** One text for one value: names sorted. For JSON values only. */
export function stableText(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(stableText).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const entries = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return `{${entries.map(([name, each]) => `${JSON.stringify(name)}:${stableText(each)}`).join(",")}}`;
}

/**
 * `next_token` of a page (AuthZEN 1.0, Pagination): where to go on, bound to its question. Nothing is kept here for it,
 * and nothing secret is in it: who makes one up only chooses where his own search begins.
 */
export function renderPageToken(query: SearchQuery, page: Page & { readonly after: string }): string {
  return Buffer.from(JSON.stringify([digestOf(query), page.limit, page.after])).toString("base64url");
}

/** The page of a token; null when it is none, or one of another question. */
export function readPageToken(query: SearchQuery, token: string): (Page & { readonly after: string }) | null {
  const parsed = parseStrictJson(Buffer.from(token, "base64url").toString("utf8"), { maxDepth: 1 });
  if (!parsed.ok || !Array.isArray(parsed.value) || parsed.value.length !== 3) return null;
  const [digest, limit, after] = parsed.value as readonly unknown[];
  if (digest !== digestOf(query) || typeof after !== "string") return null;
  if (typeof limit !== "number" || !Number.isSafeInteger(limit) || limit < 0) return null;
  return { limit, after };
}

function digestOf(query: SearchQuery): string {
  return createHash("sha256").update(stableText(query)).digest("base64url").slice(0, 22);
}
