import type { Surroundings } from "../../daemon/ports.ts";

/** Links and cgroups that a test says are there. */
export function fakeSurroundings(
  links: readonly string[] = ["lo", "eth0"],
  cgroups: Readonly<Record<string, string>> = {},
): Surroundings {
  return {
    links: () => links,
    linkNumber: (name) => links.indexOf(name) + 1,
    cgroup: (path) => cgroups[path] ?? null,
    hasCgroups: () => true,
  };
}
