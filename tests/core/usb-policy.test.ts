import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MODES, type Mode } from "../../daemon/core/mode.ts";
import { posture } from "../../daemon/core/posture.ts";
import {
  decideUsb,
  isHub,
  isInputDevice,
  isStorage,
  storageDriverOf,
  type UsbInterface,
  type UsbQuestion,
  type UsbWord,
} from "../../daemon/core/usb-policy.ts";

const KEYBOARD = [["03:01:01"], ["03:00:00"]];
const MOUSE = [["03:01:02"]];
const STICK = [["08:06:50"]];
const CAMERA = [["06:01:01"]];
const BOTH = [["03:01:01"], ["08:06:50"]];
const VENDOR = [["ff:00:00"]];
const HIDDEN_STORAGE = [["ff:00:00", "08:06:50"]];
const SECURITY_KEY = [["03:00:00"]];
const HUB = [["09:00:00"]];
const ODD = [["03:01:01"], ["ff:00:00"]];

const word = (over: Partial<UsbWord> = {}): UsbWord => ({
  target: "allow",
  rule: "allow",
  names: false,
  why: "a rule",
  validUntilMs: null,
  ...over,
});

function interfacesOf(codes: readonly (readonly string[])[], driver = ""): readonly UsbInterface[] {
  return codes.map((each, index) => ({ name: `1-1:1.${index}`, codes: each, driver }));
}

type Over = Omit<Partial<UsbQuestion>, "subject" | "posture"> & {
  readonly problem?: string;
  readonly authorized?: boolean;
  readonly controller?: boolean;
  readonly driver?: string;
};

function ask(mode: Mode, codes: readonly (readonly string[])[], over: Over = {}): UsbQuestion {
  const { problem = null, authorized = false, controller = false, driver = "", ...rest } = over;
  const facts = {
    port: controller ? "usb1" : "1-1",
    id: "1111:2222",
    name: "",
    serial: "",
    hash: "h",
    parentHash: "",
    interfaces: codes.flat(),
    connectType: "",
  };
  return {
    posture: posture(mode),
    hold: "enforcing",
    subject: { facts, controller, interfaces: interfacesOf(codes, driver), problem, authorized },
    standing: "new",
    carriesInput: false,
    byRules: word(),
    byPerson: null,
    ...rest,
  };
}

/** "yes" for all of it, "no", or the numbers of the interfaces that are let in. */
function answer(question: UsbQuestion): string {
  const { device, interfaces } = decideUsb(question);
  if (device !== "allow") return "no";
  const on = interfaces.flatMap(({ allow }, index) => (allow ? [index] : []));
  return on.length === interfaces.length ? "yes" : on.join(",");
}

const row = (codes: readonly (readonly string[])[], over: Over = {}) =>
  MODES.map((mode) => answer(ask(mode, codes, over))).join(" ");

describe("what the modes let in, OPEN to LOCKDOWN", () => {
  const kept = { standing: "kept", authorized: true } as const;
  const named = { byRules: word({ names: true }) };
  const granted = { byPerson: word({ names: true, storage: "at-terminal" }) };
  const afar = { byPerson: word({ names: true, storage: "from-afar" }) };
  const nothingElse = { byRules: word({ target: "block" }) };

  test.each([
    ["a new keyboard by a rule for all", KEYBOARD, {}, "yes yes yes no no no"],
    ["a new keyboard by a rule that names it", KEYBOARD, named, "yes yes yes yes no no"],
    ["a new keyboard by a person", KEYBOARD, granted, "yes yes yes yes no no"],
    ["the keyboard in use", KEYBOARD, kept, "yes yes yes yes yes yes"],
    ["the mouse in use", MOUSE, kept, "yes yes yes yes yes yes"],
    ["the keyboard of before a reboot", KEYBOARD, { standing: "restored" }, "yes yes yes yes yes yes"],
    [
      "a keyboard that was let in and is not any more",
      KEYBOARD,
      { standing: "kept" },
      "yes yes yes yes yes no",
    ],
    ["a stick by a rule", STICK, named, "yes no no no no no"],
    ["a stick by a person", STICK, granted, "yes yes no no no no"],
    ["a stick by a person without a terminal", STICK, afar, "yes no no no no no"],
    ["a stick by a word of before", STICK, { ...nothingElse, byPerson: word() }, "no no no no no no"],
    ["a stick by a word of before, and by a rule", STICK, { byPerson: word() }, "yes no no no no no"],
    ["both in one by a word of before", BOTH, { ...nothingElse, byPerson: word() }, "0 0 0 no no no"],
    ["a stick that was there", STICK, { ...kept, ...granted }, "yes yes no no no no"],
    ["a camera by a rule", CAMERA, named, "yes no no no no no"],
    ["keyboard and storage in one", BOTH, named, "yes 0 0 0 no no"],
    ["keyboard and storage in one, by a person", BOTH, granted, "yes yes 0 0 no no"],
    ["keyboard and storage in one, in use", BOTH, kept, "yes 0 0 no no no"],
    ["storage behind an alternate setting", HIDDEN_STORAGE, named, "yes no no no no no"],
    ["a vendor's own class", VENDOR, named, "yes yes yes yes no no"],
    [
      "a vendor's own class that a storage driver took",
      VENDOR,
      { ...named, driver: "usb-storage" },
      "yes no no no no no",
    ],
    ["a vendor's own class in use", VENDOR, kept, "yes yes yes yes no no"],
    ["a keyboard with a vendor's interface, in use", ODD, kept, "yes yes yes 1 no no"],
    ["a security key in use", SECURITY_KEY, kept, "yes yes yes no no no"],
    ["a hub by a rule", HUB, {}, "yes yes yes yes no no"],
    ["a hub with the keyboard on it", HUB, { ...kept, carriesInput: true }, "yes yes yes yes yes yes"],
    ["a hub without one", HUB, kept, "yes yes yes yes no no"],
    ["a root hub", HUB, { controller: true, byRules: word({ target: "block" }) }, "yes yes yes yes yes yes"],
    ["what cannot be understood", KEYBOARD, { ...kept, problem: "cut" }, "no no no no no no"],
    ["what has no interfaces", [], { ...kept, ...granted }, "no no no no no no"],
    ["what the rules block", KEYBOARD, { ...kept, byRules: word({ target: "block" }) }, "no no no no no no"],
    ["what a person blocks", KEYBOARD, { ...kept, byPerson: word({ target: "block" }) }, "no no no no no no"],
    ["anything when released", STICK, { hold: "released" }, "yes yes yes yes yes yes"],
  ] as const)("%s", (_what, codes, over, expected) => {
    expect(row(codes, over)).toBe(expected);
  });

  test("a reject of the rules is one, and the mode's refusal is a block", () => {
    expect(decideUsb(ask("OPEN", STICK, { byRules: word({ target: "reject" }) })).device).toBe("reject");
    expect(decideUsb(ask("TRUSTED", STICK)).device).toBe("block");
  });

  test("what is refused says why, and a decision for a time says until when", () => {
    const { why, validUntilMs } = decideUsb(ask("TRUSTED", BOTH, { byRules: word({ validUntilMs: 7 }) }));
    expect(why).toBe("a rule; without some of its interfaces: TRUSTED: no storage");
    expect(validUntilMs).toBe(7);
  });
});

describe("what a device is", () => {
  const code = fc.constantFrom(
    "03:01:01",
    "03:01:02",
    "03:00:00",
    "08:06:50",
    "06:01:01",
    "ff:00:00",
    "00:00:00",
    "09:00:00",
  );
  const codes = fc.array(fc.array(code, { maxLength: 3 }), { maxLength: 4 });

  test("input only: every alternate setting of every interface is HID", () => {
    fc.assert(
      fc.property(codes, (each) => {
        if (isInputDevice({ interfaces: interfacesOf(each) }))
          expect(
            each.length > 0 && each.every((one) => one.length > 0 && one.every((c) => c.startsWith("03:"))),
          ).toBe(true);
      }),
    );
    expect(
      [[], VENDOR, ODD, BOTH, SECURITY_KEY, [[]]].map((each) =>
        isInputDevice({ interfaces: interfacesOf(each) }),
      ),
    ).toEqual(Array(6).fill(false));
  });

  test("a hub has nothing else, and a storage driver tells as well as a class", () => {
    expect(isHub({ interfaces: interfacesOf(HUB) })).toBe(true);
    expect(isHub({ interfaces: interfacesOf([["09:00:00"], ["03:01:01"]]) })).toBe(false);
    expect(isHub({ interfaces: [] })).toBe(false);
    const told = ["usbhid", "rtsx", "ums-sddr09", "uas", "rtsx_usb", "vub300", "ushc"].filter((driver) =>
      interfacesOf(VENDOR, driver).every(isStorage),
    );
    expect(told).toEqual(["ums-sddr09", "uas", "rtsx_usb", "vub300", "ushc"]);
    expect(["0bda:0129", "0bda:0130"].map(storageDriverOf)).toEqual(["rtsx_usb", ""]);
  });
});

describe("for any device, standing and word", () => {
  const code = fc.constantFrom(
    "03:01:01",
    "03:01:02",
    "03:00:00",
    "08:06:50",
    "06:01:01",
    "ff:00:00",
    "09:00:00",
    "e0:01:01",
  );
  const codes = fc.array(fc.array(code, { minLength: 1, maxLength: 2 }), { minLength: 0, maxLength: 4 });
  const said = fc.record({
    target: fc.constantFrom("allow", "allow", "allow", "block", "reject"),
    rule: fc.constant("r"),
    names: fc.boolean(),
    why: fc.constant("w"),
    validUntilMs: fc.constantFrom(null, 5),
    storage: fc.constantFrom("at-terminal", "from-afar", "no"),
  });
  const over = fc.record({
    standing: fc.constantFrom("new", "kept", "restored"),
    carriesInput: fc.boolean(),
    byRules: said,
    byPerson: fc.option(said),
    authorized: fc.boolean(),
    driver: fc.constantFrom("", "usbhid", "usb-storage", "uas"),
    hold: fc.constantFrom("enforcing", "shadow"),
  }) as fc.Arbitrary<Over>;

  const letIn = (question: UsbQuestion) => {
    const { device, interfaces } = decideUsb(question);
    return device === "allow" ? interfaces.filter(({ allow }) => allow).map(({ name }) => name) : [];
  };

  test("a stricter mode lets in nothing that a looser one keeps out", () => {
    fc.assert(
      fc.property(codes, over, (each, given) => {
        for (let at = 1; at < MODES.length; at++) {
          const looser = letIn(ask(MODES[at - 1] ?? "OPEN", each, given));
          for (const name of letIn(ask(MODES[at] ?? "OPEN", each, given))) expect(looser).toContain(name);
        }
      }),
      { numRuns: 2_000 },
    );
  });

  test("no storage in TRUSTED and stricter; nothing but input and hubs in COLDROOM and LOCKDOWN; nothing without a word", () => {
    fc.assert(
      fc.property(codes, over, fc.constantFrom(...MODES), (each, given, mode) => {
        const question = ask(mode, each, given);
        const names = letIn(question);
        const on = question.subject.interfaces.filter(({ name }) => names.includes(name));
        if (mode !== "OPEN" && mode !== "RESTRICTED") expect(on.filter(isStorage)).toEqual([]);
        if (mode === "COLDROOM" || mode === "LOCKDOWN")
          for (const { codes: all } of on) expect(all.every((one) => /^0[39]:/.test(one))).toBe(true);
        if ((question.byPerson ?? question.byRules).target !== "allow") expect(names).toEqual([]);
        const { device, interfaces } = decideUsb(question);
        if (device === "allow") expect(interfaces.some(({ allow }) => allow)).toBe(true);
        expect(interfaces.map(({ name }) => name)).toEqual(
          question.subject.interfaces.map(({ name }) => name),
        );
      }),
      { numRuns: 2_000 },
    );
  });

  test("a keyboard that is in use, and allowed, stays in every mode", () => {
    const input = fc.constantFrom(KEYBOARD, MOUSE, [["03:01:01"]], [["03:01:01", "03:00:00"]]);
    fc.assert(
      fc.property(input, fc.constantFrom(...MODES), fc.boolean(), (each, mode, names) => {
        const given = { standing: "kept", authorized: true, byRules: word({ names }) } as const;
        expect(answer(ask(mode, each, given))).toBe("yes");
      }),
    );
  });
});
