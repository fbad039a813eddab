import { usageError } from "../exit.ts";

/** Options of whatever runs a command under guard. */
export const GUARDED_OPTIONS = {
  profile: { type: "string", default: "default", requiresArg: true, describe: "By which it is judged" },
  cwd: { type: "string", default: ".", requiresArg: true, describe: "Where it works" },
  workspace: {
    type: "string",
    requiresArg: true,
    describe: "What it may write to; else the configured one that --cwd is in",
  },
  env: {
    type: "string",
    array: true,
    requiresArg: true,
    describe: "NAME=VALUE that it gets, of the names that the profile lists; one or more",
  },
  timeout: { type: "string", requiresArg: true, describe: "Ended after this long: 30s, 3m at most" },
  grace: { type: "string", requiresArg: true, describe: "From TERM to KILL: 5s, 10s at most" },
  "output-bytes": { type: "number", requiresArg: true, describe: "Of stdout and of stderr: 51200" },
  network: { type: "boolean", default: false, describe: "With the way out through the proxy" },
  host: {
    type: "string",
    array: true,
    requiresArg: true,
    describe:
      "With --network: one more list of hosts that it is held to, as in the configuration; one or more",
  },
  raw: {
    type: "boolean",
    default: false,
    describe: "Output goes to a terminal as it is; else nothing in it can steer one",
  },
} as const;

/** "WORKSPACE/NAME", or a name of the workspace `default`. */
export function parseSecretName(text: string): { readonly workspace: string; readonly name: string } {
  const parts = text.split("/");
  const [first = "", second] = parts;
  if (parts.length > 2 || first === "" || second === "") throw usageError("name a secret as WORKSPACE/NAME");
  return second === undefined ? { workspace: "default", name: first } : { workspace: first, name: second };
}
