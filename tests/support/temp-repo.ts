import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { directoryOfFile } from "./directory-of-file.ts";

const PROJECT = join(import.meta.dirname, "../..");
/** What the hooks need to find in a repository. */
const COPIED = [
  ".githooks",
  "tests/support/credential-scan.ts",
  "tests/support/credential-rules.ts",
  "package.json",
  "biome.json",
  ".oxlintrc.json",
  "tsconfig.json",
];

export type Ran = { readonly status: number | null; readonly out: string };

/** A git repository of its own with this project's hooks installed. `remove` it also when a test fails. */
export type TempRepo = {
  readonly dir: string;
  readonly git: (args: readonly string[], env?: Readonly<Record<string, string>>) => Ran;
  readonly write: (path: string, content: string | Buffer) => void;
  readonly remove: () => void;
};

export function makeTempRepo(): TempRepo {
  const dir = directoryOfFile("hooks");
  for (const path of COPIED) cpSync(join(PROJECT, path), join(dir, path), { recursive: true });
  symlinkSync(join(PROJECT, "node_modules"), join(dir, "node_modules"));
  const git: TempRepo["git"] = (args, env = {}) => {
    const ran = spawnSync("git", args, { cwd: dir, env: { ...cleanEnv(), ...env }, encoding: "utf8" });
    return { status: ran.status, out: ran.stdout + ran.stderr };
  };
  const write: TempRepo["write"] = (path, content) => {
    mkdirSync(dirname(join(dir, path)), { recursive: true });
    writeFileSync(join(dir, path), content);
  };
  write(".gitignore", "node_modules\n");
  write("daemon/hello.ts", 'export const hello = "hello";\n');
  for (const args of [
    ["init", "-q"],
    ["add", "-A"],
    ["commit", "-qm", "all: start"],
  ]) {
    const ran = git(args);
    if (ran.status !== 0) throw new Error(`git ${args.join(" ")}: ${ran.out}`);
  }
  git(["config", "core.hooksPath", ".githooks"]);
  return { dir, git, write, remove: () => rmSync(dir, { recursive: true, force: true }) };
}

/** Without what an outer git (a hook that runs the tests) would hand down, and without this host's git settings. */
function cleanEnv(): Record<string, string> {
  const kept = Object.entries(process.env).filter(([name]) => !name.startsWith("GIT_"));
  const person = { GIT_AUTHOR_NAME: "Test", GIT_AUTHOR_EMAIL: "test@example.org" };
  return {
    ...Object.fromEntries(kept.map(([name, value]) => [name, value ?? ""])),
    ...person,
    GIT_COMMITTER_NAME: person.GIT_AUTHOR_NAME,
    GIT_COMMITTER_EMAIL: person.GIT_AUTHOR_EMAIL,
    GIT_CONFIG_GLOBAL: "/dev/null",
    GIT_CONFIG_SYSTEM: "/dev/null",
  };
}
