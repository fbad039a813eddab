/** What a caller may ask. A role includes the ones before it. */
export const ROLES = ["none", "readonly", "operator", "admin"] as const;
export type Role = (typeof ROLES)[number];

/** Numeric ids only: names were resolved when the configuration was loaded, and an unknown name gives nobody a role. */
export type RoleTable = Readonly<
  Record<
    "readonly" | "operator" | "admin",
    { readonly uids: readonly number[]; readonly gids: readonly number[] }
  >
>;

/** The highest role of a peer, as the kernel named it (B12). root and the daemon's own user are admin. */
export function roleOf(
  peer: { readonly uid: number; readonly groups: readonly number[] },
  table: RoleTable,
  ownUid: number,
): Role {
  if (peer.uid === 0 || peer.uid === ownUid) return "admin";
  const holds = (role: keyof RoleTable) =>
    table[role].uids.includes(peer.uid) || table[role].gids.some((gid) => peer.groups.includes(gid));
  if (holds("admin")) return "admin";
  if (holds("operator")) return "operator";
  return holds("readonly") ? "readonly" : "none";
}

export function mayAct(held: Role, needed: Role): boolean {
  return ROLES.indexOf(held) >= ROLES.indexOf(needed);
}
