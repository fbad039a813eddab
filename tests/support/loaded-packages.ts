import { writeSync } from "node:fs";
import { registerHooks } from "node:module";

/** For `node --import`: at the exit, the names of all packages that were loaded, on a line of stderr. */
const packages = new Set<string>();
registerHooks({
  resolve(specifier, context, next) {
    const resolved = next(specifier, context);
    const name = /\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(resolved.url)?.[1];
    if (name !== undefined) packages.add(name);
    return resolved;
  },
});
process.on("exit", () => {
  writeSync(2, `packages: ${[...packages].sort().join(" ")}\n`);
});
