import fc from "fast-check";
import { describe, expect, test, vi } from "vitest";
import { createFrameReader, type Frame, renderFrame } from "../../daemon/protocol/frame.ts";

const LIMITS = { maxBytes: 65_536, maxDepth: 32 };
const SMALL = { maxBytes: 64, maxDepth: 4 };

function readAll(bytes: Buffer, limits = LIMITS): readonly Frame[] {
  return createFrameReader(limits).push(bytes);
}

function readInChunks(bytes: Buffer, sizes: readonly number[], limits = LIMITS): readonly Frame[] {
  const reader = createFrameReader(limits);
  const frames: Frame[] = [];
  let at = 0;
  for (let turn = 0; at < bytes.length; turn++) {
    const size = sizes.length === 0 ? 1 : (sizes[turn % sizes.length] ?? 1);
    frames.push(...reader.push(bytes.subarray(at, at + size)));
    at += size;
  }
  return frames;
}

const good = (type: string, data: unknown): Frame => ({ kind: "message", type, data });
const bad = (code: string): unknown => ({ kind: "bad", code, fatal: false });
const ofLength = (bytes: number): Buffer => Buffer.from(`"${"x".repeat(bytes - 2)}"\f`);
/** -0 and the like: what JSON makes of a value. */
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

describe("one frame", () => {
  const rows: readonly [name: string, bytes: string | Buffer, frame: unknown][] = [
    ["a message", '{"type":"request","data":{"id":"1"}}', good("request", { id: "1" })],
    ["keys in the other order", '{"data":1,"type":"x"}', good("x", 1)],
    ["white space around", ' {"type":"x","data":null}\n', good("x", null)],
    ["nothing", "", bad("json-invalid")],
    ["a number", "5", bad("request-invalid")],
    ["an array", "[1]", bad("request-invalid")],
    ["null", "null", bad("request-invalid")],
    ["no type", '{"data":1}', bad("request-invalid")],
    ["no data", '{"type":"x"}', bad("request-invalid")],
    ["a type that is no text", '{"type":5,"data":1}', bad("request-invalid")],
    ["a third field", '{"type":"x","data":1,"more":1}', bad("request-invalid")],
    ["__proto__ in place of data", '{"type":"x","__proto__":{"data":1}}', bad("request-invalid")],
    ["a key twice", '{"type":"x","data":1,"type":"y"}', bad("json-duplicate-key")],
    ["an escaped key twice", '{"type":"x","data":1,"\\u0074ype":"y"}', bad("json-duplicate-key")],
    ["half a value", '{"type":"x","data":', bad("json-invalid")],
    ["two values", '{"type":"x","data":1} 2', bad("json-invalid")],
    ["deep nesting", `{"type":"x","data":${"[".repeat(40)}${"]".repeat(40)}}`, bad("json-too-deep")],
    ["not UTF-8", Buffer.from([0x22, 0xff, 0x22]), bad("frame-not-utf8")],
    ["an overlong encoding", Buffer.from([0xc0, 0xaf]), bad("frame-not-utf8")],
    ["a byte order mark", '\ufeff{"type":"x","data":1}', bad("json-invalid")],
  ];
  test.each(rows)("%s", (_name, bytes, frame) => {
    const after = renderFrame("after", 1);
    const all = Buffer.concat([Buffer.from(bytes), Buffer.from("\f"), Buffer.from(after)]);
    expect(readAll(all)).toEqual([frame, good("after", 1)]);
  });
});

describe("length", () => {
  test("a frame of exactly the limit is read", () => {
    expect(readAll(ofLength(64), SMALL)).toEqual([{ kind: "bad", code: "request-invalid", fatal: false }]);
  });

  test("one byte more is fatal, and nothing after it is read", () => {
    const reader = createFrameReader(SMALL);
    const both = Buffer.concat([ofLength(65), Buffer.from(renderFrame("x", 1))]);
    expect(reader.push(both)).toEqual([{ kind: "bad", code: "frame-too-large", fatal: true }]);
    expect(reader.state()).toBe("dead");
    expect(reader.push(Buffer.from(renderFrame("x", 1)))).toEqual([]);
  });

  test("it is refused as soon as the limit is passed, not when it ends", () => {
    const reader = createFrameReader(SMALL);
    expect(reader.push(Buffer.alloc(64, "x"))).toEqual([]);
    expect(reader.state()).toBe("partial");
    expect(reader.push(Buffer.alloc(1, "x"))).toEqual([
      { kind: "bad", code: "frame-too-large", fatal: true },
    ]);
  });

  test("characters of several bytes count as bytes", () => {
    expect(readAll(Buffer.from(`"${"€".repeat(22)}"\f`), SMALL)[0]).toMatchObject({ fatal: true });
  });
});

test("a form feed inside text is escaped when rendered, so it never splits a frame", () => {
  const data = { text: "a\fb\u2028\ud800" };
  expect(readAll(Buffer.from(renderFrame("x", data)))).toEqual([{ kind: "message", type: "x", data }]);
});

test("what is held is not the caller's buffer, which Node uses again", () => {
  const reader = createFrameReader(LIMITS);
  const chunk = Buffer.from('{"type":"x",');
  reader.push(chunk);
  chunk.fill(0);
  expect(reader.push(Buffer.from('"data":1}\f'))).toEqual([{ kind: "message", type: "x", data: 1 }]);
});

test("a frame of the full length fed byte by byte takes memory for a few copies, not for one a byte", () => {
  let allocatedBytes = 0;
  const count = <B extends Buffer>(buffer: B): B => {
    allocatedBytes += buffer.length;
    return buffer;
  };
  const { allocUnsafeSlow, allocUnsafe, alloc, concat } = Buffer;
  const spies = [
    vi.spyOn(Buffer, "allocUnsafeSlow").mockImplementation((size) => count(allocUnsafeSlow(size))),
    vi.spyOn(Buffer, "allocUnsafe").mockImplementation((size) => count(allocUnsafe(size))),
    vi.spyOn(Buffer, "alloc").mockImplementation((size, fill) => count(alloc(size, fill))),
    vi.spyOn(Buffer, "concat").mockImplementation((list, length) => count(concat(list, length))),
  ];
  try {
    const bytes = Buffer.from(renderFrame("x", "y".repeat(65_000)));
    expect(readInChunks(bytes, [1])).toHaveLength(1);
    expect(allocatedBytes).toBeLessThan(4 * bytes.length);
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
});

describe("properties", () => {
  const message = fc.record({ type: fc.string({ maxLength: 8 }), data: fc.jsonValue({ maxDepth: 3 }) });
  const rendered = message.map(({ type, data }) => Buffer.from(renderFrame(type, data)));
  const noise = fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes));
  const stream = fc.array(fc.oneof(rendered, noise, fc.constant(Buffer.from("\f"))), { maxLength: 12 });
  const sizes = fc.array(fc.integer({ min: 1, max: 50 }), { maxLength: 6 });

  test("any bytes give the same frames in any chunking, and nothing throws", () => {
    fc.assert(
      fc.property(stream, sizes, fc.constantFrom(LIMITS, SMALL), (parts, chunking, limits) => {
        const bytes = Buffer.concat(parts);
        expect(readInChunks(bytes, chunking, limits)).toEqual(readAll(bytes, limits));
      }),
      { numRuns: 500 },
    );
  });

  test("garbage between two good frames loses neither", () => {
    fc.assert(
      fc.property(message, noise, message, sizes, (first, garbage, last, chunking) => {
        const parts = [renderFrame(first.type, first.data), garbage, "\f", renderFrame(last.type, last.data)];
        const frames = readInChunks(Buffer.concat(parts.map((part) => Buffer.from(part))), chunking);
        expect(plain(frames.at(0))).toEqual(plain({ kind: "message", ...first }));
        expect(plain(frames.at(-1))).toEqual(plain({ kind: "message", ...last }));
      }),
      { numRuns: 500 },
    );
  });

  test("what was rendered is what is read", () => {
    fc.assert(
      fc.property(fc.array(message, { maxLength: 8 }), sizes, (messages, chunking) => {
        const bytes = Buffer.from(messages.map(({ type, data }) => renderFrame(type, data)).join(""));
        const wanted = messages.map(({ type, data }) => ({ kind: "message", type, data }));
        expect(plain(readInChunks(bytes, chunking))).toEqual(plain(wanted));
      }),
      { numRuns: 300 },
    );
  });
});
