import { basename, dirname } from "node:path";
import { setTimeout as after } from "node:timers/promises";
import type { FSWatcher } from "chokidar";
import type { DirectoryWatch } from "../core/directory-watch.ts";
import { changeOnEvent, changeOnLook, type FileReader, type FullLook, toState } from "../core/file-look.ts";
import { type FileState, fileSignal, missingState, type SelfPath } from "../core/fingerprint.ts";
import type { FileChange, Signal } from "../core/signal.ts";
import { isBelow, join, planWatch, treeOf } from "../core/watch-plan.ts";
import type { Clock, FileMemory, SensorHealth, SignalSource } from "../ports.ts";

export type FileSensorOptions = {
  /** Absolute; a "/" at the end means the whole tree below. */
  readonly paths: readonly string[];
  /** Our own files; watched like `paths`, reported as `self.changed`. */
  readonly self: readonly SelfPath[];
  /** Everything is read and hashed again this often, whatever events came. */
  readonly rehashMs: number;
  readonly clock: Clock;
  readonly limits: { readonly maxFiles: number };
  readonly reader: FileReader;
  readonly directories: DirectoryWatch;
  /** Everything has been hashed again, and what that found is signalled. */
  readonly onRehashed?: () => void;
};

export type FileSensor = SignalSource & {
  /** What it knows; null until it has looked at everything once, and when it is stopped. */
  memory(): FileMemory | null;
  /** Reads everything watched, now: missing entries included, sorted by path. Works before `start` too. */
  snapshot(): Promise<readonly FileState[]>;
};

type Known = {
  readonly look: FullLook;
  /** Goes up with every event; what was read under an older one says nothing. */
  readonly version: number;
  /** A change of the content has been signalled since the last hash. */
  readonly told: boolean;
};

const MAX_TROUBLES = 100;
/** Lets an event that is on its way arrive before a difference is called one without an event. */
const EVENT_ON_ITS_WAY_MS = 10;
/** A file that never holds still is left to its next event, which is signalled without a hash. */
const MAX_HASH_TRIES = 50;
const CHOKIDAR_READY_MS = 10_000;
/** What is being hashed at the end of the start is waited for this long. */
const START_SETTLE_MS = 250;

/**
 * Watches files and trees, three ways: `fs.watch` on every directory (first, and names every entry), chokidar on the
 * trees (a second opinion, finds new directories), and a re-hash of everything at intervals. An event is signalled
 * after one lstat; the content is hashed afterwards. Emits `file.changed`, `self.changed`, `sensor.blind`.
 */
export function createFileSensor(options: FileSensorOptions): FileSensor {
  const { reader, directories, clock, self } = options;
  const plan = planWatch([...options.paths, ...self.map((one) => one.path)]);
  const known = new Map<string, Known>();
  const troubles = new Map<string, string>();
  const hashing = new Map<string, Promise<void>>();
  const toldThisTurn = new Set<string>();
  let emit: ((signal: Signal) => void) | undefined;
  let chokidar: FSWatcher | undefined;
  let checking: Promise<void> | undefined;
  let checkingNext: Promise<void> | undefined;
  let rehasher: NodeJS.Timeout | undefined;
  let ending = new AbortController();
  let hasLooked = false;

  // --- signals ---

  function tell(path: string, change: FileChange): void {
    if (toldThisTurn.size === 0) setImmediate(() => toldThisTurn.clear());
    // one turn's events were all on the queue before the first lstat: the first signal explains the rest
    if (change === "touched" && toldThisTurn.has(path)) return;
    toldThisTurn.add(path);
    emit?.(fileSignal({ path, change }, self, clock.monoNs()));
  }

  function trouble(key: string, why: string | null): void {
    if (why === null) {
      troubles.delete(key);
      return;
    }
    if (troubles.get(key) === why || troubles.size >= MAX_TROUBLES) return;
    troubles.set(key, why);
    emit?.({ kind: "sensor.blind", facts: { sensor: "files", why }, seenNs: clock.monoNs() });
  }

  // --- events ---

  function onEvent(directory: string, name: string, what: "entry" | "inside"): void {
    const path = join(directory, name);
    // inotify gives the directory's own events its own name; an entry of that name is told apart by being there
    const own = name === basename(directory) && !known.has(path) && reader.look(path).kind === "missing";
    if (own) {
      if (isWatchedDirectory(directory)) onPath(directory);
      return;
    }
    if (plan.above.has(path)) onAbove(path, what);
    if (plan.entries.has(path) || treeOf(plan, path) !== undefined) onPath(path);
    // a watched directory without its tree: whatever happens in it is a change of its list
    else if (plan.entries.has(directory)) onPath(directory);
  }

  /** A directory on the way to watched ones was moved, replaced, removed, made or had its permissions changed. */
  function onAbove(directory: string, what: "entry" | "inside"): void {
    directories.verify(directory);
    armBelow(directory);
    for (const path of targetsBelow(directory)) {
      // A chmod or touch of /usr is everyday life: it counts for what lies below only where it made a difference.
      if (what === "entry" || changeOnLook(known.get(path)?.look, reader.look(path)) !== null) onPath(path);
    }
  }

  function onPath(path: string): void {
    const before = known.get(path);
    const now = reader.look(path);
    const change = changeOnEvent(before?.look, now);
    note(path, { ...now, sha256: before?.look.sha256 ?? "" }, change !== "touched" && change !== "metadata");
    tell(path, change);
    trouble(`read ${path}`, now.why === "" ? null : now.why);
    if (now.kind === "directory" || before?.look.kind === "directory") onDirectory(path, now.kind, change);
    else if (now.kind !== "missing") void rehash(path);
  }

  function onDirectory(path: string, kind: FullLook["kind"], change: FileChange): void {
    const another = change === "created" || change === "replaced" || change === "deleted";
    if (another) disarmBelow(path);
    if (kind === "directory") armContents(path);
    if (another && treeOf(plan, path) !== undefined) void checkTree(path);
    else void rehash(path);
  }

  function onMoved(directory: string): void {
    disarmBelow(directory);
    armBelow(directory); // before looking: what comes after the look has its own event
    if (isWatchedDirectory(directory)) onPath(directory);
    for (const path of targetsBelow(directory)) onPath(path);
  }

  function onSilent(directory: string): void {
    tell(directory, "touched");
    trouble(`silent ${directory}`, `${directory} changed and the kernel sent no event`);
    void checkAll().then(() => trouble(`silent ${directory}`, null));
  }

  function onFlood(events: number): void {
    trouble("flood", `${events} events at once: the kernel may have dropped others`);
    void checkAll().then(() => trouble("flood", null));
  }

  // --- what is watched ---

  function targetsBelow(directory: string): readonly string[] {
    return [...plan.entries, ...plan.trees].filter((path) => isBelow(path, directory));
  }

  function isWatchedDirectory(path: string): boolean {
    return plan.entries.has(path) || treeOf(plan, path) !== undefined;
  }

  /** Arms what is not armed of the way to the targets and of the targets themselves, from the top down. */
  function armBelow(directory: string): void {
    const armed = directories.armed();
    for (const way of plan.above) {
      if (way !== directory && !isBelow(way, directory)) continue;
      if (!armed.has(way)) directories.arm(way, holdsEntry(way) ? "contents" : "way");
    }
  }

  function holdsEntry(directory: string): boolean {
    return [...plan.entries].some((path) => dirname(path) === directory);
  }

  function disarmBelow(directory: string): void {
    directories.disarm(directory);
    for (const armed of directories.armed()) if (isBelow(armed, directory)) directories.disarm(armed);
  }

  function armContents(directory: string): void {
    if (!directories.armed().has(directory)) directories.arm(directory, "contents");
  }

  // --- what is known ---

  function note(path: string, look: FullLook, told: boolean): void {
    const before = known.get(path);
    if (look.kind === "missing" && !plan.entries.has(path) && !plan.trees.includes(path)) {
      known.delete(path);
      return;
    }
    known.set(path, { look, version: (before?.version ?? 0) + 1, told: told || (before?.told ?? false) });
  }

  /** Hashes a path and signals what no event has told. One at a time for a path; events meanwhile make it run again. */
  function rehash(path: string): Promise<void> {
    const running = hashing.get(path);
    if (running !== undefined) return running;
    const work = hashUntilStill(path).finally(() => hashing.delete(path));
    hashing.set(path, work);
    return work;
  }

  async function hashUntilStill(path: string): Promise<void> {
    for (let tries = 0; tries < MAX_HASH_TRIES && !ending.signal.aborted; tries += 1) {
      const before = known.get(path);
      const found = await readWatched(path);
      const differs = before === undefined || differsFrom(before, found);
      if (differs && before?.told !== true) await wait(EVENT_ON_ITS_WAY_MS);
      const current = known.get(path);
      if (current?.version !== before?.version) {
        await wait(Math.min(1_000, tries * 20)); // a file written all the time is not hashed all the time
        continue;
      }
      settle(path, current, found);
      return;
    }
  }

  function settle(path: string, before: Known | undefined, found: FullLook): void {
    if (emit === undefined) return;
    const change = contentChange(before, found);
    note(path, found, false);
    const now = known.get(path);
    if (now !== undefined) known.set(path, { ...now, told: false });
    if (change !== null) tell(path, change);
    if (before?.look.kind === "directory" && found.kind !== "directory") disarmBelow(path);
    trouble(`read ${path}`, found.why === "" ? null : found.why);
  }

  function contentChange(before: Known | undefined, found: FullLook): FileChange | null {
    const change = changeOnLook(before?.look, found);
    if (change !== null && change !== "metadata") return change;
    const sameContent = before === undefined || before.look.sha256 === found.sha256;
    return sameContent || before.told ? change : "modified";
  }

  function differsFrom(before: Known, found: FullLook): boolean {
    return before.look.sha256 !== found.sha256 || changeOnLook(before.look, found) !== null;
  }

  async function readWatched(path: string): Promise<FullLook> {
    const found = await reader.read(path);
    // in a tree every entry is watched itself: the list of names would only say it twice
    return found.kind === "directory" && treeOf(plan, path) !== undefined ? { ...found, sha256: "" } : found;
  }

  // --- looking at everything ---

  /** A whole pass that begins after the call: the one under way may be past what has just changed. */
  function checkAll(): Promise<void> {
    if (checking === undefined) {
      checking = checkOnce().finally(() => {
        checking = undefined;
      });
      return checking;
    }
    checkingNext ??= checking.then(() => {
      checkingNext = undefined;
      return checkAll();
    });
    return checkingNext;
  }

  async function checkOnce(): Promise<void> {
    checkRoots();
    armBelow("/");
    await Promise.all([...plan.entries].map(rehash));
    for (const root of plan.trees) await checkTree(root);
    if (hasLooked) options.onRehashed?.();
  }

  /** Compares a directory of a tree, and all below, with what is known: new ones are armed, gone ones reported. */
  async function checkTree(top: string): Promise<void> {
    const found = new Set(await listTree(top, armContents));
    if (emit === undefined) return;
    const gone = [...known.keys()].filter((path) => isBelow(path, top) && !found.has(path));
    await Promise.all([...found, ...gone].map(rehash));
  }

  /** Every path of a tree, the top first. Directories are handed to `enter` before their names are read. */
  async function listTree(top: string, enter: (directory: string) => void): Promise<readonly string[]> {
    const found = [top];
    for (const path of found) {
      if (reader.look(path).kind !== "directory") continue;
      enter(path);
      const { names, why } = await reader.names(path);
      trouble(`list ${path}`, why === "" ? null : why);
      const readable = names.filter((name) => !name.includes("\ufffd"));
      const odd = names.length - readable.length;
      trouble(
        `names ${path}`,
        odd === 0 ? null : `${path} holds ${odd} names that are not UTF-8: not hashed`,
      );
      const room = Math.max(0, options.limits.maxFiles - found.length);
      trouble(
        `size ${top}`,
        readable.length <= room ? null : `${top} holds more than ${options.limits.maxFiles} files`,
      );
      found.push(...readable.slice(0, room).map((name) => join(path, name)));
      if (readable.length > room) break;
    }
    return found;
  }

  function checkRoots(): void {
    for (const target of [...plan.trees, ...plan.entries]) {
      const kind = reader.look(target).kind;
      const why = kind === "link" ? `${target} is a symbolic link: watch what it points to` : null;
      trouble(`root ${target}`, why);
    }
  }

  // --- start and stop ---

  async function firstLook(): Promise<void> {
    for (const path of plan.entries) {
      if (reader.look(path).kind === "directory") armContents(path);
    }
    const inTrees = await Promise.all(plan.trees.map((root) => listTree(root, armContents)));
    await Promise.all([...plan.entries, ...inTrees.flat()].map(learn));
  }

  /** The first state of a path; an event that came before it leaves it to the hashing. */
  async function learn(path: string): Promise<void> {
    const look = await readWatched(path);
    if (known.has(path)) return void rehash(path);
    note(path, look, false);
    trouble(`read ${path}`, look.why === "" ? null : look.why);
  }

  async function startChokidar(): Promise<void> {
    if (plan.trees.length === 0) return;
    const { watch } = await import("chokidar");
    const watcher = watch([...plan.trees], { ignoreInitial: true, followSymlinks: false });
    chokidar = watcher;
    watcher.on("all", (_event, path) => {
      if (treeOf(plan, path) === undefined) return;
      if (!known.has(path) && reader.look(path).kind === "directory") void checkTree(path);
      else void rehash(path);
    });
    watcher.on("error", (error) => trouble("chokidar", `chokidar: ${String(error)}`));
    const ready = new Promise<void>((resolve) => watcher.once("ready", () => resolve()));
    await Promise.race([ready, wait(CHOKIDAR_READY_MS)]);
  }

  /** Cut short by stop. */
  async function wait(ms: number): Promise<void> {
    await after(ms, undefined, { ref: false, signal: ending.signal }).catch(() => {});
  }

  async function snapshot(): Promise<readonly FileState[]> {
    const inTrees = await Promise.all(plan.trees.map((root) => listTree(root, () => {})));
    const paths = [...new Set([...plan.entries, ...inTrees.flat()])].toSorted();
    const looks = await Promise.all(paths.map(readWatched));
    return looks.map(toState);
  }

  function memory(): FileMemory | null {
    if (!hasLooked) return null;
    const looks = [...known.entries()];
    // a change that is told and not hashed yet has a state that is half old, half new
    const told = looks.filter(([, one]) => one.told && one.look.kind !== "missing").map(([path]) => path);
    return {
      states: looks.map(([path, { look }]) => (look.kind === "missing" ? missingState(path) : toState(look))),
      unsettled: new Set([...hashing.keys(), ...told]),
    };
  }

  function health(): SensorHealth {
    if (emit === undefined) return { state: "blind", why: "not started" };
    const [first, ...more] = troubles.values();
    if (first !== undefined)
      return { state: "blind", why: more.length === 0 ? first : `${first} (and ${more.length} more)` };
    const count = `${directories.armed().size} directories, ${plan.trees.length} trees`;
    return { state: "watching", via: `kernel events on ${count}; re-hash every ${options.rehashMs} ms` };
  }

  return {
    name: "files",
    start: async (given) => {
      emit = given;
      ending = new AbortController();
      directories.open({
        event: onEvent,
        moved: onMoved,
        silent: onSilent,
        flooded: onFlood,
        trouble: (directory, why) => {
          trouble(`watch ${directory}`, why);
          if (why === null) void checkAll(); // watched again: what happened meanwhile
        },
      });
      armBelow("/");
      checkRoots();
      await firstLook();
      await startChokidar();
      await Promise.race([Promise.allSettled(hashing.values()), wait(START_SETTLE_MS)]);
      hasLooked = emit !== undefined;
      rehasher = setInterval(() => void checkAll(), options.rehashMs);
      rehasher.unref();
    },
    stop: async () => {
      emit = undefined;
      hasLooked = false;
      ending.abort();
      directories.close();
      clearInterval(rehasher);
      await chokidar?.close();
      chokidar = undefined;
      await Promise.allSettled([...hashing.values(), checking, checkingNext]);
      troubles.clear();
      known.clear();
    },
    health,
    memory,
    snapshot,
  };
}
