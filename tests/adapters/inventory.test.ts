import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { createInventory } from "../../daemon/adapters/inventory.ts";

test("an inventory says that there is none yet, then which interfaces the host has", async () => {
  const inventory = createInventory({ everyMs: 60_000, wallMs: () => 0 });
  expect(inventory.latest()).toEqual({ missing: "not taken yet" });
  inventory.start();
  for (;;) {
    const latest = inventory.latest();
    if ("takenAt" in latest) {
      expect(latest.takenAt).toBe("1970-01-01T00:00:00.000Z");
      expect(latest.interfaces.map((one) => one.name)).toContain("lo");
      break;
    }
    await sleep(10);
  }
  await inventory.stop();
});
