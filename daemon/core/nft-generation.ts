/**
 * How many times the rules of a network namespace were changed: the kernel's own count, of transactions that it took.
 * The message that asks for it, and its answer: linux/netlink.h, linux/netfilter/nfnetlink.h and nf_tables.h.
 */
const NFT = 10 << 8; // NFNL_SUBSYS_NFTABLES
const NEW_GENERATION = NFT | 15;
const GET_GENERATION = NFT | 16;
const REQUEST = 1; // NLM_F_REQUEST
const GENERATION_ID = 1; // NFTA_GEN_ID, in network byte order
const TYPE_MASK = 0x3fff; // NLA_TYPE_MASK
const HEADER_BYTES = 16; // struct nlmsghdr
const MESSAGE_BYTES = HEADER_BYTES + 4; // and struct nfgenmsg
const ATTRIBUTE_BYTES = 4; // struct nlattr
const LAST = 0xffff_ffff;

/** The request. `sequence`: 32 bits, which come back in the answer. Bytes as x64 and arm64 have them. */
export function renderGenerationRequest(sequence: number): Uint8Array {
  const message = new DataView(new ArrayBuffer(MESSAGE_BYTES));
  message.setUint32(0, MESSAGE_BYTES, true);
  message.setUint16(4, GET_GENERATION, true);
  message.setUint16(6, REQUEST, true);
  message.setUint32(8, sequence, true);
  return new Uint8Array(message.buffer);
}

/** The generation in the answer to the request of that sequence; null for any other message. */
export function parseGeneration(answer: Uint8Array, sequence: number): number | null {
  const view = new DataView(answer.buffer, answer.byteOffset, answer.byteLength);
  if (view.byteLength < MESSAGE_BYTES) return null;
  const length = view.getUint32(0, true);
  if (length < MESSAGE_BYTES || length > view.byteLength) return null;
  if (view.getUint16(4, true) !== NEW_GENERATION || view.getUint32(8, true) !== sequence) return null;
  for (let at = MESSAGE_BYTES; at + ATTRIBUTE_BYTES <= length; ) {
    const bytes = view.getUint16(at, true);
    if (bytes < ATTRIBUTE_BYTES || at + bytes > length) return null;
    const isId = (view.getUint16(at + 2, true) & TYPE_MASK) === GENERATION_ID;
    if (isId) return bytes === ATTRIBUTE_BYTES + 4 ? view.getUint32(at + ATTRIBUTE_BYTES, false) : null;
    at += (bytes + 3) & ~3;
  }
  return null;
}

/** The one after it: the kernel leaves out 0. */
export function nextGeneration(generation: number): number {
  return generation === LAST ? 1 : generation + 1;
}
