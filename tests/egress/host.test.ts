import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseAuthority, parseHost, parsePort, renderHost } from "../../daemon/egress/host.ts";

describe("a host", () => {
  test.each([
    ["example.com", "example.com"],
    ["EXAMPLE.Com", "example.com"],
    ["example.com.", "example.com"],
    ["my_bucket.s3.example.com", "my_bucket.s3.example.com"],
    ["r3---sn-4g5e.example.com", "r3---sn-4g5e.example.com"],
    ["xn--bcher-kva.example", "xn--bcher-kva.example"],
    ["localhost", "localhost"],
  ])("%s is the name %s", (text, name) => {
    expect(parseHost(text)).toEqual({ kind: "name", text: name });
  });

  test.each([
    ["192.0.2.1", "192.0.2.1"],
    ["2001:DB8::1", "2001:db8:0:0:0:0:0:1"],
    ["::ffff:10.0.0.1", "0:0:0:0:0:ffff:a00:1"],
  ])("%s is the address %s", (text, address) => {
    expect(parseHost(text)).toEqual({ kind: "address", text: address });
  });

  test.each([
    "",
    ".",
    "..",
    "a..b",
    ".example.com",
    "example.com..",
    "-a.example",
    "a-.example",
    `${"a".repeat(64)}.example`,
    `${"a.".repeat(127)}aa`,
    // other spellings of 127.0.0.1, and what some readers take for one
    "127.1",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "127.0.0.01",
    "127.0.0.256",
    "1.2.3.4.5",
    "example.1",
    "example.0x1",
    "127.0.0.1.",
    // no look-alike, no name that is not ASCII, no A-label that stands for nothing
    "exаmple.com",
    "ｅxample.com",
    "example。com",
    "xn--a",
    "xn--.com",
    "xn--ASCII-.com",
    "a%62.com",
    "a b",
    "a\u0000b",
    "user@example.com",
    "fe80::1%eth0",
    "2001:db8::1/64",
    "::1-::2",
    "10.0.0.1-10.0.0.2",
    "[::1]",
  ])("%j is none", (text) => {
    expect(parseHost(text)).toBeNull();
  });

  test("what was read is read as the same again", () => {
    const text = fc.oneof(fc.string({ unit: "binary" }), fc.domain(), fc.ipV4(), fc.ipV6());
    fc.assert(
      fc.property(text, (given) => {
        const host = parseHost(given);
        if (host !== null) expect(parseHost(host.text)).toEqual(host);
      }),
    );
  });

  test("URL parsers of browsers and Node take no name of ours for an address", () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[0-9a-fx.]{1,16}$/), (given) => {
        const host = parseHost(given);
        if (host?.kind !== "name") return;
        expect(new URL(`http://${host.text}/`).hostname).toBe(host.text);
      }),
      { numRuns: 1_000 },
    );
  });
});

describe("host and port", () => {
  test.each([
    ["example.com:443", null, "example.com", 443],
    ["example.com", 80, "example.com", 80],
    ["192.0.2.1:1", null, "192.0.2.1", 1],
    ["[2001:db8::1]:65535", null, "2001:db8:0:0:0:0:0:1", 65_535],
    ["[::1]", 80, "0:0:0:0:0:0:0:1", 80],
  ])("%s", (text, usual, host, port) => {
    expect(parseAuthority(text, usual)).toMatchObject({ host: { text: host }, port });
  });

  test.each([
    "",
    "example.com",
    "example.com:",
    "example.com:0",
    "example.com:65536",
    "example.com:0443",
    "example.com:+443",
    "example.com: 443",
    "example.com:443 ",
    "user@example.com:443",
    "user:pass@example.com:443",
    "example.com:443:443",
    "::1:443",
    "[::1:443",
    "[example.com]:443",
    "[192.0.2.1]:443",
    "[fe80::1%25eth0]:443",
    "http://example.com:443",
    "example.com:443/",
    "example.com:443\r\nHost: other",
  ])("%j is refused", (text) => {
    expect(parseAuthority(text, null)).toBeNull();
  });

  test("is read back as it was written", () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.domain(), fc.ipV4(), fc.ipV6()),
        fc.integer({ min: 1, max: 65_535 }),
        (name, port) => {
          const host = parseHost(name);
          if (host === null) return;
          expect(parseAuthority(`${renderHost(host)}:${port}`, null)).toEqual({ host, port });
        },
      ),
    );
  });

  test("no text throws", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        parseAuthority(text, null);
        parsePort(text);
      }),
    );
  });
});
