/**
 * What a sensor saw. A signal is data: a kind, and the facts that kind has. Tripwires match on them.
 * The table is the whole vocabulary: a tripwire that names a fact its kind does not have is refused when loaded.
 */
export const SIGNAL_FACTS = {
  /** A watched file or something in a watched directory. path: absolute; change: FileChange. */
  "file.changed": ["path", "change"],
  /** Our own configuration, key or program files. part: config | key | program | baseline | canary. */
  "self.changed": ["path", "part", "change"],
  /** change: added | removed | up | down. */
  "network.link": ["interface", "change"],
  /** change: added | removed. family: ipv4 | ipv6. */
  "network.address": ["interface", "address", "family", "change"],
  /** change: added | removed. via is "" for an on-link route. */
  "network.route": ["interface", "destination", "via", "change"],
  /** change: attached | detached. vendor, product: four hex digits. classes: interface classes, "08:06:50 03:01:01". */
  "usb.device": ["change", "port", "vendor", "product", "classes"],
  /**
   * Keys were pressed as no person presses them. id: "046d:c31c". keys: so many key-downs, within so many milliseconds.
   * why: too fast | too regular. Which keys they were is nowhere known.
   */
  "usb.keystrokes": ["port", "id", "keys", "milliseconds", "why"],
  /** Somebody else changed the kernel's authorisation of USB. what: device | interface | default. */
  "usb.changed": ["port", "what", "detail"],
  /** change: step | drift. milliseconds: signed, wall clock minus boot clock. */
  "clock.moved": ["change", "milliseconds"],
  /** Somebody else changed our nftables tables, or did and took it back. what: missing | differs | dead-man. */
  "rules.changed": ["what", "detail"],
  /** Somebody else put something beside our tables. what: table | flowtable | forward | earlier-chain; table: "inet filter". */
  "rules.foreign": ["what", "table", "detail"],
  /** Our own log. log: core | audit (the audit stream). what: write-failed | replaced | truncated | grown | broken. */
  "log.damaged": ["log", "what", "detail"],
  /** The compiled policies and Cedar answered differently. digest: of the set. */
  "policy.disagreed": ["digest", "detail"],
  /** A sensor cannot see. sensor: files | network | usb | keys | rules | clock. */
  "sensor.blind": ["sensor", "why"],
  /** Somebody was refused again and again: looks for a way through. tokenId: "" without one. milliseconds: within so many. */
  "peer.probing": ["uid", "tokenId", "denials", "milliseconds"],
  /** The self-test's own, to see that an event becomes a record. */
  "selftest.event": ["nonce"],
} as const;

export type SignalKind = keyof typeof SIGNAL_FACTS;

export type FileChange = "modified" | "replaced" | "deleted" | "created" | "metadata" | "touched";

export type Facts = Readonly<Record<string, string>>;

export type Signal = {
  readonly kind: SignalKind;
  readonly facts: Facts;
  /** CLOCK_MONOTONIC, nanoseconds, when the sensor read it. */
  readonly seenNs: bigint;
};

export const SIGNAL_KINDS = Object.keys(SIGNAL_FACTS) as readonly SignalKind[];

/** Equal for repeats of one cause: kind and facts, in the vocabulary's order. */
export function signalKey(signal: Signal): string {
  const names: readonly string[] = SIGNAL_FACTS[signal.kind];
  return JSON.stringify([signal.kind, ...names.map((name) => signal.facts[name] ?? "")]);
}
