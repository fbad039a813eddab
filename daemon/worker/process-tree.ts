import { closeSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { openProcess, signalProcess } from "./kernel.ts";

/** Rounds of looking for children that were begun while we signalled the others. */
const ROUNDS = 4;
const MAX_PROCESSES = 65_536;

/**
 * Sends a signal to every process of a pid namespace but its first, whose pid (as we see it) is given: whatever lost its
 * parent in there is a child of the first. Best effort, since what is being signalled may start others meanwhile: what has
 * to end is ended by killing the first. `namespace`: its number; what is in another one is not touched. Gives how many were signalled.
 */
export function signalTree(firstPid: number, namespace: number, signal: number): number {
  const told = new Set<number>();
  for (let round = 0; round < ROUNDS; round++) {
    const before = told.size;
    for (const pid of below(firstPid)) {
      if (!told.has(pid) && signalIn(namespace, pid, signal)) told.add(pid);
    }
    if (told.size === before) break;
  }
  return told.size;
}

/** The descriptor is taken first and the namespace looked at then: a number that was given anew meanwhile is another's. */
function signalIn(namespace: number, pid: number, signal: number): boolean {
  const fd = openProcess(pid);
  if (fd === null) return false;
  try {
    return isIn(pid, namespace) && signalProcess(fd, signal);
  } finally {
    closeSync(fd);
  }
}

function below(firstPid: number): readonly number[] {
  const found: number[] = [];
  const open = [firstPid];
  for (let pid = open.pop(); pid !== undefined && found.length < MAX_PROCESSES; pid = open.pop()) {
    const children = childrenOf(pid);
    found.push(...children);
    open.push(...children);
  }
  return found;
}

function childrenOf(pid: number): readonly number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((task) =>
      readFileSync(`/proc/${pid}/task/${task}/children`, "utf8")
        .split(" ")
        .filter((text) => text !== "")
        .map(Number),
    );
  } catch {
    return []; // it has ended
  }
}

/** Whether a process is in the pid namespace of this number. */
export function isIn(pid: number, namespace: number): boolean {
  try {
    return readlinkSync(`/proc/${pid}/ns/pid`) === `pid:[${namespace}]`;
  } catch {
    return false; // it has ended
  }
}
