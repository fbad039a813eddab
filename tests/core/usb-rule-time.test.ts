import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { evaluate } from "../../daemon/core/usb-rule-match.ts";
import { rulesOf, usbContext, usbDevice } from "../support/usb-rules.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** Central Europe in 2026, in minutes ahead of UTC. */
const SPRING = Date.UTC(2026, 2, 29, 1); // 02:00 becomes 03:00
const AUTUMN = Date.UTC(2026, 9, 25, 1); // 03:00 becomes 02:00
const berlin = (ms: number) => (ms >= SPRING && ms < AUTUMN ? 120 : 60);

type Window = { from: number; to: number };

const two = (value: number) => String(value).padStart(2, "0");
const clock = (minute: number) => `${two(Math.floor(minute / 60))}:${two(minute % 60)}`;
/** In minutes of the day, the last one up to its end. */
const ruleFor = ({ from, to }: Window) => rulesOf(`allow if localtime(${clock(from)}-${clock(to)}:59)`);

function look(window: Window, nowMs: number, localOffsetMinutes: (ms: number) => number) {
  const found = evaluate(ruleFor(window), usbDevice(), usbContext({ nowMs, localOffsetMinutes }));
  return { open: found.rule !== null, until: found.validUntilMs };
}

/** The naive model: the hands of the wall clock, minute by minute. */
function isOpen({ from, to }: Window, ms: number, offset: (ms: number) => number): boolean {
  const local = new Date(ms + offset(ms) * MINUTE);
  const minute = local.getUTCHours() * 60 + local.getUTCMinutes();
  return from <= to ? minute >= from && minute <= to : minute >= from || minute <= to;
}

const minuteOfDay = fc.integer({ min: 0, max: 1_439 });
const windows = fc.oneof(
  fc.record({ from: minuteOfDay, to: minuteOfDay }),
  fc.record({
    from: fc.constantFrom(0, 60, 119, 120, 150, 179, 180),
    to: fc.constantFrom(119, 120, 150, 180, 1_439),
  }),
);

describe("localtime against a model, minute by minute", () => {
  const starts = fc.oneof(
    fc.integer({ min: Date.UTC(2026, 0, 1), max: Date.UTC(2026, 11, 30) }),
    fc.integer({ min: SPRING - DAY, max: SPRING + HOUR }),
    fc.integer({ min: AUTUMN - DAY, max: AUTUMN + HOUR }),
  );

  test("open when the model says so, and it stays so up to validUntilMs", () => {
    fc.assert(
      fc.property(windows, starts, (window, startMs) => {
        const { open, until } = look(window, startMs, berlin);
        expect(open).toBe(isOpen(window, startMs, berlin));
        if (until !== null) expect(until).toBeGreaterThan(startMs);
        for (let ms = startMs; ms < (until ?? startMs + 2 * DAY); ms += MINUTE) {
          expect(isOpen(window, ms, berlin)).toBe(open);
        }
        if (until !== null) expect(isOpen(window, until - 1, berlin)).toBe(open);
      }),
      { numRuns: 300 },
    );
  });

  test("a loop that looks again at each validUntilMs is never wrong for a minute", () => {
    fc.assert(
      fc.property(
        windows,
        starts,
        fc.constantFrom(
          berlin,
          () => 0,
          () => -570,
        ),
        (window, startMs, offset) => {
          let { open, until } = look(window, startMs, offset);
          let looks = 1;
          for (let ms = startMs; ms < startMs + 2 * DAY; ms += MINUTE) {
            while (until !== null && until <= ms) {
              ({ open, until } = look(window, until, offset));
              looks++;
            }
            expect(open).toBe(isOpen(window, ms, offset));
          }
          expect(looks).toBeLessThanOrEqual(8);
        },
      ),
      { numRuns: 200 },
    );
  });
});

describe("where the clocks are changed", () => {
  test("a window in the hour that is left out never opens", () => {
    const window = { from: 120, to: 179 };
    expect(look(window, SPRING - 1, berlin)).toEqual({ open: false, until: SPRING });
    expect(look(window, SPRING, berlin).open).toBe(false);
    expect(look(window, SPRING - DAY, berlin).open).toBe(true);
  });

  test("a window in the hour that comes twice opens twice", () => {
    const window = { from: 150, to: 169 };
    const half = 30 * MINUTE;
    expect(look(window, AUTUMN - half, berlin)).toEqual({ open: true, until: AUTUMN - 10 * MINUTE });
    expect(look(window, AUTUMN - 10 * MINUTE, berlin)).toEqual({ open: false, until: AUTUMN });
    expect(look(window, AUTUMN, berlin)).toEqual({ open: false, until: AUTUMN + half });
    expect(look(window, AUTUMN + half, berlin).open).toBe(true);
  });

  test("the millisecond of the change is found", () => {
    const odd = Date.UTC(2026, 5, 1, 17, 12, 34, 567);
    const offset = (ms: number) => (ms >= odd ? 45 : 0);
    expect(look({ from: 1_200, to: 1_260 }, odd - 5 * HOUR, offset).until).toBe(odd);
  });
});
