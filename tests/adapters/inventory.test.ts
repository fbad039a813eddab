import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, expect, test } from "vitest";
import { createInventory } from "../../daemon/adapters/inventory.ts";
import { importsOf } from "../support/imports.ts";
import { tokensOf } from "../support/source-tokens.ts";

const undo: (() => void)[] = [];
afterEach(() => {
  for (const step of undo.splice(0)) step();
});

async function takeOne() {
  const inventory = createInventory({ everyMs: 60_000, wallMs: () => 0 });
  expect(inventory.latest()).toEqual({ missing: "not taken yet" });
  inventory.start();
  try {
    for (;;) {
      const latest = inventory.latest();
      if ("takenAt" in latest) return latest;
      await sleep(10);
    }
  } finally {
    await inventory.stop();
  }
}

test("an inventory says that there is none yet, then which interfaces the host has", async () => {
  const taken = await takeOne();
  expect(taken.takenAt).toBe("1970-01-01T00:00:00.000Z");
  expect(taken.interfaces.map((one) => one.name)).toContain("lo");
});

/** Every program the library may name, in front of PATH: each leaves a mark that it ran. */
function plantEvilPrograms(): string {
  const dir = mkdtempSync(join(tmpdir(), "boundary-evil-"));
  const path = process.env["PATH"] ?? "";
  undo.push(() => {
    process.env["PATH"] = path;
    rmSync(dir, { recursive: true });
  });
  const mark = join(dir, "ran");
  for (const name of ["cat", "ip", "grep", "which", "dmidecode", "dmesg", "nmcli", "iw", "ls", "sh"])
    writeFileSync(join(dir, name), `#!/bin/sh\necho ${name} >> ${mark}\n`, { mode: 0o755 });
  process.env["PATH"] = `${dir}:${path}`;
  return mark;
}

test("a program planted in PATH does not run", async () => {
  const mark = plantEvilPrograms();
  const taken = await takeOne();
  expect(taken.interfaces.length).toBeGreaterThan(0);
  expect(existsSync(mark)).toBe(false);
});

test("no decision reads it: what is said of the host reaches the status only, as an object nothing looks into", () => {
  const daemon = join(import.meta.dirname, "../../daemon");
  const readers = readdirSync(daemon, { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".ts"))
    .flatMap((path) => {
      const found = importsOf(tokensOf(readFileSync(join(daemon, path), "utf8")));
      return found
        .filter((one) => (one.from ?? "").includes("inventory"))
        .map((one) => `${path} ${one.from}`);
    });
  expect(readers.toSorted()).toEqual([
    "adapters/inventory-worker.ts ../core/inventory.ts",
    "adapters/inventory.ts ../core/inventory.ts",
    "main.ts ./adapters/inventory.ts",
  ]);
  expect(readFileSync(join(daemon, "status.ts"), "utf8")).toContain("readonly inventory: () => object;");
});
