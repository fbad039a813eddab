/**
 * The filter of system calls for what runs in the sandbox, as classic BPF. It is a list of what is refused, since commands
 * are of any kind; calls that are newer than the list are refused as unknown (ENOSYS), which programs are made for.
 * Nothing here is needed for the namespaces to hold: it keeps what a command cannot use in them anyhow from being reached.
 */
export type Architecture = "x64" | "arm64";

/** One instruction (struct sock_filter): code, jump if true, jump if false, value. */
export type Instruction = readonly [code: number, jumpTrue: number, jumpFalse: number, value: number];

// linux/bpf_common.h
const LOAD_WORD = 0x20;
const JUMP_EQUAL = 0x15;
const JUMP_AT_LEAST = 0x35;
const JUMP_ANY_SET = 0x45;
const RETURN = 0x06;

// linux/seccomp.h
const ALLOW = 0x7fff_0000;
const KILL_PROCESS = 0x8000_0000;
const ERRNO = 0x0005_0000;

const EPERM = 1;
const EINVAL = 22;
const ENOSYS = 38;
const EPROTONOSUPPORT = 93;
const EAFNOSUPPORT = 97;

/** Offsets in struct seccomp_data; of an argument, its lower half (both architectures are little-endian). */
const AT_NUMBER = 0;
const AT_ARCHITECTURE = 4;
const argument = (index: number): number => 16 + 8 * index;

type Table = {
  /** AUDIT_ARCH_* of linux/audit.h. */
  readonly audit: number;
  readonly numbers: Readonly<Record<string, number>>;
};

/** Calls with one number on all architectures: those of Linux 5.1 and later, and a few before. */
const SHARED = {
  io_uring_setup: 425,
  io_uring_enter: 426,
  io_uring_register: 427,
  open_tree: 428,
  move_mount: 429,
  fsopen: 430,
  fsconfig: 431,
  fsmount: 432,
  fspick: 433,
  clone3: 435,
  openat2: 437,
  pidfd_getfd: 438,
  process_madvise: 440,
  mount_setattr: 442,
  quotactl_fd: 443,
  memfd_secret: 447,
  process_mrelease: 448,
  set_mempolicy_home_node: 450,
  fchmodat2: 452,
  statmount: 457,
  listmount: 458,
  lsm_set_self_attr: 460,
  open_tree_attr: 467,
} as const;

/** The last number that this was written for: file_setattr (Linux 6.17). */
const LAST_KNOWN = 469;

const TABLES: Readonly<Record<Architecture, Table>> = {
  x64: {
    audit: 0xc000_003e,
    numbers: {
      ...SHARED,
      open: 2,
      ioctl: 16,
      socket: 41,
      socketpair: 53,
      clone: 56,
      creat: 85,
      chmod: 90,
      fchmod: 91,
      ptrace: 101,
      syslog: 103,
      mknod: 133,
      uselib: 134,
      personality: 135,
      ustat: 136,
      sysfs: 139,
      vhangup: 153,
      modify_ldt: 154,
      pivot_root: 155,
      _sysctl: 156,
      adjtimex: 159,
      chroot: 161,
      acct: 163,
      settimeofday: 164,
      mount: 165,
      umount2: 166,
      swapon: 167,
      swapoff: 168,
      reboot: 169,
      sethostname: 170,
      setdomainname: 171,
      iopl: 172,
      ioperm: 173,
      create_module: 174,
      init_module: 175,
      delete_module: 176,
      get_kernel_syms: 177,
      query_module: 178,
      quotactl: 179,
      nfsservctl: 180,
      lookup_dcookie: 212,
      clock_settime: 227,
      mbind: 237,
      set_mempolicy: 238,
      get_mempolicy: 239,
      kexec_load: 246,
      add_key: 248,
      request_key: 249,
      keyctl: 250,
      migrate_pages: 256,
      openat: 257,
      mknodat: 259,
      fchmodat: 268,
      unshare: 272,
      move_pages: 279,
      perf_event_open: 298,
      fanotify_init: 300,
      name_to_handle_at: 303,
      open_by_handle_at: 304,
      clock_adjtime: 305,
      setns: 308,
      process_vm_readv: 310,
      process_vm_writev: 311,
      kcmp: 312,
      finit_module: 313,
      kexec_file_load: 320,
      bpf: 321,
      userfaultfd: 323,
    },
  },
  arm64: {
    audit: 0xc000_00b7,
    numbers: {
      ...SHARED,
      lookup_dcookie: 18,
      ioctl: 29,
      mknodat: 33,
      umount2: 39,
      mount: 40,
      pivot_root: 41,
      nfsservctl: 42,
      chroot: 51,
      fchmod: 52,
      fchmodat: 53,
      openat: 56,
      vhangup: 58,
      quotactl: 60,
      acct: 89,
      personality: 92,
      unshare: 97,
      kexec_load: 104,
      init_module: 105,
      delete_module: 106,
      clock_settime: 112,
      syslog: 116,
      ptrace: 117,
      reboot: 142,
      sethostname: 161,
      setdomainname: 162,
      settimeofday: 170,
      adjtimex: 171,
      socket: 198,
      socketpair: 199,
      add_key: 217,
      request_key: 218,
      keyctl: 219,
      clone: 220,
      swapon: 224,
      swapoff: 225,
      mbind: 235,
      get_mempolicy: 236,
      set_mempolicy: 237,
      migrate_pages: 238,
      move_pages: 239,
      perf_event_open: 241,
      fanotify_init: 262,
      name_to_handle_at: 264,
      open_by_handle_at: 265,
      clock_adjtime: 266,
      setns: 268,
      process_vm_readv: 270,
      process_vm_writev: 271,
      kcmp: 272,
      finit_module: 273,
      bpf: 280,
      userfaultfd: 282,
      kexec_file_load: 294,
    },
  },
};

/** Looked at by their arguments, or answered otherwise than with EPERM. */
const JUDGED =
  "chmod clone clone3 creat fchmod fchmodat fchmodat2 ioctl mknod mknodat open openat openat2 personality socket socketpair".split(
    " ",
  );

/** Every CLONE_NEW* that clone knows: mnt, cgroup, uts, ipc, user, pid, net. (Time can be asked of unshare and clone3 alone.) */
const CLONE_NEW = 0x7e02_0000;
/** Typing into a terminal for somebody else, and the console's own way to that. */
const TIOCSTI = 0x5412;
const TIOCLINUX = 0x541c;
const FAMILIES = [1, 2, 10]; // AF_UNIX, AF_INET, AF_INET6
const SOCKET_TYPES = [1, 2, 5]; // stream, datagram, seqpacket: nothing raw
const SOCKET_TYPE_MASK = 0xf;
/** The family's own, ICMP (pings without rights), TCP, UDP, ICMPv6. Asking for others makes the kernel load modules. */
const PROTOCOLS = [0, 1, 6, 17, 58];
/** personality(2): the ordinary one, and the question which it is. */
const PERSONALITIES = [0, 0xffff_ffff];
/** S_ISUID and S_ISGID: what a command leaves in its workspace makes nobody who runs it the worker's user. */
const SPECIAL = 0o6000;
/** O_CREAT and __O_TMPFILE, without which open(2) does not look at its mode. */
const CREATES = 0o20_000_100;
/** Calls that take a mode, and which argument it is. */
const MODES = { chmod: 1, creat: 1, fchmod: 1, fchmodat: 2, fchmodat2: 2, mknod: 1, mknodat: 2 } as const;
/** The bit that makes a number one of the x32 ABI. */
const X32_BIT = 0x4000_0000;

/** The architecture's filter. */
export function filterFor(architecture: Architecture): readonly Instruction[] {
  const { audit, numbers } = TABLES[architecture];
  const refused = Object.entries(numbers).filter(([name]) => !isJudged(name));
  return [
    [LOAD_WORD, 0, 0, AT_ARCHITECTURE],
    [JUMP_EQUAL, 1, 0, audit],
    [RETURN, 0, 0, KILL_PROCESS],
    [LOAD_WORD, 0, 0, AT_NUMBER],
    ...(architecture === "x64" ? atLeast(X32_BIT, EPERM) : []),
    ...atLeast(LAST_KNOWN + 1, ENOSYS),
    ...refused.flatMap(([, number]) => equal(number, EPERM)),
    // their flags are in memory, where a filter cannot look; clone and openat are tried next
    ...equal(SHARED.clone3, ENOSYS),
    ...equal(SHARED.openat2, ENOSYS),
    ...judge(numbers["clone"], [[LOAD_WORD, 0, 0, argument(0)], ...anySet(CLONE_NEW, EPERM)]),
    ...judge(numbers["ioctl"], [
      [LOAD_WORD, 0, 0, argument(1)],
      ...equal(TIOCSTI, EPERM),
      ...equal(TIOCLINUX, EPERM),
    ]),
    ...judge(numbers["personality"], oneOf(0, PERSONALITIES, EPERM)),
    ...judge(numbers["socket"], [
      ...oneOf(0, FAMILIES, EAFNOSUPPORT),
      ...socketType(),
      ...oneOf(2, PROTOCOLS, EPROTONOSUPPORT),
    ]),
    ...judge(numbers["socketpair"], oneOf(0, FAMILIES, EAFNOSUPPORT)),
    ...Object.entries(MODES).flatMap(([name, index]) => judge(numbers[name], notSpecial(index))),
    ...judge(numbers["open"], notMadeSpecial(1)),
    ...judge(numbers["openat"], notMadeSpecial(2)),
    [RETURN, 0, 0, ALLOW],
  ];
}

/** As the kernel takes it: eight bytes an instruction. */
export function assemble(program: readonly Instruction[]): Buffer {
  const bytes = Buffer.alloc(program.length * 8);
  program.forEach(([code, jumpTrue, jumpFalse, value], index) => {
    bytes.writeUInt16LE(code, index * 8);
    bytes.writeUInt8(jumpTrue, index * 8 + 2);
    bytes.writeUInt8(jumpFalse, index * 8 + 3);
    bytes.writeUInt32LE(value, index * 8 + 4);
  });
  return bytes;
}

/** The number of a call that the filter names. */
export function numberOf(architecture: Architecture, name: string): number | null {
  return TABLES[architecture].numbers[name] ?? null;
}

/** Names of all calls that are always refused with EPERM. */
export function refusedNames(architecture: Architecture): readonly string[] {
  return Object.keys(TABLES[architecture].numbers).filter((name) => !isJudged(name));
}

function isJudged(name: string): boolean {
  return JUDGED.includes(name);
}

/** For one call: `body`, which ends with what was not refused. The number has to be loaded; it is after it, too. */
function judge(number: number | undefined, body: readonly Instruction[]): readonly Instruction[] {
  if (number === undefined) return [];
  const whole: readonly Instruction[] = [...body, [RETURN, 0, 0, ALLOW]];
  return [[JUMP_EQUAL, 0, whole.length, number], ...whole];
}

function equal(value: number, errno: number): readonly Instruction[] {
  return [
    [JUMP_EQUAL, 0, 1, value],
    [RETURN, 0, 0, ERRNO | errno],
  ];
}

function atLeast(value: number, errno: number): readonly Instruction[] {
  return [
    [JUMP_AT_LEAST, 0, 1, value],
    [RETURN, 0, 0, ERRNO | errno],
  ];
}

function anySet(mask: number, errno: number): readonly Instruction[] {
  return [
    [JUMP_ANY_SET, 0, 1, mask],
    [RETURN, 0, 0, ERRNO | errno],
  ];
}

function notSpecial(mode: number): readonly Instruction[] {
  return [[LOAD_WORD, 0, 0, argument(mode)], ...anySet(SPECIAL, EPERM)];
}

/** The flags of open(2), and behind them its mode. */
function notMadeSpecial(flags: number): readonly Instruction[] {
  const mode = notSpecial(flags + 1);
  return [[LOAD_WORD, 0, 0, argument(flags)], [JUMP_ANY_SET, 0, mode.length, CREATES], ...mode];
}

/** An argument is one of these values, or the call is refused. */
function oneOf(index: number, values: readonly number[], errno: number): readonly Instruction[] {
  return [[LOAD_WORD, 0, 0, argument(index)], ...within(values, errno)];
}

function socketType(): readonly Instruction[] {
  const AND = 0x54; // the flags SOCK_CLOEXEC and SOCK_NONBLOCK are in the same word
  return [[LOAD_WORD, 0, 0, argument(1)], [AND, 0, 0, SOCKET_TYPE_MASK], ...within(SOCKET_TYPES, EINVAL)];
}

function within(values: readonly number[], errno: number): readonly Instruction[] {
  const jumps = values.map((value, at): Instruction => [JUMP_EQUAL, values.length - at, 0, value]);
  return [...jumps, [RETURN, 0, 0, ERRNO | errno]];
}
