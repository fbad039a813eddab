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

/**
 * What a caller holds: a place in the row of roles, whether he is an auditor, who may read the audit stream, and whether he
 * shows a live token. With a token he is the token's holder and nothing else: its role counts, and not his user's.
 */
export type Rights = { readonly role: Role; readonly auditor: boolean; readonly token?: true };

/** What a verb takes: a role, or a higher one; with `auditor`, being an auditor does as well. */
export type Needed = {
  readonly role: Role;
  readonly auditor?: true;
  /** suffices: any live token does as well as the role. needed: the role has to be a token's. */
  readonly token?: "suffices" | "needed";
};

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
  if (needed.token === "suffices" && held.token) return true;
  if (needed.token === "needed" && !held.token) return false;
  return ROLES.indexOf(held.role) >= ROLES.indexOf(needed.role);
}

/** "readonly", "none and auditor", "the token's role none": for a refusal. */
export function describeRights({ role, auditor, token }: Rights): string {
  if (token) return `the token's role ${role}`;
  return auditor ? `${role} and auditor` : role;
}

/** "admin", "admin or auditor", "operator or any token". */
export function describeNeeded({ role, auditor, token }: Needed): string {
  if (token === "needed") return role === "none" ? "a token" : `a token with the role ${role}`;
  if (token === "suffices") return `${role} or any token`;
  return auditor === true ? `${role} or auditor` : role;
}
