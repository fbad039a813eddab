import type { Config } from "./config.ts";
import { type NetEntryInput, readEntry } from "./net-entry.ts";
import type { LeftOut } from "./nft-fallback.ts";
import { isLinkClosed } from "./nft-link.ts";
import type { Posture } from "./posture.ts";

/** What the rules of a mode name besides addresses: it has to be there when they are loaded. */
export type Around = {
  readonly links: readonly string[];
  /** The kernel's number of each: rules lose a link that went, also when another one of its name has come since. */
  readonly numbers: readonly number[];
  /** By path below /sys/fs/cgroup: its id, or null where there is none. */
  readonly cgroups: ReadonlyMap<string, string | null>;
};

type Network = Config["network"];

/** Nothing but what can stand in a script, and come back in a listing, as it is. */
const PLAIN_LINK = /^[A-Za-z0-9_.@-]{1,15}$/;

/** Looks at what the rules of a mode name, and at nothing else. */
export function lookAround(
  posture: Posture,
  network: Network,
  look: {
    readonly links: () => readonly string[];
    readonly linkNumber: (name: string) => number;
    readonly cgroup: (path: string) => string | null;
  },
): Around {
  const closed = isLinkClosed(posture);
  const paths = posture.network === "as-host" ? [] : cgroupsOf([...network.deny, ...network.allow]);
  const links = closed ? look.links().toSorted() : [];
  return {
    links,
    numbers: links.map(look.linkNumber),
    cgroups: new Map(paths.map((path) => [path, look.cgroup(path)])),
  };
}

/** The paths that entries name, each once. */
export function cgroupsOf(entries: readonly NetEntryInput[]): readonly string[] {
  const paths = entries.map((input) => (typeof input === "string" ? undefined : input.cgroup));
  return [...new Set(paths.filter((path) => path !== undefined))];
}

/** Equal while the rules can be the same. */
export function aroundKey({ links, numbers, cgroups }: Around): string {
  return JSON.stringify([links, numbers, [...cgroups]]);
}

/** The links that rules can name. */
export function plainLinks({ links }: Around): readonly string[] {
  return links.filter((name) => PLAIN_LINK.test(name));
}

/**
 * The lists without the entries whose cgroup is not there, which nft would refuse. Nobody is in a cgroup that is not
 * there: leaving it out of `allow` lets through nothing, and of `deny` nothing until it is there, when the rules are
 * loaded anew. A link that no rule can name stays open.
 */
export function presentLists(
  network: Network,
  around: Around,
): { readonly network: Network; readonly left: readonly LeftOut[] } {
  const left: LeftOut[] = [];
  const present = (list: "deny" | "allow") =>
    network[list].filter((input, i) => {
      const read = readEntry(input);
      const path = typeof read === "string" ? null : read.cgroup;
      if (path === null || around.cgroups.get(path) != null) return true;
      const what = `network.${list}[${i}]: there is no cgroup ${path}`;
      left.push({ what, opens: false, refused: false });
      return false;
    });
  const lists = { deny: present("deny"), allow: present("allow") };
  const odd = around.links.filter((name) => !PLAIN_LINK.test(name));
  const unnamed = odd.map((name) => `the link ${JSON.stringify(name)}: no name for a rule`);
  left.push(...unnamed.map((what) => ({ what, opens: true, refused: false })));
  return { network: { ...network, ...lists }, left };
}

/** Reads the names of /proc/net/dev. A line in another form is no link. */
export function parseLinks(text: string): readonly string[] {
  return text
    .split("\n")
    .slice(2)
    .flatMap((line) => /^\s*([^\s:/]{1,15}):/.exec(line)?.[1] ?? []);
}
