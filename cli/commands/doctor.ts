import { placeOf } from "../../client/places.ts";
import { define } from "../command.ts";
import { examine, type Finding } from "../examine.ts";
import { readHostFacts } from "../host-facts.ts";
import { type Colour, type Paint, painter, plain, printJson, printLines, renderTable } from "../output.ts";

/** `boundaryctl doctor`: needs no daemon. 1 only when something needed is missing. */
export const command = define({
  usage: "doctor",
  describe: "Say what this host can enforce, and what is missing for the rest; needs no daemon",
  examples: [["boundaryctl doctor", "look at this host"]],
  options: (yargs) =>
    yargs
      .option("log-dir", { type: "string", requiresArg: true, describe: "The log" })
      .option("state-dir", { type: "string", requiresArg: true, describe: "Keys and head" }),
  run: async (args) => {
    const directories = {
      runtime: placeOf("runtime", args.runtimeDir),
      log: placeOf("log", args.logDir),
      state: placeOf("state", args.stateDir),
    };
    const findings = examine(readHostFacts(directories));
    const sound = findings.every((finding) => finding.state !== "missing");
    if (args.json) printJson({ ok: sound, findings });
    else printLines(renderFindings(findings, painter(process.stdout).paint));
    return sound ? 0 : 1;
  },
});

const COLOUR: Readonly<Record<Finding["state"], Colour>> = { ok: "green", missing: "red", hint: "yellow" };

/** Findings as a table, safe for a terminal. */
export function renderFindings(findings: readonly Finding[], paint: Paint): readonly string[] {
  return renderTable(
    findings.map(({ name, state, detail, hint }) => [
      paint(COLOUR[state], state.padEnd("missing".length)),
      plain(name),
      hint === "" ? plain(detail) : `${plain(detail)}: ${plain(hint)}`,
    ]),
  );
}
