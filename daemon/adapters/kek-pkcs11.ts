import { z } from "zod";
import { BoundaryError } from "../core/errors.ts";
import { parseStrictJson } from "../core/json.ts";
import type { KekProvider, KekSource } from "../ports.ts";
import { createLogin } from "./pkcs11-login.ts";
import { loadPkcs11, moduleFault, type Pkcs11Module } from "./pkcs11-module.ts";
import {
  begin,
  closeNow,
  closeSession,
  destroyKey,
  findKeys,
  findToken,
  generateKey,
  openSession,
  requireSealed,
  type Slot,
} from "./pkcs11-session.ts";
import { createTurns } from "./pkcs11-turns.ts";
import { type Held, requireWorking, unwrapOn, wrapOn } from "./pkcs11-wrap.ts";

export type Pkcs11Place = {
  /** The module's path. */
  readonly module: string;
  readonly tokenLabel: string;
  /** What stands before a KEK's id in the label of its key, for those who look at the token. */
  readonly keyLabel?: string | undefined;
  /** Where the PIN is (0600); without it a person gives it. */
  readonly pinFile?: string | undefined;
};

/** A token that has not answered by then is given up; nothing more is asked of it until it has. */
const DEADLINE_MS = 30_000;

const SpecSchema = z.strictObject({ token: z.string().max(32), serial: z.string().max(16) });

type Live = Held & { dropped: boolean };
type Entered = { readonly module: Pkcs11Module; readonly session: bigint; readonly slot: Slot };

/**
 * KEKs that never leave a token: AES-256 keys made on it, not to be extracted, that wrap by AES-GCM there. Calls run one
 * after the other on a thread of the pool. Two things are synchronous, and wait for as long as the module likes: loading it,
 * once, and logging out, where no call is under way. So none of this runs in the daemon: see pkcs11-process.ts. `place`: null
 * where none is configured. `destroy`: ids of keys that are to be destroyed by the first who logs in.
 */
export function pkcs11Kek(
  place: Pkcs11Place | null,
  deadlineMs = DEADLINE_MS,
  destroy: Iterable<string> = [],
): KekSource & {
  /** When what was asked and dropped until now is done. */
  idle(): Promise<void>;
} {
  const turns = createTurns(deadlineMs);
  const login = createLogin(place?.pinFile);
  /** Sessions that are not closed yet. */
  const open = new Set<Live>();
  /** Keys that nothing is wrapped under, and that nobody was logged in to destroy. */
  const doomed = new Set<string>(destroy);
  let loaded: Pkcs11Module | null = null;

  /** A session that may use the keys. `serial`: of the token that it has to be, before it is given a PIN. */
  async function enter(given: Buffer | null, serial: string | null): Promise<Entered> {
    if (place === null) throw new BoundaryError("kek-unavailable", "vault.pkcs11 is not configured");
    const pin = login.pinOf(given);
    try {
      loaded ??= loadPkcs11(place.module);
      const module = loaded;
      if (open.size === 0) await begin(module);
      const slot = await findToken(module, place.tokenLabel);
      requireUsable(slot, serial);
      const session = await openSession(module, slot.id);
      try {
        await login.authenticate(module, session, slot, pin);
        return { module, session, slot };
      } catch (error) {
        await closeSession(module, session);
        throw error;
      }
    } finally {
      pin.fill(0);
    }
  }

  /** The key of an id in a session that was entered; where there is none the session is closed. */
  async function hold(id: string, { module, session }: Entered, key: () => Promise<bigint>): Promise<Live> {
    try {
      await destroyDoomed(module, session);
      const live: Live = { id, session, key: await key(), dropped: false };
      open.add(live);
      return live;
    } catch (error) {
      end(module, session);
      throw error;
    }
  }

  async function make(id: string, { module, session }: Entered): Promise<bigint> {
    const label = place?.keyLabel === undefined ? id : `${place.keyLabel} ${id}`;
    const key = await generateKey(module, session, { id, label });
    try {
      await requireSealed(module, session, key);
      await requireWorking(module, { id, session, key });
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

  function drop(live: Live): void {
    if (live.dropped) return;
    live.dropped = true;
    // a session is not closed under a call that uses it
    turns.whenIdle(() => {
      open.delete(live);
      if (loaded !== null) end(loaded, live.session);
    });
  }

  /** Synchronous. With the last session the process is logged out. */
  function end(module: Pkcs11Module, session: bigint): void {
    const isLast = open.size === 0;
    closeNow(module, session, isLast);
    if (isLast) login.forget();
  }

  function providerOf(live: Live): KekProvider {
    const need = (): Pkcs11Module => {
      if (!live.dropped && loaded !== null) return loaded;
      throw new BoundaryError("vault-locked", `using the KEK ${live.id}, which was dropped`);
    };
    return {
      id: live.id,
      wrap: async (dek) => {
        const wrapped = await turns.inTurn(
          `wrapping a key with the KEK ${live.id}`,
          async () => {
            const copy = Buffer.from(dek); // who gave it wipes it, also where the token has not answered yet
            return wrapOn(need(), live, copy).finally(() => copy.fill(0));
          },
          ignore,
        );
        need();
        return wrapped;
      },
      unwrap: async (wrapped) => {
        const dek = await turns.inTurn(
          `unwrapping a key with the KEK ${live.id}`,
          async () => unwrapOn(need(), live, Buffer.from(wrapped)),
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
      const made = await turns.inTurn(
        `making the KEK ${id}`,
        async () => {
          const entered = await enter(pin, null);
          return { live: await hold(id, entered, () => make(id, entered)), info: entered.slot.info };
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
      const live = await turns.inTurn(
        `opening the KEK ${id}`,
        async () => {
          const entered = await enter(pin, serial);
          return hold(id, entered, () => take(id, entered));
        },
        drop,
      );
      return { provider: providerOf(live), spec };
    },
    retire: (id) =>
      turns.inTurn(
        `destroying the key ${id}`,
        async () => {
          doomed.add(id);
          const [live] = open;
          if (live === undefined || loaded === null)
            throw new BoundaryError(
              "kek-unavailable",
              `destroying the key ${id}: nobody is logged in to the token, and it stays there until somebody is`,
            );
          await destroyDoomed(loaded, live.session);
        },
        ignore,
      ),
    idle: () => turns.inTurn("closing what was dropped", async () => undefined, ignore),
  };
}

function ignore(): void {
  // nothing of it has to be wiped or ended
}

function requireUsable({ info }: Slot, serial: string | null): void {
  const refuse = (why: string) =>
    new BoundaryError("kek-unavailable", `using the token ${info.label}: ${why}`);
  if (!info.loginRequired) throw refuse("it asks for no PIN");
  if (!info.pinInitialized) throw refuse("it has no PIN yet");
  if (info.pinLocked) throw refuse("its PIN is locked");
  if (serial !== null && info.serial !== serial)
    throw refuse(`it is another one: its serial number is ${info.serial}, not ${serial}`);
}

function readSpec(id: string, text: string): z.infer<typeof SpecSchema> {
  const json = parseStrictJson(text, { maxDepth: 2 });
  const spec = json.ok ? SpecSchema.safeParse(json.value) : null;
  if (spec?.success) return spec.data;
  throw new BoundaryError("kek-unavailable", `opening the KEK ${id}: it does not say on which token it is`);
}

async function take(id: string, { module, session }: Entered): Promise<bigint> {
  const [key, second] = await findKeys(module, session, id);
  if (key === undefined || second !== undefined)
    throw new BoundaryError(
      "kek-unavailable",
      `opening the KEK ${id}: the token has ${key === undefined ? "no key" : "more than one key"} of that id`,
    );
  await requireSealed(module, session, key);
  return key;
}
