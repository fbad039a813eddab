import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Around a whole run of vitest: the directories that test files name in this list are removed at its end. */
export function setup(): () => void {
  const own = mkdtempSync(join(tmpdir(), "boundary-leftovers-"));
  const list = join(own, "list");
  writeFileSync(list, "");
  process.env["BOUNDARY_TEST_DIRECTORIES"] = list;
  return () => {
    for (const path of readFileSync(list, "utf8").split("\n"))
      if (path !== "") rmSync(path, { recursive: true, force: true });
    rmSync(own, { recursive: true, force: true });
  };
}
