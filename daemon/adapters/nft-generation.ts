import koffi from "koffi";
import { parseGeneration, renderGenerationRequest } from "../core/nft-generation.ts";

/** linux/socket.h, linux/netlink.h: the same on every architecture we run on (x64, arm64). */
const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 0o2_000_003;
const NETLINK_NETFILTER = 12;
const MSG_DONTWAIT = 0x40;
const ADDRESS_BYTES = 12; // struct sockaddr_nl
const SENDER_AT = 4; // its nl_pid; 0: the kernel
const ANSWER_BYTES = 4_096;
/** An answer that came too late is passed over. */
const MOST_ANSWERS = 4;
const LAST_SEQUENCE = 0xffff_ffff;

/**
 * Reads how many times the rules of this process' network namespace were changed (`Firewall.generation`). null: the
 * kernel did not say. One socket, kept for good. Some 20 µs a time.
 */
export function openGeneration(): () => number | null {
  try {
    return open();
  } catch {
    return () => null; // then everything is listed and compared every time
  }
}

function open(): () => number | null {
  const libc = koffi.load(null);
  const socket = libc.func("int socket(int domain, int type, int protocol)");
  const send = libc.func("intptr_t send(int fd, const uint8_t *bytes, size_t length, int flags)");
  const receive = libc.func(
    "intptr_t recvfrom(int fd, _Out_ uint8_t *bytes, size_t room, int flags, _Out_ uint8_t *from, _Inout_ uint32_t *length)",
  );
  const fd = socket(AF_NETLINK, SOCK_RAW_CLOEXEC, NETLINK_NETFILTER) as number;
  if (fd < 0) throw new Error(`a netlink socket: error ${koffi.errno()}`);
  const answer = Buffer.alloc(ANSWER_BYTES);
  const from = Buffer.alloc(ADDRESS_BYTES);
  let sequence = 0;
  return () => {
    sequence = sequence === LAST_SEQUENCE ? 1 : sequence + 1;
    const request = renderGenerationRequest(sequence);
    if (send(fd, request, request.length, MSG_DONTWAIT) !== request.length) return null;
    for (let tries = 0; tries < MOST_ANSWERS; tries += 1) {
      // the kernel has answered by the time that send returns
      const room = [ADDRESS_BYTES];
      const got = receive(fd, answer, answer.length, MSG_DONTWAIT, from, room) as number;
      if (got <= 0) return null;
      const isKernel = room[0] === ADDRESS_BYTES && from.readUInt32LE(SENDER_AT) === 0;
      const found = isKernel ? parseGeneration(answer.subarray(0, got), sequence) : null;
      if (found !== null) return found;
    }
    return null;
  };
}
