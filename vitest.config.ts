import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["tests/**/*.test.ts"],
    // under tests/foreign/agree.ts
    setupFiles: process.env["BOUNDARY_FOREIGN"] ? ["tests/foreign/record-logs.ts"] : [],
    testTimeout: 20_000,
    hookTimeout: 30_000,
    maxWorkers: 2,
  },
});
