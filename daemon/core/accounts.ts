import type { Config } from "./config.ts";
import type { RoleTable } from "./roles.ts";

/** Names to numbers, as /etc/passwd and /etc/group have them (passwd(5), group(5)). */
export type AccountFile = ReadonlyMap<string, number>;

/** Reads "name:x:id:…" lines; lines of another shape are passed over. */
export function parseAccounts(text: string): AccountFile {
  const entries = text.split("\n").flatMap((line): [string, number][] => {
    const [name, , id] = line.split(":");
    return name && id && /^\d{1,10}$/.test(id) ? [[name, Number(id)]] : [];
  });
  return new Map(entries);
}

/**
 * The role table in numbers, and the group that may connect: the one that the configuration names, else the first of the
 * operators, of the readers, of the auditors; null: nobody's. A name that does not exist gives nobody the role, or lets
 * nobody connect, and is returned, to be told.
 */
export function resolveRoles(
  { roles, socket }: Pick<Config, "roles" | "socket">,
  users: AccountFile,
  groups: AccountFile,
): {
  readonly table: RoleTable;
  readonly unknown: readonly string[];
  readonly socketGroup: number | null;
} {
  const unknown: string[] = [];
  const resolve = (names: readonly (string | number)[], known: AccountFile, kind: string): number[] =>
    names.flatMap((name) => {
      const id = typeof name === "number" ? name : known.get(name);
      if (id === undefined) unknown.push(`${kind} ${name}`);
      return id === undefined ? [] : [id];
    });
  const row = (role: keyof RoleTable) => ({
    uids: resolve(roles[role].users, users, "user"),
    gids: resolve(roles[role].groups, groups, "group"),
  });
  const table = {
    readonly: row("readonly"),
    operator: row("operator"),
    admin: row("admin"),
    auditor: row("auditor"),
  };
  const first = table.operator.gids[0] ?? table.readonly.gids[0] ?? table.auditor.gids[0];
  const named = socket.group === undefined ? [first] : resolve([socket.group], groups, "group");
  return { table, unknown, socketGroup: named[0] ?? null };
}
