import { readFileSync } from "node:fs";
import { MODES, type Mode } from "../../daemon/core/mode.ts";
import { type Asked, type Explanation, explain as explainQuestion } from "../../daemon/policy/explain.ts";
import { parseQuestion } from "../../daemon/policy/question-file.ts";
import { ROLE_NAMES } from "../../daemon/policy/schema-shapes.ts";
import { dataOr, withDaemon } from "../ask.ts";
import { type Common, define } from "../command.ts";
import { type ExitCode, usageError } from "../exit.ts";
import { plain, printJson, printLines } from "../output.ts";
import { upper } from "../upper.ts";
import { goodSet, policyDirectory, readTextFile } from "./policy-sets.ts";

const MAX_REQUEST_BYTES = 65_536;
type Situation = Asked["situation"];
type Frame = Pick<Situation, "wanted" | "applied" | "assurance" | "frozen">;

/** `boundaryctl policy explain REQUEST`: why, and what would turn the answer round. Exit code 0 allow, 1 deny. */
export const explain = define({
  usage: "explain <request>",
  describe: "Say why a question is answered as it is, and what would change it; exit code 0 allow, 1 deny",
  examples: [
    ["boundaryctl policy explain question.json", "in the daemon's present mode"],
    ["boundaryctl policy explain - --mode AIRGAP --role operator < question.json", "without a daemon"],
  ],
  options: (yargs) =>
    yargs
      .positional("request", {
        type: "string",
        demandOption: true,
        describe:
          "A file with a question as AuthZEN writes it (subject, action, resource, context); - for stdin",
      })
      .option("dir", {
        type: "string",
        requiresArg: true,
        describe: "The policies; the shipped ones without it",
      })
      .option("entities", {
        type: "string",
        requiresArg: true,
        describe: "The registry (policy.entitiesFile)",
      })
      .option("mode", {
        choices: MODES,
        coerce: upper,
        requiresArg: true,
        describe: "The mode; the daemon's without it",
      })
      .option("applied", {
        choices: [...MODES, "NONE"] as const,
        coerce: upper,
        requiresArg: true,
        describe: "What the kernel confirmed; the mode without it",
      })
      .option("assurance", {
        choices: ["enforced", "observed", "failed"] as const,
        requiresArg: true,
        describe: "How firmly; enforced without it",
      })
      .option("role", {
        choices: ROLE_NAMES,
        array: true,
        requiresArg: true,
        describe: "What the subject holds",
      })
      .option("lease", {
        type: "string",
        array: true,
        requiresArg: true,
        describe: "A live lease's template",
      })
      .option("interface", {
        type: "string",
        array: true,
        requiresArg: true,
        describe: "A trusted interface",
      })
      .option("approved", { type: "boolean", default: false, describe: "A person has approved it" })
      .option("token", { type: "boolean", default: false, describe: "A token is shown" })
      .option("frozen", { type: "boolean", default: false, describe: "The clock is frozen" }),
  run: async (args): Promise<ExitCode> => {
    const request = readRequest(args.request);
    const frame = args.mode === undefined ? await daemonFrame(args) : frameOf(args);
    if ("code" in frame) return frame.code;
    const { set, registry } = await goodSet(policyDirectory(args.dir), args.entities);
    const { type, id } = request.subject;
    const explanation = explainQuestion(set, registry, {
      request,
      principal: { type, id, roles: [...new Set(args.role ?? [])] },
      situation: {
        ...frame,
        trustedInterfaces: args.interface ?? [],
        wallMs: Date.now(),
        leases: args.lease ?? [],
        approved: args.approved,
        token: args.token,
      },
    });
    if (args.json) printJson(explanation);
    else printLines(render(explanation));
    return explanation.decision === "allow" ? 0 : 1;
  },
});

function frameOf(args: {
  readonly mode: string | undefined;
  readonly applied: string | undefined;
  readonly assurance: Situation["assurance"] | undefined;
  readonly frozen: boolean;
}): Frame {
  const wanted = modeOf(args.mode) ?? "LOCKDOWN";
  const applied = args.applied === undefined ? wanted : modeOf(args.applied);
  return { wanted, applied, assurance: args.assurance ?? "enforced", frozen: args.frozen };
}

async function daemonFrame(common: Common): Promise<Frame | { readonly code: ExitCode }> {
  const given = dataOr(common, await withDaemon(common, (client) => client.call("status", {})));
  if ("code" in given) return given;
  const { mode, assurance, frozen } = given.data;
  return {
    wanted: modeOf(mode.wanted) ?? "LOCKDOWN",
    applied: mode.applied === null ? null : modeOf(mode.applied),
    assurance,
    frozen: frozen !== "",
  };
}

function modeOf(text: string | undefined): Mode | null {
  return MODES.find((mode) => mode === text) ?? null;
}

function readRequest(path: string): Asked["request"] {
  // yargs gives "-" as ""
  const isStdin = path === "-" || path === "";
  const read = parseQuestion(isStdin ? readFileSync(0, "utf8") : readTextFile(path, MAX_REQUEST_BYTES));
  if ("problem" in read) throw usageError(`${isStdin ? "stdin" : path}: ${read.problem}`);
  return read.request;
}

function render({ decision, ceiling, policy, policies, changes }: Explanation): readonly string[] {
  const ceilingText = `${ceiling.decision} by ${ceiling.rule}${ceiling.wouldAllow === "" ? "" : `; would allow ${ceiling.wouldAllow}`}`;
  return [
    `decision   ${decision}`,
    `ceiling    ${plain(ceilingText)}`,
    `policy     ${policy.decision} by ${policy.reasons.map(plain).join(", ")}`,
    ...policy.errors.map(({ policy: id, message }) => `error      ${plain(id)}: ${plain(message)}`),
    ...(policy.advice === "" ? [] : [`instead    ${plain(policy.advice)}`]),
    ...(policy.needsPerson ? ["person     may be asked"] : []),
    ...policies.flatMap(({ id, effect, file, line, text }) => [
      "",
      `${effect} ${plain(id)} (${plain(file)}:${line})`,
      ...text.split("\n").map((each) => `  ${plain(each)}`),
    ]),
    "",
    ...(changes.length === 0
      ? ["no single change that was tried turns it round"]
      : [
          `${decision === "allow" ? "denied" : "allowed"}:`,
          ...changes.map((change) => `  ${plain(change)}`),
        ]),
  ];
}
