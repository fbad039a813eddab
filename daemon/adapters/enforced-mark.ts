import * as fs from "node:fs";
import { join } from "node:path";
import { BoundaryError } from "../core/errors.ts";

/** In the state directory while enforcement is on: that it is, and whether in the host's own network namespace too. */
const MARK_FILE = "enforced";
/** In the state directory while USB is enforced: udev then refuses what is plugged in before we run (60-boundary-usb.rules). */
const USB_MARK_FILE = "usb-enforced";
const NO_CONSENT = JSON.stringify({ allowInitNetns: false });
const CONSENT = JSON.stringify({ allowInitNetns: true });
const MAX_BYTES = 1024;
const { O_CREAT, O_DIRECTORY, O_NOFOLLOW, O_RDONLY, O_TRUNC, O_WRONLY } = fs.constants;

export type EnforcedMark = { readonly kind: "none" } | { readonly kind: "there"; readonly consent: boolean };

/**
 * What the last start that succeeded left. Never throws. Anything but a clear no is consent: a mark was only ever made
 * where rules had been loaded, and what cannot be read counts as closed.
 */
export function readEnforcedMark(stateDirectory: string): EnforcedMark {
  try {
    return { kind: "there", consent: readMark(join(stateDirectory, MARK_FILE)) !== NO_CONSENT };
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    return code === "ENOENT" || code === "ENOTDIR" ? { kind: "none" } : { kind: "there", consent: true };
  }
}

/** Makes the mark durable (0600). Throws BoundaryError("state-unwritable"). */
export function keepEnforcedMark(stateDirectory: string, consent: "consent" | "no-consent"): void {
  keep(stateDirectory, MARK_FILE, consent === "consent" ? CONSENT : NO_CONSENT);
}

/** Takes the mark away. Throws BoundaryError("state-unwritable"). */
export function forgetEnforcedMark(stateDirectory: string): void {
  forget(stateDirectory, MARK_FILE);
}

/** As `keepEnforcedMark`, for USB. */
export function keepUsbMark(stateDirectory: string): void {
  keep(stateDirectory, USB_MARK_FILE, "");
}

/** Whether udev may have closed the controllers of this boot because of it. Never throws; what cannot be told is a yes. */
export function hasUsbMark(stateDirectory: string): boolean {
  try {
    return fs.lstatSync(join(stateDirectory, USB_MARK_FILE), { throwIfNoEntry: false }) !== undefined;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    return code !== "ENOENT" && code !== "ENOTDIR";
  }
}

/** As `forgetEnforcedMark`, for USB. */
export function forgetUsbMark(stateDirectory: string): void {
  forget(stateDirectory, USB_MARK_FILE);
}

function keep(stateDirectory: string, name: string, text: string): void {
  const path = join(stateDirectory, name);
  try {
    writeSynced(`${path}.new`, text);
    fs.renameSync(`${path}.new`, path);
    syncDirectory(stateDirectory);
  } catch (cause) {
    throw new BoundaryError("state-unwritable", `writing ${path}`, { cause });
  }
}

function forget(stateDirectory: string, name: string): void {
  const path = join(stateDirectory, name);
  try {
    if (!fs.lstatSync(path, { throwIfNoEntry: false })) return;
    fs.unlinkSync(path);
    syncDirectory(stateDirectory);
  } catch (cause) {
    throw new BoundaryError("state-unwritable", `removing ${path}`, { cause });
  }
}

function readMark(path: string): string {
  const fd = fs.openSync(path, O_RDONLY | O_NOFOLLOW);
  try {
    const { size } = fs.fstatSync(fd);
    return size > MAX_BYTES ? "" : fs.readFileSync(fd, "utf8").trim();
  } finally {
    fs.closeSync(fd);
  }
}

function writeSynced(path: string, text: string): void {
  const fd = fs.openSync(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0o600);
  try {
    fs.writeFileSync(fd, `${text}\n`);
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}

function syncDirectory(directory: string): void {
  const fd = fs.openSync(directory, O_RDONLY | O_DIRECTORY);
  try {
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}
