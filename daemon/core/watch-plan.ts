/** What the file sensor has to watch, worked out from the paths it was given. All paths are absolute, without a "/" at the end. */
export type WatchPlan = {
  /** Watched by name, whether they exist or not. */
  readonly entries: ReadonlySet<string>;
  /** Roots of trees. */
  readonly trees: readonly string[];
  /** Every directory above an entry or a tree, "/" included: the way there must not be moved or replaced. */
  readonly above: ReadonlySet<string>;
};

/** `paths`: absolute; a "/" at the end means the whole tree. */
export function planWatch(paths: readonly string[]): WatchPlan {
  const trees = paths.filter((path) => path.endsWith("/")).map((path) => path.slice(0, -1) || "/");
  const entries = paths.filter((path) => !path.endsWith("/"));
  const above = [...trees, ...entries].flatMap(directoriesAbove);
  return { entries: new Set(entries), trees: [...new Set(trees)], above: new Set(above) };
}

/** "/a/b/c" → "/", "/a", "/a/b". */
export function directoriesAbove(path: string): readonly string[] {
  if (path === "/") return [];
  const parts = path.split("/").slice(1, -1);
  return ["/", ...parts.map((_, index) => `/${parts.slice(0, index + 1).join("/")}`)];
}

/** The tree a path belongs to: the root itself, or anything below it; undefined for a path in no tree. */
export function treeOf(plan: WatchPlan, path: string): string | undefined {
  return plan.trees.find((root) => path === root || isBelow(path, root));
}

export function isBelow(path: string, directory: string): boolean {
  return directory === "/" ? path !== "/" : path.startsWith(`${directory}/`);
}

export function join(directory: string, name: string): string {
  return directory === "/" ? `/${name}` : `${directory}/${name}`;
}
