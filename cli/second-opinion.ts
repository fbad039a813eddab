import nacl from "tweetnacl";
import type { SecondOpinion } from "../daemon/audit/seal.ts";

/** tweetnacl's word: another implementation than Node's OpenSSL. 20 to 25 ms a signature. */
export const secondOpinion: SecondOpinion = (publicKey, message, signature) =>
  signature.length === nacl.sign.signatureLength &&
  nacl.sign.detached.verify(Uint8Array.from(message), Uint8Array.from(signature), Uint8Array.from(publicKey));
