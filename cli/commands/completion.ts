import { MODES } from "../../daemon/core/mode.ts";
import type { CliCommand } from "../command.ts";
import { defineBare, wordOf } from "../command.ts";
import { ROWS } from "../commands.ts";
import { printJson } from "../output.ts";

/** `boundaryctl completion`: a script for bash, and for zsh through bashcompinit. It never starts boundaryctl. */
export const command = defineBare({
  usage: "completion",
  describe: "Print the shell's completion script (bash; zsh after `autoload bashcompinit && bashcompinit`)",
  examples: [["source <(boundaryctl completion)", "for this shell"]],
  run: async (common) => {
    const commands = await Promise.all(ROWS.map(async (row) => (await row.load()).command));
    const script = renderCompletion(commands);
    if (common.json) printJson({ shell: "bash", script });
    else process.stdout.write(script);
    return 0;
  },
});

/** The script for a tree of commands. Words come from our own table only, so that nothing needs quoting. */
export function renderCompletion(commands: readonly CliCommand[]): string {
  const first = commands.map(wordOf).join(" ");
  const groups = commands
    .filter((candidate) => candidate.children.length > 0)
    .map((candidate) => `    ${wordOf(candidate)}) words="${candidate.children.map(wordOf).join(" ")}" ;;`);
  const options = commands
    .flatMap((candidate) =>
      candidate.children.length === 0
        ? [{ pattern: `"${wordOf(candidate)} "*`, command: candidate }]
        : candidate.children.map((child) => ({
            pattern: `"${wordOf(candidate)} ${wordOf(child)}"`,
            command: child,
          })),
    )
    .map(({ pattern, command: of }) => ({ pattern, names: of.optionNames().map((name) => ` --${name}`) }))
    .filter(({ names }) => names.length > 0)
    .map(({ pattern, names }) => `    ${pattern}) words="$words${names.join("")}" ;;`);
  return `_boundaryctl() {
  local words="--json --runtime-dir --token-file --help"
  case "\${COMP_WORDS[1]} \${COMP_WORDS[2]}" in
${options.join("\n")}
  esac
  if [ "$COMP_CWORD" -eq 1 ]; then words="${first} --help --version"
  elif [ "$COMP_CWORD" -eq 2 ]; then case "\${COMP_WORDS[1]}" in
${groups.join("\n")}
    check) words="recall tool model io" ;;
  esac
  elif [ "$COMP_CWORD" -eq 3 ] && [ "\${COMP_WORDS[1]} \${COMP_WORDS[2]}" = "mode set" ]; then words="${MODES.join(" ")}"
  fi
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _boundaryctl boundaryctl
`;
}
