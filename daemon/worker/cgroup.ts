import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { renderErrorChain } from "../core/errors.ts";
import type { RunBounds } from "../exec/run-order.ts";

/** A cgroup of one run. */
export type RunCgroup = {
  add(pid: number): void;
  /** Kills everything in it, also what is just being started. */
  kill(): void;
  /** Removes it. False while something in it is still ending. */
  remove(): boolean;
};

export type Cgroups =
  | { readonly ok: true; make(id: string, bounds: Omit<RunBounds, "timeoutMs" | "graceMs">): RunCgroup }
  | { readonly ok: false; readonly why: string };

const CONTROLLERS = ["cpu", "memory", "pids"];
const PERIOD_US = 100_000;
/** bwrap and the first process of the sandbox are in it, too. */
const OWN_PROCESSES = 2;
const RUN = /^run-[0-9a-f]{32}$/;

/**
 * The part of the cgroup v2 tree that was handed to us (systemd: Delegate=yes). We move into a child of it, since a group
 * with processes of its own can bound no children. What a worker that was killed has left there is killed, and removed where
 * it is empty already. Changes nothing where there is no such part.
 */
export function openCgroups(proc = "/proc"): Cgroups {
  const place = delegatedPlace(proc);
  if ("why" in place) return { ok: false, why: place.why };
  try {
    const own = join(place.path, "worker");
    makeDirectory(own);
    writeFileSync(join(own, "cgroup.procs"), String(process.pid));
    writeFileSync(
      join(place.path, "cgroup.subtree_control"),
      CONTROLLERS.map((name) => `+${name}`).join(" "),
    );
    for (const name of readdirSync(place.path)) if (RUN.test(name)) clear(join(place.path, name));
  } catch (error) {
    return { ok: false, why: `the cgroup is not ours to divide (${renderErrorChain(error)})` };
  }
  return { ok: true, make: (id, bounds) => makeRun(join(place.path, `run-${id}`), bounds) };
}

function delegatedPlace(proc: string): { readonly path: string } | { readonly why: string } {
  try {
    const own = /^0::(\/.*)$/m.exec(readFileSync(`${proc}/self/cgroup`, "utf8"))?.[1];
    const mounts = readFileSync(`${proc}/self/mountinfo`, "utf8").split("\n");
    // the fifth field is where it is mounted, the one after " - " what it is
    const mounted = mounts.find((line) => line.includes(" - cgroup2 "))?.split(" ")[4];
    if (own === undefined || mounted === undefined) return { why: "there is no cgroup v2 on this host" };
    const path = join(mounted, own);
    const has = readFileSync(join(path, "cgroup.controllers"), "utf8").trim().split(" ");
    const lacking = CONTROLLERS.filter((name) => !has.includes(name));
    return lacking.length > 0
      ? { why: `cgroup v2 has no controller ${lacking.join(", ")} for us` }
      : { path };
  } catch (error) {
    return { why: `the cgroup cannot be read (${renderErrorChain(error)})` };
  }
}

function makeRun(path: string, bounds: Omit<RunBounds, "timeoutMs" | "graceMs">): RunCgroup {
  makeDirectory(path);
  try {
    bound(path, bounds);
  } catch (error) {
    removeDirectory(path);
    throw error;
  }
  const set = setterOf(path);
  return {
    add: (pid) => set("cgroup.procs", String(pid)),
    kill: () => set("cgroup.kill", "1"),
    remove: () => removeDirectory(path),
  };
}

function setterOf(path: string): (file: string, value: string) => void {
  return (file, value) => writeFileSync(join(path, file), value);
}

function bound(path: string, bounds: Omit<RunBounds, "timeoutMs" | "graceMs">): void {
  const set = setterOf(path);
  set("memory.max", String(bounds.memoryBytes));
  if (existsSync(join(path, "memory.swap.max"))) set("memory.swap.max", "0"); // not there without swap accounting
  set("memory.oom.group", "1"); // a run that lost a part of itself is not gone on with
  set("pids.max", String(bounds.pids + OWN_PROCESSES));
  set("cpu.max", `${bounds.cpus * PERIOD_US} ${PERIOD_US}`);
}

/** What is in it ends a moment later: then it stays, empty, until the unit ends. */
function clear(path: string): void {
  setterOf(path)("cgroup.kill", "1");
  removeDirectory(path);
}

function makeDirectory(path: string): void {
  try {
    mkdirSync(path, { mode: 0o755 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
}

function removeDirectory(path: string): boolean {
  try {
    rmdirSync(path);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENOENT";
  }
}
