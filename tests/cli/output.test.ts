import fc from "fast-check";
import { expect, test } from "vitest";
import { painter, plain, renderJson, renderTable } from "../../cli/output.ts";

// ESC, CSI in C1, DEL, bell, right-to-left override, line separator
const HOSTILE = "\u001b[2J\u009b31m\u007f\u0007\u202edrowssap\u2028\r\nfake line";

test("nothing that steers a terminal gets through", () => {
  expect(plain(HOSTILE)).toBe(
    "\\u001b[2J\\u009b31m\\u007f\\u0007\\u202edrowssap\\u2028\\u000d\\u000afake line",
  );
});

test.each(["\u061c", "\u180e", "\u00ad", "\u200d", "\u2029", "\u{e0041}", "\u{1bca0}", "\ud800", "\udfff"])(
  "what is not seen is shown escaped: %j",
  (hidden) => {
    for (const text of [plain(`a${hidden}b`), renderJson(`a${hidden}b`)])
      expect(text).toMatch(/^[\u0020-\u007e]+$/);
    expect(JSON.parse(renderJson(`a${hidden}b`))).toBe(`a${hidden}b`);
  },
);

test("other text is left as it is", () => {
  expect(plain("Grüße, 世界 → ok 👍")).toBe("Grüße, 世界 → ok 👍");
});

test("JSON says the same value and steers nothing either", () => {
  const text = renderJson({ text: HOSTILE });
  expect(JSON.parse(text)).toEqual({ text: HOSTILE });
  expect(text).toMatch(/^[\u0020-\u007e]+$/);
});

test("any text comes out as one line without control characters", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (text) => {
      expect(plain(text)).not.toMatch(/[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/u);
      expect(JSON.parse(renderJson(text))).toEqual(JSON.parse(JSON.stringify(text)));
    }),
  );
});

test("colour only on a terminal, and never with NO_COLOR", () => {
  const before = process.env["NO_COLOR"];
  const term = process.env["TERM"];
  try {
    process.env["TERM"] = "xterm";
    delete process.env["NO_COLOR"];
    expect(painter({ isTTY: true }).paint("red", "x")).toBe("\u001b[31mx\u001b[0m");
    expect(painter({}).paint("red", "x")).toBe("x");
    process.env["NO_COLOR"] = "1";
    expect(painter({ isTTY: true }).paint("red", "x")).toBe("x");
  } finally {
    restore("NO_COLOR", before);
    restore("TERM", term);
  }
});

function restore(name: string, value: string | undefined): void {
  if (value === undefined) delete process.env[name];
  else process.env[name] = value;
}

test("columns line up, and the last one has no blanks after it", () => {
  expect(
    renderTable([
      ["a", "bb", "c"],
      ["aaa", "b", ""],
    ]),
  ).toEqual(["a    bb  c", "aaa  b   "]);
});
