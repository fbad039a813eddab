import { setTimeout as sleep } from "node:timers/promises";
import { OPERATOR } from "./guest.ts";
import type { Stage } from "./stage.ts";
import { DEVICES, portOf } from "./usb.ts";

const WAIT_S = 15;
const EVERY_MS = 700;

/** Whether what is typed on the operator's keyboard arrives in the guest: read as anything there would read it. */
export async function keyArrives({ guest }: Stage): Promise<boolean> {
  const port = await portOf(guest, OPERATOR);
  const event = `$(basename $(ls -d ${DEVICES}/${port}/${port}:1.0/*/input/input*/event* | head -n 1))`;
  let isOver = false;
  const reading = guest
    .run(`timeout ${WAIT_S} head -c 24 /dev/input/${event} | wc -c`, 2 * WAIT_S)
    .finally(() => {
      isOver = true;
    });
  for (let left = (WAIT_S * 1_000) / EVERY_MS; left > 0 && !isOver; left -= 1) {
    await sleep(EVERY_MS);
    if (!isOver) await guest.qmp.execute("send-key", { keys: [{ type: "qcode", data: "a" }] });
  }
  return (await reading).stdout.trim() === "24";
}
