import { BoundaryError } from "./core/errors.ts";
import type { Mode } from "./core/mode.ts";
import type { UsbFacts, UsbTarget } from "./core/usb-facts.ts";
import { FIRST_START, type UsbGrant } from "./core/usb-memory.ts";
import { isStorage, type UsbVerdict } from "./core/usb-policy.ts";
import { renderUsbRule } from "./core/usb-rule-render.ts";
import type {
  Control,
  UsbChallengeReply,
  UsbDeviceView,
  UsbExplanationReply,
  UsbGrantReply,
  UsbList,
  UsbOutlook,
  UsbPolicyReply,
} from "./protocol/messages.ts";
import type { UsbControl } from "./usb.ts";
import type { UsbChallenges } from "./usb-challenges.ts";
import { type HeldUsb, isController, subjectOf } from "./usb-held.ts";
import { wordOfGrant } from "./usb-judge.ts";
import { grantedRecord, rulesRecord } from "./usb-records.ts";
import type { Rulebook, RulesDraft } from "./usb-rulebook.ts";

export type UsbPeopleParts = {
  readonly control: UsbControl;
  readonly rules: Rulebook;
  readonly challenges: Pick<UsbChallenges, "begin">;
  readonly append: (entry: ReturnType<typeof rulesRecord>) => { readonly durable: Promise<unknown> };
  readonly wallMs: () => number;
  readonly mode: () => Mode;
  /** Why nothing may be loosened now; null when it may. */
  readonly obstacle: () => { readonly code: BoundaryError["code"]; readonly why: string } | null;
  /** Whether storage takes a terminal to be allowed. */
  readonly requireTerminal: boolean;
};

export type UsbWish = {
  readonly device: string;
  readonly permanent: boolean;
  readonly forMs: number | null;
  readonly by: { readonly name: string; readonly terminal: string };
};

/** What people ask and say of USB. What is refused is a BoundaryError with its code. */
export type UsbPeople = {
  list(): UsbList;
  /** Throws BoundaryError("usb-unknown"), as all do that take a device. `storage`: as the modes' ceilings see it. */
  show(device: string): UsbFacts & { readonly storage: boolean };
  explain(device: string): UsbExplanationReply;
  propose(options: { readonly ports: boolean; readonly hashes: boolean }): UsbPolicyReply;
  /** Resolves when it is recorded, and done as far as it can be at once. */
  say(target: UsbTarget, wish: UsbWish): Promise<UsbGrantReply>;
  /** Begins a challenge, and gives the code that is to be typed. For a person at a terminal: the code goes to him. */
  challenge(device: string, by: UsbWish["by"]): UsbChallengeReply;
  /** For the pre-flight of a mode: what it would do with what is plugged in. */
  outlook(mode: Mode): readonly UsbOutlook[];
  status(): UsbClaim;
};

/** Of one list in a reply: a frame is 64 KiB, and there are two. */
const MAX_LIST_BYTES = 40 * 1_024;
const MAX_CONTROLLERS = 64;
const MAX_TEXT = 200;
const MAX_LISTED = 16;

export function createUsbPeople(parts: UsbPeopleParts): UsbPeople {
  const { control, rules } = parts;
  let writing: Promise<unknown> = Promise.resolve();

  /** By its port; else the only one of that id or hash. */
  function find(name: string): HeldUsb {
    const devices = control.devices().filter(({ look }) => !isController(look));
    const atPort = devices.find(({ look }) => look.port === name);
    if (atPort) return atPort;
    const others = devices.filter(
      ({ look }) => look.facts.id === name.toLowerCase() || look.facts.hash === name,
    );
    const [only] = others;
    if (only && others.length === 1) return only;
    throw new BoundaryError(
      "usb-unknown",
      others.length === 0
        ? `no device ${JSON.stringify(name)} is plugged in`
        : `${JSON.stringify(name)} is ${others.length} devices: ${others.map(({ look }) => look.port).join(", ")}`,
    );
  }

  function list(): UsbList {
    const devices = control.devices().filter(({ look }) => !isController(look));
    const shown = asManyAsFit(devices.map(viewOf));
    return {
      control: status(),
      devices: shown,
      more: devices.length - shown.length,
      controllers: control
        .controllers()
        .slice(0, MAX_CONTROLLERS)
        .map(({ port, defaults }) => ({
          port,
          newDevices: allowance(defaults?.device),
          newInterfaces: allowance(defaults?.interface),
        })),
      rules: rules.counts(),
      wouldBlock: control.counts().wouldBlock,
    };
  }

  function explain(name: string): UsbExplanationReply {
    const one = find(name);
    const all = rules.explain(one.look.facts, control.contextOf(one));
    const told = asManyAsFit(
      all.map(({ rule, matched, because }) => ({
        rule: renderUsbRule(rule).slice(0, 2 * MAX_TEXT),
        matched,
        because: because.slice(0, MAX_TEXT),
      })),
    );
    return { device: viewOf(one), rules: told, more: all.length - told.length };
  }

  function propose({ ports, hashes }: { readonly ports: boolean; readonly hashes: boolean }): UsbPolicyReply {
    const looks = [...control.devices()].map(({ look }) => look.facts);
    const text = rules.propose(looks, { withPorts: ports, withHashes: hashes });
    return { text, devices: looks.length };
  }

  async function say(target: UsbTarget, wish: UsbWish): Promise<UsbGrantReply> {
    const one = find(wish.device);
    if (control.how === "observed" && !wish.permanent)
      throw new BoundaryError("usb-observed", `USB is only watched; missing: ${control.missing.join("; ")}`);
    if (one.look.problem !== null)
      throw new BoundaryError("usb-unknown", `${one.look.port}: ${one.look.problem}`);
    const nowMs = parts.wallMs();
    const given: UsbGrant = {
      key: one.key,
      target,
      by: wish.by.name,
      fromMs: nowMs,
      untilMs: wish.forMs === null ? null : nowMs + wish.forMs,
      plug: wish.forMs === null ? one.plug : "",
      mode: parts.mode(),
      storage: wish.by.terminal === "" && parts.requireTerminal ? "from-afar" : "at-terminal",
    };
    if (target === "allow") requireAllowable(one, given, wish);
    const grant = () => control.grant(given, one, grantedRecord(one.look, given));
    // a refusal waits for nothing
    const refused = target === "allow" ? null : grant();
    refused?.catch(() => undefined); // told below, unless the rule fails first
    const rule = wish.permanent ? await writeRule(target, one, wish.by.name) : "";
    await recorded(refused ?? grant());
    const until = given.untilMs === null ? "" : new Date(given.untilMs).toISOString();
    return { device: viewOf(one), until, rule };
  }

  function challenge(device: string, by: UsbWish["by"]): UsbChallengeReply {
    if (parts.requireTerminal && by.terminal === "")
      throw new BoundaryError("usb-no-terminal", "a code is shown to a person at a terminal");
    return parts.challenges.begin(find(device), by.name);
  }

  function requireAllowable(one: HeldUsb, given: UsbGrant, wish: UsbWish): void {
    const obstacle = parts.obstacle();
    if (obstacle) throw new BoundaryError(obstacle.code, obstacle.why);
    const verdict = control.judge(one, wordOfGrant({ ...given, storage: "at-terminal" }));
    if (verdict.device !== "allow") throw new BoundaryError("usb-ceiling", verdict.why);
    const isStored = subjectOf(one).interfaces.some(
      (each) => isStorage(each) && verdict.interfaces.some(({ name, allow }) => allow && name === each.name),
    );
    if (isStored && parts.mode() === "RESTRICTED" && parts.requireTerminal && wish.by.terminal === "")
      throw new BoundaryError(
        "usb-no-terminal",
        "in RESTRICTED storage is allowed by a person at a terminal",
      );
  }

  async function writeRule(target: UsbTarget, one: HeldUsb, by: string): Promise<string> {
    const [rule] = await write(by, () => {
      const draft = rules.prepare(target, [one.look.facts], "a person");
      if (draft.rules.length > 0) return draft;
      throw new BoundaryError("usb-unknown", "too little is known of the device for a rule of its own");
    });
    return rule ?? "";
  }

  /** One at a time: each is made from the one before. The log signs it before it takes the other's place. */
  function write(by: string, prepare: () => RulesDraft): Promise<readonly string[]> {
    const mine = writing.then(async () => {
      const { digest, rules: given, commit } = prepare();
      if (digest !== rules.digest()) {
        const told = given.map(({ port, rule }) => parts.append(rulesRecord(port, { digest, rule, by })));
        const signed = control.sign(digest);
        await recorded(Promise.all([...told, signed].map(({ durable }) => durable)));
      }
      commit();
      control.rulesChanged();
      return given.map(({ rule }) => rule);
    });
    writing = mine.catch(() => undefined);
    return mine;
  }

  function outlook(mode: Mode): readonly UsbOutlook[] {
    return control
      .devices()
      .filter(({ look }) => !isController(look))
      .map((one) => ({
        port: one.look.port,
        name: `${one.look.facts.id} ${one.look.facts.name}`.trim().slice(0, MAX_TEXT),
        verdict: foreseen(one, control.foresee(one, mode)),
      }));
  }

  function status(): UsbClaim {
    const name = "usb";
    const checkedAt = control.checkedAt();
    const { controllers, closed, authorized, blocked, wouldBlock } = control.counts();
    const seen = `${authorized} devices authorised, ${blocked} blocked`;
    if (controllers === 0 && control.failure() === "")
      return { name, state: "absent", detail: "no USB controller is there", checkedAt };
    if (control.how === "observed" && control.failure() === "") {
      const detail = `log-only; missing: ${control.missing.join("; ")}; ${seen}`;
      return { name, state: "observed", detail, checkedAt };
    }
    const fault = control.failure() || rules.fault();
    if (fault !== "") return { name, state: "failed", detail: `${fault}; ${seen}`, checkedAt };
    if (closed < controllers) {
      const would = wouldBlock === 0 ? "" : `; ${wouldBlock} would have been refused`;
      return { name, state: "observed", detail: `not held: nothing is refused; ${seen}${would}`, checkedAt };
    }
    return { name, state: "enforced", detail: `${closed} controllers closed, ${seen}`, checkedAt };
  }

  control.onKept(async (kept) => {
    const facts = kept.map(({ look }) => look.facts);
    await write(FIRST_START, () => rules.prepare("allow", facts, FIRST_START));
  });

  return {
    list,
    show: (device) => {
      const one = find(device);
      return { ...one.look.facts, storage: subjectOf(one).interfaces.some(isStorage) };
    },
    explain,
    propose,
    say,
    challenge,
    outlook,
    status,
  };
}

/** A row of the status without what self-tests say of it. */
type UsbClaim = Omit<Control, "testedAt">;

function foreseen({ look }: HeldUsb, verdict: UsbVerdict): string {
  const isIn = look.authorized === true;
  if (verdict.device !== "allow") return isIn ? `cut: ${verdict.why}` : `stays out: ${verdict.why}`;
  const lost = look.interfaces.filter(
    ({ name, authorized }) =>
      authorized === true && verdict.interfaces.some((each) => each.name === name && !each.allow),
  );
  if (lost.length > 0) return `loses ${lost.map(({ name }) => name).join(" ")}: ${verdict.why}`;
  return isIn ? "kept" : "let in";
}

/** The first of a list, as far as a reply has room. */
function asManyAsFit<T>(list: readonly T[]): readonly T[] {
  let left = MAX_LIST_BYTES;
  const end = list.findIndex((one) => {
    left -= new TextEncoder().encode(JSON.stringify(one)).length + 1;
    return left < 0;
  });
  return end === -1 ? list : list.slice(0, end);
}

function viewOf({ look, verdict, failure }: HeldUsb): UsbDeviceView {
  const { port, id, name, serial, hash, interfaces, connectType } = look.facts;
  const refused = verdict.interfaces.filter(({ allow }) => !allow).map((one) => one.name);
  const drivers = look.interfaces.flatMap((one) => (one.driver === "" ? [] : [`${one.name} ${one.driver}`]));
  return {
    port,
    id,
    name: name.slice(0, MAX_TEXT),
    serial: serial.slice(0, MAX_TEXT),
    hash,
    interfaces: interfaces.slice(0, MAX_LISTED),
    connectType,
    authorized: look.authorized === null ? "unknown" : look.authorized ? "yes" : "no",
    drivers: drivers.slice(0, MAX_LISTED),
    target: verdict.device,
    refused: verdict.device === "allow" ? refused.slice(0, MAX_LISTED) : [],
    rule: verdict.rule.slice(0, MAX_TEXT),
    why: verdict.why.slice(0, MAX_TEXT),
    until: verdict.validUntilMs === null ? "" : new Date(verdict.validUntilMs).toISOString(),
    failure: failure.slice(0, MAX_TEXT),
  };
}

function allowance(value: string | undefined): string {
  return value === "0" ? "refused" : value === "" || value === undefined ? "unknown" : "authorised";
}

async function recorded(work: Promise<unknown>): Promise<void> {
  try {
    await work;
  } catch (cause) {
    throw new BoundaryError("log-unavailable", "recording what was said of a USB device", { cause });
  }
}
