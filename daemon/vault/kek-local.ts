import { BoundaryError } from "../core/errors.ts";
import type { KekProvider } from "../ports.ts";
import { unwrapKey, wrapKey } from "./key-wrap.ts";

/** Of every KEK that is held in this process: AES-256. */
export const KEK_BYTES = 32;

/**
 * A KEK in this process's memory. It takes the buffer over: `drop` overwrites it, and from then on everything is
 * refused. Throws when it has another length than 32 bytes.
 */
export function localKek(id: string, key: Buffer): KekProvider {
  if (key.length !== KEK_BYTES) throw new RangeError(`a KEK has ${KEK_BYTES} bytes, not ${key.length}`);
  let held: Buffer | null = key;
  const need = (): Buffer => {
    if (held === null) throw new BoundaryError("vault-locked", `using the KEK ${id}, which was dropped`);
    return held;
  };
  return {
    id,
    wrap: async (dek) => wrapKey(need(), dek),
    unwrap: async (wrapped) => {
      const dek = unwrapKey(need(), wrapped);
      if (dek === null) throw new BoundaryError("secret-damaged", `unwrapping a key with the KEK ${id}`);
      return dek;
    },
    drop: () => {
      held?.fill(0);
      held = null;
    },
  };
}
