import { type FSWatcher, lstatSync, readFileSync, statSync, watch as watchPath } from "node:fs";
import { basename } from "node:path";
import type { DirectoryHandlers, DirectoryWatch } from "../core/directory-watch.ts";

export type DirectoryWatchOptions = {
  readonly maxDirectories: number;
  /** Every so often some of the directories are compared with what was last seen of them. */
  readonly sweepMs: number;
  /** The kernel's call; a test gives one that fails. */
  readonly watch?: typeof watchPath;
};

type Arm = {
  readonly watcher: FSWatcher;
  readonly as: "contents" | "way";
  readonly identity: string;
  times: string;
  /** Events since `times` was taken. */
  events: number;
};

const SWEEP_AT_ONCE = 64;
const SECOND_LOOK_MS = 100;

/** Watches directories with `fs.watch`, and watches that watching: identity, times, and the length of the kernel's queue. */
export function createDirectoryWatch(options: DirectoryWatchOptions): DirectoryWatch {
  const watch = options.watch ?? watchPath;
  const queueLength = kernelQueueLength();
  const arms = new Map<string, Arm>();
  const wanted = new Map<string, Arm["as"]>(); // failed to arm, tried again at every sweep
  const looks = new Set<NodeJS.Timeout>();
  let handlers: DirectoryHandlers | undefined;
  let sweeper: NodeJS.Timeout | undefined;
  let sweepFrom = 0;
  let eventsThisTurn = 0;

  function arm(directory: string, as: Arm["as"]): boolean {
    disarm(directory);
    if (handlers === undefined) return false;
    if (arms.size >= options.maxDirectories) {
      return failed(directory, as, `more than ${options.maxDirectories} directories to watch`);
    }
    try {
      const watcher = watch(directory, { persistent: false, encoding: "utf8" });
      watcher.on("change", (type, name) =>
        onEvent(directory, String(name), type === "rename" ? "entry" : "inside"),
      );
      watcher.on("error", (error) => {
        disarm(directory);
        failed(directory, as, `${directory}: the watch failed: ${error.message}`);
      });
      // the identity after the watch: a swap in between is seen at the next look, never missed
      const identity = identityOf(directory);
      arms.set(directory, { watcher, as, identity, times: timesOf(directory), events: 0 });
      if (identity === "") {
        disarm(directory);
        return absent(directory);
      }
      if (wanted.delete(directory)) handlers.trouble(directory, null);
      return true;
    } catch (error) {
      if (isAbsence(error)) return absent(directory);
      return failed(directory, as, `${directory} cannot be watched (${describe(error)})`);
    }
  }

  /** Whoever is above it reports it when it comes. */
  function absent(directory: string): boolean {
    if (wanted.delete(directory)) handlers?.trouble(directory, null);
    return false;
  }

  function failed(directory: string, as: Arm["as"], why: string): boolean {
    wanted.set(directory, as);
    handlers?.trouble(directory, why);
    return false;
  }

  function disarm(directory: string): void {
    const held = arms.get(directory);
    if (held === undefined) return;
    arms.delete(directory);
    held.watcher.removeAllListeners("change");
    held.watcher.close();
  }

  function onEvent(directory: string, name: string, what: "entry" | "inside"): void {
    const held = arms.get(directory);
    if (held === undefined || handlers === undefined) return;
    held.events += 1;
    countTurn();
    // inotify reports the directory itself under its own name
    if (name === basename(directory)) verify(directory);
    handlers.event(directory, name, what);
  }

  /** libuv drops the kernel's overflow mark without a word; a whole queue read in one turn is all we can see of it. */
  function countTurn(): void {
    if (eventsThisTurn === 0) {
      setImmediate(() => {
        const events = eventsThisTurn;
        eventsThisTurn = 0;
        if (events >= queueLength * 0.95) handlers?.flooded(events);
      });
    }
    eventsThisTurn += 1;
  }

  function verify(directory: string): void {
    const held = arms.get(directory);
    if (held === undefined || held.identity === identityOf(directory)) return;
    disarm(directory);
    handlers?.moved(directory);
  }

  function sweep(): void {
    for (const [directory, as] of [...wanted].slice(0, SWEEP_AT_ONCE)) arm(directory, as);
    const all = [...arms.keys()];
    const some = [...all.slice(sweepFrom), ...all.slice(0, sweepFrom)].slice(0, SWEEP_AT_ONCE);
    sweepFrom = all.length === 0 ? 0 : (sweepFrom + some.length) % all.length;
    for (const directory of some) compare(directory);
  }

  function compare(directory: string): void {
    verify(directory);
    const held = arms.get(directory);
    if (held === undefined || held.as === "way") return;
    const times = timesOf(directory);
    const changed = times !== held.times;
    const explained = held.events > 0;
    held.times = times;
    held.events = 0;
    if (changed && !explained) secondLook(directory, held);
  }

  /** The event may be on its way: only when it still has not come was it lost. */
  function secondLook(directory: string, held: Arm): void {
    const timer = setTimeout(() => {
      looks.delete(timer);
      if (arms.get(directory) === held && held.events === 0) handlers?.silent(directory);
    }, SECOND_LOOK_MS);
    timer.unref();
    looks.add(timer);
  }

  return {
    open: (given) => {
      handlers = given;
      sweeper = setInterval(sweep, options.sweepMs);
      sweeper.unref();
    },
    arm,
    verify,
    disarm: (directory) => {
      wanted.delete(directory);
      disarm(directory);
    },
    armed: () => new Set(arms.keys()),
    close: () => {
      handlers = undefined;
      clearInterval(sweeper);
      for (const timer of looks) clearTimeout(timer);
      for (const directory of arms.keys()) disarm(directory);
      looks.clear();
      wanted.clear();
    },
  };
}

/** The directory behind the path, and the path's own inode: a link put in its place is a change too. "" when gone. */
function identityOf(directory: string): string {
  try {
    const own = lstatSync(directory, { bigint: true });
    const behind = own.isSymbolicLink() ? statSync(directory, { bigint: true }) : own;
    return behind.isDirectory() ? `${own.dev}:${own.ino} ${behind.dev}:${behind.ino}` : "";
  } catch {
    return ""; // gone, or closed to us: either way no longer what was armed
  }
}

function timesOf(directory: string): string {
  try {
    const stats = statSync(directory, { bigint: true });
    return `${stats.mtimeNs} ${stats.ctimeNs}`;
  } catch {
    return ""; // differs from any time, so it is looked at again
  }
}

function kernelQueueLength(): number {
  try {
    return Number(readFileSync("/proc/sys/fs/inotify/max_queued_events", "utf8")) || 16_384;
  } catch {
    return 16_384; // the kernel's default
  }
}

function isAbsence(error: unknown): boolean {
  return codeOf(error) === "ENOENT" || codeOf(error) === "ENOTDIR";
}

function describe(error: unknown): string {
  const code = codeOf(error);
  return code === "ENOSPC" ? "ENOSPC: fs.inotify.max_user_watches is used up" : code;
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : String(error);
}
