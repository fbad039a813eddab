import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { describeInterfaces } from "../../daemon/core/usb-interfaces.ts";
import { descriptorsOf } from "../support/usb-tree.ts";

const code = fc
  .tuple(fc.nat(255), fc.nat(255), fc.nat(255))
  .map((bytes) => bytes.map((byte) => byte.toString(16).padStart(2, "0")).join(":"));
const interfaces = fc.array(fc.record({ number: fc.nat(8), alternate: fc.nat(3), code }), { maxLength: 12 });

describe("the interfaces that descriptors tell", () => {
  test("are all of them, each with all its alternate settings, in their order", () => {
    fc.assert(
      fc.property(interfaces, (each) => {
        const found = describeInterfaces("1-2.3", descriptorsOf({ id: "1234:5678", interfaces: each }));
        const numbers = [...new Set(each.map(({ number }) => number))];
        expect(found).toEqual({
          ok: true,
          interfaces: numbers.map((number) => ({
            name: `1-2.3:1.${number}`,
            codes: each.flatMap((one) => (one.number === number ? [one.code] : [])),
          })),
        });
      }),
    );
  });

  test("of a file that is cut anywhere are a problem, never fewer interfaces", () => {
    fc.assert(
      fc.property(interfaces, fc.double({ min: 0, max: 0.999, noNaN: true }), (each, part) => {
        const whole = descriptorsOf({ id: "1234:5678", interfaces: each });
        expect(describeInterfaces("1-2", whole.subarray(0, Math.floor(whole.length * part))).ok).toBe(false);
      }),
    );
  });

  test("of two configurations are those of both", () => {
    const one = descriptorsOf({ id: "1:2", interfaces: [{ number: 0, code: "03:01:01" }] });
    const other = Buffer.from(one.subarray(18));
    other[5] = 2;
    other[9 + 5] = 8;
    const both = Buffer.concat([one, other]);
    expect(describeInterfaces("1-2", both).ok).toBe(false); // the device says that it has one
    both[17] = 2;
    expect(describeInterfaces("1-2", both)).toEqual({
      ok: true,
      interfaces: [
        { name: "1-2:1.0", codes: ["03:01:01"] },
        { name: "1-2:2.0", codes: ["08:01:01"] },
      ],
    });
  });

  test("of any bytes at all end, and throw nothing", () => {
    const whole = descriptorsOf({ id: "1234:5678", interfaces: [{ number: 0, code: "03:01:01" }] });
    const bent = fc.tuple(fc.nat(whole.length - 1), fc.nat(255)).map(([at, byte]) => {
      const bytes = Buffer.from(whole);
      bytes[at] = byte;
      return bytes;
    });
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 200 }), bent), (bytes) => {
        const found = describeInterfaces("1-2", bytes);
        if (found.ok) for (const { codes } of found.interfaces) expect(codes.length).toBeGreaterThan(0);
        else expect(found.problem).toMatch(/^the descriptors cannot be read: /);
      }),
      { numRuns: 1_000 },
    );
  });
});
