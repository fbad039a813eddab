import type { IsolationCheck, IsolationReply, IsolationStatus } from "../../daemon/protocol/messages.ts";
import { askAndShow } from "../ask.ts";
import { defineBare, group } from "../command.ts";
import { plain, renderTable } from "../output.ts";

const apply = defineBare({
  usage: "apply",
  describe: "Have the kernel hold the configured domains, and try it out",
  examples: [
    ["boundaryctl isolation apply --json", "for a script; exit code 1 when something is missing or failed"],
  ],
  run: (args) =>
    askAndShow(
      args,
      { verb: "isolation.apply", params: {} },
      {
        render: renderApplied,
        exitCode: ({ missing, tested }) =>
          missing.length > 0 || tested.some(({ outcome }) => outcome === "failed") ? 1 : 0,
      },
    ),
});

function renderApplied({ changed, missing, tested }: IsolationReply): readonly string[] {
  return [
    changed ? "loaded, read back and the same" : "nothing to change: the kernel holds it as it is configured",
    ...tested.map(({ name, outcome, detail }) => `${plain(name)}: ${plain(outcome)}: ${plain(detail)}`),
    ...missing.map((name) => `there is no interface ${plain(name)}: the rules wait for it`),
  ];
}

const validate = defineBare({
  usage: "validate",
  describe: "Say whether what isolation takes is there: means, privileges, interfaces",
  examples: [
    ["boundaryctl isolation validate", "before it is applied; exit code 1 when something is missing"],
  ],
  run: (args) =>
    askAndShow(
      args,
      { verb: "isolation.validate", params: {} },
      { render: renderCheck, exitCode: ({ ok }) => (ok ? 0 : 1) },
    ),
});

function renderCheck({ ok, via, problems }: IsolationCheck): readonly string[] {
  return ok
    ? [`everything is there; rules are loaded through ${plain(via)}`]
    : problems.map((each) => plain(each));
}

const status = defineBare({
  usage: "status",
  describe: "Show the domains, what passes between them, and what was refused",
  examples: [["boundaryctl isolation status", "exit code 1 when it failed"]],
  run: (args) =>
    askAndShow(
      args,
      { verb: "isolation.status", params: {} },
      { render: renderStatus, exitCode: ({ state }) => (state === "failed" ? 1 : 0) },
    ),
});

function renderStatus({ state, detail, checkedAt, ...rest }: IsolationStatus): readonly string[] {
  const rows = rest.domains.map(({ name, interfaces, host, unaffected, refused }) => [
    `  ${plain(name)}`,
    [
      ...(host ? ["this host"] : []),
      ...interfaces.map((link) => `${plain(link.name)}${link.present ? "" : " (not there)"}`),
    ].join(", "),
    unaffected ? "unaffected" : `${plain(refused)} refused`,
  ]);
  return [
    `isolation  ${plain(state)}: ${plain(detail)}`,
    ...(checkedAt === "" ? [] : [`read back  ${plain(checkedAt)}`]),
    ...renderTable(rows),
    ...rest.passes.map((pass) => `  passes   ${plain(pass)}`),
    ...(rows.length === 0 ? [] : [`  refused from interfaces of no domain: ${plain(rest.refusedOutside)}`]),
  ];
}

/** `boundaryctl isolation apply | validate | status`. */
export const command = group({
  usage: "isolation",
  describe: "Keep domains apart: apply, validate, status",
  examples: [["boundaryctl isolation status --json", "for a script"]],
  children: [apply, validate, status],
  alone: null,
});
