import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["tests/**/*.test.ts"],
    // under tests/foreign/agree.ts
    setupFiles: process.env["BOUNDARY_FOREIGN"] ? ["tests/foreign/record-logs.ts"] : [],
    globalSetup: ["tests/support/leftovers.ts"],
    testTimeout: 20_000,
    hookTimeout: 30_000,
    maxWorkers: 2,
    // a busy machine is slow, and no test is about how quick it is
    expect: { poll: { timeout: 10_000 } },
  },
});
