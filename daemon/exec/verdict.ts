import type { Mode } from "../core/mode.ts";
import { posture } from "../core/posture.ts";
import { judgeName } from "./environment.ts";
import { judgeArgv, judgeLine } from "./judge-command.ts";
import { type Judging, type Layer, type ProgramFile, type Reach, strictestOf } from "./judging.ts";
import { isBelow } from "./kinds.ts";
import type { Answer, Profile } from "./profile.ts";

/** A command that somebody wants run: as words, or as a line that a shell will read. */
export type Order = ({ readonly argv: readonly string[] } | { readonly line: string }) & {
  /** Absolute, without links and "..": whoever asks has resolved it. */
  readonly cwd: string;
  /** Names of the environment that the command is to get, beside those that are set for it. */
  readonly environmentNames: readonly string[];
  readonly profile: Profile;
};

/** What is known of the host, as values. */
export type Facts = {
  /** The mode that privileges are judged under: the stricter of the wanted and the applied. */
  readonly mode: Mode;
  /** Absolute and plain. `cwd` has to be in it. */
  readonly workspace: string;
  /** Looks a program up, as whoever runs it will: by the profile's searchPath, or from `cwd` when it has a "/". */
  readonly resolveProgram: (name: string, cwd: string) => ProgramFile | null;
};

export type Judgement = {
  readonly verdict: Answer;
  /** Of the strictest layer, the first of them. */
  readonly rule: string;
  readonly reason: string;
  /** The widest of the rules that fit. */
  readonly reach: Reach;
  /** Everything that was judged, outermost first. */
  readonly layers: readonly Layer[];
};

/**
 * Judges a command before it runs (X1): deny by default, every layer of it, the strictest counts. Pure: the same values
 * give the same judgement. What is allowed is what was judged, as long as the files of its programs stay as they are:
 * whoever runs it has to look them up by the path that is in the layer.
 */
export function judge(order: Order, facts: Facts): Judgement {
  const layers: Layer[] = [];
  const judging: Judging = {
    profile: order.profile,
    mode: facts.mode,
    resolveProgram: facts.resolveProgram,
    places: { cwd: order.cwd, workspace: facts.workspace, readable: order.profile.readable, moved: false },
    layers,
  };
  const before = ceilings(order, facts);
  if (before.length > 0) return conclude(before);
  if ("line" in order) judgeLine(order.line, judging, 0, "inherited");
  else judgeArgv(order.argv, judging, 0, "inherited");
  return conclude(layers);
}

/** What no command can change: mode, place and environment. */
function ceilings(order: Order, facts: Facts): readonly Layer[] {
  const refuse = (rule: string, reason: string): Layer => ({
    depth: 0,
    what: "order",
    text: "",
    path: "",
    verdict: "deny",
    rule,
    reason,
    reach: "none",
  });
  const { exec } = posture(facts.mode);
  if (exec === "no" || exec === "running-ended") return [refuse("mode", `${facts.mode}: no commands run`)];
  if (!order.profile.modes.includes(facts.mode))
    return [refuse("mode", `the profile ${order.profile.name} is not for ${facts.mode}`)];
  if (![order.cwd, facts.workspace].every(isPlainAbsolute) || !isBelow(order.cwd, facts.workspace))
    return [refuse("cwd", "the working directory is not in the workspace")];
  return order.environmentNames.flatMap((name) => {
    const said = judgeName(name, order.profile.environment);
    if (said === "passes") return [];
    const shown = /^\w{1,64}$/.test(name) ? name : "a name";
    return [refuse("environment", `${shown} ${said === "never" ? "never passes" : "is not listed"}`)];
  });
}

const WIDEST_FIRST: readonly Reach[] = ["network", "file", "none"];

function isPlainAbsolute(path: string): boolean {
  return path.startsWith("/") && !/\/\/|\/\.{1,2}(?:\/|$)|[^/]\/$|\p{Cc}/u.test(path);
}

function conclude(layers: readonly Layer[]): Judgement {
  const verdict = layers.length === 0 ? "deny" : strictestOf(layers.map((layer) => layer.verdict));
  const first = layers.find((layer) => layer.verdict === verdict);
  return {
    verdict,
    rule: first?.rule ?? "empty",
    reason: first?.reason ?? "there is no command",
    reach: WIDEST_FIRST.find((reach) => layers.some((layer) => layer.reach === reach)) ?? "none",
    layers,
  };
}
