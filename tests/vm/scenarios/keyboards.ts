import { setTimeout as sleep } from "node:timers/promises";
import { gadget } from "../gadget.ts";
import { until } from "../guest.ts";
import { quoted, type Stage, waitInside } from "../stage.ts";
import { DEVICES, prepareUsb, type UsbSockets } from "../usb.ts";

const UNIT = "boundary-daemon";
/** Slow: qemu holds sixteen events of a keyboard that is not read from, and a shared host is late. */
const CODE_MS = 400;
const CONFIG = "/etc/boundary-daemon/config.yaml";
const SERIAL = "NEW";
const TYPER = "TYPER";
/** Where the new keyboard is, whatever port it got. */
const KEYBOARD = `$(dirname $(grep -lx ${SERIAL} /sys/bus/usb/devices/*/serial))`;
const INTERFACE = `$(echo ${KEYBOARD}/*:1.0)`;
const DRIVER = `readlink ${INTERFACE}/driver | grep -o '[a-z]*$'`;

/** A new keyboard is challenged; what types as no person does is taken away, and trips. */
export async function keyboards(stage: Stage): Promise<void> {
  const { guest, check } = stage;
  await guest.ok(
    `systemctl stop ${UNIT}
     printf '  challengeKeyboards: true\\n' >>${CONFIG} # below "usb:", its last part
     printf 'allow id 0627:0001 serial "${SERIAL}"\\nallow id 1d6b:0104 serial "${TYPER}"\\n' >>/etc/boundary-daemon/usb.rules
     systemctl start ${UNIT}`,
    300,
  );
  await stage.daemonUp();
  const sockets = await prepareUsb(guest);
  await sockets.unplug("operator"); // qemu types on one keyboard only
  await refused(stage, sockets);
  await passed(stage);
  await injected(stage);
  await sockets.unplug("keyboard");
  check("the code is in no record", !(await codesInLog(stage)));
}

async function refused(stage: Stage, sockets: UsbSockets): Promise<void> {
  const { guest, check } = stage;
  await sockets.plug("keyboard", { serial: SERIAL });
  check("a new keyboard is there", await waitInside(guest, `test -e ${KEYBOARD}/authorized`, 30));
  await guest.ok("udevadm settle -t 30; sleep 3", 60);
  const state = await guest.ok(
    `cat ${KEYBOARD}/authorized; ls /dev/input/by-id 2>/dev/null | grep ${SERIAL} || true`,
  );
  check("it is not authorised, and no input device", state.trim() === "0", state);
  const port = await portOf(stage);
  const without = await stage.ctl("usb", "challenge", port);
  check("a challenge without a terminal is refused", without.code !== 0, without);
  await challenge(stage, port);
  await type(stage, [..."000000"], CODE_MS);
  await type(stage, [..."000001"], CODE_MS);
  await type(stage, [..."000002"], CODE_MS);
  check("three wrong codes end it", await ended(stage, "wrong"), await stage.records("usb.challenged"));
  check("it is not authorised", (await guest.ok(`cat ${KEYBOARD}/authorized`)).trim() === "0");
}

async function passed(stage: Stage): Promise<void> {
  const { guest, check } = stage;
  const code = await challenge(stage, await portOf(stage));
  await type(stage, [...code], CODE_MS);
  check(
    "the code that was shown passes",
    await ended(stage, "passed"),
    await stage.records("usb.challenged"),
  );
  check("its driver has it", await waitInside(guest, `[ "$(${DRIVER})" = usbhid ]`, 30));
  await guest.ok("udevadm settle -t 30; sleep 3", 60);
  await watchedAre(stage, 1);
  await type(stage, [..."abcdefghabcdefghabcdefgh"], 120);
  await sleep(2_000);
  check("a person's typing does not trip", (await stage.status()).mode.applied === "RESTRICTED");
}

/** 52 keys down and up, each a report of a keyboard of the boot protocol. */
const TYPES_FAST = String.raw`exec 3>/dev/hidg0
for i in 1 2; do for key in $(seq 4 29); do
  printf "\0\0\x$(printf %x $key)\0\0\0\0\0" >&3
  printf '\0\0\0\0\0\0\0\0' >&3
done; done`;

/** A keyboard whose firmware types by itself: a gadget of the guest's own kernel, as fast as the bus takes it. */
async function injected(stage: Stage): Promise<void> {
  const { guest, check } = stage;
  const port = await (await gadget(stage, "keyboard")).plug(TYPER, "0x0104");
  const allowed = await stage.onTerminal("usb", "allow", port);
  check("a person lets another keyboard in, unchallenged", allowed.code === 0, allowed);
  const event = `ls -d ${DEVICES}/${port}/${port}:1.0/*/input/input*/event*`;
  check("it is an input device", await waitInside(guest, `${event} >/dev/null 2>&1`, 30));
  await watchedAre(stage, 2);
  // once it is taken away nobody reads what it types, and its firmware hangs
  await guest.run(`timeout 15 bash -c ${quoted(TYPES_FAST)}`);
  const fell = await waitInside(guest, `[ "$(cat ${DEVICES}/${port}/authorized)" = 0 ]`, 30);
  check(
    "injected keystrokes: it is not authorised any more",
    fell,
    await guest.run(`cat ${DEVICES}/${port}/authorized`),
  );
  const status = await stage.status();
  check("and LOCKDOWN", status.mode.applied === "LOCKDOWN", status.mode);
  const fired = await stage.records("tripwire.fired");
  // taken away, it is seen once more by the tripwire on devices
  const byKeys = fired.filter(({ data }) => data["tripwire"] === "usb-keystrokes");
  check("by its tripwire, once", byKeys.length === 1, fired);
}

async function watchedAre(stage: Stage, keyboards: number): Promise<void> {
  let sensor: unknown = null;
  const are = await until(async () => {
    sensor = JSON.stringify((await stage.status()).sensors);
    return String(sensor).includes(`${keyboards} event devices of USB keyboards`);
  }, 30_000);
  stage.check(`the keys of ${keyboards} are watched`, are, sensor);
}

/** Begins one as olga at a terminal, waits until the keyboard is claimed, and gives the code. */
async function challenge({ guest, check }: Stage, port: string): Promise<string> {
  const asked = `runuser -u olga -- boundaryctl usb challenge ${port}`;
  const shown = await guest.ok(`script -qec '${asked}' /dev/null </dev/null`, 90);
  const code = /code\s+(\d{6})/.exec(shown)?.[1] ?? "";
  check("a challenge at a terminal shows a code", code !== "", shown);
  const claimed = await waitInside(guest, `[ "$(${DRIVER})" = usbfs ]`, 30);
  check("meanwhile no driver has the keyboard", claimed, await guest.run(DRIVER));
  await sleep(1_000);
  return code;
}

async function ended({ guest }: Stage, outcome: string): Promise<boolean> {
  return waitInside(
    guest,
    `grep -hs '"kind":"usb.challenged"' /var/log/boundary-daemon/*.jsonl | grep -q '"outcome":"${outcome}"'`,
    60,
  );
}

async function portOf({ guest }: Stage): Promise<string> {
  return (await guest.ok(`basename ${KEYBOARD}`)).trim();
}

async function codesInLog({ guest }: Stage): Promise<boolean> {
  const lines = await guest.ok(`grep -hs '"kind":"usb.challenged"' /var/log/boundary-daemon/*.jsonl || true`);
  return /"code"/.test(lines);
}

/** Keys by qemu's names, `everyMs` from one to the next; up again half-way. */
async function type({ guest: { qmp } }: Stage, keys: readonly string[], everyMs: number): Promise<void> {
  const event = (name: string, down: boolean) =>
    qmp.execute("input-send-event", {
      events: [{ type: "key", data: { down, key: { type: "qcode", data: name } } }],
    });
  const begunMs = performance.now();
  for (const [index, name] of keys.entries()) {
    const at = (part: number) => sleep(Math.max(0, begunMs + (index + part) * everyMs - performance.now()));
    await event(name, true);
    await at(0.5);
    await event(name, false);
    await at(1);
  }
}
