import type { SelftestReply } from "../../daemon/protocol/messages.ts";
import { askAndShow } from "../ask.ts";
import { defineBare } from "../command.ts";
import { type Colour, type Paint, painter, plain, renderTable } from "../output.ts";

/** Each probe is given up after 10 s. */
const ALL_PROBES_MS = 90_000;

/** `boundaryctl selftest`: tries out what `status` claims. Exit code 1 when something failed. */
export const command = defineBare({
  usage: "selftest",
  describe: "Try out what status claims: packets, files, log, events",
  examples: [["boundaryctl selftest --json", "the same for a script; exit code 1 when a test failed"]],
  run: (args) =>
    askAndShow(
      args,
      { verb: "selftest.run", params: {}, deadlineMs: ALL_PROBES_MS },
      {
        render: (reply) => renderSelftest(reply, painter(process.stdout).paint),
        exitCode: ({ results }) => (results.some(({ outcome }) => outcome === "failed") ? 1 : 0),
      },
    ),
});

const COLOUR: Readonly<Record<string, Colour>> = {
  passed: "green",
  failed: "red",
  "not-run": "yellow",
  moot: "dim",
};

function renderSelftest({ at, by, results }: SelftestReply, paint: Paint): readonly string[] {
  const rows = results.map(({ name, control, outcome, detail }) => [
    `  ${plain(name)}`,
    paint(COLOUR[outcome] ?? "yellow", plain(outcome).padEnd("not-run".length)),
    `${plain(control)}: ${plain(detail)}`,
  ]);
  const count = (wanted: string) => results.filter(({ outcome }) => outcome === wanted).length;
  return [
    ...renderTable(rows),
    `${count("passed")} passed, ${count("failed")} failed, ${count("not-run")} could not be tried; ${plain(at)}, asked by ${plain(by)}, in the log`,
  ];
}
