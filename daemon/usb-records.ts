import type { Data, Entry } from "./audit/record.ts";
import type { UsbGrant } from "./core/usb-memory.ts";
import type { UsbVerdict } from "./core/usb-policy.ts";
import type { UsbLook } from "./ports.ts";

/** What a device says of itself, and a rule, may be long: in a record they are not. UTF-16 units. */
const MAX_TEXT = 200;
const MAX_WHY = 500;
const MAX_INTERFACES = 32;

/** The data of `usb.decided` and `usb.would-block`. `applied`: confirmed, failed, after-its-record, shadow. */
export function decidedData(look: UsbLook, verdict: UsbVerdict, mode: string, applied: string): Data {
  const { port, id, name, serial, hash } = look.facts;
  const refused = verdict.interfaces.filter(({ allow }) => !allow).map((one) => one.name);
  return {
    port,
    id,
    name: cut(name, MAX_TEXT),
    serial: cut(serial, MAX_TEXT),
    hash,
    interfaces: look.facts.interfaces.slice(0, MAX_INTERFACES).join(" "),
    target: verdict.device,
    refused: refused.slice(0, MAX_INTERFACES).join(" "),
    rule: cut(verdict.rule, MAX_WHY),
    why: cut(verdict.why, MAX_WHY),
    mode,
    applied,
  };
}

export function appliedRecord({ port, facts }: UsbLook, verdict: UsbVerdict): Entry {
  const given = verdict.interfaces.filter(({ allow }) => allow).map(({ name }) => name);
  const interfaces = given.slice(0, MAX_INTERFACES).join(" ");
  return { kind: "usb.applied", data: { port, id: facts.id, target: verdict.device, interfaces } };
}

/** `device`: its `usbKey`. `until`: RFC 3339, "" for none. `plug`: "" when it holds wherever and whenever the device is plugged in. */
export function grantedRecord({ port, facts }: UsbLook, { key, target, by, untilMs, plug }: UsbGrant): Entry {
  const until = untilMs === null ? "" : new Date(untilMs).toISOString();
  const who = { port, id: facts.id, serial: cut(facts.serial, MAX_TEXT), hash: facts.hash, device: key };
  return { kind: "usb.granted", data: { ...who, target, by: cut(by, MAX_TEXT), until, plug } };
}

/** The permanent rules have become others: `digest` is theirs, hex, and `rule` the one that is new. */
export function rulesRecord(
  port: string,
  { digest, rule, by }: { readonly digest: string; readonly rule: string; readonly by: string },
): Entry {
  return { kind: "usb.rules", data: { digest, rule: cut(rule, MAX_WHY), by: cut(by, MAX_TEXT), port } };
}

/** `outcome`: begun, passed, wrong, timeout, injected, gone, failed. The code is in no record. */
export function challengedRecord(
  { port, facts }: UsbLook,
  { by, outcome, why }: { readonly by: string; readonly outcome: string; readonly why: string },
): Entry {
  const told = { by: cut(by, MAX_TEXT), outcome, why: cut(why, MAX_WHY) };
  return { kind: "usb.challenged", data: { port, id: facts.id, hash: facts.hash, ...told } };
}

export function detachedRecord({ port, facts }: UsbLook): Entry {
  return { kind: "usb.detached", data: { port, id: facts.id, hash: facts.hash } };
}

export function failedRecord(port: string, id: string, why: string): Entry {
  return { kind: "usb.apply-failed", data: { port, id, why: cut(why, MAX_WHY) } };
}

function cut(text: string, most: number): string {
  // never half of a pair: the record's form has no place for it
  return text.length <= most ? text.toWellFormed() : `${text.slice(0, most - 1)}…`.toWellFormed();
}
