import { resolveRoles } from "../../daemon/core/accounts.ts";
import { createFeed } from "../../daemon/feed.ts";
import type { Connection } from "../../daemon/ports.ts";
import { answer, type Reply } from "../../daemon/requests.ts";
import type { startHost } from "./host.ts";
import { usbHost } from "./usb-host.ts";

type Host = Awaited<ReturnType<typeof startHost>>;

/** Users by what the configuration gives them; nobody has a role. */
export const UIDS = { none: 1001, readonly: 1002, operator: 1003, admin: 1004 } as const;
export const ROLES_CONFIG = {
  admin: { users: [UIDS.admin] },
  operator: { users: [UIDS.operator], groups: [] },
  readonly: { users: [UIDS.readonly] },
};

/** The verbs over a host of fakes, with its tokens and leases. */
export function officeOf(host: Host, options: { readonly terminal?: string | null } = {}) {
  const feed = createFeed();
  const never = () => {
    throw new Error("not asked");
  };
  const office = {
    daemon: host.daemon,
    baseline: host.baseline,
    feed,
    config: host.config,
    tripwires: host.tripwires,
    roles: resolveRoles(host.config, new Map(), new Map()).table,
    ownUid: 999,
    facts: { terminalOf: () => options.terminal ?? null, userName: (uid: number) => `user${uid}` },
    status: never,
    head: () => ({ vkey: "", size: 0, note: "" }),
    audit: { head: never, lines: never },
    prune: never,
    selftest: { run: never },
    sockets: {
      network: () => ({ flows: [], listeners: [], unread: 0, links: new Map() }),
      flows: () => [],
      commandLine: () => "",
    },
    usbOutlook: () => [],
    wouldBlock: () => [],
    usb: usbHost().people,
    ...host.grants,
    opLog: { info: () => undefined, warn: () => undefined, error: () => undefined },
  };
  const connectionOf = (uid: number, send: Connection["send"] = () => true): Connection => ({
    peer: { pid: 1, uid, gid: uid, groups: [] },
    send,
    onClose: () => undefined,
  });
  return {
    feed,
    connectionOf,
    over: (connection: Connection, verb: string, params: unknown, token?: string): Promise<Reply> =>
      answer(office, connection, { id: "1", verb, params, ...(token === undefined ? {} : { token }) }),
    ask: (uid: number, verb: string, params: unknown = {}, token?: string): Promise<Reply> =>
      answer(office, connectionOf(uid), { id: "1", verb, params, ...(token === undefined ? {} : { token }) }),
  };
}

/** The reply's data. */
export function dataOf<T = Record<string, unknown>>(reply: Reply): T {
  if (!reply.ok) throw new Error(`${reply.problem.code}: ${reply.problem.detail}`);
  return reply.data as T;
}

/** "" when it was answered, the problem's code otherwise. */
export const codeOf = (reply: Reply): string => (reply.ok ? "" : reply.problem.code);
