import koffi from "koffi";

/**
 * Sets a link up, or gives it an IPv4 address, by ioctl (SIOCSIFFLAGS, SIOCSIFADDR, netdevice(7)) and prints CLOCK_MONOTONIC in nanoseconds before and after the
 * call: the kernel's event is between the two. `node link-up.ts NAME [ADDRESS]`, in the namespace of the link.
 */
const SIOCGIFFLAGS = 0x8913;
const SIOCSIFFLAGS = 0x8914;
const SIOCSIFADDR = 0x8916;
const AF_INET = 2;
const IFF_UP = 1;
const FLAGS_AT = 16;

const libc = koffi.load("libc.so.6");
const socket = libc.func("int socket(int domain, int type, int protocol)");
const ioctl = libc.func("int ioctl(int fd, unsigned long request, _Inout_ uint8_t *request)");

const name = process.argv[2] ?? "";
const address = process.argv[3];
const fd = socket(AF_INET, 2, 0) as number;
const request = Buffer.alloc(40);
request.write(name, 0, 15);
const change = address === undefined ? up() : given(address);
const before = process.hrtime.bigint();
const result = ioctl(fd, change, request) as number;
const after = process.hrtime.bigint();
required(result);
console.log(JSON.stringify({ before: String(before), after: String(after) }));

function up(): number {
  required(ioctl(fd, SIOCGIFFLAGS, request));
  request.writeInt16LE(request.readInt16LE(FLAGS_AT) | IFF_UP, FLAGS_AT);
  return SIOCSIFFLAGS;
}

function given(text: string): number {
  request.writeInt16LE(AF_INET, FLAGS_AT);
  request.set(text.split(".").map(Number), FLAGS_AT + 4);
  return SIOCSIFADDR;
}

function required(answer: unknown): void {
  if (answer !== 0) throw new Error(`ioctl on ${name}: errno ${koffi.errno()}`);
}
