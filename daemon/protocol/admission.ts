import type { ErrorCode } from "../core/errors.ts";

/** Counts connections, in all and by uid, so that one user cannot keep the others out. */
export type Admission = {
  /** Counts one in, or says why not. What was admitted has to be released once. */
  admit(uid: number): { readonly ok: true } | { readonly ok: false; readonly code: ErrorCode; why: string };
  release(uid: number): void;
  count(): number;
};

export function createAdmission(limits: {
  readonly maxConnections: number;
  readonly maxConnectionsPerUid: number;
}): Admission {
  const byUid = new Map<number, number>();
  let all = 0;

  function admit(uid: number): ReturnType<Admission["admit"]> {
    const own = byUid.get(uid) ?? 0;
    if (all >= limits.maxConnections) return refuse(`${all} connections are open`);
    if (own >= limits.maxConnectionsPerUid) return refuse(`uid ${uid} has ${own} connections open`);
    all += 1;
    byUid.set(uid, own + 1);
    return { ok: true };
  }

  function release(uid: number): void {
    const own = (byUid.get(uid) ?? 0) - 1;
    all -= 1;
    if (own > 0) byUid.set(uid, own);
    else byUid.delete(uid);
  }

  return { admit, release, count: () => all };
}

function refuse(why: string): { readonly ok: false; readonly code: ErrorCode; why: string } {
  return { ok: false, code: "too-many-connections", why };
}
