import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  nextGeneration,
  parseGeneration,
  renderGenerationRequest,
} from "../../daemon/core/nft-generation.ts";

/** An answer as the kernel writes it: the generation, then who made it. */
function answer(sequence: number, generation: number, type = 0x0a0f): Buffer {
  const id = Buffer.from([8, 0, 1, 0, 0, 0, 0, 0]);
  id.writeUInt32BE(generation, 4);
  const pid = Buffer.from([8, 0, 2, 0, 0, 0, 0, 7]);
  const name = Buffer.from([8, 0, 3, 0, 0x6e, 0x66, 0x74, 0]);
  const head = Buffer.alloc(20);
  head.writeUInt32LE(20 + id.length + pid.length + name.length, 0);
  head.writeUInt16LE(type, 4);
  head.writeUInt32LE(sequence, 8);
  return Buffer.concat([head, pid, id, name]);
}

const word = fc.nat(0xffff_ffff);

describe("the generation", () => {
  test("is asked for in the kernel's form", () => {
    expect(Buffer.from(renderGenerationRequest(0x0102_0304)).toString("hex")).toBe(
      "14000000100a0100040302010000000000000000",
    );
  });

  test("comes back from the answer of the same sequence, and of no other", () => {
    fc.assert(
      fc.property(word, word, word, (sequence, other, generation) => {
        expect(parseGeneration(answer(sequence, generation), sequence)).toBe(generation);
        fc.pre(other !== sequence);
        expect(parseGeneration(answer(sequence, generation), other)).toBeNull();
      }),
    );
  });

  test("an answer cut short is none, nor is one of another type", () => {
    const whole = answer(1, 5);
    for (let length = 0; length < whole.length; length++)
      expect(parseGeneration(whole.subarray(0, length), 1)).toBeNull();
    expect(parseGeneration(answer(1, 5, 2), 1)).toBeNull();
    const withoutId = Buffer.from(whole);
    withoutId.writeUInt16LE(4, 30);
    expect(parseGeneration(withoutId, 1)).toBeNull();
  });

  test("any bytes are a number or nothing", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), fc.boolean(), (bytes, plausible) => {
        if (plausible && bytes.length >= 20) bytes.set([bytes.length, 0, 0, 0, 0x0f, 0x0a, 0, 0, 1, 0, 0, 0]);
        const found = parseGeneration(bytes, 1);
        expect(found === null || (Number.isInteger(found) && found >= 0 && found <= 0xffff_ffff)).toBe(true);
      }),
    );
  });

  test("goes on at 1 after the last", () => {
    expect(nextGeneration(1)).toBe(2);
    expect(nextGeneration(0xffff_ffff)).toBe(1);
  });
});
