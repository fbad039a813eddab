import { type Carried, refused, unknown } from "./carried.ts";

/**
 * Options of ordinary programs that run a command, load code, or read options from elsewhere. No rule of a profile can let
 * them through. A long name stands for its abbreviations, too: most programs take them.
 */
const RUNNING: ReadonlyMap<string, string> = new Map(
  Object.entries({
    tar: "--to-command --checkpoint-action --use-compress-program -I --rsh-command --rmt-command --info-script --new-volume-script -F",
    bsdtar: "--use-compress-program",
    cpio: "--rsh-command -H",
    sort: "--compress-program",
    split: "--filter",
    rsync: "-e --rsh --rsync-path --daemon --config",
    scp: "-S -o -F",
    sftp: "-S -o -F -b -s",
    "ssh-keygen": "-D",
    "ssh-add": "-s",
    "ssh-agent": "-a",
    rg: "--pre --hostname-bin",
    less: "-k --lesskey-file --lesskey-src -o -O",
    man: "-P -H --pager --html",
    zip: "-T -TT --unzip-command",
    vim: "-c --cmd -S -s -u -U -w -W -n +",
    gcc: "-wrapper -fplugin -B -specs",
    cc: "-wrapper -fplugin -B -specs",
    "g++": "-wrapper -fplugin -B -specs",
    clang: "-fplugin -Xclang -B --config",
    go: "-toolexec -exec -vettool -overlay -ldflags -gcflags -gccgoflags -asmflags -modfile -C",
    cargo: "--config -Z -C",
    cmake: "-P -C -E --toolchain",
    curl: "-K --config --engine --proxy -x --preproxy --socks5 --socks4 --socks5-hostname --resolve --connect-to --unix-socket --abstract-unix-socket --doh-url --interface --netrc --netrc-file -n --upload-file -T --cookie-jar --dump-header -D --trace --trace-ascii --next --insecure -k --noproxy --dns-servers --haproxy-protocol",
    wget: "-e --execute --use-askpass --input-file -i --config --post-file --body-file --no-check-certificate --output-file -a --append-output",
    npm: "--script-shell --node-options --prefix -C --userconfig --globalconfig --registry --proxy --https-proxy --git --shell --viewer --editor",
    pnpm: "--script-shell --dir -C --registry",
    yarn: "--cwd --registry --use-yarnrc",
    pip: "--index-url --extra-index-url -i --trusted-host --proxy --global-option --config-settings --python --target --prefix --root --log",
    pytest:
      "-p -c --rootdir --confcutdir --pdbcls --pyargs -o --override-ini --import-mode --basetemp --junit-xml --debug",
    openssl: "-engine -provider -provider-path -config",
    apt: "-o -c --option --config-file",
    "apt-get": "-o -c --option --config-file",
    "apt-cache": "-o -c --option --config-file",
    dpkg: "--pre-invoke --post-invoke --root --admindir --instdir --force-script-chrootless",
    systemctl: "-H --host -M --machine --root --image",
    journalctl:
      "-M --machine -D --directory --file --root --image --vacuum-size --vacuum-time --vacuum-files --rotate --flush",
    jq: "-L --from-file -f --rawfile --slurpfile",
    tcpdump: "-z -w -W -Z --postrotate-command",
    mysql: "-e --execute --pager --init-command --tee",
    psql: "-c -f -o -v --command --file --output --set --variable -L",
    sqlite3: "-cmd -init -interactive",
    logrotate: "-s --mail",
    pandoc: "--filter -F --lua-filter -L --pdf-engine --data-dir --extract-media",
    rpm: "-E --eval --pipe --define -D",
    dig: "-f -k",
    nmap: "--script --datadir --servicedb -iL -oN -oX -oG -oA",
    tshark: "-X -w",
    hg: "--config",
    svn: "--config-option --config-dir --editor-cmd --diff-cmd --diff3-cmd",
    gpg: "--photo-viewer --homedir --options --exec-path",
    eslint: "--rulesdir --resolve-plugins-relative-to --plugin -c --config --parser -f --format -o",
    jest: "--globalSetup --setupFiles --testEnvironment --reporters --transform --resolver -c --config",
    terraform: "-plugin-dir -chdir -backend-config",
    ansible: "-m -a -e -i -M",
    php: "-d -c -S",
    java: "-javaagent -agentlib -agentpath -XX:OnError -XX:OnOutOfMemoryError",
    tail: "--pid --retry",
    file: "-C -m -f --files-from --magic-file --compile",
    date: "-s --set -f --file -r",
    hostname: "-F -b --file",
    xxd: "-r",
    ss: "-K --kill -D -F",
    dmesg: "-c -C --clear --read-clear -n -D -E",
    ps: "--ppid-kill",
  }),
);

/** What the options of an ordinary program would run; empty when they are as they should be. */
export function unwrapOptions(name: string, args: readonly string[]): readonly Carried[] {
  const options = RUNNING.get(name)?.split(" ") ?? [];
  const bad = argumentsBeforeEnd(args).find((word) => options.some((option) => isOrHolds(word, option)));
  if (bad !== undefined)
    return [refused(`${name}: the option ${bad.split("=", 1)[0] ?? ""} runs, loads or redirects`)];
  const files = args.find((word) => /^@./.test(word) && READS_AT.has(name));
  return files === undefined ? [] : [unknown(`${name}: more arguments come from a file`)];
}

/** Programs that read more arguments from "@file". */
const READS_AT = new Set("gcc g++ cc c++ clang clang++ ld ar java javac rustc tsc 7z".split(" "));

function argumentsBeforeEnd(args: readonly string[]): readonly string[] {
  const end = args.indexOf("--");
  return end === -1 ? args : args.slice(0, end);
}

/** Whether a word is the option, an abbreviation of it, or a letter of it with its value joined on. */
function isOrHolds(word: string, option: string): boolean {
  const [name = ""] = word.split("=", 1);
  if (name === option) return true;
  if (option.startsWith("--")) return name.startsWith("--") && name.length > 3 && option.startsWith(name);
  return option.length === 2 && word.startsWith(option) && !word.startsWith("--");
}
