/** What a caller may ask. A role includes the ones before it. The auditor stands beside them: see `Rights`. */
export const ROLES = ["none", "readonly", "operator", "admin"] as const;
export type Role = (typeof ROLES)[number];

/** Numeric ids only: names were resolved when the configuration was loaded, and an unknown name gives nobody a role. */
export type RoleTable = Readonly<
  Record<
    "readonly" | "operator" | "admin" | "auditor",
    { readonly uids: readonly number[]; readonly gids: readonly number[] }
  >
>;

/** What a peer holds: a place in the row of roles, and whether he is an auditor, who may read the audit stream. */
export type Rights = { readonly role: Role; readonly auditor: boolean };

/** What a verb takes: a role, or a higher one; with `auditor`, being an auditor does as well. */
export type Needed = { readonly role: Role; readonly auditor?: true };

/** The rights of a peer, as the kernel named it (B12). root and the daemon's own user are admin. */
export function rightsOf(
  peer: { readonly uid: number; readonly groups: readonly number[] },
  table: RoleTable,
  ownUid: number,
): Rights {
  const holds = (role: keyof RoleTable) =>
    table[role].uids.includes(peer.uid) || table[role].gids.some((gid) => peer.groups.includes(gid));
  const isOurs = peer.uid === 0 || peer.uid === ownUid;
  const role = isOurs ? "admin" : HELD.find((each) => holds(each));
  return { role: role ?? "none", auditor: holds("auditor") };
}

const HELD = ["admin", "operator", "readonly"] as const;

export function mayAct(held: Rights, needed: Needed): boolean {
  if (needed.auditor === true && held.auditor) return true;
  return ROLES.indexOf(held.role) >= ROLES.indexOf(needed.role);
}

/** "readonly", "none and auditor": for a refusal. */
export function describeRights({ role, auditor }: Rights): string {
  return auditor ? `${role} and auditor` : role;
}

/** "admin", "admin or auditor". */
export function describeNeeded({ role, auditor }: Needed): string {
  return auditor === true ? `${role} or auditor` : role;
}
