import { arch, release } from "node:os";
import { parentPort } from "node:worker_threads";
import info from "systeminformation";
import type { Inventory } from "../core/inventory.ts";

/** The thread that takes one inventory and ends: systeminformation waits for programs it starts, and the loop must not. */
const MAX_INTERFACES = 256;
const MAX_TEXT = 256;

const { manufacturer, model, virtual } = await info.system();
const found = await info.networkInterfaces();
const inventory: Omit<Inventory, "takenAt"> = {
  system: { manufacturer: clip(manufacturer), model: clip(model), virtual, kernel: release(), arch: arch() },
  interfaces: (Array.isArray(found) ? found : [found]).slice(0, MAX_INTERFACES).map((one) => ({
    name: clip(one.iface),
    mac: clip(one.mac),
    state: clip(one.operstate),
    type: clip(one.type),
    virtual: one.virtual,
    speedMbit: one.speed ?? 0,
  })),
};
// oxlint-disable-next-line unicorn/require-post-message-target-origin -- to a thread, not to a window
parentPort?.postMessage(inventory);

function clip(text: unknown): string {
  return String(text ?? "").slice(0, MAX_TEXT);
}
