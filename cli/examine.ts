import type { DirectoryFact, HostFacts } from "./host-facts.ts";

/** `missing` counts against the host (exit code 1); `hint` is worth knowing. */
export type Finding = {
  readonly name: string;
  readonly state: "ok" | "missing" | "hint";
  readonly detail: string;
  /** What to do; "" when nothing. */
  readonly hint: string;
};

const NEEDED_NODE = [24, 21] as const;
const CAP_NET_ADMIN = 12n;
const LEAST_WATCHES = 8_192;
const LEAST_INSTANCES = 64;

/** Judges the facts of a host: what can be enforced here, and what is missing for the rest. */
export function examine(facts: HostFacts): readonly Finding[] {
  return [
    node(facts),
    nft(facts),
    tables(facts),
    capability(facts),
    namespace(facts),
    usb(facts),
    inotify(facts),
    systemd(facts),
    clocksource(facts),
    ...Object.entries(facts.directories).map(([name, { path, fact }]) =>
      directory(facts.uid, name, path, fact),
    ),
    group(facts),
  ];
}

function node(facts: HostFacts): Finding {
  const [major = 0, minor = 0] = facts.nodeVersion.replace("v", "").split(".").map(Number);
  const enough = major > NEEDED_NODE[0] || (major === NEEDED_NODE[0] && minor >= NEEDED_NODE[1]);
  const hint = `run with Node ${NEEDED_NODE.join(".")} or newer (npm ci installs it)`;
  return enough ? ok("node", facts.nodeVersion) : missing("node", facts.nodeVersion, hint);
}

function nft(facts: HostFacts): Finding {
  if (facts.nftLibrary !== null) return ok("nftables", `${facts.nftLibrary}, in this process`);
  if (facts.nftProgram === null) {
    return missing(
      "nftables",
      "neither libnftables nor nft: no network enforcement",
      "apt-get install nftables",
    );
  }
  return hinted("nftables", `${facts.nftProgram}, as a program: slower`, "apt-get install libnftables1");
}

/** What of our tables the kernel has no place for: docs/OPERATIONS.md. */
function tables({ kernelConfig }: HostFacts): Finding {
  const name = "kernel tables";
  if (kernelConfig === null)
    return hinted(name, "not known: no /proc/config.gz, none in /boot", "status says what was refused");
  const lacks = (option: string) => !new RegExp(`^${option}=[ym]$`, "m").test(kernelConfig);
  if (["CONFIG_NF_TABLES", "CONFIG_NF_TABLES_INET"].some(lacks))
    return missing(name, "no nf_tables for inet: no network enforcement", "a kernel that has it");
  const gone = LINK_OPTIONS.filter(([option]) => lacks(option));
  if (gone.length === 0) return ok(name, "inet, arp, netdev with ingress and egress");
  const what = gone.map(([option, stays]) => `no ${option}: ${stays}`).join("; ");
  return hinted(name, what, "AIRGAP and stricter are observed here, not enforced");
}

const LINK_OPTIONS = [
  ["CONFIG_NF_TABLES_ARP", "ARP stays open"],
  ["CONFIG_NF_TABLES_NETDEV", "raw frames pass the links"],
  ["CONFIG_NETFILTER_INGRESS", "raw frames pass the links"],
  ["CONFIG_NETFILTER_EGRESS", "raw frames pass the links (since 5.16)"],
] as const;

function capability(facts: HostFacts): Finding {
  if (facts.capabilities !== null && ((facts.capabilities >> CAP_NET_ADMIN) & 1n) === 1n) {
    return ok("CAP_NET_ADMIN", "held: network rules can be loaded");
  }
  if (facts.serviceUnit !== null) {
    return hinted("CAP_NET_ADMIN", "not held by you; the service has it", `see ${facts.serviceUnit}`);
  }
  return missing(
    "CAP_NET_ADMIN",
    "not held: only watching and logging",
    "run as root, or install the service unit",
  );
}

function namespace(facts: HostFacts): Finding {
  if (facts.netns === "own") return ok("network namespace", "of its own");
  if (facts.netns === null)
    return hinted("network namespace", "not known: process 1 may not be looked at", "run doctor as root");
  return hinted(
    "network namespace",
    "the host's own",
    "rules are loaded here only with enforcement.allowInitNetns: true in the configuration",
  );
}

function usb(facts: HostFacts): Finding {
  if (facts.usbBus) return ok("USB bus", "/sys/bus/usb");
  return hinted("USB bus", "absent: nothing to control", "");
}

function inotify(facts: HostFacts): Finding {
  const { inotifyWatches: watches, inotifyInstances: instances } = facts;
  if (watches === null || instances === null) {
    return missing("inotify", "its limits cannot be read", "mount /proc; file tripwires need inotify");
  }
  const detail = `${watches} watches, ${instances} instances for each user`;
  if (watches >= LEAST_WATCHES && instances >= LEAST_INSTANCES) return ok("inotify", detail);
  return hinted("inotify", detail, "raise fs.inotify.max_user_watches and max_user_instances with sysctl");
}

function systemd(facts: HostFacts): Finding {
  if (facts.systemd) return ok("systemd", "running");
  return hinted("systemd", "not running: no watchdog, no early-boot lock", "start the daemon some other way");
}

function clocksource(facts: HostFacts): Finding {
  if (facts.clocksource === null) return hinted("clock source", "not known", "");
  if (!facts.clocksource.includes("jiffies")) return ok("clock source", facts.clocksource);
  return hinted("clock source", facts.clocksource, "coarse: small steps of the clock go unseen");
}

function directory(uid: number, name: string, path: string, fact: DirectoryFact): Finding {
  const label = `${name} directory`;
  switch (fact.kind) {
    case "missing":
      return hinted(label, `${path} is not there`, "the daemon makes it at its first start");
    case "unreadable":
      return hinted(label, `${path} cannot be looked at (${fact.why})`, "run doctor as root");
    case "other":
      return missing(label, `${path} is no directory`, "remove it: the daemon follows no links");
    case "directory":
      return directoryAccess(uid, label, path, fact);
  }
}

function directoryAccess(
  uid: number,
  label: string,
  path: string,
  fact: Extract<DirectoryFact, { kind: "directory" }>,
): Finding {
  const detail = `${path}, uid ${fact.uid}, mode ${fact.mode.toString(8).padStart(4, "0")}`;
  if ((fact.mode & 0o022) !== 0) return missing(label, detail, `others can write to it: chmod go-w ${path}`);
  if (fact.uid === 0 || fact.uid === uid) return ok(label, detail);
  return hinted(label, detail, "it has to belong to the user the daemon runs as");
}

function group(facts: HostFacts): Finding {
  if (facts.groups.includes("boundary")) return ok("group boundary", "there");
  return hinted(
    "group boundary",
    "not there: only root and the daemon's own user can ask",
    "groupadd --system boundary",
  );
}

function ok(name: string, detail: string): Finding {
  return { name, state: "ok", detail, hint: "" };
}

function missing(name: string, detail: string, hint: string): Finding {
  return { name, state: "missing", detail, hint };
}

function hinted(name: string, detail: string, hint: string): Finding {
  return { name, state: "hint", detail, hint };
}
