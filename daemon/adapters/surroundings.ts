import { readFileSync, statfsSync, statSync } from "node:fs";
import koffi from "koffi";
import { parseLinks } from "../core/surroundings.ts";
import type { Surroundings } from "../ports.ts";

const CGROUPS = "/sys/fs/cgroup";
const CGROUP2_MAGIC = 0x63677270;
const indexOf = koffi.load(null).func("unsigned int if_nametoindex(const char *name)");

/** The links of this process' network namespace, and the cgroups of the one hierarchy that nft knows. */
export function createSurroundings(): Surroundings {
  return {
    // not /sys/class/net: that shows the namespace in which sysfs was mounted
    links: () => parseLinks(readFileSync("/proc/self/net/dev", "utf8")),
    linkNumber: (name) => indexOf(name) as number,
    cgroup: (path) => {
      try {
        const found = statSync(`${CGROUPS}/${path}`, { bigint: true });
        return found.isDirectory() ? String(found.ino) : null;
      } catch {
        return null; // nft would not find it either
      }
    },
    hasCgroups: () => {
      try {
        return statfsSync(CGROUPS).type === CGROUP2_MAGIC;
      } catch {
        return false; // nft would not find it either
      }
    },
  };
}
