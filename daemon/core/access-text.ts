import { createHash } from "node:crypto";
import type { AccessRequest, Json, Properties } from "./access.ts";
import { redactValue } from "./redact.ts";
import { escapeControls } from "./shown-text.ts";

/**
 * SHA-256, hex, of all that is asked: subject, action, resource and context as canonical JSON (RFC 8785: names in the order
 * of their UTF-16 units, numbers as ECMAScript writes them). Another property, or another context, is another request.
 */
export function accessDigest({ subject, action, resource, context }: AccessRequest): string {
  return createHash("sha256").update(canonical({ subject, action, resource, context })).digest("hex");
}

/**
 * The same for a person to read: a line each, without secrets, nothing in it that steers a terminal, nothing left out.
 * What is hidden as a secret is part of the digest all the same.
 */
export function describeAccess(request: AccessRequest): string {
  const { subject, action, resource, context } = redactValue(request);
  const lines = [
    `who   ${subject.type} ${quoted(subject.id)}${withProperties(subject.properties)}`,
    `what  ${action.name}${withProperties(action.properties)}`,
    `to    ${resource.type} ${quoted(resource.id)}${withProperties(resource.properties)}`,
    ...(Object.keys(context).length === 0 ? [] : [`while ${canonical(context)}`]),
  ];
  return lines.map(escapeControls).join("\n");
}

function quoted(text: string): string {
  return JSON.stringify(text);
}

function withProperties(properties: Properties): string {
  return Object.keys(properties).length === 0 ? "" : ` ${canonical(properties)}`;
}

/** Lone surrogates are written escaped, as JSON.stringify does: two texts are never one. */
function canonical(value: Json): string {
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  if (isList(value)) return `[${value.map(canonical).join(",")}]`;
  const fields = Object.keys(value).toSorted(byUnits);
  return `{${fields.map((name) => `${JSON.stringify(name)}:${canonical(value[name] ?? null)}`).join(",")}}`;
}

function isList(value: object): value is readonly Json[] {
  return Array.isArray(value);
}

function byUnits(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
