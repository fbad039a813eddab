import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { BoundaryError } from "../core/errors.ts";
import type { TokenInfo } from "./pkcs11-layout.ts";
import type { Pkcs11Module } from "./pkcs11-module.ts";
import { logIn, loginState, logOut, type Slot, tokenInfo } from "./pkcs11-session.ts";
import { readSecret } from "./secret-file.ts";

const MAX_PIN_BYTES = 1_024;
/** Wrong PINs while somebody is logged in are not seen by the token: so many, and then none is looked at. */
const MAX_UNSEEN_WRONG = 3;

/**
 * Who may use the token: whoever gives its PIN, or has it in a file. No PIN is kept; a keyed hash is, while somebody is
 * logged in. `pinFile`: undefined where a person gives it.
 */
export function createLogin(pinFile: string | undefined) {
  const secret = randomBytes(32);
  /** What opened the token, while anybody is logged in. */
  let held: { readonly print: Buffer; wrong: number } | null = null;
  /** The one of the file that the token refused: never tried again. */
  let refusedPrint: Buffer | null = null;

  const printOf = (pin: Buffer) => createHmac("sha256", secret).update(pin).digest();

  /** Logs in, unless this process is already: then the PIN has to be the one that did. Tries it once. */
  async function authenticate(module: Pkcs11Module, session: bigint, slot: Slot, pin: Buffer): Promise<void> {
    const print = printOf(pin);
    const state = await loginState(module, session);
    if (state === "user" && held !== null) {
      held.wrong = wrongsAfter(held, print);
      return;
    }
    if (state !== "public") await logOut(module, session);
    if (pinFile !== undefined) requireUntried(slot.info, print);
    if ((await logIn(module, session, pin)) === "in") {
      forget();
      held = { print, wrong: 0 };
      refusedPrint = null;
      return;
    }
    const left = triesLeft(await tokenInfo(module, slot.id).catch(() => null));
    if (pinFile === undefined)
      throw new BoundaryError("vault-passphrase-wrong", `logging in with this PIN${left}`);
    refusedPrint = print;
    throw fromFile(`it is wrong${left}`);
  }

  /** A file is no person: it does not spend the last try, and not two on the same PIN. */
  function requireUntried(info: TokenInfo, print: Buffer): void {
    if (refusedPrint !== null && timingSafeEqual(refusedPrint, print))
      throw fromFile("it was wrong before, and is not tried again");
    if (info.pinFinalTry) throw fromFile("the token has one try left, which is a person's");
  }

  function forget(): void {
    held?.print.fill(0);
    held = null;
  }

  return {
    /** The PIN, for the caller to wipe: a copy of the one given, which the token may still read when nobody waits any more. */
    pinOf: (given: Buffer | null): Buffer => (pinFile === undefined ? copyOf(given) : readPin(pinFile)),
    authenticate,
    /** Nobody is logged in any more. */
    forget,
  };
}

/**
 * All sessions of a process are logged in by the first: the token would take any PIN for right, and counts none. Throws
 * where it is not the one that logged in; else gives 0.
 */
function wrongsAfter(held: { readonly print: Buffer; wrong: number }, print: Buffer): number {
  if (held.wrong >= MAX_UNSEEN_WRONG)
    throw new BoundaryError(
      "kek-unavailable",
      "logging in: too many wrong PINs while a workspace on this token is unlocked; lock the vault first",
    );
  if (timingSafeEqual(held.print, print)) return 0;
  held.wrong++;
  throw new BoundaryError("vault-passphrase-wrong", "logging in with this PIN");
}

function fromFile(why: string): BoundaryError {
  return new BoundaryError("kek-unavailable", `logging in with the PIN of vault.pkcs11.pinFile: ${why}`);
}

function copyOf(given: Buffer | null): Buffer {
  if (given !== null && given.length > 0) return Buffer.from(given);
  throw new BoundaryError("vault-passphrase-wrong", "unlocking: this workspace takes the PIN of its token");
}

/** The PIN of a file that nobody else may read, without one line break at its end. */
function readPin(path: string): Buffer {
  const doing = `reading the PIN in ${path}`;
  let bytes: Buffer | null;
  try {
    bytes = readSecret(path, MAX_PIN_BYTES);
  } catch (cause) {
    throw new BoundaryError("kek-unavailable", doing, { cause });
  }
  if (bytes === null) throw new BoundaryError("kek-unavailable", `${doing}: it is not there`);
  const pin = Buffer.from(bytes.subarray(0, bytes.at(-1) === 0x0a ? -1 : bytes.length));
  bytes.fill(0);
  if (pin.length > 0) return pin;
  throw new BoundaryError("kek-unavailable", `${doing}: it is empty`);
}

/** What is left of the token's tries, for a message. */
function triesLeft(info: TokenInfo | null): string {
  if (info?.pinLocked) return "; the token has locked it";
  if (info?.pinFinalTry) return "; the token has one try left";
  return info?.pinCountLow ? "; the token counts wrong ones" : "";
}
