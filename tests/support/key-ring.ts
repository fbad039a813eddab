import { createKeyRing, loadKeyRing } from "../../daemon/adapters/keys.ts";
import type { KeyRing } from "../../daemon/ports.ts";

/** The keys in a state directory, made where there are none. */
export function ringIn(stateDir: string): KeyRing {
  const found = loadKeyRing(stateDir);
  return found.kind === "loaded" ? found.ring : createKeyRing(stateDir);
}
