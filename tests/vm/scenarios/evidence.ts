import type { Stage } from "../stage.ts";

/** What is left behind: a log that verifies without the daemon, and a journal without a refusal of the sandbox. */
export async function evidence(stage: Stage): Promise<void> {
  const { guest, check } = stage;
  await guest.ok("systemctl stop boundary-daemon", 240);
  const verified = await guest.run("boundaryctl verify-log", 240);
  check(
    "the log verifies offline, with its key and remembered head",
    verified.code === 0,
    verified.stdout + verified.stderr,
  );
  const refused = await guest.run(
    "journalctl --no-pager -o cat -u 'boundary-*' | grep -nE 'EPERM|EACCES|EROFS|SECCOMP|SIGSYS|Operation not permitted|Permission denied|Read-only file system'",
  );
  check("nothing of ours was refused by the sandbox, in any boot", refused.code === 1, refused.stdout);
  const killed = await guest.run("journalctl -k --no-pager -o cat | grep -E 'type=1326|seccomp'");
  check("the kernel ended nothing for its system calls", killed.code === 1, killed.stdout);
  await guest.ok("systemctl start boundary-daemon", 240);
}
