import type { EgressConfig } from "../core/config.ts";
import { BoundaryError } from "../core/errors.ts";
import { parseIpRange } from "../core/ip-range.ts";
import { type Allowlist, type Allowlists, parseAllowlist } from "./allowlist.ts";
import type { EgressSettings } from "./proxy.ts";

/** What a run is for. null: it is for none. */
export type RunScope = {
  readonly project: string | null;
  readonly blueprint: string | null;
  /** What this session alone may reach; null where nobody said. */
  readonly session: readonly string[] | null;
};

export type EgressRules = {
  readonly settings: EgressSettings;
  /**
   * The lists that hold for a run. A project or a blueprint that the configuration has no list for, where it has lists
   * of that kind, has an empty one. Throws BoundaryError "argument-invalid" for a session's list that cannot be read.
   */
  listsFor(scope: RunScope): Allowlists;
};

/** Reads the configuration's `egress`. Throws BoundaryError "config-invalid" that names the entry. */
export function readEgress(config: EgressConfig): EgressRules {
  const global = config.allow === undefined ? null : listOf(config.allow, "egress.allow", "config-invalid");
  const projects = tableOf(config.projects, "egress.projects");
  const blueprints = tableOf(config.blueprints, "egress.blueprints");
  const { limits, plainPorts } = config;
  return {
    settings: { limits, plainPorts, addresses: config.addresses.flatMap((text) => parseIpRange(text) ?? []) },
    listsFor: ({ project, blueprint, session }) => ({
      global,
      project: listIn(projects, project),
      blueprint: listIn(blueprints, blueprint),
      session: session === null ? null : listOf(session, "the session's list", "argument-invalid"),
    }),
  };
}

function listIn(table: ReadonlyMap<string, Allowlist> | null, name: string | null): Allowlist | null {
  return table === null || name === null ? null : (table.get(name) ?? []);
}

function tableOf(
  lists: Readonly<Record<string, readonly string[]>> | undefined,
  where: string,
): ReadonlyMap<string, Allowlist> | null {
  if (lists === undefined) return null;
  return new Map(
    Object.entries(lists).map(([name, list]) => [name, listOf(list, `${where}.${name}`, "config-invalid")]),
  );
}

function listOf(
  entries: readonly string[],
  where: string,
  code: "config-invalid" | "argument-invalid",
): Allowlist {
  const read = parseAllowlist(entries);
  if (read.ok) return read.value;
  const why = read.problems.map(({ at, problem }) => `[${at}]: ${problem}`).join("; ");
  throw new BoundaryError(code, `reading ${where}${why}`);
}
