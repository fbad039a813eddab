import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type DaemonHome, startDaemon } from "../support/daemon-process.ts";
import { DISKS, type Disks, layDisk } from "./disks.ts";
import { startLoad, withClient } from "./load.ts";
import type { Random } from "./random.ts";
import { type DiskOp, type Fault, readJournal, shimEnv } from "./shim.ts";

/** One call fails: which, when it is counted from, on what disk, and by which tool. */
export type Case = Fault & {
  readonly phase: "start" | "load" | "stop";
  readonly disk: (typeof DISKS)[number];
  readonly by: "strace" | "shim";
};

/** How often a call is made in a phase on a disk. */
export type Calls = (call: Fault["call"], phase: Case["phase"], disk: Case["disk"]) => number;

const CALLS = ["write", "open", "fsync", "rename", "link", "unlink", "ftruncate", "mkdir", "ioctl"] as const;
const ERRNOS = ["ENOSPC", "EIO", "EDQUOT", "EINTR"] as const;
const PHASES = ["start", "load", "stop"] as const;
/** How many batches a load makes is a matter of time: later ones may not come. */
const MOST_LATER = 6;

/** Every case there is, in a random order that has one of each kind before any kind comes again. */
export function allCases(calls: Calls, random: Random): readonly Case[] {
  const cases = allFaults().flatMap((fault) =>
    PHASES.flatMap((phase) =>
      // a log that is torn is LOCKDOWN from the start, and a fresh one is as any other once it is there
      DISKS.filter((disk) => phase === "start" || disk === "stopped").flatMap((disk) =>
        Array.from({ length: calls(fault.call, phase, disk) }, (_, before) => before + 1).flatMap((n) =>
          (["strace", "shim"] as const)
            .filter((by) => by === "shim" || fault.how === "instead")
            .map((by) => ({ ...fault, phase, disk, n, by })),
        ),
      ),
    ),
  );
  const turns = new Map<string, number>();
  return random
    .shuffled(cases)
    .map((each) => {
      const kind = [each.call, each.how, each.phase].join();
      const turn = turns.get(kind) ?? 0;
      turns.set(kind, turn + 1);
      return { each, turn };
    })
    .sort((a, b) => a.turn - b.turn)
    .map(({ each }) => each);
}

/** What a call cannot do (a rename in part) is left out. */
function allFaults(): readonly Omit<Fault, "n">[] {
  return CALLS.flatMap((call) => [
    ...ERRNOS.map((errno) => ({ call, how: "instead", errno }) as const),
    // a call that was interrupted has done nothing: "after" cannot be EINTR, and for ever it would be an endless loop
    ...ERRNOS.slice(0, 3).flatMap((errno) =>
      (["after", "from"] as const).map((how) => ({ call, how, errno })),
    ),
    ...(call === "write"
      ? (["short", "lie"] as const).map((how) => ({ call, how, errno: "EIO" }) as const)
      : []),
  ]);
}

export function nameOf({ by, phase, disk, call, n, how, errno }: Case): string {
  return `${by}, ${disk} disk, ${phase}: ${call} ${n} ${how} ${errno}`;
}

/** A life without faults on each disk, its calls written down. */
export async function countCalls(home: DaemonHome, disks: Disks, shim: string): Promise<Calls> {
  const counted = new Map<string, number>();
  for (const disk of DISKS) {
    layDisk(home, disks[disk]);
    for (const [phase, ops] of await liveWithout(home, shim)) {
      for (const call of CALLS) {
        const times = ops.filter(({ what }) => callOf(what) === call).length;
        counted.set([call, phase, disk].join(), phase === "start" ? times : Math.min(times, MOST_LATER));
      }
    }
  }
  return (call, phase, disk) => counted.get([call, phase, disk].join()) ?? 0;
}

async function liveWithout(home: DaemonHome, shim: string): Promise<[Case["phase"], readonly DiskOp[]][]> {
  const journal = join(home.path, "journal");
  writeFileSync(journal, "");
  const daemon = await startDaemon(home, { env: shimEnv(shim, [home.logDir, home.stateDir], { journal }) });
  const readyNs = process.hrtime.bigint();
  await startLoad(home, { clients: 3, calls: 12, name: "dry" }).done;
  await withClient(home, (client) => client.call("mode.set", { mode: "AIRGAP", reason: "test" }));
  const stopNs = process.hrtime.bigint();
  await daemon.stop();
  const ops = readJournal(journal);
  const between = (fromNs: bigint, toNs: bigint | null): readonly DiskOp[] =>
    ops.filter(({ begunNs }) => begunNs >= fromNs && (toNs === null || begunNs < toNs));
  return [
    ["start", between(0n, readyNs)],
    ["load", between(readyNs, stopNs)],
    ["stop", between(stopNs, null)],
  ];
}

function callOf(what: DiskOp["what"]): Fault["call"] | null {
  switch (what) {
    case "create":
    case "open":
      return "open";
    case "write":
    case "write-synced":
      return "write";
    case "sync":
      return "fsync";
    case "truncate":
      return "ftruncate";
    case "rename":
    case "link":
    case "unlink":
    case "mkdir":
    case "ioctl":
      return what;
    case "fault":
      return null;
  }
}
