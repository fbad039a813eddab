import { renderFileProblem } from "../../daemon/policy/policy-files.ts";
import { type CaseRun, unproven } from "../../daemon/policy/run-cases.ts";
import type { Loaded } from "../../daemon/policy-load.ts";
import { define } from "../command.ts";
import { plain, printJson, printLines } from "../output.ts";
import { loadDirectory, policyDirectory } from "./policy-sets.ts";

const DIRECTORY = {
  type: "string",
  describe: "A directory of policies; the shipped one without it",
} as const;

/** `boundaryctl policy check [DIR]`: everything a load does, without a daemon. Exit code 1 where it would be refused. */
export const check = define({
  usage: "check [dir]",
  describe: "Read, validate and try a directory of policies as a load would, without a daemon",
  examples: [
    ["boundaryctl policy check /etc/boundary-daemon/policies", "file, line and column of each fault"],
  ],
  options: (yargs) => yargs.positional("dir", DIRECTORY),
  run: async (args) => {
    const loaded = await loadDirectory(policyDirectory(args.dir));
    if (args.json) printJson(asJson(loaded));
    else printLines(render(loaded).map(plain));
    return loaded.ok ? 0 : 1;
  },
});

/** `boundaryctl policy test [DIR]`: the cases, one a line. Exit code 1 where one fails. */
export const test = define({
  usage: "test [dir]",
  describe: "Run every case of a directory of policies, without a daemon",
  examples: [["boundaryctl policy test ./policies", "and which policies no case proves"]],
  options: (yargs) => yargs.positional("dir", DIRECTORY),
  run: async (args) => {
    const loaded = await loadDirectory(policyDirectory(args.dir));
    const unseen = loaded.ok ? unproven(loaded.set, loaded.runs) : [];
    if (args.json) {
      printJson({ ...asJson(loaded), cases: loaded.runs.map(caseJson), unproven: unseen });
    } else {
      const failed = loaded.runs.filter(({ fault }) => fault !== "").length;
      const lines = [
        ...loaded.runs.map(renderCase),
        ...(loaded.ok ? [] : loaded.problems.map(renderFileProblem)),
        ...unseen.map((id) => `no case proves ${id}`),
        `${loaded.runs.length - failed} passed, ${failed} failed`,
      ];
      printLines(lines.map(plain));
    }
    return loaded.ok ? 0 : 1;
  },
});

function render(loaded: Loaded): readonly string[] {
  if (!loaded.ok) return [...loaded.problems.map(renderFileProblem), countOf(loaded.problems.length)];
  const { digest, notes } = loaded.set;
  return [
    `${notes.size} policies, ${loaded.runs.length} cases, each as Cedar itself answers it`,
    `digest ${digest}`,
  ];
}

function countOf(problems: number): string {
  return `refused: ${problems} problem${problems === 1 ? "" : "s"}`;
}

function asJson(loaded: Loaded): object {
  return loaded.ok
    ? { ok: true, digest: loaded.set.digest, policies: [...loaded.set.notes.keys()], problems: [] }
    : { ok: false, digest: "", policies: [], problems: loaded.problems };
}

function caseJson({ file, index, wanted, answer, fault }: CaseRun): object {
  const { decision, reasons, needsPerson, advice } = answer;
  return { file, index, wanted, got: { decision, reasons, needsPerson, advice }, fault };
}

function renderCase({ file, index, wanted, answer, fault }: CaseRun): string {
  const question = `${wanted.who} ${wanted.action} ${wanted.resource} in ${wanted.mode}`;
  const said = `${answer.decision} by ${answer.reasons.join(", ")}`;
  return `${fault === "" ? "ok    " : "FAILED"} ${file} ${index}: ${question}: ${said}${fault === "" ? "" : `: ${fault}`}`;
}
