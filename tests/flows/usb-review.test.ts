import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { missingUsbPrivilege } from "../../daemon/adapters/privilege.ts";
import { ConfigSchema } from "../../daemon/core/config.ts";
import { isKeyboard } from "../../daemon/core/input-device.ts";
import type { KeyboardChallenge } from "../../daemon/ports.ts";
import {
  FAR_KEYBOARD,
  type FakeDevice,
  FakeUsb,
  HUB,
  KEYBOARD,
  MOUSE,
  SERIAL,
  STICK,
} from "../support/fake-usb.ts";
import { FakeClock, settled, startHost } from "../support/host.ts";
import { ANA_AT_TERMINAL, digestOf, on, plugged, usbHost, wish } from "../support/usb-host.ts";

/** What a hostile review found: each test says what ought to hold, and does not as the code is. */

/** The same as KEYBOARD in all that it says of itself, at another port. */
const TWIN: FakeDevice = { ...KEYBOARD, port: "1-2" };

class NextBoot extends FakeClock {
  override bootId = (): string => "11111111-1111-1111-1111-111111111111";
}

describe("what switches enforcement off", () => {
  test("is not a device that comes or goes while the daemon starts", () => {
    const root = mkdtempSync(join(tmpdir(), "usb-review-"));
    const devices = join(root, "devices");
    const put = (path: string) => {
      mkdirSync(join(devices, path, ".."), { recursive: true });
      writeFileSync(join(devices, path), "0\n");
    };
    try {
      put("../drivers_probe");
      put("usb1/authorized_default");
      put("usb1/interface_authorized_default");
      mkdirSync(join(devices, "1-2")); // on its way in or out: its files are not there, or not yet the group's
      expect(missingUsbPrivilege(devices)).toEqual([]);
    } finally {
      rmSync(root, { recursive: true });
    }
  });

  test("does not leave an assurance of enforced", async () => {
    const part = usbHost({ usb: plugged(STICK), mode: "TRUSTED", missing: ["writing 1-2/authorized"] });
    const host = await startHost({ mode: "TRUSTED", usb: part.control });
    expect(on(part.usb)).toEqual(["1-3"]); // a stick is on in TRUSTED
    expect(host.daemon.assurance()).not.toBe("enforced");
    expect(part.people.status()).toMatchObject({ state: "failed", detail: expect.stringContaining("1-2") });
  });

  test("is over as soon as udev has given the files away: then everything is decided, and told", async () => {
    const missing = ["writing usb1/authorized_default"];
    const host = usbHost({ usb: plugged(STICK, KEYBOARD), mode: "TRUSTED", missing });
    await host.enter("TRUSTED");
    await host.pass(1_000);
    expect(host.usb.writes).toEqual([]);
    missing.pop();
    await host.pass(1_000);
    expect(on(host.usb)).toEqual(["1-1"]);
    expect(host.usb.defaults).toEqual({ device: "0", interface: "0" });
    expect([host.control.how, host.control.failure(), host.world.begun]).toEqual(["enforced", "", 1]);
    missing.push("writing usb2/authorized_default"); // a controller that comes later
    await host.pass(1_000);
    expect(host.control.how).toBe("enforced");
  });

  test("does not cost the keyboard of a first start, which is kept once it can be enforced", async () => {
    const missing = ["writing usb1/authorized_default"];
    const host = usbHost({ usb: plugged(STICK, KEYBOARD), rules: "block", chosen: false, missing });
    await host.enter("RESTRICTED");
    missing.pop();
    await host.pass(1_000);
    expect(on(host.usb)).toEqual(["1-1"]);
  });

  test("is no failure where nothing is to be enforced: switched off, or in shadow", async () => {
    for (const options of [
      { missing: ["the switch"] },
      { missing: ["writing it"], hold: "shadow" },
    ] as const) {
      const host = usbHost({ usb: plugged(STICK), ...options });
      await host.enter("TRUSTED");
      await host.pass(1_000);
      expect(host.control.failure()).toBe("");
      expect(host.people.status().state).toBe("observed");
      expect(host.usb.writes).toEqual([]);
    }
  });
});

describe("switched off", () => {
  test("and rebooted, the keyboard works: udev's mark of the boot before has closed the controllers", async () => {
    const usb = new FakeUsb();
    usb.defaults = { device: "0", interface: "0" };
    usb.plug(KEYBOARD);
    const host = usbHost({
      usb,
      missing: ["the switch (BOUNDARY_USB_ENFORCE=1 or enforcement.usb)"],
      leftClosed: true,
    });
    await host.enter("OPEN");
    await host.pass(1_000);
    expect(on(usb)).toEqual(["1-1"]);
    expect(usb.defaults).toEqual({ device: "1", interface: "1" });
    // a controller that udev was slow to close
    usb.defaults = { device: "0", interface: "0" };
    await host.pass(1_000);
    expect(usb.defaults).toEqual({ device: "1", interface: "1" });
    // what somebody else refuses afterwards is his
    await host.pass(10_000);
    usb.deauthorize("1-1");
    await host.pass(1_000);
    expect(on(usb)).toEqual([]);
  });

  test.each(["holds", "fails"] as const)("nothing is opened while its record %s", async (state) => {
    const usb = new FakeUsb();
    usb.defaults = { device: "0", interface: "0" };
    usb.plug(KEYBOARD);
    const host = usbHost({ usb, missing: ["the switch"], leftClosed: true });
    host.log.state = state;
    await host.enter("OPEN");
    await host.pass(1_000);
    expect([usb.defaults, on(usb)]).toEqual([{ device: "0", interface: "0" }, []]);
    host.log.state = "works";
    host.release();
    await host.pass(1_000);
    expect([usb.defaults, on(usb)]).toEqual([{ device: "1", interface: "1" }, ["1-1"]]);
    expect(host.last("usb.opened")).toBeDefined();
  });

  test("what others have closed stays closed", async () => {
    const usb = new FakeUsb();
    usb.defaults = { device: "0", interface: "0" };
    usb.plug(KEYBOARD);
    const host = usbHost({ usb, missing: ["the switch"] });
    await host.enter("OPEN");
    await host.pass(1_000);
    expect(usb.writes).toEqual([]);
  });

  test("in the middle of a boot, what was closed in it is opened again, also when that fails at first", async () => {
    const before = usbHost({ usb: plugged(STICK, KEYBOARD), rules: "block" });
    await before.enter("LOCKDOWN");
    before.control.stop();
    expect(on(before.usb)).not.toContain("1-3");
    const { usb, clock } = before;
    usb.fails.add("usb1");
    const host = usbHost({ usb, clock, memory: before.memory(), missing: ["the switch"], mode: "LOCKDOWN" });
    await host.enter("LOCKDOWN");
    expect(host.control.failure()).toContain("usb1");
    usb.fails.clear();
    await host.pass(1_000);
    expect(usb.defaults).toEqual({ device: "1", interface: "1" });
    expect(on(usb)).toEqual(["1-1", "1-3"]);
    expect(host.control.failure()).toBe("");
  });
});

describe("two devices of one kind", () => {
  test("are both kept at a first start: a hub of two identical ones carries the keyboard", async () => {
    const inner: FakeDevice = { ...HUB, port: "1-6.1" };
    const far: FakeDevice = { ...FAR_KEYBOARD, port: "1-6.1.1" };
    const usb = plugged(HUB, inner, far);
    const host = usbHost({ usb, rules: "block", chosen: false });
    await host.enter("RESTRICTED");
    expect(on(usb)).toEqual(["1-6", "1-6.1", "1-6.1.1"]);
  });

  test("are both kept out once each has injected keystrokes", async () => {
    const host = usbHost({ usb: plugged(KEYBOARD, TWIN) });
    await host.enter("OPEN");
    host.challenges.injected("1-1");
    await settled();
    expect(on(host.usb)).toEqual(["1-2"]);
    host.challenges.injected("1-2");
    await settled();
    await host.pass(1_000);
    expect(on(host.usb)).toEqual([]);
  });
});

describe("after a reboot", () => {
  /** In LOCKDOWN with a keyboard behind a hub, then a boot whose controllers are closed (udev's mark, usbcore.authorized_default=0). */
  async function rebooted(mode: "LOCKDOWN" | "COLDROOM") {
    const before = usbHost({ usb: plugged(HUB, FAR_KEYBOARD), mode });
    await before.enter(mode);
    expect(on(before.usb)).toEqual(["1-6", "1-6.1"]);
    const usb = new FakeUsb();
    usb.defaults = { device: "0", interface: "0" };
    usb.plug(HUB);
    const host = usbHost({ usb, mode, memory: before.memory(), clock: new NextBoot() });
    await host.enter(mode);
    return host;
  }

  test.each(["LOCKDOWN", "COLDROOM"] as const)("in %s the hub of the keyboard comes back", async (mode) => {
    const host = await rebooted(mode);
    expect(on(host.usb)).toEqual(["1-6"]);
  });

  test("a keyboard that the kernel finds a second later is the one that was there", async () => {
    const before = usbHost({ usb: plugged(KEYBOARD), mode: "LOCKDOWN" });
    await before.enter("LOCKDOWN");
    const usb = new FakeUsb();
    usb.defaults = { device: "0", interface: "0" };
    const host = usbHost({ usb, mode: "LOCKDOWN", memory: before.memory(), clock: new NextBoot() });
    await host.enter("LOCKDOWN");
    usb.plug(KEYBOARD);
    await host.pass(1_000);
    expect(on(usb)).toEqual(["1-1"]);
  });

  test("a trip in the first moments does not cost the keyboard", async () => {
    const before = usbHost({ usb: plugged(KEYBOARD), mode: "AIRGAP" });
    await before.enter("AIRGAP");
    const usb = new FakeUsb();
    usb.defaults = { device: "0", interface: "0" };
    usb.plug(KEYBOARD);
    const host = usbHost({ usb, mode: "AIRGAP", memory: before.memory(), clock: new NextBoot() });
    host.log.state = "holds"; // its record is on its way to the disk
    await host.enter("AIRGAP");
    await host.enter("LOCKDOWN");
    host.release();
    await host.pass(1_000);
    expect(on(usb)).toEqual(["1-1"]);
  });
});

describe("what is refused stays refused", () => {
  test("a block that was said after an allow, when the allow's record is slower", async () => {
    const host = usbHost({ usb: plugged(SERIAL), rules: "block" });
    await host.enter("OPEN");
    host.log.state = "holds";
    const allowed = host.people.say("allow", wish("1-5"));
    const blocked = host.people.say("block", wish("1-5"));
    host.release();
    await Promise.all([allowed, blocked]);
    await settled();
    await host.pass(1_000);
    expect(on(host.usb)).toEqual([]);
  });

  test("a block that was said while the keyboard was challenged", async () => {
    const usb = new FakeUsb();
    let end: () => void = () => undefined;
    const keyboard: KeyboardChallenge = {
      run: ({ port }) => {
        usb.tamper(port);
        return new Promise((resolve) => {
          end = () => {
            usb.deauthorize(port);
            resolve({ kind: "passed" });
          };
        });
      },
    };
    const host = usbHost({ usb, mode: "RESTRICTED", keyboard, challengeKeyboards: true });
    await host.enter("RESTRICTED");
    usb.plug(KEYBOARD);
    await host.look();
    host.people.challenge("1-1", ANA_AT_TERMINAL);
    await host.people.say("block", wish("1-1"));
    end();
    await settled();
    await host.pass(1_000);
    expect(on(usb)).toEqual([]);
  });

  test("a permanent block, at once, also while the log cannot be written", async () => {
    const host = usbHost({ usb: plugged(STICK) });
    await host.enter("OPEN");
    host.log.state = "fails";
    await host.people.say("block", wish("1-3", { permanent: true })).catch(() => undefined);
    expect(on(host.usb)).toEqual([]);
  });

  test("a block for two hours, when somebody sets the clock on by three and the clock is in doubt", async () => {
    const host = usbHost({ usb: plugged(STICK) });
    await host.enter("OPEN");
    await host.people.say("block", wish("1-3", { forMs: 7_200_000 }));
    host.clock.realMs += 10_800_000;
    host.world.frozen = true;
    await host.pass(1_000);
    expect(on(host.usb)).toEqual([]);
  });

  test("what a permanent rule blocks, when the file of those rules is gone", async () => {
    const rule = `block id ${STICK.id}\n`;
    const memory = {
      boot: "another",
      closed: true,
      known: [],
      more: 0,
      awaited: [],
      grants: [],
      rules: digestOf(rule),
    };
    const host = usbHost({ usb: plugged(STICK), memory }); // no text in the store: it was removed
    await host.enter("OPEN");
    expect(host.people.status().state).toBe("failed");
    expect(on(host.usb)).toEqual([]);
  });

  test("a stick that was allowed before a fall to LOCKDOWN, once a person has opened it again", async () => {
    const host = usbHost({ usb: plugged(STICK), rules: "block" });
    await host.enter("OPEN");
    await host.people.say("allow", wish("1-3", { forMs: 36_000_000 }));
    await host.enter("LOCKDOWN");
    await host.enter("RESTRICTED");
    expect(on(host.usb)).toEqual([]);
  });

  test("a stick in RESTRICTED that nobody at a terminal allowed", async () => {
    const host = usbHost({ usb: plugged(STICK), rules: "block" });
    await host.enter("OPEN");
    await host.people.say("allow", wish("1-3", { by: { name: "an agent", terminal: "" } }));
    await host.enter("RESTRICTED");
    expect(on(host.usb)).toEqual([]);
  });

  test("what is blocked for good and has no serial number, at the next port", async () => {
    const host = usbHost({ usb: plugged(MOUSE), rules: "allow" });
    await host.enter("OPEN");
    await host.people.say("block", wish("1-2", { permanent: true }));
    expect(on(host.usb)).toEqual([]);
    host.usb.unplug("1-2");
    await host.look();
    host.usb.plug({ ...MOUSE, port: "1-8" });
    await host.look();
    expect(on(host.usb)).toEqual([]);
  });

  test.each(["rtsx_usb", "vub300", "ushc"])("a card reader of the driver %s in TRUSTED", async (driver) => {
    const reader: FakeDevice = { ...SERIAL, id: "0bda:0129", codes: [["ff:06:50"]], driver };
    const host = usbHost({ usb: plugged(reader), mode: "TRUSTED" });
    await host.enter("TRUSTED");
    expect(on(host.usb)).toEqual([]);
  });
});

describe("a device of which something could not be read at the first look", () => {
  test("is decided about when it can be", async () => {
    const host = usbHost();
    await host.enter("OPEN");
    host.usb.plug({ ...KEYBOARD, problem: "the descriptors cannot be read: no device descriptor" });
    await host.look();
    const one = host.usb.plugged.get("1-1");
    if (one) host.usb.plugged.set("1-1", { ...one, device: KEYBOARD });
    await host.look();
    await host.pass(2_000);
    expect(on(host.usb)).toEqual(["1-1"]);
  });
});

describe("keystrokes", () => {
  test("a keyboard that leaves out one key is watched like any other", () => {
    const all = 0xffff_ffff_ffff_fffen;
    expect(isKeyboard(all.toString(16))).toBe(true);
    expect(isKeyboard((all & ~2n).toString(16))).toBe(true); // without Esc
  });
});

describe("one plugging-in and the next", () => {
  test("are told apart when the kernel's number has come round, with nobody watching", async () => {
    // the kernel gives 1 to 127 on a bus, and begins anew: drivers/usb/core/hub.c, choose_devnum
    const usb = plugged(MOUSE);
    const host = usbHost({ usb, rules: "block", mode: "OPEN" });
    await host.enter("OPEN");
    await host.people.say("allow", wish("1-2"));
    await settled();
    expect(on(usb)).toEqual(["1-2"]);
    host.control.stop();
    const number = usb.plugged.get("1-2")?.number ?? "";
    usb.unplug("1-2");
    usb.plug(MOUSE);
    const another = usb.plugged.get("1-2");
    if (another) usb.plugged.set("1-2", { ...another, number });
    const next = usbHost({ usb, rules: "block", mode: "OPEN", memory: host.memory(), clock: host.clock });
    await next.enter("OPEN");
    expect(on(usb)).toEqual([]);
  });
});

describe("what udev gives away", () => {
  test("does not go to the group that makes a person an operator", () => {
    const path = join(import.meta.dirname, "../../systemd/usb-permissions");
    const groups = [...readFileSync(path, "utf8").matchAll(/chgrp (\S+)/g)].map(([, group]) => group);
    expect(groups.length).toBeGreaterThan(0);
    for (const group of groups) expect(ConfigSchema.parse({}).roles.operator.groups).not.toContain(group);
  });
});
