import { quoted, type Stage, waitInside } from "../stage.ts";
import { becomesDisk, blockedInLog, isAuthorized, plugStick, stickStaysOut } from "../stick.ts";
import { DEVICES, portOf, prepareUsb, type UsbSockets } from "../usb.ts";
import { leaveLockdown } from "./boots.ts";

const STICK = "WORD";
const UNIT = "boundary-daemon";
const RULES = "/etc/boundary-daemon/usb.rules";
/** Long enough for a start of the daemon; on a shared host, as many times what one call of boundaryctl takes there. */
const WINDOW_S = 100;
const WINDOW_CALLS = 20;
const WORD_S = 30;
/** All of these are let in by a rule; what the mode says stands above it. */
export const ALLOWED = `
allow id 46f4:0001
allow id 0409:55aa
allow id 0627:0001 serial "ONHUB"
allow id 1d6b:0104`;

/** Bash that adds rules. */
export function allowing(rules: string): string {
  return `printf '%s\\n' ${quoted(rules)} >>${RULES}`;
}

/** What is plugged in while no daemon runs, what people say in RESTRICTED, and a window of time. */
export async function usbStops(stage: Stage): Promise<void> {
  const { guest, check } = stage;
  const sockets = await prepareUsb(guest);
  await guest.ok(`systemctl stop ${UNIT}`, 240);
  const callMs = performance.now();
  await guest.ok("boundaryctl --version");
  const windowS = Math.max(WINDOW_S, Math.ceil((WINDOW_CALLS * (performance.now() - callMs)) / 1_000));
  const window = await guest.ok(`echo "$(date -d '-2 minutes' +%T)-$(date -d '+${windowS} seconds' +%T)"`);
  await guest.ok(
    `${allowing(`${ALLOWED}\nallow id 0403:6001 if localtime(${window.trim()})`)}; boundaryctl usb check ${RULES}`,
  );
  const begunMs = performance.now();
  await plugStick(stage, sockets, STICK);
  await stickStaysOut(stage, STICK, "plugged in while the daemon is stopped");
  await guest.ok(`systemctl start ${UNIT}`, 240);
  await stage.daemonUp();
  await inGap(stage, "while the daemon was stopped");
  const asRule = "that was there at the start, with a rule that allows it, in RESTRICTED";
  await stickStaysOut(stage, STICK, asRule);
  await blockedInLog(stage, STICK, asRule);
  const status = await stage.status();
  check(
    "the mode is as before",
    status.mode.applied === "RESTRICTED" && status.mode.cause.startsWith("resumed"),
    status.mode,
  );

  await sockets.plug("serial", { serial: "WINDOW" });
  check(
    "a serial line is let in by a rule, within its window",
    await waitInside(guest, "test -e /dev/ttyUSB0", 30),
  );
  await said(stage, sockets);
  const left = Math.max(0, Math.ceil(windowS - (performance.now() - begunMs) / 1_000));
  check(
    "when the window closes the serial line goes",
    await waitInside(guest, "! test -e /dev/ttyUSB0", left + 15),
  );
  const decided = (await stage.records("usb.decided")).filter(({ data }) => data["serial"] === "WINDOW");
  const targets = decided.map(({ data }) => data["target"]);
  check("the log has both: allowed, then blocked", targets.join(" ") === "allow block", decided);
  await sockets.unplug("serial");
  await killed(stage, sockets);
}

/** A person's word about a stick, in RESTRICTED. */
async function said(stage: Stage, sockets: UsbSockets): Promise<void> {
  const { guest, check } = stage;
  const port = await portOf(guest, STICK);
  const piped = await stage.ctl("usb", "allow", port);
  check(
    "usb allow of a stick without a terminal is refused",
    piped.code !== 0 && (piped.stderr + piped.stdout).includes("usb-no-terminal"),
    piped,
  );
  const allowed = await stage.onTerminal("usb", "allow", port, "--for", `${WORD_S}s`);
  const begunMs = performance.now();
  check("on a terminal it is taken", allowed.code === 0, allowed);
  check("and the stick becomes a block device", await becomesDisk(stage));
  await sockets.unplug("storage");
  const now = await plugStick(stage, sockets, STICK);
  check("plugged in again it is one again", await becomesDisk(stage));
  const left = Math.max(0, Math.ceil(WORD_S - (performance.now() - begunMs) / 1_000));
  const gone = await waitInside(guest, "! test -e /sys/block/sda", left + 10);
  check("when the time is up it is none any more", gone);
  await stickStaysOut(stage, STICK, "whose time is up");
  const granted = (await stage.records("usb.granted")).at(-1)?.data;
  check(
    "the log has who said it, and until when",
    granted?.["by"] === "olga" && granted["until"] !== "",
    granted,
  );

  const rejected = await stage.ctl("usb", "reject", now);
  const off = await waitInside(guest, `! test -e ${DEVICES}/${now}`, 10);
  check("usb reject takes it off the bus", rejected.code === 0 && off, rejected);
  const last = (await stage.records("usb.decided")).findLast(({ data }) => data["serial"] === STICK)?.data;
  check("and the log has that", last?.["target"] === "reject", last);
  await sockets.unplug("storage");
}

/** kill -9, and a stick before anything is started again. */
async function killed(stage: Stage, sockets: UsbSockets): Promise<void> {
  const { guest, check } = stage;
  const pid = (await guest.ok(`systemctl show -P MainPID ${UNIT}`)).trim();
  await guest.ok(`kill -9 ${pid}`);
  await plugStick(stage, sockets, "KILLED");
  await stickStaysOut(stage, "KILLED", "plugged in when the daemon has been killed");
  await waitInside(guest, `p=$(systemctl show -P MainPID ${UNIT}) && [ $p != 0 ] && [ $p != ${pid} ]`, 120);
  await stage.daemonUp();
  await inGap(stage, "after kill -9");
  const after = "that was there at the start after kill -9";
  await stickStaysOut(stage, "KILLED", after);
  await blockedInLog(stage, "KILLED", after);
  const status = await stage.status();
  check("after kill -9 the mode is LOCKDOWN", status.mode.applied === "LOCKDOWN", status.mode);
  check("the operator's keyboard stays", await isAuthorized(stage, await portOf(guest, "OPERATOR")));
  await sockets.unplug("storage");
  await leaveLockdown(stage);
}

async function inGap(stage: Stage, when: string): Promise<void> {
  const last = (await stage.records("gap")).findLast(({ data }) => data["ended"] !== "stall");
  stage.check(
    `the gap record names what was plugged in ${when}`,
    JSON.stringify(last?.data ?? "").includes("46f4:0001"),
    last,
  );
}
