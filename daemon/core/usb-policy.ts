import type { Hold } from "./hold.ts";
import type { Posture } from "./posture.ts";
import type { UsbFacts, UsbTarget } from "./usb-facts.ts";
import type { UsbGrant } from "./usb-memory.ts";

/** An interface of a device. `driver`: what is bound to it, "" for nothing. */
export type UsbInterface = {
  readonly name: string;
  readonly codes: readonly string[];
  readonly driver: string;
};

/** A device that is to be decided about. */
export type UsbSubject = {
  readonly facts: UsbFacts;
  /** A root hub: the controller itself. */
  readonly controller: boolean;
  /** Of every configuration, as the descriptors tell them. */
  readonly interfaces: readonly UsbInterface[];
  /** Why the device cannot be understood; null when it can. */
  readonly problem: string | null;
  /** As the kernel has it now. */
  readonly authorized: boolean;
};

/** What was said of the device, by the rules or by a person. */
export type UsbWord = {
  readonly target: UsbTarget;
  /** For a record: the rule as text, or who granted. */
  readonly rule: string;
  /** Whether it names this very device: its id, hash, serial or port, not a class of devices. */
  readonly names: boolean;
  readonly why: string;
  /** Wall clock, milliseconds: when it has to be asked again; null: time changes nothing. */
  readonly validUntilMs: number | null;
  /** Of a person's allow, whether it reaches storage too (UsbGrant). */
  readonly storage?: UsbGrant["storage"];
};

export type UsbQuestion = {
  readonly posture: Posture;
  readonly hold: Hold;
  readonly subject: UsbSubject;
  /**
   * Was it authorised when the mode was entered? "kept": this very plugging-in was. "restored": it was before a reboot,
   * at this port, and the kernel has forgotten it.
   */
  readonly standing: "new" | "kept" | "restored";
  /** Of a hub: a keyboard or pointer that stays hangs on it. */
  readonly carriesInput: boolean;
  readonly byRules: UsbWord;
  /** What a person said of it, which goes before the rules; null when nobody did. */
  readonly byPerson: UsbWord | null;
};

export type UsbVerdict = {
  readonly device: UsbTarget;
  /** What of it is authorised; all refused unless the device is allowed. */
  readonly interfaces: readonly { readonly name: string; readonly allow: boolean }[];
  readonly rule: string;
  readonly why: string;
  readonly validUntilMs: number | null;
};

/**
 * Decides about a device. The mode's ceiling (DESIGN section 2, the USB row) stands above the rules and above a person:
 * what it refuses nothing allows. What is not understood is blocked. In every mode the rules, or a person, have to say
 * allow: a mode takes away and never gives.
 */
export function decideUsb(question: UsbQuestion): UsbVerdict {
  const { subject, hold } = question;
  if (subject.controller) return whole(question, "a root hub: the controller itself");
  if (hold === "released") return whole(question, "released: nothing is held");
  if (subject.problem !== null) return none(question, "block", subject.problem);
  if (subject.interfaces.length === 0) return none(question, "block", "no interfaces are known");
  const word = wordOf(question);
  if (word.target !== "allow") return none(question, word.target, word.why);
  const refused = subject.interfaces.map((one) => ({ name: one.name, why: ceiling(question, one) }));
  const whys = [...new Set(refused.flatMap(({ why }) => (why === null ? [] : [why])))];
  if (refused.every(({ why }) => why !== null)) return none(question, "block", whys.join("; "));
  return {
    device: "allow",
    interfaces: refused.map(({ name, why }) => ({ name, allow: why === null })),
    rule: word.rule,
    why: whys.length === 0 ? word.why : `${word.why}; without some of its interfaces: ${whys.join("; ")}`,
    validUntilMs: word.validUntilMs,
  };
}

/** Why the mode refuses an interface that rules or a person allow; null when it does not. */
function ceiling(question: UsbQuestion, one: UsbInterface): string | null {
  const { posture, subject, byPerson } = question;
  const { usb, mode } = posture;
  switch (usb) {
    case "by-rules":
      return isStorage(one) ? withoutWord(question) : null;
    case "storage-by-ceremony":
      if (!isStorage(one) || (byPerson?.target === "allow" && byPerson.storage === "at-terminal"))
        return null;
      return `${mode}: storage takes the word of a person at a terminal (boundaryctl usb allow)`;
    case "no-storage":
      return isStorage(one) ? `${mode}: no storage` : null;
    case "no-storage-input-by-rule":
      if (isStorage(one)) return `${mode}: no storage`;
      if (!isInput(one) || wordOf(question).names) return null;
      if (question.standing !== "new" && isInputDevice(subject)) return null;
      return `${mode}: a new keyboard or pointer takes a rule that names it`;
    case "present-input-only":
      return staysIn(question);
    case "nothing-new":
      if (question.standing === "kept" && !subject.authorized) return `${mode}: nothing is authorised again`;
      return staysIn(question);
  }
}

/** A word that does not reach storage leaves it to the rules. */
function withoutWord({ byPerson, byRules }: UsbQuestion): string | null {
  if (byPerson?.target !== "allow" || (byPerson.storage ?? "no") !== "no") return null;
  return byRules.target === "allow" ? null : "storage takes a word of its own (boundaryctl usb allow)";
}

/** COLDROOM and LOCKDOWN: the whole device stays, or none of it. */
function staysIn({ posture, subject, standing, carriesInput }: UsbQuestion): string | null {
  if (standing === "new") return `${posture.mode}: nothing new`;
  if (isInputDevice(subject) || (isHub(subject) && carriesInput)) return null;
  return `${posture.mode}: only keyboards and pointers stay`;
}

function wordOf({ byPerson, byRules }: UsbQuestion): UsbWord {
  return byPerson ?? byRules;
}

function whole(question: UsbQuestion, why: string): UsbVerdict {
  const interfaces = question.subject.interfaces.map(({ name }) => ({ name, allow: true }));
  return { device: "allow", interfaces, rule: "", why, validUntilMs: null };
}

function none(question: UsbQuestion, device: "block" | "reject", why: string): UsbVerdict {
  const interfaces = question.subject.interfaces.map(({ name }) => ({ name, allow: false }));
  const { rule, validUntilMs } = wordOf(question);
  return { device, interfaces, rule, why, validUntilMs };
}

/**
 * Mass storage, and still image (06), by which cameras and telephones give out their files. A driver tells as well: the
 * kernel binds its storage drivers, and those of card readers, to some devices of a vendor's own class by their id.
 */
export function isStorage({ codes, driver }: UsbInterface): boolean {
  return codes.some((code) => /^0[68]:/.test(code)) || STORAGE_DRIVERS.test(driver);
}

const STORAGE_DRIVERS = /^(usb-storage|uas|ums[-_].+|rtsx_usb|vub300|ushc)$/;

/**
 * The driver that takes a card reader of a vendor's own class (drivers/misc/cardreader/rtsx_usb.c): so it is known before
 * it has it. "" for any other id.
 */
export function storageDriverOf(id: string): string {
  return CARD_READERS.has(id) ? "rtsx_usb" : "";
}

const CARD_READERS: ReadonlySet<string> = new Set(["0bda:0129", "0bda:0139", "0bda:0140"]);

function isInput({ codes }: UsbInterface): boolean {
  return codes.some((code) => code.startsWith("03:"));
}

/**
 * A keyboard or pointer and nothing else: every interface in every alternate setting is HID, and one of them at least
 * says that it is a keyboard or a mouse. A security key, or a HID that only its maker understands, does not.
 */
export function isInputDevice({ interfaces }: Pick<UsbSubject, "interfaces">): boolean {
  const codes = interfaces.flatMap((one) => one.codes);
  return (
    codes.length > 0 &&
    interfaces.every((one) => one.codes.length > 0 && !isStorage(one)) &&
    codes.every((code) => code.startsWith("03:")) &&
    codes.some((code) => /^03:..:0[12]$/.test(code))
  );
}

/** A hub and nothing else. */
export function isHub({ interfaces }: Pick<UsbSubject, "interfaces">): boolean {
  const codes = interfaces.flatMap((one) => one.codes);
  return codes.length > 0 && codes.every((code) => code.startsWith("09:")) && !interfaces.some(isStorage);
}
