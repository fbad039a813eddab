import { writeFileSync } from "node:fs";

/** What runs a program as if the kernel had been booted with this command line: in a mount namespace of its own. */
export function bootedWith(commandLine: string, file: string): readonly string[] {
  writeFileSync(file, `${commandLine}\n`);
  const script = 'mount --bind "$1" /proc/cmdline && shift && exec "$@"';
  return ["/usr/bin/unshare", "-m", "/bin/sh", "-c", script, "sh", file];
}
