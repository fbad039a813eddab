import type { Verb } from "./messages.ts";

/** What policy is asked about at the door, in the table of daemon/requests.ts; and a lease, where its template says so. */
export const ASKED_OF_POLICY = [
  "mode.set",
  "mode.confirm",
  "token.mint",
  "token.narrow",
  "lease.request",
  "lease.approve",
  "approvals.approve",
  "usb.allow",
  "usb.challenge",
  "secret.put",
  "secret.rotate",
  "vault.unlock",
  "vault.rewrap",
  "peer.add",
  "peer.export",
] as const satisfies readonly Verb[];
/** Those with a question in that table. */
export type AskedAtDoor = Exclude<(typeof ASKED_OF_POLICY)[number], "lease.request">;
