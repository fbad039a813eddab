import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { expect, test } from "vitest";
import { prepareStateDirectory } from "../../daemon/adapters/keys.ts";
import { prepareLogDirectory } from "../../daemon/adapters/log-file.ts";
import { recover } from "./crash-child.ts";
import { tempDirectory } from "./fixture.ts";

test("killed at any moment and started again, a log holds everything that was said to be durable", async () => {
  using temp = tempDirectory();
  prepareStateDirectory(temp.path);
  prepareLogDirectory(join(temp.path, "log"));
  const script = `(await import(${JSON.stringify(new URL("crash-child.ts", import.meta.url).href)})).appendForEver(${JSON.stringify(temp.path)})`;
  let highest = -1;
  for (let round = 0; round < 4; round++) {
    const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const ended = new Promise<string>((resolve) =>
      child.on("exit", (code, signal) => resolve(`${code} ${signal}`)),
    );
    let told = 0;
    for await (const line of createInterface(child.stdout)) {
      highest = Math.max(highest, Number(line));
      if (++told === 100 + round * 37) child.kill("SIGKILL");
    }
    expect(await ended).toBe("null SIGKILL");
    const found = await recover(temp.path);
    expect(["sound", "recovered"]).toContain(found.kind);
    if (found.kind === "sound" || found.kind === "recovered")
      expect(found.tail.size).toBeGreaterThan(highest);
  }
});
