import { openDecisions } from "../../daemon/compose/decide.ts";
import type { AccessRequest } from "../../daemon/core/access.ts";
import type { DecideParts } from "../../daemon/decide.ts";
import type { Policies } from "../../daemon/policies.ts";
import type { PolicyAnswer } from "../../daemon/policy/answer.ts";
import type { NewToken } from "../../daemon/protocol/grants.ts";
import { type HostOptions, startHost } from "./host.ts";
import { dataOf, officeOf, ROLES_CONFIG } from "./office.ts";

/** What policies that say yes answer. */
export const PERMIT: PolicyAnswer = {
  decision: "allow",
  code: "allowed",
  reasons: ["p"],
  errors: [],
  needsPerson: false,
  advice: "",
};

/** Nobody holds any role. */
const NO_ROLES: DecideParts["roles"] = {
  readonly: { uids: [], gids: [] },
  operator: { uids: [], gids: [] },
  admin: { uids: [], gids: [] },
  auditor: { uids: [], gids: [] },
};

/** A host with an office, and the first token made there. */
export async function startedOffice(
  config: object = {},
  {
    terminal = null,
    ...options
  }: Omit<HostOptions, "mode" | "config"> & { readonly terminal?: string | null } = {},
) {
  const host = await startHost({ mode: "OPEN", ...options, config: { roles: ROLES_CONFIG, ...config } });
  const office = officeOf(host, { terminal });
  const make = async (uid: number, verb: string, params: object = {}, token?: string) =>
    dataOf<NewToken>(await office.ask(uid, verb, params, token));
  const { text: admin } = await make(0, "token.bootstrap");
  return { host, ...office, make, admin };
}

/** decide.sock's service over a host, with policies that say what the test says. */
export function decisionsOf(
  host: Awaited<ReturnType<typeof startHost>>,
  answer: DecideParts["policies"]["answer"],
) {
  const policies = {
    answer,
    digest: () => "d",
    withKnown: (request: AccessRequest) => request,
    settled: () => Promise.resolve(),
    current: () => null,
  } as unknown as Policies;
  return openDecisions({
    daemon: host.daemon,
    trustedInterfaces: [],
    roles: NO_ROLES,
    ownUid: 999,
    ...host.grants,
    policies,
    approvals: host.approvals,
    denials: host.denials,
    limits: host.limits,
    wallMs: host.clock.wallMs,
    opLog: { info: () => undefined, warn: () => undefined, error: () => undefined },
  }).service;
}

/** Somebody who shows a token. */
export const callerOf = (uid: number, token: string) => ({ uid, gid: uid, pid: 7, groups: [uid], token });

/** A question about a public note. */
export const recall = (id: string, subject = { type: "Agent", id: "a" }): AccessRequest => ({
  subject: { ...subject, properties: {} },
  action: { name: "recall", properties: {} },
  resource: { type: "memory", id, properties: { class: "PUBLIC" } },
  context: {},
});
