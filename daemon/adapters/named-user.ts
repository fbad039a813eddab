import { readFileSync } from "node:fs";
import { type NamedUser, uidIn } from "../core/accounts.ts";
import { BoundaryError } from "../core/errors.ts";

/** Throws BoundaryError("not-found") for a name that is nobody's. */
export function uidOf(user: NamedUser): number {
  const uid = typeof user === "number" ? user : uidIn(readFileSync("/etc/passwd", "utf8"), user);
  if (uid === null) throw new BoundaryError("not-found", `looking for the user ${user} in /etc/passwd`);
  return uid;
}
