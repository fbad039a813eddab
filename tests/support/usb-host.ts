import { createHash } from "node:crypto";
import type { Entry } from "../../daemon/audit/record.ts";
import type { Hold } from "../../daemon/core/hold.ts";
import type { Mode } from "../../daemon/core/mode.ts";
import { redactValue } from "../../daemon/core/redact.ts";
import type { Signal } from "../../daemon/core/signal.ts";
import { readUsbMemory, type UsbMemory } from "../../daemon/core/usb-memory.ts";
import { parseUsbRules } from "../../daemon/core/usb-rule-parse.ts";
import type { KeyboardChallenge, UsbRulesStore } from "../../daemon/ports.ts";
import { createUsbControl, type UsbControl } from "../../daemon/usb.ts";
import { createUsbChallenges } from "../../daemon/usb-challenges.ts";
import { createUsbPeople, type UsbPeople } from "../../daemon/usb-people.ts";
import { createRulebook } from "../../daemon/usb-rulebook.ts";
import { type FakeDevice, FakeUsb } from "./fake-usb.ts";
import { FakeClock, settled } from "./host.ts";

const ALLOW_ALL = "allow";

/** The permanent rules in memory. */
export class FakeRulesStore implements UsbRulesStore {
  readonly path = "/state/usb.rules";
  text: string | null = null;
  next: string | null = null;

  load(isSigned: (text: string) => boolean): ReturnType<UsbRulesStore["load"]> {
    for (const text of [this.text, this.next])
      if (text !== null && isSigned(text)) return { kind: "rules", text };
    return this.text === null ? { kind: "missing" } : { kind: "unreadable", why: "not signed" };
  }

  prepare(text: string): void {
    this.next = text;
  }

  commit(): void {
    this.text = this.next;
    this.next = null;
  }
}

type Options = {
  readonly mode?: Mode;
  readonly hold?: Hold;
  readonly rules?: string;
  readonly usb?: FakeUsb;
  readonly store?: FakeRulesStore;
  readonly memory?: UsbMemory | null;
  readonly clock?: FakeClock;
  /** What is missing for enforcing; what names a switch is one. To be changed while it runs. */
  readonly missing?: readonly string[];
  /** udev's mark of a run before. */
  readonly leftClosed?: true;
  readonly challengeKeyboards?: boolean;
  readonly keyboard?: KeyboardChallenge;
  /** Whether the rules are a person's. */
  readonly chosen?: boolean;
};

/** The USB control and its people on a fake kernel, with a log that is durable, held up, or fails. */
export function usbHost(options: Options = {}) {
  const usb = options.usb ?? new FakeUsb();
  const store = options.store ?? new FakeRulesStore();
  const clock = options.clock ?? new FakeClock();
  const records: Entry[] = [];
  const signals: Signal[] = [];
  const log: { state: "works" | "holds" | "fails" } = { state: "works" };
  const held: (() => void)[] = [];
  const world: { hold: Hold; frozen: boolean; room: boolean; mode: Mode; begun: number } = {
    begun: 0,
    hold: options.hold ?? "enforcing",
    frozen: false,
    room: true,
    mode: options.mode ?? "OPEN",
  };
  const parsed = parseUsbRules(options.rules ?? ALLOW_ALL);
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems));
  const memory = options.memory ?? null;
  const rules = createRulebook({
    store,
    configured: { rules: parsed.rules, chosen: options.chosen ?? true },
    signed: memory?.rules ?? "",
  });
  const append = (entry: Entry) => {
    records.push({ ...entry, data: redactValue(entry.data) }); // as the log itself has it
    const durable =
      log.state === "works"
        ? Promise.resolve()
        : log.state === "fails"
          ? Promise.reject(new Error("ENOSPC"))
          : new Promise<void>((resolve) => held.push(resolve));
    durable.catch(() => undefined);
    return { seq: records.length, durable };
  };
  const control: UsbControl = createUsbControl({
    gate: usb,
    missing: () =>
      (options.missing ?? []).map((what) => ({
        kind: what.includes("switch") ? "switch" : "privilege",
        what,
      })),
    leftClosed: options.leftClosed ?? false,
    onEnforced: () => {
      world.begun += 1;
    },
    rules,
    memory,
    clock,
    localOffsetMinutes: () => 0,
    random: () => 0.5,
    hold: () => world.hold,
    mayAllow: () => world.room,
    frozen: () => world.frozen,
    challengeKeyboards: options.challengeKeyboards ?? false,
    append,
    submit: (signal) => void signals.push(signal),
    repeatWindowMs: 60_000,
    opLog: { info: () => undefined, warn: () => undefined, error: () => undefined },
  });
  const challenges = createUsbChallenges({
    control,
    keyboard: options.keyboard ?? { run: () => Promise.reject(new Error("no keyboard to challenge")) },
    clock,
    code: () => "407319",
    maxPerSecond: 40,
    append,
    submit: (signal) => void signals.push(signal),
    obstacle: () => (world.frozen ? { code: "clock-frozen", why: "the clock moved" } : null),
    opLog: { info: () => undefined, warn: () => undefined, error: () => undefined },
  });
  const people: UsbPeople = createUsbPeople({
    control,
    rules,
    challenges,
    append,
    wallMs: clock.wallMs,
    mode: () => world.mode,
    obstacle: () => (world.frozen ? { code: "clock-frozen", why: "the clock moved" } : null),
    requireTerminal: true,
  });

  return {
    usb,
    store,
    clock,
    records,
    signals,
    log,
    world,
    control,
    people,
    challenges,
    rules,
    release: () => {
      log.state = "works";
      for (const resolve of held.splice(0)) resolve();
    },
    /** The oldest record that is held up becomes durable. */
    async releaseOne() {
      held.shift()?.();
      await settled();
    },
    kinds: () => records.map(({ kind }) => kind),
    last: (kind: string) => records.findLast((entry) => entry.kind === kind)?.data,
    /** What a start after this one would remember. */
    memory: () => {
      const data = records.findLast((entry) => entry.kind === "usb.state")?.data;
      return data === undefined ? null : readUsbMemory(data);
    },
    async enter(mode: Mode) {
      world.mode = mode;
      control.modeIs(mode);
      await settled();
    },
    async look() {
      control.look();
      await settled();
    },
    /** Time passes, a heartbeat at a time. */
    async pass(ms: number) {
      clock.pass(ms);
      control.tick();
      await settled();
    },
  };
}

export const digestOf = (text: string) => createHash("sha256").update(text).digest("hex");
export const ANA_AT_TERMINAL = { name: "ana", terminal: "pts/0" };

/** What a person at a terminal asks: until it is unplugged, where nothing else is said. */
export const wish = (device: string, over: object = {}) => ({
  device,
  permanent: false,
  forMs: null,
  by: ANA_AT_TERMINAL,
  ...over,
});

/** The ports that are on. */
export function on(usb: FakeUsb): string[] {
  return [...usb.plugged.keys()].filter((port) => usb.isAuthorized(port)).toSorted();
}

export function plugged(...devices: FakeDevice[]): FakeUsb {
  const usb = new FakeUsb();
  for (const device of devices) usb.plug(device);
  return usb;
}
