import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { keysDown, meaningOf, newlyDown } from "../../daemon/core/boot-report.ts";
import {
  awaitReport,
  beginChallenge,
  type Challenge,
  type ChallengeEnd,
  type ChallengeStep,
  takeReport,
} from "../../daemon/core/usb-challenge.ts";

const CODE = "407319";
const ROW = (digit: string) => (digit === "0" ? 0x27 : 0x1d + Number(digit));
const PAD = (digit: string) => (digit === "0" ? 0x62 : 0x58 + Number(digit));
const [ENTER, ERASE, LETTER] = [0x28, 0x2a, 0x04];

function report(usages: readonly number[], modifiers = 0): Buffer {
  return Buffer.from([modifiers, 0, ...usages, 0, 0, 0, 0, 0, 0].slice(0, 8));
}

/** Each key down and up again, `everyMs` between two downs. */
function typed(
  usages: readonly number[],
  everyMs = 150,
  modifiers = 0,
): readonly (readonly [number, Buffer])[] {
  return usages.flatMap((usage, index) => [
    [index * everyMs, report([usage], modifiers)] as const,
    [index * everyMs + everyMs / 2, report([])] as const,
  ]);
}

function begin(code = CODE): Challenge {
  return beginChallenge({ code, deadlineUs: 60_000_000, maxPerSecond: 40 });
}

function run(reports: readonly (readonly [number, Buffer])[], challenge = begin()): ChallengeStep {
  let step: ChallengeStep = { kind: "going", challenge };
  for (const [ms, bytes] of reports)
    if (step.kind === "going") step = takeReport(step.challenge, bytes, ms * 1_000);
  return step;
}

function endOf(step: ChallengeStep): ChallengeEnd["kind"] | "going" {
  return step.kind === "going" ? "going" : step.end.kind;
}

const digits = (text: string, place = ROW) => [...text].map(place);

describe("a person with the code", () => {
  test.each([
    ["on the digit row", typed(digits(CODE))],
    ["on the keypad", typed(digits(CODE, PAD))],
    ["with Shift, as a French keyboard needs it", typed(digits(CODE), 150, 0x02)],
    ["after a mistake, erased", typed([...digits("405"), ERASE, ...digits("7319")])],
    ["after a wrong code", typed([...digits("111111"), ...digits(CODE)])],
    [
      "after two wrong codes, one cut off by Enter",
      typed([...digits("11"), ENTER, ...digits("222222"), ...digits(CODE)]),
    ],
    ["after Enter, twice", typed([ENTER, ENTER, ...digits(CODE)])],
    ["after other keys", typed([LETTER, LETTER, ...digits(CODE)])],
  ])("passes %s", (_, reports) => {
    expect(endOf(run(reports))).toBe("passed");
  });

  test("passes with rollover: the next key before the last one is up", () => {
    const usages = digits(CODE);
    const rolled = usages.map(
      (usage, index) => [index * 120, report([usages[index - 1] ?? 0, usage])] as const,
    );
    expect(endOf(run(rolled))).toBe("going");
    expect(endOf(run([...rolled, [900, report([])]]))).toBe("passed");
  });

  test("passes only when nothing is down any more: the last digit must not be typed into the host", () => {
    const last = typed(digits(CODE)).slice(0, -1);
    expect(endOf(run(last))).toBe("going");
    const enterBefore = [...last, [1_000, report([ROW("9"), ENTER])] as const];
    expect(endOf(run(enterBefore))).toBe("going");
    expect(endOf(run([...enterBefore, [1_100, report([])]]))).toBe("passed");
  });

  test("passes in spite of phantom reports, repeated reports and short ones", () => {
    const phantom = Buffer.from([0, 0, 1, 1, 1, 1, 1, 1]);
    const noisy = typed(digits(CODE)).flatMap(([ms, bytes]) => [
      [ms, bytes] as const,
      [ms + 10, bytes] as const,
      [ms + 20, phantom] as const,
      [ms + 30, Buffer.alloc(3)] as const,
    ]);
    expect(endOf(run(noisy))).toBe("passed");
  });
});

describe("whoever has not the code", () => {
  test("is refused at the third wrong one", () => {
    const twice = [...digits("111111"), ...digits("222222")];
    expect(endOf(run(typed(twice)))).toBe("going");
    expect(endOf(run(typed([...twice, ...digits("333333")])))).toBe("wrong");
    expect(endOf(run(typed([ROW("1"), ENTER, ROW("1"), ENTER, ROW("1"), ENTER])))).toBe("wrong");
  });

  test("is refused when the time is up, with and without a report", () => {
    expect(endOf(awaitReport(begin(), 59_999_999))).toBe("going");
    expect(endOf(awaitReport(begin(), 60_000_000))).toBe("timeout");
    expect(endOf(takeReport(begin(), report([ROW("4")]), 60_000_000))).toBe("timeout");
  });

  test("does not pass with the code inside other text", () => {
    const hidden = digits(CODE).flatMap((usage) => [usage, LETTER]);
    expect(endOf(run(typed(hidden)))).toBe("going");
  });

  test("is refused after 64 keys, whatever they are", () => {
    const keys = typed(Array.from({ length: 65 }, () => LETTER));
    expect(endOf(run(keys.slice(0, -2)))).toBe("going");
    expect(endOf(run(keys))).toBe("wrong");
  });

  test("is seen when it types faster than people, be it the right code and more", () => {
    const fast = run(typed([...digits(CODE), LETTER, LETTER], 20));
    // six are too few to tell, and it ended with them
    expect(endOf(fast)).toBe("passed");
    const payload = run(
      typed(
        Array.from({ length: 30 }, (_, index) => 4 + (index % 20)),
        16,
      ),
    );
    expect(payload).toMatchObject({ end: { kind: "injected", injection: { keys: 8, why: "too fast" } } });
  });
});

describe("any reports", () => {
  const bytes = fc.uint8Array({ maxLength: 12 });
  const keys = fc.array(fc.integer({ min: 0, max: 0x70 }), { maxLength: 6 }).map((usages) => report(usages));
  const reports = fc.array(
    fc.tuple(
      fc.integer({ min: 0, max: 400 }),
      fc.oneof(
        bytes.map((one) => Buffer.from(one)),
        keys,
      ),
    ),
    { maxLength: 200 },
  );

  test("end it with no pass unless the six digits came in a row, and hold no more than a try and what is down", () => {
    fc.assert(
      fc.property(reports, (waits) => {
        let nowMs = 0;
        let challenge = begin();
        let end: ChallengeEnd | null = null;
        let down: readonly number[] = [];
        let row = "";
        let seen = false;
        for (const [wait, one] of waits) {
          nowMs += wait;
          const now = keysDown(one);
          for (const usage of now === null ? [] : newlyDown(down, now)) {
            const meaning = meaningOf(usage);
            row =
              typeof meaning === "object" ? row + meaning.digit : meaning === "erase" ? row.slice(0, -1) : "";
            seen ||= row.endsWith(CODE);
          }
          down = now ?? down;
          const step = takeReport(challenge, one, nowMs * 1_000);
          if (step.kind === "ended") {
            end = step.end;
            break;
          }
          challenge = step.challenge;
          expect(challenge.typed.length).toBeLessThan(6);
          expect(challenge.down.length).toBeLessThanOrEqual(6);
          expect(challenge.presses).toBeLessThanOrEqual(64);
          expect(challenge.strokes.timesUs.length).toBeLessThanOrEqual(81);
        }
        expect(end?.kind !== "passed" || seen).toBe(true);
      }),
    );
  });

  test("of the right code with any pace of people pass, for any code", () => {
    const code = fc.integer({ min: 0, max: 999_999 }).map((number) => String(number).padStart(6, "0"));
    fc.assert(
      fc.property(
        code,
        fc.integer({ min: 60, max: 5_000 }),
        fc.constantFrom(ROW, PAD),
        (given, everyMs, place) => {
          // twice the same digit is two presses
          expect(endOf(run(typed(digits(given, place), everyMs), begin(given)))).toBe("passed");
        },
      ),
    );
  });
});

test("a report's keys: empty slots between, one twice, too many to tell", () => {
  expect(keysDown(report([0, 0, 0x20]))).toEqual([0x20]); // as qemu's keyboard sends it
  expect(keysDown(report([0x20, 0x20]))).toEqual([0x20]);
  expect(keysDown(report([1, 1, 1, 1, 1, 1]))).toBeNull();
  expect(keysDown(Buffer.alloc(7))).toBeNull();
  expect(keysDown(Buffer.concat([report([0x20]), Buffer.from([0x21])]))).toEqual([0x20]);
});
