import { carriesCommands, familyOf } from "./unwrap.ts";

/** What a program can do for whoever chooses its arguments, beside its work. */
type Risk = "shell" | "code" | "network";

/**
 * Ordinary programs that some option, command or file makes do more than their name says, and what. Known from their
 * manuals and from public lists of such uses (GTFOBins); programs whose work is to run others need no row (unwrap.ts).
 */
const RISKS: Readonly<Record<Risk, ReadonlySet<string>>> = {
  shell: new Set(
    "vim less more man nano pico joe mutt mail ftp sftp scp rsync zip tar bsdtar cpio rpm dpkg apt apt-get dnf yum gem git hg svn tcpdump journalctl systemctl docker podman nerdctl psql mysql sqlite3 mongosh irb pry gdb openvpn nmap logrotate".split(
      " ",
    ),
  ),
  code: new Set(
    "gcc g++ clang cc go cargo ninja cmake meson ctest pytest jest vitest mocha eslint prettier java mvn gradle sbt ant bazel rake bundle ctags".split(
      " ",
    ),
  ),
  network: new Set("curl wget nc ncat ssh scp sftp ftp rsync openssl gh pip npm docker podman".split(" ")),
};

/**
 * What can be said against allowing a program: the risks that the profile does not accept in words. `allows`: some rule
 * lets arguments through that it does not give in full; a rule that carries is none, because what it carries is judged.
 */
export function unaccepted(path: string, allows: boolean, accepted: ReadonlySet<string>): readonly Risk[] {
  if (!allows) return [];
  const family = familyOf(path);
  const risks = (["shell", "code", "network"] as const).filter(
    (risk) => RISKS[risk].has(family) || (risk === "shell" && carriesCommands(path)),
  );
  return risks.filter((risk) => !accepted.has(risk));
}
