import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { faultAbove } from "../../daemon/adapters/process-link.ts";

const OTHER = 61_234;
let base = "";
let directory = "";

beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), "boundary-above-"));
  directory = join(base, "run-worker");
  mkdirSync(directory);
});
afterEach(() => rmSync(base, { recursive: true, force: true }));

describe("where a socket's directory is", () => {
  test.each([
    [0o700, true],
    [0o755, true],
    [0o770, false],
    [0o757, false],
    [0o777, false],
    [0o1777, true],
  ])("ours, in a directory of mode %o: %s", (mode, good) => {
    chmodSync(base, mode);
    expect(faultAbove(directory)).toBe(good ? null : `others may have put ${directory} into ${base}`);
    const below = join(directory, "daemon");
    mkdirSync(below, { mode: 0o750 });
    expect(faultAbove(below) === null).toBe(good);
  });

  // as the worker's and the egress process's are, which other users own
  test.skipIf(process.getuid?.() !== 0)(
    "another's: where only we could have made it, sticky or not (needs root)",
    () => {
      chownSync(directory, OTHER, OTHER);
      expect(faultAbove(directory)).toBe(null);
      for (const mode of [0o1777, 0o777]) {
        chmodSync(base, mode);
        expect(faultAbove(directory)).toContain("others may have put");
      }
      chmodSync(base, 0o755);
      chownSync(base, OTHER, OTHER);
      expect(faultAbove(directory)).toContain("others may have put");
      chmodSync(base, 0o1755);
      expect(faultAbove(directory)).toContain("others may have put");
    },
  );
});
