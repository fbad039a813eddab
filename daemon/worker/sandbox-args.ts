import { posix } from "node:path";
import { isWithin, type RunBounds } from "../exec/run-order.ts";

/** One of the host's top-level names, as the sandbox is to have it. */
export type RootEntry =
  | { readonly path: string; readonly kind: "link"; readonly to: string }
  | { readonly path: string; readonly kind: "directory" };

/** What stays the same for all runs of a worker. */
export type HostLayout = {
  readonly roots: readonly RootEntry[];
  readonly uid: number;
  readonly gid: number;
};

/** A descriptor of the worker's that the sandbox is made with, and where it goes. */
export type Mount = {
  readonly fd: number;
  readonly path: string;
  /** bind and read-only: what the descriptor is open on. data: a copy of its bytes, which can be run. */
  readonly how: "bind" | "read-only" | "data";
};

export type SandboxPlan = {
  readonly host: HostLayout;
  /** In this order: a later one lies on an earlier one. */
  readonly mounts: readonly Mount[];
  readonly links: readonly { readonly path: string; readonly to: string }[];
  readonly cwd: string;
  readonly environment: readonly (readonly [name: string, value: string])[];
  readonly seccompFd: number;
  /** Of each file system in memory. */
  readonly memoryBytes: number;
  /** What the command waits for, until it can be read from; null where nothing has to be done before. */
  readonly holdFd: number | null;
};

/** Descriptors of bwrap's: what it says of its child, and its options. Those of the plan come after them. */
export const STATUS_FD = 3;
export const OPTIONS_FD = 4;
const FIRST_FREE_FD = 5;

/**
 * What a process may set aside and never touch, beyond what it may use: V8 maps 512 MiB for its code, writable, at its start.
 * A process cannot be bounded by what it touches; a cgroup does that.
 */
const RESERVED_BYTES = 671_088_640;

/** Below this the sandbox has what is ours in it. */
export const OWN_DIRECTORY = "/run/boundary";

/**
 * What of /etc programs need to start, to speak TLS and to know the time. Nothing that says who may log in, and nothing
 * that may hold a password: /etc as a whole is not there.
 */
const ETC = [
  "alternatives",
  "ca-certificates",
  "debian_version",
  "fonts",
  "gai.conf",
  "host.conf",
  "ld.so.cache",
  "ld.so.conf",
  "ld.so.conf.d",
  "locale.alias",
  "localtime",
  "magic",
  "mime.types",
  "networks",
  "nsswitch.conf",
  "os-release",
  "pki/ca-trust",
  "pki/tls/certs",
  "protocols",
  "rpc",
  "services",
  "shells",
  "ssl/certs",
  "ssl/openssl.cnf",
  "terminfo",
  "timezone",
];

/** A file that the sandbox has in place of the host's. */
export type OwnFile = { readonly path: string; readonly text: string };

/** The users, groups and hosts that a command sees: its own user, and nobody of the host. */
export function ownFiles({ uid, gid }: Pick<HostLayout, "uid" | "gid">): readonly OwnFile[] {
  const nologin = "/usr/sbin/nologin";
  return [
    {
      path: "/etc/passwd",
      text: `root:x:0:0:root:/nonexistent:${nologin}\nsandbox:x:${uid}:${gid}:sandbox:/tmp:${nologin}\nnobody:x:65534:65534:nobody:/nonexistent:${nologin}\n`,
    },
    { path: "/etc/group", text: `root:x:0:\nsandbox:x:${gid}:\nnogroup:x:65534:\n` },
    { path: "/etc/hosts", text: "127.0.0.1 localhost sandbox\n::1 localhost\n" },
  ];
}

/**
 * The options of bwrap, and the worker's descriptors in the order in which bwrap has to find them from FIRST_FREE_FD on.
 * What is not listed here is not there: bwrap begins with an empty root.
 */
export function sandboxOptions(plan: SandboxPlan): {
  readonly options: readonly string[];
  readonly descriptors: readonly number[];
} {
  const descriptors: number[] = [];
  const number = (fd: number): string => String(FIRST_FREE_FD + descriptors.push(fd) - 1);
  const size = String(plan.memoryBytes);
  const options = [
    // each by its name: with --unshare-all bwrap goes on without those that it cannot have
    ...words("--unshare-user --disable-userns --unshare-ipc --unshare-pid --unshare-net --unshare-uts"),
    ...words("--unshare-cgroup --hostname sandbox --die-with-parent --new-session --cap-drop ALL"),
    "--json-status-fd",
    String(STATUS_FD),
    ...optional("--block-fd", plan.holdFd === null ? null : number(plan.holdFd)),
    "--seccomp",
    number(plan.seccompFd),
    ...words("--ro-bind /usr /usr"),
    ...plan.host.roots.flatMap(rootOption),
    ...words("--proc /proc --dev /dev"),
    ...memory("/dev/shm", size),
    ...words("--remount-ro /dev"),
    ...["/tmp", "/run", "/home", "/var/tmp"].flatMap((path) => memory(path, size)),
    ...ETC.flatMap((name) => ["--ro-bind-try", `/etc/${name}`, `/etc/${name}`]),
    ...plan.mounts.flatMap((mount) => mountOption(mount, number(mount.fd))),
    ...plan.links.flatMap(({ path, to }) => ["--symlink", to, path]),
    ...words("--remount-ro / --chdir"),
    plan.cwd,
    "--clearenv",
    ...plan.environment.flatMap(([name, value]) => ["--setenv", name, value]),
  ];
  return { options, descriptors };
}

/** bwrap's options as it reads them from a descriptor: there nobody sees the environment in the list of processes. */
export function renderOptions(options: readonly string[]): Buffer {
  return Buffer.from(options.map((option) => `${option}\0`).join(""), "utf8");
}

/**
 * How a program is called so that it is told the name that was judged (programs that do several things go by it). bwrap tells
 * a program the path that it runs: where the names differ, that is a link of the judged name to it.
 */
export function calledAs(argv0: string, path: string): { readonly run: string; readonly link: boolean } {
  const name = posix.basename(argv0);
  const plain = name !== "" && name !== "." && name !== ".." && name !== "/";
  if (!plain || name === posix.basename(path)) return { run: path, link: false };
  return { run: `${OWN_DIRECTORY}/bin/${name}`, link: true };
}

/**
 * What of the bounds a process can be given by itself: the program that gives it, and its arguments. `alone`: there is no
 * cgroup to bound the run as a whole.
 */
export function limitCommand(
  bounds: Pick<RunBounds, "pids" | "memoryBytes">,
  alone: boolean,
): readonly string[] {
  const own = [
    // inside the user namespace, which counts by itself (Linux 5.14); the first process of the sandbox is one
    `--nproc=${bounds.pids + 1}`,
    `--data=${bounds.memoryBytes + RESERVED_BYTES}`,
  ];
  return ["/usr/bin/prlimit", "--nofile=4096", "--core=0", ...(alone ? own : []), "--"];
}

/** Whether the sandbox has a path of /etc in any case. */
export function isInEtc(path: string): boolean {
  return [...ETC, "passwd", "group", "hosts"].some((name) => isWithin(path, `/etc/${name}`));
}

function words(text: string): readonly string[] {
  return text.split(" ");
}

function optional(option: string, value: string | null): readonly string[] {
  return value === null ? [] : [option, value];
}

function rootOption(entry: RootEntry): readonly string[] {
  return entry.kind === "link" ? ["--symlink", entry.to, entry.path] : ["--ro-bind", entry.path, entry.path];
}

function memory(path: string, size: string): readonly string[] {
  return ["--perms", "1777", "--size", size, "--tmpfs", path];
}

function mountOption({ how, path }: Mount, fd: string): readonly string[] {
  switch (how) {
    case "bind":
      return ["--bind-fd", fd, path];
    case "read-only":
      return ["--ro-bind-fd", fd, path];
    case "data":
      return ["--perms", "0555", "--ro-bind-data", fd, path];
  }
}
