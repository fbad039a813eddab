import { closeSync, lstatSync, readlinkSync } from "node:fs";
import { renderErrorChain } from "../core/errors.ts";
import type { Cgroups } from "./cgroup.ts";
import { type Launched, launch } from "./launch.ts";
import type { Sandbox } from "./messages.ts";
import { type Kit, openOwnFiles } from "./prepare.ts";
import type { RootEntry } from "./sandbox-args.ts";

const ROOTS = ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];
const MEMORY_BYTES = 16_777_216;
const DEADLINE_MS = 10_000;
const MAX_READ_BYTES = 262_144;
const NAMESPACES = ["cgroup", "ipc", "mnt", "net", "pid", "uts"];
/** What of the root may be written: what the sandbox has in memory. */
const WRITABLE = ["/dev/shm", "/tmp", "/run", "/home", "/var/tmp"];
/** Writes there reach nothing: terminals of its own, what the kernel says of its processes, and the harmless devices. */
const KERNELS_OWN = /^\/(?:proc|dev)(?:\/|$)/;

/** How the host's top level is laid out: with /usr merged, most of it is links. */
export function readRoots(): readonly RootEntry[] {
  return ROOTS.flatMap((path): readonly RootEntry[] => {
    const stat = lstatSync(path, { throwIfNoEntry: false });
    if (stat?.isSymbolicLink()) return [{ path, kind: "link", to: readlinkSync(path) }];
    return stat?.isDirectory() ? [{ path, kind: "directory" }] : [];
  });
}

/**
 * Finds out what of the sandbox holds here, by making one and looking at it from inside and from outside. What could not be
 * found out does not hold.
 */
export async function probeSandbox(kit: Pick<Kit, "host" | "filter">, cgroups: Cgroups): Promise<Sandbox> {
  const seen = await look(kit);
  const none = { namespaces: false, seccomp: false, readOnlyRoot: false };
  const facts = "why" in seen ? none : judge(seen);
  const missing = [
    ...("why" in seen ? [`a sandbox: ${seen.why}`] : []),
    ...("why" in seen || facts.namespaces ? [] : ["namespaces of its own, without rights in them"]),
    ...("why" in seen || facts.seccomp ? [] : ["the filter of system calls"]),
    ...("why" in seen || facts.readOnlyRoot ? [] : ["a read-only root"]),
    ...(cgroups.ok
      ? []
      : [
          `a cgroup: ${cgroups.why}. Memory is bounded for each process alone and 640 MiB above the order's bound, processor time by the timeout alone`,
        ]),
  ];
  return { ...facts, cgroup: cgroups.ok, missing };
}

type Seen = {
  readonly status: string;
  readonly mounts: string;
  readonly namespaces: ReadonlyMap<string, number>;
};

async function look(kit: Pick<Kit, "host" | "filter">): Promise<Seen | { readonly why: string }> {
  const open: number[] = [];
  try {
    const { mounts, seccompFd } = openOwnFiles(kit, open);
    const launched = launch(
      {
        host: kit.host,
        mounts,
        links: [],
        cwd: "/tmp",
        environment: [],
        seccompFd,
        memoryBytes: MEMORY_BYTES,
        holdFd: null,
      },
      ["/usr/bin/prlimit", "--core=0", "--", "/usr/bin/cat", "/proc/self/status", "/proc/self/mountinfo"],
    );
    return await read(launched);
  } catch (error) {
    return { why: renderErrorChain(error) };
  } finally {
    for (const fd of open) closeSync(fd);
  }
}

async function read(launched: Launched): Promise<Seen | { readonly why: string }> {
  const deadline = setTimeout(() => launched.kill(), DEADLINE_MS);
  try {
    launched.stdin.end();
    const [text, complaint, first, { exitCode }] = await Promise.all([
      textOf(launched.stdout),
      textOf(launched.stderr),
      launched.first,
      launched.ended,
    ]);
    await launched.gone(DEADLINE_MS);
    if (exitCode !== 0 || first === null)
      return { why: complaint.trim().split("\n").at(-1) || "it did not start" };
    const at = text.search(/^\d+ \d+ \d+:\d+ /m);
    return { status: text.slice(0, at), mounts: text.slice(at), namespaces: first.namespaces };
  } finally {
    clearTimeout(deadline);
  }
}

async function textOf(stream: Launched["stdout"]): Promise<string> {
  let text = "";
  for await (const chunk of stream) {
    if (text.length < MAX_READ_BYTES) text += String(chunk);
  }
  return text;
}

function judge({
  status,
  mounts,
  namespaces,
}: Seen): Pick<Sandbox, "namespaces" | "seccomp" | "readOnlyRoot"> {
  const field = (name: string) => new RegExp(`^${name}:\\s*(\\S+)`, "m").exec(status)?.[1];
  const powerless = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].every((name) =>
    /^0+$/.test(field(name) ?? "x"),
  );
  return {
    namespaces: powerless && NAMESPACES.every((name) => isAnother(name, namespaces.get(name))),
    seccomp: field("Seccomp") === "2" && field("NoNewPrivs") === "1",
    readOnlyRoot: mounts.trim().split("\n").every(isHarmless) && /^(?:\S+ ){4}\/ ro,/m.test(mounts),
  };
}

function isAnother(name: string, inode: number | undefined): boolean {
  const own = /\[(\d+)\]/.exec(readlinkSync(`/proc/self/ns/${name}`))?.[1];
  return inode !== undefined && own !== undefined && Number(own) !== inode;
}

/** One line of mountinfo: its fifth field is where, the sixth how. */
function isHarmless(line: string): boolean {
  const [, , , , path = "", options = ""] = line.split(" ");
  const flags = options.split(",");
  if (!flags.includes("nosuid")) return false;
  return flags.includes("ro") || WRITABLE.includes(path) || KERNELS_OWN.test(path);
}
