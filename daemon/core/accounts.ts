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

/** A user of this host, by number or by name. */
export type NamedUser = number | string;

const MOST_UID = 0xffff_fffe;

/** What a command line says of a user, by number or by name: exactly one of them. null: neither, both, or no such thing. */
export function readUser(uid: string | undefined, name: string | undefined): NamedUser | null {
  if (name === undefined) return wholeIn(uid, 0, MOST_UID);
  return uid === undefined && /^[a-z_][a-z0-9_-]{0,31}$/.test(name) ? name : null;
}

/** The number of a user of /etc/passwd, whose text is given; null when there is none of that name, or more than one. */
export function uidIn(passwd: string, name: string): number | null {
  const lines = passwd.split("\n").filter((line) => line.startsWith(`${name}:`));
  return lines.length === 1 ? wholeIn(lines[0]?.split(":")[2], 0, MOST_UID) : null;
}

/** A whole number in digits, from `least` to `most`; null for anything else. */
export function wholeIn(text: string | undefined, least: number, most: number): number | null {
  if (text === undefined || !/^\d{1,10}$/.test(text)) return null;
  const value = Number(text);
  return value >= least && value <= most ? value : null;
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
