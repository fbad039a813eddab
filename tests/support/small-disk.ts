import { spawnSync } from "node:child_process";
import { join } from "node:path";

/**
 * Runs a module's code on a small file system of its own, mounted in a private mount namespace: nothing of it is seen
 * outside, and it is gone with the process. `code` finds the mount point in `process.env.DISK`; what it prints is returned.
 */
export type DiskKind = "tmpfs" | "ext4" | "ext2";

/** Why it cannot be done here, or "". Goes into the name of what is skipped. */
export const NO_MOUNT = missing();

export function onSmallDisk(
  kind: DiskKind,
  temp: string,
  code: string,
  how: { readonly mebibytes?: number; readonly without?: string; readonly after?: string } = {},
): string {
  const { mebibytes = 16, without, after = "" } = how;
  const drop = without ? `setpriv --bounding-set -${without} --inh-caps -${without}` : "";
  const script = `set -e
    mkdir -p "$DISK"
    if [ ${kind} != tmpfs ]; then
      truncate -s ${mebibytes}M "$IMAGE"; mkfs.${kind} -q "$IMAGE"; mount -o loop "$IMAGE" "$DISK"
    else mount -t tmpfs -o size=${mebibytes}m tmpfs "$DISK"; fi
    chmod 0700 "$DISK"
    ${drop} "$NODE" --input-type=module -e "$CODE"
    ${after}
    umount "$DISK"`;
  const env = {
    ...process.env,
    DISK: join(temp, "disk"),
    IMAGE: join(temp, "image"),
    NODE: process.execPath,
    CODE: code,
  };
  const ran = spawnSync("unshare", ["-m", "bash", "-c", script], { env, encoding: "utf8", timeout: 60_000 });
  if (ran.status !== 0) throw new Error(`${kind}: ${ran.stdout}${ran.stderr}`);
  return ran.stdout;
}

/** By a real mount of the dearer kind: where a loop device and mkfs.ext4 work, tmpfs does. */
function missing(): string {
  if (process.geteuid?.() !== 0) return "not root";
  const script =
    "set -e; mount -t tmpfs tmpfs /mnt; truncate -s 16M /mnt/i; mkfs.ext4 -q /mnt/i; mkdir /mnt/d; mount -o loop /mnt/i /mnt/d";
  const tried = spawnSync("unshare", ["-m", "bash", "-c", script], { encoding: "utf8", timeout: 20_000 });
  return tried.status === 0 ? "" : `no ext4 on a loop device: ${(tried.stderr ?? "").trim().slice(0, 200)}`;
}
