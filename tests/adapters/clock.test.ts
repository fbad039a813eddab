import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { createClock } from "../../daemon/adapters/clock.ts";
import { createClockSensor } from "../../daemon/adapters/clock-watch.ts";
import type { Signal } from "../../daemon/core/signal.ts";
import type { Clock } from "../../daemon/ports.ts";

describe("the host's clock", () => {
  const clock = createClock();

  test("agrees with /proc/uptime, which has hundredths of a second", () => {
    const before = uptimeMs();
    const bootMs = clock.bootMs();
    expect(bootMs).toBeGreaterThanOrEqual(before);
    expect(bootMs).toBeLessThanOrEqual(uptimeMs() + 10);
  });

  test("does not go back, and knows the boot", () => {
    const looks = Array.from({ length: 1_000 }, () => [clock.bootMs(), clock.monoNs()] as const);
    expect(looks.every((look, index) => index === 0 || look[0] >= (looks[index - 1]?.[0] ?? 0))).toBe(true);
    expect(clock.bootId()).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
  });
});

describe("the clock sensor", () => {
  test("signals a jump of the wall clock once, also one while it was stopped", async () => {
    let wallMs = 1_000_000;
    const fake: Clock = { wallMs: () => wallMs, bootMs: () => 0, monoNs: () => 5n, bootId: () => "b" };
    const sensor = createClockSensor({
      clock: fake,
      limits: { maxStepMs: 100, maxDriftMs: 1_000 },
      everyMs: 5,
    });
    const signals: Signal[] = [];
    const emit = (signal: Signal) => signals.push(signal);
    expect(sensor.health().state).toBe("blind");
    await sensor.start(emit);
    expect(sensor.health().state).toBe("watching");
    wallMs += 5_000;
    while (signals.length === 0) await sleep(2);
    await sleep(20);
    await sensor.stop();
    wallMs -= 200;
    await sensor.start(emit);
    await sensor.stop();
    expect(signals).toEqual([
      { kind: "clock.moved", facts: { change: "step", milliseconds: "5000" }, seenNs: 5n },
      { kind: "clock.moved", facts: { change: "step", milliseconds: "-200" }, seenNs: 5n },
    ]);
  });
});

function uptimeMs(): number {
  return Number(readFileSync("/proc/uptime", "utf8").split(" ")[0]) * 1_000;
}
