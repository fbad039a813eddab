import { BoundaryError, renderErrorChain } from "./core/errors.ts";
import type { Signal } from "./core/signal.ts";
import type { UsbGrant } from "./core/usb-memory.ts";
import type { Clock, KeyboardChallenge, OpLog } from "./ports.ts";
import type { UsbChallengeReply } from "./protocol/messages.ts";
import type { UsbControl } from "./usb.ts";
import type { HeldUsb } from "./usb-held.ts";
import { wordOfGrant } from "./usb-judge.ts";
import { challengedRecord, grantedRecord } from "./usb-records.ts";

export type UsbChallengesParts = {
  readonly control: UsbControl;
  readonly keyboard: KeyboardChallenge;
  readonly clock: Clock;
  /** A code of six digits, of the system's randomness. */
  readonly code: () => string;
  readonly maxPerSecond: number;
  readonly append: (entry: ReturnType<typeof challengedRecord>) => unknown;
  readonly submit: (signal: Signal) => void;
  /** Why nothing may be loosened now; null when it may. */
  readonly obstacle: () => { readonly code: BoundaryError["code"]; readonly why: string } | null;
  readonly opLog: OpLog;
};

/** Keyboards that are to prove that a person types on them, and those that have shown that none does. */
export type UsbChallenges = {
  /**
   * Begins one, and gives the code that is to be typed on it. One at a time. Throws BoundaryError("usb-observed",
   * "usb-challenge-busy", "usb-ceiling", …).
   */
  begin(one: HeldUsb, by: string): UsbChallengeReply;
  /** Keystrokes were injected by what is at this port: it is taken away at once, for as long as it is plugged in. */
  injected(port: string): void;
};

const TIMEOUT_MS = 60_000;

export function createUsbChallenges(parts: UsbChallengesParts): UsbChallenges {
  const { control, clock, append, opLog } = parts;
  let isRunning = false;

  function grantOf(one: HeldUsb, target: "allow" | "block", by: string): UsbGrant {
    const said = { key: one.key, target, by, fromMs: clock.wallMs(), untilMs: null, plug: one.plug };
    // that somebody types on it says nothing about a disk in it
    return { ...said, mode: control.mode(), storage: "no" };
  }

  function requirePossible(one: HeldUsb, by: string): void {
    if (control.how === "observed")
      throw new BoundaryError("usb-observed", `USB is only watched; missing: ${control.missing.join("; ")}`);
    if (isRunning) throw new BoundaryError("usb-challenge-busy", "another keyboard is being challenged");
    const obstacle = parts.obstacle();
    if (obstacle) throw new BoundaryError(obstacle.code, obstacle.why);
    if (one.look.problem !== null)
      throw new BoundaryError("usb-unknown", `${one.look.port}: ${one.look.problem}`);
    if (one.look.authorized !== false)
      throw new BoundaryError("usb-challenge-failed", `${one.look.port} is authorised already`);
    const verdict = control.judge(one, wordOfGrant(grantOf(one, "allow", by)));
    if (verdict.device !== "allow") throw new BoundaryError("usb-ceiling", verdict.why);
  }

  function tell(one: HeldUsb, by: string, outcome: string, why: string): void {
    append(challengedRecord(one.look, { by, outcome, why }));
  }

  async function run(one: HeldUsb, by: string, code: string): Promise<void> {
    const giveBack = control.lend(one);
    let passed = false;
    let wasLent = false;
    try {
      const { port, number } = one.look;
      const asked = { code, timeoutMs: TIMEOUT_MS, maxPerSecond: parts.maxPerSecond };
      const end = await parts.keyboard.run({ port, number }, asked);
      passed = end.kind === "passed";
      if (end.kind === "injected") signalInjection(one, end.injection);
      tell(one, by, end.kind, end.kind === "gone" ? end.why : "");
    } catch (error) {
      const why = renderErrorChain(error);
      opLog.warn({ port: one.look.port, why }, "a keyboard could not be challenged");
      tell(one, by, "failed", why);
    } finally {
      isRunning = false;
      wasLent = giveBack();
    }
    if (!passed || !wasLent) return; // what was refused meanwhile stays out, whatever was typed on it
    const given = grantOf(one, "allow", `${by}, by challenge`);
    await control.grant(given, one, grantedRecord(one.look, given));
  }

  function signalInjection(
    { look }: HeldUsb,
    {
      keys,
      milliseconds,
      why,
    }: { readonly keys: number; readonly milliseconds: number; readonly why: string },
  ): void {
    const facts = {
      port: look.port,
      id: look.facts.id,
      keys: String(keys),
      milliseconds: String(milliseconds),
      why,
    };
    parts.submit({ kind: "usb.keystrokes", facts, seenNs: clock.monoNs() });
  }

  return {
    begin(one, by) {
      requirePossible(one, by);
      const code = parts.code();
      isRunning = true;
      tell(one, by, "begun", "");
      run(one, by, code).catch((error: unknown) => {
        opLog.error({ why: renderErrorChain(error) }, "a keyboard that passed its challenge is not let in");
      });
      return {
        port: one.look.port,
        id: one.look.facts.id,
        code,
        until: new Date(clock.wallMs() + TIMEOUT_MS).toISOString(),
      };
    },
    injected(port) {
      const one = control.devices().find(({ look }) => look.port === port);
      if (one === undefined) return;
      const given = grantOf(one, "block", "injected keystrokes");
      control.grant(given, one, grantedRecord(one.look, given)).catch((error: unknown) => {
        opLog.error({ port, why: renderErrorChain(error) }, "what was taken away could not be recorded");
      });
    },
  };
}
