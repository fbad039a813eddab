import koffi from "koffi";

/**
 * Has to be imported before anything that uses koffi: later it takes no settings. What is called in a thread of the pool
 * runs on a stack of koffi's, 128 KiB by itself; PKCS#11 modules (OpenSC's) keep several buffers of 64 KiB there.
 */
const STACK_BYTES = 1_048_576;

try {
  koffi.config({ async_stack_size: STACK_BYTES });
} catch {
  // too late: `hasLargeStacks` says so, and who needs them does without
}

/** Whether a call on a thread of the pool has the stack that a PKCS#11 module may take. */
export function hasLargeStacks(): boolean {
  return (koffi.config().async_stack_size ?? 0) >= STACK_BYTES;
}
