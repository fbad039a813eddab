import { readFileSync } from "node:fs";
import { posix } from "node:path";
import { parse } from "yaml";
import { MODES, type Mode } from "../../daemon/core/mode.ts";
import { type ExecProfiles, type Profile, parseExecProfiles } from "../../daemon/exec/profile.ts";
import type { Facts, Judgement } from "../../daemon/exec/verdict.ts";
import { judge } from "../../daemon/exec/verdict.ts";

const ROOT = posix.join(import.meta.dirname, "../..");
export const WORKSPACE = "/workspace";

/** Programs that are called by a link's name. */
const LINKS: Readonly<Record<string, string>> = {
  awk: "mawk",
  cc: "x86_64-linux-gnu-gcc-14",
  gcc: "x86_64-linux-gnu-gcc-14",
  nc: "nc.openbsd",
  nodejs: "node",
  pager: "less",
  python: "python3.13",
  python3: "python3.13",
  sh: "dash",
  vi: "vim.basic",
  vim: "vim.basic",
};

/** A host that has every program there is, so that a missing one is no reason to refuse. */
export const facts = (mode: Mode = "OPEN"): Facts => ({
  mode,
  workspace: WORKSPACE,
  resolveProgram: (name, cwd) => {
    if (name.includes("/")) {
      const found = posix.resolve(cwd, name).replace(/^\/(bin|sbin|lib|lib64)\//, "/usr/$1/");
      return { found, real: found, sha256: null };
    }
    return { found: `/usr/bin/${name}`, real: `/usr/bin/${LINKS[name] ?? name}`, sha256: null };
  },
});

let shipped: ExecProfiles | null = null;

/** A profile of policies/exec.yaml. */
export function profile(name: string): Profile {
  if (shipped === null) {
    const parsed = parseExecProfiles(readFileSync(posix.join(ROOT, "policies/exec.yaml"), "utf8"));
    if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems));
    shipped = parsed.value;
  }
  const found = shipped.get(name);
  if (found === undefined) throw new Error(`no profile ${name}`);
  return found;
}

/** A command of a corpus. */
export type Given = {
  readonly command: string | readonly string[];
  readonly profile: string;
  readonly mode: Mode;
  readonly cwd: string;
  readonly environment: readonly string[];
};
export type Expected = Given & { readonly class: string; readonly verdict: "allow" | "ask" | "deny" };

/** Judges a line (a text) or words (a list), in the workspace. */
export function judged(command: string | readonly string[], given: Partial<Given> = {}): Judgement {
  const { cwd = WORKSPACE, environment = [], mode = "OPEN" } = given;
  const order = { cwd, environmentNames: environment, profile: profile(given.profile ?? "developer") };
  return judge(
    typeof command === "string" ? { ...order, line: command } : { ...order, argv: command },
    facts(mode),
  );
}

type Group = { readonly class: string; readonly profile?: string } & Partial<
  Record<"allow" | "ask" | "deny", readonly unknown[]>
>;

/** Reads a corpus: classes of commands by what has to be said of them. */
export function readCorpus(name: string): readonly Expected[] {
  const groups = parse(readFileSync(posix.join(ROOT, name), "utf8")) as readonly Group[];
  return groups.flatMap((group) =>
    (["allow", "ask", "deny"] as const).flatMap((verdict) =>
      (group[verdict] ?? []).map((one) => ({ ...given(one, group), class: group.class, verdict })),
    ),
  );
}

function given(one: unknown, group: Group): Given {
  const usual = {
    profile: group.profile ?? "developer",
    mode: "OPEN" as Mode,
    cwd: WORKSPACE,
    environment: [],
  };
  if (typeof one === "string") return { ...usual, command: withSecrets(one) };
  if (Array.isArray(one)) return { ...usual, command: one.map((word) => withSecrets(String(word))) };
  const { line, argv, ...rest } = one as { line?: string; argv?: string[] } & Partial<Given>;
  const unknown = Object.keys(rest).filter((key) => !(key in usual));
  if (unknown.length > 0 || !MODES.includes(rest.mode ?? "OPEN")) throw new Error(JSON.stringify(one));
  return { ...usual, ...rest, command: line ?? argv ?? [] };
}

/** Put together here, so that no file holds what looks like one. */
const SECRETS: Readonly<Record<string, string>> = {
  AWS: ["AKIA", "Q3EGNVPWXTZ5HJ2M"].join(""),
  AWS1: "AKIAQ3EG",
  AWS2: "NVPWXTZ5HJ2M",
  GITHUB: ["ghp", "R8sKd02LmQx7VbNcT5yWzE3uJhPa9FgD1oXi"].join("_"),
  PEM: ["-----BEGIN RSA PRIVATE", "KEY-----\nMIIEowIBAAKCAQEAx7Vb\n-----END RSA PRIVATE", "KEY-----"].join(
    " ",
  ),
};

function withSecrets(text: string): string {
  return text.replace(/@([A-Z]+[12]?)@/g, (all, name: string) => SECRETS[name] ?? all);
}
