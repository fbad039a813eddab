import { writeSync } from "node:fs";

/** Loaded into a daemon before its own program (`node --import`): on SIGUSR2 it says so, and falls ill as BOUNDARY_TEST_AIL says. */
process.on("SIGUSR2", () => {
  const held: Buffer[] = [];
  writeSync(2, "falling ill\n");
  for (;;)
    if (process.env["BOUNDARY_TEST_AIL"] === "eats-memory") held.push(Buffer.alloc(8 * 1024 * 1024, 1));
});
