import type { Entry } from "./audit/record.ts";
import { BoundaryError, type ErrorCode, renderErrorChain } from "./core/errors.ts";
import type { Hold } from "./core/hold.ts";
import type { Mode } from "./core/mode.ts";
import { posture } from "./core/posture.ts";
import { createRepeats } from "./core/repeats.ts";
import type { Signal } from "./core/signal.ts";
import type { UsbFacts } from "./core/usb-facts.ts";
import {
  grantFor,
  type KnownUsb,
  liveGrants,
  renderUsbMemory,
  type UsbGrant,
  type UsbMemory,
  usbGap,
  usbKey,
  usbPlug,
  withGrant,
} from "./core/usb-memory.ts";
import {
  decideUsb,
  isHub,
  isInputDevice,
  type UsbQuestion,
  type UsbSubject,
  type UsbVerdict,
  type UsbWord,
} from "./core/usb-policy.ts";
import type { EvaluateContext } from "./core/usb-rule.ts";
import type { Clock, OpLog, UsbGate, UsbLook, UsbOrder, UsbState } from "./ports.ts";
import { appliedRecord, decidedData, detachedRecord, failedRecord } from "./usb-records.ts";
import type { Rulebook } from "./usb-rulebook.ts";

type Receipt = { readonly seq: number; readonly durable: Promise<unknown> };

export type UsbControlParts = {
  readonly gate: UsbGate;
  /** What is missing for enforcing: empty when nothing is. */
  readonly missing: readonly string[];
  readonly rules: Rulebook;
  /** What the log remembers; null when it remembers nothing. */
  readonly memory: UsbMemory | null;
  readonly clock: Clock;
  readonly localOffsetMinutes: (atMs: number) => number;
  readonly random: () => number;
  readonly hold: () => Hold;
  /** Why nothing may be allowed at this moment (the log has no room); null when it may. */
  readonly obstacle: () => { readonly code: ErrorCode; readonly why: string } | null;
  /** Whether the clock is in doubt: then what a rule allows by the time of day is not allowed. */
  readonly frozen: () => boolean;
  readonly append: (entry: Entry) => Receipt;
  readonly submit: (signal: Signal) => void;
  readonly repeatWindowMs: number;
  readonly opLog: OpLog;
};

/** One plugging-in of one device, and what is known of it. */
export type HeldUsb = {
  readonly plug: string;
  readonly key: string;
  look: UsbLook;
  standing: UsbQuestion["standing"];
  verdict: UsbVerdict;
  /** Whether the kernel has confirmed the verdict. */
  confirmed: boolean;
  /** The verdict has a record on its way, or on disk. */
  recorded: "no" | "on-its-way" | "yes";
  /** Why it is not as it should be; "" when it is. */
  failure: string;
  drivers: string;
  /** Asks for a new decision. */
  stale: boolean;
  /** For the conditions of rules: what had happened before it was plugged in. */
  readonly history: { readonly applied: ReadonlyMap<string, number>; readonly evaluated: ReadonlyMap<string, number> };
};

export type UsbCounts = {
  readonly controllers: number;
  readonly closed: number;
  readonly authorized: number;
  readonly blocked: number;
  readonly wouldBlock: number;
};

/**
 * USB: joins rules, people and mode, and brings devices to what they come to. A thing is taken away at once, beside its
 * record; given only when the record is durable. Every call is synchronous, and none of them throws.
 */
export type UsbControl = {
  /** "observed": what is decided is shown, and nothing is written. */
  readonly how: "enforced" | "observed";
  readonly missing: readonly string[];
  /** To be called in the turn in which the kernel is told of the mode, and again whenever it is. */
  modeIs(mode: Mode): void;
  /** Something was plugged or unplugged. */
  look(): void;
  /** Once a heartbeat: ends of grants and time windows, read-back, what failed. */
  tick(): void;
  /** Before the last record of a clean stop. The kernel goes on refusing what is new. */
  stop(): void;
  /** Lines for the `gap` record: what was plugged and unplugged since the log's last word. Before the first `modeIs`. */
  gap(): readonly string[];
  /** Why USB is not held as it should be; "" when it is, or is only observed. */
  failure(): string;
  counts(): UsbCounts;
  /** RFC 3339: when the kernel was last read; "" when never. */
  checkedAt(): string;
  devices(): readonly HeldUsb[];
  controllers(): readonly UsbState[];
  grants(): readonly UsbGrant[];
  /** What would come of it if a person had said this of it; null for what the rules and present grants say. */
  judge(held: HeldUsb, word: UsbWord | null): UsbVerdict;
  contextOf(held: HeldUsb): EvaluateContext;
  /**
   * Takes a person's word: an allow counts once the records are durable, anything else at once. Resolves then; rejects
   * when they cannot be made durable.
   */
  grant(given: UsbGrant, record: Entry): Promise<void>;
  /** The permanent rules have become others (their `usb.rules` record is durable): everything is decided anew. */
  rulesChanged(): void;
  /** Appends a `usb.state` with these permanent rules' digest, which the log signs so. */
  sign(rulesDigest: string): Receipt;
};

const GLANCE_MS = 1_000;
const STATE_MS = 2_000;
const RETRY_MS = 1_000;
const MAX_HISTORY = 4_096;

export function createUsbControl(parts: UsbControlParts): UsbControl {
  const { gate, rules, clock, opLog } = parts;
  const how = parts.missing.length === 0 ? "enforced" : "observed";
  const boot = clock.bootId();
  const remembered = parts.memory;
  const held = new Map<string, HeldUsb>();
  const repeats = createRepeats(parts.repeatWindowMs);
  const applied = new Map<string, number>();
  const evaluated = new Map<string, number>();
  const monoEnds = new Map<string, number>(); // of grants, by key: a wall clock that is set back prolongs nothing
  const closedByUs = new Set<string>();
  const signals: Signal[] = [];
  let controllers: readonly UsbState[] = [];
  let grants: readonly UsbGrant[] = remembered?.grants ?? [];
  let mode: Mode | null = null;
  let heldAs: Hold | null = null;
  let wasFrozen = false;
  let closed = remembered?.boot === boot && remembered.closed;
  let rulesDigest = rules.digest();
  let stopped = false;
  let depth = 0;
  let listFailure = "";
  let defaultsFailure = "";
  let wouldBlock = 0;
  let checkedMs: number | null = null;
  let glancedMs = Number.NEGATIVE_INFINITY;
  let statedMs = Number.NEGATIVE_INFINITY;
  let stated = "";
  let retryMs = Number.NEGATIVE_INFINITY;

  const nowMs = () => Number(clock.monoNs() / 1_000_000n);
  for (const { key, untilMs } of grants) timeGrant(key, untilMs);

  // --- deciding ---

  function subjectOf(look: UsbLook): UsbSubject {
    const driver = (name: string) => look.interfaces.find((one) => one.name === name)?.driver ?? "";
    return {
      facts: look.facts,
      controller: look.port.startsWith("usb"),
      interfaces: look.described.map((one) => ({ ...one, driver: driver(one.name) })),
      problem: look.problem,
      authorized: look.authorized === true,
    };
  }

  function contextOf(one: HeldUsb): EvaluateContext {
    return {
      nowMs: clock.wallMs(),
      monoMs: nowMs(),
      localOffsetMinutes: parts.localOffsetMinutes,
      random: parts.random,
      allowedDevices: [...held.values()].flatMap((other): readonly UsbFacts[] =>
        other !== one && other.look.authorized === true ? [other.look.facts] : [],
      ),
      applied: (key) => one.history.applied.get(key) ?? null,
      evaluated: (key) => one.history.evaluated.get(key) ?? null,
    };
  }

  function byRules(one: HeldUsb): UsbWord {
    const word = rules.decide(one.look.facts, contextOf(one));
    for (const key of word.asked.evaluated) keep(evaluated, key, nowMs());
    if (word.asked.applied !== null) keep(applied, word.asked.applied, nowMs());
    if (!parts.frozen() || word.target !== "allow" || word.validUntilMs === null) return word;
    return { ...word, target: "block", why: "allowed by the time of day, and the clock is in doubt" };
  }

  function byPerson(one: HeldUsb): UsbWord | null {
    const grant = one.look.problem === null ? grantFor(grants, one.key, one.plug) : null;
    if (grant === null) return null;
    const { target, by, untilMs } = grant;
    const until = untilMs === null ? "" : `, until ${new Date(untilMs).toISOString()}`;
    return { target, rule: `${target} by ${by}`, names: true, why: `said by ${by}${until}`, validUntilMs: untilMs };
  }

  function questionOf(one: HeldUsb, word: UsbWord | null, hold: Hold): UsbQuestion {
    return {
      posture: posture(mode ?? "LOCKDOWN"),
      hold,
      subject: subjectOf(one.look),
      standing: one.standing,
      carriesInput: carriesInput(one),
      byRules: byRules(one),
      byPerson: word ?? byPerson(one),
    };
  }

  function carriesInput(hub: HeldUsb): boolean {
    return [...held.values()].some(
      (other) =>
        other.standing !== "new" &&
        other.look.port.startsWith(`${hub.look.port}.`) &&
        isInputDevice(subjectOf(other.look)),
    );
  }

  /** The hold that devices are brought to: in shadow, what we closed ourselves in this boot is opened again. */
  function effectiveHold(): "enforcing" | "open" | "none" {
    if (how === "observed") return "none";
    const hold = parts.hold();
    if (hold === "enforcing") return "enforcing";
    return hold === "released" || closed ? "open" : "none";
  }

  // --- reconciling ---

  /** Brings everything to what is decided. "new": only what is new, or asks for it, is decided. */
  function reconcile(which: "new" | "all"): void {
    if (stopped || mode === null) return;
    depth += 1;
    try {
      const looks = list();
      if (looks !== null) settleAll(looks, which);
    } finally {
      depth -= 1;
    }
    // what they set off comes back here: only now, when everything is in its place
    if (depth === 0) for (const signal of signals.splice(0)) parts.submit(signal);
  }

  function list(): readonly UsbLook[] | null {
    try {
      const looks = gate.list();
      listFailure = "";
      checkedMs = clock.wallMs();
      return looks;
    } catch (error) {
      failed("list", "", error);
      listFailure = renderErrorChain(error);
      return null;
    }
  }

  function settleAll(looks: readonly UsbLook[], which: "new" | "all"): void {
    controllers = looks.filter(({ port }) => port.startsWith("usb"));
    settleDefaults();
    const isFirst = held.size === 0 && checkedMs !== null && statedMs === Number.NEGATIVE_INFINITY;
    const plugs = new Map(looks.map((look) => [plugOf(look), look]));
    for (const [plug, one] of held) if (!plugs.has(plug)) detach(one);
    for (const [plug, look] of plugs) takeIn(plug, look, isFirst);
    keepWhatIsInUse(isFirst);
    const order = [...held.values()].toSorted((a, b) => a.look.port.length - b.look.port.length);
    for (const one of order) settle(one, which);
    state(isFirst ? "now" : "when-due");
  }

  /** A look at a device: new, or to be held against what was confirmed. */
  function takeIn(plug: string, look: UsbLook, isFirst: boolean): void {
    const one = held.get(plug);
    if (one) {
      noticeTampering(one, look);
      one.look = look;
      const drivers = driversOf(look);
      if (one.drivers !== drivers) one.stale = true;
      one.drivers = drivers;
      return;
    }
    const key = usbKey(look.facts);
    held.set(plug, {
      plug,
      key,
      look,
      standing: standingAtStart(look, key, plug, isFirst),
      verdict: NOTHING,
      confirmed: false,
      recorded: "no",
      failure: "",
      drivers: driversOf(look),
      stale: true,
      history: { applied: new Map(applied), evaluated: new Map(evaluated) },
    });
  }

  /** Of what is there when we start: what the log says was let in before, or all where there is no log yet. */
  function standingAtStart(look: UsbLook, key: string, plug: string, isFirst: boolean): HeldUsb["standing"] {
    if (!isFirst) return "new";
    if (remembered === null) return look.authorized === true ? "kept" : "new";
    const was = remembered.known.filter((one) => one.authorized && one.key === key && one.port === look.port);
    if (remembered.boot === boot) return was.some((one) => one.plug === plug) ? "kept" : "new";
    return was.length > 0 ? "restored" : "new";
  }

  /** Nobody has given rules yet: the keyboard in use is not taken away before somebody was asked. */
  function keepWhatIsInUse(isFirst: boolean): void {
    const hold = parts.hold();
    const begins = hold === "enforcing" && (heldAs === "shadow" || (isFirst && remembered === null));
    heldAs = hold;
    if (!begins || how === "observed" || rules.arePersonal()) return;
    for (const { key, plug, look } of held.values()) {
      const subject = subjectOf(look);
      if (subject.controller || subject.problem !== null || !(isInputDevice(subject) || isHub(subject))) continue;
      const by = "present at first start";
      const given: UsbGrant = { key, target: "allow", by, fromMs: clock.wallMs(), untilMs: null, plug };
      grants = withGrant(grants, given);
      const { port, facts } = look;
      parts.append({ kind: "usb.granted", data: { port, id: facts.id, key, target: "allow", by, until: "", plug } });
    }
  }

  function settle(one: HeldUsb, which: "new" | "all"): void {
    if (one.look.port.startsWith("usb")) return;
    if (which === "all" || one.stale || losesStanding(one)) decide(one);
    const effective = effectiveHold();
    if (effective === "none") return;
    takeAway(one);
    if (one.failure === "" && lacks(one)) giveWhenRecorded(one);
    else if (one.recorded === "no") void record(one, one.failure === "" ? "confirmed" : "failed");
    if (one.failure === "" && !lacks(one)) one.confirmed = true;
  }

  /** LOCKDOWN authorises nothing again. */
  function losesStanding(one: HeldUsb): boolean {
    return (
      mode === "LOCKDOWN" &&
      one.confirmed &&
      one.verdict.device === "allow" &&
      one.look.authorized === false &&
      effectiveHold() === "enforcing"
    );
  }

  function decide(one: HeldUsb): void {
    one.stale = false;
    const hold = parts.hold();
    const open = effectiveHold() === "open";
    const verdict = decideUsb(questionOf(one, null, open ? "released" : "enforcing"));
    if (hold === "shadow") noticeShadow(one);
    if (same(verdict, one.verdict)) {
      one.verdict = { ...verdict }; // its end may be another
      return;
    }
    one.verdict = verdict;
    one.confirmed = false;
    one.recorded = "no";
    one.failure = "";
  }

  function noticeShadow(one: HeldUsb): void {
    const verdict = decideUsb(questionOf(one, null, "enforcing"));
    if (verdict.device === "allow" && verdict.interfaces.every(({ allow }) => allow)) return;
    wouldBlock += 1;
    const data = decidedData(one.look, verdict, mode ?? "", "shadow");
    if (repeats.first("usb.would-block", keyOf(one, verdict), nowMs()))
      parts.append({ kind: "usb.would-block", data });
  }

  /** At once: what must not be there. */
  function takeAway(one: HeldUsb): void {
    const { look, verdict } = one;
    const refusedThere = look.interfaces.filter(
      ({ name, authorized }) => authorized !== false && !isAllowed(verdict, name),
    );
    const isThere = look.authorized !== false;
    const must = verdict.device === "allow" ? isThere && refusedThere.length > 0 : isThere || isToReject(one);
    if (!must) {
      if (verdict.device !== "allow") one.failure = "";
      return;
    }
    const stays = look.interfaces.filter(({ name, authorized }) => authorized === true && isAllowed(verdict, name));
    bring(one, { device: verdict.device, interfaces: new Set(stays.map(({ name }) => name)) });
  }

  function isToReject(one: HeldUsb): boolean {
    return one.verdict.device === "reject" && !one.confirmed;
  }

  function bring(one: HeldUsb, order: UsbOrder): boolean {
    const { look } = one;
    try {
      gate.set(look, order);
      const isOn = order.device === "allow";
      const lets = (name: string) => isOn && (order.interfaces === "all" || order.interfaces.has(name));
      const interfaces = isOn
        ? look.interfaces.map((each) => ({ ...each, authorized: lets(each.name) }))
        : [];
      one.look = { ...look, authorized: isOn, interfaces };
      one.failure = "";
      return true;
    } catch (error) {
      one.failure = renderErrorChain(error);
      one.confirmed = false;
      failed(one.look.port, one.look.facts.id, error);
      return false;
    }
  }

  /** Something that the verdict allows is not there yet. */
  function lacks({ look, verdict }: HeldUsb): boolean {
    if (verdict.device !== "allow") return false;
    return (
      look.authorized !== true ||
      look.interfaces.some(({ name, authorized }) => authorized !== true && isAllowed(verdict, name))
    );
  }

  function giveWhenRecorded(one: HeldUsb): void {
    if (one.recorded === "on-its-way" || parts.obstacle() !== null) return; // asked again at a tick
    if (one.recorded === "yes") return give(one, one.verdict);
    const { verdict } = one;
    record(one, "after-its-record").then(
      () => give(one, verdict),
      () => {
        if (one.verdict === verdict) one.recorded = "no";
      },
    );
  }

  /** Only while it is still what is decided: an allow of before a trip is none any more. */
  function give(one: HeldUsb, verdict: UsbVerdict): void {
    if (stopped || held.get(one.plug) !== one || one.verdict !== verdict || effectiveHold() === "none") return;
    if (parts.obstacle() !== null) return;
    const names = verdict.interfaces.flatMap(({ name, allow }) => (allow ? [name] : []));
    const interfaces = effectiveHold() === "open" ? "all" : new Set(names);
    if (!bring(one, { device: "allow", interfaces })) return;
    if (one.standing === "restored") one.standing = "kept";
    one.confirmed = true;
    const told = appliedRecord(one.look, verdict);
    if (repeats.first("usb.applied", keyOf(one, verdict), nowMs())) parts.append(told);
    if (depth === 0) reconcile("new"); // what drivers took it, and whether it is what was ordered
  }

  /** Resolves when the decision is durable. One of the same kind for the same device counts as recorded. */
  function record(one: HeldUsb, how: "confirmed" | "failed" | "after-its-record"): Promise<unknown> {
    const { verdict } = one;
    const data = decidedData(one.look, verdict, mode ?? "", how);
    if (how !== "after-its-record" && !repeats.first("usb.decided", keyOf(one, verdict), nowMs())) {
      one.recorded = "yes";
      return Promise.resolve();
    }
    one.recorded = "on-its-way";
    return parts.append({ kind: "usb.decided", data }).durable.then(
      () => {
        if (one.verdict === verdict) one.recorded = "yes";
      },
      (error: unknown) => {
        if (one.verdict === verdict) one.recorded = "no";
        throw error;
      },
    );
  }

  // --- the controllers ---

  function settleDefaults(): void {
    const effective = effectiveHold();
    if (effective === "none") return;
    const to = effective === "enforcing" ? "closed" : "open";
    const wanted = to === "closed" ? "0" : "1";
    const failures: string[] = [];
    for (const { port, defaults } of controllers) {
      const isSo = defaults?.device === wanted && defaults.interface === wanted;
      if (isSo) {
        if (to === "closed") closedByUs.add(port);
        continue;
      }
      if (to === "closed" && closedByUs.has(port))
        changed(port, "default", `authorized_default ${defaults?.device}, interfaces ${defaults?.interface}`);
      try {
        gate.setDefaults(port, to);
        if (to === "closed") closedByUs.add(port);
      } catch (error) {
        failures.push(renderErrorChain(error));
        failed(port, "", error);
      }
    }
    defaultsFailure = failures[0] ?? "";
    if (to === "open") closedByUs.clear();
    if (failures.length === 0) closed = to === "closed";
  }

  // --- what others do ---

  /** Looser than the kernel had confirmed: somebody did that. Stricter can be the kernel itself, after a reset. */
  function noticeTampering(one: HeldUsb, look: UsbLook): void {
    if (!one.confirmed || effectiveHold() !== "enforcing") return;
    const { verdict } = one;
    if (verdict.device !== "allow" && look.authorized !== false) {
      changed(look.port, "device", `authorized by somebody else: ${look.facts.id}`);
      one.confirmed = false;
      return;
    }
    const extra = look.interfaces.filter(({ name, authorized }) => authorized !== false && !isAllowed(verdict, name));
    if (verdict.device !== "allow" || extra.length === 0) return;
    changed(look.port, "interface", `authorized by somebody else: ${extra.map(({ name }) => name).join(" ")}`);
    one.confirmed = false;
  }

  function changed(port: string, what: "device" | "interface" | "default", detail: string): void {
    const facts = { port, what, detail: detail.slice(0, 200) };
    signals.push({ kind: "usb.changed", facts, seenNs: clock.monoNs() });
  }

  function detach(one: HeldUsb): void {
    held.delete(one.plug);
    grants = grants.filter(({ plug }) => plug !== one.plug);
    if (one.look.port.startsWith("usb")) closedByUs.delete(one.look.port);
    else if (repeats.first("usb.detached", JSON.stringify([one.look.port, one.key]), nowMs()))
      parts.append(detachedRecord(one.look));
  }

  function failed(port: string, id: string, error: unknown): void {
    const why = renderErrorChain(error);
    retryMs = nowMs() + RETRY_MS;
    if (!repeats.first("usb.apply-failed", JSON.stringify([port, why]), nowMs())) return;
    opLog.error({ port, why }, "the kernel did not take what was decided about a USB device");
    parts.append(failedRecord(port, id, why));
  }

  // --- the log's picture ---

  function memory(): UsbMemory {
    return {
      boot,
      closed,
      known: [...held.values()].map(knownOf),
      more: 0,
      grants,
      rules: rulesDigest,
    };
  }

  function state(when: "now" | "when-due"): Receipt | null {
    const data = renderUsbMemory(memory());
    const text = JSON.stringify(data);
    if (text === stated || (when === "when-due" && nowMs() - statedMs < STATE_MS)) return null;
    statedMs = nowMs();
    stated = text;
    return parts.append({ kind: "usb.state", data });
  }

  // --- time ---

  function timeGrant(key: string, untilMs: number | null): void {
    if (untilMs === null) monoEnds.delete(key);
    else monoEnds.set(key, nowMs() + untilMs - clock.wallMs());
  }

  /** Grants whose end has come, by either clock. */
  function endGrants(): void {
    const live = liveGrants(grants, clock.wallMs(), new Set(held.keys())).filter(
      ({ key, untilMs }) => untilMs === null || nowMs() < (monoEnds.get(key) ?? 0),
    );
    if (live.length === grants.length) return;
    grants = live;
    for (const one of held.values()) one.stale = true;
  }

  function tick(): void {
    if (stopped || mode === null) return;
    for (const { group, key, count } of repeats.drain(nowMs()))
      parts.append({ kind: "usb.repeated", data: { what: group, cause: key.slice(0, 1_000), count } });
    endGrants();
    const wall = clock.wallMs();
    const frozen = parts.frozen();
    for (const one of held.values()) {
      const { validUntilMs } = one.verdict;
      if (validUntilMs !== null && (frozen !== wasFrozen || wall >= validUntilMs)) one.stale = true;
    }
    wasFrozen = frozen;
    if (heldAs !== parts.hold()) return reconcile("all");
    const asks = [...held.values()].some(({ stale, look }) => stale && !look.port.startsWith("usb"));
    const owes = [...held.values()].some((one) => lacks(one) && one.recorded !== "on-its-way");
    const retries = isFailing() && nowMs() >= retryMs;
    if (asks || retries || (owes && effectiveHold() !== "none") || hasMoved()) reconcile("new");
    else state("when-due");
  }

  /** Whether the kernel holds something else than we know of: looked at once a second. */
  function hasMoved(): boolean {
    if (nowMs() - glancedMs < GLANCE_MS) return false;
    glancedMs = nowMs();
    try {
      const found = gate.glance();
      checkedMs = clock.wallMs();
      const known = [...held.values()];
      if (found.length !== known.length) return true;
      return found.some((each) => {
        const one = known.find(({ look }) => look.port === each.port && look.number === each.number);
        return one === undefined || differs(one.look, each);
      });
    } catch {
      return true; // listing it tells why
    }
  }

  function isFailing(): boolean {
    return listFailure !== "" || defaultsFailure !== "" || [...held.values()].some(({ failure }) => failure !== "");
  }

  function plugOf(look: UsbState): string {
    return usbPlug(boot, look.port, look.number);
  }

  return {
    how,
    missing: parts.missing,
    modeIs(next) {
      if (stopped) return;
      if (mode !== null && mode !== next)
        for (const one of held.values()) one.standing = one.look.authorized === true ? "kept" : "new";
      const isSame = mode === next;
      mode = next;
      endGrantsAtStart();
      reconcile(isSame ? "new" : "all");
    },
    look: () => reconcile("new"),
    tick,
    stop() {
      if (stopped) return;
      for (const { group, key, count } of repeats.drainAll())
        parts.append({ kind: "usb.repeated", data: { what: group, cause: key.slice(0, 1_000), count } });
      if (mode !== null) state("now");
      stopped = true;
    },
    gap() {
      if (remembered === null) return [];
      const looks = list();
      if (looks === null) return [`usb: ${listFailure}`];
      const now = looks.map((look): KnownUsb => knownOf({ plug: plugOf(look), key: usbKey(look.facts), look }));
      return usbGap(remembered, now, remembered.boot === boot ? "same-boot" : "rebooted");
    },
    failure() {
      if (how === "observed") return "";
      const device = [...held.values()].find(({ failure }) => failure !== "");
      return listFailure || defaultsFailure || (device ? `${device.look.port}: ${device.failure}` : "");
    },
    counts() {
      const devices = [...held.values()].filter(({ look }) => !look.port.startsWith("usb"));
      const authorized = devices.filter(({ look }) => look.authorized === true).length;
      return {
        controllers: controllers.length,
        closed: closedByUs.size,
        authorized,
        blocked: devices.length - authorized,
        wouldBlock,
      };
    },
    checkedAt: () => (checkedMs === null ? "" : new Date(checkedMs).toISOString()),
    devices: () => [...held.values()],
    controllers: () => controllers,
    grants: () => grants,
    judge: (one, word) => decideUsb(questionOf(one, word, "enforcing")),
    contextOf,
    async grant(given, entry) {
      const before = grants;
      const next = withGrant(grants, given);
      const isAllow = given.target === "allow";
      if (!isAllow) take(next, given);
      const receipts = [parts.append(entry)];
      grants = next; // as the record of the state has it
      const told = state("now");
      if (told) receipts.push(told);
      if (isAllow) grants = before;
      await Promise.all(receipts.map(({ durable }) => durable));
      if (isAllow) take(withGrant(grants, given), given);
    },
    rulesChanged() {
      rulesDigest = rules.digest();
      reconcile("all");
    },
    sign(digest) {
      const kept = rulesDigest;
      rulesDigest = digest;
      const receipt = state("now");
      rulesDigest = kept;
      if (receipt === null) throw new BoundaryError("internal", "signing permanent rules that did not change");
      return receipt;
    },
  };

  /** At a start: a grant for another plugging-in, or of another boot, has ended. */
  function endGrantsAtStart(): void {
    if (held.size > 0) return;
    grants = grants.filter(({ plug }) => plug === "" || plug.startsWith(`${boot} `));
  }

  function take(next: readonly UsbGrant[], given: UsbGrant): void {
    grants = next;
    timeGrant(given.key, given.untilMs);
    for (const one of held.values()) if (one.key === given.key) one.stale = true;
    reconcile("new");
  }
}

const NOTHING: UsbVerdict = { device: "block", interfaces: [], rule: "", why: "not decided yet", validUntilMs: null };

function isAllowed({ device, interfaces, why }: UsbVerdict, name: string): boolean {
  if (device !== "allow") return false;
  const one = interfaces.find((each) => each.name === name);
  return one?.allow ?? (why.startsWith("released") || false);
}

function same(a: UsbVerdict, b: UsbVerdict): boolean {
  const bare = ({ validUntilMs: _until, ...rest }: UsbVerdict) => JSON.stringify(rest);
  return bare(a) === bare(b);
}

function keyOf({ look, key }: HeldUsb, { device, interfaces, rule, why }: UsbVerdict): string {
  return JSON.stringify([look.port, key, device, interfaces.map(({ allow }) => (allow ? 1 : 0)).join(""), rule, why]);
}

function driversOf(look: UsbLook): string {
  return JSON.stringify(look.interfaces.map(({ name, driver }) => [name, driver]));
}

function knownOf({ plug, key, look }: Pick<HeldUsb, "plug" | "key" | "look">): KnownUsb {
  return { port: look.port, id: look.facts.id, key, plug, authorized: look.authorized === true };
}

function differs(a: UsbState, b: UsbState): boolean {
  const bare = ({ authorized, interfaces, defaults }: UsbState) => JSON.stringify([authorized, interfaces, defaults]);
  return bare(a) !== bare(b);
}

/** Bounded: rules with conditions on their own history are few. */
function keep(times: Map<string, number>, key: string, atMs: number): void {
  if (times.size >= MAX_HISTORY && !times.has(key)) return;
  times.set(key, atMs);
}
