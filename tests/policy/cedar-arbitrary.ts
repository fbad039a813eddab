import fc from "fast-check";
import type { Asked, Uid, World } from "./cedar-oracle.ts";

/** Random policies over a small universe, mostly of the right types and now and then of a wrong one. */
type Arb = fc.Arbitrary<unknown>;
type Type = keyof typeof ATTRIBUTE;

/** By the name of an attribute goes its type, mostly. */
const ATTRIBUTE = {
  bool: "b",
  long: "n",
  string: "s",
  entity: "e",
  longs: "__proto__",
  entities: "constructor",
  record: "r s",
  decimal: "dec",
  ip: "ip",
  datetime: "at",
  duration: "for",
} as const;
const TYPES = Object.keys(ATTRIBUTE) as readonly Type[];
const NAMES = [...Object.values(ATTRIBUTE), "toString", "absent"];
const DEEPEST = 4;
/** One in so many operands is of any type. */
const WRONG_ONE_IN = 60;

/** A name apart: an object with a literal `then` looks like a promise to the linters. */
const THEN = "then";

const ENTITY_TYPES = ["User", "Group", "N::Doc"];
const IDS = ["a", "b", "__proto__", "constructor"];
const TAGS = ["t", "u", "__proto__"];
const uid: fc.Arbitrary<Uid> = fc.record({
  type: fc.constantFrom(...ENTITY_TYPES),
  id: fc.constantFrom(...IDS),
});
const actionUid: fc.Arbitrary<Uid> = fc.record({
  type: fc.constant("Action"),
  id: fc.constantFrom("view", "edit", "all", "most"),
});

const long = fc.oneof(
  { weight: 5, arbitrary: fc.integer({ min: -3, max: 5 }) },
  { weight: 1, arbitrary: fc.constantFrom(2 ** 53 - 1, -(2 ** 53) + 1, 3_037_000_500) },
  { weight: 1, arbitrary: fc.constantFrom(2n ** 53n, -(2n ** 63n), 2n ** 63n - 1n, -(2n ** 53n)) },
);
const string = fc.constantFrom("", "a", "ab", "abab", "a*b", "ä😀b", "__proto__", "t");

/** What constructors take and what they do not. */
export const CONSTRUCTOR_TEXTS = {
  decimal: [
    "0.0",
    "1.2345",
    "-0.1",
    "1.23",
    "1.230",
    "922337203685477.5807",
    "-922337203685477.5808",
    "1",
    "1.23456",
    "922337203685477.5808",
    "+1.0",
  ],
  ip: [
    "10.0.0.1",
    "10.0.0.1/8",
    "10.0.0.0/8",
    "127.0.0.1",
    "127.0.0.1/7",
    "127.1.2.3/9",
    "224.0.0.1",
    "::1",
    "::1/127",
    "ff00::/8",
    "::",
    "1::/16",
    "1:0:0:0:0:0:0:0/16",
    "1:2:3:4:5:6:7::",
    "01.2.3.4",
    "1.2.3.4/33",
    "::ffff:1.2.3.4",
    "1.2.3.4/08",
  ],
  datetime: [
    "1970-01-01",
    "2024-02-29",
    "2024-02-29T23:59:59.999Z",
    "1969-12-31T23:59:59Z",
    "2024-01-01T00:00:00+0530",
    "2024-01-01T00:00:00.001-2359",
    "0000-01-01",
    "9999-12-31T23:59:59.999-2359",
    "2023-02-29",
    "2000-02-29",
    "1900-02-29",
    "2024-12-31T23:59:60Z",
    "2024-12-31T23:60:00Z",
    "2024-13-01",
    "2024-04-31",
    "2024-01-01T00:00:00+2400",
    "2024-01-01T24:00:00Z",
    "2024-01-01T00:00:00",
  ],
  duration: [
    "0ms",
    "1d",
    "-1d2h3m4s5ms",
    "36h",
    "1ms",
    "-1ms",
    "86400s",
    "9223372036854775807ms",
    "-9223372036854775808ms",
    "106751991167d",
    "9223372036854775808ms",
    "1h1d",
    "",
  ],
} as const;

type Extension = keyof typeof CONSTRUCTOR_TEXTS;
const textFor = (name: Extension) => fc.constantFrom(...CONSTRUCTOR_TEXTS[name]);
/** The first ones of each row are taken. */
const goodTextFor = (name: Extension) => fc.constantFrom(...CONSTRUCTOR_TEXTS[name].slice(0, 7));

/** A value in Cedar's JSON form, for an attribute or the context. */
const values: Readonly<Record<Type, Arb>> = {
  bool: fc.boolean(),
  long,
  string,
  entity: uid.map((__entity) => ({ __entity })),
  longs: fc.array(long, { maxLength: 12 }),
  entities: fc.array(
    uid.map((__entity) => ({ __entity })),
    { maxLength: 3 },
  ),
  record: fc.record({ n: long, s: string, "r s": fc.record({ n: long }) }, { requiredKeys: [] }),
  decimal: extensionValue("decimal"),
  ip: extensionValue("ip"),
  datetime: extensionValue("datetime"),
  duration: extensionValue("duration"),
};

function extensionValue(fn: Extension): Arb {
  return goodTextFor(fn).map((arg) => ({ __extn: { fn, arg } }));
}

const attributes: fc.Arbitrary<Record<string, unknown>> = fc
  .tuple(
    ...TYPES.map((type) =>
      fc.option(rarely(values[type], fc.oneof(...TYPES.map((other) => values[other]))), { freq: 15 }),
    ),
  )
  // defined, not assigned: __proto__ is one of the names
  .map((all) =>
    Object.fromEntries(
      TYPES.flatMap((type, at) => (all[at] === null ? [] : [[ATTRIBUTE[type], all[at]] as const])),
    ),
  );

function rarely(usual: Arb, other: Arb): Arb {
  return fc.oneof({ weight: WRONG_ONE_IN, arbitrary: usual }, { weight: 1, arbitrary: other });
}

const known = new Map<string, Arb>();

/** An operand of a type, or now and then of another one. */
function operand(type: Type, depth: number): Arb {
  return rarely(
    expr(type, depth),
    fc.constantFrom(...TYPES).chain((other) => expr(other, Math.min(depth, 1))),
  );
}

function expr(type: Type, depth: number): Arb {
  const key = `${type} ${depth}`;
  const made =
    known.get(key) ??
    fc.oneof(...(depth <= 0 ? leaves(type) : [...leaves(type), ...branches(type, depth - 1)]));
  known.set(key, made);
  return made;
}

function leaves(type: Type): Arb[] {
  const literal: Readonly<Record<Type, Arb>> = {
    bool: fc.boolean().map(value),
    long: long.map(value),
    string: string.map(value),
    entity: fc.oneof(
      uid.map((__entity) => value({ __entity })),
      fc.constantFrom("principal", "action", "resource").map((Var) => ({ Var })),
    ),
    longs: fc.array(long.map(value), { maxLength: 12 }).map(setOf),
    entities: fc
      .array(
        uid.map((__entity) => value({ __entity })),
        { maxLength: 3 },
      )
      .map(setOf),
    record: fc.oneof(fc.constant({ Var: "context" }), attributesExpr()),
    decimal: constructed("decimal"),
    ip: constructed("ip"),
    datetime: constructed("datetime"),
    duration: constructed("duration"),
  };
  const holder = fc.constantFrom("context", "principal", "resource").map((Var) => ({ Var }));
  const attr = fc.oneof(
    { weight: 8, arbitrary: fc.constant<string>(ATTRIBUTE[type]) },
    { weight: 1, arbitrary: fc.constantFrom(...NAMES) },
  );
  return [literal[type], get(holder, attr)];
}

function attributesExpr(): Arb {
  return fc
    .array(fc.tuple(fc.constantFrom(...NAMES), long.map(value)), { maxLength: 3 })
    .map((fields) => ({ Record: Object.fromEntries(fields) }));
}

function constructed(name: Extension): Arb {
  return fc
    .oneof({ weight: 6, arbitrary: goodTextFor(name) }, { weight: 1, arbitrary: textFor(name) })
    .map((text) => ({ [name]: [value(text)] }));
}

function branches(type: Type, depth: number): Arb[] {
  const of = (other: Type) => operand(other, depth);
  const choice = fc
    .tuple(of("bool"), of(type), of(type))
    .map(([test, yes, no]) => ({ "if-then-else": choiceOf(test, yes, no) }));
  const held = get(fc.oneof(of("record"), of("entity")), fc.constant<string>(ATTRIBUTE[type]));
  const tag = fc.tuple(of("entity"), tagName(depth)).map(([left, right]) => ({ getTag: { left, right } }));
  return [choice, held, tag, ...ofType(type, of, depth)];
}

function ofType(type: Type, of: (type: Type) => Arb, depth: number): Arb[] {
  const longMethods = ["toMilliseconds", "toSeconds", "toMinutes", "toHours", "toDays"];
  switch (type) {
    case "bool":
      return boolBranches(of, depth);
    case "long":
      return [
        ...["+", "-", "*"].map((op) => binary(op, of("long"), of("long"))),
        unary("neg", of("long")),
        ...longMethods.map((name) => call(name, of("duration"))),
      ];
    case "longs":
      return [fc.array(of("long"), { maxLength: 4 }).map(setOf)];
    case "entities":
      return [fc.array(of("entity"), { maxLength: 4 }).map(setOf)];
    case "record":
      return [
        fc.tuple(of("long"), of("string"), of("record")).map(([n, s, r]) => ({
          Record: { [ATTRIBUTE.long]: n, [ATTRIBUTE.string]: s, [ATTRIBUTE.record]: r },
        })),
      ];
    case "datetime":
      return [call("offset", of("datetime"), of("duration")), call("toDate", of("datetime"))];
    case "duration":
      return [call("durationSince", of("datetime"), of("datetime")), call("toTime", of("datetime"))];
    case "decimal":
    case "ip":
      return [call(type, of("string"))];
    case "string":
    case "entity":
      return [];
  }
}

function boolBranches(of: (type: Type) => Arb, depth: number): Arb[] {
  const any = fc.constantFrom(...TYPES).chain(of);
  const sameType = fc.constantFrom(...TYPES).chain((type) => fc.tuple(of(type), of(type)));
  const comparable = fc
    .constantFrom<Type>("long", "datetime", "duration")
    .chain((type) => fc.tuple(of(type), of(type)));
  const entityType = fc.constantFrom(...ENTITY_TYPES, "Action");
  return [
    ...["&&", "||"].map((op) => binary(op, of("bool"), of("bool"))),
    unary("!", of("bool")),
    ...["==", "!="].map((op) => sameType.map(([left, right]) => ({ [op]: { left, right } }))),
    binary("==", any, any),
    ...["<", "<=", ">", ">="].map((op) => comparable.map(([left, right]) => ({ [op]: { left, right } }))),
    binary("in", of("entity"), fc.oneof(of("entity"), of("entities"))),
    fc.tuple(of("entity"), entityType).map(([left, entity_type]) => ({ is: { left, entity_type } })),
    fc
      .tuple(of("entity"), entityType, fc.oneof(of("entity"), of("entities")))
      .map(([left, entity_type, within]) => ({ is: { left, entity_type, in: within } })),
    fc
      .tuple(fc.oneof(of("record"), of("entity")), fc.constantFrom(...NAMES))
      .map(([left, attr]) => ({ has: { left, attr } })),
    fc
      .tuple(
        fc.oneof(of("record"), of("entity")),
        fc.array(fc.constantFrom(...NAMES, "n"), { minLength: 1, maxLength: 3 }),
      )
      .map(([left, attr]) => ({ has: { left, attr } })),
    fc.tuple(of("string"), pattern()).map(([left, parts]) => ({ like: { left, pattern: parts } })),
    binary("contains", of("longs"), of("long")),
    binary("contains", of("entities"), of("entity")),
    ...["containsAll", "containsAny"].flatMap((op) => [
      binary(op, of("longs"), of("longs")),
      binary(op, of("entities"), of("entities")),
    ]),
    unary("isEmpty", fc.oneof(of("longs"), of("entities"))),
    binary("hasTag", of("entity"), tagName(depth)),
    ...["isIpv4", "isIpv6", "isLoopback", "isMulticast"].map((name) => call(name, of("ip"))),
    call("isInRange", of("ip"), of("ip")),
    ...["lessThan", "lessThanOrEqual", "greaterThan", "greaterThanOrEqual"].map((name) =>
      call(name, of("decimal"), of("decimal")),
    ),
  ];
}

function tagName(depth: number): Arb {
  return fc.oneof(fc.constantFrom(...TAGS).map(value), operand("string", depth));
}

function pattern(): fc.Arbitrary<readonly unknown[]> {
  const literal = fc.constantFrom("a", "b", "ab", "*", "ä", "😀", "").map((Literal) => ({ Literal }));
  return fc.array(fc.oneof(fc.constant("Wildcard"), literal), { maxLength: 5 });
}

function value(Value: unknown): unknown {
  return { Value };
}

function get(left: Arb, attr: fc.Arbitrary<string>): Arb {
  return fc.tuple(left, attr).map(([holder, name]) => ({ ".": { left: holder, attr: name } }));
}

function unary(op: string, arg: Arb): Arb {
  return arg.map((inner) => ({ [op]: { arg: inner } }));
}

function binary(op: string, left: Arb, right: Arb): Arb {
  return fc.tuple(left, right).map(([a, b]) => ({ [op]: { left: a, right: b } }));
}

function call(name: string, ...args: readonly Arb[]): Arb {
  return fc.tuple(...args).map((all) => ({ [name]: all }));
}

function setOf(items: readonly unknown[]): unknown {
  return { Set: items };
}

function choiceOf(test: unknown, yes: unknown, no: unknown): unknown {
  return { if: test, [THEN]: yes, else: no };
}

/** A head; with a slot it belongs to a template. */
function scope(slot: string | null): Arb {
  const target = slot === null ? uid.map((entity) => ({ entity })) : fc.constant({ slot });
  const others = [
    target.map((to) => ({ op: "==", ...to })),
    target.map((to) => ({ op: "in", ...to })),
    fc
      .tuple(fc.constantFrom(...ENTITY_TYPES), target)
      .map(([entity_type, within]) => ({ op: "is", entity_type, in: within })),
  ];
  if (slot !== null) return fc.oneof(...others);
  const open = fc.constant({ op: "All" });
  const is = fc.constantFrom(...ENTITY_TYPES).map((entity_type) => ({ op: "is", entity_type }));
  return fc.oneof(
    { weight: 6, arbitrary: open },
    ...[...others, is].map((arbitrary) => ({ weight: 1, arbitrary })),
  );
}

const actionScope: Arb = fc.oneof(
  { weight: 3, arbitrary: fc.constant({ op: "All" }) },
  { weight: 1, arbitrary: actionUid.map((entity) => ({ op: "==", entity })) },
  { weight: 1, arbitrary: actionUid.map((entity) => ({ op: "in", entity })) },
  { weight: 1, arbitrary: fc.array(actionUid, { maxLength: 3 }).map((entities) => ({ op: "in", entities })) },
);

function policy(principalSlot: boolean, resourceSlot: boolean): Arb {
  const condition = fc.record({
    kind: fc.constantFrom("when", "when", "unless"),
    body: fc.integer({ min: 1, max: DEEPEST }).chain((depth) => operand("bool", depth)),
  });
  return fc.record({
    effect: fc.constantFrom("permit", "forbid"),
    principal: scope(principalSlot ? "?principal" : null),
    action: actionScope,
    resource: scope(resourceSlot ? "?resource" : null),
    conditions: fc.array(condition, { minLength: 0, maxLength: 2 }),
  });
}

const link = fc
  .tuple(fc.boolean(), fc.boolean(), uid, uid)
  .filter(([principal, resource]) => principal || resource)
  .chain(([principal, resource, one, other]) =>
    policy(principal, resource).map((template) => ({
      template,
      values: { ...(principal ? { "?principal": one } : {}), ...(resource ? { "?resource": other } : {}) },
    })),
  );

const policySet = fc
  .tuple(fc.array(policy(false, false), { minLength: 1, maxLength: 12 }), fc.array(link, { maxLength: 2 }))
  .map(([policies, links]) => ({
    staticPolicies: Object.fromEntries(policies.map((one, at) => [`p${at}`, one])),
    templates: Object.fromEntries(links.map(({ template }, at) => [`t${at}`, template])),
    templateLinks: links.map(({ values }, at) => ({ templateId: `t${at}`, newId: `l${at}`, values })),
  }));

const entity = fc.record({
  uid,
  attrs: attributes,
  parents: fc.array(uid, { maxLength: 2 }),
  tags: fc.dictionary(fc.constantFrom(...TAGS), fc.oneof(values.long, values.string), {
    maxKeys: 2,
    noNullPrototype: true,
  }),
});

/** Mostly without cycles: a parent is of a later name. */
const entities = fc
  .tuple(
    fc.uniqueArray(entity, { minLength: 5, maxLength: 10, selector: (one) => JSON.stringify(one.uid) }),
    fc.boolean(),
    fc.integer({ min: 0, max: 15 }),
  )
  .map(([all, groups, cyclic]) => {
    const rank = ({ type, id }: Uid) => `${type} ${id}`;
    const ranked = all.map((one) => ({
      ...one,
      parents: cyclic === 0 ? one.parents : one.parents.filter((parent) => rank(parent) > rank(one.uid)),
    }));
    const action = (id: string, parents: readonly string[]) => ({
      uid: { type: "Action", id },
      attrs: {},
      parents: parents.map((parent) => ({ type: "Action", id: parent })),
    });
    const actions = [action("view", ["most"]), action("edit", ["all"]), action("most", ["all"])];
    return [...ranked, ...(groups ? actions : [])];
  });

const request: fc.Arbitrary<Asked> = fc.record({
  principal: uid,
  action: actionUid,
  resource: uid,
  context: attributes,
});

/** Policies, entities, and several requests on them. */
export const world: fc.Arbitrary<World> = fc.record({
  policies: policySet,
  entities,
  requests: fc.array(request, { minLength: 4, maxLength: 4 }),
});
