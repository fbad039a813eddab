import type { KeyReply } from "../../daemon/protocol/messages.ts";
import { dataOr, withDaemon } from "../ask.ts";
import { type Common, define, group } from "../command.ts";
import { type ExitCode, usageError } from "../exit.ts";
import { knownLog, logArguments } from "../log-arguments.ts";
import { plain, printJson, printLines } from "../output.ts";
import { readOwnVkey } from "../own-state.ts";
import { settled } from "../settled.ts";
import { verifyDirectory } from "../verify-directory.ts";

const show = define({
  usage: "show",
  describe: "Print the public key that verifies the log",
  examples: [
    ["boundaryctl key show", "ask the daemon"],
    ["boundaryctl key show --state-dir /var/lib/boundary-daemon", "without one (root only)"],
  ],
  options: (yargs) =>
    yargs.option("state-dir", {
      type: "string",
      requiresArg: true,
      describe: "Read it there instead of asking",
    }),
  run: async (args) => {
    if (args.stateDir !== undefined) return showVkey(args, ownVkey(args.stateDir));
    return withReply(args, (reply) => showVkey(args, reply.vkey));
  },
});

const history = define({
  usage: "history [dir]",
  describe: "Verify the log and print its keys, one a segment, each certified by the one before",
  examples: [["boundaryctl key history ./copy --key @boundary.vkey", "of a copy"]],
  options: (yargs) => logArguments(yargs),
  run: async (args) => {
    const { directory, known } = knownLog(args);
    const verdict = await settled(() =>
      verifyDirectory(directory, known, { chunks: (all) => all, done: () => undefined }),
    );
    const proven = verdict.keys.filter(({ firstSeq }) => firstSeq <= (verdict.trustworthyUpTo?.seq ?? -1));
    if (args.json) printJson({ verdict: verdict.verdict, bad: verdict.bad, keys: proven });
    else
      printLines(
        proven.map(
          (key) => `${key.segment}  from record ${key.firstSeq}, ${plain(key.since)}  ${plain(key.vkey)}`,
        ),
      );
    if (verdict.bad !== null && !args.json)
      printLines([`BROKEN  ${plain(verdict.bad.what)} (${verdict.bad.code})`]);
    return verdict.verdict === "broken" ? 1 : 0;
  },
});

async function withReply(common: Common, then: (reply: KeyReply) => ExitCode): Promise<ExitCode> {
  const found = dataOr(common, await withDaemon(common, (client) => client.call("key.show", {})));
  return "code" in found ? found.code : then(found.data);
}

function showVkey(common: Common, vkey: string): ExitCode {
  if (common.json) printJson({ vkey });
  else printLines([plain(vkey)]);
  return 0;
}

function ownVkey(stateDir: string): string {
  const vkey = readOwnVkey(stateDir);
  if (vkey === null) throw usageError(`there is no key in ${stateDir}`);
  return vkey;
}

/** `boundaryctl key show|history`. */
export const command = group({
  usage: "key",
  describe: "Show the log's public key, or all its keys",
  examples: [["boundaryctl key show", "what verify-log --key takes"]],
  children: [show, history],
  alone: null,
});
