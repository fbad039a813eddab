import { z } from "zod";
import { ACTIONS, VERB_ACTIONS } from "../core/access.ts";
import { ROLES } from "../core/roles.ts";

/** What a value has to be. An entity of an enumerated type is one of its names. */
export type ValueType =
  | { readonly kind: "String" | "Long" | "Bool" | "ipaddr" | "decimal" | "datetime" | "duration" }
  | { readonly kind: "Set"; readonly of: ValueType }
  | { readonly kind: "Entity"; readonly type: string };

export type Attribute = { readonly type: ValueType; readonly required: boolean };

export type EntityShape = {
  /** The only ids it has; null when any will do. */
  readonly names: ReadonlySet<string> | null;
  readonly parents: ReadonlySet<string>;
  readonly attributes: ReadonlyMap<string, Attribute>;
};

/** What a schema says of entities and actions: enough to build and check a question. */
export type Shapes = {
  readonly entities: ReadonlyMap<string, EntityShape>;
  readonly actions: ReadonlyMap<
    string,
    { readonly principals: ReadonlySet<string>; readonly resources: ReadonlySet<string> }
  >;
};

/** Who can ask. */
export const PRINCIPAL_TYPES = ["User", "Service", "Agent"] as const;
export type PrincipalType = (typeof PRINCIPAL_TYPES)[number];
export const ROLE_NAMES = ["readonly", "operator", "admin", "auditor"] as const;

/** What the daemon sends as context, by the type a schema has to give it. */
const CONTEXT: Readonly<Record<string, string>> = {
  wanted: "ModeName",
  applied: "ModeName",
  privilege: "Long",
  isolation: "Long",
  assurance: "Assurance",
  frozen: "Bool",
  trustedInterfaces: "Set<String>",
  leases: "Set<String>",
  taint: "Set<Taint>",
  time: "datetime",
  approved: "Bool",
  token: "Bool",
};
/** What the daemon says of these in its own words; a schema may not know fewer of them. */
const NAMES: Readonly<Record<string, readonly string[]>> = {
  Role: ROLE_NAMES,
  ModeName: ["OPEN", "RESTRICTED", "TRUSTED", "AIRGAP", "COLDROOM", "LOCKDOWN", "UNKNOWN"],
  Assurance: ["enforced", "observed", "failed"],
  TokenRole: ROLES,
};

/** What the daemon says of a principal or a resource in its own words: the type that a schema has to give it, if any. */
const FILLED_IN: readonly {
  readonly attribute: string;
  readonly of: string | null;
  readonly type: string;
}[] = [
  { attribute: "registered", of: null, type: "Bool" },
  { attribute: "path", of: "File", type: "String" },
  { attribute: "host", of: "Host", type: "String" },
  { attribute: "program", of: "Command", type: "String" },
  { attribute: "rank", of: "Mode", type: "Long" },
];

/** What the daemon says of what its verbs are about: attributes that a schema has to give these types. */
const OF_VERBS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  Mode: { rank: "Long" },
  Token: { role: "TokenRole", forMs: "Long" },
  Lease: { forMs: "Long", holder: "String" },
  Approval: { holder: "String" },
  Usb: { port: "String", hash: "String", storage: "Bool", permanent: "Bool" },
  Vault: { workspace: "Workspace", item: "String" },
};

type RawType = {
  readonly type: string;
  readonly name?: string | undefined;
  readonly element?: RawType | undefined;
  readonly attributes?: Readonly<Record<string, RawAttribute>> | undefined;
};
type RawAttribute = RawType & { readonly required?: boolean | undefined };

const Raw: z.ZodType<RawAttribute> = z.lazy(() =>
  z.object({
    type: z.string(),
    name: z.string().optional(),
    element: Raw.optional(),
    attributes: z.record(z.string(), Raw).optional(),
    required: z.boolean().optional(),
  }),
);
const SchemaJson = z.record(
  z.string(),
  z.object({
    commonTypes: z.record(z.string(), Raw).default({}),
    entityTypes: z.record(
      z.string(),
      z.object({
        memberOfTypes: z.array(z.string()).default([]),
        shape: Raw.optional(),
        tags: z.unknown().optional(),
        enum: z.array(z.string()).optional(),
      }),
    ),
    actions: z.record(
      z.string(),
      z.object({
        memberOf: z.array(z.unknown()).default([]),
        appliesTo: z
          .object({
            principalTypes: z.array(z.string()),
            resourceTypes: z.array(z.string()),
            context: Raw.optional(),
          })
          .optional(),
      }),
    ),
  }),
);

/**
 * Reads Cedar's JSON form of a schema (types resolved). A schema may add types and attributes, but has to have the words
 * that the daemon uses: its actions, principals, roles and context. Says what is missing as text.
 */
export function readShapes(
  json: unknown,
): { readonly shapes: Shapes } | { readonly problems: readonly string[] } {
  const read = SchemaJson.safeParse(json);
  if (!read.success) return { problems: ["the schema's JSON form is not as expected"] };
  const problems: string[] = [];
  const spaces = Object.keys(read.data);
  if (spaces.length !== 1 || spaces[0] !== "") return { problems: ["the schema takes no namespaces"] };
  const { commonTypes, entityTypes, actions } = read.data[""] ?? {
    commonTypes: {},
    entityTypes: {},
    actions: {},
  };

  function typeOf(raw: RawType, where: string, depth = 0): ValueType | null {
    if (depth > 16) return null;
    switch (raw.type) {
      case "String":
      case "Long":
      case "Bool":
      case "ipaddr":
      case "decimal":
      case "datetime":
      case "duration":
        return { kind: raw.type };
      case "Boolean":
        return { kind: "Bool" };
      case "Extension":
        return typeOf({ type: raw.name ?? "" }, where, depth + 1);
      case "Entity":
        // an action is no value: not every name would be one
        return Object.hasOwn(entityTypes, raw.name ?? "") ? { kind: "Entity", type: raw.name ?? "" } : null;
      case "Set": {
        const of = raw.element === undefined ? null : typeOf(raw.element, where, depth + 1);
        return of === null ? null : { kind: "Set", of };
      }
      default: {
        const common = Object.hasOwn(commonTypes, raw.type) ? commonTypes[raw.type] : undefined;
        return common === undefined ? null : typeOf(common, where, depth + 1);
      }
    }
  }

  function attributesOf(raw: RawType | undefined, where: string): ReadonlyMap<string, Attribute> {
    const record = recordOf(raw, commonTypes);
    const found = new Map<string, Attribute>();
    for (const [name, attribute] of Object.entries(record)) {
      const type = typeOf(attribute, where);
      if (type === null)
        problems.push(`${where}: ${name}: an attribute is a plain value, an entity or a set of them`);
      else found.set(name, { type, required: attribute.required ?? true });
    }
    return found;
  }

  const entities = new Map<string, EntityShape>();
  for (const [name, entity] of Object.entries(entityTypes)) {
    entities.set(name, {
      names: entity.enum === undefined ? null : new Set(entity.enum),
      parents: new Set(entity.memberOfTypes),
      attributes: attributesOf(entity.shape, `entity ${name}`),
    });
  }
  const known = new Map<string, { principals: ReadonlySet<string>; resources: ReadonlySet<string> }>();
  for (const [name, { appliesTo, memberOf }] of Object.entries(actions)) {
    if (appliesTo === undefined) continue; // a group of actions: nobody asks for it
    if (memberOf.length > 0) problems.push(`action "${name}": actions are in no groups`);
    known.set(name, {
      principals: new Set(appliesTo.principalTypes),
      resources: new Set(appliesTo.resourceTypes),
    });
    problems.push(...contextProblems(name, attributesOf(appliesTo.context, `action "${name}"`)));
  }
  problems.push(...missingWords(entities, known), ...filledInProblems(entities, known));
  return problems.length === 0 ? { shapes: { entities, actions: known } } : { problems };
}

function recordOf(
  raw: RawType | undefined,
  commonTypes: Readonly<Record<string, RawType>>,
  depth = 0,
): Readonly<Record<string, RawAttribute>> {
  if (raw === undefined || depth > 16) return {};
  if (raw.type === "Record") return raw.attributes ?? {};
  return recordOf(
    Object.hasOwn(commonTypes, raw.type) ? commonTypes[raw.type] : undefined,
    commonTypes,
    depth + 1,
  );
}

function contextProblems(action: string, context: ReadonlyMap<string, Attribute>): readonly string[] {
  const wrong = Object.entries(CONTEXT).filter(([name, type]) => {
    const attribute = context.get(name);
    return attribute === undefined || describeType(attribute.type) !== type;
  });
  const more = [...context].filter(([name, { required }]) => required && !Object.hasOwn(CONTEXT, name));
  return [
    ...wrong.map(([name, type]) => `action "${action}": its context has to have ${name}: ${type}`),
    ...more.map(([name]) => `action "${action}": the daemon has no ${name} to put into its context`),
  ];
}

function missingWords(entities: Shapes["entities"], actions: Shapes["actions"]): readonly string[] {
  const missing = [...ACTIONS, ...Object.keys(VERB_ACTIONS)].filter((name) => !actions.has(name));
  const names = Object.entries(NAMES).flatMap(([type, wanted]) =>
    wanted
      .filter((name) => !entities.get(type)?.names?.has(name))
      .map((name) => `entity ${type} enum has to have "${name}"`),
  );
  const principals = PRINCIPAL_TYPES.flatMap((type) => {
    const shape = entities.get(type);
    if (shape === undefined) return [`entity ${type} is missing`];
    const parents = ["Role", "Group", "Workspace"].filter((parent) => !shape.parents.has(parent));
    const extra = [...shape.attributes].filter(([name, { required }]) => required && name !== "registered");
    return [
      ...parents.map((parent) => `entity ${type} has to be in ${parent}`),
      ...extra.map(([name]) => `entity ${type}: the daemon knows no ${name} of it`),
    ];
  });
  return [
    ...missing.map((name) => `action "${name}" is missing`),
    ...names,
    ...principals,
    ...verbProblems(entities, actions),
  ];
}

/** A verb that could not be put into a schema's words would never be permitted: said when it is loaded, not when it is needed. */
function verbProblems(entities: Shapes["entities"], actions: Shapes["actions"]): readonly string[] {
  const about = Object.entries(VERB_ACTIONS).flatMap(([name, wireType]) => {
    const type = wireType.charAt(0).toUpperCase() + wireType.slice(1);
    const known = actions.get(name);
    if (known === undefined) return []; // that is said
    const principals = PRINCIPAL_TYPES.filter((each) => !known.principals.has(each));
    return [
      ...(known.resources.has(type) ? [] : [`action "${name}" has to be about ${type}`]),
      ...principals.map((each) => `action "${name}" has to be for a ${each}`),
    ];
  });
  const said = Object.entries(OF_VERBS).flatMap(([type, attributes]) => {
    const shape = entities.get(type)?.attributes;
    const wrong = Object.entries(attributes).filter(([name, wanted]) => {
      const has = shape?.get(name);
      return has === undefined || describeType(has.type) !== wanted;
    });
    const more = [...(shape ?? [])].filter(
      ([name, { required }]) => required && name !== "registered" && !Object.hasOwn(attributes, name),
    );
    return [
      ...wrong.map(([name, wanted]) => `entity ${type} has to have ${name}: ${wanted}`),
      ...more.map(([name]) => `entity ${type}: the daemon knows no ${name} of it`),
    ];
  });
  return [...about, ...said];
}

/** Of those that can ask or be asked about. Cedar would not take a question with an attribute of another type. */
function filledInProblems(entities: Shapes["entities"], actions: Shapes["actions"]): readonly string[] {
  const asked = new Set<string>(PRINCIPAL_TYPES);
  for (const { resources } of actions.values()) for (const type of resources) asked.add(type);
  return [...asked].flatMap((entity) =>
    FILLED_IN.flatMap(({ attribute, of, type }) => {
      const has = of === null || of === entity ? entities.get(entity)?.attributes.get(attribute) : undefined;
      return has === undefined || describeType(has.type) === type
        ? []
        : [`entity ${entity}: ${attribute}, which the daemon fills in, has to be a ${type}`];
    }),
  );
}

/** Whether there is such an entity: of an enumerated type there are its names alone. */
export function isNamed(shapes: Shapes, type: string, id: string): boolean {
  return shapes.entities.get(type)?.names?.has(id) ?? true;
}

/** As it is written in a schema. */
export function describeType(type: ValueType): string {
  if (type.kind === "Set") return `Set<${describeType(type.of)}>`;
  return type.kind === "Entity" ? type.type : type.kind;
}
