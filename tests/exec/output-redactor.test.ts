import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createOutputRedactor, type Known } from "../../daemon/exec/output-redactor.ts";
import { createWatchlist } from "../../daemon/vault/watchlist.ts";
import { pem } from "../support/planted-credentials.ts";
import { SECRETS, SHAPED } from "../support/secrets.ts";

const NOTHING: Known = { locate: () => [], spansLines: () => false };

function knowing(...secrets: readonly string[]): Known {
  const watch = createWatchlist(randomBytes(32));
  for (const [index, secret] of secrets.entries()) watch.add(`secret ${index}`, Buffer.from(secret));
  return watch;
}

/** All that is told of the bytes when they come in chunks of these sizes, again and again. */
function told(bytes: Uint8Array, sizes: readonly number[], known: Known = NOTHING): Buffer {
  const redactor = createOutputRedactor(known);
  const parts: Buffer[] = [];
  for (let at = 0, turn = 0; at < bytes.length; turn++) {
    const size = sizes[turn % sizes.length] ?? 1;
    parts.push(redactor.push(bytes.subarray(at, at + size)));
    at += size;
  }
  return Buffer.concat([...parts, redactor.end()]);
}

const sizes = fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 20 });
const filler = fc.string({ unit: fc.constantFrom("a", "é", "🚧", " ", ".", "7", "\n"), maxLength: 200 });

describe("redaction of output as it streams", () => {
  test("no secret with a form or a name is told, wherever the chunks end", () => {
    // of what has a form of its own, on a line, not even a part
    fc.assert(
      fc.property(filler, SHAPED, filler, sizes, (before, { text, secret }, after, cuts) => {
        const output = told(Buffer.from(`${before} ${text}\n${after}`), cuts).toString("utf8");
        for (const part of partsOf(secret)) expect(output).not.toContain(part);
      }),
      { numRuns: 500 },
    );
    fc.assert(
      fc.property(filler, SECRETS, filler, sizes, (before, { text, secret }, after, cuts) => {
        const output = told(Buffer.from(`${before} ${text}\n${after}`), cuts).toString("utf8");
        expect(output).not.toContain(secret);
        expect(output).toContain("[redacted:");
      }),
      { numRuns: 1_500 },
    );
  });

  test("nor in a line without an end, far longer than what is held back", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 20_000 }),
        SHAPED,
        fc.integer({ min: 0, max: 20_000 }),
        sizes,
        (before, { text, secret }, after, cuts) => {
          const line = `${"word ".repeat(before / 5)} ${text} ${"word ".repeat(after / 5)}`;
          const output = told(
            Buffer.from(line),
            cuts.map((one) => one * 20),
          ).toString();
          for (const part of partsOf(secret)) expect(output).not.toContain(part);
        },
      ),
      { numRuns: 200 },
    );
  });

  test("nor where such a line is cut right within one", () => {
    fc.assert(
      fc.property(
        SHAPED,
        fc.integer({ min: 8_193, max: 20_000 }),
        fc.nat({ max: 60 }),
        (planted, length, within) => {
          const { text, secret } = planted;
          const before = "word ".repeat(length / 5);
          const line = Buffer.from(`${before}${text} ${"word ".repeat(3_000)}`);
          const output = told(line, [before.length + within, 100_000]).toString();
          for (const part of partsOf(secret)) expect(output).not.toContain(part);
        },
      ),
      { numRuns: 300 },
    );
  });

  test("no known secret is told, short or long, on one line or on many, as it is or in hex or base64", () => {
    const letter = fc.constantFrom(..."abcdefghijklmnopqrstuvwxyzABCDEFGH0123456789\n".split(""));
    const secret = fc
      .string({ unit: letter, minLength: 8, maxLength: 400 })
      .filter((one) => new Set(one).size > 7);
    fc.assert(
      fc.property(
        filler,
        secret,
        filler,
        sizes,
        fc.constantFrom("as it is", "hex", "base64"),
        (before, one, after, cuts, how) => {
          const given = how === "as it is" ? one : Buffer.from(one).toString(how);
          const output = told(Buffer.from(`${before}${given}${after}`), cuts, knowing(one)).toString();
          for (const part of partsOf(given.replace(/=+$/, ""))) expect(output).not.toContain(part);
        },
      ),
      { numRuns: 500 },
    );
  });

  test("nor as in a URL, in JSON, or in base64 within something longer, wherever the chunks end", () => {
    const secrets = fc.string({
      unit: fc.constantFrom("a", "Q", "7", "-", "+", "/", "=", "@", ":", "%", '"', "\\", "&", " ", "é"),
      minLength: 8,
      maxLength: 90,
    });
    const forms: readonly ((secret: string) => string)[] = [
      encodeURIComponent,
      (secret) => encodeURIComponent(secret).replace(/%[0-9A-F]{2}/g, (one) => one.toLowerCase()),
      (secret) => JSON.stringify(secret).slice(1, -1),
      (secret) => Buffer.from(secret).toString("base64url"),
      (secret) => Buffer.from(`ab${secret}`).toString("base64"),
    ];
    fc.assert(
      fc.property(
        filler,
        secrets,
        fc.constantFrom(...forms),
        filler,
        sizes,
        (before, secret, form, after, cuts) => {
          fc.pre(new Set(secret.replace(/ /g, "")).size >= 8);
          const text = form(secret);
          const output = told(Buffer.from(`${before} ${text} ${after}`), cuts, knowing(secret)).toString();
          expect(output).toContain("[redacted:");
          // of base64 the digits beside it are its neighbours' too
          expect(output).not.toContain(text.slice(4, -4));
        },
      ),
      { numRuns: 500 },
    );
  });

  test("a private key of many lines is hidden to its end, and what comes after it is told", () => {
    const body = Array.from({ length: 60 }, () => randomBytes(48).toString("base64"));
    const end = "-----END RSA PRIVATE KEY¦-----".replace("¦", "");
    const text = `before\n${pem("RSA ").split("\n")[0]}\n${body.join("\n")}\n${end}\nafter\n`;
    for (const cuts of [[1], [7], [64], [100_000]]) {
      const output = told(Buffer.from(text), cuts).toString();
      for (const line of body) expect(output).not.toContain(line);
      expect(output).toMatch(/^before\n\[redacted:private-key\]/);
      expect(output).toMatch(/after\n$/);
    }
  });

  test("what holds no secret is told byte by byte, whatever the chunks, text or not", () => {
    const harmless = fc.oneof(
      fc
        .string({ unit: fc.constantFrom("x", "y z", "\n", "é", "\r\n", "🚧", "1") })
        .map((text) => Buffer.from(text)),
      fc.array(fc.constantFrom(0, 1, 200, 255, 10, 65), { maxLength: 400 }).map((all) => Buffer.from(all)),
    );
    fc.assert(
      fc.property(harmless, sizes, (bytes, cuts) => {
        expect(told(bytes, cuts).equals(bytes)).toBe(true);
      }),
      { numRuns: 500 },
    );
  });

  test("a line is told when it ends, and not before", () => {
    const redactor = createOutputRedactor(NOTHING);
    expect(redactor.push(Buffer.from("one\ntw")).toString()).toBe("one\n");
    expect(redactor.push(Buffer.from("o")).toString()).toBe("");
    expect(redactor.push(Buffer.from(" 40%\r")).toString()).toBe("two 40%\r");
    expect(redactor.end().toString()).toBe("");
  });

  test("what cannot be looked at in full is not told, and that is known", () => {
    const redactor = createOutputRedactor({ locate: () => null, spansLines: () => false });
    expect(redactor.push(Buffer.from("a line\nand ")).toString()).toBe("[redacted:unscanned]");
    expect(redactor.end().toString()).toBe("");
    expect(redactor.failed()).toBe(true);
  });

  test("a secret that repeats counts each time, one that goes on over chunks once", () => {
    const secret = `correct-horse-${"9f3".repeat(4)}`;
    const redactor = createOutputRedactor(knowing(secret));
    const output = [...`${secret} and ${secret}\n`]
      .map((one) => redactor.push(Buffer.from(one)).toString())
      .join("");
    expect(output).toBe("[redacted:known] and [redacted:known]\n");
    expect(redactor.taken()).toBe(2);
  });
});

/** Every twelve characters of a secret that could be nothing else. */
function partsOf(secret: string): readonly string[] {
  const parts = Array.from({ length: Math.max(0, secret.length - 11) }, (_, at) => secret.slice(at, at + 12));
  return parts.filter((part) => new Set(part).size > 5);
}
