import { hash } from "node:crypto";
import { closeSync, readFileSync, realpathSync } from "node:fs";
import { afterEach, expect, test, vi } from "vitest";
import { createProgramOpener } from "../../daemon/worker/program.ts";

const host = vi.hoisted(() => ({ type: 0xef53 }));
vi.mock("node:fs", async (original) => {
  const real = await original<typeof import("node:fs")>();
  const statfsSync = (path: string) => ({ ...real.statfsSync(path), type: host.type });
  return { ...real, statfsSync };
});
afterEach(() => {
  host.type = 0xef53;
});

// no FUSE can be mounted where the tests run: the kernel's word is what is replaced here
test.each([
  ["as it is where the kernel keeps it", 0xef53, "inode"],
  ["as a copy on FUSE", 0x65735546, "copy"],
  ["as a copy on NFS", 0x6969, "copy"],
])("a program of root's is run %s", async (_, type, kind) => {
  host.type = type;
  const path = realpathSync("/usr/bin/true");
  const program = { path, sha256: hash("sha256", readFileSync(path), "hex") };
  const found = await createProgramOpener().open({ program, workspace: "/srv/work" });
  if (!found.ok) throw new Error(found.why);
  expect(found.program.kind).toBe(kind);
  if (found.program.kind !== "path") closeSync(found.program.fd);
});
