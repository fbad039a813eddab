/** Loaded into a daemon before its own program (`node --import`): on SIGUSR2 it falls ill as BOUNDARY_TEST_AIL says. */
process.on("SIGUSR2", () => {
  const held: Buffer[] = [];
  for (;;)
    if (process.env["BOUNDARY_TEST_AIL"] === "eats-memory") held.push(Buffer.alloc(8 * 1024 * 1024, 1));
});
