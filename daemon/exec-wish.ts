import { createHash } from "node:crypto";
import type { z } from "zod";
import { accessDigest } from "./core/access-text.ts";
import { BoundaryError } from "./core/errors.ts";
import { parseAllowlist } from "./egress/allowlist.ts";
import { faultOfArgument } from "./exec/characters.ts";
import { isBelow, resolvePath } from "./exec/kinds.ts";
import type { Profile } from "./exec/profile.ts";
import { isPlainPath, isWithin } from "./exec/run-order.ts";
import type { ExecHost } from "./ports.ts";
import type { EXEC_PARAMS } from "./protocol/exec.ts";

type Params = z.output<(typeof EXEC_PARAMS)["exec.run"]>;

/** What somebody wants run, in the one form in which it is judged, shown, recorded and run. */
export type Wish = {
  readonly argv: readonly string[];
  readonly environment: readonly (readonly [name: string, value: string])[];
  readonly cwd: string;
  readonly workspace: string;
  readonly stdin: Buffer;
  readonly secret: { readonly workspace: string; readonly name: string } | null;
  readonly profile: string;
  readonly network: boolean;
  /** What the way out is held to beside the configuration's lists; null: nothing more. */
  readonly hosts: readonly string[] | null;
  readonly limits: { readonly timeoutMs: number; readonly graceMs: number; readonly outputBytes: number };
};

/** What a person can be shown in full. */
const MAX_COMMAND = 4_096;

/**
 * Brings what was asked for into that form. Throws BoundaryError: "exec-normalisation" (no Unicode), "exec-invalid"
 * (characters that nobody would see, too much to be shown), "exec-cwd".
 */
export async function readWish(
  params: Params,
  host: Pick<ExecHost, "directory">,
  roots: readonly string[],
): Promise<Wish> {
  const environment = Object.entries(params.environment).toSorted(([a], [b]) => (a < b ? -1 : 1));
  const argv = params.argv.map((word) => normal(word, "argv"));
  for (const text of [...params.argv, ...argv, ...environment.map(([, value]) => value)]) {
    const fault = faultOfArgument(text);
    if (fault !== null) throw new BoundaryError("exec-invalid", `reading the command: ${fault}`);
  }
  if (renderWords(argv).length > MAX_COMMAND)
    throw new BoundaryError(
      "exec-invalid",
      `the command has more than ${MAX_COMMAND} characters: nobody could be shown it in full`,
    );
  const { timeoutMs, graceMs, outputBytes, profile, network, hosts = null, secret = null } = params;
  const listed = parseAllowlist(hosts ?? []);
  if (!listed.ok) {
    const [{ at, problem } = { at: 0, problem: "" }] = listed.problems;
    throw new BoundaryError("exec-invalid", `reading hosts[${at}]: ${problem}`);
  }
  return {
    argv,
    environment: environment.map(([name, value]) => [name, normal(value, `environment, ${name}`)] as const),
    ...(await readPlace(params, host, roots)),
    stdin: Buffer.from(params.stdin, "base64"),
    secret,
    profile,
    network,
    hosts,
    limits: { timeoutMs, graceMs, outputBytes },
  };
}

/** Behind all links: the workspace is one that is configured, or in one, and `cwd` is in it. Throws BoundaryError "exec-cwd". */
export async function readPlace(
  { cwd: here, workspace: wanted }: { readonly cwd: string; readonly workspace?: string | undefined },
  host: Pick<ExecHost, "directory">,
  roots: readonly string[],
): Promise<Pick<Wish, "cwd" | "workspace">> {
  const cwd = await real(normal(here, "cwd"), host);
  const known: string[] = [];
  for (const root of roots) {
    const directory = await host.directory(root);
    if (directory !== null && isPlainPath(directory) && directory !== "/") known.push(directory);
  }
  const workspace =
    wanted === undefined
      ? known.toSorted((a, b) => b.length - a.length).find((root) => isWithin(cwd, root))
      : await real(normal(wanted, "workspace"), host);
  if (workspace === undefined || !known.some((root) => isWithin(workspace, root)))
    throw new BoundaryError("exec-cwd", NO_PLACE);
  if (!isWithin(cwd, workspace))
    throw new BoundaryError("exec-cwd", "looking for the working directory: it is not in the workspace");
  return { cwd, workspace };
}

async function real(path: string, host: Pick<ExecHost, "directory">): Promise<string> {
  const directory = path.startsWith("/") ? await host.directory(path) : null;
  if (directory === null || !isPlainPath(directory)) throw new BoundaryError("exec-cwd", NO_PLACE);
  return directory;
}

/** The same for one that is not there and for one that is elsewhere: nobody is to find out what there is on the host. */
const NO_PLACE =
  "looking for a directory: it is in no configured workspace, or the daemon sees none of that name";

/** Two texts that are drawn alike are one: matching, and running, is of what is left (X1). */
function normal(text: string, what: string): string {
  if (!text.isWellFormed() || text.includes("\0"))
    throw new BoundaryError("exec-normalisation", `reading ${what}: it is no text`);
  return text.normalize("NFC");
}

/** Words as a shell would be given them, for people: no two lists of words look alike. */
export function renderWords(argv: readonly string[]): string {
  return argv
    .map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`))
    .join(" ");
}

/** SHA-256, hex, of everything that a wish is, with the program's digest: an approval is for exactly that. */
export function digestOf(wish: Wish, program: { readonly path: string; readonly sha256: string }): string {
  const { argv, environment, cwd, workspace, stdin, secret, profile, network, hosts, limits } = wish;
  return accessDigest({
    subject: { type: "exec", id: "1", properties: {} },
    action: { name: "command.run", properties: {} },
    resource: { type: "command", id: program.path, properties: { sha256: program.sha256 } },
    context: {
      argv,
      environment,
      cwd,
      workspace,
      stdin: secret === null ? createHash("sha256").update(stdin).digest("hex") : "",
      secret: secret === null ? null : { workspace: secret.workspace, name: secret.name },
      profile,
      network,
      ...(hosts === null ? {} : { hosts }),
      limits,
    },
  });
}

/** Where a command may find files that are not the system's. */
export function placesOf({ workspace }: Wish, profile: Profile): readonly string[] {
  return [workspace, ...profile.readable];
}

/** Files that the words of a command may name: whole words, what is behind "=", "@" and a one-letter option. */
export function filesNamed({ argv, cwd }: Wish, places: readonly string[]): readonly string[] {
  const texts = argv.slice(1).flatMap((word) => {
    const behind = [
      word.slice(word.indexOf("=") + 1),
      word.replace(/^[^@]*@/, ""),
      word.replace(/^-[A-Za-z]/, ""),
    ];
    return [word, ...behind].filter((text) => text !== "" && !text.startsWith("-") && !text.includes("\n"));
  });
  // also those that no rule lets it read: a person may have been asked about them
  const paths = texts.flatMap((text) => resolvePath(text, { cwd, moved: false }) ?? []);
  return [...new Set(paths)].filter((path) => places.some((place) => isBelow(path, place)));
}
