import { appendFileSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/**
 * A directory of a test file, made while it is loaded. It goes at the end of the whole run (leftovers.ts): what stands in
 * afterAll is not done where every test of a file is skipped.
 */
export function directoryOfFile(name: string): string {
  const path = mkdtempSync(join(tmpdir(), `boundary-${name}-`));
  const list = process.env["BOUNDARY_TEST_DIRECTORIES"];
  if (list !== undefined) appendFileSync(list, `${path}\n`);
  return path;
}
