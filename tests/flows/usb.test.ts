import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MODES } from "../../daemon/core/mode.ts";
import { isStorage } from "../../daemon/core/usb-policy.ts";
import { MAX_FRAME_BYTES } from "../../daemon/protocol/messages.ts";
import { isController, subjectOf } from "../../daemon/usb-held.ts";
import { admitting } from "../../daemon/verb-questions.ts";
import {
  CAMERA,
  COMPOSITE,
  FAR_KEYBOARD,
  FakeUsb,
  HUB,
  hashOf,
  KEYBOARD,
  MOUSE,
  SERIAL,
  STICK,
} from "../support/fake-usb.ts";
import { FakeClock, settled, startHost, trip } from "../support/host.ts";
import { digestOf, FakeRulesStore, on, plugged, usbHost, wish } from "../support/usb-host.ts";

test("policy hears of storage what the modes hold for it: cameras too", async () => {
  const { people, enter } = usbHost({ usb: plugged(STICK, CAMERA, KEYBOARD, SERIAL) });
  await enter("RESTRICTED");
  const told = [STICK, CAMERA, KEYBOARD, SERIAL].map(
    ({ port }) => admitting("usb.allow", people.show(port), false).properties["storage"],
  );
  expect(told).toEqual([true, true, false, false]);
});

describe("a start", () => {
  test("closes the controllers, takes away what is refused at once, and says all of it", async () => {
    const host = usbHost({ usb: plugged(KEYBOARD, STICK), mode: "TRUSTED" });
    host.log.state = "holds";
    host.control.modeIs("TRUSTED");
    expect(host.usb.defaults).toEqual({ device: "0", interface: "0" });
    expect(on(host.usb)).toEqual(["1-1"]);
    await settled();
    const decided = host.records.filter(({ kind }) => kind === "usb.decided").map(({ data }) => data);
    expect(decided).toMatchObject([
      { port: "1-1", target: "allow", applied: "confirmed", mode: "TRUSTED", id: "046d:c31c" },
      { port: "1-3", target: "block", applied: "confirmed", refused: "1-3:1.0", why: "TRUSTED: no storage" },
    ]);
    expect(host.control.failure()).toBe("");
    expect(host.people.status()).toMatchObject({
      state: "enforced",
      detail: "1 controllers closed, 1 devices authorised, 1 blocked",
    });
  });

  test("without rules of a person keeps the keyboard in use and the hub it hangs on, for that boot", async () => {
    const usb = plugged(KEYBOARD, STICK, HUB, FAR_KEYBOARD, SERIAL);
    const host = usbHost({ usb, rules: "block", chosen: false });
    await host.enter("RESTRICTED");
    expect(on(usb)).toEqual(["1-1", "1-6", "1-6.1"]);
    const kept = host.records.filter(({ kind }) => kind === "usb.granted").map(({ data }) => data);
    expect(kept.map(({ port, by }) => [port, by])).toEqual([
      ["1-1", "present at first start"],
      ["1-6", "present at first start"],
      ["1-6.1", "present at first start"],
    ]);
    await host.enter("LOCKDOWN");
    expect(on(usb)).toEqual(["1-1", "1-6", "1-6.1"]);
    usb.unplug("1-1");
    usb.plug(KEYBOARD);
    await host.look();
    expect(on(usb)).toEqual(["1-6", "1-6.1"]);
    const rebooted = usbHost({ usb: plugged(MOUSE), rules: "block", chosen: false, memory: host.memory() });
    await rebooted.enter("RESTRICTED");
    expect(on(rebooted.usb)).toEqual([]);
  });

  test.each(["enforcing", "shadow"] as const)(
    "without rules of a person, from %s, has the keyboard and its hub after the next boot too, and nothing else",
    async (hold) => {
      const others = [STICK, SERIAL, { ...HUB, port: "1-8" }];
      const usb = plugged(KEYBOARD, HUB, FAR_KEYBOARD, ...others);
      const host = usbHost({ usb, rules: "block", chosen: false, hold, mode: "RESTRICTED" });
      await host.enter("RESTRICTED");
      host.world.hold = "enforcing";
      await host.pass(2_000);
      const given = host.records.filter(({ kind }) => kind === "usb.rules").map(({ data }) => data);
      expect(given.map(({ port, by }) => [port, by])).toEqual([
        ["1-1", "present at first start"],
        ["1-6", "present at first start"],
        ["1-6.1", "present at first start"],
      ]);
      expect(host.memory()?.rules).toBe(digestOf(host.store.text ?? "none"));
      expect(host.rules.arePersonal()).toBe(false);
      const clock = new FakeClock();
      clock.bootId = () => "11111111-0000-0000-0000-000000000000";
      const again = new FakeUsb();
      again.defaults = { device: "0", interface: "0" };
      for (const device of [KEYBOARD, HUB, FAR_KEYBOARD, ...others]) again.plug(device);
      const memory = host.memory();
      const { store } = host;
      const next = usbHost({ usb: again, rules: "block", chosen: false, store, memory, clock });
      await next.enter("RESTRICTED");
      await next.pass(1_000);
      expect(on(again)).toEqual(["1-1", "1-6", "1-6.1"]);
      // a keyboard of a later time in shadow is kept too: those rules are no person's
      next.world.hold = "shadow";
      await next.pass(1_000);
      again.plug({ ...KEYBOARD, port: "1-9" });
      await next.look();
      next.world.hold = "enforcing";
      await next.pass(1_000);
      expect(on(again)).toEqual(["1-1", "1-6", "1-6.1", "1-8", "1-9"]);
    },
  );

  test("whose rules for the keyboard cannot be recorded keeps it for that boot", async () => {
    const host = usbHost({ usb: plugged(KEYBOARD), rules: "block", chosen: false });
    host.log.state = "fails";
    await host.enter("RESTRICTED");
    expect(on(host.usb)).toEqual(["1-1"]);
    expect([host.store.text, host.rules.counts().permanent]).toEqual([null, 0]);
  });

  test("where the kernel does not take it is told as failed, tried again, and told when it is done", async () => {
    const usb = plugged(STICK);
    usb.fails.add("1-3");
    const host = usbHost({ usb, mode: "TRUSTED" });
    await host.enter("TRUSTED");
    expect(host.people.status().state).toBe("failed");
    expect(host.control.failure()).toContain("1-3");
    expect(host.last("usb.decided")).toMatchObject({ port: "1-3", applied: "failed" });
    expect(host.last("usb.apply-failed")).toMatchObject({ port: "1-3" });
    usb.fails.clear();
    await host.pass(1_000);
    expect(host.control.failure()).toBe("");
    expect(on(usb)).toEqual([]);
    expect(host.last("usb.applied")).toMatchObject({ port: "1-3", target: "block" });
  });

  test.each(["usb1", "list"])("where %s fails is failed too", async (what) => {
    const usb = plugged(KEYBOARD);
    usb.fails.add(what);
    const host = usbHost({ usb });
    await host.enter("RESTRICTED");
    expect(host.control.failure()).not.toBe("");
    usb.fails.clear();
    await host.pass(1_000);
    expect(host.control.failure()).toBe("");
    expect(usb.defaults.device).toBe("0");
  });
});

describe("while it runs", () => {
  test("a bus that cannot be read any more is a failure within a second, until it can", async () => {
    const host = usbHost({ usb: plugged(KEYBOARD) });
    await host.enter("OPEN");
    host.usb.fails.add("list");
    await host.pass(1_000);
    expect(host.control.failure()).toContain("listing");
    host.usb.fails.clear();
    await host.pass(1_000);
    expect(host.control.failure()).toBe("");
  });
});

describe("a device that is plugged in", () => {
  test("is let in only when its record is durable, an interface at a time", async () => {
    const host = usbHost({ mode: "TRUSTED" });
    await host.enter("TRUSTED");
    host.log.state = "holds";
    host.usb.plug(COMPOSITE);
    await host.look();
    expect(host.last("usb.decided")).toMatchObject({
      port: "1-4",
      applied: "after-its-record",
      refused: "1-4:1.1",
    });
    expect(on(host.usb)).toEqual([]);
    host.release();
    await settled();
    expect(host.usb.open("1-4")).toEqual(["1-4:1.0"]);
    expect(host.last("usb.applied")).toMatchObject({ port: "1-4", interfaces: "1-4:1.0" });
  });

  test("stays out when its record fails, and when the mode is tightened meanwhile", async () => {
    const host = usbHost();
    await host.enter("OPEN");
    host.log.state = "fails";
    host.usb.plug(STICK);
    await host.look();
    expect(on(host.usb)).toEqual([]);
    host.log.state = "holds";
    await host.pass(500);
    host.control.modeIs("TRUSTED");
    host.release();
    await settled();
    expect(on(host.usb)).toEqual([]);
    expect(host.last("usb.decided")).toMatchObject({ target: "block", mode: "TRUSTED" });
  });

  test("gets by the record of one decision nothing that a later one gives", async () => {
    const host = usbHost({ mode: "TRUSTED" });
    await host.enter("TRUSTED");
    await host.pass(2_000);
    host.log.state = "holds";
    host.usb.plug(COMPOSITE);
    await host.look();
    const before = host.records.length;
    await host.enter("OPEN");
    expect(host.records.slice(before).map(({ kind }) => kind)).toContain("usb.decided");
    await host.releaseOne();
    expect(host.usb.open("1-4")).toEqual([]);
    host.release();
    await settled();
    expect(host.usb.open("1-4")).toEqual(["1-4:1.0", "1-4:1.1"]);
  });

  test("that is pulled out before its record is durable is no failure", async () => {
    const host = usbHost();
    await host.enter("OPEN");
    host.log.state = "holds";
    host.usb.plug(MOUSE);
    await host.look();
    host.usb.unplug("1-2");
    await host.look();
    host.release();
    await settled();
    expect(host.kinds()).not.toContain("usb.apply-failed");
    expect(host.control.failure()).toBe("");
  });

  test("stays out while the log has no room, and comes in when it has", async () => {
    const host = usbHost();
    await host.enter("OPEN");
    host.world.room = false;
    host.usb.plug(MOUSE);
    await host.look();
    await host.pass(1_000);
    expect(on(host.usb)).toEqual([]);
    host.world.room = true;
    await host.pass(500);
    expect(on(host.usb)).toEqual(["1-2"]);
  });

  test.each(["OPEN", "LOCKDOWN"] as const)(
    "that could not be read at first is read again without being told, in %s too, for half a minute",
    async (mode) => {
      const before = usbHost({ usb: plugged(KEYBOARD) });
      await before.enter("OPEN");
      const clock = new FakeClock();
      clock.bootId = () => "11111111-0000-0000-0000-000000000000";
      const host = usbHost({ memory: before.memory(), clock, mode });
      await host.enter(mode);
      const unread = { ...KEYBOARD, problem: "the descriptors cannot be read: cut" };
      const readable = (port: string) => {
        const one = host.usb.plugged.get(port);
        if (one) host.usb.plugged.set(port, { ...one, device: { ...KEYBOARD, port } });
      };
      host.usb.plug(unread);
      host.usb.plug({ ...unread, port: "1-9" });
      await host.pass(1_000);
      expect(on(host.usb)).toEqual([]);
      readable("1-1");
      await host.pass(1_000);
      await host.pass(1_000);
      expect(on(host.usb)).toEqual(["1-1"]);
      await host.pass(30_000);
      readable("1-9");
      await host.pass(1_000);
      expect(on(host.usb)).toEqual(["1-1"]);
    },
  );

  test("that cannot be understood stays out, whatever the rules say", async () => {
    const host = usbHost();
    await host.enter("OPEN");
    host.usb.plug({ ...KEYBOARD, problem: "the descriptors cannot be read: cut" });
    await host.look();
    expect(on(host.usb)).toEqual([]);
  });

  test("to which the kernel binds a storage driver is thrown out again where no storage may be", async () => {
    const host = usbHost({ mode: "TRUSTED" });
    await host.enter("TRUSTED");
    host.usb.plug({ ...SERIAL, driver: "usb-storage" });
    await host.look();
    expect(on(host.usb)).toEqual([]);
    expect(host.last("usb.decided")).toMatchObject({ target: "block", why: "TRUSTED: no storage" });
    host.usb.writes.length = 0;
    await host.enter("AIRGAP");
    await host.enter("RESTRICTED");
    expect(host.usb.writes).toEqual([]); // what it is has been seen
  });

  test("to which a storage driver is bound is thrown out in the turn that bound it, also when it is let in at a tick", async () => {
    const host = usbHost({ mode: "TRUSTED" });
    await host.enter("TRUSTED");
    host.world.room = false;
    host.usb.plug({ ...SERIAL, driver: "uas" });
    await host.look();
    host.log.state = "holds";
    host.world.room = true;
    await host.pass(500);
    host.world.room = false;
    host.release();
    await settled();
    host.world.room = true;
    host.control.tick(); // its record is on disk by now: it comes in within this turn
    expect(host.usb.writes.filter((each) => each.startsWith("1-5 allow")).length).toBe(1);
    expect(on(host.usb)).toEqual([]);
  });

  test("is not authorised at all where no storage may be, if it is a card reader of a known id", async () => {
    const host = usbHost({ mode: "TRUSTED" });
    await host.enter("TRUSTED");
    host.usb.plug({ ...SERIAL, id: "0bda:0139", driver: "rtsx_usb" });
    await host.look();
    expect(host.usb.writes.filter((each) => each.startsWith("1-5 allow"))).toEqual([]);
  });

  test("is removed where a rule rejects it", async () => {
    const host = usbHost({ rules: "reject with-interface 08:*:*\nallow" });
    await host.enter("OPEN");
    host.usb.plug(STICK);
    await host.look();
    await host.look();
    expect([...host.usb.plugged.keys()]).toEqual([]);
    expect(host.usb.writes.filter((each) => each.startsWith("1-3"))).toEqual(["1-3 reject"]);
    expect(host.kinds()).toContain("usb.detached");
  });

  test("a thousand times is counted, and lets in nothing without a record", async () => {
    const host = usbHost();
    await host.enter("OPEN");
    for (let turn = 0; turn < 300; turn++) {
      host.usb.plug(MOUSE);
      await host.look();
      expect(on(host.usb)).toEqual(["1-2"]);
      host.usb.unplug("1-2");
      await host.look();
    }
    expect(host.kinds().filter((kind) => kind === "usb.decided").length).toBe(1);
    await host.pass(61_000);
    const counted = host.records.filter(({ kind }) => kind === "usb.repeated").map(({ data }) => data);
    expect(counted).toContainEqual(expect.objectContaining({ what: "usb.given", count: 299 }));
    expect(counted).toContainEqual(expect.objectContaining({ what: "usb.detached", count: 299 }));
  });
});

describe("a file that udev has not given us yet", () => {
  test("is waited for, and is a failure after a while", async () => {
    const usb = plugged();
    const host = usbHost({ usb, mode: "OPEN" });
    await host.enter("OPEN");
    usb.denies.add("1-1");
    usb.plug(KEYBOARD);
    host.control.look();
    await host.pass(2_000);
    expect(on(usb)).toEqual([]);
    expect([host.control.failure(), host.last("usb.apply-failed")]).toEqual(["", undefined]);
    usb.denies.clear();
    await host.pass(1_000);
    expect(on(usb)).toEqual(["1-1"]);
    usb.denies.add("1-1");
    usb.unplug("1-1");
    usb.plug(KEYBOARD);
    host.control.look();
    for (let second = 0; second < 8; second += 1) await host.pass(1_000);
    expect(host.control.failure()).toContain("1-1");
    usb.denies.clear();
    await host.pass(3_000);
    expect([on(usb), host.control.failure()]).toEqual([["1-1"], ""]);
  });

  test("is no excuse for what is to be taken away", async () => {
    const usb = plugged(STICK);
    const host = usbHost({ usb, mode: "OPEN" });
    await host.enter("OPEN");
    usb.denies.add("1-3");
    await host.enter("TRUSTED");
    expect(host.control.failure()).toContain("1-3");
  });
});

describe("somebody else's write", () => {
  test("to a blocked device is put back within a second, and a signal", async () => {
    const host = usbHost({ usb: plugged(STICK), mode: "TRUSTED" });
    await host.enter("TRUSTED");
    host.usb.tamper("1-3");
    await host.pass(1_000);
    expect(on(host.usb)).toEqual([]);
    expect(host.signals).toMatchObject([{ kind: "usb.changed", facts: { port: "1-3", what: "device" } }]);
    await host.pass(1_000);
    expect(host.signals.length).toBe(1);
  });

  test("to a refused interface, and to a controller, likewise", async () => {
    const host = usbHost({ mode: "TRUSTED" });
    await host.enter("TRUSTED");
    host.usb.plug(COMPOSITE);
    await host.look();
    host.usb.tamper("1-4", "1-4:1.1");
    await host.pass(1_000);
    expect(host.usb.open("1-4")).toEqual(["1-4:1.0"]);
    host.usb.defaults = { device: "1", interface: "0" };
    await host.pass(1_000);
    expect(host.usb.defaults).toEqual({ device: "0", interface: "0" });
    expect(host.signals.map(({ facts }) => facts["what"])).toEqual(["interface", "default"]);
  });

  test("that takes away is put back without a signal, but in LOCKDOWN it stays", async () => {
    const host = usbHost({ usb: plugged(KEYBOARD), mode: "COLDROOM" });
    await host.enter("COLDROOM");
    host.usb.deauthorize("1-1");
    await host.pass(1_000);
    expect(on(host.usb)).toEqual(["1-1"]);
    await host.enter("LOCKDOWN");
    expect(on(host.usb)).toEqual(["1-1"]);
    host.usb.deauthorize("1-1");
    await host.pass(1_000);
    expect(on(host.usb)).toEqual([]);
    expect(host.last("usb.decided")).toMatchObject({ why: "LOCKDOWN: nothing is authorised again" });
    expect(host.signals).toEqual([]);
  });
});

describe("the modes", () => {
  test("the operator's keyboard survives all of them, and nothing new comes into the closed ones", async () => {
    const host = usbHost({ usb: plugged(KEYBOARD, STICK, CAMERA, SERIAL, HUB, FAR_KEYBOARD) });
    const seen: string[] = [];
    for (const mode of MODES) {
      await host.enter(mode);
      seen.push(on(host.usb).join(" "));
    }
    expect(seen).toEqual([
      "1-1 1-3 1-5 1-6 1-6.1 1-7",
      "1-1 1-5 1-6 1-6.1",
      "1-1 1-5 1-6 1-6.1",
      "1-1 1-5 1-6 1-6.1",
      "1-1 1-6 1-6.1",
      "1-1 1-6 1-6.1",
    ]);
    host.usb.plug(MOUSE);
    await host.look();
    await host.enter("COLDROOM");
    expect(host.usb.isAuthorized("1-2")).toBe(false);
    await host.enter("RESTRICTED");
    expect(on(host.usb)).toEqual(["1-1", "1-2", "1-5", "1-6", "1-6.1"]);
  });

  test("after a reboot in LOCKDOWN the keyboard that was there comes back, and no other", async () => {
    const host = usbHost({ usb: plugged(KEYBOARD, STICK) });
    await host.enter("LOCKDOWN");
    host.control.stop();
    const clock = new FakeClock();
    clock.bootId = () => "11111111-0000-0000-0000-000000000000";
    const usb = new FakeUsb();
    usb.defaults = { device: "0", interface: "0" };
    usb.plug({ ...MOUSE, port: "1-9" });
    usb.plug(KEYBOARD);
    usb.plug(STICK);
    const next = usbHost({ usb, clock, memory: host.memory() });
    expect(next.control.gap()).toEqual(["usb 1-9: 046d:c077 was plugged in"]);
    await next.enter("LOCKDOWN");
    expect(on(usb)).toEqual(["1-1"]);
    usb.unplug("1-1");
    usb.plug(KEYBOARD);
    await next.look();
    expect(on(usb)).toEqual([]);
  });

  test("after a reboot the keyboard behind a hub comes back, over a restart and a fall meanwhile, and once only", async () => {
    const host = usbHost({ usb: plugged(HUB, FAR_KEYBOARD), mode: "AIRGAP", challengeKeyboards: true });
    await host.enter("AIRGAP");
    expect(on(host.usb)).toEqual(["1-6", "1-6.1"]);
    const clock = new FakeClock();
    clock.bootId = () => "11111111-0000-0000-0000-000000000000";
    const usb = new FakeUsb();
    usb.defaults = { device: "0", interface: "0" };
    usb.plug(HUB);
    const early = usbHost({ usb, clock, mode: "AIRGAP", memory: host.memory(), challengeKeyboards: true });
    early.log.state = "fails";
    await early.enter("AIRGAP");
    await early.enter("LOCKDOWN");
    expect(on(usb)).toEqual([]);
    const next = usbHost({ usb, clock, mode: "LOCKDOWN", memory: early.memory(), challengeKeyboards: true });
    await next.enter("LOCKDOWN");
    expect(on(usb)).toEqual(["1-6"]);
    usb.plug({ ...FAR_KEYBOARD, port: "1-6.2" });
    usb.plug(FAR_KEYBOARD);
    await next.look();
    expect(on(usb)).toEqual(["1-6", "1-6.1"]);
    usb.unplug("1-6.1");
    usb.plug(FAR_KEYBOARD);
    await next.look();
    expect(on(usb)).toEqual([]); // nor does the hub stay for it
  });

  test("what has not come back ten minutes after the start is new in the mode that is entered then", async () => {
    const host = usbHost({ usb: plugged(KEYBOARD) });
    await host.enter("OPEN");
    const clock = new FakeClock();
    clock.bootId = () => "11111111-0000-0000-0000-000000000000";
    const usb = new FakeUsb();
    const next = usbHost({ usb, clock, memory: host.memory() });
    await next.enter("OPEN");
    await next.pass(600_001);
    await next.enter("LOCKDOWN");
    usb.plug(KEYBOARD);
    await next.look();
    expect(on(usb)).toEqual([]);
  });

  test("a crash opens nothing, and the next start knows what came meanwhile", async () => {
    const host = usbHost({ usb: plugged(KEYBOARD) });
    await host.enter("RESTRICTED");
    host.usb.plug(STICK); // nobody is there
    expect(on(host.usb)).toEqual(["1-1"]);
    const next = usbHost({ usb: host.usb, clock: host.clock, memory: host.memory() });
    expect(next.control.gap()).toEqual(["usb 1-3: 0781:5581 was plugged in"]);
    await next.enter("LOCKDOWN");
    expect(on(next.usb)).toEqual(["1-1"]);
  });
});

describe("a person", () => {
  const RULES = "allow with-interface 03:*:*\nallow with-interface 09:*:*";

  test("allows for a time: through a re-plugging, and then it ends", async () => {
    const host = usbHost({ usb: plugged(STICK), rules: RULES });
    await host.enter("OPEN");
    const reply = await host.people.say("allow", wish("1-3", { forMs: 600_000 }));
    expect(reply.until).toBe("2026-01-01T00:10:00.000Z");
    await settled();
    expect(on(host.usb)).toEqual(["1-3"]);
    host.usb.unplug("1-3");
    await host.look();
    host.usb.plug({ ...STICK, port: "1-8" });
    await host.look();
    expect(on(host.usb)).toEqual(["1-8"]);
    await host.pass(599_000);
    expect(on(host.usb)).toEqual(["1-8"]);
    await host.pass(1_000);
    expect(on(host.usb)).toEqual([]);
    expect(host.store.text).toBeNull();
  });

  test("has said it for a time also across a restart, and a clock that is set back prolongs nothing", async () => {
    const host = usbHost({ usb: plugged(STICK), rules: RULES });
    await host.enter("OPEN");
    await host.people.say("allow", wish("1-3", { forMs: 600_000 }));
    const next = usbHost({ usb: host.usb, rules: RULES, clock: host.clock, memory: host.memory() });
    await next.enter("OPEN");
    expect(on(host.usb)).toEqual(["1-3"]);
    host.clock.realMs -= 300_000;
    await next.pass(1_000);
    expect(on(host.usb)).toEqual([]);
  });

  test("has said it for a time that a clock set back a little does not prolong", async () => {
    const host = usbHost({ usb: plugged(STICK), rules: RULES });
    await host.enter("OPEN");
    await host.people.say("allow", wish("1-3", { forMs: 600_000 }));
    await host.pass(300_000);
    host.clock.realMs -= 200_000;
    await host.pass(299_000);
    expect(on(host.usb)).toEqual(["1-3"]);
    await host.pass(1_000);
    expect(on(host.usb)).toEqual([]);
  });

  test("allows until it is unplugged, when he says no more than that", async () => {
    const host = usbHost({ usb: plugged(STICK), rules: RULES });
    await host.enter("OPEN");
    await host.people.say("allow", wish("0781:5581"));
    await settled();
    expect(on(host.usb)).toEqual(["1-3"]);
    host.usb.unplug("1-3");
    host.usb.plug(STICK);
    await host.look();
    expect(on(host.usb)).toEqual([]);
  });

  test("is heard only when it is recorded", async () => {
    const host = usbHost({ usb: plugged(STICK), rules: RULES });
    await host.enter("OPEN");
    host.log.state = "fails";
    await expect(host.people.say("allow", wish("1-3"))).rejects.toMatchObject({ code: "log-unavailable" });
    host.log.state = "works";
    await host.pass(1_000);
    expect(on(host.usb)).toEqual([]);
  });

  test("has allowed nothing when the mode was tightened before his word was on disk", async () => {
    const host = usbHost({ usb: plugged(STICK), rules: RULES });
    await host.enter("OPEN");
    host.log.state = "holds";
    const allowed = host.people.say("allow", wish("1-3", { forMs: 600_000 }));
    host.control.modeIs("TRUSTED");
    host.release();
    await allowed;
    await host.enter("OPEN");
    expect(on(host.usb)).toEqual([]);
    expect(host.memory()?.grants).toEqual([]);
  });

  test("keeps by his word the keyboard in use through a tightening, a crash and back; what is not there gets none", async () => {
    const host = usbHost({ usb: plugged(KEYBOARD, SERIAL), rules: "block", mode: "OPEN" });
    await host.enter("OPEN");
    for (const port of ["1-1", "1-5"]) await host.people.say("allow", wish(port, { forMs: 600_000 }));
    host.usb.unplug("1-5");
    await host.look();
    await host.pass(2_000);
    const before = host.memory();
    await host.enter("LOCKDOWN");
    expect(host.memory()?.grants).toMatchObject([{ by: "ana", storage: "no", mode: "LOCKDOWN" }]);
    // the crash came before the tightened picture was on disk
    const next = usbHost({ usb: host.usb, rules: "block", clock: host.clock, memory: before });
    await next.enter("LOCKDOWN");
    await next.enter("RESTRICTED");
    host.usb.plug(SERIAL);
    await next.look();
    expect(on(host.usb)).toEqual(["1-1"]);
  });

  test("blocks at once, beside the record", async () => {
    const host = usbHost({ usb: plugged(KEYBOARD), rules: RULES });
    await host.enter("OPEN");
    host.log.state = "fails";
    await expect(host.people.say("block", wish("1-1"))).rejects.toMatchObject({ code: "log-unavailable" });
    expect(on(host.usb)).toEqual([]);
  });

  test("in RESTRICTED lets storage in by word, from a terminal, and no rule does", async () => {
    const host = usbHost({ usb: plugged(STICK), rules: "allow", mode: "RESTRICTED" });
    await host.enter("RESTRICTED");
    expect(on(host.usb)).toEqual([]);
    const far = { name: "ana", terminal: "" };
    await expect(host.people.say("allow", wish("1-3", { by: far }))).rejects.toMatchObject({
      code: "usb-no-terminal",
    });
    await host.people.say("allow", wish("1-3"));
    await settled();
    expect(on(host.usb)).toEqual(["1-3"]);
    await host.enter("TRUSTED");
    expect(on(host.usb)).toEqual([]);
  });

  test.each([
    ["TRUSTED", "1-3", "usb-ceiling"],
    ["COLDROOM", "1-2", "usb-ceiling"],
    ["LOCKDOWN", "1-2", "usb-ceiling"],
    ["OPEN", "9-9", "usb-unknown"],
    ["OPEN", "046d:c31c", "usb-unknown"],
  ] as const)("in %s asks in vain for %s: %s", async (mode, device, code) => {
    const host = usbHost({
      usb: plugged(STICK, { ...KEYBOARD, port: "1-8" }, KEYBOARD),
      rules: "block",
      mode,
    });
    await host.enter(mode);
    host.usb.plug(MOUSE);
    await host.look();
    await expect(host.people.say("allow", wish(device))).rejects.toMatchObject({ code });
  });

  test("is refused while the clock is in doubt, and where USB is only watched", async () => {
    const host = usbHost({ usb: plugged(STICK), rules: "block" });
    await host.enter("OPEN");
    host.world.frozen = true;
    await expect(host.people.say("allow", wish("1-3"))).rejects.toMatchObject({ code: "clock-frozen" });
    const watched = usbHost({ usb: plugged(STICK), missing: ["the switch"] });
    await watched.enter("OPEN");
    await expect(watched.people.say("allow", wish("1-3"))).rejects.toMatchObject({ code: "usb-observed" });
  });

  test("for good writes a rule of its own, before all others, whose digest the log has", async () => {
    const host = usbHost({ usb: plugged(STICK, MOUSE), rules: "block" });
    await host.enter("OPEN");
    const { rule } = await host.people.say("allow", wish("1-3", { permanent: true }));
    expect(rule).toMatch(/^allow id 0781:5581 serial "4C53"/);
    expect(host.last("usb.rules")).toMatchObject({ digest: digestOf(host.store.text ?? ""), by: "ana" });
    expect(host.memory()?.rules).toBe(digestOf(host.store.text ?? ""));
    await host.people.say("block", wish("1-2", { permanent: true }));
    await host.people.say("block", wish("1-3", { permanent: true }));
    expect(host.store.text?.match(/^(allow|block)/gm)).toEqual(["block", "block"]);
    expect(host.rules.counts()).toEqual({ permanent: 2, configured: 1 });
    await host.people.say("allow", wish("1-3", { permanent: true }));
    const next = usbHost({ usb: host.usb, rules: "block", store: host.store, memory: host.memory() });
    host.usb.unplug("1-3");
    host.usb.plug(STICK);
    await next.enter("OPEN");
    expect(on(host.usb)).toEqual(["1-3"]);
  });

  test("for good allows one of a kind at its port, and refuses the kind at any", async () => {
    const host = usbHost({ usb: plugged(MOUSE), rules: "block" });
    await host.enter("OPEN");
    const say = (target: "allow" | "block", port: string) =>
      host.people.say(target, wish(port, { permanent: true }));
    const targets = () => host.store.text?.match(/^(allow|block)/gm);
    expect((await say("allow", "1-2")).rule).toContain('via-port "1-2"');
    const { rule } = await say("block", "1-2");
    expect(rule).not.toMatch(/via-port|parent-hash|with-connect-type/);
    expect(targets()).toEqual(["block"]);
    host.usb.plug({ ...MOUSE, port: "1-9" });
    await host.look();
    await say("allow", "1-9");
    expect(targets()).toEqual(["allow", "block"]);
    await host.pass(1_000);
    expect(on(host.usb)).toEqual(["1-9"]);
    await say("block", "1-9");
    expect(targets()).toEqual(["block"]);
    await host.pass(1_000);
    expect(on(host.usb)).toEqual([]);
  });

  test("finds no rules that the log did not sign", async () => {
    const store = new FakeRulesStore();
    store.text = "allow";
    const host = usbHost({ usb: plugged(STICK), rules: "block", store });
    await host.enter("OPEN");
    expect(on(host.usb)).toEqual([]);
    expect(host.people.status()).toMatchObject({
      state: "failed",
      detail: expect.stringContaining("not signed"),
    });
    await host.people.say("allow", wish("1-3", { permanent: true }));
    expect(host.store.text).toMatch(/^allow id 0781:5581/);
    expect(host.people.status().state).toBe("enforced");
  });

  test("has his rules again when they could not be read for one start", async () => {
    const host = usbHost({ usb: plugged(STICK), rules: "block" });
    await host.enter("OPEN");
    await host.people.say("allow", wish("1-3", { permanent: true }));
    const { text } = host.store;
    host.store.text = null;
    const blind = usbHost({ usb: host.usb, rules: "block", store: host.store, memory: host.memory() });
    await blind.enter("OPEN");
    expect(blind.people.status()).toMatchObject({ state: "failed", detail: expect.stringContaining("gone") });
    host.store.text = text;
    const next = usbHost({ usb: host.usb, rules: "block", store: host.store, memory: blind.memory() });
    expect(next.rules.counts().permanent).toBe(1);
  });

  test("whose rules cannot be read keeps what is in use, and has nothing new by the configuration's", async () => {
    const host = usbHost({ usb: plugged(KEYBOARD, SERIAL), chosen: false, mode: "RESTRICTED" });
    await host.enter("RESTRICTED");
    await host.people.say("block", wish("1-5", { permanent: true }));
    const { text } = host.store;
    host.store.text = "allow";
    const memory = host.memory();
    const next = usbHost({ usb: host.usb, chosen: false, store: host.store, clock: host.clock, memory });
    next.usb.unplug("1-5");
    for (const device of [SERIAL, MOUSE]) next.usb.plug(device);
    await next.enter("RESTRICTED");
    expect(on(next.usb)).toEqual(["1-1"]);
    expect(next.people.explain("1-5").device.why).toContain("not in use");
    for (const hold of ["shadow", "enforcing"] as const) {
      next.world.hold = hold;
      await next.pass(1_000);
    }
    expect(next.store.text).toBe("allow"); // what is kept at a first start is not written over them
    expect(next.memory()?.rules).toBe(digestOf(text ?? ""));
  });

  test("sees what is there, and why", async () => {
    const host = usbHost({ usb: plugged(STICK), rules: `block serial "X"\nallow with-interface 03:*:*` });
    await host.enter("OPEN");
    const { devices, controllers, rules } = host.people.list();
    expect(devices).toMatchObject([{ port: "1-3", authorized: "no", target: "block", hash: hashOf(STICK) }]);
    expect(controllers).toEqual([{ port: "usb1", newDevices: "refused", newInterfaces: "refused" }]);
    expect(rules).toEqual({ permanent: 0, configured: 2 });
    const told = host.people.explain("1-3");
    expect(told.rules.map(({ matched }) => matched)).toEqual([false, false]);
    expect(told.rules[0]?.because).toContain("serial");
    expect(host.people.propose({ ports: false, hashes: true }).text).toContain("0781:5581");
  });
});

test("what is shown fits into a frame, however many devices there are and whatever they call themselves", async () => {
  const host = usbHost({ rules: Array(2_000).fill('block serial "X"').join("\n") });
  await host.enter("OPEN");
  for (let at = 1; at <= 200; at++)
    host.usb.plug({ ...STICK, port: `1-${at}`, serial: "€".repeat(126), name: "€".repeat(126) });
  await host.look();
  const list = host.people.list();
  expect(list.devices.length + list.more).toBe(200);
  for (const reply of [list, host.people.explain("1-7")])
    expect(Buffer.byteLength(JSON.stringify(reply))).toBeLessThan(MAX_FRAME_BYTES - 1_024);
});

describe("time", () => {
  const OFFICE = "allow with-interface 08:*:* if localtime(00:00-00:59:59)\nblock";

  test("a window that closes does close, and opens again", async () => {
    const host = usbHost({ usb: plugged(STICK), rules: OFFICE });
    await host.enter("OPEN");
    expect(on(host.usb)).toEqual(["1-3"]);
    await host.pass(3_600_000);
    expect(on(host.usb)).toEqual([]);
    await host.pass(23 * 3_600_000);
    expect(on(host.usb)).toEqual(["1-3"]);
  });

  test("takes away what the mode let in between two doubts of the clock that no tick saw the end of", async () => {
    const host = usbHost({ usb: plugged(STICK), rules: OFFICE });
    await host.enter("OPEN");
    host.world.frozen = true;
    await host.pass(0);
    host.world.frozen = false;
    await host.enter("TRUSTED");
    await host.enter("OPEN");
    expect(on(host.usb)).toEqual(["1-3"]);
    host.world.frozen = true;
    await host.pass(500);
    expect(on(host.usb)).toEqual([]);
  });

  test("lets nothing in while the clock is in doubt", async () => {
    const host = usbHost({ usb: plugged(STICK), rules: OFFICE });
    await host.enter("OPEN");
    host.world.frozen = true;
    await host.pass(500);
    expect(on(host.usb)).toEqual([]);
    host.world.frozen = false;
    await host.pass(500);
    expect(on(host.usb)).toEqual(["1-3"]);
  });
});

describe("the hold", () => {
  test("in shadow nothing is written, and what would be refused is told and counted", async () => {
    const host = usbHost({ usb: plugged(KEYBOARD, STICK), hold: "shadow", mode: "TRUSTED" });
    await host.enter("TRUSTED");
    expect(host.usb.writes).toEqual([]);
    expect(host.last("usb.would-block")).toMatchObject({ port: "1-3", applied: "shadow" });
    expect(host.kinds()).not.toContain("usb.decided");
    expect(host.people.list().wouldBlock).toBe(1);
    expect(host.people.status().state).toBe("observed");
  });

  test("from shadow to enforcing keeps the keyboard when nobody has given rules", async () => {
    const usb = plugged(KEYBOARD, STICK);
    const host = usbHost({ usb, hold: "shadow", rules: "block", chosen: false });
    await host.enter("RESTRICTED");
    host.world.hold = "enforcing";
    await host.pass(500);
    expect(on(usb)).toEqual(["1-1"]);
  });

  test("released opens the controllers and lets everything in, shadow what we had closed ourselves", async () => {
    for (const hold of ["released", "shadow"] as const) {
      const host = usbHost({ usb: plugged(KEYBOARD, COMPOSITE, STICK), mode: "TRUSTED" });
      await host.enter("TRUSTED");
      expect(host.usb.open("1-4")).toEqual(["1-4:1.0"]);
      host.world.hold = hold;
      await host.pass(500);
      expect(host.usb.defaults).toEqual({ device: "1", interface: "1" });
      expect(on(host.usb)).toEqual(["1-1", "1-3", "1-4"]);
      expect(host.usb.open("1-4")).toEqual(["1-4:1.0", "1-4:1.1"]);
      host.world.hold = "enforcing";
      await host.pass(500);
      expect(on(host.usb)).toEqual(["1-1", "1-4"]);
      expect(host.usb.defaults).toEqual({ device: "0", interface: "0" });
    }
  });

  test("watched only, nothing is written; what comes and goes is known all the same", async () => {
    const host = usbHost({ usb: plugged(STICK), missing: ["the switch"], mode: "LOCKDOWN" });
    await host.enter("LOCKDOWN");
    expect(host.usb.writes).toEqual([]);
    expect(host.control.failure()).toBe("");
    expect(host.memory()?.known.map(({ port }) => port)).toEqual(["usb1", "1-3"]);
  });
});

describe("in the whole daemon", () => {
  test("a trip tightens USB in its own turn, before its record is on disk; a loosening waits for its own", async () => {
    const part = usbHost({ usb: plugged(KEYBOARD, STICK), mode: "OPEN" });
    const host = await startHost({ mode: "OPEN", usb: part.control });
    expect(on(part.usb)).toEqual(["1-1", "1-3"]);
    host.store.behaviour = "holds";
    host.signal("network.link", { interface: "eth1", change: "up" });
    expect(on(part.usb)).toEqual(["1-1"]);
    host.store.release();
    await settled();
    expect(host.daemon.assurance()).toBe("enforced");
    part.usb.fails.add("1-1");
    part.usb.tamper("1-3");
    part.usb.fails.add("1-3");
    part.clock.pass(1_000);
    host.daemon.tick();
    expect(host.daemon.assurance()).toBe("failed");
  });

  test("what is plugged in is decided when its signal has been heard", async () => {
    const part = usbHost({ mode: "OPEN" });
    const usb = trip("usb", "usb.device");
    const host = await startHost({ mode: "OPEN", usb: part.control, tripwires: [usb] });
    part.usb.plug(MOUSE);
    host.signal("usb.device", {
      change: "attached",
      port: "1-2",
      vendor: "046d",
      product: "c077",
      classes: "",
    });
    await settled();
    expect(host.daemon.state().wanted).toBe("LOCKDOWN");
    expect(on(part.usb)).toEqual([]);
  });

  test("a clean stop has the picture in the log before its last record", async () => {
    const part = usbHost({ mode: "OPEN" });
    const host = await startHost({ mode: "OPEN", usb: part.control });
    part.usb.plug(MOUSE);
    await part.look();
    await host.daemon.stop("test");
    expect(part.memory()?.known.map(({ port }) => port)).toEqual(["usb1", "1-2"]);
    expect(host.kinds().at(-1)).toBe("daemon.stopped");
    const count = part.records.length;
    part.usb.plug(STICK);
    part.control.look();
    part.control.tick();
    expect(part.records.length).toBe(count);
  });
});

describe("whatever happens", () => {
  let boots = 0;
  const twin = { ...MOUSE, port: "1-8" };
  const devices = [KEYBOARD, MOUSE, STICK, COMPOSITE, SERIAL, HUB, FAR_KEYBOARD, CAMERA, twin];
  const RULES = [
    "allow id 046d:c077",
    "reject with-interface one-of { 06:*:* }",
    "allow with-interface 03:*:*",
    "allow with-interface 09:*:*",
    "allow with-interface one-of { 08:*:* }",
    "allow with-interface ff:*:* if localtime(00:00-00:29:59)",
  ].join("\n");
  const step = fc.oneof(
    fc.record({
      do: fc.constantFrom(
        "plug",
        "unplug",
        "tamper",
        "deauthorize",
        "allow",
        "block",
        "allow-plug",
        "block-plug",
        "from-afar",
      ),
      device: fc.nat(8),
    }),
    fc.record({ do: fc.constant("mode" as const), device: fc.nat(5) }),
    fc.record({
      do: fc.constantFrom("pass", "fail", "heal", "freeze", "room", "hold-log", "restart", "reboot"),
      device: fc.nat(7),
    }),
  );

  test("nothing is on that the mode, the rules and people refuse, once all has settled", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 30, size: "max" }), async (steps) => {
        let host = usbHost({ rules: RULES, usb: plugged(...devices) });
        await host.enter("OPEN");
        const refused = new Set<string>(); // what a person refused until it is unplugged, by its instance
        for (const each of steps) {
          const one = devices[each.device] ?? KEYBOARD;
          const { usb } = host;
          const ask = (target: "allow" | "block", over: object = { forMs: 120_000 }) =>
            host.people.say(target, wish(one.port, over)).catch(() => undefined);
          const instance = usb.plugged.get(one.port)?.instance ?? "";
          switch (each.do) {
            case "plug":
              if (one !== FAR_KEYBOARD || usb.plugged.has(HUB.port)) usb.plug(one);
              await host.look();
              break;
            case "unplug":
              usb.unplug(one.port);
              await host.look();
              break;
            case "tamper":
              usb.tamper(one.port);
              break;
            case "deauthorize":
              usb.deauthorize(one.port);
              break;
            case "allow":
            case "block":
              refused.delete(instance); // the newest word is the one that counts
              void ask(each.do);
              await settled();
              break;
            case "allow-plug":
            case "from-afar":
              refused.delete(instance);
              void ask("allow", each.do === "from-afar" ? { by: { name: "agent", terminal: "" } } : {});
              await settled();
              break;
            case "block-plug":
              await host.look();
              if (usb.plugged.has(one.port) && !usb.fails.has("list")) refused.add(instance);
              void ask("block", {});
              await settled();
              break;
            case "mode":
              await host.enter(MODES[each.device] ?? "LOCKDOWN");
              break;
            case "pass":
              await host.pass(each.device * 60_000);
              break;
            case "fail":
              usb.fails.add(one.port);
              break;
            case "heal":
              usb.fails.clear();
              break;
            case "freeze":
              host.world.frozen = !host.world.frozen;
              break;
            case "room":
              host.world.room = !host.world.room;
              break;
            case "hold-log":
              host.log.state = "holds";
              break;
            case "restart": {
              host.release();
              await settled();
              const { mode, frozen } = host.world;
              host.control.stop();
              host = usbHost({ rules: RULES, usb, clock: host.clock, memory: host.memory(), mode });
              host.world.frozen = frozen;
              await host.enter(mode);
              break;
            }
            case "reboot": {
              host.release();
              await settled();
              const { mode } = host.world;
              host.control.stop();
              refused.clear();
              boots += 1;
              const clock = new FakeClock();
              const boot = `boot ${boots}`;
              clock.bootId = () => boot;
              clock.realMs = host.clock.realMs;
              const again = new FakeUsb();
              again.defaults = { device: "0", interface: "0" };
              for (const { device } of usb.plugged.values()) again.plug(device);
              host = usbHost({ rules: RULES, usb: again, clock, memory: host.memory(), mode });
              await host.enter(mode);
              break;
            }
          }
          holdsNow(host);
        }
        host.usb.fails.clear();
        host.world.room = true; // what failed is not tried again before
        host.release();
        await host.pass(1_000);
        await host.pass(1_000);
        await settled();
        expect(host.control.failure()).toBe("");
        for (const held of host.control.devices()) {
          if (isController(held.look)) continue;
          const verdict = host.control.judge(held, null);
          const open = host.usb.open(held.look.port);
          const allowed = verdict.interfaces.flatMap(({ name, allow }) => (allow ? [name] : []));
          if (verdict.device !== "allow") expect(host.usb.isAuthorized(held.look.port)).toBe(false);
          if (refused.has(held.look.instance)) expect(host.usb.isAuthorized(held.look.port)).toBe(false);
          for (const name of open) expect(allowed).toContain(name);
        }
        holdsNow(host);
      }),
      { numRuns: 300 },
    );
  }, 60_000);

  /** At every moment in which nothing fails and nobody else has written: no storage that we let in where none may be. */
  function holdsNow(host: ReturnType<typeof usbHost>): void {
    if (host.usb.fails.size > 0) return;
    for (const held of host.control.devices()) {
      if (!held.confirmed || isController(held.look)) continue;
      const { verdict } = held;
      if (verdict.device !== "allow" || host.world.mode === "OPEN") continue;
      const isSaid = held.verdict.rule === "allow by ana"; // at his terminal
      if (host.world.mode === "RESTRICTED" && isSaid) continue;
      const on = verdict.interfaces.flatMap(({ name, allow }) => (allow ? [name] : []));
      const storage = subjectOf(held).interfaces.filter((each) => isStorage(each) && on.includes(each.name));
      expect(storage).toEqual([]);
    }
  }
});
