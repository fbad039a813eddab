import { statSync } from "node:fs";
import { type BoundaryClient, connect } from "../client/client.ts";
import { controlSocket } from "../client/places.ts";
import { BoundaryError } from "../daemon/core/errors.ts";
import type { Common } from "./command.ts";
import { readSmallFile } from "./read-file.ts";

const MAX_TOKEN_BYTES = 256;

/**
 * The client of what acts for an agent (`hook`, `mcp`): with the token of `tokenFile`, or of BOUNDARY_TOKEN_FILE, where
 * there is one. Throws BoundaryError "argument-invalid" for a file that holds none, or that others may read.
 */
export function agentClient(
  common: Common,
  { deadlineMs, tokenFile }: { readonly deadlineMs: number; readonly tokenFile: string | undefined },
): BoundaryClient {
  const file = tokenFile ?? process.env["BOUNDARY_TOKEN_FILE"];
  const token = file === undefined || file === "" ? undefined : readToken(file);
  return connect({ socket: controlSocket(common.runtimeDir), token, deadlineMs });
}

function readToken(path: string): string {
  const bytes = readSmallFile(path, MAX_TOKEN_BYTES);
  if (bytes === null) throw invalid(`there is no token file ${path}`);
  if ((statSync(path).mode & 0o077) !== 0) throw invalid(`others may read the token file ${path}: chmod 600`);
  const token = bytes.toString("utf8").trim();
  if (!/^bd_[A-Za-z0-9_-]{43}$/.test(token)) throw invalid(`${path} holds no token`);
  return token;
}

function invalid(what: string): BoundaryError {
  return new BoundaryError("argument-invalid", what);
}
