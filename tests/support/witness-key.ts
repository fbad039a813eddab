import { createPrivateKey, createPublicKey, hash, sign } from "node:crypto";
import { renderVkey } from "../../daemon/audit/checkpoint.ts";
import { WITNESS_KEY_TYPE } from "../../daemon/audit/cosignature.ts";
import type { Signer } from "../../daemon/ports.ts";

/** A witness's key, made from its name: worth nothing. */
export function testWitnessKey(name: string): Signer {
  const seed = hash("sha256", `a witness for tests: ${name}`, "buffer");
  const der = Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), seed]);
  const key = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
  const raw = createPublicKey(key).export({ format: "der", type: "spki" }).subarray(-32);
  return { vkey: renderVkey(name, raw, WITNESS_KEY_TYPE), sign: (message) => sign(null, message, key) };
}
