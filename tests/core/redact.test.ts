import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { redactClosely, redactText, redactValue } from "../../daemon/core/redact.ts";
import { mayHoldSecret, mayHoldSecretWithin } from "../../daemon/core/secret-hint.ts";
import { noise, PLANTED, pem, whole } from "../support/planted-credentials.ts";
import { NAMED, SECRETS, SHAPED } from "../support/secrets.ts";

const DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
const VKEY = `boundary-daemon/host+0123abcd+${Buffer.alloc(33, 7).toString("base64")}`;

describe("what is redacted", () => {
  test.each(PLANTED)("what the commit scanner stops: %s, %s", (_rule, _what, content) => {
    const text = whole(content);
    const clean = redactText(`before ${text} after`);
    expect(clean).toContain("[redacted:");
    const longest =
      text
        .replace(/password/i, "")
        .split(/[^A-Za-z0-9]+/)
        .toSorted((a, b) => b.length - a.length)[0] ?? "";
    expect(clean).not.toContain(longest);
  });

  test("every kind of secret, in whatever text", () => {
    fc.assert(
      fc.property(SECRETS, surroundings(), surroundings(), (planted, before, after) => {
        expect(redactText(`${before} ${planted.text} ${after}`)).not.toContain(planted.secret);
      }),
      { numRuns: 2_000 },
    );
  });

  test("what has a form of its own, with anything at all right beside it and whatever breaks its lines", () => {
    const parts = fc.tuple(
      fc.string({ unit: "binary" }),
      SHAPED,
      fc.nat(60),
      fc.constantFrom("\n", "\r\n  ", "\\n", "\u200b"),
    );
    fc.assert(
      fc.property(parts, ([before, { secret }, at, breaks]) => {
        const broken = secret.slice(0, at) + breaks + secret.slice(at);
        const clean = redactText(`${before}\n${broken}`);
        for (const piece of broken.split(breaks)) if (piece.length > 12) expect(clean).not.toContain(piece);
      }),
      { numRuns: 1_000 },
    );
  });

  test("what has a form of its own, given in base64 or hex wherever it begins", () => {
    fc.assert(
      fc.property(SHAPED, fc.string({ unit: "grapheme-ascii", maxLength: 9 }), ({ secret }, before) => {
        for (const encoding of ["base64", "base64url", "hex"] as const) {
          const encoded = Buffer.from(before + secret).toString(encoding);
          expect(redactText(`data ${encoded} end`)).not.toContain(encoded);
        }
      }),
    );
  });

  test("in keys and values of JSON, at any depth, also as JSON within JSON", () => {
    fc.assert(
      fc.property(
        SECRETS,
        fc.array(fc.constantFrom("array", "value", "key", "json"), { maxLength: 6 }),
        (planted, nest) => {
          const value = nest.reduce<unknown>(wrap, planted.text);
          const text = JSON.stringify(redactValue(value));
          for (const form of [planted.secret, JSON.stringify(planted.secret).slice(1, -1)])
            expect(text).not.toContain(form);
        },
      ),
      { numRuns: 1_000 },
    );
  });

  test("whatever is under a key that names a secret, but not numbers", () => {
    fc.assert(
      fc.property(NAMED, fc.string({ minLength: 1 }), (name, secret) => {
        const clean = redactValue({ [name]: { list: [secret], n: 7 }, other: 1 });
        expect(Object.values(clean)[0]).toMatchObject({
          list: [expect.stringMatching(/^\[redacted:/)],
          n: 7,
        });
      }),
    );
  });

  test("an option's argument, and the lines of a key, in a list", () => {
    const lines = pem("RSA ").split("\n");
    expect(redactValue(["run", "--db-password", "hunter2", "--json", "-v"])).toEqual([
      "run",
      "--db-password",
      "[redacted:password]",
      "--json",
      "-v",
    ]);
    expect(
      JSON.stringify(redactValue([...lines, "-----END RSA PRIVATE KEY¦-----".replace("¦", ""), "after"])),
    ).not.toContain(lines[1]);
  });

  test.each([
    ["ｐａｓｓｗｏｒｄ＝hunter2", "hunter2"],
    ["pass\u200bword: hunter2", "hunter2"],
    ["p\u00e4ssw\u00f6rd=hunter2", "hunter2"],
    ["%70assword%3Dhunter2&x=1", "hunter2"],
    ['{\\"\\u0070assword\\":\\"hunter2\\"}', "hunter2"],
    ['{"password": "hun\\"ter2 x", "user": "bob"}', "ter2"],
    ["password='it'\"'\"'s hunter2'", "it"],
    ["token: Bearer hunter2x", "hunter2x"],
    ["Authorization: Digest user=a, response=hunter2", "hunter2"],
    ["Cookie: a=b; sid=hunter2", "hunter2"],
    ["https:/¦/u:12345@host/", "12345"],
    ["ftp://u:p/w@d@host/", "p/w@d"],
    ["http://host:80/?next=https:/¦/u:hunter2@h", "hunter2"],
    ["wpa_psk=00112233445566778899aabbccddeeff", "0011"],
    ["key = 00112233445566778899aabbccddeeff", "0011"],
    ["passphrase: correct horse battery", "battery"],
    ["tokens: [ one, hunter2 ]", "hunter2"],
    ["password=[redacted:password]hunter2", "hunter2"],
  ])("%j", (text, secret) => {
    expect(redactText(whole(text))).not.toContain(secret);
  });
});

describe("what stays", () => {
  test.each([
    VKEY,
    DIGEST,
    `root ${DIGEST}, leaf ${DIGEST}`,
    `tokenDigest: ${DIGEST}`,
    "00000000-0000-4000-8000-00000000b007",
    `— boundary-daemon/host ${Buffer.alloc(68, 9).toString("base64")}`,
    "/run/secrets/token",
    "path /etc/boundary-daemon/password-file.conf, change modified",
    "/var/lib/boundary-daemon/state/log.key",
    "uid 1000 holds readonly, pid 4242",
    "class SECRET, up to TOP_SECRET",
    "reading the private key: EACCES: permission denied",
    "at daemon/core/secret.ts:12:5",
    "PWD=/home/somebody",
    "task-0123456789abcdef0123456789",
    "http://host:8080/path",
    "use basic information about the bearer",
    "über die Grenze 🚧",
  ])("%s", (text) => {
    expect(redactText(text)).toBe(text);
  });

  test("a value without secrets is the value itself", () => {
    const value = {
      a: [DIGEST, { key: VKEY, firedByTripwire: { "password-files": 3 } }],
      tokenDigest: DIGEST,
      n: 1,
    };
    expect(redactValue(value)).toBe(value);
  });

  test("two keys that were secrets stay two", () => {
    const key = (salt: string) => `ghp_${noise(36, salt)}`;
    expect(Object.keys(redactValue({ [key("a")]: 1, [key("b")]: 2 }))).toEqual([
      "[redacted:github-token]",
      "[redacted:github-token]#2",
    ]);
  });
});

describe("redaction", () => {
  test("done twice changes nothing, and the quick look misses nothing", () => {
    const piece = fc.oneof(
      SECRETS.map(({ text }) => text),
      fc.constantFrom(
        "password",
        "token",
        "=",
        ": ",
        '"',
        "\\",
        "[",
        "]",
        "{",
        "bearer ",
        "\n",
        "key",
        "--",
        "eyJ",
        "://",
        "@",
      ),
      fc.constantFrom(
        "[redacted:token]",
        "BEGIN PRIVATE KEY--",
        "END PRIVATE KEY-----",
        "\u0301",
        "ﬁ",
        " ",
        "d",
      ),
      fc.string({ unit: "binary" }),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        const text = pieces.join("");
        const clean = redactClosely(text);
        expect(redactClosely(clean)).toBe(clean);
        expect(clean).not.toBe("[redacted:unsettled]");
        if (clean !== text) expect(mayHoldSecret(text)).toBe(true);
        const value = { [text]: 1, list: [text, "x"], under: { [text.slice(0, 9)]: "y" } };
        if (redactValue(value) !== value) expect(mayHoldSecretWithin(value)).toBe(true);
        const json = JSON.stringify({ a: [text] });
        if (JSON.stringify(redactValue({ a: [text] })) !== json) expect(mayHoldSecret(json)).toBe(true);
      }),
      { numRuns: 5_000 },
    );
  });

  test.each([
    "password=",
    "token",
    "eyJ",
    "://a:",
    "://a:b@",
    "\\",
    " \t",
    "BEGIN PRIVATE KEY--",
    "END PRIVATE KEY-----",
    "PRIVATE ",
    "ab",
    "Zm9v",
    'password="',
    "a\n",
    "--token ",
    "\u0301é",
    "bearer ",
    "token=[",
    'key"',
    "BEGIN ",
    "bd_",
    "%41",
    "pass:{",
    "sig",
    "'d'",
  ])("takes time by length, not more: %j", (hostile) => {
    // 16 times the length: quadratic would be 256 times. The best of some, and tried again: the machine is shared.
    const growth = () => timeOf(hostile, 65_536) / Math.max(timeOf(hostile, 4_096), 0.1);
    expect([1, 2, 3].some(() => growth() < 64)).toBe(true);
  });
});

function timeOf(hostile: string, length: number): number {
  const text = hostile.repeat(Math.ceil(length / hostile.length));
  const times = Array.from({ length: 4 }, () => {
    const start = performance.now();
    redactText(text);
    return performance.now() - start;
  });
  return Math.min(...times);
}

/** Text that does not by itself go on into the secret: no quotes, no brackets that stay open. */
function surroundings(): fc.Arbitrary<string> {
  return fc.oneof(
    fc.string({ unit: "binary" }),
    fc.lorem(),
    fc.constantFrom("", "\\", "x=", "a\n", "] ", "key:"),
  );
}

function wrap(inner: unknown, how: string): unknown {
  if (how === "array") return ["x", inner, 1];
  if (how === "value") return { reason: inner, n: 1 };
  const text = typeof inner === "string" ? inner : JSON.stringify(inner);
  return how === "key" ? { [text]: 1 } : JSON.stringify({ data: inner });
}
