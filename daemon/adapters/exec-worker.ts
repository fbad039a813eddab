import { generateKeyPairSync } from "node:crypto";
import { renderErrorChain } from "../core/errors.ts";
import { renderOrder, signOrder } from "../exec/run-order.ts";
import { type FromWorker, readFromWorker, type Sandbox, type ToWorker } from "../exec/worker-frames.ts";
import type { ExecWorker, WorkerEvent } from "../ports.ts";
import { type LinkPlace, openProcessLink } from "./process-link.ts";

/**
 * The worker behind its socket. Orders are signed with a key that is made here, is in nobody's file, and ends with the
 * process; the worker is told the public half first.
 */
export function openExecWorker(place: LinkPlace): ExecWorker {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const hello = publicKey.export({ format: "der", type: "spki" }).subarray(-32).toString("base64");
  let listener: (event: WorkerEvent) => void = () => undefined;
  let sandbox: Sandbox | null = null;
  const link = openProcessLink<FromWorker>({
    ...place,
    hello: () => ({ kind: "hello", publicKey: hello }) satisfies ToWorker,
    read: readFromWorker,
    heard(message) {
      if (message.kind === "ready") {
        ({ sandbox } = message);
        place.opLog.info({ sandbox }, "the worker is ready");
      }
      listener(message);
    },
    gone: (why) => listener({ kind: "gone", why }),
    missing: "no worker for guarded commands",
  });
  const say = (message: ToWorker): boolean => link.absent() === null && link.say(message);

  return {
    start(then) {
      listener = then;
      link.start();
    },
    state() {
      const why = link.absent();
      return why === null && sandbox !== null
        ? { kind: "ready", sandbox }
        : { kind: "absent", why: why ?? "it has not said what it has" };
    },
    run(order, stdin) {
      try {
        const text = renderOrder(order);
        const signature = signOrder(text, privateKey);
        return say({ kind: "run", order: text, signature, stdin: stdin.toString("base64") });
      } catch (error) {
        place.opLog.error(
          { id: order.id, err: renderErrorChain(error) },
          "an order that no worker would read",
        );
        return false;
      }
    },
    end: (id, why) => void say({ kind: "end", id, why }),
    drop: link.drop,
    stop: link.stop,
  };
}
