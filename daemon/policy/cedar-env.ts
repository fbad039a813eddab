import type { Entities, Entity } from "./cedar-entities.ts";
import type { CedarRecord, EntityUid, Value } from "./cedar-value.ts";

/** What a policy is evaluated on. The three entities are looked up once; undefined where none is known. */
export type Env = {
  readonly principal: EntityUid;
  readonly action: EntityUid;
  readonly resource: EntityUid;
  readonly context: CedarRecord;
  readonly principalEntity: Entity | undefined;
  readonly actionEntity: Entity | undefined;
  readonly resourceEntity: Entity | undefined;
  readonly entities: Entities;
};

/** A compiled expression. Throws a Failure where Cedar has an error. */
export type Code = (env: Env) => Value;

/** The entity behind a uid; undefined where none is known. */
export function entityOf(env: Env, uid: EntityUid): Entity | undefined {
  if (uid === env.principal) return env.principalEntity;
  if (uid === env.resource) return env.resourceEntity;
  return env.entities.find(uid.key);
}

/** Cedar's `in` for two entities: the same, or below it. One that is not known is below nothing. */
export function isBelow(env: Env, uid: EntityUid, above: EntityUid): boolean {
  return uid.key === above.key || entityOf(env, uid)?.ancestors.has(above.key) === true;
}
