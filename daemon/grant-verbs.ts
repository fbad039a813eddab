import { BoundaryError } from "./core/errors.ts";
import { mayAct, type Rights } from "./core/roles.ts";
import type { Person } from "./core/state.ts";
import type { Maker } from "./core/token.ts";
import type { Leases } from "./leases.ts";
import type { Peer } from "./ports.ts";
import type {
  LeaseList,
  LeaseReply,
  NewToken,
  RevokeReply,
  TermsWish,
  TokenReply,
} from "./protocol/grants.ts";
import type { Tokens } from "./tokens.ts";

/** The verbs of tokens and leases: who may do what to whose. The verb table in requests.ts has looked at the role. */
type Desk = { readonly tokens: Tokens; readonly leases: Leases; readonly ownUid: number };
type Call<P> = {
  readonly params: P;
  readonly maker: Maker;
  readonly rights: Rights;
  readonly person: () => Person;
};

/** By root or the daemon's own user, at a person's request: a role of the configuration is not enough. */
export function bootstrap(
  { tokens, ownUid }: Desk,
  { params, maker }: Call<Pick<TermsWish, "forMs" | "uid" | "label">>,
): Promise<NewToken> {
  if (maker.tokenId !== "")
    throw new BoundaryError("token-unwanted", "the first token is not made with another one");
  if (maker.uid !== 0 && maker.uid !== ownUid)
    throw new BoundaryError(
      "token-unwanted",
      "only root and the daemon's own user have the first token made",
    );
  return tokens.bootstrap(maker, params);
}

export function mint(
  { tokens }: Desk,
  { params, maker }: Call<Parameters<Tokens["mint"]>[1]>,
): Promise<NewToken> {
  return tokens.mint(maker, params);
}

export function narrow({ tokens }: Desk, { params, maker }: Call<TermsWish>): Promise<NewToken> {
  return tokens.narrow(maker, params);
}

export function show({ tokens }: Desk, call: Call<{ readonly id?: string | undefined }>): TokenReply {
  const id = call.params.id ?? call.maker.tokenId;
  if (id === "") throw new BoundaryError("argument-invalid", "name a token, or show one");
  requireOwnTree(tokens, call, id);
  return { token: tokens.show(id) };
}

export function revoke(
  { tokens }: Desk,
  call: Call<{ readonly id: string; readonly reason: string }>,
): Promise<RevokeReply> {
  requireOwnTree(tokens, call, call.params.id);
  return tokens.revoke(call.maker, call.params.id, call.params.reason);
}

export function leaseRequest(
  { leases }: Desk,
  { params, maker, peer }: Call<Parameters<Leases["request"]>[1]> & { readonly peer: Peer },
): Promise<LeaseReply> {
  return leases.request({ ...peer, token: maker.tokenId === "" ? null : maker.tokenId }, params);
}

/** All for an operator, his own for anybody else. */
export function leaseList(
  { leases }: Desk,
  { params, maker, rights }: Call<{ readonly after?: string | undefined }>,
): LeaseList {
  return leases.list(isOperator(rights) ? null : maker, params.after);
}

export function leaseApprove(
  { leases }: Desk,
  { params, maker, person }: Call<{ readonly id: string }>,
): Promise<LeaseReply> {
  return leases.approve(maker, person(), params.id);
}

export function leaseDeny(
  { leases }: Desk,
  { params, maker }: Call<{ readonly id: string; readonly reason: string }>,
): Promise<LeaseReply> {
  return leases.deny(maker, params.id, params.reason);
}

export function leaseRevoke(
  { leases }: Desk,
  { params, maker, rights }: Call<{ readonly id: string; readonly reason: string }>,
): Promise<LeaseReply> {
  if (!isOperator(rights) && !leases.isOf(params.id, maker)) throw notHis("lease");
  return leases.revoke(maker, params.id, params.reason);
}

/** Whoever is no operator sees and ends what he holds, and what grew from it. */
function requireOwnTree(tokens: Tokens, { rights, maker }: Call<unknown>, id: string): void {
  if (isOperator(rights) || tokens.isOwn(id, maker.tokenId)) return;
  throw notHis("token");
}

function isOperator(rights: Rights): boolean {
  return mayAct(rights, { role: "operator" });
}

function notHis(what: string): BoundaryError {
  return new BoundaryError("role-required", `another one's ${what} takes the role operator`);
}
