import type { Argv } from "yargs";
import { BoundaryError } from "../daemon/core/errors.ts";
import type { Common } from "./command.ts";
import { usageError } from "./exit.ts";
import { readHeadArgument } from "./head.ts";
import { readOwnHead, readOwnVkey } from "./own-state.ts";
import { placeOf } from "./places.ts";
import { readSmallFile } from "./read-file.ts";
import type { Known } from "./verify-directory.ts";

/** What every command takes that reads a log by itself: which one, and the key to verify it with. */
export type LogArguments = Common & {
  readonly dir: string | undefined;
  readonly key: string | undefined;
  readonly stateDir: string | undefined;
};

const MAX_KEY_BYTES = 4_096;

export function logArguments<A extends Common>(yargs: Argv<A>): Argv<A & LogArguments> {
  return yargs
    .positional("dir", { type: "string", describe: "The log's directory, or one file" })
    .option("key", { type: "string", requiresArg: true, describe: "The public key, or @FILE" })
    .option("state-dir", {
      type: "string",
      requiresArg: true,
      describe: "Where key and head are without --key",
    }) as unknown as Argv<A & LogArguments>;
}

/** The log's place, its genesis key, and the head that this host remembers when it is this host's log. */
export function knownLog(
  args: LogArguments,
  given: { readonly head?: string | undefined; readonly from?: string | undefined } = {},
): { readonly directory: string; readonly known: Known } {
  const state = placeOf("state", args.stateDir);
  const vkey = args.key === undefined ? ownKey(state) : readKeyArgument(args.key);
  // before the log is read: a daemon goes on writing, and the head may not be newer than what we read
  const own = args.key === undefined && args.dir === undefined;
  const head = given.head === undefined ? (own ? readOwnHead(state) : null) : readHeadArgument(given.head);
  const from = given.from === undefined ? null : readHeadArgument(given.from);
  return {
    directory: placeOf("log", args.dir),
    known: { vkey, heads: head === null ? [] : [head], from },
  };
}

function ownKey(stateDir: string): string {
  let found: string | null = null;
  try {
    found = readOwnVkey(stateDir);
  } catch (error) {
    throw usageError(
      `give the key with --key: ${error instanceof Error ? error.message : "it cannot be read"}`,
    );
  }
  if (found === null) throw usageError(`give the key with --key: there is none in ${stateDir}`);
  return found;
}

/** A key as given: itself, or @FILE. Throws BoundaryError("key-invalid"). */
export function readKeyArgument(argument: string): string {
  if (!argument.startsWith("@")) return argument.trim();
  const path = argument.slice(1);
  try {
    const text = readSmallFile(path, MAX_KEY_BYTES)?.toString("utf8").trim();
    if (text !== undefined) return text;
  } catch (cause) {
    throw new BoundaryError("key-invalid", `reading the key ${path}`, { cause });
  }
  throw new BoundaryError("key-invalid", `reading the key ${path}: there is no such file`);
}
