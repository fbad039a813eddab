import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";

const PROJECT = join(import.meta.dirname, "../..");
const IMAGE_BYTES = 320 * 1024 * 1024;

/**
 * A disk with what a user has after `npm ci && npm run build`, less what only development needs: what the guest's
 * install.sh is run from. A disk rather than a shared directory, which is slow under emulation.
 */
export function makeProductDisk(directory: string): string {
  const tree = join(directory, "product");
  mkdirSync(join(tree, "node_modules/.bin"), { recursive: true });
  run("node", ["tests/support/build.ts", "--out", join(tree, "dist")]);
  for (const name of ["package.json", "systemd", "docs/man"]) copy(name, join(tree, name));
  for (const name of readFileSync(join(tree, "dist/packages"), "utf8").trimEnd().split("\n"))
    copy(name, join(tree, name));
  symlinkSync(nodeLink(), join(tree, "node_modules/.bin/node"));
  const disk = join(directory, "product.img");
  run("mke2fs", ["-q", "-t", "ext4", "-d", tree, disk, `${IMAGE_BYTES / 1024}k`]);
  rmSync(tree, { recursive: true });
  return disk;
}

/** npm's own link, which names the package of this architecture. */
function nodeLink(): string {
  return `../node-linux-${process.arch}/bin/node`;
}

function copy(name: string, target: string): void {
  mkdirSync(dirname(target), { recursive: true });
  // Node's headers are not installed: the disk is smaller without
  const filter = (path: string) => !/node-linux-\w+\/include/.test(path);
  cpSync(join(PROJECT, name), target, { recursive: true, filter });
}

function run(program: string, args: readonly string[]): void {
  const path = `${join(PROJECT, "node_modules/.bin")}:${process.env["PATH"] ?? ""}`;
  const ran = spawnSync(program, args, {
    cwd: PROJECT,
    encoding: "utf8",
    env: { ...process.env, PATH: path },
  });
  if (ran.status !== 0) throw new Error(`${program}: ${ran.error?.message ?? ran.stdout + ran.stderr}`);
}
