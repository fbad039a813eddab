import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readKeyText } from "../../daemon/vault/psk.ts";
import { renderSwanctl } from "../../daemon/vault/swanctl.ts";

const read = (text: string) => readKeyText(Buffer.from(text));
const KEY = fc.uint8Array({ minLength: 32, maxLength: 32 });

describe("a key in text", () => {
  test("hex in either case and base64, padded or not, are the same key", () => {
    fc.assert(
      fc.property(KEY, (bytes) => {
        const key = Buffer.from(bytes);
        const base64 = key.toString("base64");
        for (const text of [
          key.toString("hex"),
          key.toString("hex").toUpperCase(),
          base64,
          base64.slice(0, -1),
          ` ${base64}\r\n`,
        ])
          expect(read(text)).toEqual({ ok: true, key });
      }),
    );
  });

  test("64 hex digits are valid base64 of 48 bytes too, and are read as hex", () => {
    const text = "deadBEEF".repeat(8);
    expect(Buffer.from(text, "base64")).toHaveLength(48);
    expect(read(text)).toEqual({ ok: true, key: Buffer.from(text, "hex") });
  });

  test("hex of another length is not tried as base64, also where that would be 32 bytes", () => {
    const text = "abcdef0123456789".repeat(3).slice(0, 43);
    expect(read(text)).toEqual({ ok: false, why: "it is 43 hex digits, not 64" });
    // its base64 without the padding would be 32 bytes but for stray bits
    expect(read("A".repeat(43))).toEqual({ ok: false, why: "it is 43 hex digits, not 64" });
  });

  test.each([
    ["", "it is empty"],
    [" \n", "it is empty"],
    ["hunter2!", "it is neither hex nor base64"],
    [randomBytes(31).toString("base64"), "not 32"],
    [randomBytes(33).toString("base64").replace(/^./, "z"), "not 32"],
    [`${"zzzz".repeat(10)}zz=`.replace(/z=$/, "z="), "it is neither hex nor base64"],
    ["z".repeat(5_000), "5000 bytes are no key"],
  ])("%j is refused", (text, why) => {
    const found = read(text);
    expect(found.ok ? "a key" : found.why).toContain(why);
  });

  test("any bytes are an answer, which never repeats them; and there is one text in base64 for one key", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
        const found = readKeyText(Buffer.from(bytes));
        if (found.ok) expect(found.key).toHaveLength(32);
        else
          expect(found.why).toMatch(
            /^it is (empty|neither hex nor base64|\d+ hex digits, not 64)$|^its base64 is \d+ bytes, not 32$/,
          );
      }),
      { numRuns: 1_000 },
    );
    const strict = `${"z".repeat(42)}w=`; // the last digit has no stray bits; with them it is refused
    expect([read(strict).ok, read(strict.replace("w=", "x=")).ok]).toEqual([true, false]);
  });
});

test("the configuration for strongSwan", () => {
  const peer = {
    localAddress: "192.0.2.1",
    remoteAddress: "%any",
    localId: "pt.example",
    remoteId: "ct@example",
    localSubnets: ["10.1.0.0/16"],
    remoteSubnets: ["10.2.0.0/16", "fd00::/8"],
  };
  const key = Buffer.alloc(32, 0xa5);
  const text = renderSwanctl([{ name: "ct", peer, key }]).toString();
  expect(text).toContain('  ike-ct {\n    id-local = "pt.example"\n    id-remote = "ct@example"\n');
  expect(text).toContain(`    secret = 0x${"a5".repeat(32)}\n`);
  expect(text).toContain("        remote_ts = 10.2.0.0/16, fd00::/8\n");
  expect(text.split("{").length).toBe(text.split("}").length);
});
