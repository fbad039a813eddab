import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Client as Control } from "../../client/control.ts";
import { createLink, type LinkState } from "../../client/link.ts";
import { BoundaryError } from "../../daemon/core/errors.ts";

beforeEach(() => {
  vi.useFakeTimers();
  vi.spyOn(Math, "random").mockReturnValue(0.999_999);
});
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

/** A link whose attempts are made by the test; `at` has the time of each. */
function linked(open: () => Promise<Control>) {
  const at: number[] = [];
  const states: LinkState["kind"][] = [];
  const link = createLink({
    open: () => {
      at.push(performance.now());
      return open();
    },
    changed: ({ kind }) => states.push(kind),
  });
  return { link, at, states };
}

function connection(): { control: Control; lose: () => void; closed: () => boolean } {
  const { promise: ended, reject, resolve } = Promise.withResolvers<void>();
  ended.catch(() => undefined);
  let closed = false;
  const close = (): void => {
    closed = true;
    resolve();
  };
  const unused = (): never => {
    throw new Error("not asked");
  };
  return {
    control: { call: unused, send: unused, onEvent: unused, ended, close },
    lose: () => reject(new BoundaryError("no-daemon", "lost")),
    closed: () => closed,
  };
}

const waits = (at: readonly number[]) => at.slice(1).map((time, i) => Math.round(time - (at[i] ?? 0)));

describe("a link", () => {
  test("that cannot be made is tried again after twice as long, up to a second", async () => {
    const { link, at } = linked(() => Promise.reject(new BoundaryError("no-daemon", "gone")));
    await vi.advanceTimersByTimeAsync(5_000);
    expect(waits(at).slice(0, 8)).toEqual([24, 49, 99, 199, 399, 799, 999, 999]);
    expect(link.state()).toMatchObject({ kind: "down", why: { code: "no-daemon" } });
    link.close();
    const made = at.length;
    await vi.advanceTimersByTimeAsync(60_000);
    expect(at).toHaveLength(made);
  });

  test("that is jittered waits any part of it", async () => {
    vi.mocked(Math.random).mockReturnValue(0.5);
    const { link, at } = linked(() => Promise.reject(new BoundaryError("no-daemon", "gone")));
    await vi.advanceTimersByTimeAsync(200);
    expect(waits(at).slice(0, 3)).toEqual([12, 25, 50]);
    link.close();
  });

  test("that is ended as soon as it is made is no loop", async () => {
    const { link, at } = linked(async () => {
      const { control, lose } = connection();
      setTimeout(lose, 1);
      return control;
    });
    await vi.advanceTimersByTimeAsync(3_000);
    expect(at.length).toBeLessThan(12);
    link.close();
  });

  test("that has held a while is made again without much waiting", async () => {
    let lose = (): void => undefined;
    const { link, at, states } = linked(async () => {
      if (at.length < 6) throw new BoundaryError("no-daemon", "gone");
      const made = connection();
      lose = made.lose;
      return made.control;
    });
    await vi.advanceTimersByTimeAsync(5_000);
    expect(link.state().kind).toBe("up");
    lose();
    await vi.advanceTimersByTimeAsync(30);
    expect(link.state().kind).toBe("up");
    expect(states.slice(-3)).toEqual(["up", "down", "up"]);
    link.close();
  });

  test("that was closed while it was being made closes what comes of it", async () => {
    const { promise, resolve } = Promise.withResolvers<Control>();
    const { link } = linked(() => promise);
    link.close();
    const { control, closed } = connection();
    resolve(control);
    await vi.advanceTimersByTimeAsync(1);
    expect(closed()).toBe(true);
  });

  test("takes what is no BoundaryError for a failed attempt, too", async () => {
    const { link } = linked(() => Promise.reject(new Error("boom")));
    await vi.advanceTimersByTimeAsync(1);
    expect(link.state()).toMatchObject({ kind: "down", why: { code: "internal" } });
    link.close();
  });
});
