import { failure } from "./cedar-failure.ts";
import { isInRange, isLoopback, isMulticast, parseIp } from "./cedar-ip.ts";
import { addLong, divideLong, type Long, longOf, moduloLong, subtractLong } from "./cedar-long.ts";
import { parseDatetime, parseDuration } from "./cedar-time.ts";
import type { Value } from "./cedar-value.ts";

/** One function of a Cedar extension. `call` is given as many arguments as `arity` says, and throws a Failure. */
export type ExtensionFunction = { readonly arity: number; readonly call: (args: readonly Value[]) => Value };

type Kind = Extract<Value, { kind: string }>["kind"];
type OfKind<K extends Kind> = Extract<Value, { kind: K }>;

const DAY_MS = 86_400_000;
const DECIMAL = /^(-?)([0-9]+)\.([0-9]+)$/;
const DECIMAL_PLACES = 4;

/** All functions of the extensions decimal, ipaddr and datetime, by name. What is not here is no function. */
export const EXTENSION_FUNCTIONS: ReadonlyMap<string, ExtensionFunction> = new Map<string, ExtensionFunction>(
  [
    ["decimal", fromText(parseDecimal)],
    ["lessThan", compared("decimal", (a, b) => a.scaled < b.scaled)],
    ["lessThanOrEqual", compared("decimal", (a, b) => a.scaled <= b.scaled)],
    ["greaterThan", compared("decimal", (a, b) => a.scaled > b.scaled)],
    ["greaterThanOrEqual", compared("decimal", (a, b) => a.scaled >= b.scaled)],

    ["ip", fromText(parseIp)],
    ["isIpv4", of("ipaddr", (ip) => ip.version === 4)],
    ["isIpv6", of("ipaddr", (ip) => ip.version === 6)],
    ["isLoopback", of("ipaddr", isLoopback)],
    ["isMulticast", of("ipaddr", isMulticast)],
    ["isInRange", compared("ipaddr", isInRange)],

    ["datetime", fromText(parseDatetime)],
    ["duration", fromText(parseDuration)],
    [
      "offset",
      {
        arity: 2,
        call: ([at, by]) => {
          const { ms } = needs("datetime", at);
          return { kind: "datetime", ms: fits(addLong(ms, needs("duration", by).ms), "offset") };
        },
      },
    ],
    [
      "durationSince",
      {
        arity: 2,
        call: ([at, since]) => {
          const { ms } = needs("datetime", at);
          return {
            kind: "duration",
            ms: fits(subtractLong(ms, needs("datetime", since).ms), "durationSince"),
          };
        },
      },
    ],
    [
      "toDate",
      of("datetime", ({ ms }) => ({
        kind: "datetime",
        ms: fits(subtractLong(ms, moduloLong(ms, DAY_MS)), "toDate"),
      })),
    ],
    ["toTime", of("datetime", ({ ms }) => ({ kind: "duration", ms: moduloLong(ms, DAY_MS) }))],
    ["toMilliseconds", of("duration", ({ ms }) => ms)],
    ["toSeconds", of("duration", ({ ms }) => divideLong(ms, 1_000))],
    ["toMinutes", of("duration", ({ ms }) => divideLong(ms, 60_000))],
    ["toHours", of("duration", ({ ms }) => divideLong(ms, 3_600_000))],
    ["toDays", of("duration", ({ ms }) => divideLong(ms, DAY_MS))],
  ],
);

/** The constructor for text of an extension type as a schema names it ("ipaddr"); undefined when there is none. */
export function constructorOf(typeName: string): ExtensionFunction | undefined {
  const name = typeName === "ipaddr" ? "ip" : typeName;
  return ["ip", "decimal", "datetime", "duration"].includes(name) ? EXTENSION_FUNCTIONS.get(name) : undefined;
}

function parseDecimal(text: string): Value {
  const [, sign, whole = "", places = ""] = DECIMAL.exec(text) ?? [];
  if (sign === undefined) throw failure(`not a decimal: ${JSON.stringify(text)}`);
  if (places.length > DECIMAL_PLACES)
    throw failure(`a decimal has at most ${DECIMAL_PLACES} places: ${JSON.stringify(text)}`);
  const scaled = longOf(BigInt(`${sign}${whole}${places.padEnd(DECIMAL_PLACES, "0")}`));
  return { kind: "decimal", scaled: fits(scaled, "decimal") };
}

function fromText(parse: (text: string) => Value): ExtensionFunction {
  return {
    arity: 1,
    call: ([text]) => {
      if (typeof text !== "string") throw failure("type error: expected a string");
      return parse(text);
    },
  };
}

function of<K extends Kind>(kind: K, call: (value: OfKind<K>) => Value): ExtensionFunction {
  return { arity: 1, call: ([value]) => call(needs(kind, value)) };
}

function compared<K extends Kind>(kind: K, call: (a: OfKind<K>, b: OfKind<K>) => boolean): ExtensionFunction {
  return { arity: 2, call: ([a, b]) => call(needs(kind, a), needs(kind, b)) };
}

function needs<K extends Kind>(kind: K, value: Value | undefined): OfKind<K> {
  if (typeof value !== "object" || value.kind !== kind) throw failure(`type error: expected ${kind}`);
  return value as OfKind<K>;
}

function fits(long: Long | null, where: string): Long {
  if (long === null) throw failure(`overflow in ${where}`);
  return long;
}

export function isExtensionFunction(name: string): boolean {
  return EXTENSION_FUNCTIONS.has(name);
}
