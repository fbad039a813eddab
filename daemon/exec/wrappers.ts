import { type Carried, inner, unknown } from "./carried.ts";

/**
 * Programs that start the command in their arguments and are else what they seem: the options before it, those without and
 * those with a value, and how many words of their own stand before the command. An option that is not here is unknown.
 */
type Wrapper = {
  readonly flags: string;
  readonly values: string;
  readonly words: number;
  /** NAME=value words before the command go into its environment. */
  readonly assigns: boolean;
  /** Why the profile's word is needed beside the command's own, where it changes more than that. */
  readonly besides: string;
};

const WRAPPERS: ReadonlyMap<string, Wrapper> = new Map([
  wrapper("nice", { values: "-n --adjustment" }),
  wrapper("ionice", { flags: "-t --ignore", values: "-c -n --class --classdata" }),
  wrapper("timeout", {
    flags: "-f -p -v --foreground --preserve-status --verbose",
    values: "-k -s --kill-after --signal",
    words: 1,
  }),
  wrapper("stdbuf", { values: "-i -o -e --input --output --error" }),
  wrapper("nohup", {}),
  wrapper("time", { flags: "-p -v --portability --verbose" }),
  wrapper("setsid", { flags: "-c -f -w --ctty --fork --wait", besides: "it leaves the session" }),
  wrapper("chrt", { flags: "-b -f -i -o -r -v", words: 1 }),
  wrapper("taskset", { flags: "-c --cpu-list", words: 1 }),
  wrapper("numactl", { flags: "-l", values: "-N -m -C -i", besides: "" }),
  wrapper("cpulimit", { flags: "-z -q", values: "-l -c" }),
  wrapper("chronic", { flags: "-e -v" }),
  wrapper("unbuffer", { flags: "-p" }),
  wrapper("fakeroot", { besides: "it loads a library into the command" }),
  wrapper("xvfb-run", { flags: "-a", besides: "it starts a server" }),
  wrapper("dbus-run-session", { besides: "it starts a bus" }),
  wrapper("catchsegv", {}),
  wrapper("sudo", {
    flags: "-n -E -H -k -S -b -P",
    values: "-u -g -p -C -T",
    assigns: true,
    besides: "it runs the command as another user",
  }),
  wrapper("doas", { flags: "-n", values: "-u", besides: "it runs the command as another user" }),
  wrapper("pkexec", { values: "--user", besides: "it runs the command as another user" }),
  wrapper("setpriv", {
    flags: "--no-new-privs --clear-groups --init-groups",
    values: "--reuid --regid --groups",
    besides: "it changes what the command is privileged to do",
  }),
  wrapper("capsh", { besides: "it changes what the command is privileged to do" }),
  wrapper("runuser", { values: "-u", besides: "it runs the command as another user" }),
  wrapper("chroot", {
    values: "--userspec --groups",
    words: 1,
    besides: "the command's programs are those of another root",
  }),
  wrapper("unshare", {
    flags: "-m -u -i -n -p -U -C -T -f -r --mount --net --pid --user --fork --map-root-user --mount-proc",
    besides: "it makes namespaces",
  }),
  wrapper("nsenter", {
    flags: "-a -m -u -i -n -p -U -C --all --mount --net --pid --user",
    values: "-t --target",
    besides: "it enters the namespaces of others",
  }),
  wrapper("bwrap", { besides: "it makes a sandbox of its own" }),
  wrapper("firejail", { besides: "it makes a sandbox of its own" }),
  wrapper("proot", { besides: "it makes a root of its own" }),
  wrapper("strace", {
    flags: "-f -c -t -tt -r -q -T -y",
    values: "-e -s",
    besides: "it reads and changes what the command does",
  }),
  wrapper("ltrace", { flags: "-f -c", values: "-e", besides: "it reads what the command does" }),
  wrapper("valgrind", { flags: "-q -v", besides: "it runs the command's code itself" }),
  wrapper("systemd-run", {
    flags: "-q -P -t --user --scope --wait --pipe --collect --quiet",
    values: "-u --unit",
    besides: "the command runs outside of what holds this one",
  }),
  wrapper("systemd-inhibit", { values: "--what --who --why --mode" }),
  wrapper("flock", { flags: "-n -x -s -e", values: "-w", words: 1 }),
  wrapper("caffeinate", {}),
  wrapper("faketime", { words: 1, besides: "it loads a library into the command" }),
  wrapper("torsocks", { besides: "it sends the command's traffic elsewhere" }),
  wrapper("proxychains", { besides: "it sends the command's traffic elsewhere" }),
  wrapper("proxychains4", { besides: "it sends the command's traffic elsewhere" }),
]);

function wrapper(name: string, given: Partial<Wrapper>): readonly [string, Wrapper] {
  return [name, { flags: "", values: "", words: 0, assigns: false, besides: "", ...given }];
}

/** What a plain wrapper carries; null when the program is none. */
export function unwrapPlain(name: string, args: readonly string[]): readonly Carried[] | null {
  const known = WRAPPERS.get(name);
  if (known === undefined) return null;
  const read = skipOptions(args, new Set(known.flags.split(" ")), new Set(known.values.split(" ")));
  if (typeof read === "string") return [unknown(`${name}: the option ${read} is not known`)];
  let at = read + known.words;
  const carried: Carried[] = known.besides === "" ? [] : [unknown(`${name}: ${known.besides}`)];
  for (let hit = assignmentAt(args, at); known.assigns && hit !== null; hit = assignmentAt(args, ++at))
    carried.push({ kind: "assignment", name: hit });
  if (at < args.length) carried.push(inner(args.slice(at)));
  return carried;
}

/** The names of all plain wrappers, for the linter. */
export function isPlainWrapper(name: string): boolean {
  return WRAPPERS.has(name);
}

/** The name that a word assigns to; null for any other word. */
export function assignmentAt(args: readonly string[], at: number): string | null {
  return /^([^=/-][^=]*)=/.exec(args[at] ?? "")?.[1] ?? null;
}

/**
 * Where the options end: the place of the first word that is none, or the option that is not known. Long options are
 * compared whole, letters one by one; "nice -5" and the like are no options that anybody needs.
 */
export function skipOptions(
  args: readonly string[],
  flags: ReadonlySet<string>,
  values: ReadonlySet<string>,
): number | string {
  let at = 0;
  for (; at < args.length; at++) {
    const word = args[at] ?? "";
    if (word === "--") return at + 1;
    if (!word.startsWith("-") || word === "-") return at;
    if (word.startsWith("--") || flags.has(word)) {
      const [name = ""] = word.split("=", 1);
      if (flags.has(word)) continue;
      if (!values.has(name)) return word;
      if (name === word) at++;
      continue;
    }
    const took = letters(word, flags, values);
    if (took === null) return word;
    if (took === "next") at++;
  }
  return at;
}

function letters(
  word: string,
  flags: ReadonlySet<string>,
  values: ReadonlySet<string>,
): "next" | "nothing" | null {
  for (let at = 1; at < word.length; at++) {
    const letter = `-${word[at] ?? ""}`;
    if (values.has(letter)) return at === word.length - 1 ? "next" : "nothing";
    if (!flags.has(letter)) return null;
  }
  return "nothing";
}
