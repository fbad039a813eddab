import type { KnownUsb } from "./core/usb-memory.ts";
import {
  decideUsb,
  isHub,
  isInputDevice,
  isStorage,
  storageDriverOf,
  type UsbQuestion,
  type UsbSubject,
  type UsbVerdict,
} from "./core/usb-policy.ts";
import type { UsbLook, UsbState } from "./ports.ts";

/** One plugging-in of one device, and what is known of it. Only the control (usb.ts) writes to it. */
export type HeldUsb = {
  readonly plug: string;
  /** Of what it said when it was read last. */
  key: string;
  /** Monotonic clock, milliseconds: when it was seen first. */
  readonly sinceMs: number;
  /** As it was seen last, or brought to since. */
  look: UsbLook;
  standing: UsbQuestion["standing"];
  verdict: UsbVerdict;
  /** Whether the kernel has confirmed the verdict. */
  confirmed: boolean;
  recorded: "no" | "on-its-way" | "yes";
  /** Why it is not as it should be; "" when it is. */
  failure: string;
  /** Asks for a new decision. */
  stale: boolean;
  /** Interfaces that a storage driver has taken once: what they are does not change when it is taken away. */
  readonly storage: Map<string, string>;
  /** For the conditions of rules: what had happened before it was plugged in. */
  readonly history: {
    readonly applied: ReadonlyMap<string, number>;
    readonly evaluated: ReadonlyMap<string, number>;
  };
};

const UNDECIDED: UsbVerdict = {
  device: "block",
  interfaces: [],
  rule: "",
  why: "not decided yet",
  validUntilMs: null,
};

/** A device that nothing has been decided about. */
export function newHeld(
  given: Pick<HeldUsb, "plug" | "key" | "sinceMs" | "look" | "standing" | "history">,
): HeldUsb {
  return {
    ...given,
    verdict: UNDECIDED,
    confirmed: false,
    recorded: "no",
    failure: "",
    stale: true,
    storage: new Map(),
  };
}

export function isController({ port }: Pick<UsbLook, "port">): boolean {
  return port.startsWith("usb");
}

/** What is to be decided about: what the descriptors tell, with the drivers that the kernel has bound. */
export function subjectOf({ look, storage }: Pick<HeldUsb, "look" | "storage">): UsbSubject {
  const known = storageDriverOf(look.facts.id);
  const driver = (name: string) =>
    storage.get(name) ?? (known || (look.interfaces.find((one) => one.name === name)?.driver ?? ""));
  return {
    facts: look.facts,
    controller: isController(look),
    interfaces: look.described.map((one) => ({ ...one, driver: driver(one.name) })),
    problem: look.problem,
    authorized: look.authorized === true,
  };
}

/** Keeps in mind which interfaces a storage driver has now. */
export function noticeStorage({ look, storage }: Pick<HeldUsb, "look" | "storage">): void {
  for (const { name, driver } of look.interfaces)
    if (isStorage({ name, codes: [], driver })) storage.set(name, driver);
}

/** Whether both say the same, until whenever. */
export function isSameVerdict(a: UsbVerdict, b: UsbVerdict): boolean {
  return verdictText(a) === verdictText(b);
}

function verdictText({ device, interfaces, rule, why }: UsbVerdict): string {
  return JSON.stringify([device, interfaces, rule, why]);
}

/** Equal for decisions that one record stands for. */
export function decisionKey({ look, key, verdict }: HeldUsb, mode: string): string {
  const { device, interfaces, rule, why } = verdict;
  const bits = interfaces.map(({ allow }) => (allow ? "1" : "0")).join("");
  return JSON.stringify([look.port, key, device, bits, rule, why, mode]);
}

export function driversOf({ interfaces }: UsbState): string {
  return JSON.stringify(interfaces.map(({ name, driver }) => [name, driver]));
}

export function knownOf(one: Pick<HeldUsb, "plug" | "key" | "look" | "storage">): KnownUsb {
  const { plug, key, look } = one;
  const subject = subjectOf(one);
  const kind = isInputDevice(subject) ? "input" : isHub(subject) ? "hub" : "other";
  return { port: look.port, id: look.facts.id, key, plug, authorized: look.authorized === true, kind };
}

/** Whether it says something else of itself than before: sysfs has some of it only a moment later. */
export function saysOther(before: UsbLook, now: UsbLook): boolean {
  const said = ({ facts, described, problem }: UsbLook) => JSON.stringify([facts, described, problem]);
  return said(before) !== said(now);
}

/** Whether something of it could not be read that may be there later. */
export function isUnread({ look }: Pick<HeldUsb, "look">): boolean {
  return !isController(look) && (look.problem !== null || look.facts.connectType === "");
}

/** Whether the kernel holds something else of it than before. */
export function hasChanged(before: UsbState, now: UsbState): boolean {
  const bare = ({ authorized, interfaces, defaults }: UsbState) =>
    JSON.stringify([authorized, interfaces, defaults]);
  return bare(before) !== bare(now);
}

/** As it is once the kernel has confirmed this. */
export function broughtTo(look: UsbLook, isOn: boolean, lets: (name: string) => boolean): UsbLook {
  const interfaces = isOn ? look.interfaces.map((each) => ({ ...each, authorized: lets(each.name) })) : [];
  return { ...look, authorized: isOn, interfaces };
}

/** Whether any of it would be refused. */
export function refusesAny(question: UsbQuestion): UsbVerdict | null {
  const verdict = decideUsb({ ...question, hold: "enforcing" });
  const isWhole = verdict.device === "allow" && verdict.interfaces.every(({ allow }) => allow);
  return isWhole ? null : verdict;
}
