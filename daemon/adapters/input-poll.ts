import { closeSync, readSync, writeSync } from "node:fs";
import koffi from "koffi";

/**
 * linux/input.h, on 64-bit systems. EVIOCSCLOCKID: which clock the times of events are of, for this reader alone.
 * EVIOCSMASK: which events it gets.
 */
const EVIOCSCLOCKID = 0x4004_45a0;
const EVIOCSMASK = 0x4010_4593;
const CLOCK_MONOTONIC = 1;
const EV_MSC = 4;
const POLLIN = 1;
const POLL_BYTES = 8; // struct pollfd: int fd, short events, short revents
const EFD_CLOEXEC_NONBLOCK = 0o2_004_000;

const libc = koffi.load(null);
const ioctl = libc.func("int ioctl(int fd, unsigned long request, _Inout_ uint8_t *argument)");
const poll = libc.func("int poll(_Inout_ uint8_t *fds, unsigned long count, int milliseconds)");
const eventfd = libc.func("int eventfd(unsigned int start, int flags)");

/**
 * Times of the monotonic clock, which nobody sets; no scan codes, which would name keys once more. Throws when the
 * device does not take the clock: its times would say nothing then.
 */
export function prepareInput(fd: number): void {
  const clock = Buffer.alloc(4);
  clock.writeInt32LE(CLOCK_MONOTONIC);
  if (ioctl(fd, EVIOCSCLOCKID, clock) !== 0) throw new Error(`EVIOCSCLOCKID: error ${koffi.errno()}`);
  const none = Buffer.alloc(8);
  const mask = Buffer.alloc(16);
  mask.writeUInt32LE(EV_MSC, 0);
  mask.writeUInt32LE(none.length, 4);
  mask.writeBigUInt64LE(koffi.address(none), 8);
  ioctl(fd, EVIOCSMASK, mask); // a kernel before 4.4 has none: then they are passed over
}

/** Waits for descriptors on a thread of the pool. */
export type Poller = {
  /** Resolves with those that have something to read or have failed; [] after the time, or when woken. One at a time. */
  wait(fds: readonly number[], milliseconds: number): Promise<readonly number[]>;
  /** Ends the wait under way, and the next one if there is none. */
  wake(): void;
  /** To be called when no wait is under way. */
  close(): void;
};

/** Throws an Error when the kernel gives no descriptor. */
export function openPoller(): Poller {
  const bell = eventfd(0, EFD_CLOEXEC_NONBLOCK) as number;
  if (bell < 0) throw new Error(`eventfd: error ${koffi.errno()}`);
  const ring = Buffer.alloc(8);
  ring.writeBigUInt64LE(1n);
  return {
    wait(fds, milliseconds) {
      const all = [bell, ...fds];
      const asked = Buffer.alloc(all.length * POLL_BYTES);
      all.forEach((fd, index) => {
        asked.writeInt32LE(fd, index * POLL_BYTES);
        asked.writeInt16LE(POLLIN, index * POLL_BYTES + 4);
      });
      return new Promise((resolve, reject) => {
        poll.async(asked, all.length, milliseconds, (error: unknown) => {
          if (error !== null) return reject(error instanceof Error ? error : new Error(String(error)));
          const ready = all.filter((_, index) => asked.readInt16LE(index * POLL_BYTES + 6) !== 0);
          if (ready[0] === bell) readSync(bell, Buffer.alloc(8), 0, 8, null);
          resolve(ready.filter((fd) => fd !== bell));
        });
      });
    },
    wake: () => void writeSync(bell, ring),
    close: () => closeSync(bell),
  };
}
