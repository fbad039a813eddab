import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  diffDevices,
  isDeviceName,
  isInterfaceOf,
  toUsbDevice,
  type UsbDevice,
} from "../../daemon/core/usb-device.ts";

const stick: UsbDevice = { port: "1-2", vendor: "0781", product: "5581", classes: "08:06:50", number: "5" };

describe("names in sysfs", () => {
  test.each([
    ["usb1", true],
    ["1-2", true],
    ["1-2.4.1", true],
    ["1-2:1.0", false],
    ["1-0:1.0", false],
    ["../1-2", false],
    ["1-2/x", false],
    ["", false],
  ])("%j is a device: %s", (name, is) => expect(isDeviceName(name)).toBe(is));

  test.each([
    ["1-2", "1-2:1.0", true],
    ["1-2", "1-2.3:1.0", false],
    ["1-2", "11-2:1.0", false],
    ["usb1", "1-0:1.0", true],
    ["usb1", "1-2:1.0", false],
    ["1-2", "1-2:1.0/../x", false],
  ])("of %s, %s is an interface: %s", (port, name, is) => expect(isInterfaceOf(port, name)).toBe(is));
});

describe("toUsbDevice", () => {
  test("reads ids and the classes of all interfaces, each once, in order", () => {
    const keyboard = { bInterfaceClass: "03\n", bInterfaceSubClass: "01\n", bInterfaceProtocol: "01\n" };
    const storage = { bInterfaceClass: "08\n", bInterfaceSubClass: "06\n", bInterfaceProtocol: "50\n" };
    const files = { port: "1-2", idVendor: "0781\n", idProduct: "5581\n", devnum: "5\n" };
    expect(toUsbDevice({ ...files, interfaces: [storage, keyboard, storage] })).toEqual({
      ...stick,
      classes: "03:01:01 08:06:50",
    });
  });

  test("whatever the files hold, the facts are hex, or question marks", () => {
    const text = fc.option(
      fc.oneof(fc.string({ unit: "binary" }), fc.constantFrom("0781", "08\n", "8", "zz", "  08 ")),
    );
    const files = fc.record({
      port: fc.constant("1-2"),
      idVendor: text,
      idProduct: text,
      devnum: text,
      interfaces: fc.array(
        fc.record({ bInterfaceClass: text, bInterfaceSubClass: text, bInterfaceProtocol: text }),
        { maxLength: 4 },
      ),
    });
    fc.assert(
      fc.property(files, (one) => {
        const { vendor, product, classes } = toUsbDevice(one);
        expect(`${vendor} ${product}`).toMatch(/^([0-9a-f]{4}|\?{4}) ([0-9a-f]{4}|\?{4})$/);
        if (classes !== "") expect(classes).toMatch(/^(([0-9a-f]{2}|\?\?)(:([0-9a-f]{2}|\?\?)){2} ?)+$/);
      }),
    );
  });
});

describe("diffDevices", () => {
  const said = (before: UsbDevice[], after: UsbDevice[]) =>
    diffDevices(before, after).map(({ change, port, classes }) => `${change} ${port} ${classes}`.trim());

  test.each<[string, UsbDevice[], UsbDevice[], string[]]>([
    ["nothing", [stick], [stick], []],
    ["a device plugged in", [], [stick], ["attached 1-2 08:06:50"]],
    ["a device unplugged", [stick], [], ["detached 1-2 08:06:50"]],
    [
      "another of the same make at the port",
      [stick],
      [{ ...stick, number: "6" }],
      ["detached 1-2 08:06:50", "attached 1-2 08:06:50"],
    ],
    [
      "interfaces that come after the device",
      [{ ...stick, classes: "" }],
      [stick],
      ["attached 1-2 08:06:50"],
    ],
    [
      "an interface more",
      [stick],
      [{ ...stick, classes: "03:01:01 08:06:50" }],
      ["attached 1-2 03:01:01 08:06:50"],
    ],
    ["a device without interfaces", [], [{ ...stick, classes: "" }], ["attached 1-2"]],
  ])("%s", (_what, before, after, expected) => expect(said(before, after)).toEqual(expected));
});
