import { setTimeout as sleep } from "node:timers/promises";
import type { Ran } from "./agent.ts";
import type { Guest } from "./guest.ts";
import type { Report } from "./report.ts";

/** What a scenario works with: a guest, the operator's hands in it, and where its checks are counted. */
export type Stage = {
  readonly guest: Guest;
  readonly check: Report["check"];
  readonly note: Report["note"];
  /** boundaryctl, as the operator olga. */
  ctl(...args: readonly string[]): Promise<Ran>;
  /** `ceremony begin` (or `release`) by olga on a terminal; she reads the code off the screen and types it. */
  ceremony(reason: string, verb?: "ceremony begin" | "release"): Promise<Ran>;
  /** boundaryctl, as olga, on a terminal of her own. */
  onTerminal(...args: readonly string[]): Promise<Ran>;
  /** What the verb "status" says to olga. */
  status(): Promise<StatusShape>;
  /** The log's records of a kind, oldest first, over all boots. */
  records(kind: string): Promise<readonly LogLine[]>;
  /** Checks which paths are open, by packets. */
  checkPaths(name: string, expected: Paths): Promise<void>;
  /** Waits until the daemon is active (READY), checks that it is, and gives its pid. */
  daemonUp(): Promise<number>;
};

export type StatusShape = {
  readonly mode: {
    readonly wanted: string;
    readonly applied: string | null;
    readonly cause: string;
    readonly hold: string;
  };
  readonly assurance: string;
  readonly frozen: string;
  readonly sensors: readonly unknown[];
  readonly controls: readonly { readonly name: string; readonly state: string; readonly detail: string }[];
};

export type LogLine = {
  readonly seq: number;
  readonly boot: string;
  /** CLOCK_MONOTONIC, nanoseconds. */
  readonly mono: string;
  readonly kind: string;
  readonly data: Readonly<Record<string, unknown>>;
};

/** `in` is a ping from outside, `out` one from the guest, `through` one forwarded between its two cards, `local` loopback. */
export type Paths = "all" | "loopback only" | "nothing";

const PATHS = ["in4", "in6", "out4", "out6", "tcp4", "through4", "local4", "local6"] as const;
type Path = (typeof PATHS)[number];
const OPEN: Readonly<Record<Paths, readonly Path[]>> = {
  all: PATHS,
  "loopback only": ["local4", "local6"],
  nothing: [],
};
const ACTIVE_S = 300;

export function createStage(guest: Guest, report: Report): Stage {
  const as = (user: string, args: readonly string[], seconds = 240) =>
    guest.run(`runuser -u ${user} -- boundaryctl ${args.map(quoted).join(" ")}`, seconds);
  const ctl: Stage["ctl"] = (...args) => as("olga", args);
  const checkPaths: Stage["checkPaths"] = async (name, expected) => {
    let open = await openPaths(guest);
    // neighbours that could not be reached are tried again by the kernel only after seconds
    for (let left = 3; expected !== "nothing" && left > 0 && !same(open, OPEN[expected]); left -= 1) {
      await sleep(1_500);
      open = await openPaths(guest);
    }
    report.check(`${name}: ${expected} by packets`, same(open, OPEN[expected]), `open: ${open.join(" ")}`);
  };
  return {
    guest,
    check: report.check,
    note: report.note,
    ctl,
    onTerminal: (...args) => {
      const line = quoted(`boundaryctl ${args.map(quoted).join(" ")}`);
      return guest.run(`script -qec "runuser -u olga -- sh -c ${line}" /dev/null </dev/null`, 240);
    },
    ceremony: async (reason, verb = "ceremony begin") => {
      const line = `boundaryctl ${verb} --reason ${quoted(reason)}`;
      await guest.ok(
        `install -m 0755 /dev/null /run/ceremony && cat >/run/ceremony <<'END'\n${CEREMONY}\nEND`,
      );
      return guest.run(`runuser -u olga -- bash /run/ceremony ${quoted(line)}`, 180);
    },
    status: async () => {
      const ran = await guest.run(`runuser -u olga -- perl -MIO::Socket::UNIX -e ${quoted(ASK_STATUS)}`);
      if (!ran.stdout.includes('"mode"')) throw new Error(`verb status: ${ran.stderr}${ran.stdout}`);
      return (JSON.parse(ran.stdout) as { readonly data: { readonly data: StatusShape } }).data.data;
    },
    records: async (kind) => {
      const found = await guest.run(
        `cat /var/log/boundary-daemon/*.jsonl | grep -F ${quoted(`"kind":"${kind}"`)} | tail -n 20`,
      );
      return found.stdout
        .split("\n")
        .filter((line) => line !== "")
        .map((line) => JSON.parse(line) as LogLine);
    },
    checkPaths,
    daemonUp: async () => {
      const up = await waitInside(guest, "systemctl is-active --quiet boundary-daemon", ACTIVE_S);
      const state = up ? "" : (await guest.run("systemctl status --no-pager boundary-daemon")).stdout;
      report.check("the daemon is active: it has said READY", up, state);
      return Number(await guest.ok("systemctl show -P MainPID boundary-daemon"));
    },
  };
}

/** Verb "status" over the control socket. boundaryctl says the same, after seconds: Node starts slowly on an emulated CPU. */
const ASK_STATUS = String.raw`
my $socket = IO::Socket::UNIX->new("/run/boundary-daemon/control.sock") or die "no socket: $!";
print $socket qq({"type":"request","data":{"id":"1","verb":"status"}}\f);
$/ = "\f"; $_ = <$socket>; chomp; print;`;

/** Reads the code off a terminal and types it there: bash's own, with script(1) for the terminal. */
const CEREMONY = String.raw`
coproc T { script -qefc "$1" /dev/null; }
pid=$T_PID
screen=
while IFS= read -r -n 1 -d '' -t 120 -u "\${T[0]}" letter; do
  screen+=$letter
  printf '%s' "$letter"
  case $screen in
    *"type the code"*:*) [ -n "$typed" ] || { typed=yes; [[ $screen =~ [0-9]{3}-[0-9]{3}-[0-9]{3} ]]; printf '%s\n' "$BASH_REMATCH" >&"\${T[1]}"; } ;;
  esac
  case $screen in
    *'type "accept"'*:*) [ -n "$accepted" ] || { accepted=yes; printf 'accept\n' >&"\${T[1]}"; } ;;
  esac
done
wait "$pid"`.replaceAll("\\$", "$");

/** Every way at once; what is closed costs the deadline of one. */
async function openPaths({ outside, inside, run }: Guest): Promise<readonly Path[]> {
  const own = (address: string) => `ping -q -c1 -W2 ${address} >/dev/null`;
  const fromGuest: readonly (readonly [Path, string])[] = [
    ["out4", outside.end.v4],
    ["out6", outside.end.v6],
    ["local4", "127.0.0.1"],
    ["local6", "::1"],
  ];
  const script = fromGuest.map(([path, address]) => `{ ${own(address)} && echo ${path}; } &`).join("\n");
  const [in4, in6, tcp4, through4, mine] = await Promise.all([
    outside.ping({ from: outside.end.v4, to: outside.guest.v4 }),
    outside.ping({ from: outside.end.v6, to: outside.guest.v6 }),
    outside.connect({ from: outside.end.v4, to: outside.guest.v4 }, 22),
    outside.ping({ from: outside.end.v4, to: inside.end.v4 }),
    run(`${script}\nwait; true`),
  ]);
  const open = new Set<string>(mine.stdout.split("\n"));
  for (const [path, is] of [
    ["in4", in4],
    ["in6", in6],
    ["tcp4", tcp4 !== "nothing"],
    ["through4", through4],
  ] as const)
    if (is) open.add(path);
  return PATHS.filter((path) => open.has(path));
}

/** Waits in the guest until a line of bash there ends with 0: to ask again and again from here costs it more. */
export async function waitInside(guest: Guest, line: string, seconds: number): Promise<boolean> {
  const loop = `for i in $(seq ${seconds}); do ${line} && exit 0; sleep 1; done; exit 1`;
  return (await guest.run(loop, 2 * seconds)).code === 0;
}

/** For bash, as one word. */
export function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function same(a: readonly string[], b: readonly string[]): boolean {
  return a.join(" ") === b.join(" ");
}
