import { createSocket } from "node:dgram";
import { closeSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { sendCanary } from "../../daemon/adapters/canary.ts";
import { createClock } from "../../daemon/adapters/clock.ts";
import { openLibnftables } from "../../daemon/adapters/libnftables.ts";
import { openNftProgram } from "../../daemon/adapters/nft-program.ts";
import { createRulesWatch } from "../../daemon/adapters/rules-watch.ts";
import { runSync } from "../../daemon/adapters/run.ts";
import { createSurroundings } from "../../daemon/adapters/surroundings.ts";
import type { Entry } from "../../daemon/audit/record.ts";
import { type Config, toIsolation } from "../../daemon/core/config.ts";
import { renderErrorChain } from "../../daemon/core/errors.ts";
import type { Hold } from "../../daemon/core/hold.ts";
import type { Isolation, IsolationInput } from "../../daemon/core/isolation.ts";
import { renderIsolation } from "../../daemon/core/isolation-rules.ts";
import type { Mode } from "../../daemon/core/mode.ts";
import { renderRelease } from "../../daemon/core/nft.ts";
import type { Signal } from "../../daemon/core/signal.ts";
import { createEnforcer, type Enforcer, type How } from "../../daemon/enforce.ts";
import { createIsolation, type IsolationControl } from "../../daemon/isolation.ts";
import { isolationProbes } from "../../daemon/isolation-probe.ts";
import type { SignalSource } from "../../daemon/ports.ts";
import { forgeLoopback, writeUdp } from "./forged-loopback.ts";
import {
  contents,
  drain,
  openLink,
  openRaw,
  openUdpAs,
  type PacketKind,
  sendFrame,
  sendTo,
} from "./raw-socket.ts";

/**
 * Runs inside a namespace and does what it is told: one JSON request a line on stdin, one JSON reply a line on stdout.
 * It sends and receives packets, and holds the code under test (the library works in its process' namespace).
 */
const received: string[] = [];
const echoed: string[] = [];
const flows: Socket[] = [];
const signals: Signal[] = [];
let enforcer: Enforcer | null = null;
let isolation: IsolationControl | null = null;
let domains: Isolation | null = null;
const recorded: Entry[] = [];
const BROKEN = "boundary_isolation no_such_chain accept";
let flooding: { readonly count: { tried: number; sent: number }; readonly end: () => unknown } | null = null;
const LEAK = Buffer.from("leak");
let watch: SignalSource | null = null;
let listed = 0;

type Family = 4 | 6;
type RawPacket = {
  fd: number;
  family: Family;
  to: string;
  kind: PacketKind;
  token: string;
  port?: number | undefined;
};

const ACTIONS = {
  listenUdp: ({ family, address, port }: { family: Family; address: string; port: number }) =>
    new Promise<void>((resolve) => {
      const socket = createSocket({ type: `udp${family}`, ipv6Only: family === 6 });
      socket.on("message", (message) => received.push(message.toString()));
      socket.bind(port, address, resolve);
    }),
  /** "sent", or the errno's name: a dropped packet is EPERM to its own sender. */
  sendUdp: ({ family, to, port, token }: { family: Family; to: string; port: number; token: string }) =>
    new Promise<string>((resolve) => {
      const socket = createSocket(`udp${family}`);
      socket.send(token, port, to, (error) => {
        socket.close();
        resolve(error === null ? "sent" : error.message);
      });
    }),
  received: () => received,
  listenTcp: ({ address, port }: { address: string; port: number }) =>
    new Promise<void>((resolve) => {
      createServer((socket) => socket.on("error", () => {}).pipe(socket)).listen(port, address, resolve);
    }),
  connectTcp: ({ to, port, localPort }: { to: string; port: number; localPort?: number }) =>
    new Promise<number>((resolve, reject) => {
      const from = localPort === undefined ? {} : { localPort };
      const socket = connect({ port, host: to, ...from }, () => resolve(flows.push(socket) - 1));
      socket.on("error", reject);
      socket.on("data", (chunk) => echoed.push(chunk.toString()));
    }),
  /** The local port of a connection. */
  portOf: ({ flow }: { flow: number }) => flows[flow]?.localPort ?? 0,
  sendTcp: ({ flow, token }: { flow: number; token: string }) => flows[flow]?.write(token),
  echoed: () => echoed.join(""),

  forgeLoopback: ({ name }: { name: string }) => forgeLoopback(name),
  writeUdp: ({ fd, from, to, token }: { fd: number; from: string; to: string; token: string }) =>
    writeUdp(fd, from, to, 9_000, token),

  openRaw: ({ family, protocol }: { family: Family; protocol: number }) => openRaw(family, protocol),
  openLink: ({ link, type, bypass }: { link: string; type: number; bypass?: boolean }) =>
    openLink(link, type, bypass),
  sendRaw: ({ fd, family, to, kind, token, port }: RawPacket) =>
    sendTo(fd, family, to, contents(kind, token, port)),
  sendFrame: ({ fd, frame }: { fd: number; frame: string }) => sendFrame(fd, Buffer.from(frame, "hex")),
  drain: ({ fd }: { fd: number }) => drain(fd),
  /** Sends a datagram from a socket of another user. */
  sendUdpAs: ({
    family,
    uid,
    to,
    port,
    token,
  }: {
    family: Family;
    uid: number;
    to: string;
    port: number;
    token: string;
  }) => {
    const fd = openUdpAs(family, uid);
    const sent = sendTo(fd, family, to, Buffer.from(token), port);
    closeSync(fd);
    return sent;
  },
  /** Puts this process into a cgroup of its own, below where nft looks; "" is the root. */
  joinCgroup: ({ path }: { path: string }) => {
    const place = `/sys/fs/cgroup/${path}`;
    if (path !== "") mkdirSync(place, { recursive: true });
    writeFileSync(`${place}/cgroup.procs`, String(process.pid));
  },
  removeCgroup: ({ path }: { path: string }) => rmdirSync(`/sys/fs/cgroup/${path}`),
  /** In the mount namespace that `ip netns exec` made for this process. */
  mountCgroups: () =>
    runSync("mount", ["-t", "cgroup2", "none", "/sys/fs/cgroup"], {
      deadlineMs: 5_000,
      maxOutputBytes: 65_536,
    }).code === 0,

  /** Sends datagrams as fast as it can, until `floodStop`, which says how many went out of how many tried. */
  flood: ({ targets }: { targets: readonly { family: Family; to: string; port: number }[] }) => {
    const sockets = targets.map((target) => ({ ...target, fd: openUdpAs(target.family, 0) }));
    const count = { tried: 0, sent: 0 };
    flooding = { count, end: () => sockets.map(({ fd }) => closeSync(fd)) };
    const mine = flooding;
    const batch = () => {
      if (flooding !== mine) return;
      for (let i = 0; i < 64; i++) {
        for (const { fd, family, to, port } of sockets) {
          count.tried += 1;
          if (sendTo(fd, family, to, LEAK, port)) count.sent += 1;
        }
      }
      setImmediate(batch);
    };
    batch();
  },
  /** The same, with one datagram a millisecond or so. */
  trickle: ({ to, port }: { to: string; port: number }) => {
    const fd = openUdpAs(4, 0);
    const count = { tried: 0, sent: 0 };
    const timer = setInterval(() => {
      count.tried += 1;
      if (sendTo(fd, 4, to, LEAK, port)) count.sent += 1;
    }, 1);
    const end = () => {
      clearInterval(timer);
      closeSync(fd);
    };
    flooding = { count, end };
  },
  floodStop: () => {
    const ended = flooding;
    flooding = null;
    ended?.end();
    return ended?.count ?? { tried: 0, sent: 0 };
  },
  /** Applies the modes in turn, `times` in all. `gap`: as a careless program would, its rules torn down first. */
  applyMany: ({ modes, times, gap }: { modes: readonly Mode[]; times: number; gap?: boolean }) => {
    const careless = gap === true ? openLibnftables() : null;
    let confirmed = 0;
    for (let i = 0; i < times; i++) {
      if (careless !== null && !("unavailable" in careless)) careless.run(renderRelease());
      if (enforcer?.apply(modes[i % modes.length] ?? "LOCKDOWN").ok) confirmed += 1;
    }
    return confirmed;
  },

  enforce: (settings: { network: Config["network"]; timeoutMs: number; via?: "nft" }) => {
    const firewall = settings.via === "nft" ? openNftProgram() : openLibnftables();
    if ("unavailable" in firewall) throw new Error(firewall.unavailable);
    const list = () => {
      listed += 1;
      return firewall.list();
    };
    const counting = { ...firewall, list };
    enforcer = createEnforcer({ firewall: counting, ...settings, surroundings: createSurroundings() });
    return firewall.via;
  },
  apply: ({ mode, how }: { mode: Mode; how?: How }) => enforcer?.apply(mode, how),
  settle: ({ mode, how }: { mode: Mode; how?: How }) => enforcer?.settle(mode, how),
  refresh: () => enforcer?.refresh(),
  leftOut: () => enforcer?.leftOut(),
  wouldBlock: () => enforcer?.wouldBlock(),
  heartbeat: () => enforcer?.heartbeat(),
  check: () => enforcer?.check(),
  /** How often the rules were listed since the last call. */
  listed: () => {
    const count = listed;
    listed = 0;
    return count;
  },

  /** `breaks`: every transaction ends with a rule that nft has to refuse. */
  isolate: ({ input, via, breaks }: { input: IsolationInput | null; via?: "nft"; breaks?: boolean }) => {
    const firewall = via === "nft" ? openNftProgram() : openLibnftables();
    if ("unavailable" in firewall) throw new Error(firewall.unavailable);
    const run = (script: string) => firewall.run(breaks ? `${script}add rule inet ${BROKEN}\n` : script);
    domains = input === null ? null : toIsolation(input);
    isolation = createIsolation({
      firewall: { ...firewall, run },
      missing: [],
      isolation: domains,
      links: createSurroundings().links,
      record: (entry) => {
        recorded.push(entry);
        return { seq: recorded.length, durable: Promise.resolve() };
      },
      submit: (signal) => signals.push(signal),
      clock: createClock(),
      opLog: { info: () => undefined, warn: () => undefined, error: () => undefined },
    });
    isolation.begin("enforcing");
    isolation.tick();
    return isolation.claim().state;
  },
  isolationApply: () => {
    try {
      return { changed: isolation?.apply("test").changed ?? null, error: "" };
    } catch (error) {
      return { changed: null, error: renderErrorChain(error) };
    }
  },
  /** Replaces the table by the same, so many times, as a start with other domains would. */
  isolationReload: ({ times }: { times: number }) => {
    const nft = openLibnftables();
    if ("unavailable" in nft || domains === null) throw new Error("nothing to load");
    for (let i = 0; i < times; i++) nft.run(renderIsolation(domains));
    return times;
  },
  isolationHold: ({ hold }: { hold: Hold }) => isolation?.holdIs(hold),
  isolationClaim: () => isolation?.claim(),
  isolationStatus: () => isolation?.status(),
  isolationCheck: () => isolation?.validate(),
  isolationProbe: async () => {
    if (isolation === null || domains === null) return [];
    const found: string[] = [];
    for (const { name, run } of isolationProbes({
      control: isolation,
      isolation: domains,
      send: sendCanary,
    })) {
      const { outcome, detail } = await run();
      found.push(`${name}: ${outcome}: ${detail}`);
    }
    return found;
  },
  recorded: () => recorded.splice(0).map(({ kind, data }) => ({ kind, data })),

  watch: async () => {
    watch = createRulesWatch({
      check: () => enforcer?.check() ?? null,
      claim: (mark) => enforcer?.claim(mark) || isolation?.claimMark(mark) || false,
      isolation: (detail) => isolation?.touched(detail),
    });
    await watch.start((signal) => signals.push(signal));
    return watch.health();
  },
  health: () => watch?.health(),
  unwatch: () => watch?.stop(),
  /** Runs nft as somebody else would, while the code under test cannot look: nothing else happens in here meanwhile. */
  nft: ({ commands }: { commands: readonly string[] }) => {
    for (const command of commands) runSync("nft", [command], { deadlineMs: 5_000, maxOutputBytes: 65_536 });
  },
  /** The signals since the last call. */
  signals: () => signals.splice(0).map(({ kind, facts }) => ({ kind, ...facts })),
  children: () =>
    readFileSync(`/proc/self/task/${process.pid}/children`, "utf8")
      .trim()
      .split(" ")
      .filter(Boolean)
      .map(Number),
} as const;

export type Actions = typeof ACTIONS;

createInterface({ input: process.stdin })
  .on("line", (line) => void answer(JSON.parse(line) as { id: number; action: keyof Actions; args: never }))
  .on("close", () => process.exit(0));

async function answer({
  id,
  action,
  args,
}: {
  id: number;
  action: keyof Actions;
  args: never;
}): Promise<void> {
  try {
    const value: unknown = await ACTIONS[action](args);
    process.stdout.write(`${JSON.stringify({ id, value: value ?? null })}\n`);
  } catch (error) {
    process.stdout.write(`${JSON.stringify({ id, error: String(error) })}\n`);
  }
}
