import type { Argv } from "yargs";
import { placeOf } from "../client/places.ts";
import type { Common } from "./command.ts";
import { readHeadArgument } from "./head.ts";
import { readKeyOrOwn } from "./key-argument.ts";
import { readOwnHead } from "./own-state.ts";
import type { Known } from "./verify-directory.ts";

/** What every command takes that reads a log by itself: which one, and the key to verify it with. */
export type LogArguments = Common & {
  readonly dir: string | undefined;
  readonly key: string | undefined;
  readonly stateDir: string | undefined;
};

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
  given: {
    readonly head?: string | undefined;
    readonly from?: string | undefined;
    /** Heads, as notes, that the log has to contain besides. */
    readonly more?: readonly string[];
  } = {},
): { readonly directory: string; readonly known: Known } {
  const state = placeOf("state", args.stateDir);
  const vkey = readKeyOrOwn(args.key, state);
  // before the log is read: a daemon goes on writing, and the head may not be newer than what we read
  const own = args.key === undefined && args.dir === undefined;
  const head = given.head === undefined ? (own ? readOwnHead(state) : null) : readHeadArgument(given.head);
  const from = given.from === undefined ? null : readHeadArgument(given.from);
  return {
    directory: placeOf("log", args.dir),
    known: { vkey, heads: [...(head === null ? [] : [head]), ...(given.more ?? [])], from },
  };
}
