import type { Mode } from "../core/mode.ts";
import { redactText } from "../core/redact.ts";
import type { Places } from "./kinds.ts";
import type { Answer, Profile } from "./profile.ts";

/** A program's file, as a look-up found it. All paths are absolute and plain. */
export type ProgramFile = {
  /** Where the name led to, before links are followed. */
  readonly found: string;
  /** Behind all links. */
  readonly real: string;
  /** Of the file's bytes, lower case hex; null where it was not hashed. */
  readonly sha256: string | null;
};

/** One thing in a command that was judged. */
export type Layer = {
  /** 0 for the command itself, 1 for what it carries, and so on. */
  readonly depth: number;
  readonly what: "order" | "line" | "program" | "builtin" | "carried" | "redirect" | "environment" | "secret";
  /** The words, with secrets taken out. */
  readonly text: string;
  /** The file that would run, behind its links; "" for anything but a program. */
  readonly path: string;
  readonly verdict: Answer;
  /** Of the profile ("git/read"), or one of ours ("unlisted", "expansion"). */
  readonly rule: string;
  readonly reason: string;
  /** What a program reaches by the rule that fits; "none" where no rule says so. */
  readonly reach: Reach;
};
export type Reach = "none" | "file" | "network";

/** What a judgement is made with, and where its layers go. */
export type Judging = {
  readonly profile: Profile;
  readonly mode: Mode;
  readonly resolveProgram: (name: string, cwd: string) => ProgramFile | null;
  readonly places: Places;
  readonly layers: Layer[];
};

const MAX_LAYERS = 512;

/** Whether nothing more can be said: the last layer has refused the whole. */
export function isFull({ layers }: Judging): boolean {
  return layers.length > MAX_LAYERS;
}

/** Writes a layer down; a command with too many is refused rather than followed. */
export function tell(
  judging: Judging,
  layer: Omit<Layer, "path" | "reach"> & { readonly path?: string; readonly reach?: Reach },
): void {
  const { layers } = judging;
  if (layers.length > MAX_LAYERS) return;
  const full = layers.length === MAX_LAYERS;
  const told = {
    ...layer,
    text: redactText(layer.text),
    path: redactText(layer.path ?? ""),
    reach: layer.reach ?? "none",
    reason: redactText(layer.reason),
  };
  layers.push(
    full ? { ...told, verdict: "deny", rule: "too-many", reason: "the command has too many parts" } : told,
  );
}

/** deny before ask before allow. */
export function strictestOf(answers: readonly Answer[]): Answer {
  if (answers.includes("deny")) return "deny";
  return answers.includes("ask") ? "ask" : "allow";
}
