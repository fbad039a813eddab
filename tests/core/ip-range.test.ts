import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseIpRange, renderIpRange, withoutContained } from "../../daemon/core/ip-range.ts";

describe("parseIpRange", () => {
  test.each([
    ["10.1.2.3", "10.1.2.3"],
    ["10.1.2.3/32", "10.1.2.3"],
    ["10.1.2.3/8", "10.0.0.0-10.255.255.255"],
    ["0.0.0.0/0", "0.0.0.0-255.255.255.255"],
    ["10.0.0.1-10.0.0.9", "10.0.0.1-10.0.0.9"],
    ["::", "0:0:0:0:0:0:0:0"],
    ["::1", "0:0:0:0:0:0:0:1"],
    ["2001:DB8::", "2001:db8:0:0:0:0:0:0"],
    ["2001:db8::1:0/112", "2001:db8:0:0:0:0:1:0-2001:db8:0:0:0:0:1:ffff"],
    ["1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"],
    ["::ffff:1.2.3.4", "0:0:0:0:0:ffff:102:304"],
    ["::1.2.3.4", "0:0:0:0:0:0:102:304"],
    ["::/0", "0:0:0:0:0:0:0:0-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
  ])("reads %s", (text, rendered) => {
    const range = parseIpRange(text);
    expect(range && renderIpRange(range)).toBe(rendered);
  });

  test.each([
    "",
    "10",
    "10.0.0",
    "10.0.0.256",
    "10.0.0.1/33",
    "10.0.0.1/",
    "10.0.0.9-10.0.0.1",
    "10.0.0.1-::1",
    "1-2-3",
    ":",
    ":::",
    "1::2::3",
    "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:9",
    "1:2:3:4:5:6:7::8",
    "12345::",
    "::1.2.3",
    "1.2.3.4::",
    "::1/129",
    "fe80::1%eth0",
    "ipv4 timeout 2s",
    " 10.0.0.1",
  ])("refuses %j", (text) => {
    expect(parseIpRange(text)).toBeNull();
  });

  test("never throws, and reads what it rendered", () => {
    expect.hasAssertions();
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.ipV4(), fc.ipV6(), fc.ipV4Extended()), (text) => {
        const range = parseIpRange(text);
        expect(range && parseIpRange(renderIpRange(range))).toEqual(range);
      }),
    );
  });

  test("reads every address that fast-check makes", () => {
    fc.assert(
      fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), (text) => {
        expect(parseIpRange(text)).not.toBeNull();
      }),
    );
  });
});

test("withoutContained keeps exactly what covers the same addresses, nothing overlapping", () => {
  const cidr = fc
    .tuple(fc.nat(255), fc.nat(255), fc.integer({ min: 0, max: 32 }))
    .map(([a, b, prefix]) => parseIpRange(`10.${a}.${b}.0/${prefix}`))
    .filter((range) => range !== null);
  fc.assert(
    fc.property(fc.array(cidr, { maxLength: 20 }), (ranges) => {
      const kept = withoutContained(ranges);
      for (const range of ranges) {
        expect(kept.some((k) => k.first <= range.first && range.last <= k.last)).toBe(true);
      }
      for (const [i, k] of kept.entries()) {
        expect(ranges).toContainEqual(k);
        expect(k.first > (kept[i - 1]?.last ?? -1n)).toBe(true);
      }
    }),
  );
});
