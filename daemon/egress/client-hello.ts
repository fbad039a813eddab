/**
 * The first message of a TLS client (RFC 8446, section 4.1.2), as far as it says whom it wants to speak to. What is not
 * plainly one is refused: a server that is more lenient than we are would see another name than we did.
 */
export type ClientHello = {
  readonly kind: "hello";
  readonly serverName: string | null;
  /** It has an Encrypted ClientHello in it, or what looks like one. */
  readonly encrypted: boolean;
};

export type ReadHello =
  /** Not all of it has come. */
  { readonly kind: "more" } | ClientHello | { readonly kind: "invalid"; readonly why: string };

export type HelloReader = {
  /** Takes what has come next, from the first byte that the client sends. After an answer that is not "more": no more. */
  push(chunk: Buffer): ReadHello;
};

/** Of all records that the message comes in, with their headers. Post-quantum key shares make some 2 KiB of it. */
export const MAX_HELLO_BYTES = 16_384;

const RECORD_HEADER = 5;
const MESSAGE_HEADER = 4;
const HANDSHAKE = 22;
const CLIENT_HELLO = 1;
const SERVER_NAME = 0;
/** Encrypted ClientHello, and the drafts before it: the name that is seen is not the one that is meant. */
const ENCRYPTED: readonly number[] = [0xfe0d, 0xffce];

/** Reads a ClientHello in pieces of any size, in time that grows with its length alone. */
export function createHelloReader(): HelloReader {
  const message = Buffer.alloc(MAX_HELLO_BYTES);
  const header = Buffer.alloc(RECORD_HEADER);
  let [filled, inHeader, leftInRecord, total] = [0, 0, 0, 0];

  function push(chunk: Buffer): ReadHello {
    for (let at = 0; at < chunk.length; ) {
      const start = at;
      if (leftInRecord === 0) {
        const taken = chunk.copy(header, inHeader, at, at + RECORD_HEADER - inHeader);
        [inHeader, at] = [inHeader + taken, at + taken];
        const fault = headerFault(header, inHeader);
        if (fault !== null) return invalid(fault);
        if (inHeader === RECORD_HEADER) [leftInRecord, inHeader] = [header.readUInt16BE(3), 0];
      } else {
        const taken = chunk.copy(message, filled, at, at + leftInRecord);
        [filled, leftInRecord, at] = [filled + taken, leftInRecord - taken, at + taken];
      }
      total += at - start;
      const found = whole();
      if (found !== null) return found;
      if (total >= MAX_HELLO_BYTES) return invalid("it is too long");
    }
    return { kind: "more" };
  }

  function whole(): ReadHello | null {
    if (filled > 0 && message[0] !== CLIENT_HELLO) return invalid("it does not begin with a ClientHello");
    if (filled < MESSAGE_HEADER) return null;
    const end = MESSAGE_HEADER + message.readUIntBE(1, 3);
    if (end + RECORD_HEADER > MAX_HELLO_BYTES) return invalid("it is too long");
    if (filled < end) return null;
    if (filled > end || leftInRecord > 0) return invalid("more stands behind it in its record");
    return helloOf(message.subarray(MESSAGE_HEADER, end));
  }

  return { push };
}

/** What is wrong with the first bytes of a record; null while nothing is. */
function headerFault(header: Buffer, have: number): string | null {
  if (have > 0 && header[0] !== HANDSHAKE) return "it is no TLS handshake";
  if (have > 1 && header[1] !== 3) return "it is no version of TLS";
  if (have < RECORD_HEADER) return null;
  const length = header.readUInt16BE(3);
  return length === 0 || length > MAX_HELLO_BYTES ? "a record of it has no length of TLS" : null;
}

function helloOf(body: Buffer): ReadHello {
  const reader = readerOf(body);
  if (reader.number(1) !== 3) return invalid("it is no version of TLS");
  reader.skip(1 + 32);
  if (reader.vector(1).length > 32) return invalid("its session id is too long");
  const suites = reader.vector(2).length;
  if (suites === 0 || suites % 2 !== 0) return invalid("its cipher suites cannot be read");
  if (reader.vector(1).length === 0) return invalid("its compression methods cannot be read");
  if (reader.isDone()) return { kind: "hello", serverName: null, encrypted: false };
  const extensions = readerOf(reader.vector(2));
  if (!reader.isDone()) return invalid("its extensions do not end where it ends");
  return extensionsOf(extensions);
}

function extensionsOf(extensions: Reader): ReadHello {
  const seen = new Set<number>();
  let serverName: string | null = null;
  while (extensions.isMore()) {
    const type = extensions.number(2);
    const body = extensions.vector(2);
    if (seen.has(type)) return invalid("it has an extension twice");
    seen.add(type);
    if (type !== SERVER_NAME) continue;
    serverName = nameOf(body);
    if (serverName === null) return invalid("its server name cannot be read");
  }
  if (!extensions.isDone()) return invalid("its extensions cannot be read");
  return { kind: "hello", serverName, encrypted: ENCRYPTED.some((type) => seen.has(type)) };
}

/** RFC 6066, section 3: a list, of which there is one kind and one entry. */
function nameOf(body: Buffer): string | null {
  const outer = readerOf(body);
  const list = readerOf(outer.vector(2));
  const kind = list.number(1);
  const name = list.vector(2);
  if (kind !== 0 || !list.isDone() || !outer.isDone()) return null;
  if (name.length === 0 || name.length > 255 || name.some((byte) => byte < 0x21 || byte > 0x7e)) return null;
  return name.toString("latin1");
}

/** What is asked for beyond the end is nothing (0, no bytes), and then it is never done. */
type Reader = {
  number(bytes: 1 | 2): number;
  skip(bytes: number): void;
  /** What a length of so many bytes stands before. */
  vector(lengthBytes: 1 | 2): Buffer;
  isMore(): boolean;
  /** Read to its end, and not beyond. */
  isDone(): boolean;
};

function readerOf(bytes: Buffer): Reader {
  let at = 0;
  function take(length: number): Buffer {
    at += length;
    return at > bytes.length ? Buffer.alloc(0) : bytes.subarray(at - length, at);
  }
  const number = (length: 1 | 2): number => {
    const taken = take(length);
    return taken.length === 0 ? 0 : taken.readUIntBE(0, length);
  };
  return {
    number,
    skip: (length) => void take(length),
    vector: (lengthBytes) => take(number(lengthBytes)),
    isMore: () => at < bytes.length,
    isDone: () => at === bytes.length,
  };
}

function invalid(why: string): ReadHello {
  return { kind: "invalid", why };
}
