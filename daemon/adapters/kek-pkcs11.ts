import { createHmac, randomBytes } from "node:crypto";
import { z } from "zod";
import { BoundaryError } from "../core/errors.ts";
import { parseStrictJson } from "../core/json.ts";
import type { KekProvider, KekSource } from "../ports.ts";
import { GCM_IV_BYTES, GCM_TAG_BYTES } from "./pkcs11-layout.ts";
import { loadPkcs11, moduleFault, type Pkcs11Module } from "./pkcs11-module.ts";
import {
  begin,
  decrypt,
  destroyKey,
  encrypt,
  findKeys,
  findToken,
  generateKey,
  logIn,
  loginState,
  openSession,
  requireSealed,
  type Slot,
  same,
  tokenInfo,
} from "./pkcs11-session.ts";
import { readSecret } from "./secret-file.ts";

export type Pkcs11Place = {
  /** The module's path. */
  readonly module: string;
  readonly tokenLabel: string;
  /** What stands before a KEK's id in the label of its key, for those who look at the token. */
  readonly keyLabel?: string | undefined;
  /** Where the PIN is (0600); without it a person gives it. */
  readonly pinFile?: string | undefined;
};

/** A module that has not answered by then is given up; nothing more is asked of it until it has. */
const DEADLINE_MS = 30_000;
const MAX_PIN_BYTES = 1_024;
/** Wrong PINs while somebody is logged in are not seen by the token: so many, and then none is looked at. */
const MAX_UNSEEN_WRONG = 3;
/** Of a wrapped key: a byte that says how, then IV, ciphertext and tag. */
const FORM = 1;
const MAX_DEK_BYTES = 64;

const SpecSchema = z.strictObject({ token: z.string().max(32), serial: z.string().max(16) });

/** A session with a key in it. */
type Live = { readonly id: string; readonly session: bigint; readonly key: bigint; dropped: boolean };

/**
 * KEKs that never leave a token: AES-256 keys made on it, not to be extracted, that wrap by AES-GCM there. The KEK's id
 * is authenticated with each wrapped key. Calls run one after the other on a thread of the pool; loading the module, and
 * ending a session where nothing else is under way, are synchronous. `place`: null where none is configured.
 */
export function pkcs11Kek(place: Pkcs11Place | null, load = loadPkcs11, deadlineMs = DEADLINE_MS): KekSource {
  const secret = randomBytes(32);
  const open = new Set<Live>();
  /** Sessions that were dropped while something was under way. */
  const leaving: Live[] = [];
  /** Keys that nothing is wrapped under, and that nobody was logged in to destroy. */
  const doomed = new Set<string>();
  let module: Pkcs11Module | null = null;
  /** The PIN that opened the token, as a keyed hash, while anybody is logged in. */
  let login: { readonly print: Buffer; wrong: number } | null = null;
  /** The one of the file that the token refused: never tried again. */
  let refusedPrint: Buffer | null = null;
  let turn: Promise<unknown> = Promise.resolve();
  /** What gives up those whose turn has not ended. */
  const waiting = new Set<() => void>();
  let underWay = 0;
  let isStuck = false;

  const printOf = (pin: Buffer) => createHmac("sha256", secret).update(pin).digest();

  /**
   * One after the other. What comes after the deadline is `discard`ed: nobody waits for it any more, nor for what is
   * behind it, which is not done at all.
   */
  function inTurn<T>(doing: string, work: () => Promise<T>, discard: (late: T) => void): Promise<T> {
    const silent = () =>
      new BoundaryError("kek-unavailable", `${doing}: the token has not answered in ${deadlineMs} ms`);
    if (isStuck) return Promise.reject(silent());
    return new Promise((resolve, reject) => {
      let isGivenUp = false;
      const giveUp = () => {
        isGivenUp = true;
        reject(silent());
      };
      waiting.add(giveUp);
      const run = async () => {
        if (isGivenUp) return;
        const timer = setTimeout(() => {
          isStuck = true;
          for (const each of waiting) each();
        }, deadlineMs);
        underWay++;
        try {
          const result = await work();
          if (isGivenUp) discard(result);
          else resolve(result);
        } catch (error) {
          reject(error instanceof BoundaryError ? error : unavailable(doing, error));
        } finally {
          clearTimeout(timer);
          waiting.delete(giveUp);
          underWay--;
          isStuck = false;
          for (const live of leaving.splice(0)) end(live);
        }
      };
      turn = turn.then(run);
    });
  }

  function loaded(): { readonly module: Pkcs11Module; readonly place: Pkcs11Place } {
    if (place === null) throw new BoundaryError("kek-unavailable", "vault.pkcs11 is not configured");
    module ??= load(place.module);
    return { module, place };
  }

  /** Synchronous. The last one logs out first; the end of its last session would log a process out as well. */
  function end(live: Live): void {
    open.delete(live);
    if (module === null) return;
    // a token that was pulled says that there is no such session, and there is nothing to be done about any other answer
    if (open.size === 0) {
      module.callNow("C_Logout", live.session);
      login?.print.fill(0);
      login = null;
    }
    module.callNow("C_CloseSession", live.session);
  }

  function drop(live: Live): void {
    if (live.dropped) return;
    live.dropped = true;
    if (underWay > 0) leaving.push(live);
    else end(live);
  }

  /** A session that may use the keys. `serial`: of the token that it has to be. */
  async function enter(given: Buffer | null, serial: string | null) {
    const { module, place } = loaded();
    const pin = place.pinFile === undefined ? copyOf(given) : readPin(place.pinFile);
    try {
      if (open.size === 0) await begin(module);
      const slot = await findToken(module, place.tokenLabel);
      requireUsable(slot, serial);
      const session = await openSession(module, slot.id);
      try {
        await authenticate(module, session, slot, pin);
        return { module, session, slot };
      } catch (error) {
        await module.call("C_CloseSession", session);
        throw error;
      }
    } finally {
      pin.fill(0);
    }
  }

  async function authenticate(module: Pkcs11Module, session: bigint, slot: Slot, pin: Buffer): Promise<void> {
    const print = printOf(pin);
    const state = await loginState(module, session);
    if (state === "user" && login !== null) return requireSamePin(login, print);
    if (state !== "public") await module.call("C_Logout", session);
    const isFromFile = place?.pinFile !== undefined;
    if (isFromFile) requireUntried(slot, print);
    if ((await logIn(module, session, pin)) === "in") {
      login = { print, wrong: 0 };
      refusedPrint = null;
      return;
    }
    const now = countOf(await tokenInfo(module, slot.id).catch(() => null));
    if (!isFromFile) throw new BoundaryError("vault-passphrase-wrong", `logging in with this PIN${now}`);
    refusedPrint = print;
    throw new BoundaryError(
      "kek-unavailable",
      `logging in with the PIN of vault.pkcs11.pinFile: it is wrong${now}`,
    );
  }

  /** All sessions of a process are logged in by the first: the token would take any PIN for right. */
  function requireSamePin(login: { readonly print: Buffer; wrong: number }, print: Buffer): void {
    if (login.wrong >= MAX_UNSEEN_WRONG)
      throw new BoundaryError(
        "kek-unavailable",
        "logging in: too many wrong PINs while a workspace on this token is unlocked; lock the vault first",
      );
    if (!same(login.print, print)) {
      login.wrong++;
      throw new BoundaryError("vault-passphrase-wrong", "logging in with this PIN");
    }
    login.wrong = 0;
  }

  /** A file is no person: it does not spend the last try, and not two on the same PIN. */
  function requireUntried({ info }: Slot, print: Buffer): void {
    if (refusedPrint !== null && same(refusedPrint, print))
      throw new BoundaryError(
        "kek-unavailable",
        "logging in with the PIN of vault.pkcs11.pinFile: it was wrong before, and is not tried again",
      );
    if (info.pinFinalTry)
      throw new BoundaryError(
        "kek-unavailable",
        "logging in with the PIN of vault.pkcs11.pinFile: the token has one try left, which is a person's",
      );
  }

  /** The key of an id in a new session. On failure the session is ended. */
  async function liveKey(
    id: string,
    entered: Awaited<ReturnType<typeof enter>>,
    keyOf: (module: Pkcs11Module, session: bigint) => Promise<bigint>,
  ): Promise<Live> {
    const { module, session } = entered;
    try {
      await destroyDoomed(module, session);
      const live: Live = { id, session, key: await keyOf(module, session), dropped: false };
      open.add(live);
      return live;
    } catch (error) {
      end({ id, session, key: 0n, dropped: true });
      throw error;
    }
  }

  async function make(id: string, label: string, module: Pkcs11Module, session: bigint): Promise<bigint> {
    const key = await generateKey(module, session, { id, label });
    try {
      await requireSealed(module, session, key);
      await requireWorking(module, { id, session, key, dropped: false });
      return key;
    } catch (error) {
      await destroyKey(module, session, key).catch(() => doomed.add(id));
      throw error;
    }
  }

  async function destroyDoomed(module: Pkcs11Module, session: bigint): Promise<void> {
    for (const id of doomed) {
      for (const key of await findKeys(module, session, id)) await destroyKey(module, session, key);
      doomed.delete(id);
    }
  }

  function providerOf(live: Live): KekProvider {
    const need = (): Pkcs11Module => {
      if (live.dropped || module === null)
        throw new BoundaryError("vault-locked", `using the KEK ${live.id}, which was dropped`);
      return module;
    };
    return {
      id: live.id,
      wrap: async (dek) => {
        const wrapped = await inTurn(
          `wrapping a key with the KEK ${live.id}`,
          async () => {
            const copy = Buffer.from(dek); // who gave it wipes it, also where the token has not answered yet
            return seal(need(), live, copy).finally(() => copy.fill(0));
          },
          ignore,
        );
        need();
        return wrapped;
      },
      unwrap: async (wrapped) => {
        const dek = await inTurn(
          `unwrapping a key with the KEK ${live.id}`,
          () => unseal(need(), live, Buffer.from(wrapped)),
          (late) => late.fill(0),
        );
        if (live.dropped) dek.fill(0);
        need();
        return dek;
      },
      drop: () => drop(live),
    };
  }

  return {
    kind: "pkcs11",
    asks: place !== null && place.pinFile === undefined,
    obstacle: () => (place === null ? "vault.pkcs11 is not configured" : moduleFault(place.module)),
    async create(id, pin) {
      const label = place?.keyLabel === undefined ? id : `${place.keyLabel} ${id}`;
      const made = await inTurn(
        `making the KEK ${id}`,
        async () => {
          const entered = await enter(pin, null);
          const live = await liveKey(id, entered, (...at) => make(id, label, ...at));
          return { live, info: entered.slot.info };
        },
        ({ live }) => {
          doomed.add(id);
          drop(live);
        },
      );
      const spec: z.infer<typeof SpecSchema> = { token: made.info.label, serial: made.info.serial };
      return { provider: providerOf(made.live), spec: JSON.stringify(spec) };
    },
    async open(id, spec, pin) {
      const { token, serial } = readSpec(id, spec);
      if (token !== place?.tokenLabel)
        throw new BoundaryError("kek-unavailable", `opening the KEK ${id}: it is on the token ${token}`);
      const live = await inTurn(
        `opening the KEK ${id}`,
        async () => liveKey(id, await enter(pin, serial), (...at) => take(id, ...at)),
        drop,
      );
      return { provider: providerOf(live), spec };
    },
    retire: (id) =>
      inTurn(
        `destroying the key ${id}`,
        async () => {
          doomed.add(id);
          const [live] = open;
          if (live === undefined || module === null)
            throw new BoundaryError(
              "kek-unavailable",
              `destroying the key ${id}: nobody is logged in to the token, and it stays there until somebody is`,
            );
          await destroyDoomed(module, live.session);
        },
        ignore,
      ),
  };
}

function unavailable(doing: string, cause: unknown): BoundaryError {
  return new BoundaryError("kek-unavailable", doing, { cause });
}

function ignore(): void {
  // nothing of it has to be wiped or ended
}

/** For the callee to wipe: the token may still read it when nobody waits any more. */
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
  const end = bytes?.at(-1) === 0x0a ? bytes.length - 1 : (bytes?.length ?? 0);
  if (bytes !== null && end > 0) {
    const pin = Buffer.from(bytes.subarray(0, end));
    bytes.fill(0);
    return pin;
  }
  throw new BoundaryError(
    "kek-unavailable",
    `${doing}: ${bytes === null ? "it is not there" : "it is empty"}`,
  );
}

function requireUsable({ info }: Slot, serial: string | null): void {
  const why = !info.loginRequired
    ? "it asks for no PIN"
    : !info.pinInitialized
      ? "it has no PIN yet"
      : info.pinLocked
        ? "its PIN is locked"
        : serial !== null && info.serial !== serial
          ? `it is another one: serial number ${info.serial}, not ${serial}`
          : null;
  if (why !== null) throw new BoundaryError("kek-unavailable", `using the token ${info.label}: ${why}`);
}

/** What is left of the token's tries, for a message. */
function countOf(info: Slot["info"] | null): string {
  if (info?.pinLocked) return "; the token has locked it";
  if (info?.pinFinalTry) return "; the token has one try left";
  return info?.pinCountLow ? "; the token counts wrong ones" : "";
}

function readSpec(id: string, text: string): z.infer<typeof SpecSchema> {
  const json = parseStrictJson(text, { maxDepth: 2 });
  const spec = json.ok ? SpecSchema.safeParse(json.value) : null;
  if (spec?.success) return spec.data;
  throw new BoundaryError("kek-unavailable", `opening the KEK ${id}: it does not say on which token it is`);
}

async function take(id: string, module: Pkcs11Module, session: bigint): Promise<bigint> {
  const [key, second] = await findKeys(module, session, id);
  if (key === undefined || second !== undefined)
    throw new BoundaryError(
      "kek-unavailable",
      `opening the KEK ${id}: the token has ${key === undefined ? "no key" : "more than one key"} of that id`,
    );
  await requireSealed(module, session, key);
  return key;
}

async function seal(module: Pkcs11Module, { id, session, key }: Live, dek: Buffer): Promise<Buffer> {
  const iv = randomBytes(GCM_IV_BYTES);
  const sealed = await encrypt(module, { session, key, iv, aad: boundTo(id) }, dek);
  return Buffer.concat([Buffer.from([FORM]), iv, sealed]);
}

async function unseal(module: Pkcs11Module, live: Live, wrapped: Buffer): Promise<Buffer> {
  const damaged = new BoundaryError("secret-damaged", `unwrapping a key with the KEK ${live.id}`);
  const least = 1 + GCM_IV_BYTES + GCM_TAG_BYTES;
  if (wrapped[0] !== FORM || wrapped.length <= least || wrapped.length > least + MAX_DEK_BYTES) throw damaged;
  const iv = Buffer.from(wrapped.subarray(1, 1 + GCM_IV_BYTES));
  const sealed = Buffer.from(wrapped.subarray(1 + GCM_IV_BYTES));
  const { session, key } = live;
  const plain = await decrypt(module, { session, key, iv, aad: boundTo(live.id) }, sealed);
  if (Buffer.isBuffer(plain)) return plain;
  // a token that only says "error" may be failing: it is the wrapped key's fault where it can do another one
  if (plain === "unclear") await requireWorking(module, live);
  throw damaged;
}

async function requireWorking(module: Pkcs11Module, live: Live): Promise<void> {
  const probe = randomBytes(32);
  const iv = randomBytes(GCM_IV_BYTES);
  const { id, session, key } = live;
  const at = { session, key, iv, aad: boundTo(id) };
  const back = await decrypt(module, at, await encrypt(module, at, probe));
  if (Buffer.isBuffer(back) && same(back, probe)) return;
  throw new BoundaryError(
    "kek-unavailable",
    `trying the KEK ${id}: the token does not give back what it wrapped`,
  );
}

/** Authenticated with each wrapped key: under another id it does not open. */
function boundTo(id: string): Buffer {
  return Buffer.from(`boundary-daemon pkcs11 kek v1\0${id}`);
}
