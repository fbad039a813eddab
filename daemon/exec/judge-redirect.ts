import { type Judging, type Layer, tell } from "./judging.ts";
import { isReadable, isWritable } from "./kinds.ts";
import type { Answer } from "./profile.ts";
import type { Redirect } from "./shell.ts";

/** What any command may write to, because nothing is there. */
const SINKS: ReadonlySet<string> = new Set(["/dev/null", "/dev/stdout", "/dev/stderr"]);

/** Judges where a command's input comes from, or its output goes. Descriptors other than 0, 1 and 2 are refused. */
export function judgeRedirect(redirect: Redirect, judging: Judging, depth: number): void {
  const { descriptor, operator, target } = redirect;
  const [verdict, reason] = answer(redirect, judging);
  const layer: Omit<Layer, "path" | "reach"> = {
    depth,
    what: "redirect",
    text: `${descriptor ?? ""}${operator} ${operator.startsWith("<<") ? "…" : (target.text ?? "…")}`.slice(
      0,
      512,
    ),
    verdict,
    rule: "redirect",
    reason,
  };
  tell(judging, layer);
}

function answer({ descriptor, operator, target }: Redirect, judging: Judging): readonly [Answer, string] {
  const { profile, places } = judging;
  if (descriptor !== null && descriptor > 2) return ["deny", "another descriptor than 0, 1 or 2"];
  if (target.text === null) return [profile.unresolved, `${target.doubt} where the file's name is`];
  if (operator === "<<" || operator === "<<-" || operator === "<<<")
    return ["allow", "a text in the line itself"];
  if (operator === ">&" || operator === "<&") {
    if (/^[012]$/.test(target.text)) return ["allow", "one of its own descriptors"];
    return ["deny", "another descriptor than 0, 1 or 2"];
  }
  if (operator === "<>") return ["deny", "a file opened for both"];
  if (operator === "<") {
    if (target.text === "/dev/null") return ["allow", "nothing to read"];
    return isReadable(target.text, places)
      ? [profile.redirects.read, "a file to read"]
      : ["deny", "a file that may not be read"];
  }
  if (SINKS.has(target.text)) return ["allow", "nothing is written"];
  return isWritable(target.text, places)
    ? [profile.redirects.write, "a file to write"]
    : ["deny", "a file that may not be written"];
}
