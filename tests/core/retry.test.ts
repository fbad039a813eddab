import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ceilingMs, jitteredMs } from "../../daemon/core/backoff.ts";
import { codeOf, isTransient } from "../../daemon/core/errno.ts";
import { BoundaryError, CATEGORIES, ERRORS, SEVERITIES } from "../../daemon/core/errors.ts";
import { retry } from "../../daemon/core/retry.ts";

const errno = (code: string): Error => Object.assign(new Error(code), { code });

describe("every error code", () => {
  test.each(Object.entries(ERRORS))(
    "%s has a category, a severity, a hint, and says whether it lasts",
    (_code, facts) => {
      expect(CATEGORIES).toContain(facts.category);
      expect(SEVERITIES).toContain(facts.severity);
      expect(["transient", "lasting"]).toContain(facts.lasts);
      expect(facts.hint.length).toBeGreaterThan(5);
    },
  );

  test("every category and every severity is in use", () => {
    const used = Object.values(ERRORS);
    expect(new Set(used.map((one) => one.category))).toEqual(new Set(CATEGORIES));
    expect(new Set(used.map((one) => one.severity))).toEqual(new Set(SEVERITIES));
  });
});

describe("what the system says", () => {
  test.each([
    ["EINTR", "interrupted", true],
    ["EAGAIN", "busy", true],
    ["ENOSPC", "disk-full", false],
    ["EDQUOT", "disk-full", false],
    ["EIO", "disk-failing", false],
    ["EROFS", "read-only", false],
    ["EACCES", "not-permitted", false],
    ["ENOENT", "not-found", false],
    ["EMFILE", "out-of-resources", true],
    ["ECONNRESET", "peer-gone", true],
    ["ESOMETHING", "internal", false],
    ["constructor", "internal", false],
  ])("%s is %s", (code, meant, transient) => {
    expect([codeOf(errno(code)), isTransient(errno(code))]).toEqual([meant, transient]);
  });

  test("our own errors keep their code, and what is no error is internal", () => {
    expect(codeOf(new BoundaryError("log-broken", "x", { cause: errno("EAGAIN") }))).toBe("log-broken");
    for (const odd of [null, undefined, "EAGAIN", { code: "EAGAIN" }, 7])
      expect(codeOf(odd)).toBe("internal");
  });
});

describe("retry", () => {
  test("the wait never passes its ceiling, which doubles up to the most", () => {
    expect([1, 2, 3, 4, 2_000].map((failures) => ceilingMs({ firstMs: 100, mostMs: 500 }, failures))).toEqual(
      [100, 200, 400, 500, 500],
    );
    const random = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
    fc.assert(
      fc.property(fc.integer({ min: -5, max: 5_000 }), random, (failures, chance) => {
        const backoff = { firstMs: 100, mostMs: 30_000 };
        const wait = jitteredMs(backoff, failures, chance);
        expect(wait).toBeGreaterThanOrEqual(1);
        expect(wait).toBeLessThanOrEqual(ceilingMs(backoff, failures));
      }),
    );
  });

  const tried = async (errors: readonly Error[], deadlineMs: number) => {
    let now = 0;
    const waits: number[] = [];
    const left = [...errors];
    const means = {
      nowMs: () => now,
      random: () => 0.5,
      sleep: (ms: number) => {
        waits.push(ms);
        now += ms;
        return Promise.resolve();
      },
    };
    const work = () => {
      const error = left.shift();
      return error === undefined ? Promise.resolve("done") : Promise.reject(error);
    };
    const outcome = await retry(work, { firstMs: 100, mostMs: 1_000, deadlineMs }, means).catch(codeOf);
    return { outcome, waits };
  };
  const busy = (count: number) => Array.from({ length: count }, () => errno("EAGAIN"));

  test("goes on while it is transient, waiting longer each time", async () => {
    expect(await tried(busy(4), 60_000)).toEqual({ outcome: "done", waits: [50, 100, 200, 400] });
  });

  test("ends at once with what will not pass", async () => {
    expect(await tried([errno("EAGAIN"), errno("EACCES")], 60_000)).toEqual({
      outcome: "not-permitted",
      waits: [50],
    });
  });

  test("begins no try after the deadline", async () => {
    expect(await tried(busy(100), 200)).toEqual({ outcome: "busy", waits: [50, 100] });
  });
});
