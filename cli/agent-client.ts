import { type BoundaryClient, connect } from "../client/client.ts";
import { controlSocket } from "../client/places.ts";
import type { Common } from "./command.ts";
import { usageError } from "./exit.ts";
import { readToken } from "./token-file.ts";

/** What `hook` and `mcp` take, to say for whom they ask. */
export type AgentOptions = {
  readonly deadlineMs: number;
  readonly tokenFile: string | undefined;
  /** Without a token, ask as the user that runs it. */
  readonly asUser?: boolean;
};

/**
 * The client of what acts for an agent (`hook`, `mcp`): with the token of `tokenFile`, or of BOUNDARY_TOKEN_FILE. Without
 * one the daemon would take the agent for the person whose user it runs as, so that has to be said (`asUser`). Throws
 * BoundaryError "argument-invalid" for no token, for a file that holds none, or that is not ours alone.
 */
export function agentClient(
  common: Common,
  { deadlineMs, tokenFile, asUser = false }: AgentOptions,
): BoundaryClient {
  const file = tokenFile ?? process.env["BOUNDARY_TOKEN_FILE"];
  if (file === "-") throw usageError("stdin is the agent's: the token comes from a file");
  const token = readToken(file);
  if (token === undefined && !asUser)
    throw usageError(
      "no token: give the agent's (--token-file FILE, BOUNDARY_TOKEN_FILE), or --as-user to have it judged as the user who runs it",
    );
  return connect({ socket: controlSocket(common.runtimeDir), token, deadlineMs });
}
