#!/usr/bin/env -S node --disallow-code-generation-from-strings --no-memory-protection-keys
import { cacheCode } from "./code-cache.ts";

if (import.meta.filename.endsWith(".ts")) cacheCode(`${import.meta.dirname}/../.cache/boundaryctl`);
const { run } = await import("./run.ts"); // only now: what is imported statically is not cached
process.exitCode = await run(process.argv.slice(2));
