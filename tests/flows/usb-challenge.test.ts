import { describe, expect, test } from "vitest";
import type { BoundaryError } from "../../daemon/core/errors.ts";
import type { KeyboardChallenge } from "../../daemon/ports.ts";
import { COMPOSITE, FakeUsb, KEYBOARD, MOUSE, STICK } from "../support/fake-usb.ts";
import { settled } from "../support/host.ts";
import { ANA_AT_TERMINAL, usbHost } from "../support/usb-host.ts";

type End = Awaited<ReturnType<KeyboardChallenge["run"]>>;
const PASSED: End = { kind: "passed" };

/** A host that challenges, and a keyboard plugged into it while it runs; `end` ends the challenge under way. */
async function challenged(mode: "RESTRICTED" | "AIRGAP" | "OPEN" = "RESTRICTED", over: object = {}) {
  const usb = new FakeUsb();
  const asked: Parameters<KeyboardChallenge["run"]>[] = [];
  let end: (how: End | Error) => void = () => undefined;
  const keyboard: KeyboardChallenge = {
    run: (...given) => {
      asked.push(given);
      usb.tamper(given[0].port); // what the adapter does: authorised, with nothing bound
      return new Promise((resolve, reject) => {
        end = (how) => {
          usb.deauthorize(given[0].port);
          if (how instanceof Error) reject(how);
          else resolve(how);
        };
      });
    },
  };
  const host = usbHost({ usb, mode, keyboard, challengeKeyboards: true, ...over });
  await host.enter(mode);
  usb.plug(KEYBOARD);
  await host.look();
  return {
    ...host,
    asked,
    async end(how: End | Error) {
      end(how);
      await settled();
    },
    outcomes: () =>
      host.records.filter(({ kind }) => kind === "usb.challenged").map(({ data }) => data["outcome"]),
    on: () => usb.isAuthorized("1-1"),
  };
}

function codeOf(act: () => unknown): string {
  try {
    act();
    return "done";
  } catch (error) {
    return (error as BoundaryError).code;
  }
}

describe("where new keyboards are challenged", () => {
  test("one that the rules allow waits, and is let in for this plugging-in when its code was typed", async () => {
    const host = await challenged();
    expect(host.on()).toBe(false);
    expect(host.people.explain("1-1").device).toMatchObject({
      target: "block",
      why: expect.stringContaining("challenge"),
    });
    const told = host.people.challenge("1-1", ANA_AT_TERMINAL);
    expect(told).toMatchObject({ port: "1-1", id: "046d:c31c", code: "407319" });
    expect(host.asked).toEqual([
      [
        { port: "1-1", number: "2" },
        { code: "407319", timeoutMs: 60_000, maxPerSecond: 40 },
      ],
    ]);
    await host.end(PASSED);
    expect(host.on()).toBe(true);
    expect(host.outcomes()).toEqual(["begun", "passed"]);
    expect(host.last("usb.granted")).toMatchObject({ port: "1-1", target: "allow", by: "ana, by challenge" });
    expect(JSON.stringify(host.records)).not.toContain("407319");
    host.usb.unplug("1-1");
    host.usb.plug(KEYBOARD);
    await host.look();
    expect(host.on()).toBe(false); // whatever it says it is, it is another one
  });

  test("is left alone by the control meanwhile, and nothing of it counts as let in", async () => {
    const host = await challenged();
    host.people.challenge("1-1", ANA_AT_TERMINAL);
    const writes = host.usb.writes.length;
    await host.look();
    await host.pass(5_000);
    expect(host.usb.writes).toHaveLength(writes);
    expect(host.signals).toEqual([]);
    expect(host.memory()?.known.find(({ port }) => port === "1-1")?.authorized).toBe(false);
    await host.end({ kind: "timeout" });
    expect(host.on()).toBe(false);
    expect(host.signals).toEqual([]);
  });

  test.each<[string, End | Error]>([
    ["wrong", { kind: "wrong" }],
    ["timeout", { kind: "timeout" }],
    ["gone", { kind: "gone", why: "unplugged" }],
    ["failed", new Error("the interface is busy")],
  ])("one that ends as %s stays out, and may be challenged again", async (outcome, how) => {
    const host = await challenged();
    host.people.challenge("1-1", ANA_AT_TERMINAL);
    expect(codeOf(() => host.people.challenge("1-1", ANA_AT_TERMINAL))).toBe("usb-challenge-busy");
    await host.end(how);
    expect(host.on()).toBe(false);
    expect(host.outcomes()).toEqual(["begun", outcome]);
    expect(codeOf(() => host.people.challenge("1-1", ANA_AT_TERMINAL))).toBe("done");
  });

  test("keystrokes that no person typed are a signal, and it stays out", async () => {
    const host = await challenged();
    host.people.challenge("1-1", ANA_AT_TERMINAL);
    await host.end({ kind: "injected", injection: { keys: 8, milliseconds: 90, why: "too fast" } });
    expect(host.on()).toBe(false);
    const facts = { port: "1-1", id: "046d:c31c", keys: "8", milliseconds: "90", why: "too fast" };
    expect(host.signals).toMatchObject([{ kind: "usb.keystrokes", facts }]);
  });

  test("a mode that comes meanwhile takes it away at once; the code let it in only where the new mode does", async () => {
    const host = await challenged();
    host.people.challenge("1-1", ANA_AT_TERMINAL);
    host.control.modeIs("LOCKDOWN");
    expect(host.on()).toBe(false);
    expect(host.signals).toEqual([]);
    await host.end(PASSED);
    expect(host.on()).toBe(false);
  });

  test("a stop takes it away too", async () => {
    const host = await challenged();
    host.people.challenge("1-1", ANA_AT_TERMINAL);
    expect(host.on()).toBe(true);
    host.control.stop();
    expect(host.on()).toBe(false);
  });

  test("a person's word lets it in without one; what cannot type needs none; a mouse can", async () => {
    const host = await challenged("OPEN");
    for (const device of [MOUSE, STICK, COMPOSITE]) host.usb.plug(device);
    await host.look();
    expect(["1-2", "1-3", "1-4"].map((port) => host.usb.isAuthorized(port))).toEqual([false, true, false]);
    await host.people.say("allow", { device: "1-1", permanent: false, forMs: null, by: ANA_AT_TERMINAL });
    await settled();
    expect(host.on()).toBe(true);
  });

  test("a keyboard that is there at a start without a log is in use, and is not asked", async () => {
    const usb = new FakeUsb();
    usb.plug(KEYBOARD);
    const host = usbHost({ usb, challengeKeyboards: true });
    await host.enter("RESTRICTED");
    expect(usb.isAuthorized("1-1")).toBe(true);
  });
});

describe("a challenge is refused", () => {
  test("without a terminal, when allowed already, above the mode's ceiling, while the clock is in doubt, when only watched", async () => {
    const host = await challenged();
    expect(codeOf(() => host.people.challenge("1-1", { name: "ana", terminal: "" }))).toBe("usb-no-terminal");
    expect(codeOf(() => host.people.challenge("1-9", ANA_AT_TERMINAL))).toBe("usb-unknown");
    host.world.frozen = true;
    expect(codeOf(() => host.people.challenge("1-1", ANA_AT_TERMINAL))).toBe("clock-frozen");
    host.world.frozen = false;
    await host.enter("LOCKDOWN");
    expect(codeOf(() => host.people.challenge("1-1", ANA_AT_TERMINAL))).toBe("usb-ceiling");
    const seen = await challenged("OPEN", { missing: ["its switch"] });
    expect(codeOf(() => seen.people.challenge("1-1", ANA_AT_TERMINAL))).toBe("usb-observed");
    const open = await challenged("OPEN", { challengeKeyboards: false });
    expect(codeOf(() => open.people.challenge("1-1", ANA_AT_TERMINAL))).toBe("usb-challenge-failed");
    expect(host.asked).toEqual([]);
  });
});

test("what injects keystrokes is taken away at once, in any mode, until it is plugged in again", async () => {
  const host = await challenged("OPEN", { challengeKeyboards: false });
  expect(host.on()).toBe(true);
  host.log.state = "holds";
  host.challenges.injected("1-1");
  expect(host.on()).toBe(false); // waits for no record
  host.challenges.injected("1-9");
  host.release();
  await settled();
  expect(host.last("usb.granted")).toMatchObject({ target: "block", by: "injected keystrokes" });
  host.usb.unplug("1-1");
  host.usb.plug(KEYBOARD);
  await host.look();
  expect(host.on()).toBe(true);
});
