import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type Allowlists,
  judgeListed,
  LEVELS,
  MAX_ENTRIES,
  parseAllowlist,
} from "../../daemon/egress/allowlist.ts";
import { parseHost } from "../../daemon/egress/host.ts";

const NONE: Allowlists = { global: null, project: null, blueprint: null, session: null };

function list(...entries: readonly string[]) {
  const read = parseAllowlist(entries);
  if (!read.ok) throw new Error(read.problems.map(({ problem }) => problem).join("; "));
  return read.value;
}

function at(name: string, port = 443) {
  const host = parseHost(name);
  if (host === null) throw new Error(`${name} is no host`);
  return { host, port };
}

const passes = (entries: readonly string[], name: string, port?: number): boolean =>
  judgeListed({ ...NONE, global: list(...entries) }, at(name, port)).ok;

describe("an entry", () => {
  test.each([
    ["example.com", "example.com", 443, true],
    ["example.com", "EXAMPLE.com.", 443, true],
    ["Example.COM.", "example.com", 80, true],
    ["example.com", "example.com", 8443, false],
    ["example.com:8443", "example.com", 8443, true],
    ["example.com:8443", "example.com", 443, false],
    ["example.com", "www.example.com", 443, false],
    ["example.com", "notexample.com", 443, false],
    ["example.com", "example.com.evil.net", 443, false],
    ["*.example.com", "www.example.com", 443, true],
    ["*.example.com", "example.com", 443, false],
    ["*.example.com", "a.b.example.com", 443, false],
    ["*.example.com", "wwwexample.com", 443, false],
    ["*.example.com:8443", "www.example.com", 8443, true],
    ["*.example.com:8443", "www.example.com", 443, false],
    ["*.bücher.example", "www.xn--bcher-kva.example", 443, true],
    ["bücher.example", "xn--bcher-kva.example", 443, true],
    ["日本.jp", "xn--wgv71a.jp", 443, true],
    ["xn--e1awd7f.com", "xn--e1awd7f.com", 443, true],
    ["192.0.2.1", "192.0.2.1", 443, true],
    ["192.0.2.1:22", "192.0.2.1", 22, true],
    ["2001:db8::1", "2001:0db8:0:0:0:0:0:1", 443, true],
    ["[2001:db8::1]:22", "2001:db8::1", 22, true],
    ["192.0.2.1", "192.0.2.2", 443, false],
    ["*.github.com", "api.github.com", 443, true],
  ])("%s: %s port %d: %s", (entry, name, port, allowed) => {
    expect(passes([entry], name, port)).toBe(allowed);
  });

  test.each([
    "",
    "*",
    "*.",
    "*.com",
    "*.co.uk",
    "*.github.io",
    "*.s3.amazonaws.com",
    "*.internal",
    "*.localhost",
    "*.xn--fiqs8s",
    "*.*.example.com",
    "www.*.example.com",
    "w*.example.com",
    "**.example.com",
    "*example.com",
    "*.192.0.2.1",
    "*.[2001:db8::1]",
    "https://example.com",
    "example.com/path",
    "user@example.com",
    "example.com:",
    "example.com:0",
    "example.com:65536",
    "example.com:*",
    "example .com",
    " example.com",
    "example.com ",
    "127.1",
    "2130706433",
    "0x7f000001",
    "10.0.0.0/8",
    "[2001:db8::1",
    "fe80::1%eth0",
    "xn--a.com",
    "a\u0000.com",
    "a%62.com",
    // other spellings, and look-alikes
    "ｅxample.com",
    "example。com",
    "exаmple.com",
    "раура.com",
    "ѕсоре.com",
    "αρτ.com",
    "eχample.com",
  ])("%j refuses its list", (entry) => {
    expect(parseAllowlist(["example.com", entry])).toMatchObject({ ok: false, problems: [{ at: 1 }] });
  });

  test("a list has a length", () => {
    const many = Array.from({ length: MAX_ENTRIES + 1 }, (_, n) => `h${n}.example.com`);
    expect(parseAllowlist(many.slice(1)).ok).toBe(true);
    expect(parseAllowlist(many).ok).toBe(false);
  });

  test("no text throws, and none that is read lets an unrelated host pass", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 40 }), (text) => {
        const read = parseAllowlist([text]);
        if (read.ok)
          expect(judgeListed({ ...NONE, global: read.value }, at("unrelated.example.net")).ok).toBe(false);
      }),
      { numRuns: 1_000 },
    );
  });
});

describe("the levels", () => {
  const pool = [
    "example.com",
    "*.example.com",
    "api.example.com:8443",
    "example.org",
    "*.a.example.org",
    "192.0.2.1",
  ];
  const hosts = [
    "example.com",
    "www.example.com",
    "api.example.com",
    "example.org",
    "b.a.example.org",
    "192.0.2.1",
  ];
  const lists = fc.record(
    Object.fromEntries(LEVELS.map((level) => [level, fc.option(fc.subarray(pool), { nil: null })])),
  ) as fc.Arbitrary<Record<(typeof LEVELS)[number], string[] | null>>;
  const asked = fc.record({ name: fc.constantFrom(...hosts), port: fc.constantFrom(80, 443, 8443, 22) });
  const read = (entries: Record<string, string[] | null>): Allowlists => ({
    ...NONE,
    ...Object.fromEntries(
      Object.entries(entries).map(([level, texts]) => [level, texts === null ? null : list(...texts)]),
    ),
  });

  test("without any list nothing passes", () => {
    expect(judgeListed(NONE, at("example.com")).ok).toBe(false);
  });

  test("an empty list allows nothing, whatever the others say", () => {
    for (const level of LEVELS) {
      const lists = {
        global: list("example.com"),
        project: list("example.com"),
        blueprint: null,
        session: null,
      };
      expect(judgeListed(lists, at("example.com")).ok).toBe(true);
      expect(judgeListed({ ...lists, [level]: [] }, at("example.com")).ok).toBe(false);
    }
  });

  test("intersect: what passes all passes each that is there, and the other way round", () => {
    fc.assert(
      fc.property(lists, asked, (given, { name, port }) => {
        const there = LEVELS.flatMap((level) => (given[level] === null ? [] : [given[level]]));
        const each = there.length > 0 && there.every((entries) => passes(entries, name, port));
        expect(judgeListed(read(given), at(name, port)).ok).toBe(each);
      }),
      { numRuns: 1_000 },
    );
  });

  test("a list more never lets more pass, and an entry more never lets less pass", () => {
    fc.assert(
      fc.property(
        lists,
        asked,
        fc.constantFrom(...LEVELS),
        fc.subarray(pool),
        fc.constantFrom(...pool),
        (given, { name, port }, level, more, entry) => {
          const ok = (one: Record<string, string[] | null>) => judgeListed(read(one), at(name, port)).ok;
          const some = LEVELS.some((one) => one !== level && given[one] !== null);
          if (some && given[level] === null && ok({ ...given, [level]: more })) expect(ok(given)).toBe(true);
          const before = given[level];
          if (before !== null && ok(given)) expect(ok({ ...given, [level]: [...before, entry] })).toBe(true);
        },
      ),
      { numRuns: 1_000 },
    );
  });
});
