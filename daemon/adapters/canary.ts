import { createSocket } from "node:dgram";
import * as fs from "node:fs";
import { join } from "node:path";
import { BoundaryError } from "../core/errors.ts";
import type { CanaryFile, CanarySender } from "../ports.ts";

const CANARY_FILE = "canary";
const { O_CREAT, O_NOFOLLOW, O_WRONLY } = fs.constants;

/**
 * Sends one empty UDP datagram from a socket of its own. A packet that an output chain drops is EPERM for the sender
 * (net/netfilter/core.c, nf_hook_slow), so what the kernel did is known at once and nothing has to answer.
 */
export const sendCanary: CanarySender = ({ address, port }) => {
  const family = address.includes(":") ? 6 : 4;
  return new Promise((resolve) => {
    const socket = createSocket({
      type: family === 6 ? "udp6" : "udp4",
      // what is given is an address, to send to and to bind to: nothing is looked up
      lookup: (given, _options, done) => done(null, given, family),
    });
    let settled = false;
    const end = (result: Awaited<ReturnType<CanarySender>>) => {
      if (settled) return;
      settled = true;
      socket.close();
      resolve(result);
    };
    const failed = (error: NodeJS.ErrnoException) =>
      end(
        error.code === "EPERM" ? { kind: "refused" } : { kind: "not-sent", why: error.code ?? error.message },
      );
    socket.once("error", failed);
    socket.send(Buffer.alloc(0), port, address, (error) => {
      if (error === null) end({ kind: "sent" });
      else failed(error);
    });
  });
};

/** The file that the self-test touches. Made when it is not there. Throws BoundaryError("state-unwritable"). */
export function openCanaryFile(stateDirectory: string): CanaryFile {
  const path = join(stateDirectory, CANARY_FILE);
  const open = () => fs.openSync(path, O_WRONLY | O_CREAT | O_NOFOLLOW, 0o600);
  try {
    fs.closeSync(open());
  } catch (cause) {
    throw new BoundaryError("state-unwritable", `making ${path}`, { cause });
  }
  return {
    path,
    touch: () => {
      const fd = open();
      try {
        const now = new Date();
        fs.futimesSync(fd, now, now);
      } finally {
        fs.closeSync(fd);
      }
    },
  };
}
