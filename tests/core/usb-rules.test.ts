import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import type { UsbFacts, UsbTarget } from "../../daemon/core/usb-facts.ts";
import { generatePolicy } from "../../daemon/core/usb-generate.ts";
import { usbControllerHash, usbHash } from "../../daemon/core/usb-hash.ts";
import { importUsbGuard } from "../../daemon/core/usb-rule-import.ts";
import { lintUsbRules } from "../../daemon/core/usb-rule-lint.ts";
import { evaluate } from "../../daemon/core/usb-rule-match.ts";
import { devices, rulesOf, usbContext, usbDevice } from "../support/usb-rules.ts";

const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");

describe("the shipped rules", () => {
  const shipped = rulesOf(read("policies/usb.rules"));
  type Case = { device: Partial<UsbFacts>; target: UsbTarget };

  test.each(
    (parse(read("policies/usb.cases.yaml")) as Case[]).map((one) => [JSON.stringify(one), one] as const),
  )("%s", (_name, { device, target }) => {
    expect(evaluate(shipped, usbDevice(device), usbContext()).target).toBe(target);
  });

  test("let in nothing that hangs on a port", () => {
    fc.assert(
      fc.property(
        devices,
        fc.constantFrom("hotplug", "hardwired", "unknown", "not used"),
        (device, connectType) => {
          expect(evaluate(shipped, { ...device, connectType }, usbContext()).target).toBe("block");
        },
      ),
    );
  });

  test("nothing about them is odd, nor about the examples in their comments", () => {
    expect(lintUsbRules(shipped)).toEqual([]);
    const examples = read("policies/usb.rules").replaceAll(/^# (?=allow|reject)/gm, "");
    expect(rulesOf(examples).length).toBeGreaterThan(shipped.length);
    expect(lintUsbRules(rulesOf(examples))).toEqual([]);
  });
});

describe("hashes that USBGuard gave", () => {
  type Vectors = {
    devices: { name: string; id: string; serial: string; descriptors: string; hash: string }[];
    controllers: { path: string; hash: string }[];
  };
  const vectors = JSON.parse(read("tests/vectors/usb/hashes.json")) as Vectors;

  test.each(vectors.devices)("$name", ({ descriptors, hash, ...facts }) => {
    expect(usbHash(facts, Buffer.from(descriptors, "hex"))).toBe(hash);
  });

  test.each(vectors.controllers)("$path", ({ path, hash }) => expect(usbControllerHash(path)).toBe(hash));

  test("another kernel's root hub has the same hash; another device's release makes another one", () => {
    const [hub, dock] = vectors.devices;
    if (!hub || !dock) throw new Error("no vectors");
    const changed = (device: { descriptors: string }) => {
      const bytes = Buffer.from(device.descriptors, "hex");
      bytes.writeUInt16LE(0x0612, 12);
      return bytes;
    };
    expect(usbHash(hub, changed(hub))).toBe(hub.hash);
    expect(usbHash(dock, changed(dock))).not.toBe(dock.hash);
  });

  test("the bytes that were given stay as they are", () => {
    const bytes = new Uint8Array(18).fill(7);
    usbHash({ id: "1d6b:0002", name: "", serial: "" }, bytes);
    expect(bytes).toEqual(new Uint8Array(18).fill(7));
  });
});

describe("generatePolicy", () => {
  const hash = `${"A".repeat(43)}=`;
  const hub = usbDevice({
    port: "usb1",
    id: "1d6b:0002",
    serial: "0000:00:14.0",
    name: "xHCI Host Controller",
    hash,
    parentHash: hash,
    interfaces: ["09:00:00"],
    connectType: "",
  });
  const stick = usbDevice({ serial: "4C53", name: "Ultra", hash, parentHash: hash });
  const keyboard = usbDevice({
    port: "1-10",
    id: "046d:c31c",
    hash,
    parentHash: hash,
    interfaces: ["03:01:01", "03:00:00"],
  });
  const rulesIn = (text: string) => text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));

  test("controllers first, then by port; bound to the port where there is no serial", () => {
    const text = generatePolicy([keyboard, stick, hub], { withPorts: false, withHashes: true });
    expect(rulesIn(text)).toEqual([
      `allow id 1d6b:0002 serial "0000:00:14.0" name "xHCI Host Controller" hash "${hash}" parent-hash "${hash}" with-interface 09:00:00 with-connect-type ""`,
      `allow id 0781:5581 serial "4C53" name "Ultra" hash "${hash}" with-interface 08:06:50 with-connect-type "hotplug"`,
      `allow id 046d:c31c serial "" name "" hash "${hash}" parent-hash "${hash}" via-port "1-10" with-interface { 03:01:01 03:00:00 } with-connect-type "hotplug"`,
    ]);
    expect(text.startsWith("#")).toBe(true);
  });

  test("ports for all but controllers, whose numbers move; no hashes when they are not wanted", () => {
    const text = generatePolicy([keyboard, stick, hub], { withPorts: true, withHashes: false });
    expect(text).not.toContain("hash ");
    expect(rulesIn(text).map((line) => line.includes("via-port"))).toEqual([false, true, true]);
  });

  test("a device of which too little is known is named in a comment, and not allowed", () => {
    const unread = usbDevice({ hash: "", interfaces: [] });
    expect(generatePolicy([unread], { withPorts: false, withHashes: true })).toContain(
      "# 1-2: not proposed, since its with-interface could not be read",
    );
    expect(generatePolicy([usbDevice({ hash: "" })], { withPorts: false, withHashes: true })).toContain(
      "its hash could",
    );
    expect(
      rulesIn(generatePolicy([usbDevice({ hash: "" })], { withPorts: false, withHashes: false })),
    ).toHaveLength(1);
  });

  test("whatever devices call themselves, what is proposed can be read, and allows just what is known of them", () => {
    const options = fc.record({ withPorts: fc.boolean(), withHashes: fc.boolean() });
    const named = fc
      .tuple(devices, fc.string({ unit: "binary" }))
      .map(([device, name]) => ({ ...device, name }));
    fc.assert(
      fc.property(fc.array(named, { maxLength: 5 }), devices, options, (present, stranger, how) => {
        const text = generatePolicy(present, how);
        const list = rulesOf(text);
        expect(list.length + text.split("not proposed").length - 1).toBe(present.length);
        for (const device of present) {
          const known =
            device.interfaces.length > 0 &&
            !device.id.includes("?") &&
            (!how.withHashes || device.hash !== "");
          if (!known) continue;
          expect(evaluate(list, device, usbContext()).target).toBe("allow");
        }
        if (evaluate(list, stranger, usbContext()).target === "allow") {
          expect(
            present.some(
              (one) => one.id === stranger.id && one.serial === stranger.serial && one.name === stranger.name,
            ),
          ).toBe(true);
        }
      }),
      { numRuns: 1_000 },
    );
  });
});

describe("importUsbGuard", () => {
  const warningsOf = (text: string) => {
    const imported = importUsbGuard(text);
    if (!imported.ok) throw new Error(JSON.stringify(imported.problems));
    return imported.warnings.filter(({ line }) => line > 0).map(({ line, message }) => `${line} ${message}`);
  };

  test("the text is kept, comments and all", () => {
    const text = "# mine\nallow 1d6b:0002 # hub\n";
    expect(importUsbGuard(text)).toMatchObject({ ok: true, text });
    expect(importUsbGuard(text.trimEnd())).toMatchObject({ ok: true, text });
  });

  test("the settings beside the rules are not imported, and that is said", () => {
    expect(importUsbGuard("")).toMatchObject({ ok: true, warnings: [{ line: 0 }] });
  });

  test.each([
    [
      "allow if localtime(08:00-17:00)",
      "1 `localtime` is local time here; USBGuard compares the time of day in UTC",
    ],
    ["allow if !rule-applied(00:10)", "1 the duration is in seconds here"],
    ["allow 1D6B:0002", "1 ids are compared without regard to case here"],
    [
      "allow with-interface { 0e:02:00 0e:02:00 }",
      "1 each interface has to be matched by one of its own here",
    ],
    ["allow with-interface { 03:*:* 03:01:01 }", "1 each interface has to be matched by one of its own here"],
    ['allow serial match-all { "a" "b" }', "1 `match-all` compares the value here"],
    ['\nallow 1d6b:0002 parent-hash "x"', "2 the parent-hash of a root hub"],
  ])("%j: %s", (text, warning) => {
    expect(warningsOf(text).some((one) => one.startsWith(warning))).toBe(true);
  });

  test.each([
    ["allow if rule-applied"],
    ["allow 1d6b:0002"],
    ["allow with-interface { 03:01:01 03:01:02 03:00:* }"],
    ["allow with-interface one-of { 03:01:01 03:*:* }"],
    ["allow with-interface match-all { 03:*:* }"],
  ])("nothing to say of %s", (text) => {
    expect(warningsOf(`${text} label "x"`).filter((one) => !one.includes("every device"))).toEqual([]);
  });

  test("what we do not take is told by line, never left out", () => {
    const imported = importUsbGuard('allow 1d6b:*\nmatch 1d6b:*\nallow key "x"');
    expect(imported).toMatchObject({ ok: false, problems: [{ line: 2 }, { line: 3 }] });
  });
});

describe("lintUsbRules", () => {
  test.each([
    [
      'allow serial { "1" "2" }',
      "matches no device: a device has one `serial`; `one-of` may be meant, not `equals`",
    ],
    ['allow name all-of { "a" "b" }', "matches no device"],
    ['allow name "Logitech*"', "a `*` in a text is a star, no pattern"],
    ['allow hash "044b5e168d40ee0245478416caf3d998"', "no hash of a device"],
    ['allow via-port "1-2:1.0"', "no port"],
    ['allow with-connect-type "hot-plug"', "the kernel says one of"],
    ["allow", "allows every device"],
    ["block\nallow 1d6b:*", "never reached: line 1 matches every device"],
  ])("%s: %s", (text, message) => {
    expect(lintUsbRules(rulesOf(text)).some((one) => one.message.includes(message))).toBe(true);
  });

  test.each([
    ["block"],
    ["allow id all-of { 1d6b:* 1d6b:0002 }"],
    ['allow with-connect-type one-of { "" "not used" }'],
    ["allow if true"],
  ])("nothing is odd about %s", (text) => expect(lintUsbRules(rulesOf(text))).toEqual([]));
});
