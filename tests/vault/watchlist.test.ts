import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { checkText } from "../../daemon/vault/message.ts";
import { createWatchlist, type Watchlist } from "../../daemon/vault/watchlist.ts";
import { pem } from "../support/planted-credentials.ts";

const MOST = 49_152;
const watching = (...secrets: readonly (string | Uint8Array)[]): Watchlist => {
  const list = createWatchlist(randomBytes(32));
  for (const [index, secret] of secrets.entries()) list.add(`s${index}`, Buffer.from(secret as string));
  return list;
};
const found = (list: Watchlist, text: string | Uint8Array) => [
  ...(list.find(Buffer.from(text as Uint8Array)) ?? ["gave up"]),
];
const check = (text: string, open: readonly Watchlist[] = [], sealed: readonly string[] = []) =>
  checkText(text, { open, sealed }, MOST);

describe("a watchlist", () => {
  test("finds a secret wherever it stands, as it is, in hex and in base64, and nothing else", () => {
    const around = fc.uint8Array({ maxLength: 200 });
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 8, maxLength: 63 }).filter((bytes) => new Set(bytes).size > 4),
        around,
        around,
        fc.constantFrom("latin1", "hex", "HEX", "base64", "base64url"),
        (secret, before, after, form) => {
          const list = watching(secret);
          const whole = Buffer.concat([before, secret, after]);
          const text =
            form === "latin1"
              ? whole
              : form === "HEX"
                ? Buffer.from(whole.toString("hex").toUpperCase())
                : Buffer.from(whole.toString(form as "hex"));
          expect(found(list, text)).toEqual(["s0"]);
          const other = Buffer.from(secret).map((byte) => byte ^ 0xff);
          expect(found(watching(other), whole).length > 0).toBe(whole.includes(Buffer.from(other)));
        },
      ),
      { numRuns: 300 },
    );
  });

  test("agrees with a search that looks at every place", () => {
    const letter = fc.constantFrom("a", "b", " ");
    fc.assert(
      fc.property(
        fc.array(fc.string({ unit: letter, minLength: 8, maxLength: 12 }), { maxLength: 5 }),
        fc.string({ unit: letter, maxLength: 300 }),
        (secrets, text) => {
          const expected = secrets.flatMap((secret, index) => (text.includes(secret) ? [`s${index}`] : []));
          expect(found(watching(...secrets), text).toSorted()).toEqual(expected.toSorted());
        },
      ),
      { numRuns: 500 },
    );
  });

  test("finds a piece of a long one", () => {
    const secret = randomBytes(1_000);
    const list = watching(secret);
    for (let at = 0; at + 63 <= secret.length; at += 37)
      expect(found(list, Buffer.concat([Buffer.from("x"), secret.subarray(at, at + 63)]))).toEqual(["s0"]);
    expect(found(list, randomBytes(10_000))).toEqual([]);
  });

  test("finds a short one as a word of its own, and one that is shorter still not at all", () => {
    const list = watching("4711", "abc");
    expect(found(list, "the code is 4711, say")).toEqual(["s0"]);
    expect(found(list, "14711 and abc")).toEqual([]);
  });

  test("what is removed or forgotten is not found, and its key is overwritten", () => {
    const key = randomBytes(32);
    const list = createWatchlist(key);
    list.add("one", Buffer.from("correct horse"));
    list.add("two", Buffer.from("battery staple"));
    list.remove("one");
    expect(found(list, "correct horse battery staple")).toEqual(["two"]);
    list.forget();
    expect([key.equals(Buffer.alloc(32)), list.find(Buffer.from("battery staple"))]).toEqual([true, null]);
  });

  test("a text that is made to look like secrets is given up, not searched without end", () => {
    const list = watching(`${"a".repeat(12)}b`);
    expect(list.find(Buffer.from("a".repeat(40_000)))).toBeNull();
    expect(check("a".repeat(40_000), [list])).toMatchObject({ verdict: "unscanned" });
  });
});

describe("a message", () => {
  test("with a known secret is blocked, and told by its name alone", () => {
    const list = watching("correct horse");
    expect(check("my password: see correct horse!", [list])).toEqual({
      verdict: "blocked",
      found: ["password", "s0"].toSorted(),
      why: "",
    });
    expect(check("see correct%20horse, or c\\u006frrect horse", [list]).verdict).toBe("blocked");
    expect(check("nothing here", [list])).toEqual({ verdict: "clean", found: [], why: "" });
  });

  test.each([
    ["a token by its shape", `use ghp_${"a1B2".repeat(9)}`, "github-token"],
    ["an assignment", "DB_PASSWORD=hunter2hunter2", "password"],
    ["a private key", pem("OPENSSH "), "private-key"],
    ["one that is encoded", Buffer.from("password=hunter2hunter2").toString("base64"), "encoded"],
  ])("with %s is blocked without any vault", (_, text, kind) => {
    expect(check(text)).toMatchObject({ verdict: "blocked", found: expect.arrayContaining([kind]) });
  });

  test("that is too long, or while secrets are locked, is unscanned", () => {
    expect(check("x ".repeat(MOST))).toMatchObject({ verdict: "unscanned", found: [] });
    expect(check("hello", [], ["build"])).toEqual({
      verdict: "unscanned",
      found: [],
      why: "locked or damaged: build",
    });
    expect(check("DB_PASSWORD=hunter2hunter2", [], ["build"]).verdict).toBe("blocked");
  });

  test("any text is an answer", () => {
    const list = watching("correct horse");
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 400 }), (text) => {
        expect(["clean", "blocked", "unscanned"]).toContain(check(text, [list]).verdict);
      }),
      { numRuns: 500 },
    );
  });
});
