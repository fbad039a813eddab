import type { Long } from "./cedar-long.ts";

/** What a Cedar expression comes to. `===` is equality for the first line; `equals` for all. */
export type Value =
  | boolean
  | string
  | Long
  | EntityUid
  | CedarSet
  | CedarRecord
  | Decimal
  | IpAddress
  | Datetime
  | Duration;

/** `key` is type and id in one string, for look-ups; no two entities share it. */
export type EntityUid = {
  readonly kind: "entity";
  readonly type: string;
  readonly id: string;
  readonly key: string;
};
/** `items` may hold the same value twice: nothing in Cedar can tell. */
export type CedarSet = { readonly kind: "set"; readonly items: readonly Value[]; index: SetIndex | null };
export type CedarRecord = { readonly kind: "record"; readonly fields: ReadonlyMap<string, Value> };
/** In ten-thousandths. */
export type Decimal = { readonly kind: "decimal"; readonly scaled: Long };
/** As numbers: the address itself, and the ends of the range that its prefix spans. */
export type IpAddress = {
  readonly kind: "ipaddr";
  readonly version: 4 | 6;
  readonly address: bigint;
  readonly prefix: number;
  readonly first: bigint;
  readonly last: bigint;
};
/** In milliseconds since 1970. */
export type Datetime = { readonly kind: "datetime"; readonly ms: Long };
export type Duration = { readonly kind: "duration"; readonly ms: Long };

/** What a set holds: primitives as they are, the others by their canonical text. */
type SetIndex = { readonly plain: ReadonlySet<Value>; readonly others: ReadonlySet<string> };

/** Below this many items a look at each is faster than an index. */
const INDEXED_FROM = 9;

export function entityUid(type: string, id: string): EntityUid {
  return { kind: "entity", type, id, key: entityKey(type, id) };
}

/** No type's name holds a quote, so type and id cannot run into each other. */
export function entityKey(type: string, id: string): string {
  return `${type}"${id}`;
}

export function cedarSet(items: readonly Value[]): CedarSet {
  return { kind: "set", items, index: null };
}

export function cedarRecord(fields: ReadonlyMap<string, Value>): CedarRecord {
  return { kind: "record", fields };
}

export const EMPTY_RECORD: CedarRecord = cedarRecord(new Map());

/** Cedar's `==`: of any two values; values of different types are different, never an error. */
export function equals(a: Value, b: Value): boolean {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object") return false;
  switch (a.kind) {
    case "entity":
      return b.kind === "entity" && a.key === b.key;
    case "set":
      return b.kind === "set" && sameItems(a, b);
    case "record":
      return b.kind === "record" && sameFields(a.fields, b.fields);
    case "decimal":
      return b.kind === "decimal" && a.scaled === b.scaled;
    case "ipaddr":
      return (
        b.kind === "ipaddr" && a.version === b.version && a.address === b.address && a.prefix === b.prefix
      );
    case "datetime":
    case "duration":
      return b.kind === a.kind && a.ms === b.ms;
  }
}

/** Whether a set holds a value. */
export function holds(set: CedarSet, wanted: Value): boolean {
  if (set.items.length < INDEXED_FROM) {
    for (const item of set.items) if (equals(item, wanted)) return true;
    return false;
  }
  set.index ??= indexOf(set.items);
  return typeof wanted === "object" ? set.index.others.has(canonical(wanted)) : set.index.plain.has(wanted);
}

/** Whether a set holds all of another one. */
export function holdsAll(set: CedarSet, wanted: CedarSet): boolean {
  for (const item of wanted.items) if (!holds(set, item)) return false;
  return true;
}

/** Whether two sets have a value in common. */
export function holdsAny(set: CedarSet, wanted: CedarSet): boolean {
  for (const item of wanted.items) if (holds(set, item)) return true;
  return false;
}

/** Sets of structures by their text: to look from both sides at each level would take twice as long with every level. */
function sameItems(a: CedarSet, b: CedarSet): boolean {
  if (a.items.some(isStructure)) return canonical(a) === canonical(b);
  return holdsAll(a, b) && holdsAll(b, a);
}

function isStructure(value: Value): boolean {
  return typeof value === "object" && (value.kind === "set" || value.kind === "record");
}

function sameFields(a: ReadonlyMap<string, Value>, b: ReadonlyMap<string, Value>): boolean {
  if (a.size !== b.size) return false;
  for (const [name, value] of a) {
    const other = b.get(name);
    if (other === undefined || !equals(value, other)) return false;
  }
  return true;
}

function indexOf(items: readonly Value[]): SetIndex {
  const plain = new Set<Value>();
  const others = new Set<string>();
  for (const item of items) {
    if (typeof item === "object") others.add(canonical(item));
    else plain.add(item);
  }
  return { plain, others };
}

/** The same text for equal values, and for no others. */
function canonical(value: Value): string {
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value !== "object") return String(value);
  switch (value.kind) {
    case "entity":
      return `entity(${JSON.stringify(value.key)})`;
    case "set":
      return `[${[...new Set(value.items.map(canonical))].sort().join()}]`;
    case "record":
      return `{${[...value.fields]
        .map(([name, field]) => `${JSON.stringify(name)}:${canonical(field)}`)
        .sort()
        .join()}}`;
    case "decimal":
      return `decimal(${value.scaled})`;
    case "ipaddr":
      return `ip(${value.version} ${value.address}/${value.prefix})`;
    case "datetime":
    case "duration":
      return `${value.kind}(${value.ms})`;
  }
}
