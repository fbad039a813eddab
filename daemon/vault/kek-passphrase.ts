import { argon2, randomBytes } from "node:crypto";
import { z } from "zod";
import { BoundaryError } from "../core/errors.ts";
import { parseStrictJson } from "../core/json.ts";
import type { KekSource } from "../ports.ts";
import { KEK_BYTES, localKek } from "./kek-local.ts";
import { unwrapKey, wrapKey } from "./key-wrap.ts";

/** Cost of Argon2id (RFC 9106). */
export type Argon2Cost = {
  readonly memoryKiB: number;
  readonly passes: number;
  readonly parallelism: number;
};

/** RFC 9106, section 4, the second recommended option: 64 MiB, 3 passes, 4 lanes, a salt of 128 bit, a tag of 256. */
export const RECOMMENDED: Argon2Cost = { memoryKiB: 65_536, passes: 3, parallelism: 4 };
const SALT_BYTES = 16;
/** What a file may ask of us: more would be a way to stop the daemon. */
const MOST: Argon2Cost = { memoryKiB: 1_048_576, passes: 32, parallelism: 16 };

const Base64 = z.string().regex(/^[A-Za-z0-9+/]{4,512}={0,2}$/);
const SpecSchema = z.strictObject({
  memoryKiB: z.number().int().min(8).max(MOST.memoryKiB),
  passes: z.number().int().min(1).max(MOST.passes),
  parallelism: z.number().int().min(1).max(MOST.parallelism),
  salt: Base64,
  /** The KEK, wrapped (RFC 5649) under what Argon2id makes of the passphrase. */
  wrapped: Base64,
});
type Spec = z.infer<typeof SpecSchema>;

/**
 * A KEK behind a passphrase: it is random, and wrapped under Argon2id (version 1.3) of the passphrase. Its parameters
 * stand beside it; what was made with cheaper ones than `cost` is made anew when it is opened.
 */
export function passphraseKek(cost: Argon2Cost): KekSource {
  let turn: Promise<unknown> = Promise.resolve();

  /** One at a time, whatever workspaces it is for: each takes as much memory as its parameters say. */
  function derive(passphrase: Buffer, salt: Buffer, by: Argon2Cost): Promise<Buffer> {
    const mine = turn.then(() => deriveNow(passphrase, salt, by));
    turn = mine.catch(() => undefined);
    return mine;
  }

  async function specFor(kek: Buffer, passphrase: Buffer): Promise<string> {
    const salt = randomBytes(SALT_BYTES);
    const derived = await derive(passphrase, salt, cost);
    const wrapped = wrapKey(derived, kek);
    derived.fill(0);
    const spec: Spec = { ...cost, salt: salt.toString("base64"), wrapped: wrapped.toString("base64") };
    return JSON.stringify(spec);
  }

  return {
    kind: "passphrase",
    asks: true,
    obstacle: () => "",
    async create(id, passphrase) {
      const given = need(passphrase);
      const kek = randomBytes(KEK_BYTES);
      return { provider: localKek(id, kek), spec: await specFor(kek, given) };
    },
    async open(id, text, passphrase) {
      const given = need(passphrase);
      const spec = readSpec(text);
      const derived = await derive(given, Buffer.from(spec.salt, "base64"), spec);
      const kek = unwrapKey(derived, Buffer.from(spec.wrapped, "base64"));
      derived.fill(0);
      if (kek === null || kek.length !== KEK_BYTES)
        throw new BoundaryError("vault-passphrase-wrong", "unlocking with this passphrase");
      const spec2 = isCheaper(spec, cost) ? await specFor(kek, given) : text;
      return { provider: localKek(id, kek), spec: spec2 };
    },
    retire: async () => undefined, // it was in the keyring alone
  };
}

function need(passphrase: Buffer | null): Buffer {
  if (passphrase !== null && passphrase.length > 0) return passphrase;
  throw new BoundaryError("vault-passphrase-wrong", "unlocking: this workspace takes a passphrase");
}

/** Throws BoundaryError("secret-damaged"). */
function readSpec(text: string): Spec {
  const json = parseStrictJson(text, { maxDepth: 2 });
  const spec = json.ok ? SpecSchema.safeParse(json.value) : null;
  if (spec?.success && spec.data.memoryKiB >= 8 * spec.data.parallelism) return spec.data;
  throw new BoundaryError("secret-damaged", "reading the parameters of Argon2id");
}

function isCheaper(spec: Spec, cost: Argon2Cost): boolean {
  return spec.memoryKiB * spec.passes < cost.memoryKiB * cost.passes || spec.memoryKiB < cost.memoryKiB;
}

/** Argon2id, 32 bytes, for the caller to wipe. In the thread pool. */
function deriveNow(passphrase: Buffer, salt: Buffer, cost: Argon2Cost): Promise<Buffer> {
  const { memoryKiB: memory, passes, parallelism } = cost;
  return new Promise((resolve, reject) => {
    argon2(
      "argon2id",
      { message: passphrase, nonce: salt, memory, passes, parallelism, tagLength: KEK_BYTES },
      (error, derived) => {
        if (error)
          reject(new BoundaryError("vault-failed", "deriving a key with Argon2id", { cause: error }));
        else resolve(derived);
      },
    );
  });
}
