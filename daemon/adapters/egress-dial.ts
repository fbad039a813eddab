import { connect, isIP, type Socket } from "node:net";
import { BoundaryError } from "../core/errors.ts";

export type DialOrder = {
  /** Tried in turn; addresses alone, so that nothing is looked up. */
  readonly addresses: readonly string[];
  readonly port: number;
  /** For all of them. */
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
};
export type Dial = (order: DialOrder) => Promise<Socket>;

/** Connects to one of the addresses. Throws BoundaryError "egress-unreachable" when none of them takes it. */
export const dial: Dial = async ({ addresses, port, deadlineMs, signal }) => {
  const endMs = performance.now() + deadlineMs;
  let cause: unknown = null;
  for (const [at, address] of addresses.entries()) {
    const shareMs = (endMs - performance.now()) / (addresses.length - at);
    if (signal.aborted || shareMs <= 0) break;
    try {
      return await connectTo({ address, port, shareMs, signal });
    } catch (error) {
      cause = error;
    }
  }
  throw new BoundaryError("egress-unreachable", `connecting to port ${port}`, { cause });
};

type Attempt = {
  readonly address: string;
  readonly port: number;
  readonly shareMs: number;
  readonly signal: AbortSignal;
};

function connectTo({ address, port, shareMs, signal }: Attempt): Promise<Socket> {
  return new Promise((resolve, reject) => {
    if (isIP(address) === 0) {
      reject(new BoundaryError("internal", "connecting to what is no address"));
      return;
    }
    const socket = connect({ host: address, port, noDelay: true, allowHalfOpen: true, signal });
    const late = setTimeout(() => socket.destroy(new Error("it does not answer")), shareMs);
    const failed = (error: Error): void => {
      clearTimeout(late);
      reject(error);
    };
    socket.once("error", failed);
    socket.once("connect", () => {
      clearTimeout(late);
      socket.off("error", failed);
      socket.on("error", () => undefined); // whoever uses it hears of "close"
      resolve(socket);
    });
  });
}
