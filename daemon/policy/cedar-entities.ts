import { BoundaryError } from "../core/errors.ts";
import { fieldsOf, listOf, readRecord, readUid, type ValueType } from "./cedar-read.ts";
import { type CedarRecord, EMPTY_RECORD, type EntityUid, equals, type Value } from "./cedar-value.ts";

/** An entity with all its ancestors, by key. */
export type Entity = {
  readonly uid: EntityUid;
  readonly attrs: ReadonlyMap<string, Value>;
  readonly tags: ReadonlyMap<string, Value>;
  readonly ancestors: ReadonlySet<string>;
};
export type Entities = {
  readonly find: (key: string) => Entity | undefined;
  /** Whether an entity here has this one above it. */
  readonly hasBelow: (key: string) => boolean;
};

/** What a schema says of an entity type's attributes and tags: see ValueType. */
export type EntityTypes = ReadonlyMap<
  string,
  { readonly attrs: ValueType | null; readonly tags: ValueType | null }
>;

type Draft = {
  readonly uid: EntityUid;
  readonly attrs: CedarRecord;
  readonly tags: CedarRecord;
  readonly parents: readonly string[];
};

/** The ancestors of all entities together: a long chain has them in the square of its length. */
const MOST_ANCESTORS = 1_000_000;

/**
 * Entities of Cedar's JSON form (uid, attrs, parents, tags), with all ancestors found. Those of `base` are there too;
 * none of them may be given anew, or get new ancestors. Throws "entities-invalid" for a cycle, for two
 * entities of one name that differ, and for too many ancestors; "policy-invalid" for what cannot be read.
 */
export function createEntities(
  list: readonly unknown[],
  {
    base = null,
    types = null,
  }: { readonly base?: Entities | null; readonly types?: EntityTypes | null } = {},
): Entities {
  const drafts = new Map<string, Draft>();
  for (const json of list) {
    const draft = readEntity(json, types);
    const known = drafts.get(draft.uid.key);
    if (base?.find(draft.uid.key) !== undefined || (known !== undefined && !isSame(known, draft)))
      throw new BoundaryError("entities-invalid", `${nameOf(draft.uid)} is given twice`);
    // the base's own would have to get its parents as ancestors
    if (draft.parents.length > 0 && base?.hasBelow(draft.uid.key) === true)
      throw new BoundaryError(
        "entities-invalid",
        `${nameOf(draft.uid)} is above known ones, and gets parents`,
      );
    drafts.set(draft.uid.key, draft);
  }
  const own = closed(drafts, base);
  let above: Set<string> | null = null;
  return {
    find: (key) => own.get(key) ?? base?.find(key),
    hasBelow: (key) => {
      above ??= new Set([...own.values()].flatMap((one) => [...one.ancestors]));
      return above.has(key) || base?.hasBelow(key) === true;
    },
  };
}

function readEntity(json: unknown, types: EntityTypes | null): Draft {
  const entity = fieldsOf(json, "an entity", ["uid", "attrs", "parents", "tags"]);
  const uid = readUid(entity.get("uid"), "an entity's uid");
  const type = types?.get(uid.type);
  const where = nameOf(uid);
  const parents = listOf(entity.get("parents"), `${where}: parents`);
  const tags = entity.get("tags");
  return {
    uid,
    attrs: readRecord(entity.get("attrs"), `${where}: attributes`, type?.attrs),
    tags: tags === undefined ? EMPTY_RECORD : readTags(tags, where, type?.tags ?? null),
    parents: [...new Set(parents.map((parent) => readUid(parent, `${where}: a parent`).key))],
  };
}

function readTags(json: unknown, where: string, type: ValueType | null): CedarRecord {
  if (type === null) return readRecord(json, `${where}: tags`);
  const names = [...fieldsOf(json, `${where}: tags`).keys()];
  const fields = new Map(names.map((name) => [name, type] as const));
  return readRecord(json, `${where}: tags`, { kind: "record", fields });
}

function isSame(a: Draft, b: Draft): boolean {
  const parents = new Set(a.parents);
  return (
    equals(a.attrs, b.attrs) &&
    equals(a.tags, b.tags) &&
    parents.size === b.parents.length &&
    b.parents.every((parent) => parents.has(parent))
  );
}

/** Depth first with a stack of our own, so that no graph is too deep. */
function closed(drafts: ReadonlyMap<string, Draft>, base: Entities | null): ReadonlyMap<string, Entity> {
  const done = new Map<string, Entity>();
  const open = new Set<string>();
  let count = 0;
  for (const start of drafts.keys()) {
    const stack = [start];
    for (let key = stack.at(-1); key !== undefined; key = stack.at(-1)) {
      const draft = drafts.get(key);
      if (draft === undefined || done.has(key)) {
        stack.pop();
        continue;
      }
      const missing = draft.parents.filter((parent) => drafts.has(parent) && !done.has(parent));
      const cycle = missing.find((parent) => open.has(parent));
      if (cycle !== undefined)
        throw new BoundaryError("entities-invalid", `${nameOf(draft.uid)} is its own ancestor`);
      if (missing.length > 0) {
        open.add(key);
        stack.push(...missing);
        continue;
      }
      const ancestors = new Set(draft.parents);
      for (const parent of draft.parents)
        for (const above of (done.get(parent) ?? base?.find(parent))?.ancestors ?? []) ancestors.add(above);
      count += ancestors.size;
      if (count > MOST_ANCESTORS)
        throw new BoundaryError("entities-invalid", `more than ${MOST_ANCESTORS} ancestors`);
      done.set(key, { uid: draft.uid, attrs: draft.attrs.fields, tags: draft.tags.fields, ancestors });
      open.delete(key);
      stack.pop();
    }
  }
  return done;
}

function nameOf(uid: EntityUid): string {
  return `${uid.type}::"${uid.id}"`;
}
