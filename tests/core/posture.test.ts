import { describe, expect, test } from "vitest";
import { MODES, rank } from "../../daemon/core/mode.ts";
import { leastModeOf, MEMORY_CLASSES, posture, recallable } from "../../daemon/core/posture.ts";

describe("memory classes", () => {
  test.each([
    ["PUBLIC", "OPEN"],
    ["INTERNAL", "OPEN"],
    ["CONFIDENTIAL", "RESTRICTED"],
    ["SECRET", "TRUSTED"],
    ["TOP_SECRET", "AIRGAP"],
    ["CROWN_JEWEL", "COLDROOM"],
  ] as const)("%s needs %s at least", (memoryClass, mode) => {
    expect(leastModeOf(memoryClass)).toBe(mode);
  });

  test.each(MODES)("in %s the posture's ceiling and the least modes say the same", (mode) => {
    const allowed = MEMORY_CLASSES.filter((memoryClass) => recallable(memoryClass, mode));
    expect(allowed.at(-1) ?? null).toBe(posture(mode).memory);
    expect(MEMORY_CLASSES.slice(0, allowed.length)).toEqual(allowed);
  });

  test("LOCKDOWN allows none", () => {
    expect(MEMORY_CLASSES.filter((memoryClass) => recallable(memoryClass, "LOCKDOWN"))).toEqual([]);
  });
});

describe("postures", () => {
  test.each(MODES)("the posture of %s names its mode", (mode) => {
    expect(posture(mode).mode).toBe(mode);
  });

  // loosest first: a stricter mode never has a looser value
  const orders = {
    network: ["as-host", "minus-denied", "trusted-only", "loopback", "nothing"],
    usb: [
      "by-rules",
      "storage-by-ceremony",
      "no-storage",
      "no-storage-input-by-rule",
      "present-input-only",
      "nothing-new",
    ],
    networkTools: ["yes", "over-trusted-interfaces", "no"],
    fileTools: ["yes", "no"],
    externalModels: ["yes", "over-trusted-interfaces", "no"],
    secrets: ["by-policy", "sealed", "keys-dropped"],
    exec: ["by-policy", "without-network", "no", "running-ended"],
    leases: ["live", "those-that-allow-the-mode", "suspended"],
  } as const;
  test.each(Object.entries(orders))("%s only tightens from mode to mode", (field, order) => {
    const steps = MODES.map((mode) =>
      (order as readonly string[]).indexOf(posture(mode)[field as keyof typeof orders]),
    );
    expect(steps).not.toContain(-1);
    expect(steps).toEqual(steps.toSorted((a, b) => a - b));
    expect(rank("LOCKDOWN")).toBe(MODES.length - 1);
    expect(steps.at(-1)).toBe(order.length - 1);
  });
});
