import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isExempt, isKeyboard, usbPlaceOf } from "../../daemon/core/input-device.ts";
import { INPUT_EVENT_BYTES, keyDownTimes } from "../../daemon/core/input-event.ts";

describe("what can type", () => {
  // as Linux 6.1 shows them
  test.each([
    ["a PS/2 keyboard", "402000002 3803078f800d001 feffffdfffefffff fffffffffffffffe", true],
    ["a USB keyboard", "1000000000007 ff9f207ac14057ff febeffdfffefffff fffffffffffffffe", true],
    ["a power button", "10000000000000 0", false],
    ["a mouse", "70000 0 0 0 0", false],
    ["a keyboard without Esc", "fffffffffffffffc", true],
    ["a keyboard with one letter alone", "40000000", true],
    ["consumer keys with Esc and Enter", "1e0000 10000002", false],
    ["a keypad", "f80 e080ffdf01cfffff 10000000", false],
    ["a volume wheel", "e000000000000 0", false],
    ["a device whose keys cannot be read", null, true],
    ["a device whose keys are no number", "x", true],
    ["a device without any", "0", false],
  ])("%s", (_, capabilities, can) => {
    expect(isKeyboard(capabilities)).toBe(can);
  });
});

describe("where it is plugged in", () => {
  test.each([
    [
      "/sys/devices/pci0000:00/0000:00:02.0/usb1/1-1/1-1:1.0/0003:0627:0001.0005/input/input3",
      { port: "1-1", directory: "/sys/devices/pci0000:00/0000:00:02.0/usb1/1-1" },
    ],
    [
      "/r/usb2/2-1/2-1.4/2-1.4:1.1/0003:046D:C31C.0001/input/input9",
      { port: "2-1.4", directory: "/r/usb2/2-1/2-1.4" },
    ],
    ["/sys/devices/platform/i8042/serio0/input/input0", null],
    ["/sys/devices/virtual/input/input7", null],
    ["/sys/devices/pci0/usb1/1-1/1-2:1.0/input/input3", null],
    ["", null],
  ])("%s", (path, place) => {
    expect(usbPlaceOf(path)).toEqual(place);
  });

  test("any path is one or none", () => {
    const part = fc.oneof(
      fc.constantFrom("usb1", "1-1", "1-1:1.0", "1-1.2", "1-1.2:1.0", "", "1-0:1.0"),
      fc.string(),
    );
    fc.assert(
      fc.property(fc.array(part), (parts) => {
        const place = usbPlaceOf(parts.join("/"));
        if (place !== null) expect(place.directory.endsWith(place.port)).toBe(true);
      }),
    );
  });
});

test("an exempt device is named by its id, or by its vendor alone", () => {
  expect(isExempt("1050:0407", ["1050:*"])).toBe(true);
  expect(isExempt("1050:0407", ["1050:0407"])).toBe(true);
  expect(isExempt("1050:0407", ["1050:0408", "1051:*"])).toBe(false);
  expect(isExempt("????:????", ["1050:*"])).toBe(false);
  expect(isExempt("1050:0407", [])).toBe(false);
});

type Event = { readonly us: number; readonly type: number; readonly code: number; readonly value: number };

function bytesOf(events: readonly Event[]): Buffer {
  const bytes = Buffer.alloc(events.length * INPUT_EVENT_BYTES);
  events.forEach(({ us, type, code, value }, index) => {
    const at = index * INPUT_EVENT_BYTES;
    bytes.writeBigInt64LE(BigInt(Math.floor(us / 1_000_000)), at);
    bytes.writeBigInt64LE(BigInt(us % 1_000_000), at + 8);
    bytes.writeUInt16LE(type, at + 16);
    bytes.writeUInt16LE(code, at + 18);
    bytes.writeInt32LE(value, at + 20);
  });
  return bytes;
}

describe("the times of key-downs", () => {
  const [A, SHIFT, LEFT_BUTTON] = [30, 42, 0x110];
  test("are read; what is up, repeated, a modifier, a button or no key is not", () => {
    const events = [
      { us: 703_206_193, type: 4, code: 4, value: 458_756 },
      { us: 703_206_193, type: 1, code: A, value: 1 },
      { us: 703_206_193, type: 0, code: 0, value: 0 },
      { us: 703_211_544, type: 1, code: A, value: 0 },
      { us: 703_300_000, type: 1, code: A, value: 2 },
      { us: 703_400_000, type: 1, code: SHIFT, value: 1 },
      { us: 703_500_000, type: 1, code: LEFT_BUTTON, value: 1 },
      { us: 703_600_001, type: 1, code: 48, value: 1 },
    ];
    expect(keyDownTimes(bytesOf(events))).toEqual([703_206_193, 703_600_001]);
  });

  test("are no more than the events, of any bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 500 }), (bytes) => {
        const times = keyDownTimes(Buffer.from(bytes));
        expect(times.length).toBeLessThanOrEqual(Math.floor(bytes.length / INPUT_EVENT_BYTES));
      }),
    );
  });
});
