import { type Carried, inner, refused, UNKNOWN, unknown } from "./carried.ts";
import { assignmentAt, skipOptions } from "./wrappers.ts";

type Carrier = (args: readonly string[]) => readonly Carried[];

const set = (words: string): ReadonlySet<string> => new Set(words.split(" "));

/** Programs whose way of carrying a command is their own. */
const CARRIERS: ReadonlyMap<string, Carrier> = new Map([
  ["env", env],
  ["xargs", xargs],
  ["find", find],
  ["parallel", (args) => [unknown("parallel: its commands are made when it runs"), ...tail(args)]],
  ["ssh", remote],
  ["slogin", remote],
  ["mosh", remote],
  ["rsh", remote],
  ["ip", namespaced],
  ["watch", watch],
  ["script", script],
  ["su", su],
  ["make", make],
  ["gmake", make],
  ["busybox", applet],
  ["toybox", applet],
  ["gdb", debug],
  ["lldb", debug],
  ["perf", (args) => [unknown("perf: it runs what it measures"), ...tail(args)]],
  ["at", later],
  ["batch", later],
  ["crontab", (args) => (args.length === 1 && args[0] === "-l" ? [] : later())],
  ["fd", files],
  ["fdfind", files],
  ["entr", (args) => [unknown("entr: runs it when a file changes"), ...tail(args)]],
  ["socat", () => [refused("socat: its addresses can run commands and open any socket")]],
  ["nc", network],
  ["ncat", network],
  ["netcat", network],
  ["telnet", network],
  ["tmux", () => [unknown("tmux: runs commands in a server of its own")]],
  ["screen", () => [unknown("screen: runs commands in a server of its own")]],
  ["docker", container],
  ["podman", container],
  ["nerdctl", container],
  ["kubectl", cluster],
  ["npm", packages],
  ["pnpm", packages],
  ["yarn", packages],
  ["npx", fetched],
  ["bunx", fetched],
  ["pnpx", fetched],
  ["uvx", fetched],
  ["pipx", fetched],
  ["uv", (args) => (args[0] === "run" ? fetched(args.slice(1)) : [])],
  ["sed", sed],
  ["tar", oldStyle],
  ["ed", () => [unknown("ed: its commands can run others")]],
  ["ex", () => [unknown("ex: its commands can run others")]],
  ["vi", () => [unknown("vi: its commands can run others")]],
  ["emacs", () => [unknown("emacs: its commands can run others")]],
  ["eval", (args) => [unknown("eval"), { kind: "line", line: args.join(" ") }]],
]);

/** What a program with a grammar of its own carries; null when it is none. */
export function unwrapCarrier(name: string, args: readonly string[]): readonly Carried[] | null {
  if (/^ld(?:-linux[\w-]*|-musl-[\w-]*)?(?:\.so|-\d)/.test(name) || name === "ld.so")
    return [refused("the dynamic loader runs any file, whatever its name or rights are")];
  return CARRIERS.get(name)?.(args) ?? null;
}

export function isCarrier(name: string): boolean {
  return CARRIERS.has(name);
}

/** The words after the options, whatever those are: for what is in doubt already. */
function tail(args: readonly string[]): readonly Carried[] {
  const at = args.findIndex((word) => !word.startsWith("-"));
  return at === -1 ? [] : [inner(args.slice(at), true)];
}

function env(args: readonly string[]): readonly Carried[] {
  const split = args.find((word) => /^(?:-[a-zA-Z0]*S|--split)/.test(word));
  if (split !== undefined) return [refused("env: -S takes a text apart by rules of its own")];
  const at = skipOptions(args, set("-i -0 -v --ignore-environment --null --debug -"), set("-u --unset"));
  if (typeof at === "string") return [unknown(`env: the option ${at} is not known`)];
  const carried: Carried[] = [];
  let place = args[at] === "-" ? at + 1 : at;
  for (let name = assignmentAt(args, place); name !== null; name = assignmentAt(args, ++place))
    carried.push({ kind: "assignment", name });
  return place < args.length ? [...carried, inner(args.slice(place))] : carried;
}

function xargs(args: readonly string[]): readonly Carried[] {
  const flags = set("-0 -r -t -x --null --no-run-if-empty --verbose --exit");
  const values = set(
    "-n -P -L -d -I -s --max-args --max-procs --max-lines --delimiter --replace --max-chars",
  );
  const at = skipOptions(args, flags, values);
  if (typeof at === "string") return [unknown(`xargs: the option ${at} is not known`)];
  const command = at < args.length ? args.slice(at) : ["echo"];
  return [unknown("xargs: more words come from its input"), inner([...command, UNKNOWN], true)];
}

const FIND_RUNS = set("-exec -execdir -ok -okdir");
const FIND_WRITES = set("-delete -fprint -fprint0 -fprintf -fls");

function find(args: readonly string[]): readonly Carried[] {
  const carried: Carried[] = [];
  for (let at = 0; at < args.length; at++) {
    const word = args[at] ?? "";
    if (FIND_WRITES.has(word)) carried.push(unknown(`find: ${word} acts on whatever it finds`));
    if (word.startsWith("-files0-from")) carried.push(unknown("find: its places come from a file"));
    if (!FIND_RUNS.has(word)) continue;
    const end = args.findIndex(
      (one, place) => place > at && (one === ";" || (one === "+" && args[place - 1] === "{}")),
    );
    const command = args.slice(at + 1, end === -1 ? args.length : end);
    carried.push(unknown(`find: ${word} runs a command on whatever it finds`));
    carried.push(
      inner(
        command.map((one) => (one.includes("{}") ? UNKNOWN : one)),
        true,
      ),
    );
    if (end === -1) return [...carried, refused("find: the command has no end")];
    at = end;
  }
  return carried;
}

function files(args: readonly string[]): readonly Carried[] {
  const at = args.findIndex((word) => /^(?:-[a-zA-Z]*[xX]|--exec|--exec-batch)/.test(word));
  if (at === -1) return [];
  return [unknown("fd: runs a command on whatever it finds"), inner([...args.slice(at + 1), UNKNOWN], true)];
}

function remote(args: readonly string[]): readonly Carried[] {
  const quick = args.length === 1 && /^-[VQ]/.test(args[0] ?? "");
  if (quick) return [];
  const flags = set("-4 -6 -T -t -q -v -x -a -n -C -N");
  const at = skipOptions(args, flags, set("-p -l -i -b"));
  if (typeof at === "string")
    return [refused(`ssh: the option ${at} is not known, and may run a command here`)];
  if ((args[at] ?? "").startsWith("-")) return [refused("ssh: the host begins with a dash")];
  const line = args.slice(at + 1).join(" ");
  const there = unknown("ssh: what it does happens on another host");
  return line === "" ? [there] : [there, { kind: "line", line }];
}

/** `ip netns exec NAME COMMAND`, by any abbreviation. */
function namespaced(args: readonly string[]): readonly Carried[] {
  if (args.some((word) => /^-{1,2}(?:b|ba|bat|batc|batch|force|n|ne|net|netn|netns)$/.test(word)))
    return [refused("ip: commands from a file, or another namespace")];
  const at = args.findIndex((word) => /^net?n?s?$/.test(word));
  const rest = at === -1 ? [] : args.slice(at + 1).filter((word) => !/^-(?:a|all)$/.test(word));
  if (!/^ex?e?c?$/.test(rest[0] ?? "")) return [];
  return [unknown("ip netns exec: it enters a namespace"), inner(rest.slice(2))];
}

function watch(args: readonly string[]): readonly Carried[] {
  const flags = set(
    "-b -c -C -d -e -g -p -t -x -w --beep --color --differences --errexit --chgexit --no-title --exec",
  );
  const at = skipOptions(args, flags, set("-n -q --interval --equexit"));
  if (typeof at === "string") return [unknown(`watch: the option ${at} is not known`)];
  const command = args.slice(at);
  if (command.length === 0) return [];
  // without -x it hands the words to sh -c, joined
  return [{ kind: "line", line: command.join(" ") }, inner(command)];
}

function script(args: readonly string[]): readonly Carried[] {
  const at = args.findIndex((word) => /^(?:-[a-zA-Z]*c|--command)/.test(word));
  const line =
    at === -1 ? undefined : (args[at] ?? "").startsWith("--command=") ? args[at]?.slice(10) : args[at + 1];
  return [
    unknown("script: writes down a session"),
    ...(line === undefined ? [] : [{ kind: "line", line } as const]),
  ];
}

function su(args: readonly string[]): readonly Carried[] {
  const at = args.findIndex((word) => /^(?:-[a-z]*c|--command|--session-command)/.test(word));
  const line =
    at === -1 ? undefined : /=/.test(args[at] ?? "") ? args[at]?.replace(/^[^=]*=/, "") : args[at + 1];
  return [
    unknown("su: it runs the command as another user"),
    ...(line === undefined ? [] : [{ kind: "line", line } as const]),
  ];
}

/** A makefile of the workspace is judged by the profile's rule for make; code and other shells in the arguments are not. */
function make(args: readonly string[]): readonly Carried[] {
  if (args.some((word) => /^(?:--ev|-E)/.test(word)))
    return [unknown("make: code in its arguments (--eval)")];
  const assigned = args.flatMap(
    (_, at) =>
      assignmentAt(args, at)
        ?.replace(/[:+?!]+$/, "")
        .trim() ?? [],
  );
  const bad = assigned.find((name) =>
    /^(?:\.?SHELL|\.SHELLFLAGS|MAKE|MAKEFLAGS|GNUMAKEFLAGS|MAKEFILES|MAKEOVERRIDES|MFLAGS|VPATH|\..*)$/.test(
      name,
    ),
  );
  if (bad !== undefined) return [refused(`make: ${bad} changes what runs`)];
  const expanded = args.find((word) => /\$|`/.test(word));
  return expanded === undefined ? [] : [unknown("make: a value that it expands")];
}

function applet(args: readonly string[]): readonly Carried[] {
  const [first = ""] = args;
  if (first === "") return [];
  if (first.startsWith("-"))
    return first === "--list" || first === "--help" ? [] : [unknown(`busybox: ${first}`)];
  return [unknown("busybox: its programs are not those of the profile"), inner(args)];
}

function debug(args: readonly string[]): readonly Carried[] {
  if (args.length === 1 && /^--?(?:version|help)$/.test(args[0] ?? "")) return [];
  return [
    unknown("a debugger runs commands, and what it is given"),
    ...tail(args.filter((word) => word !== "--args")),
  ];
}

function later(): readonly Carried[] {
  return [refused("it runs commands later, out of reach of what holds this one")];
}

function network(): readonly Carried[] {
  return [unknown("it opens any connection, and may run a command on it")];
}

const CONTAINER_RUNS = set(
  "run exec create start compose build buildx cp commit import load attach debug plugin swarm service stack kube machine unshare",
);

const COMPOSE_LOOKS = set("ps logs config ls images top port version");

function container(args: readonly string[]): readonly Carried[] {
  const [verb = ""] = args;
  if (verb.startsWith("-") && !/^(?:-v|--version|--help)$/.test(verb))
    return [refused("another daemon than this host's")];
  if (verb === "compose" && COMPOSE_LOOKS.has(args[1] ?? "")) return [];
  return CONTAINER_RUNS.has(verb) ? [unknown(`${verb}: it runs commands beside this host's boundary`)] : [];
}

function cluster(args: readonly string[]): readonly Carried[] {
  const bad = args.find((word) =>
    /^--(?:kubeconfig|server|token|as|as-group|certificate-authority|insecure)/.test(word),
  );
  if (bad !== undefined)
    return [refused(`kubectl: ${bad.split("=", 1)[0] ?? ""} speaks to another cluster, or as another`)];
  const [verb = ""] = args.filter((word) => !word.startsWith("-"));
  const isRun = set(
    "exec run debug cp attach proxy port-forward edit apply create replace patch delete plugin",
  ).has(verb);
  return isRun ? [unknown(`kubectl: ${verb} acts on the cluster`)] : [];
}

const PACKAGE_RUNS = set("exec x dlx create init explore edit config set env node bunx");

function packages(args: readonly string[]): readonly Carried[] {
  const [verb = ""] = args.filter((word) => !word.startsWith("-"));
  if (verb === "config" && (args.includes("get") || args.includes("list"))) return [];
  return PACKAGE_RUNS.has(verb)
    ? [unknown(`${verb}: it runs a program that may first be fetched, or a setting`)]
    : [];
}

/** Programs of packages that are there or will be fetched; the profile may name those that are. */
function fetched(args: readonly string[]): readonly Carried[] {
  const end = args.findIndex((word) => !word.startsWith("-"));
  const bad = args
    .slice(0, end === -1 ? args.length : end)
    .find((word) => /^(?:-c|--call|-p|--package|--from|--with|-y|--yes|--node-options)(?:=|$)/.test(word));
  return bad === undefined ? [] : [unknown(`${bad}: it runs code that is fetched`)];
}

/** `tar xIf sh a.tar`: letters without a dash are options, too, and no table of them sees these. */
function oldStyle(args: readonly string[]): readonly Carried[] {
  const [letters = "-"] = args;
  return letters.startsWith("-") || /^[cxtuvzjJkpaf]+$/.test(letters)
    ? []
    : [refused("tar: letters that run, or leave the place")];
}

/** A sed script of plain printing, deleting and substituting is judged as an argument; every other is code. */
function sed(args: readonly string[]): readonly Carried[] {
  if (args.some((word) => /^(?:-[a-zA-Z]*f|--fi)/.test(word)))
    return [unknown("sed: its program may come from a file")];
  // "-ie" is -i with a suffix, and no -e: which word is the program hangs on it
  if (args.some((word) => /^-[a-zA-Z]*i[^.]/.test(word))) return [unknown("sed: -i with a suffix")];
  return sedScripts(args).every(isPlainSed)
    ? []
    : [unknown("sed: its program can run others, or write files")];
}

function sedScripts(all: readonly string[]): readonly string[] {
  const end = all.indexOf("--");
  const args = end === -1 ? all : all.slice(0, end);
  const given = args.flatMap((word, at) => {
    if (word === "--expression") return [args[at + 1] ?? ""];
    if (word.startsWith("--expression=")) return [word.slice(13)];
    const joined = /^-[a-zA-Z]*?e(.*)$/s.exec(word)?.[1];
    return joined === undefined ? [] : [joined === "" ? (args[at + 1] ?? "") : joined];
  });
  if (given.length > 0) return given;
  const operands = args.filter((word) => !word.startsWith("-"));
  return (operands.length > 0 || end === -1 ? operands : all.slice(end + 1)).slice(0, 1);
}

/** One command of sed, with an address: p, d, q, =, or s with flags that neither run nor write. */
export function isPlainSed(program: string): boolean {
  if (program.length > 4096) return false;
  const address = String.raw`(?:\d{1,9}|\$|/(?:[^/\\\n[]|\\[^\n]|\[\^?\]?[^\]/\\\n]*\])*/I?)`;
  const parts = ["/", "|", "#", ",", "@", ":"].map((sign) => {
    const body = `(?:[^${sign === "|" ? "\\|" : sign}\\\\\\n]|\\\\[^\\n])*`;
    const mark = sign === "|" ? "\\|" : sign;
    // a bracket is closed before the next sign: not every sed lets one hide a sign
    const bracket = `\\[\\^?\\]?[^\\]${sign === "|" ? "\\|" : sign}\\\\\\n]*\\]`;
    const found = `(?:[^${sign === "|" ? "\\|" : sign}\\\\\\n[]|\\\\[^\\n]|${bracket})*`;
    return `s${mark}${found}${mark}${body}${mark}[gpiI0-9]{0,4}`;
  });
  const command = `(?:${address}(?:,(?:${address}|[+~]\\d{1,9}))?)? ?!? ?(?:[pdqDPNnGgHhx=]|${parts.join("|")})`;
  return new RegExp(`^ ?${command}(?: ?[;\\n] ?${command}){0,8} ?;?$`).test(program);
}
