import { registerHooks } from "node:module";

/**
 * The built daemon, but that an answer leaves before its record is on disk: `node bench/unawaited.ts`, with the daemon's
 * arguments. For the benchmark alone, to see what the waiting costs; what is shipped has no such switch, so its file is
 * rewritten as it is loaded.
 */
const PROGRAM = new URL("../dist/", import.meta.url).href;
const WAITS = "await receipt.durable;";
/** An allow, and a denial. */
const PLACES = 2;
/** The function `answer` of decide.ts, whatever the bundler has called it. */
const ANSWER = /async function \S+\(parts, caller, request, situation, ruling\) \{.*?\n\}/s;
let found = 0;

registerHooks({
  load(url, context, next) {
    const loaded = next(url, context);
    if (!url.startsWith(PROGRAM)) return loaded;
    const source = String(loaded.source).replace(ANSWER, (text) => {
      const parts = text.split(WAITS);
      found += parts.length - 1;
      return parts.join("receipt.durable.catch(() => undefined);");
    });
    return { ...loaded, source };
  },
});
await import(new URL("daemon/main.js", PROGRAM).href);
if (found !== PLACES)
  throw new Error(`decide.ts waits in ${found} places, not in ${PLACES}: look at bench/unawaited.ts`);
