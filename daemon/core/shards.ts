/**
 * A map of many entries that is a value: a change gives a new map, and copies a small part of the old one. Keys are hex, and
 * spread evenly: beginnings of digests, and random ids.
 */
export type Shards<T> = {
  readonly size: number;
  readonly shards: ReadonlyMap<string, ReadonlyMap<string, T>>;
};

const NAME_LENGTH = 2;

export function noShards<T>(): Shards<T> {
  return { size: 0, shards: new Map() };
}

export function shardGet<T>(map: Shards<T>, key: string): T | undefined {
  return map.shards.get(key.slice(0, NAME_LENGTH))?.get(key);
}

/** The map with this entry, in the place of one under the same key. */
export function shardPut<T>(map: Shards<T>, key: string, value: T): Shards<T> {
  const name = key.slice(0, NAME_LENGTH);
  const shard = map.shards.get(name);
  const added = shard?.has(key) ? 0 : 1;
  const changed = new Map(shard).set(key, value);
  return { size: map.size + added, shards: new Map(map.shards).set(name, changed) };
}

/** The entries that `keep` says yes to; the map itself when it says yes to all. */
export function shardFilter<T>(map: Shards<T>, keep: (value: T) => boolean): Shards<T> {
  let kept = noShards<T>();
  for (const [name, shard] of map.shards) {
    const some = [...shard].filter(([, value]) => keep(value));
    if (some.length === 0) continue;
    kept = {
      size: kept.size + some.length,
      shards: new Map(kept.shards).set(name, some.length === shard.size ? shard : new Map(some)),
    };
  }
  return kept.size === map.size ? map : kept;
}

/** All values, by their keys' order: the same for equal maps, however they came to be. */
export function shardValues<T>(map: Shards<T>): readonly T[] {
  const byKey = (a: readonly [string, unknown], b: readonly [string, unknown]) => (a[0] < b[0] ? -1 : 1);
  return [...map.shards]
    .toSorted(byKey)
    .flatMap(([, shard]) => [...shard].toSorted(byKey).map(([, value]) => value));
}

/** All values, in no order: without the cost of one. */
export function* shardEach<T>(map: Shards<T>): Generator<T> {
  for (const shard of map.shards.values()) yield* shard.values();
}
