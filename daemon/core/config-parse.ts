import { type Document, isMap, isScalar, LineCounter, parseDocument } from "yaml";
import type { z } from "zod";
import { type Config, ConfigSchema, TripwiresSchema, toTripwire } from "./config.ts";
import type { Tripwire } from "./tripwire.ts";

/** A fault in a configuration file. line and column count from 1. */
export type Problem = {
  readonly line: number;
  readonly column: number;
  readonly at: string;
  readonly problem: string;
};

export type Parsed<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly problems: readonly Problem[] };

export const MAX_CONFIG_BYTES = 1_048_576;

/** Reads the configuration (YAML 1.2, core schema). Unknown and repeated keys are refused; every fault is reported, not only the first. */
export function parseConfig(text: string): Parsed<Config> {
  return parseYaml(text, ConfigSchema);
}

/** Reads a file of tripwires. */
export function parseTripwires(text: string): Parsed<readonly Tripwire[]> {
  const parsed = parseYaml(text, TripwiresSchema);
  return parsed.ok ? { ok: true, value: parsed.value.tripwires.map(toTripwire) } : parsed;
}

/** "file:line:column: at: problem", one a line. */
export function renderProblems(file: string, problems: readonly Problem[]): string {
  return problems
    .map((p) => `${file}:${p.line}:${p.column}: ${p.at === "" ? "" : `${p.at}: `}${p.problem}`)
    .join("\n");
}

/** Reads YAML by a schema, as the configuration is read. */
export function parseYaml<S extends z.ZodType>(text: string, schema: S): Parsed<z.output<S>> {
  if (text.length > MAX_CONFIG_BYTES)
    return refuse([{ line: 1, column: 1, at: "", problem: "the file is larger than 1 MiB" }]);
  const lines = new LineCounter();
  // No aliases: a few lines of them can stand for gigabytes. No merge keys, no custom tags.
  const doc = parseDocument(text, { lineCounter: lines, uniqueKeys: true, stringKeys: true, merge: false });
  const faults = [...doc.errors, ...doc.warnings].map((error) => {
    const { line, col } = lines.linePos(error.pos[0]);
    return { line, column: col, at: "", problem: firstLine(error.message) };
  });
  if (faults.length > 0) return refuse(faults);
  let value: unknown;
  try {
    value = doc.toJS({ maxAliasCount: 0 }) ?? {};
  } catch (error) {
    return refuse([
      { line: 1, column: 1, at: "", problem: `aliases are not allowed (${firstLine(String(error))})` },
    ]);
  }
  const result = schema.safeParse(value);
  if (result.success) return { ok: true, value: result.data };
  return refuse(result.error.issues.flatMap((issue) => locate(doc, lines, issue)));
}

/** Where things stand in YAML that was read before: line and column of the nearest node of a path. Parsed once, at the first. */
export function createYamlPlaces(
  text: string,
): (path: readonly (string | number)[]) => { readonly line: number; readonly column: number } {
  const lines = new LineCounter();
  let doc: Document | null = null;
  return (path) => {
    doc ??= parseDocument(text, { lineCounter: lines });
    return position(doc, lines, path, null);
  };
}

/** Faults that were found after the reading, each where it stands. */
export function placeProblems(
  text: string,
  faults: readonly { readonly path: readonly (string | number)[]; readonly problem: string }[],
): readonly Problem[] {
  const placeOf = createYamlPlaces(text);
  return faults.map(({ path, problem }) => ({ ...placeOf(path), at: render(path), problem }));
}

function refuse(problems: readonly Problem[]): { ok: false; problems: readonly Problem[] } {
  return { ok: false, problems };
}

/** An issue with an unknown key stands at the key; any other at the nearest node of its path that is there. */
function locate(doc: Document, lines: LineCounter, issue: z.core.$ZodIssue): readonly Problem[] {
  const path = issue.path.map((part) => (typeof part === "symbol" ? String(part) : part));
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((key) => ({
      ...position(doc, lines, path, key),
      at: render([...path, key]),
      problem: "unknown key",
    }));
  }
  return [{ ...position(doc, lines, path, null), at: render(path), problem: issue.message }];
}

function position(
  doc: Document,
  lines: LineCounter,
  path: readonly (string | number)[],
  key: string | null,
): { line: number; column: number } {
  for (let length = path.length; length >= 0; length--) {
    const node = length === 0 ? doc.contents : doc.getIn(path.slice(0, length), true);
    const range = keyRange(node, length === path.length ? key : null) ?? rangeOf(node);
    if (!range) continue;
    const { line, col } = lines.linePos(range);
    return { line, column: col };
  }
  return { line: 1, column: 1 };
}

function keyRange(node: unknown, key: string | null): number | null {
  if (key === null || !isMap(node)) return null;
  const pair = node.items.find((item) => isScalar(item.key) && item.key.value === key);
  return pair ? rangeOf(pair.key) : null;
}

function rangeOf(node: unknown): number | null {
  const range = (node as { range?: readonly number[] | null } | null)?.range;
  return range?.[0] ?? null;
}

function render(path: readonly (string | number)[]): string {
  return path.reduce<string>(
    (text, part) => (typeof part === "number" ? `${text}[${part}]` : text === "" ? part : `${text}.${part}`),
    "",
  );
}

function firstLine(text: string): string {
  return text.split("\n", 1)[0] ?? "";
}
