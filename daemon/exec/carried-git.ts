import { type Carried, inner, refused, unknown } from "./carried.ts";

/** Settings that only change what is shown. All others can name a program, a file or a host. */
const HARMLESS_SETTING =
  /^(?:color\.[a-z.]+|core\.(?:quotepath|abbrev)|log\.(?:date|decorate|abbrevcommit)|advice\.[a-z]+|diff\.(?:renames|context|noprefix|mnemonicprefix|algorithm)|column\.[a-z]+|status\.[a-z]+|user\.(?:name|email)|init\.defaultbranch|pull\.(?:rebase|ff)|push\.default|fetch\.prune|merge\.(?:ff|conflictstyle)|commit\.verbose|grep\.[a-z]+)=[^!\n]*$/i;

/** What git knows by itself; any other word is an alias or a program on its path. */
const COMMANDS: ReadonlySet<string> = new Set(
  "add am annotate apply archive bisect blame branch bundle cat-file check-attr check-ignore check-mailmap check-ref-format checkout checkout-index cherry cherry-pick clean clone column commit commit-graph commit-tree config count-objects credential daemon describe diff diff-files diff-index diff-tree difftool fast-export fast-import fetch fetch-pack filter-branch fmt-merge-msg for-each-ref for-each-repo format-patch fsck gc grep gui hash-object help hook init instaweb interpret-trailers log ls-files ls-remote ls-tree mailinfo maintenance merge merge-base merge-file merge-tree mergetool mktag mktree multi-pack-index mv name-rev notes pack-objects pack-refs patch-id prune pull push range-diff read-tree rebase reflog remote repack replace request-pull rerere reset restore rev-list rev-parse revert rm send-email send-pack shortlog show show-branch show-index show-ref sparse-checkout stage stash status stripspace submodule switch symbolic-ref tag unpack-file unpack-objects update-index update-ref update-server-info var verify-commit verify-pack verify-tag version whatchanged worktree write-tree".split(
    " ",
  ),
);
const RUNS_COMMANDS = new Set(
  "bisect difftool mergetool filter-branch instaweb gui daemon hook for-each-repo send-email maintenance credential help".split(
    " ",
  ),
);
/** Options that name a program, or write to a file, whatever the command is. */
const RUNNING_OPTIONS =
  /^(?:--upload-p|--receive-p|--exec(?:=|$)|-x$|--extc|--ext-d|--textc|--open-f|--to-c|--cmd|--editor|--output(?:=|$)|--git-dir|--work-tree|--exec-path=|--config-env|--namespace|--super-prefix|--template|--attr-source|--separate-git-dir|--reference|--config(?:=|$)|--gpg-sign=|--tool(?:=|$)|--strategy(?:=|$)|--shallow-file|--bundle-uri|--filter=sparse:path)/;

/** What a call of git carries: settings on its command line, aliases, helpers, and the commands that run others. */
export function unwrapGit(args: readonly string[]): readonly Carried[] {
  const carried: Carried[] = [];
  let at = 0;
  for (; at < args.length; at++) {
    const word = args[at] ?? "";
    if (!word.startsWith("-")) break;
    if (word === "-c") {
      const setting = args[++at] ?? "";
      if (!HARMLESS_SETTING.test(setting))
        carried.push(refused("git: -c with a setting that can run or redirect"));
    } else if (word.startsWith("-c")) carried.push(refused("git: -c with a setting joined on"));
    else if (word === "-C") at++;
    else if (RUNNING_OPTIONS.test(word)) carried.push(refused(`git: ${word.split("=", 1)[0] ?? ""}`));
    else if (/^(?:-p|--paginate)$/.test(word))
      carried.push(unknown("git: a pager is a program of the settings"));
  }
  const command = args[at];
  if (command === undefined) return carried;
  return [...carried, ...ofCommand(command, args.slice(at + 1))];
}

function ofCommand(command: string, args: readonly string[]): readonly Carried[] {
  if (!COMMANDS.has(command)) return [unknown("git: no command of its own, so an alias or another program")];
  const carried: Carried[] = RUNS_COMMANDS.has(command)
    ? [unknown(`git ${command}: it runs other commands`)]
    : [];
  const end = args.indexOf("--");
  const before = end === -1 ? args : args.slice(0, end);
  const option = before.find((word) => RUNNING_OPTIONS.test(word) && !isHarmlessHere(command, word));
  if (option !== undefined)
    carried.push(refused(`git ${command}: the option ${option.split("=", 1)[0] ?? ""}`));
  if (command === "grep" && before.some((word) => /^-[a-zA-Z]*O/.test(word)))
    carried.push(refused("git grep: -O runs a program"));
  if (/^(?:merge|rebase|pull)$/.test(command) && before.some((word) => /^-[a-zA-Z]*s/.test(word)))
    carried.push(refused(`git ${command}: -s names a strategy, which is a program`));
  if (command === "clone" && before.some((word) => /^-[a-z]*[uc]/.test(word)))
    carried.push(refused("git clone: a setting, or a program of the other side"));
  if (
    /^(?:clone|fetch|pull|push|ls-remote|remote|submodule|archive)$/.test(command) &&
    args.some(isRunningUrl)
  )
    carried.push(refused(`git ${command}: the address runs a program`));
  if (command === "submodule" && args.includes("foreach")) {
    const rest = args.slice(args.indexOf("foreach") + 1).filter((word) => word !== "--recursive");
    carried.push(unknown("git submodule foreach: it runs a line"), { kind: "line", line: rest.join(" ") });
  }
  if (command === "rebase") {
    const line = execOf(before);
    if (line !== undefined) carried.push({ kind: "line", line });
  }
  if (command === "bisect" && args[0] === "run") carried.push(inner(args.slice(1)));
  if (command === "config" && isWriting(args))
    carried.push(unknown("git config: a setting can name a program"));
  return carried;
}

/** -x of `git clean` and `git cherry-pick` is no command; -x of `git rebase` is. */
function isHarmlessHere(command: string, word: string): boolean {
  if (word === "-x") return command === "clean" || command === "cherry-pick";
  if (word.startsWith("--exec")) return command === "rebase";
  return /^--(?:strategy|template)/.test(word) && command === "commit";
}

function execOf(args: readonly string[]): string | undefined {
  const at = args.findIndex((word) => word === "-x" || /^--exec(?:=|$)/.test(word));
  if (at === -1) return undefined;
  const word = args[at] ?? "";
  return word.includes("=") ? word.slice(word.indexOf("=") + 1) : args[at + 1];
}

/** A transport helper ("ext::sh -c …", "fd::"), or a host that is an option of ssh. */
function isRunningUrl(word: string): boolean {
  return /^[a-z0-9+.-]+::/i.test(word) || /^ssh:\/\/-|^[^/]*@-|^-[^-]*:/.test(word);
}

function isWriting(args: readonly string[]): boolean {
  if (args.some((word) => /^(?:--get|--list|-l$|--show|--name-only|get$|list$)/.test(word))) return false;
  return (
    args.filter((word) => !word.startsWith("-")).length !== 1 ||
    args.some((word) => /^(?:--(?:un|add|re|ed)|-e$)/.test(word))
  );
}
