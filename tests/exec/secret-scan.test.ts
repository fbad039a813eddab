import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { checksumOf } from "../../daemon/core/secret-checksum.ts";
import { looksRandom } from "../../daemon/core/secret-entropy.ts";
import { SHAPE_COUNT } from "../../daemon/core/secret-shapes.ts";
import { type Find, OVERLAP, scanText, WINDOW } from "../../daemon/exec/secret-scan.ts";
import { type Given, scanGiven } from "../../daemon/exec-scan.ts";
import { noise, whole } from "../support/planted-credentials.ts";
import { SHAPED } from "../support/secrets.ts";

/** All of a scan at once, with the steps it took. */
function scan(text: string): { readonly finds: readonly Find[]; readonly steps: number } {
  const all = scanText(text, "stdin");
  for (let steps = 1; ; steps++) {
    const step = all.next();
    if (step.done) return { finds: step.value, steps };
  }
}

/** GitHub's own example, in pieces for the commit scan; its checksum holds. */
const ISSUED = whole("gh¦p_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq17");
const MADE_UP = whole("gh¦p_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq18");

describe("looking for secrets in what a command is given", () => {
  test("some sixty forms are known", () => {
    expect(SHAPE_COUNT).toBeGreaterThanOrEqual(60);
  });

  test("a secret is found wherever it is, also where two windows meet", () => {
    // those with a checksum are made up here
    const shaped = SHAPED.filter(({ secret }) => checksumOf(secret) === "none");
    const near = fc.oneof(
      fc.integer({ min: 0, max: 3 * WINDOW }),
      fc.integer({ min: -200, max: 200 }).map((off) => WINDOW + off),
      fc.integer({ min: -200, max: 200 }).map((off) => WINDOW - OVERLAP + off),
    );
    fc.assert(
      fc.property(near, shaped, fc.integer({ min: 0, max: WINDOW }), (before, { text }, after) => {
        const { finds } = scan(`${"a\n".repeat(before / 2)} ${text} ${"b\n".repeat(after / 2)}`);
        expect(finds.length).toBeGreaterThan(0);
        expect(JSON.stringify(finds)).not.toContain(text.slice(4));
      }),
      { numRuns: 300 },
    );
  });

  test("tells the rule and the line", () => {
    const text = `${"line\n".repeat(9_000)}key: ${ISSUED}\n`;
    expect(scan(text).finds).toContainEqual({ rule: "github-token", place: "stdin, line 9001" });
  });

  test("takes steps by the length alone, whatever is in it", () => {
    const hostile = fc.oneof(
      fc.constantFrom(
        "gh",
        "password=",
        "-----BEGIN ",
        "AKIA",
        "eyJ",
        "\\u0067",
        "%67",
        "a".repeat(40),
        "=",
        '"',
        "\n",
        "://x:",
      ),
      fc.string({ unit: "binary", maxLength: 8 }),
    );
    fc.assert(
      fc.property(
        fc.array(hostile, { minLength: 1, maxLength: 6 }),
        fc.integer({ min: 0, max: 200_000 }),
        (parts, length) => {
          const piece = parts.join("") || "x";
          const text = piece.repeat(Math.ceil(length / piece.length)).slice(0, length);
          const most = Math.max(1, Math.ceil((text.length - OVERLAP) / (WINDOW - OVERLAP)));
          expect(scan(text).steps).toBe(most);
        },
      ),
      { numRuns: 30 },
    );
  });

  test("a checksum that holds, one that does not, and none", () => {
    expect([checksumOf(ISSUED), checksumOf(MADE_UP), checksumOf(ISSUED.slice(0, 30))]).toEqual([
      "holds",
      "fails",
      "none",
    ]);
    // the key of age's own tests, by BIP 173
    const age = (tail: string) => `${whole("AGE-SECRET-¦KEY-1")}${tail}`;
    const known = `${"GFPYYSJZ".repeat(6)}GFPQ4EGAEX`;
    expect([checksumOf(age(known)), checksumOf(age(known.replace("X", "Q")))]).toEqual(["holds", "fails"]);
    expect(scan(ISSUED).finds).toHaveLength(1);
    expect(scan(`a placeholder: ${MADE_UP}`).finds).toEqual([]);
  });

  test.each([
    ["token: string;", 0],
    ["const password = process.env.DB_PASSWORD ?? fail();", 0],
    [["password: $", "{PASSWORD}"].join(""), 0],
    [whole("api_¦key = 'example-key-0000'"), 0],
    ["secret = this.secrets.get(name)", 0],
    [whole("https:/¦/user:password@example.org/"), 0],
    [`client_secret = "${noise(24, "s")}"`, 1],
    [`DATABASE_URL=postgres://app:${noise(16, "d")}@db/x`, 1],
  ])("%j", (text, found) => {
    expect(scan(text).finds.length > 0).toBe(found > 0);
  });

  test("what is random, and what only is long", () => {
    expect(looksRandom(noise(24, "r"))).toBe(true);
    for (const one of [
      "short1",
      "correcthorsebattery",
      "aaaaaaaaaaaa1111",
      "src/index2.test.ts()",
      "x1".repeat(20),
    ])
      expect(looksRandom(one)).toBe(false);
  });
});

describe("the whole of it", () => {
  const given = (over: Partial<Given> = {}): Given => ({
    argv: ["tool"],
    environment: [],
    stdin: Buffer.alloc(0),
    files: [],
    places: [],
    known: { locate: () => [] },
    ...over,
  });
  const reading = (text: string) => ({
    read: async () => ({ kind: "bytes" as const, bytes: Buffer.from(text) }),
  });
  const none = { read: async () => ({ kind: "none" as const }) };

  test("is a no when its time is over, and when there is too much of it", async () => {
    let nowMs = 0;
    const slow = () => (nowMs += 1_500);
    const long = given({ stdin: Buffer.from("x".repeat(3 * WINDOW)) });
    expect(await scanGiven(long, none, slow)).toMatchObject({
      verdict: "unscanned",
      why: "it took too long",
    });
    const many = given({ files: Array.from({ length: 65 }, (_, index) => `/w/${index}`) });
    expect(await scanGiven(many, none, () => 0)).toMatchObject({ verdict: "unscanned" });
    const large = given({ files: Array.from({ length: 9 }, (_, index) => `/w/${index}`) });
    expect(await scanGiven(large, reading("a".repeat(262_144)), () => 0)).toMatchObject({
      verdict: "unscanned",
    });
  });

  test("looks at bytes that are no text, and lets others go first", async () => {
    const bytes = Buffer.concat([Buffer.from([0, 255, 1]), Buffer.from(ISSUED), Buffer.from([254])]);
    expect(await scanGiven(given({ stdin: bytes }), none, () => 0)).toMatchObject({ verdict: "found" });
    let turns = 0;
    let nowMs = 0;
    const scanning = scanGiven(
      given({ stdin: Buffer.from("x".repeat(40 * WINDOW)) }),
      none,
      () => (nowMs += 3),
    );
    let over = false;
    void scanning.then(() => {
      over = true;
    });
    while (!over && turns < 1_000) {
      await new Promise((resolve) => setImmediate(resolve));
      turns += 1;
    }
    expect((await scanning).verdict).toBe("clean");
    expect(turns).toBeGreaterThan(5);
  });
});
