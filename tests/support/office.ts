import { resolveRoles } from "../../daemon/core/accounts.ts";
import { createFeed } from "../../daemon/feed.ts";
import { answer, type Office, type Reply } from "../../daemon/requests.ts";
import type { startHost } from "./host.ts";
import { usbHost } from "./usb-host.ts";

type Host = Awaited<ReturnType<typeof startHost>>;

/** The office of a host on fakes. Nobody asks it for what is not there: the status, the audit stream, pruning. */
export function officeOf(host: Host, over: Partial<Office> = {}): Office {
  const notAsked = () => {
    throw new Error("not asked");
  };
  return {
    daemon: host.daemon,
    limits: host.limits,
    denials: host.denials,
    approvals: host.approvals,
    baseline: host.baseline,
    feed: createFeed(),
    config: host.config,
    tripwires: host.tripwires,
    roles: resolveRoles(host.config, new Map(), new Map()).table,
    ownUid: 0,
    facts: { terminalOf: () => "pts/1", userName: String },
    status: notAsked,
    head: () => ({ vkey: "", size: 0, note: "" }),
    audit: { head: notAsked, lines: notAsked },
    prune: notAsked,
    selftest: { run: notAsked },
    sockets: {
      network: () => ({ flows: [], listeners: [], unread: 0, links: new Map() }),
      flows: () => [],
      commandLine: () => "",
    },
    usbOutlook: () => [],
    wouldBlock: () => [],
    usb: usbHost().people,
    opLog: { info: () => undefined, warn: () => undefined, error: () => undefined },
    ...over,
  };
}

/** One request over a connection of its own, as this uid. */
export function askAs(
  host: Host,
  uid: number,
  verb: string,
  params: object = {},
  over: Partial<Office> = {},
): Promise<Reply> {
  const connection = {
    peer: { pid: 1, uid, gid: uid, groups: [uid] },
    send: () => true,
    onClose: () => undefined,
  };
  return answer(officeOf(host, over), connection, { id: "1", verb, params });
}
