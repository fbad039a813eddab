import type { Hold } from "./core/hold.ts";
import type { Finding, Probe } from "./selftest.ts";
import type { UsbControl } from "./usb.ts";

/** Every controller and device is read anew, and held against what was decided. */
export function usbProbe(
  usb: Pick<UsbControl, "how" | "missing" | "audit" | "counts">,
  hold: () => Hold,
): Probe {
  return {
    name: "usb-read-back",
    control: "usb",
    run: async (): Promise<Finding> => {
      if (usb.how === "observed")
        return { outcome: "moot", detail: `log-only; missing: ${usb.missing.join("; ")}` };
      if (hold() !== "enforcing") return { outcome: "moot", detail: `${hold()}: nothing is refused` };
      const wrong = usb.audit();
      const { controllers, authorized, blocked } = usb.counts();
      if (wrong.length > 0) return { outcome: "failed", detail: wrong.join("; ") };
      if (controllers === 0) return { outcome: "moot", detail: "no USB controller is there" };
      const detail = `${controllers} controllers refuse what is new; ${authorized} devices authorised, ${blocked} blocked, as decided`;
      return { outcome: "passed", detail };
    },
  };
}
