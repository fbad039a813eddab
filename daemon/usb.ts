import type { Entry } from "./audit/record.ts";
import { codeOf } from "./core/errno.ts";
import { BoundaryError, renderErrorChain } from "./core/errors.ts";
import type { Hold } from "./core/hold.ts";
import { isStricter, type Mode } from "./core/mode.ts";
import { createRepeats } from "./core/repeats.ts";
import type { Signal } from "./core/signal.ts";
import type { Obstacle } from "./core/switches.ts";
import {
  awaitedIn,
  awaitedName,
  FIRST_START,
  grantFor,
  liveGrants,
  renderUsbMemory,
  tightenedGrants,
  type UsbGrant,
  type UsbMemory,
  usbGap,
  usbKey,
  usbPlug,
  withGrant,
} from "./core/usb-memory.ts";
import { decideUsb, isHub, isInputDevice, type UsbVerdict, type UsbWord } from "./core/usb-policy.ts";
import type { EvaluateContext } from "./core/usb-rule.ts";
import type { Clock, OpLog, UsbGate, UsbLook, UsbOrder, UsbState } from "./ports.ts";
import {
  broughtTo,
  decisionKey,
  driversOf,
  type HeldUsb,
  hasChanged,
  isController,
  isSameVerdict,
  isUnread,
  knownOf,
  newHeld,
  noticeStorage,
  refusesAny,
  saysOther,
  subjectOf,
} from "./usb-held.ts";
import { createUsbJudge, wordOfGrant } from "./usb-judge.ts";
import { appliedRecord, decidedData, detachedRecord, failedRecord, grantedRecord } from "./usb-records.ts";
import type { Rulebook } from "./usb-rulebook.ts";

type Receipt = { readonly seq: number; readonly durable: Promise<unknown> };

export type UsbControlParts = {
  readonly gate: UsbGate;
  /** What is missing for enforcing: empty when nothing is. Asked again while it is not; a switch stays as it is. */
  readonly missing: () => readonly Obstacle[];
  /** An earlier run left a mark for udev, which closes the controllers by it, this one's switch being off or not. */
  readonly leftClosed: boolean;
  /** Nothing is missing any more: it is enforced from now on. */
  readonly onEnforced: () => void;
  readonly rules: Rulebook;
  /** What the log remembers; null when it remembers nothing. */
  readonly memory: UsbMemory | null;
  readonly clock: Clock;
  readonly localOffsetMinutes: (atMs: number) => number;
  readonly random: () => number;
  readonly hold: () => Hold;
  /** Whether anything may be allowed at this moment: not while the log has no room. */
  readonly mayAllow: () => boolean;
  readonly frozen: () => boolean;
  readonly append: (entry: Entry) => Receipt;
  readonly submit: (signal: Signal) => void;
  readonly repeatWindowMs: number;
  /** Whether a new keyboard needs more than a rule: a code typed on it, or a person's word. */
  readonly challengeKeyboards: boolean;
  readonly opLog: OpLog;
};

export type UsbCounts = {
  readonly controllers: number;
  readonly closed: number;
  readonly authorized: number;
  readonly blocked: number;
  readonly wouldBlock: number;
};

/**
 * USB: joins rules, people and mode, and brings devices to what they come to. What is taken away is taken at once, beside
 * its record; what is given, only when the record is durable. Calls are synchronous and do not throw, unless said so.
 */
export type UsbControl = {
  /** "observed": what would be decided is shown, and nothing is written. */
  readonly how: "enforced" | "observed";
  readonly missing: readonly string[];
  /** The mode it goes by; LOCKDOWN before it was told of any. */
  mode(): Mode;
  /** To be called in the turn in which the kernel is told of the mode, and whenever it is told again. */
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
  /** Reads everything from the kernel, changes nothing, and says what is looser than decided. Empty when all is as it should be. */
  audit(): readonly string[];
  counts(): UsbCounts;
  /** RFC 3339: when the kernel was last read; "" when never. */
  checkedAt(): string;
  devices(): readonly HeldUsb[];
  controllers(): readonly UsbState[];
  /** What would come of it if a person said this of it; null: as it is. */
  judge(one: HeldUsb, word: UsbWord | null): UsbVerdict;
  /** What another mode would decide about it, on being entered now. */
  foresee(one: HeldUsb, mode: Mode): UsbVerdict;
  contextOf(one: HeldUsb): EvaluateContext;
  /**
   * Takes a person's word, said of this plugging-in whatever it is for: an allow counts once its records are durable,
   * anything else at once. Resolves then; rejects when they cannot be made durable.
   */
  grant(given: UsbGrant, about: Pick<HeldUsb, "plug">, record: Entry): Promise<void>;
  /**
   * While somebody else has it (a challenge) the device is left as it is, unless the mode changes or a person refuses it.
   * Gives the way to return it, which brings it to what is decided, and says whether it was not taken back meanwhile.
   */
  lend(one: HeldUsb): () => boolean;
  /** Appends a `usb.state` with this digest: so the log signs permanent rules. */
  sign(rulesDigest: string): Receipt;
  /**
   * Sets what gives rules to keyboards, pointers and what they hang on, when nobody has given any and they are kept: what
   * is kept for this boot is then let in after the next one too.
   */
  onKept(keep: (kept: readonly HeldUsb[]) => Promise<void>): void;
  /** The rules have become others: everything is decided anew. */
  rulesChanged(): void;
};

const GLANCE_MS = 1_000;
const READ_AGAIN_MS = 30_000;
const STATE_MS = 2_000;
const RETRY_MS = 1_000;
const UDEV_MS = 5_000;
const OPENING_MS = 10_000;
/** A trip in the first moments of a boot does not make the keyboard new that is about to be found. */
const AWAIT_MS = 600_000;
/** A hub that is let in may show another one. */
const MAX_TURNS = 8;
const MAX_DURABLES = 256;

export function createUsbControl(parts: UsbControlParts): UsbControl {
  const { gate, rules, clock, opLog, memory: remembered } = parts;
  const boot = clock.bootId();
  const nowMs = () => Number(clock.monoNs() / 1_000_000n);
  let obstacles = parts.missing();
  const madeMs = nowMs();
  let askedMs = madeMs;
  const isSwitchedOff = obstacles.some(({ kind }) => kind === "switch");
  const how = () => (obstacles.length === 0 ? "enforced" : "observed");
  const missing = () => obstacles.map(({ what }) => what);
  const held = new Map<string, HeldUsb>();
  const repeats = createRepeats(parts.repeatWindowMs);
  const durables = new Map<string, Promise<unknown>>(); // of decisions that let something in, by their key
  const lent = new Set<string>(); // plugs
  const deniedSinceMs = new Map<string, number>(); // of plugs that are being let in
  const monoEnds = new Map<string, number>(); // of grants: a wall clock that is set back prolongs nothing
  /** What this boot has not seen again yet: the kernel finds what hangs on a hub only once the hub is let in. */
  const awaited = new Map(awaitedIn(remembered, boot).map((one) => [awaitedName(one), one]));
  const pending = new Map<UsbGrant, string>(); // allows whose records are on their way, and the plug they were said of
  const closedByUs = new Set<string>();
  const signals: Signal[] = [];
  let controllers: readonly UsbState[] = [];
  let grants: readonly UsbGrant[] = (remembered?.grants ?? []).filter(
    ({ plug }) => plug === "" || plug.startsWith(`${boot} `),
  );
  let mode: Mode | null = null;
  let heldAs: Hold | null = null;
  let wasFrozen = false;
  // in this boot, by us or by udev for us
  let isClosed = parts.leftClosed || (remembered?.boot === boot && remembered.closed);
  // of rules that cannot be read today too: tomorrow they may be the signed ones again
  let rulesDigest = rules.fault() === "" ? rules.digest() : (remembered?.rules ?? "");
  let keepForGood: (kept: readonly HeldUsb[]) => Promise<void> = () => Promise.resolve();
  let stopped = false;
  let depth = 0;
  let begun = false;
  let opening: "no" | "on-its-way" | "recorded" = "no"; // with the switch off, of what an earlier run closed
  let isFirstOwed = false; // a first start that could not enforce yet
  let hasGiven = false;
  let listFailure = "";
  let defaultsFailure = "";
  let wouldBlock = 0;
  let checkedMs: number | null = null;
  let glancedMs = Number.NEGATIVE_INFINITY;
  let readAgainMs = Number.NEGATIVE_INFINITY;
  let statedMs = Number.NEGATIVE_INFINITY;
  let stated = "";
  let retryMs = Number.NEGATIVE_INFINITY;
  const judge = createUsbJudge({
    rules,
    clock,
    localOffsetMinutes: parts.localOffsetMinutes,
    random: parts.random,
    frozen: parts.frozen,
    challengeKeyboards: parts.challengeKeyboards,
    all: () => [...held.values()],
    awaited: () => [...awaited.values()],
    grants: () => grants,
  });
  for (const one of grants) timeGrant(one);

  /**
   * What devices are brought to. In shadow nothing, but what we closed ourselves in this boot is opened again. Likewise,
   * once, where the switch is off: nobody else would.
   */
  function aim(): "closed" | "open" | "nothing" {
    if (how() === "observed") return opening === "recorded" && isClosed ? "open" : "nothing";
    const hold = parts.hold();
    if (hold === "enforcing") return "closed";
    return hold === "released" || isClosed ? "open" : "nothing";
  }

  // --- reconciling: bringing everything to what is decided ---

  /** "new": only what is new or stale is decided. */
  function reconcile(which: "new" | "all"): void {
    if (stopped || mode === null) return;
    depth += 1;
    endDecisions();
    try {
      let looks = list();
      if (looks !== null) settleAll(looks, heldAs === parts.hold() ? which : "all");
      // what drivers took what was given, in the same turn: a storage driver is not to have it until the next look
      for (let turn = 0; looks !== null && hasGiven && turn < MAX_TURNS; turn++) {
        hasGiven = false;
        looks = list();
        if (looks !== null) settleAll(looks, "new");
      }
    } finally {
      depth -= 1;
    }
    // what they set off comes back here: only when everything is in its place, and the mode's record too
    if (depth === 0) for (const signal of signals.splice(0)) queueMicrotask(() => parts.submit(signal));
  }

  function list(): readonly UsbLook[] | null {
    try {
      const looks = gate.list();
      listFailure = "";
      checkedMs = clock.wallMs();
      return looks;
    } catch (error) {
      listFailure = renderErrorChain(error);
      tellFailure("", "", listFailure);
      return null;
    }
  }

  function settleAll(looks: readonly UsbLook[], which: "new" | "all"): void {
    const isFirst = !begun;
    begun = true;
    defaultsFailure = "";
    const settled = looks.map((look) => (isController(look) ? settleDefaults(look) : look));
    controllers = settled.filter(isController);
    if (aim() === "closed") isClosed = true;
    else if (parts.hold() === "released" && !isSwitchedOff && defaultsFailure === "") isClosed = false;
    const plugs = new Map(settled.map((look) => [usbPlug(boot, look), look]));
    for (const [plug, one] of held) if (!plugs.has(plug)) detach(one);
    for (const [plug, look] of plugs) takeIn(plug, look, isFirst);
    if (isFirst && mode !== null) endLoosenings(null, mode); // of a tightening that a crash cut off
    const isKept = keepWhatIsInUse(isFirst);
    for (const one of held.values()) if (!isController(one.look)) settle(one, which);
    state(isFirst || isKept ? "now" : "when-due");
    openWhenRecorded();
  }

  function takeIn(plug: string, look: UsbLook, isFirst: boolean): void {
    const one = held.get(plug);
    if (one) {
      if (lent.has(plug)) return; // as it was: what it is meanwhile is no grant
      noticeTampering(one, look);
      if (one.look.authorized !== look.authorized || driversOf(one.look) !== driversOf(look))
        one.stale = true;
      if (saysOther(one.look, look)) readAnew(one, look);
      one.look = look;
      noticeStorage(one);
      return;
    }
    const key = usbKey(look.facts);
    const standing = standingOf(look, key, plug, isFirst);
    const fresh = newHeld({ plug, key, sinceMs: nowMs(), look, standing, history: judge.history() });
    noticeStorage(fresh);
    held.set(plug, fresh);
  }

  /** It is the one that it was, and known better. */
  function readAnew(one: HeldUsb, look: UsbLook): void {
    one.stale = true;
    const key = usbKey(look.facts);
    if (key === one.key) return;
    const isRefusal = ({ plug, target }: UsbGrant) => plug === one.plug && target !== "allow";
    grants = grants.map((given) => (isRefusal(given) ? { ...given, key } : given));
    one.key = key;
    if (one.standing === "new") one.standing = standingOf(look, key, one.plug, false);
  }

  /** What the log says was let in before; at a start all that is, where there is no log yet. */
  function standingOf(look: UsbLook, key: string, plug: string, isFirst: boolean): HeldUsb["standing"] {
    if (isFirst && remembered === null) return look.authorized === true ? "kept" : "new";
    const isKept =
      isFirst &&
      remembered?.boot === boot &&
      remembered.known.some((one) => one.authorized && one.key === key && one.plug === plug);
    if (isKept) return "kept";
    return awaited.has(awaitedName({ port: look.port, key })) ? "restored" : "new";
  }

  function enterAnew(): void {
    if (nowMs() - madeMs > AWAIT_MS) awaited.clear(); // whoever has not come by now was not there
    for (const one of held.values()) standAnew(one);
  }

  /** Once: what is at its port after it is new. */
  function takeUp(one: HeldUsb): void {
    if (one.standing !== "restored") return;
    one.standing = "kept";
    awaited.delete(awaitedName({ port: one.look.port, key: one.key }));
  }

  /** For the mode that is entered now. */
  function standAnew(one: HeldUsb): void {
    if (one.look.authorized === true) takeUp(one);
    const isAwaited =
      one.standing === "restored" && awaited.has(awaitedName({ port: one.look.port, key: one.key }));
    if (!isAwaited) one.standing = one.look.authorized === true ? "kept" : "new";
  }

  /** Nobody has given rules yet: a keyboard in use is not taken away before somebody was asked. */
  function keepWhatIsInUse(isFirst: boolean): boolean {
    const hold = parts.hold();
    const begins =
      hold === "enforcing" && (heldAs === "shadow" || isFirstOwed || (isFirst && remembered === null));
    heldAs = hold;
    isFirstOwed = begins && how() === "observed";
    if (!begins || isFirstOwed || rules.arePersonal()) return false;
    const kept: HeldUsb[] = [];
    for (const one of held.values()) {
      const { key, plug, look } = one;
      const subject = subjectOf(one);
      if (subject.controller || subject.problem !== null || !(isInputDevice(subject) || isHub(subject)))
        continue;
      const given: UsbGrant = {
        key,
        target: "allow",
        by: FIRST_START,
        fromMs: clock.wallMs(),
        untilMs: null,
        plug,
        mode: mode ?? "LOCKDOWN",
        storage: "no",
      };
      grants = withGrant(grants, given);
      parts.append(grantedRecord(look, given));
      if (isInputDevice(subject) || hasInputOn(one)) kept.push(one);
    }
    // not in the turn of the mode; and not in place of rules that cannot be read
    if (kept.length > 0 && rules.fault() === "") queueMicrotask(() => giveRules(kept));
    return true;
  }

  function hasInputOn(hub: HeldUsb): boolean {
    return [...held.values()].some(
      (one) => one.look.port.startsWith(`${hub.look.port}.`) && isInputDevice(subjectOf(one)),
    );
  }

  function giveRules(kept: readonly HeldUsb[]): void {
    keepForGood(kept).catch((error: unknown) => {
      opLog.error(
        { why: renderErrorChain(error) },
        "the keyboards in use have no rules: they are kept in this boot alone",
      );
    });
  }

  function settle(one: HeldUsb, which: "new" | "all"): void {
    if (lent.has(one.plug)) return;
    if (which === "all" || one.stale) decide(one);
    if (aim() === "nothing") return;
    const before = one.failure;
    takeAway(one);
    if (lacks(one)) {
      if (one.failure === "" || nowMs() >= retryMs) giveWhenRecorded(one);
      return;
    }
    if (one.recorded === "no") recordTaken(one);
    if (one.failure !== "") return;
    if (one.verdict.device === "allow" && one.look.authorized === true) takeUp(one);
    one.confirmed = true;
    if (before !== "") parts.append(appliedRecord(one.look, one.verdict));
  }

  function decide(one: HeldUsb): void {
    one.stale = false;
    const question = judge.ask(one, mode);
    if (parts.hold() === "shadow" && how() === "enforced") noticeShadow(one, refusesAny(question));
    const verdict = decideUsb(aim() === "open" ? { ...question, hold: "released" } : question);
    if (isSameVerdict(verdict, one.verdict)) {
      // the same object where it ends when it did: an allow on its way to the log stays the one that was decided
      if (verdict.validUntilMs !== one.verdict.validUntilMs && one.recorded !== "on-its-way")
        one.verdict = verdict;
      return;
    }
    one.verdict = verdict;
    one.confirmed = false;
    one.recorded = "no";
    one.failure = "";
  }

  function noticeShadow(one: HeldUsb, verdict: UsbVerdict | null): void {
    if (verdict === null) return;
    wouldBlock += 1;
    const key = decisionKey({ ...one, verdict }, mode ?? "");
    if (!repeats.first("usb.would-block", key, nowMs())) return;
    parts.append({ kind: "usb.would-block", data: decidedData(one.look, verdict, mode ?? "", "shadow") });
  }

  function isAllowed({ verdict }: HeldUsb, name: string): boolean {
    if (verdict.device !== "allow") return false;
    return aim() === "open" || verdict.interfaces.some((each) => each.name === name && each.allow);
  }

  /** At once: what must not be there. */
  function takeAway(one: HeldUsb): void {
    const { look, verdict } = one;
    const isThere = look.authorized !== false;
    if (verdict.device !== "allow") {
      const isDone = verdict.device === "reject" ? one.confirmed : !isThere;
      if (isDone) one.failure = "";
      else bring(one, { device: verdict.device, interfaces: new Set() });
      return;
    }
    const isRefused = look.interfaces.some((each) => each.authorized !== false && !isAllowed(one, each.name));
    if (!isThere || !isRefused) return;
    const stays = look.interfaces.filter((each) => each.authorized === true && isAllowed(one, each.name));
    bring(one, { device: "allow", interfaces: new Set(stays.map(({ name }) => name)) });
  }

  function bring(one: HeldUsb, order: UsbOrder, manner?: "patiently"): boolean {
    const { look } = one;
    try {
      gate.set(look, order);
    } catch (error) {
      if (manner === "patiently" && isNotYetOurs(one, error)) return false;
      one.failure = renderErrorChain(error);
      one.confirmed = false;
      tellFailure(look.port, look.facts.id, one.failure);
      return false;
    }
    const lets = (name: string) => order.interfaces === "all" || order.interfaces.has(name);
    if (order.device === "allow") hasGiven = true;
    one.look = broughtTo(look, order.device === "allow", lets);
    one.failure = "";
    deniedSinceMs.delete(one.plug);
    return true;
  }

  /** udev gives us an interface's files a moment after the kernel has made them: until then a refusal is no failure. */
  function isNotYetOurs({ plug }: HeldUsb, error: unknown): boolean {
    if (!(error instanceof BoundaryError) || codeOf(error.cause) !== "not-permitted") return false;
    const sinceMs = deniedSinceMs.get(plug) ?? nowMs();
    deniedSinceMs.set(plug, sinceMs);
    return nowMs() - sinceMs < UDEV_MS;
  }

  /** What somebody else has is taken from him. */
  function takeBack(one: HeldUsb): void {
    lent.delete(one.plug);
    one.stale = true;
    if (aim() === "closed") bring(one, { device: "block", interfaces: new Set() });
  }

  function takeAllBack(): void {
    for (const one of held.values()) if (lent.has(one.plug)) takeBack(one);
    lent.clear();
  }

  /** Something that the verdict allows is not there yet. */
  function lacks(one: HeldUsb): boolean {
    const { look, verdict } = one;
    if (verdict.device !== "allow" || isController(look) || aim() === "nothing") return false;
    return (
      look.authorized !== true ||
      look.interfaces.some(({ name, authorized }) => authorized !== true && isAllowed(one, name))
    );
  }

  function giveWhenRecorded(one: HeldUsb): void {
    if (one.recorded === "on-its-way" || !parts.mayAllow()) return; // asked again at a tick
    const { verdict } = one;
    if (one.recorded === "yes") {
      give(one);
      return;
    }
    one.recorded = "on-its-way";
    recordGiven(one).then(
      () => {
        if (one.verdict !== verdict) return; // an allow of before a trip is none any more
        one.recorded = "yes";
        give(one);
      },
      () => {
        if (one.verdict === verdict) one.recorded = "no";
      },
    );
  }

  /** Brings in what the record that is durable by now says. */
  function give(one: HeldUsb): void {
    const { verdict } = one;
    if (stopped || held.get(one.plug) !== one || !parts.mayAllow()) return;
    if (!lacks(one)) return;
    const names = verdict.interfaces.flatMap(({ name, allow }) => (allow ? [name] : []));
    const order: UsbOrder = { device: "allow", interfaces: aim() === "open" ? "all" : new Set(names) };
    if (!bring(one, order, "patiently")) return;
    takeUp(one);
    one.confirmed = true;
    if (repeats.first("usb.applied", decisionKey(one, mode ?? ""), nowMs()))
      parts.append(appliedRecord(one.look, verdict));
    if (depth === 0) reconcile("new"); // what drivers took it, and whether it is what was ordered
  }

  /** A decision that takes away, or keeps out, or finds things as they should be: one of a kind is told, repeats are counted. */
  function recordTaken(one: HeldUsb): void {
    one.recorded = "yes";
    if (!repeats.first("usb.decided", decisionKey(one, mode ?? ""), nowMs())) return;
    const applied = one.failure === "" ? "confirmed" : "failed";
    parts.append({ kind: "usb.decided", data: decidedData(one.look, one.verdict, mode ?? "", applied) });
  }

  /** The record that has to be durable before this is let in: its own, or that of the same decision a moment ago. */
  function recordGiven(one: HeldUsb): Promise<unknown> {
    const key = decisionKey(one, mode ?? "");
    const isFirst = repeats.first("usb.given", key, nowMs());
    const before = durables.get(key);
    if (!isFirst && before) return before;
    const data = decidedData(one.look, one.verdict, mode ?? "", "after-its-record");
    const { durable } = parts.append({ kind: "usb.decided", data });
    if (durables.size >= MAX_DURABLES) durables.clear();
    durables.set(key, durable);
    durable.catch(() => durables.delete(key));
    return durable;
  }

  /** The controller as it is then. */
  function settleDefaults(look: UsbLook): UsbLook {
    const to = aim();
    if (to === "nothing") return look;
    const { port, defaults } = look;
    const wanted = to === "closed" ? "0" : "1";
    const isSo = defaults?.device === wanted && defaults.interface === wanted;
    if (!isSo && to === "closed" && closedByUs.has(port))
      changed(port, "default", `new devices ${defaults?.device}, new interfaces ${defaults?.interface}`);
    closedByUs.delete(port);
    try {
      if (!isSo) gate.setDefaults(port, to);
      if (to === "closed") closedByUs.add(port);
      return { ...look, defaults: { device: wanted, interface: wanted } };
    } catch (error) {
      defaultsFailure = renderErrorChain(error);
      tellFailure(port, "", defaultsFailure);
      return look;
    }
  }

  // --- what others do ---

  /** Looser than the kernel had confirmed: somebody did that. Stricter can be the kernel itself, after a reset. */
  function noticeTampering(one: HeldUsb, look: UsbLook): void {
    if (!one.confirmed || one.verdict.device === "reject" || aim() !== "closed" || isController(look)) return;
    if (one.verdict.device !== "allow") {
      if (look.authorized === false) return;
      changed(look.port, "device", `${look.facts.id} is authorised, and not by us`);
    } else {
      const extra = look.interfaces.filter((each) => each.authorized !== false && !isAllowed(one, each.name));
      if (extra.length === 0) return;
      const names = extra.map(({ name }) => name).join(" ");
      changed(look.port, "interface", `${names} of ${look.facts.id} authorised, and not by us`);
    }
    one.confirmed = false;
  }

  /** What is in the kernel and ought not to be: of one device or controller. */
  function looserThanDecided(look: UsbLook): readonly string[] {
    if (isController(look)) {
      const isOpen = look.defaults?.device !== "0" || look.defaults.interface !== "0";
      return isOpen ? [`${look.port} lets in what is new`] : [];
    }
    const one = held.get(usbPlug(boot, look));
    // one that has just come is refused by its controller until it is decided about
    if (one === undefined || lent.has(one.plug) || look.authorized === false) return [];
    if (one.verdict.device !== "allow") return [`${look.port} is authorised, and was decided to be kept out`];
    return look.interfaces
      .filter(({ name, authorized }) => authorized !== false && !isAllowed(one, name))
      .map(({ name }) => `${name} is authorised, and was decided to be kept out`);
  }

  function changed(port: string, what: "device" | "interface" | "default", detail: string): void {
    const facts = { port, what, detail: detail.slice(0, 200) };
    signals.push({ kind: "usb.changed", facts, seenNs: clock.monoNs() });
  }

  function detach(one: HeldUsb): void {
    held.delete(one.plug);
    deniedSinceMs.delete(one.plug);
    // the hubs that stayed for it
    for (const hub of held.values()) if (one.look.port.startsWith(`${hub.look.port}.`)) hub.stale = true;
    grants = grants.filter(({ plug }) => plug !== one.plug);
    if (isController(one.look)) closedByUs.delete(one.look.port);
    if (repeats.first("usb.detached", JSON.stringify([one.look.port, one.key]), nowMs()))
      parts.append(detachedRecord(one.look));
  }

  function tellFailure(port: string, id: string, why: string): void {
    retryMs = nowMs() + RETRY_MS;
    if (!repeats.first("usb.apply-failed", JSON.stringify([port, why]), nowMs())) return;
    opLog.error({ port, why }, "the kernel did not take what was decided about USB");
    parts.append(failedRecord(port, id, why));
  }

  // --- the log's picture ---

  function state(when: "now" | "when-due"): Receipt | null {
    if (when === "when-due" && nowMs() - statedMs < STATE_MS) return null;
    const known = [...held.values()].map(knownOf);
    const missed = { awaited: [...awaited.values()], more: 0 };
    const data = renderUsbMemory({ boot, closed: isClosed, known, ...missed, grants, rules: rulesDigest });
    const text = JSON.stringify(data);
    if (text === stated) return null;
    statedMs = nowMs();
    stated = text;
    return parts.append({ kind: "usb.state", data });
  }

  function tellRepeats(all: ReturnType<typeof repeats.drainAll>): void {
    for (const { group, key, count } of all)
      parts.append({ kind: "usb.repeated", data: { what: group, cause: key.slice(0, 1_000), count } });
  }

  // --- time ---

  function timeGrant(given: UsbGrant): void {
    if (given.untilMs !== null) monoEnds.set(grantName(given), nowMs() + given.untilMs - clock.wallMs());
  }

  /** Grants whose end has come: of an allow by either clock, of a refusal by both. */
  function endGrants(): void {
    const isOver = (one: UsbGrant) => nowMs() >= (monoEnds.get(grantName(one)) ?? 0);
    const live = liveGrants(grants, { nowMs: clock.wallMs(), isOver }, new Set(held.keys()));
    if (live.length === grants.length) return;
    grants = live;
    const names = new Set(live.map(grantName));
    for (const name of monoEnds.keys()) if (!names.has(name)) monoEnds.delete(name);
    for (const one of held.values()) one.stale = true;
  }

  /** A tightening ends what loosened before it, also what is still on its way to the log. */
  function endLoosenings(before: Mode | null, next: Mode): boolean {
    const hadPending = before !== null && isStricter(next, before) && pending.size > 0;
    if (hadPending) pending.clear();
    const stays = (given: UsbGrant) =>
      [...held.values()].some((one) => {
        if (one.look.authorized !== true || grantFor([given], one.key, one.plug) === null) return false;
        const subject = subjectOf(one);
        if (isInputDevice(subject) || isHub(subject)) return true;
        return decideUsb(judge.question(one, next, wordOfGrant(given))).device === "allow";
      });
    const left = tightenedGrants(grants, { before, now: next }, stays);
    const hasEnded = hadPending || left.some((one, at) => one !== grants[at]) || left.length < grants.length;
    grants = left;
    return hasEnded;
  }

  function endDecisions(): void {
    const isFrozen = parts.frozen();
    for (const one of held.values()) {
      const { validUntilMs } = one.verdict;
      if (validUntilMs !== null && (isFrozen !== wasFrozen || clock.wallMs() >= validUntilMs))
        one.stale = true;
    }
    wasFrozen = isFrozen;
  }

  /**
   * udev gives the files to our group a moment after they exist. Once that was so it counts as so: what cannot be written
   * afterwards is a failure, and told.
   */
  function askAgain(): boolean {
    if (how() === "enforced" || isSwitchedOff || nowMs() - askedMs < RETRY_MS) return false;
    askedMs = nowMs();
    obstacles = parts.missing();
    return how() === "enforced";
  }

  /** With the switch off: opens what an earlier run closed, once that is on disk. */
  function openWhenRecorded(): void {
    if (!isSwitchedOff || !isClosed || opening !== "no" || !parts.mayAllow()) return;
    opening = "on-its-way";
    const data = { why: "the switch is off, and an earlier run of ours closed the controllers" };
    parts.append({ kind: "usb.opened", data }).durable.then(
      () => {
        opening = "recorded";
        reconcile("all");
      },
      () => {
        opening = "no"; // asked again at a tick
      },
    );
  }

  /** With the switch off: what others refuse from now on is theirs. Not at once, since udev may still be about to close. */
  function endOpening(): void {
    if (!isSwitchedOff || !isClosed || nowMs() - madeMs < OPENING_MS) return;
    if (defaultsFailure === "" && ![...held.values()].some(lacks)) isClosed = false;
  }

  function tick(): void {
    if (stopped || mode === null) return;
    tellRepeats(repeats.drain(nowMs()));
    endGrants();
    endDecisions();
    openWhenRecorded();
    endOpening();
    if (askAgain()) {
      reconcile("all");
      opLog.info({}, "USB is enforced: what was missing is there");
      parts.onEnforced();
      return;
    }
    const all = [...held.values()].filter(({ look }) => !isController(look));
    const isOwed = parts.mayAllow() && all.some((one) => lacks(one) && one.recorded !== "on-its-way");
    const isFailing =
      listFailure !== "" || defaultsFailure !== "" || all.some(({ failure }) => failure !== "");
    const asks = heldAs !== parts.hold() || all.some(({ stale }) => stale) || isToBeReadAgain(all);
    if (asks || (isOwed && !isFailing) || (isFailing && nowMs() >= retryMs) || hasMoved()) reconcile("new");
    else state("when-due");
  }

  /** Once a second in its first half minute: what sysfs did not have at the first look. */
  function isToBeReadAgain(all: readonly HeldUsb[]): boolean {
    if (nowMs() - readAgainMs < GLANCE_MS) return false;
    readAgainMs = nowMs();
    return all.some((one) => isUnread(one) && nowMs() - one.sinceMs < READ_AGAIN_MS);
  }

  /** Whether the kernel holds something else than we know of: looked at once a second. */
  function hasMoved(): boolean {
    if (nowMs() - glancedMs < GLANCE_MS) return false;
    glancedMs = nowMs();
    try {
      const found = gate.glance();
      checkedMs = clock.wallMs();
      const known = new Map([...held.values()].map(({ look }) => [usbPlug(boot, look), look]));
      return (
        found.length !== known.size ||
        found.some((each) => {
          const look = known.get(usbPlug(boot, each));
          return look === undefined || hasChanged(look, each);
        })
      );
    } catch {
      return true; // listing it tells why
    }
  }

  /** What was refused after it was allowed stays refused, whichever record is on disk first; a challenge ends with it. */
  function refusePending(given: UsbGrant, about: string): void {
    const isMeant = (key: string, plug: string) => key === given.key && (given.plug === "" || plug === about);
    for (const [one, plug] of pending) if (isMeant(one.key, plug)) pending.delete(one);
    for (const plug of lent) {
      const one = held.get(plug);
      if (one && isMeant(one.key, plug)) takeBack(one);
    }
  }

  /** The grant, and what hangs on it. */
  function take(given: UsbGrant, about: string): void {
    if (given.target !== "allow") refusePending(given, about);
    grants = withGrant(grants, given, about);
    timeGrant(given);
    for (const one of held.values()) if (one.key === given.key) one.stale = true;
    reconcile("new");
  }

  return {
    get how() {
      return how();
    },
    get missing() {
      return missing();
    },
    mode: () => mode ?? "LOCKDOWN",
    modeIs(next) {
      if (mode !== null && mode !== next) enterAnew();
      if (mode !== next) takeAllBack(); // the new mode may refuse it
      const isOther = mode !== next;
      const hasEnded = mode !== null && isOther && endLoosenings(mode, next);
      mode = next;
      reconcile(isOther ? "all" : "new");
      if (hasEnded) state("now");
    },
    look: () => reconcile("new"),
    tick,
    stop() {
      if (stopped) return;
      takeAllBack();
      tellRepeats(repeats.drainAll());
      if (mode !== null) state("now");
      stopped = true;
    },
    gap() {
      if (remembered === null) return [];
      const looks = list();
      if (looks === null) return [`usb: ${listFailure}`];
      const now = looks.map((look) =>
        knownOf({
          plug: usbPlug(boot, look),
          key: usbKey(look.facts),
          look,
          storage: new Map(),
        }),
      );
      return usbGap(remembered, now, remembered.boot === boot ? "same-boot" : "rebooted");
    },
    failure() {
      if (how() === "observed" && aim() === "nothing") {
        const isAsked = !isSwitchedOff && parts.hold() === "enforcing";
        return isAsked ? `switched on, and not enforced; missing: ${missing().join("; ")}` : "";
      }
      const device = [...held.values()].find((one) => one.failure !== "");
      return listFailure || defaultsFailure || (device ? `${device.look.port}: ${device.failure}` : "");
    },
    audit() {
      if (aim() !== "closed") return [];
      try {
        const looks = gate.list();
        checkedMs = clock.wallMs();
        return looks.flatMap(looserThanDecided);
      } catch (error) {
        return [renderErrorChain(error)];
      }
    },
    counts() {
      const devices = [...held.values()].filter(({ look }) => !isController(look));
      const authorized = devices.filter(({ look }) => look.authorized === true).length;
      const blocked = devices.length - authorized;
      return { controllers: controllers.length, closed: closedByUs.size, authorized, blocked, wouldBlock };
    },
    checkedAt: () => (checkedMs === null ? "" : new Date(checkedMs).toISOString()),
    devices: () => [...held.values()],
    controllers: () => controllers,
    judge: (one, word) => decideUsb(judge.question(one, mode, word)),
    foresee(one, next) {
      const standing = one.look.authorized === true ? "kept" : "new";
      return decideUsb(judge.question({ ...one, standing }, next, null));
    },
    contextOf: judge.contextOf,
    async grant(given, about, entry) {
      if (given.target !== "allow") take(given, about.plug);
      const before = grants;
      grants = withGrant(grants, given, about.plug); // as the record of the state has it
      const { durable } = parts.append(entry);
      const pictured = state("now")?.durable ?? durable;
      grants = before;
      if (given.target === "allow") pending.set(given, about.plug);
      try {
        await Promise.all([durable, pictured]);
        if (pending.has(given)) take(given, about.plug);
      } finally {
        pending.delete(given);
      }
    },
    sign(digest) {
      const before = rulesDigest;
      rulesDigest = digest;
      const receipt = state("now");
      rulesDigest = before;
      if (receipt === null) throw new BoundaryError("internal", "signing rules that are the same as before");
      return receipt;
    },
    lend(one) {
      lent.add(one.plug);
      return () => {
        const wasLent = lent.delete(one.plug) && held.get(one.plug) === one;
        one.stale = true;
        reconcile("new");
        return wasLent;
      };
    },
    onKept(keep) {
      keepForGood = keep;
    },
    rulesChanged() {
      rulesDigest = rules.digest();
      reconcile("all");
    },
  };
}

/** What tells one grant from another. */
function grantName({ key, plug }: UsbGrant): string {
  return JSON.stringify([key, plug]);
}
