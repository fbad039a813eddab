import type { Guest } from "./guest.ts";
import type { Qmp } from "./qmp.ts";

/** What can be plugged into the guest: real enough for its kernel to drive. */
const KINDS = {
  storage: { driver: "usb-storage", drive: "stick" },
  keyboard: { driver: "usb-kbd" },
  spare: { driver: "usb-kbd" },
  mouse: { driver: "usb-mouse" },
  hub: { driver: "usb-hub" },
  serial: { driver: "usb-serial", chardev: "line", "always-plugged": true },
  /** Two interfaces of different classes (CDC control and data): a composite. */
  network: { driver: "usb-net", netdev: "dongle" },
} as const satisfies Record<string, { readonly driver: string; readonly [option: string]: string | boolean }>;

export type UsbKind = keyof typeof KINDS;
export const USB_KINDS = Object.keys(KINDS) as readonly UsbKind[];

export const DEVICES = "/sys/bus/usb/devices";

/** The port of the device with this serial number; throws when there is none. */
export async function portOf({ ok }: Guest, serial: string): Promise<string> {
  return (await ok(`basename $(dirname $(grep -lx ${serial} ${DEVICES}/*/serial))`)).trim();
}

const STICK_BYTES = 16 * 1024 * 1024;
const UNPLUG_MS = 30_000;

/** Sockets that devices can be put into, one at a time each. A serial number goes into the descriptors. */
export type UsbSockets = {
  /** `port` is a port of the controller, or of a hub ("1.2"); qemu chooses when it is left out. */
  plug(kind: UsbKind, options?: { readonly serial?: string; readonly port?: string }): Promise<void>;
  unplug(kind: UsbKind | "operator"): Promise<void>;
};

const prepared = new WeakMap<Qmp, UsbSockets>();

/** What devices need behind them is made here, once for each time the machine is switched on. */
export async function prepareUsb({ qmp }: Guest): Promise<UsbSockets> {
  const before = prepared.get(qmp);
  if (before) return before;
  await qmp.execute("blockdev-add", {
    driver: "null-co",
    "node-name": "stick",
    size: STICK_BYTES,
    "read-zeroes": true,
  });
  await qmp.execute("chardev-add", { id: "line", backend: { type: "null", data: {} } });
  await qmp.execute("netdev_add", { type: "hubport", id: "dongle", hubid: 9 });
  const sockets: UsbSockets = {
    plug: async (kind, options = {}) => {
      await qmp.execute("device_add", { ...KINDS[kind], ...options, id: kind, bus: "xhci.0" });
    },
    unplug: async (kind) => {
      const gone = qmp.event("DEVICE_DELETED", UNPLUG_MS);
      gone.catch(() => undefined);
      await qmp.execute("device_del", { id: kind });
      await gone;
    },
  };
  prepared.set(qmp, sockets);
  return sockets;
}
