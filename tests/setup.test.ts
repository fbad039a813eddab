import { describe, expect, test } from "vitest";
import { isAtLeast, isOnHost, missingFor, optionalFor, packagesOf } from "./support/setup.ts";

describe("what a run needs of the host", () => {
  test("nothing is missing where everything is there", () => {
    expect(missingFor("test", () => true)).toEqual([]);
  });

  test("a bare host lacks each package once, and the demo needs nothing that only tests do", () => {
    const all = ["nftables", "libnftables1", "iproute2", "util-linux", "bsdutils", "bubblewrap"];
    const forTests = [
      "curl",
      "strace",
      "e2fsprogs",
      "gcc",
      "libc6-dev",
      "python3",
      "python3-cryptography",
      "systemd",
    ];
    forTests.push("rsyslog", "rsyslog-gnutls", "openssl", "softhsm2", "opensc");
    expect(packagesOf(missingFor("demo", () => false))).toEqual(all);
    expect(packagesOf(missingFor("test", () => false))).toEqual([...all, ...forTests]);
  });

  test("what is optional is named, and never among what is installed", () => {
    expect(packagesOf(optionalFor("test", () => false))).toEqual(["golang-go"]);
    expect(optionalFor("demo", () => false)).toEqual([]);
    expect(optionalFor("test", () => true)).toEqual([]);
    expect(packagesOf(missingFor("test", () => false))).not.toContain("golang-go");
  });

  test("the library counts apart from the program", () => {
    expect(packagesOf(missingFor("bench", (what) => what !== "libnftables.so.1"))).toEqual(["libnftables1"]);
  });

  test.each([
    ["24.21.0", "24.21.0", true],
    ["24.21.1", "24.21.0", true],
    ["25.0.0", "24.21.0", true],
    ["24.20.9", "24.21.0", false],
    ["20.20.2", "24.21.0", false],
    ["24.3.0", "24.21.0", false],
  ])("Node %s against %s: %s", (version, least, enough) => {
    expect(isAtLeast(version, least)).toBe(enough);
  });

  test("a program is found on PATH and in the system's directories, a made-up one is not", () => {
    expect(isOnHost("sh")).toBe(true);
    expect(isOnHost("no-such-program-anywhere")).toBe(false);
    expect(isOnHost("libnothing.so.99")).toBe(false);
  });
});
