import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isStricter, MODES } from "../../daemon/core/mode.ts";
import { redactValue } from "../../daemon/core/redact.ts";
import {
  type AwaitedUsb,
  awaitedIn,
  awaitedName,
  grantFor,
  type KnownUsb,
  liveGrants,
  readUsbMemory,
  renderUsbMemory,
  tightenedGrants,
  type UsbGrant,
  type UsbKind,
  type UsbMemory,
  usbGap,
  usbKey,
  usbPlug,
  withGrant,
} from "../../daemon/core/usb-memory.ts";

const short = fc.string({ maxLength: 20 });
const kind = fc.constantFrom<UsbKind[]>("input", "hub", "other");
const awaited: fc.Arbitrary<AwaitedUsb> = fc.record({ port: short, id: short, key: short, kind });
const known: fc.Arbitrary<KnownUsb> = fc.record({
  port: short,
  id: short,
  key: short,
  plug: short,
  authorized: fc.boolean(),
  kind,
});
const grant: fc.Arbitrary<UsbGrant> = fc.record({
  key: fc.constantFrom("a", "b", "c", "d"),
  target: fc.constantFrom("allow", "block", "reject"),
  by: short,
  fromMs: fc.nat(),
  untilMs: fc.option(fc.nat()),
  plug: fc.constantFrom("", "boot 1-1 5", "boot 1-2 6"),
  mode: fc.constantFrom(...MODES),
  storage: fc.constantFrom("at-terminal", "from-afar", "no"),
});
const memory: fc.Arbitrary<UsbMemory> = fc.record({
  boot: short,
  closed: fc.boolean(),
  known: fc.array(known, { maxLength: 20 }),
  more: fc.nat(),
  awaited: fc.array(awaited, { maxLength: 20 }),
  grants: fc.array(grant, { maxLength: 20 }),
  rules: short,
});

describe("what the log remembers of USB", () => {
  test("comes back as it was, what is authorised first", () => {
    fc.assert(
      fc.property(memory, (one) => {
        const read = readUsbMemory(renderUsbMemory(one));
        const sorted = one.known.toSorted((a, b) => Number(b.authorized) - Number(a.authorized));
        expect(read).toEqual({ ...one, known: sorted });
      }),
    );
  });

  test("passes the log's redaction as it is", () => {
    const plug = usbPlug("0b5f0f2e-4d5a-4c3b-9a54-0d6c1f0e2a11", {
      port: "1-2",
      number: "5",
      instance: "81234",
    });
    const hash = createHash("sha256").update("descriptors").digest("base64");
    fc.assert(
      fc.property(fc.string(), (serial) => {
        const key = usbKey({ id: "1111:2222", serial, hash });
        const device = { port: "1-2", id: "1111:2222", key, kind: "input" } as const;
        const known = [{ ...device, plug, authorized: true }];
        const said = { mode: "OPEN", storage: "no", fromMs: 1, untilMs: null } as const;
        const grants = [{ key, target: "allow", by: "olga", plug, ...said } as const];
        const one = { boot: "b", closed: true, known, more: 0, awaited: [device], grants, rules: "" };
        expect(readUsbMemory(redactValue(renderUsbMemory(one)))).toEqual(one);
      }),
    );
  });

  test("is bounded, and says how many devices found no room", () => {
    const one = {
      port: "1-1",
      id: "1111:2222",
      key: "k".repeat(32),
      plug: "b".repeat(60),
      authorized: false,
      kind: "other" as const,
    };
    const many = Array.from({ length: 1_000 }, (_, at) => ({
      ...one,
      port: `1-${at}`,
      authorized: at === 999,
    }));
    const full = { boot: "b", closed: true, known: many, more: 0, awaited: [], grants: [], rules: "" };
    const data = renderUsbMemory(full);
    expect(JSON.stringify(data).length).toBeLessThan(40_000);
    expect(readUsbMemory(data)).toMatchObject({ more: 936 });
    expect(readUsbMemory(data)?.known[0]?.port).toBe("1-999");
  });

  test("that cannot be read is none at all", () => {
    const good = renderUsbMemory({
      boot: "b",
      closed: false,
      known: [],
      more: 0,
      awaited: [],
      grants: [],
      rules: "",
    });
    const grants = [{ device: "k", target: "allow", by: "a", fromMs: 1, untilMs: "soon", plug: "" }];
    for (const bad of [
      {},
      { ...good, known: "" },
      { ...good, grants },
      { ...good, known: ["x"] },
      { ...good, boot: 1 },
    ])
      expect(readUsbMemory(bad)).toBeNull();
  });
});

describe("what is to come back after a reboot", () => {
  test("is what was authorised, and what did not come in the boot before; in one boot what has not come yet", () => {
    fc.assert(
      fc.property(memory, (one) => {
        expect(awaitedIn(one, one.boot)).toEqual(one.awaited);
        const names = new Set(awaitedIn(one, `${one.boot}+1`).map(awaitedName));
        const on = one.known.filter(({ authorized, port }) => authorized && !port.startsWith("usb"));
        expect(names).toEqual(new Set([...on, ...one.awaited].map(awaitedName)));
      }),
    );
    expect(awaitedIn(null, "b")).toEqual([]);
  });

  test("is bounded, keyboards first", () => {
    const many = Array.from({ length: 300 }, (_, at) => ({
      port: `1-${at}`,
      id: "1111:2222",
      key: "k",
      plug: "p",
      authorized: true,
      kind: at === 299 ? ("input" as const) : ("other" as const),
    }));
    const full = { boot: "b", closed: true, known: many, more: 0, awaited: [], grants: [], rules: "" };
    const list = awaitedIn(full, "c");
    expect([list.length, list[0]?.port]).toEqual([32, "1-299"]);
  });
});

describe("grants", () => {
  const base: UsbGrant = {
    key: "a",
    target: "allow",
    by: "ana",
    fromMs: 1_000_000,
    untilMs: 2_000_000,
    plug: "",
    mode: "OPEN",
    storage: "at-terminal",
  };
  const none = new Set<string>();
  const live = (grants: readonly UsbGrant[], nowMs: number, plugs = none, isOver = nowMs >= 2_000_000) =>
    liveGrants(grants, { nowMs, isOver: () => isOver }, plugs);

  test("end when their time does, and when the clock is set to before they were given; a block holds on", () => {
    expect(live([base], 1_999_999, none)).toEqual([base]);
    expect(live([base], 2_000_000, none)).toEqual([]);
    expect(live([base], 500_000, none)).toEqual([]);
    expect(live([{ ...base, target: "block" }], 500_000, none).length).toBe(1);
    expect(live([{ ...base, plug: "p" }], 1_500_000, none)).toEqual([]);
    expect(live([base], 1_500_000, none, true)).toEqual([]);
    const block = { ...base, target: "block" as const };
    const ends = [1_500_000, 2_500_000].flatMap((nowMs) =>
      [true, false].map((isOver) => live([block], nowMs, none, isOver).length),
    );
    expect(ends).toEqual([1, 1, 0, 1]);
    expect(live([{ ...base, plug: "p" }], 1_500_000, new Set(["p"])).length).toBe(1);
  });

  test("there is one for a device and plugging-in, the newest; where there is no room those that allow go first", () => {
    fc.assert(
      fc.property(fc.array(grant, { maxLength: 30 }), (given) => {
        const all = given.reduce<readonly UsbGrant[]>((had, one) => withGrant(had, one), []);
        expect(new Set(all.map(({ key, plug }) => `${key} ${plug}`)).size).toBe(all.length);
        const last = given.at(-1);
        if (last) expect(grantFor(all, last.key, last.plug)).toEqual(last);
      }),
    );
    const blocks = Array.from({ length: 31 }, (_, at) => ({
      ...base,
      key: `b${at}`,
      target: "block" as const,
    }));
    const full = withGrant(withGrant(blocks, base), { ...base, key: "next" });
    expect(full.length).toBe(32);
    expect(full.some(({ key }) => key === "a")).toBe(false);
    expect(full.filter(({ target }) => target === "block").length).toBe(31);
  });

  test("of devices that are alike are apart, unless one refuses them wherever they are", () => {
    const at = (plug: string, target: "allow" | "block"): UsbGrant => ({
      ...base,
      plug,
      target,
      untilMs: null,
    });
    const said = (...list: readonly (readonly [UsbGrant, string])[]) =>
      list.reduce<readonly UsbGrant[]>((had, [one, about]) => withGrant(had, one, about), []);
    const both = said([at("p", "block"), "p"], [at("q", "allow"), "q"]);
    expect(["p", "q", "r"].map((plug) => grantFor(both, "a", plug)?.target)).toEqual([
      "block",
      "allow",
      undefined,
    ]);
    const anywhere = said([at("p", "block"), "p"], [at("q", "block"), "q"], [at("", "allow"), "q"]);
    expect(["p", "q", "r"].map((plug) => grantFor(anywhere, "a", plug)?.target)).toEqual([
      "block",
      "allow",
      "allow",
    ]);
    const nowhere = said([at("p", "allow"), "p"], [at("", "block"), "q"]);
    expect(["p", "q"].map((plug) => grantFor(nowhere, "a", plug)?.target)).toEqual(["block", "block"]);
    const apart = said([at("p", "block"), "p"], [{ ...at("", "block"), untilMs: 5 }, "q"]);
    expect(grantFor(apart, "a", "p")?.untilMs).toBeNull(); // a refusal for a time shortens none of another
  });

  test("that allow reach no storage once the mode is stricter, and go where nothing of theirs stays; others stand", () => {
    fc.assert(
      fc.property(
        fc.array(grant),
        fc.option(fc.constantFrom(...MODES)),
        fc.constantFrom(...MODES),
        fc.boolean(),
        (given, before, now, stays) => {
          const left = tightenedGrants(given, { before, now }, () => stays);
          expect(left.filter(({ target }) => target !== "allow")).toEqual(
            given.filter(({ target }) => target !== "allow"),
          );
          for (const one of left.filter(({ target }) => target === "allow")) {
            expect(isStricter(now, one.mode)).toBe(false);
            if (before !== null && isStricter(now, before))
              expect([one.storage, stays]).toEqual(["no", true]);
          }
          if (stays) expect(left.length).toBe(given.length);
          expect(tightenedGrants(left, { before: now, now }, () => false)).toEqual(left);
        },
      ),
    );
  });

  test("are for a device: another serial, id or hash is another", () => {
    const one = { id: "1111:2222", serial: "s", hash: "h" };
    const keys = [one, { ...one, serial: "t" }, { ...one, id: "1111:2223" }, { ...one, hash: "i" }].map(
      usbKey,
    );
    expect(new Set(keys).size).toBe(4);
    expect(grantFor([{ ...base, plug: "p" }], "a", "q")).toBeNull();
  });
});

describe("the gap", () => {
  const at = (port: string, key: string, number = "5", boot = "b1", instance = "70"): KnownUsb => ({
    port,
    id: "1:1",
    key,
    plug: usbPlug(boot, { port, number, instance }),
    authorized: true,
    kind: "input",
  });
  const had = (...list: KnownUsb[]): UsbMemory => ({
    boot: "b1",
    closed: true,
    known: list,
    more: 0,
    awaited: [],
    grants: [],
    rules: "",
  });

  test("names what came, what went, and what was pulled out and put back", () => {
    expect(
      usbGap(had(at("1-1", "a"), at("1-2", "b")), [at("1-1", "a"), at("1-3", "c")], "same-boot"),
    ).toEqual(["usb 1-2: 1:1 was unplugged", "usb 1-3: 1:1 was plugged in"]);
    expect(usbGap(had(at("1-1", "a")), [at("1-1", "a", "9")], "same-boot").length).toBe(2);
    expect(usbGap(had(at("1-1", "a")), [at("1-1", "a", "5", "b1", "71")], "same-boot").length).toBe(2);
  });

  test("after a reboot the kernel's numbers say nothing, and another device at a port is another", () => {
    expect(usbGap(had(at("1-1", "a")), [at("1-1", "a", "2", "b2")], "rebooted")).toEqual([]);
    expect(usbGap(had(at("1-1", "a")), [at("1-1", "x", "2", "b2")], "rebooted").length).toBe(2);
    expect(usbGap({ ...had(), more: 3 }, [], "rebooted")).toEqual([
      "usb: 3 more devices were there, and not remembered",
    ]);
  });
});
