import { arch, release } from "node:os";
import { parentPort } from "node:worker_threads";
import info from "systeminformation";
import type { Inventory } from "../core/inventory.ts";

/** The thread that takes one inventory and ends: systeminformation waits for programs it starts, and the loop must not. */
const MAX_INTERFACES = 256;

const { manufacturer, model, virtual } = await info.system();
const found = await info.networkInterfaces();
const inventory: Omit<Inventory, "takenAt"> = {
  system: { manufacturer, model, virtual, kernel: release(), arch: arch() },
  interfaces: (Array.isArray(found) ? found : [found]).slice(0, MAX_INTERFACES).map((one) => ({
    name: one.iface,
    mac: one.mac,
    state: one.operstate,
    type: one.type,
    virtual: one.virtual,
    speedMbit: one.speed ?? 0,
  })),
};
parentPort?.postMessage(inventory);
