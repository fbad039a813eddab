import { setTimeout as sleep } from "node:timers/promises";
import { gadget } from "../gadget.ts";
import { until } from "../guest.ts";
import { type Stage, waitInside } from "../stage.ts";
import {
  becomesDisk,
  blockedInLog,
  isAuthorized,
  isDisk,
  plugStick,
  stickIsRefused,
  stickStaysOut,
} from "../stick.ts";
import { keyArrives } from "../type.ts";
import { DEVICES, portOf, prepareUsb, type UsbSockets } from "../usb.ts";
import { leaveLockdown } from "./boots.ts";
import { ALLOWED, allowing } from "./usb-stops.ts";

const OPERATOR = "OPERATOR";
const UNIT = "boundary-daemon";
const REPLUGS = 40;
/** sensors.repeatWindowMs, and a little. */
const WINDOW_MS = 62_000;

/** What each mode lets in, with rules that allow all of it. */
export async function usbModes(stage: Stage): Promise<void> {
  const { guest } = stage;
  const sockets = await prepareUsb(guest);
  await guest.ok(`systemctl stop ${UNIT}; ${allowing(ALLOWED)}; systemctl start ${UNIT}`, 300);
  await stage.daemonUp();
  await open(stage, sockets);
  const decided = await trusted(stage, sockets);
  const toldMs = performance.now();
  await tampered(stage, sockets);
  await coldroom(stage, sockets);
  await sleep(Math.max(0, toldMs + WINDOW_MS - performance.now())); // counts are told when their window ends
  await counts(stage, decided);
  await airgap(stage, sockets);
  await rebooted(stage, sockets);
}

/** The control: with these rules a stick is let in where the mode does not forbid it. */
async function open(stage: Stage, sockets: UsbSockets): Promise<void> {
  await enter(stage, "OPEN");
  await plugStick(stage, sockets, "OPEN1");
  stage.check("in OPEN the rule lets a stick in: it is a block device", await becomesDisk(stage));
  await enter(stage, "TRUSTED");
  await stickStaysOut(stage, "OPEN1", "that was in use, when TRUSTED is entered,");
  await blockedInLog(stage, "OPEN1", "that was in use, when TRUSTED is entered,");
  await sockets.unplug("storage");
}

/** Gives how often it was told that REPLUG is decided about. */
async function trusted(stage: Stage, sockets: UsbSockets): Promise<number> {
  const port = await stickIsRefused(stage, sockets, "TRUSTED1", "in TRUSTED");
  await ceiling(stage, port);
  await sockets.unplug("storage");
  await measured(stage, sockets);
  return composite(stage);
}

/** A keyboard and a disk in one device: the one is let in, the other not. And plugged in again and again. */
async function composite(stage: Stage): Promise<number> {
  const { guest, check } = stage;
  const made = await gadget(stage, "both");
  const port = await made.plug("COMPOSITE", "0x0104");
  const bound = await waitInside(guest, `readlink ${DEVICES}/${port}:1.0/driver | grep -q usbhid`, 20);
  await guest.ok("udevadm settle -t 30; sleep 2.5", 60);
  const state = await guest.run(
    `cd ${DEVICES} && grep . ${port}/authorized ${port}:*/authorized; ls -d ${port}:*/driver`,
  );
  check(
    "a composite in TRUSTED: its keyboard is authorised and driven, its storage is not",
    bound &&
      state.stdout.includes(`${port}:1.0/authorized:1`) &&
      state.stdout.includes(`${port}:1.1/authorized:0`) &&
      !state.stdout.includes(`${port}:1.1/driver`) &&
      !(await isDisk(stage)),
    state,
  );
  const last = (await stage.records("usb.decided")).findLast(
    ({ data }) => data["serial"] === "COMPOSITE",
  )?.data;
  check(
    "the log names the interface that is refused",
    last?.["target"] === "allow" && last["refused"] === `${port}:1.1`,
    last,
  );
  await made.unplug();

  const seen = await made.replug("REPLUG", "0x0105", REPLUGS);
  check(
    `${REPLUGS} times plugged in again: the kernel has seen each, and none became a disk`,
    seen === REPLUGS,
    seen,
  );
  await stage.guest.ok("sleep 1");
  const all = await guest.ok(
    `cat /var/log/boundary-daemon/*.jsonl | grep -c '"REPLUG"' || true; cat /var/log/boundary-daemon/*.jsonl | wc -l`,
  );
  stage.note(`records that name it, and all: ${all.trim().replaceAll("\n", ", ")}`);
  const decided = (await stage.records("usb.decided")).filter(
    ({ data }) => data["serial"] === "REPLUG",
  ).length;
  check("and told it in few records", decided >= 1 && decided <= 3, decided);
  return decided;
}

async function counts(stage: Stage, decided: number): Promise<void> {
  const { check, note } = stage;
  const counted = decided + (await repeats(stage));
  // one that is gone before the daemon has looked was refused by the bus, and is not decided about
  check("it was decided about no more often than it came", counted <= REPLUGS, counted);
  note(`${counted} of ${REPLUGS} were there long enough to be decided about, at 0.3 s each`);
}

async function repeats(stage: Stage): Promise<number> {
  const told = await stage.records("usb.repeated");
  return told
    .filter(({ data }) => data["what"] === "usb.decided" && String(data["cause"]).includes("no rule matches"))
    .reduce((sum, { data }) => sum + Number(data["count"]), 0);
}

/** Root is no friend in TRUSTED: what it authorises is put back, and that trips. */
async function tampered(stage: Stage, sockets: UsbSockets): Promise<void> {
  const { guest, check } = stage;
  check("in TRUSTED a key arrives", await keyArrives(stage));
  const port = await stickIsRefused(stage, sockets, "TAMPER", "in TRUSTED, before root authorises it,");
  await guest.ok(`echo 1 >${DEVICES}/${port}/authorized`);
  const back = await waitInside(guest, `[ $(cat ${DEVICES}/${port}/authorized) = 0 ]`, 10);
  check("root authorises it: it is put back", back);
  await fell(stage, "usb-changed");
  check("in LOCKDOWN a key arrives", await keyArrives(stage));
  await stickStaysOut(stage, "TAMPER", "that root authorised");
  await ceiling(stage, port);
  await sockets.unplug("storage");
  await stickIsRefused(stage, sockets, "LOCKDOWN1", "in LOCKDOWN");
  await sockets.unplug("storage");
  await leaveLockdown(stage);
}

/** A keyboard on a hub stays, with the hub; and nothing new comes. */
async function coldroom(stage: Stage, sockets: UsbSockets): Promise<void> {
  const { guest, check } = stage;
  await sockets.plug("hub", { port: "2" });
  const isHub = async () =>
    (await guest.run(`grep -l 1 $(dirname $(grep -l 'QEMU USB Hub' ${DEVICES}/*/product))/authorized`))
      .code === 0;
  check("a hub is let in by a rule", await until(isHub, 30_000, 1_000));
  await sockets.plug("keyboard", { port: "2.1", serial: "ONHUB" });
  const bound = `readlink $(dirname $(grep -lx ONHUB ${DEVICES}/*/serial))/*:1.0/driver | grep -q usbhid`;
  check("and the keyboard on it", await waitInside(guest, bound, 30));
  await sockets.plug("spare", { serial: "SPARE" });
  await enter(stage, "COLDROOM");
  check("in COLDROOM hub and keyboard stay", (await isHub()) && (await guest.run(bound)).code === 0);
  check(
    "a keyboard that was not let in before stays out",
    !(await isAuthorized(stage, await portOf(guest, "SPARE"))),
  );
  await sockets.unplug("spare");
  await sockets.unplug("keyboard");
  check("the operator's keyboard stays: a key arrives", await keyArrives(stage));
  const port = await stickIsRefused(stage, sockets, "COLDROOM1", "in COLDROOM");
  await fell(stage, "usb");
  await ceiling(stage, port);
  await sockets.unplug("storage");
  await sockets.unplug("hub");
  await leaveLockdown(stage);
}

async function airgap(stage: Stage, sockets: UsbSockets): Promise<void> {
  await enter(stage, "AIRGAP");
  stage.check("in AIRGAP a key arrives", await keyArrives(stage));
  await stickIsRefused(stage, sockets, "AIRGAP1", "in AIRGAP");
  await fell(stage, "usb");
  await stage.checkPaths("LOCKDOWN after a stick", "nothing");
  await sockets.unplug("storage");
}

/** In LOCKDOWN: what was in use before is in use again, and nothing that came meanwhile. */
async function rebooted(stage: Stage, sockets: UsbSockets): Promise<void> {
  const { guest, check } = stage;
  const reset = guest.qmp.event("RESET", 120_000).then(async () => {
    await sockets.plug("spare", { serial: "MEANWHILE" });
    await sockets.plug("storage", { serial: "OFF1" });
  });
  await Promise.all([reset, guest.reboot()]);
  await stage.daemonUp();
  const status = await stage.status();
  check(
    "a reboot in LOCKDOWN: LOCKDOWN, enforced",
    status.mode.applied === "LOCKDOWN" && status.assurance === "enforced",
    status,
  );
  check("the keyboard that was there is there", await isAuthorized(stage, await portOf(guest, OPERATOR)));
  check(
    "one that came while it was off is not",
    !(await isAuthorized(stage, await portOf(guest, "MEANWHILE"))),
  );
  await stickStaysOut(stage, "OFF1", "that came while it was off");
  await blockedInLog(stage, "OFF1", "that came while it was off");
  await sockets.unplug("spare");
  check("and a key arrives", await keyArrives(stage));
  await sockets.unplug("storage");
  await leaveLockdown(stage);
}

/** From the kernel's uevent to the decision that the kernel confirmed. */
async function measured(stage: Stage, sockets: UsbSockets): Promise<void> {
  const { guest, check, note } = stage;
  await guest.ok(
    "systemd-run -q --unit=monitor -p StandardOutput=truncate:/run/monitor stdbuf -oL udevadm monitor -k -s usb/usb_device; sleep 1",
  );
  const times: number[] = [];
  for (let i = 0; i < 5; i += 1) {
    const serial = `TIMED${i}`;
    const port = await plugStick(stage, sockets, serial);
    await blockedInLog(stage, serial, `for the ${i + 1}. time`);
    const record = (await stage.records("usb.decided")).find(({ data }) => data["serial"] === serial);
    const line = await guest.ok(`grep -E ' add .*/${port} ' /run/monitor | tail -n 1`);
    const addedS = Number(/\[(\d+\.\d+)\]/.exec(line)?.[1]);
    if (record) times.push(Number(record.mono) / 1e6 - addedS * 1_000);
    await sockets.unplug("storage");
  }
  await guest.run("systemctl stop monitor");
  const sorted = times.toSorted((a, b) => a - b).map((ms) => ms.toFixed(1));
  check("the decision follows the kernel's event", times.length === 5 && times.every((ms) => ms > 0), times);
  note(
    `kernel's uevent to the confirmed decision: ${sorted[2]} ms (median; ${sorted.join(", ")}), on an emulated CPU`,
  );
}

async function enter(stage: Stage, mode: string): Promise<void> {
  const set = await stage.ctl("mode", "set", mode, "--reason", "the test asks for it");
  stage.check(`an operator sets ${mode}`, set.code === 0, set);
}

async function ceiling(stage: Stage, port: string): Promise<void> {
  const allowed = await stage.onTerminal("usb", "allow", port);
  const refused = allowed.code !== 0 && allowed.stdout.includes("usb-ceiling");
  stage.check("usb allow of it is refused, by the mode's ceiling", refused, allowed);
}

async function fell(stage: Stage, tripwire: string): Promise<void> {
  const down = await until(
    async () => {
      const fired = (await stage.records("tripwire.fired")).at(-1);
      return fired?.data["tripwire"] === tripwire && (await stage.status()).mode.applied === "LOCKDOWN";
    },
    30_000,
    1_000,
  );
  stage.check(`LOCKDOWN, by the tripwire ${tripwire}`, down, await stage.records("tripwire.fired"));
}
