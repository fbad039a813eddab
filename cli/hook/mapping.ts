import { isAbsolute, resolve } from "node:path/posix";
import type { Question } from "../../client/client.ts";
import type { ActionName } from "../../daemon/core/access.ts";
import { own, type ToolCall } from "./tool-call.ts";

/** A tool call as a question to the daemon, or why it cannot be one: then it is denied without being asked. */
export type Mapped =
  | {
      readonly ok: true;
      readonly question: Question;
      /** A line for a shell whose grammar is read: judged by a profile as well, where one is configured. */
      readonly line?: { readonly line: string; readonly cwd: string };
    }
  | { readonly ok: false; readonly why: string };

type Row = (call: ToolCall) => Mapped;

/**
 * What each tool of Claude Code comes to, in the words of daemon/core/access.ts. A tool that is not here, and no MCP
 * tool, has an unknown reach, which nothing allows.
 */
const TABLE: Readonly<Record<string, Row>> = {
  Bash: command("bash", "command"),
  PowerShell: command("pwsh", "command"),
  Monitor: command("bash", "command"),

  Read: file("file.read", "file_path"),
  NotebookRead: file("file.read", "notebook_path"),
  LS: file("file.read", "path"),
  Glob: search("pattern"),
  Grep: search(null),
  Write: file("file.write", "file_path"),
  Edit: file("file.write", "file_path"),
  MultiEdit: file("file.write", "file_path"),
  NotebookEdit: file("file.write", "notebook_path"),

  WebFetch: fetchUrl,
  // the search is run by the model's provider; what it reaches is not said
  WebSearch: () => ask("network.connect", "host", "web-search"),

  Task: spawn,
  Agent: spawn,

  // these reach nothing but the conversation, and what was allowed in it before
  AskUserQuestion: inside,
  BashOutput: inside,
  EnterPlanMode: inside,
  ExitPlanMode: inside,
  KillBash: inside,
  KillShell: inside,
  TaskCreate: inside,
  TaskGet: inside,
  TaskList: inside,
  TaskOutput: inside,
  TaskStop: inside,
  TaskUpdate: inside,
  TodoWrite: inside,
  ToolSearch: inside,
};

/** What nobody confines can reach the network, whatever it is meant to do: no stricter reach can be allowed. */
const ANYWHERE = { reach: "network" } as const;
/** What policies/files.cedar lets nobody read: a search that begins above it reads it, too. */
const UNREAD = ["/var/lib/boundary-daemon"];
/** Its links lead to everything. */
const MAZE = /^\/proc(?:\/|$)/;
const MAX_ID = 256;
const MAX_PATH = 4_096;
/** What a pattern begins to choose with. */
const WILDCARD = /[*?[{(]|[!@+](?=\()/;
/** A choice of which one begins at the root: "{src,/etc}". */
const CHOICE_OF_ROOT = /[{(,|]\//;

/** The question that a tool call comes to. Pure; never throws. */
export function mapToolCall(call: ToolCall): Mapped {
  const row = Object.hasOwn(TABLE, call.tool) ? TABLE[call.tool] : undefined;
  if (row !== undefined) return row(call);
  // what it reaches, the registry of entities says (docs/AGENTS.md); without a word there it is denied
  if (/^mcp__./.test(call.tool)) return ask("tool.run", "tool", call.tool);
  return ask("tool.run", "tool", call.tool, { reach: "unknown" });
}

function inside({ tool }: ToolCall): Mapped {
  return ask("tool.run", "tool", tool, { reach: "none" });
}

function command(shell: string, field: string): Row {
  return ({ tool, input, cwd }) => {
    const line = own(input, field);
    if (typeof line !== "string" || line === "") return no(`${tool} without a ${field}`);
    const mapped = ask("command.run", "command", shell, { command: line, ...ANYWHERE });
    // "/" is in no workspace: without a directory nothing is allowed by a profile
    const isRead = mapped.ok && shell === "bash";
    return isRead ? { ...mapped, line: { line, cwd: cwd === "" ? "/" : cwd } } : mapped;
  };
}

function file(action: "file.read" | "file.write", field: string): Row {
  return ({ tool, input, cwd }) => {
    const path = absolute(own(input, field), cwd);
    return path === null ? no(`${tool} without a ${field} that can be told`) : ask(action, "file", path);
  };
}

/** A search is asked about by the directory it begins in, with what its pattern leads to before the first wildcard. */
function search(patternField: string | null): Row {
  return ({ tool, input, cwd }) => {
    const from = absolute(own(input, "path") ?? cwd, cwd);
    const pattern = patternField === null ? "" : own(input, patternField);
    if (from === null || typeof pattern !== "string") return no(`${tool} in no directory that can be told`);
    const [wide, narrow] = splitAtWildcard(pattern);
    if (pattern.includes("\\") || narrow.includes("..") || (wide === "" && CHOICE_OF_ROOT.test(narrow)))
      return no(`${tool} with a pattern that may lead elsewhere`);
    const path = wide === "" ? from : absolute(wide, from);
    if (path === null) return no(`${tool} with a pattern that cannot be told`);
    if (MAZE.test(path) || UNREAD.some((one) => isAbove(path, one)))
      return no(`${tool} from ${path} would read what nobody may read: begin further down`);
    return ask("file.read", "file", path);
  };
}

function isAbove(directory: string, path: string): boolean {
  return path.startsWith(directory === "/" ? "/" : `${directory}/`);
}

function splitAtWildcard(pattern: string): readonly [wide: string, narrow: string] {
  const at = pattern.search(WILDCARD);
  if (at === -1) return [pattern, ""];
  const cut = pattern.lastIndexOf("/", at) + 1;
  return [pattern.slice(0, cut), pattern.slice(cut)];
}

function fetchUrl({ tool, input }: ToolCall): Mapped {
  const given = own(input, "url");
  const url = typeof given === "string" && URL.canParse(given) ? new URL(given) : null;
  if (url === null || !["http:", "https:"].includes(url.protocol) || hostOf(url) === "")
    return no(`${tool} without a URL of the web`);
  const port = url.port === "" ? (url.protocol === "http:" ? 80 : 443) : Number(url.port);
  return ask("network.connect", "host", hostOf(url), { port });
}

/** As it is compared: an IPv6 address without brackets, a name without the dot of the root. */
function hostOf({ hostname }: URL): string {
  return hostname.replace(/^\[(.*)\]$/, "$1").replace(/\.$/, "");
}

function spawn({ tool, input }: ToolCall): Mapped {
  const kind = own(input, "subagent_type") ?? "general-purpose";
  if (typeof kind !== "string" || kind === "") return no(`${tool} without a kind of agent`);
  return ask("process.spawn", "command", `agent:${kind}`, ANYWHERE);
}

/** A path with nothing in it to be worked out; null where that takes more than the text ("~", a cwd that is none). */
function absolute(given: unknown, cwd: string): string | null {
  if (typeof given !== "string" || given === "" || given.length > MAX_PATH) return null;
  if (given.includes("\0") || given.startsWith("~")) return null;
  if (isAbsolute(given)) return resolve(given);
  return isAbsolute(cwd) ? resolve(cwd, given) : null;
}

function ask(
  name: ActionName,
  type: string,
  id: string,
  properties: Readonly<Record<string, string | number>> = {},
): Mapped {
  // the daemon takes no longer ones; cut, it would be asked about something else
  if (id.length > MAX_ID) return no(`the name of what it is about is longer than ${MAX_ID} characters`);
  return { ok: true, question: { action: { name }, resource: { type, id, properties } } };
}

function no(why: string): Mapped {
  return { ok: false, why };
}
