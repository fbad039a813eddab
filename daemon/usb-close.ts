import { renderErrorChain } from "./core/errors.ts";
import type { UsbGate } from "./ports.ts";

/** Together less than the time that the units give to closing. */
const TRIES = 50;
const STEP_MS = 100;

/**
 * Has every controller refuse new devices and interfaces, with no daemon there; "" or why one does not. Waits up to 5 s
 * for udev, which gives a controller's files to our group a moment after they exist, or closes it itself by our mark. What
 * goes meanwhile need not be closed.
 */
export async function closeControllers(
  gate: Pick<UsbGate, "glance" | "setDefaults">,
  sleep: (ms: number) => Promise<unknown>,
): Promise<string> {
  let why = closeOnce(gate);
  for (let tries = 1; why !== "" && tries < TRIES; tries++) {
    await sleep(STEP_MS);
    why = closeOnce(gate);
  }
  return why;
}

/** All that can be. */
function closeOnce(gate: Pick<UsbGate, "glance" | "setDefaults">): string {
  let why = "";
  try {
    for (const { port, defaults } of gate.glance()) {
      if (defaults === null || (defaults.device === "0" && defaults.interface === "0")) continue;
      why = close(gate, port) || why;
    }
  } catch (error) {
    why = renderErrorChain(error);
  }
  return why;
}

function close(gate: Pick<UsbGate, "setDefaults">, port: string): string {
  try {
    gate.setDefaults(port, "closed");
    return "";
  } catch (error) {
    return renderErrorChain(error);
  }
}
