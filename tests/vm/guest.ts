import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, mkdirSync, openSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Agent, connectAgent, type Ran } from "./agent.ts";
import type { Image } from "./image.ts";
import { type End, type Peer, startPeer } from "./peer.ts";
import { connectQmp, type Qmp } from "./qmp.ts";

/** A machine with Debian and systemd in it: everything that happens to a real host can be done to it. */
export type Guest = {
  /** Two wires: eth0 and eth1 in the guest. */
  readonly outside: Peer;
  readonly inside: Peer;
  /** Another one after `bootWith`. */
  readonly qmp: Qmp;
  /** Runs a line of bash as root. */
  run(command: string, seconds?: number): Promise<Ran>;
  /** The same, and gives its stdout; throws with its stderr when it ends other than with 0. */
  ok(command: string, seconds?: number): Promise<string>;
  /** `systemctl reboot`, until the agent answers again. */
  reboot(): Promise<void>;
  /** `systemctl poweroff`, and switched on again with more on the kernel's command line. What was plugged in is gone. */
  bootWith(append: string): Promise<void>;
  /** The power goes off and on: nothing in the guest is asked. */
  powerCut(): Promise<void>;
  /** Saves the whole machine under a name, disks and memory; it goes on. */
  save(name: string): Promise<void>;
  /** Ends the machine, whatever it does. */
  stop(): Promise<void>;
};

export type GuestParts = {
  readonly image: Image;
  /** Sockets, disk and console are kept here. */
  readonly directory: string;
  /** A second disk, read-only: what is to be installed. */
  readonly product: string;
  /** A disk (and a name in it) that `save` left, to go on from; else a fresh boot. */
  readonly from: { readonly disk: string; readonly name: string } | null;
  /** Called with the outer wire before the machine is switched on. */
  readonly onWire?: (outside: Peer) => void;
};

const OUTSIDE = {
  peer: { mac: "52:54:00:66:00:01", v4: "10.66.0.1", v6: "fd66::1" },
  guest: { mac: "52:54:00:66:00:02", v4: "10.66.0.2", v6: "fd66::2" },
} as const satisfies Record<string, End>;
const INSIDE = {
  peer: { mac: "52:54:00:67:00:01", v4: "10.67.0.1", v6: "fd67::1" },
  guest: { mac: "52:54:00:67:00:02", v4: "10.67.0.2", v6: "fd67::2" },
} as const satisfies Record<string, End>;

/** The serial number of the keyboard that is always plugged in. */
export const OPERATOR = "OPERATOR";

const MEMORY_MIB = 768;
const CPUS = 2;
const BOOT_MS = 600_000;
/** No waiting, no colours, no mitigations of a CPU that is not one. */
const APPEND =
  "root=/dev/vda rw console=ttyS0 net.ifnames=0 quiet mitigations=off systemd.show_status=0 rd.systemd.show_status=0 fsck.mode=skip";

/** Starts a machine and waits until its agent answers. */
export async function startGuest(parts: GuestParts): Promise<Guest> {
  const at = (name: string) => join(parts.directory, name);
  mkdirSync(parts.directory, { recursive: true });
  const disk = at("disk.qcow2");
  if (parts.from !== null) copyFileSync(parts.from.disk, disk);
  else overlay(parts.image.disk, disk);
  const outside = await startPeer(at("eth0"), OUTSIDE.peer, OUTSIDE.guest);
  const inside = await startPeer(at("eth1"), INSIDE.peer, INSIDE.guest);
  parts.onWire?.(outside);
  const machine = { ...(await switchOn(parts, at, disk, "").catch(failed)) };
  function failed(error: unknown): never {
    outside.stop();
    inside.stop();
    throw error;
  }

  const ok = async (command: string, seconds?: number): Promise<string> => {
    const ran = await machine.agent.run(command, seconds);
    if (ran.code === 0) return ran.stdout;
    throw new Error(
      `in the guest: ${command.slice(0, 200)}: exit ${ran.code}: ${ran.stderr}${ran.stdout}`.slice(0, 2_000),
    );
  };
  const upAgain = async (cause: () => unknown): Promise<void> => {
    const up = machine.agent.hello(BOOT_MS);
    await cause();
    await up;
  };
  return {
    outside,
    inside,
    get qmp() {
      return machine.qmp;
    },
    run: (command, seconds) => machine.agent.run(command, seconds),
    ok,
    reboot: () => upAgain(() => machine.agent.start("systemctl reboot")),
    bootWith: async (append) => {
      const ended = once(machine.qemu, "exit", { signal: AbortSignal.timeout(BOOT_MS) });
      machine.agent.start("systemctl poweroff");
      await ended;
      machine.qmp.close();
      machine.agent.close();
      Object.assign(machine, await switchOn({ ...parts, from: null }, at, disk, append));
    },
    powerCut: () => upAgain(() => machine.qmp.execute("system_reset")),
    save: async (name) => {
      await machine.qmp.monitor(`savevm ${name}`);
    },
    stop: async () => {
      await switchOff(machine);
      outside.stop();
      inside.stop();
    },
  };
}

type Machine = { readonly qemu: ChildProcess; readonly agent: Agent; readonly qmp: Qmp };

/** A qemu, and what speaks with it, once the agent answers. */
async function switchOn(
  parts: GuestParts,
  at: (name: string) => string,
  disk: string,
  append: string,
): Promise<Machine> {
  for (const name of ["agent", "qmp"]) rmSync(at(name), { force: true }); // of the machine before
  const qemu = startQemu(parts, at, disk, append);
  try {
    const agent = await connectAgent(at("agent"));
    const up = agent.hello(BOOT_MS);
    up.catch(() => undefined);
    const qmp = await connectQmp(at("qmp"));
    if (parts.from === null) await up;
    return { qemu, agent, qmp };
  } catch (error) {
    qemu.kill("SIGKILL");
    throw new Error(`console: ${tail(at("console.log"))}; qemu: ${tail(at("qemu.log"))}`, { cause: error });
  }
}

async function switchOff({ qemu, agent, qmp }: Machine): Promise<void> {
  if (qemu.exitCode === null && qemu.signalCode === null) {
    const ended = once(qemu, "exit");
    qemu.kill("SIGKILL");
    await ended;
  }
  qmp.close();
  agent.close();
}

/** Asks again and again until `wanted` holds. Gives whether it did, within the time. */
export async function until(
  wanted: () => Promise<boolean>,
  withinMs: number,
  everyMs = 500,
): Promise<boolean> {
  const end = performance.now() + withinMs;
  for (;;) {
    if (await wanted()) return true;
    if (performance.now() > end) return false;
    await sleep(everyMs);
  }
}

function overlay(backing: string, path: string): void {
  const args = ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", backing, path];
  const ran = spawnSync("qemu-img", args, { encoding: "utf8" });
  if (ran.status !== 0) throw new Error(`qemu-img: ${ran.stderr}`);
}

function startQemu(
  parts: GuestParts,
  at: (name: string) => string,
  disk: string,
  append: string,
): ChildProcess {
  const card = (name: string, mac: string) => [
    "-netdev",
    `stream,id=${name},server=off,addr.type=unix,addr.path=${at(name)}`,
    "-device",
    `virtio-net-pci,netdev=${name},mac=${mac},romfile=`,
  ];
  const args = [
    // KVM is not there in most places where this runs, and hangs in some: one way for all
    "-accel",
    "tcg,thread=multi",
    "-cpu",
    "max",
    "-smp",
    String(CPUS),
    "-m",
    String(MEMORY_MIB),
    "-nodefaults",
    "-no-user-config",
    "-display",
    "none",
    "-rtc",
    "base=utc",
    "-kernel",
    parts.image.kernel,
    "-initrd",
    parts.image.initrd,
    "-append",
    `${APPEND} ${append}`.trim(),
    "-drive",
    `file=${disk},if=none,id=root,format=qcow2,cache=unsafe,discard=unmap`,
    "-device",
    "virtio-blk-pci,drive=root",
    "-drive",
    `file=${parts.product},if=none,id=product,format=raw,readonly=on`,
    "-device",
    "virtio-blk-pci,drive=product",
    "-device",
    "virtio-rng-pci",
    "-device",
    "qemu-xhci,id=xhci,p2=12,p3=12", // at the last free port qemu would put a hub between
    "-device",
    `usb-kbd,id=operator,bus=xhci.0,port=1,serial=${OPERATOR}`,
    "-device",
    "virtio-serial-pci",
    "-chardev",
    `socket,id=agent,path=${at("agent")},server=on,wait=off`,
    "-device",
    "virtserialport,chardev=agent,name=agent",
    ...card("eth0", OUTSIDE.guest.mac),
    ...card("eth1", INSIDE.guest.mac),
    "-serial",
    `file:${at("console.log")}`,
    "-qmp",
    `unix:${at("qmp")},server=on,wait=off`,
    ...(parts.from === null ? [] : ["-loadvm", parts.from.name]),
  ];
  const log = openSync(at("qemu.log"), "w");
  const qemu = spawn("qemu-system-x86_64", args, { stdio: ["ignore", log, log] });
  const end = () => qemu.kill("SIGKILL"); // however this process ends, no machine is left running
  process.once("exit", end);
  qemu.once("exit", () => process.off("exit", end));
  return qemu;
}

function tail(file: string): string {
  try {
    return readFileSync(file, "utf8").slice(-1_500);
  } catch {
    return "(nothing)";
  }
}
