import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { connectControl } from "../../client/control.ts";
import { faultOfPlace } from "../../client/socket-place.ts";

let base: string;
let directory: string;
let path: string;
let server: Server;

beforeEach(async () => {
  base = mkdtempSync(join(tmpdir(), "boundary-place-"));
  directory = join(base, "run");
  path = join(directory, "control.sock");
  mkdirSync(directory, { mode: 0o755 });
  server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => server.listen(path, resolve));
});
afterEach(async () => {
  await new Promise((resolve) => server.close(resolve));
  rmSync(base, { recursive: true, force: true });
});

describe("whose socket it is", () => {
  test("its directory's owner's", () => {
    expect(faultOfPlace(path)).toBeNull();
  });

  test.each([0o775, 0o757, 0o1777])("a directory of mode %o is anybody's", (mode) => {
    chmodSync(directory, mode);
    expect(faultOfPlace(path)).toContain("others");
  });

  test("a link is not the directory that it leads to", () => {
    symlinkSync(directory, join(base, "link"));
    expect(faultOfPlace(join(base, "link", "control.sock"))).toContain("directory");
  });

  test.runIf(process.getuid?.() === 0)("a socket of another user than the directory's (needs root)", () => {
    chownSync(path, 12_345, 12_345);
    expect(faultOfPlace(path)).toContain("uid 12345");
    chownSync(directory, 12_345, 12_345);
    expect(faultOfPlace(path)).toBeNull();
    chownSync(path, 0, 0);
    expect(faultOfPlace(path)).toBeNull();
  });

  test("nothing is sent to one that may be another's", async () => {
    chmodSync(directory, 0o777);
    await expect(connectControl(path)).rejects.toMatchObject({ code: "socket-unsafe" });
    chmodSync(directory, 0o755);
    await expect(connectControl(join(directory, "gone"))).rejects.toMatchObject({ code: "no-daemon" });
  });
});
