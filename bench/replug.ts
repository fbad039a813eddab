import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createUsbSensor } from "../daemon/adapters/usb-watch.ts";
import { settled, startHost, trip } from "../tests/support/host.ts";
import type { BenchRow } from "./row.ts";

const DEVICES = 1_000;
/** As many as a listing of sysfs may have, with their interfaces. */
const AT_ONCE = 100;

/**
 * A storm of devices, plugged and unplugged in a directory like sysfs, through the sensor and the whole loop (on fakes,
 * with the real log in memory): what was plugged, against what the log has recorded or counted.
 */
export async function benchReplug(): Promise<readonly BenchRow[]> {
  const root = mkdtempSync(join(tmpdir(), "boundary-usb-"));
  const host = await startHost({
    tripwires: [trip("usb", "usb.device", { action: { kind: "note" } })],
  });
  let plugged: () => void = () => undefined;
  const sensor = createUsbSensor({
    clock: host.clock,
    root,
    hotplug: async (onChange) => {
      plugged = onChange;
      return async () => undefined;
    },
  });
  let signals = 0;
  await sensor.start((signal) => {
    signals += 1;
    host.daemon.submit(signal);
  });
  const startMs = performance.now();
  for (let first = 0; first < DEVICES; first += AT_ONCE) {
    const names = Array.from({ length: AT_ONCE }, (_, i) => `1-${(i % 250) + 1}`);
    for (const [i, name] of names.entries()) plug(join(root, name), first + i + 1);
    plugged();
    for (const name of names) rmSync(join(root, name), { recursive: true });
    plugged();
  }
  const tookMs = performance.now() - startMs;
  await sensor.stop();
  await host.daemon.stop("bench");
  await settled();
  rmSync(root, { recursive: true });
  const noted = host.records.filter(({ kind }) => kind === "tripwire.noted").length;
  const repeated = host.records
    .filter(({ kind }) => kind === "tripwire.repeated")
    .reduce((sum, { data }) => sum + Number(data["count"]), 0);
  const events = 2 * DEVICES;
  return [
    {
      what: `re-plug storm: lost of ${events} events (${signals} signals, ${noted} recorded each, ${repeated} counted, ${Math.round(tookMs)} ms)`,
      value: events - noted - repeated,
      unit: "events",
      rival: "",
      ratio: null,
      aim: "0",
      met: noted + repeated === events,
    },
  ];
}

function plug(place: string, number: number): void {
  mkdirSync(place);
  const files = { idVendor: "0781", idProduct: number.toString(16).padStart(4, "0"), devnum: String(number) };
  for (const [name, text] of Object.entries(files)) writeFileSync(join(place, name), `${text}\n`);
}
