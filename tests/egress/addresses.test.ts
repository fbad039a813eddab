import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type IpRange, parseIpRange } from "../../daemon/core/ip-range.ts";
import { judgeAddress } from "../../daemon/egress/addresses.ts";

const ranges = (...texts: readonly string[]): readonly IpRange[] =>
  texts.flatMap((text) => parseIpRange(text) ?? []);
const judge = (address: string, listed: readonly string[] = [], own: readonly string[] = []) =>
  judgeAddress(address, { listed: ranges(...listed), own });

describe("an address", () => {
  test.each([
    "1.1.1.1",
    "93.184.216.34",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2606:4700::1111",
    "2a00:1450:4001:82a::200e",
    "64:ff9b::1.1.1.1",
  ])("%s may be reached", (address) => {
    expect(judge(address)).toEqual({ ok: true });
  });

  test.each([
    ["0.0.0.0", "this network"],
    ["10.0.0.1", "private"],
    ["100.64.0.1", "shared by a carrier"],
    ["127.0.0.1", "loopback"],
    ["127.255.255.255", "loopback"],
    ["169.254.1.1", "link-local"],
    ["169.254.169.254", "metadata"],
    ["169.254.170.2", "metadata"],
    ["100.100.100.200", "metadata"],
    ["168.63.129.16", "metadata"],
    ["172.16.0.1", "private"],
    ["172.31.255.255", "private"],
    ["192.0.0.8", "special purpose"],
    ["192.0.2.1", "documentation"],
    ["192.88.99.1", "a 6to4 relay"],
    ["192.168.1.1", "private"],
    ["198.18.0.1", "benchmarking"],
    ["198.19.255.255", "benchmarking"],
    ["198.51.100.1", "documentation"],
    ["203.0.113.1", "documentation"],
    ["224.0.0.1", "multicast"],
    ["239.255.255.255", "multicast"],
    ["240.0.0.1", "reserved"],
    ["255.255.255.255", "reserved"],
    ["::", "an IPv4 address in IPv6"],
    ["::1", "loopback"],
    ["::8.8.8.8", "an IPv4 address in IPv6"],
    ["::ffff:8.8.8.8", "an IPv4 address in IPv6"],
    ["::ffff:127.0.0.1", "an IPv4 address in IPv6"],
    ["::ffff:7f00:1", "an IPv4 address in IPv6"],
    ["::ffff:0:8.8.8.8", "an IPv4 address in IPv6"],
    ["64:ff9b::10.0.0.1", "private"],
    ["64:ff9b::7f00:1", "loopback"],
    ["64:ff9b::169.254.169.254", "metadata"],
    ["64:ff9b:1::1.1.1.1", "a translator's"],
    ["2001::1", "Teredo"],
    ["2001:0:4136:e378:8000:63bf:3fff:fdd2", "Teredo"],
    ["2002:7f00:1::1", "6to4"],
    ["2002:808:808::1", "6to4"],
    ["2606:4700::5efe:127.0.0.1", "an IPv4 address in IPv6"],
    ["2606:4700::200:5efe:10.0.0.1", "an IPv4 address in IPv6"],
    ["2001:2::1", "special purpose"],
    ["2001:10::1", "special purpose"],
    ["2001:db8::1", "documentation"],
    ["3fff::1", "documentation"],
    ["fc00::1", "private"],
    ["fd00:ec2::254", "metadata"],
    ["fd12:3456::1", "private"],
    ["fe80::1", "link-local"],
    ["fec0::1", "site-local"],
    ["ff02::1", "multicast"],
    ["100::1", "not given out"],
    ["5f00::1", "not given out"],
    ["4000::1", "not given out"],
    ["fe80::1%eth0", "it cannot be read"],
    ["", "it cannot be read"],
    ["example.com", "it cannot be read"],
    ["1.1.1.0/24", "it cannot be read"],
    ["1.1.1.1-1.1.1.1", "it cannot be read"],
  ])("%s may not: %s", (address, why) => {
    expect(judge(address)).toEqual({ ok: false, why });
  });

  test("what is listed may be reached", () => {
    expect(judge("10.1.2.3", ["10.1.0.0/16"]).ok).toBe(true);
    expect(judge("10.2.2.3", ["10.1.0.0/16"]).ok).toBe(false);
    expect(judge("127.0.0.1", ["127.0.0.1"]).ok).toBe(true);
    expect(judge("::1", ["::1"]).ok).toBe(true);
    expect(judge("fd12::1", ["fd12::/16"]).ok).toBe(true);
    expect(judge("64:ff9b::10.1.2.3", ["10.1.0.0/16"]).ok).toBe(true);
  });

  test("metadata has to be listed alone", () => {
    expect(judge("169.254.169.254", ["169.254.0.0/16"]).ok).toBe(false);
    expect(judge("169.254.169.254", ["0.0.0.0/0"]).ok).toBe(false);
    expect(judge("169.254.169.254", ["169.254.169.254"]).ok).toBe(true);
    expect(judge("fd00:ec2::254", ["fd00::/8"]).ok).toBe(false);
    expect(judge("169.254.169.254", ["::a9fe:a9fe"]).ok).toBe(false);
  });

  test("no list lets an IPv4 address in IPv6 pass", () => {
    for (const address of ["::ffff:10.0.0.1", "::10.0.0.1", "2002:a00:1::1", "2001::1"])
      expect(judge(address, ["::/0", "0.0.0.0/0", address]).ok).toBe(false);
  });

  test("this host's own may not, but where they are listed", () => {
    const own = ["93.184.216.34", "2606:4700::1", "fe80::1%eth0"];
    expect(judge("93.184.216.34", [], own)).toEqual({ ok: false, why: "this host's own" });
    expect(judge("2606:4700:0::1", [], own)).toEqual({ ok: false, why: "this host's own" });
    expect(judge("93.184.216.35", [], own).ok).toBe(true);
    expect(judge("93.184.216.34", ["93.184.216.34"], own).ok).toBe(true);
  });
});

describe("every form", () => {
  const four = fc.integer({ min: 0, max: 0xffff_ffff }).map((value) => ({
    dotted: [24, 16, 8, 0].map((shift) => (value >>> shift) & 255).join("."),
    hex: `${(value >>> 16).toString(16)}:${(value & 0xffff).toString(16)}`,
  }));

  test("a NAT64 address is what the IPv4 address in it is; other embeddings never pass", () => {
    fc.assert(
      fc.property(four, ({ dotted, hex }) => {
        expect(judge(`64:ff9b::${dotted}`)).toEqual(judge(dotted));
        expect(judge(`64:ff9b::${hex}`)).toEqual(judge(dotted));
        for (const form of [`::ffff:${dotted}`, `::ffff:${hex}`, `::${dotted}`, `2002:${hex}::1`])
          expect(judge(form).ok).toBe(false);
      }),
    );
  });

  test("no other spelling of an address is judged differently", () => {
    fc.assert(
      fc.property(fc.ipV6(), (text) => {
        const upper = text.toUpperCase();
        expect(judge(upper)).toEqual(judge(text));
      }),
    );
  });

  test("outside 2000::/3 and NAT64 no IPv6 address passes", () => {
    const groups = fc.array(fc.integer({ min: 0, max: 0xffff }), { minLength: 8, maxLength: 8 });
    fc.assert(
      fc.property(groups, (all) => {
        const text = all.map((group) => group.toString(16)).join(":");
        if (judge(text).ok) expect((all[0] ?? 0) >> 13).toBe(1);
      }),
    );
  });

  test("no text throws", () => {
    fc.assert(fc.property(fc.string({ unit: "binary" }), (text) => void judge(text)));
  });
});
