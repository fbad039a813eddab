import type { EgressConfig } from "../core/config.ts";
import { BoundaryError } from "../core/errors.ts";
import { parseIpRange } from "../core/ip-range.ts";
import { type Allowlist, type Allowlists, type Level, parseAllowlist } from "./allowlist.ts";
import type { ListTexts, SettingsText } from "./messages.ts";
import type { EgressSettings } from "./proxy.ts";

/** What a run is for. null: it is for none. */
export type RunScope = {
  readonly project: string | null;
  readonly blueprint: string | null;
  /** What this session alone may reach; null where nobody said. */
  readonly session: readonly string[] | null;
};

/** An entry of a list that cannot be read. `path`: where it stands in the configuration. */
export type ListFault = { readonly path: readonly (string | number)[]; readonly problem: string };

/** Every entry of the configuration's lists that cannot be read. */
export function listFaults({ allow, projects, blueprints }: EgressConfig): readonly ListFault[] {
  const lists: readonly (readonly [path: readonly string[], list: readonly string[]])[] = [
    [["allow"], allow ?? []],
    ...Object.entries(projects ?? {}).map(([name, list]) => [["projects", name], list] as const),
    ...Object.entries(blueprints ?? {}).map(([name, list]) => [["blueprints", name], list] as const),
  ];
  return lists.flatMap(([path, list]) => {
    const read = parseAllowlist(list);
    if (read.ok) return [];
    return read.problems.map(({ at, problem }) => ({ path: ["egress", ...path, at], problem }));
  });
}

/**
 * The lists that hold for a run, as they are written. A project or a blueprint that the configuration has no list for,
 * where it has lists of that kind, has an empty one. A session's is somebody's who asks: it only takes away, so without a
 * list of the configuration's there is an empty one.
 */
export function listsFor(config: EgressConfig, { project, blueprint, session }: RunScope): ListTexts {
  const ours = {
    global: copyOf(config.allow),
    project: listIn(config.projects, project),
    blueprint: listIn(config.blueprints, blueprint),
  };
  const isSilent = Object.values(ours).every((list) => list === null);
  return { ...ours, ...(isSilent ? { global: [] } : {}), session: copyOf(session ?? undefined) };
}

/** Throws BoundaryError "argument-invalid" for a list that cannot be read. */
export function parseLists(texts: ListTexts): Allowlists {
  const level = (name: Level): Allowlist | null => {
    const entries = texts[name];
    if (entries === null) return null;
    const read = parseAllowlist(entries);
    if (read.ok) return read.value;
    const why = read.problems.map(({ at, problem }) => `[${at}]: ${problem}`).join("; ");
    throw new BoundaryError("argument-invalid", `reading the ${name} list${why}`);
  };
  return {
    global: level("global"),
    project: level("project"),
    blueprint: level("blueprint"),
    session: level("session"),
  };
}

/** What of the configuration a proxy works by. */
export function settingsIn({ addresses, plainPorts, resolvers, limits }: EgressConfig): SettingsText {
  return { addresses, plainPorts, resolvers, limits };
}

export function parseSettings({ addresses, plainPorts, limits }: SettingsText): EgressSettings {
  return { limits, plainPorts, addresses: addresses.flatMap((text) => parseIpRange(text) ?? []) };
}

function listIn(
  lists: Readonly<Record<string, readonly string[]>> | undefined,
  name: string | null,
): string[] | null {
  if (lists === undefined || name === null) return null;
  return copyOf(Object.hasOwn(lists, name) ? lists[name] : []);
}

function copyOf(list: readonly string[] | undefined): string[] | null {
  return list === undefined ? null : [...list];
}
