import { createInterface } from "node:readline";
import { createKeyRing, loadKeyRing } from "../../daemon/adapters/keys.ts";

/**
 * A process with a ring of keys. Says "ready", does a step for each line it is sent and says that it did, and lives until
 * it is killed. It does nothing to be rid of keys but what the ring does.
 */
export async function keepRing(directory: string): Promise<void> {
  const found = loadKeyRing(directory);
  const ring = found.kind === "loaded" ? found.ring : createKeyRing(directory);
  const steps: Readonly<Record<string, () => void>> = {
    prepare: () => void ring.prepareNext(),
    promote: ring.promote,
    discard: ring.discardNext,
    sign: () => {
      for (const signer of [ring.current(), ring.next()])
        for (let n = 0; n < 100; n++) signer?.sign(Buffer.from(`message ${n}`));
    },
  };
  process.stdout.write("ready\n");
  for await (const line of createInterface(process.stdin)) {
    steps[line]?.();
    await new Promise((resolve) => setTimeout(resolve, 200));
    process.stdout.write(`${line}\n`);
  }
}
