/** struct input_event of 64-bit systems (linux/input.h): seconds and microseconds, 8 bytes each; type, code, value. */
export const INPUT_EVENT_BYTES = 24;

const EV_KEY = 1;
const KEY_DOWN = 1; // 0 is up, 2 the kernel's own repeat
/** Control, Shift, Alt, Meta, left and right (linux/input-event-codes.h): they come with other keys, not of their own. */
const MODIFIERS: ReadonlySet<number> = new Set([29, 42, 54, 56, 97, 100, 125, 126]);
/** BTN_MISC to BTN_GEAR_UP: buttons of mice, sticks and pens. */
const FIRST_BUTTON = 0x100;
const LAST_BUTTON = 0x15f;

/**
 * When keys went down, microseconds of the clock that the device was set to: the kernel's own times. Modifiers, buttons
 * and repeats are left out, and which keys they were is looked at here and nowhere kept. A cut-off last event is left
 * out: the kernel gives whole ones.
 */
export function keyDownTimes(bytes: Buffer): readonly number[] {
  const times: number[] = [];
  for (let at = 0; at + INPUT_EVENT_BYTES <= bytes.length; at += INPUT_EVENT_BYTES) {
    if (bytes.readUInt16LE(at + 16) !== EV_KEY || bytes.readInt32LE(at + 20) !== KEY_DOWN) continue;
    const code = bytes.readUInt16LE(at + 18);
    if (MODIFIERS.has(code) || (code >= FIRST_BUTTON && code <= LAST_BUTTON)) continue;
    times.push(Number(bytes.readBigInt64LE(at)) * 1_000_000 + Number(bytes.readBigInt64LE(at + 8)));
  }
  return times;
}
