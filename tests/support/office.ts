import { resolveRoles } from "../../daemon/core/accounts.ts";
import type { Exec } from "../../daemon/exec-run.ts";
import { createFeed } from "../../daemon/feed.ts";
import type { Connection } from "../../daemon/ports.ts";
import { answer, type Office, type Reply } from "../../daemon/requests.ts";
import { createVault, type Vault } from "../../daemon/vault.ts";
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

/** Nothing was ever put into it, and it is on no disk. */
const NO_VAULT: Vault = createVault({
  files: { load: () => [], read: never, replace: never, prepare: never, commit: never, erase: never },
  sources: [],
  exported: { path: "/run/export/swanctl.conf", write: never, erase: () => undefined },
  clock: { wallMs: () => 0, bootMs: () => 0 },
  mode: () => "RESTRICTED",
  obstacle: () => null,
  append: never,
  autoLockMs: 1_000,
  opLog: { info: never, warn: never, error: never },
});
NO_VAULT.begin();

/** Nothing runs. */
const NO_EXEC: Exec = {
  check: never,
  run: never,
  wait: never,
  end: never,
  isLive: () => false,
  modeIs: never,
  tick: never,
  stop: never,
  status: never,
  egressStatus: never,
};

function never(): never {
  throw new Error("not asked");
}

/** Of policies that are there. */
export const READY: ReturnType<Office["policies"]["state"]> = {
  state: "ready",
  digest: "",
  policies: 0,
  why: "",
  referee: { state: "idle", judged: 0, why: "" } as never,
};

type OfficeOptions = { readonly terminal?: string | null; readonly over?: Partial<Office> };

/** The verbs over a host of fakes. Nobody asks it for what is not there: the status, the audit stream, pruning. */
export function officeOf(host: Host, { terminal = null, over = {} }: OfficeOptions = {}) {
  const feed = createFeed();
  const office: Office = {
    daemon: host.daemon,
    limits: host.limits,
    denials: host.denials,
    approvals: host.approvals,
    evaluator: host.evaluator,
    governor: host.governor,
    policies: { load: never, settled: () => Promise.resolve(), state: () => READY },
    tightened: { count: 0 },
    baseline: host.baseline,
    feed,
    config: host.config,
    tripwires: host.tripwires,
    roles: resolveRoles(host.config, new Map(), new Map()).table,
    ownUid: 999,
    facts: { terminalOf: () => terminal, userName: (uid) => `user${uid}` },
    status: never,
    head: () => ({ vkey: "", size: 0, note: "" }),
    audit: { head: never, lines: never },
    prune: never,
    selftest: { run: never },
    isolation: { control: { apply: never, validate: never, status: never }, probes: [] },
    sockets: {
      network: () => ({ flows: [], listeners: [], unread: 0, links: new Map() }),
      flows: () => [],
      commandLine: () => "",
    },
    usbOutlook: () => [],
    wouldBlock: () => [],
    usb: usbHost().people,
    ...host.grants,
    vault: NO_VAULT,
    exec: NO_EXEC,
    opLog: { info: () => undefined, warn: () => undefined, error: () => undefined },
    ...over,
  };
  const connectionOf = (uid: number, send: Connection["send"] = () => true): Connection => ({
    peer: { pid: 1, uid, gid: uid, groups: [uid] },
    send,
    onClose: () => undefined,
  });
  const sent = (connection: Connection, verb: string, params: unknown, token?: string): Promise<Reply> =>
    answer(office, connection, { id: "1", verb, params, ...(token === undefined ? {} : { token }) });
  return {
    feed,
    connectionOf,
    over: sent,
    ask: (uid: number, verb: string, params: unknown = {}, token?: string): Promise<Reply> =>
      sent(connectionOf(uid), verb, params, token),
  };
}

/** One request over a connection of its own, as this uid, who sits at a terminal. */
export function askAs(
  host: Host,
  uid: number,
  verb: string,
  params: object = {},
  over: Partial<Office> = {},
): Promise<Reply> {
  return officeOf(host, { terminal: "pts/1", over }).ask(uid, verb, params);
}

/** The reply's data. */
export function dataOf<T = Record<string, unknown>>(reply: Reply): T {
  if (!reply.ok) throw new Error(`${reply.problem.code}: ${reply.problem.detail}`);
  return reply.data as T;
}

/** "" when it was answered, the problem's code otherwise. */
export const codeOf = (reply: Reply): string => (reply.ok ? "" : reply.problem.code);
