import type { VerbAction, VerbQuestion } from "./core/access.ts";
import type { Mode } from "./core/mode.ts";
import { renderPrincipal } from "./core/principal.ts";
import type { Token } from "./core/token.ts";
import type { ApprovalView } from "./protocol/messages.ts";
import { askedOf, type MintWish, type NarrowWish } from "./tokens.ts";
import type { UsbPeople } from "./usb-people.ts";

/** What policy is asked before a verb, in the words of `policies/schema.cedarschema`. docs/POLICY.md, "Verbs". */

/** `to`: the mode that would be held. */
export function loosening(to: Mode): VerbQuestion {
  return { action: "mode.loosen", type: "mode", id: to, properties: {} };
}

/** A token is known by whom it would stand for. */
export function minting(wish: MintWish): VerbQuestion {
  return { action: "token.mint", ...ofToken(wish, null) };
}

export function narrowing(wish: NarrowWish, parent: Token): VerbQuestion {
  return { action: "token.narrow", ...ofToken(wish, parent) };
}

function ofToken(wish: NarrowWish, parent: Token | null) {
  const { principal, role, forMs } = askedOf(wish, parent);
  const id = principal === null ? "" : renderPrincipal(principal);
  return { type: "token", id, properties: { role, forMs } } as const;
}

/** What a person would approve, by whom it is for. */
export function approving({ id, principal }: Pick<ApprovalView, "id" | "principal">): VerbQuestion {
  return { action: "approval.approve", type: "approval", id, properties: { holder: principal } };
}

/** A device by what it says it is: its vendor and product. Which port it is at, the kernel says. */
export function admitting(
  action: "usb.allow" | "usb.challenge",
  { id, port, hash, storage }: ReturnType<UsbPeople["show"]>,
  permanent: boolean,
): VerbQuestion {
  return { action, type: "usb", id, properties: { port, hash, storage, permanent } };
}

type VaultAction = Extract<
  VerbAction,
  "secret.put" | "secret.rotate" | "vault.unlock" | "vault.rewrap" | "peer.add" | "peer.export"
>;

/** A workspace of the vault, with the name of the secret or peer in it; "" for all of it. Never a value. */
export function ofVault(action: VaultAction, workspace: string, item = ""): VerbQuestion {
  return { action, type: "vault", id: workspace, properties: { workspace, item } };
}
