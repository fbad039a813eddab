import { registerHooks } from "node:module";

/**
 * The built daemon, but that an answer leaves before its record is on disk: `node bench/unawaited.ts`, with the daemon's
 * arguments. For the benchmark alone, to see what the waiting costs; what is shipped has no such switch, so its file is
 * rewritten as it is loaded.
 */
const DECIDE = new URL("../dist/daemon/decide.js", import.meta.url).href;
const WAITS = "await receipt.durable;";
/** An allow, and a denial. */
const PLACES = 2;

registerHooks({
  load(url, context, next) {
    const loaded = next(url, context);
    if (url !== DECIDE) return loaded;
    const parts = String(loaded.source).split(WAITS);
    if (parts.length !== PLACES + 1)
      throw new Error(
        `decide.js waits in ${parts.length - 1} places, not in ${PLACES}: look at bench/unawaited.ts`,
      );
    return { ...loaded, source: parts.join("receipt.durable.catch(() => undefined);") };
  },
});
await import(new URL("../dist/daemon/main.js", import.meta.url).href);
