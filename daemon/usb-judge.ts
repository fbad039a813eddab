import type { Mode } from "./core/mode.ts";
import { posture } from "./core/posture.ts";
import { type AwaitedUsb, grantFor, type UsbGrant } from "./core/usb-memory.ts";
import { isHub, isInputDevice, type UsbQuestion, type UsbWord } from "./core/usb-policy.ts";
import type { EvaluateContext } from "./core/usb-rule.ts";
import type { Clock } from "./ports.ts";
import { type HeldUsb, subjectOf } from "./usb-held.ts";
import type { Rulebook } from "./usb-rulebook.ts";

export type UsbJudgeParts = {
  readonly rules: Pick<Rulebook, "decide" | "fault">;
  readonly clock: Pick<Clock, "wallMs" | "monoNs">;
  readonly localOffsetMinutes: (atMs: number) => number;
  readonly random: () => number;
  /** Whether the clock is in doubt: then what a rule allows by the time of day is not allowed. */
  readonly frozen: () => boolean;
  /** Whether what can type and is new needs more than a rule: a code typed on it, or a person's word. */
  readonly challengeKeyboards: boolean;
  /** Everything that is plugged in. */
  readonly all: () => readonly HeldUsb[];
  /** What is still to come back after a reboot. */
  readonly awaited: () => readonly AwaitedUsb[];
  readonly grants: () => readonly UsbGrant[];
};

/** Puts together what is to be known for a decision: what the rules say, what people said, and what stood before. */
export type UsbJudge = {
  /** `word`: instead of what people said. Null mode: as in LOCKDOWN. */
  question(one: HeldUsb, mode: Mode | null, word: UsbWord | null): UsbQuestion;
  /** The same, and the rules that were asked remember it. */
  ask(one: HeldUsb, mode: Mode | null): UsbQuestion;
  contextOf(one: HeldUsb): EvaluateContext;
  /** What happened by now, for the conditions of a device that is plugged in now. */
  history(): HeldUsb["history"];
};

const MAX_HISTORY = 4_096;

export function createUsbJudge(parts: UsbJudgeParts): UsbJudge {
  const applied = new Map<string, number>();
  const evaluated = new Map<string, number>();
  const monoMs = () => Number(parts.clock.monoNs() / 1_000_000n);

  function contextOf(one: HeldUsb): EvaluateContext {
    return {
      nowMs: parts.clock.wallMs(),
      monoMs: monoMs(),
      localOffsetMinutes: parts.localOffsetMinutes,
      random: parts.random,
      allowedDevices: parts
        .all()
        .flatMap((other) => (other !== one && other.look.authorized === true ? [other.look.facts] : [])),
      applied: (key) => one.history.applied.get(key) ?? null,
      evaluated: (key) => one.history.evaluated.get(key) ?? null,
    };
  }

  function byPerson(one: HeldUsb): UsbWord | null {
    const grant = one.look.problem === null ? grantFor(parts.grants(), one.key, one.plug) : null;
    return grant === null ? null : wordOfGrant(grant);
  }

  /** Nothing is let in by the time of day while that is in doubt. */
  function doubted(word: UsbWord): UsbWord {
    if (word.target !== "allow" || word.validUntilMs === null || !parts.frozen()) return word;
    return { ...word, target: "block", why: "allowed by the time of day, and the clock is in doubt" };
  }

  /** What permanent rules refuse is not known while they cannot be read: then nothing comes in that is not in use. */
  function unread(one: HeldUsb, word: UsbWord): UsbWord {
    const fault = parts.rules.fault();
    if (word.target !== "allow" || fault === "" || one.standing === "kept") return word;
    const subject = subjectOf(one);
    if (one.standing === "restored" && (isInputDevice(subject) || isHub(subject))) return word;
    return { ...word, target: "block", why: `the permanent rules are not in use: ${fault}` };
  }

  /** Any HID device can say in its reports that it is a keyboard, whatever its interface says. */
  function challenged(one: HeldUsb, word: UsbWord): UsbWord {
    const types = one.look.facts.interfaces.some((codes) => codes.startsWith("03:"));
    if (!parts.challengeKeyboards || word.target !== "allow" || one.standing !== "new" || !types) return word;
    return { ...word, target: "block", why: "new, and can type: waits for its challenge" };
  }

  /** Also one that the kernel finds only when the hub is let in. */
  function carriesInput(hub: HeldUsb): boolean {
    const hangsOnIt = (port: string) => port.startsWith(`${hub.look.port}.`);
    return (
      parts
        .all()
        .some(
          (other) =>
            other.standing !== "new" && hangsOnIt(other.look.port) && isInputDevice(subjectOf(other)),
        ) || parts.awaited().some(({ kind, port }) => kind === "input" && hangsOnIt(port))
    );
  }

  function put(one: HeldUsb, mode: Mode | null, byRules: UsbWord, word: UsbWord | null): UsbQuestion {
    return {
      posture: posture(mode ?? "LOCKDOWN"),
      hold: "enforcing",
      subject: subjectOf(one),
      standing: one.standing,
      carriesInput: carriesInput(one),
      byRules: challenged(one, unread(one, doubted(byRules))),
      byPerson: word ?? byPerson(one),
    };
  }

  return {
    question: (one, mode, word) => put(one, mode, parts.rules.decide(one.look.facts, contextOf(one)), word),
    ask(one, mode) {
      const word = parts.rules.decide(one.look.facts, contextOf(one));
      for (const key of word.evaluated) keep(evaluated, key, monoMs());
      if (word.applied !== null) keep(applied, word.applied, monoMs());
      return put(one, mode, word, null);
    },
    contextOf,
    history: () => ({ applied: new Map(applied), evaluated: new Map(evaluated) }),
  };
}

/** A grant as a word about a device. */
export function wordOfGrant({ target, by, untilMs, storage }: UsbGrant): UsbWord {
  const until = untilMs === null ? "" : `, until ${new Date(untilMs).toISOString()}`;
  return {
    target,
    rule: `${target} by ${by}`,
    names: true,
    why: `said by ${by}${until}`,
    validUntilMs: untilMs,
    storage,
  };
}

/** Bounded: rules with conditions on their own history are few. */
function keep(times: Map<string, number>, key: string, atMs: number): void {
  if (times.size < MAX_HISTORY || times.has(key)) times.set(key, atMs);
}
