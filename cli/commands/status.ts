import type { Control, Status } from "../../daemon/protocol/messages.ts";
import { askAndShow } from "../ask.ts";
import { defineBare } from "../command.ts";
import { describeMode } from "../mode-text.ts";
import { type Colour, type Paint, painter, plain, renderTable } from "../output.ts";

/** `boundaryctl status`: what is held, by what, and since when. */
export const command = defineBare({
  usage: "status",
  describe: "Show the mode, the controls behind it, the sensors and the log",
  examples: [["boundaryctl status --json", "the same for a script"]],
  run: (args) =>
    askAndShow(
      args,
      { verb: "status", params: {} },
      { render: (status) => renderStatus(status, painter(process.stdout).paint) },
    ),
});

/** The status as lines of text, safe for a terminal. */
export function renderStatus(status: Status, paint: Paint): readonly string[] {
  const { mode } = status;
  return [
    ...describeMode({
      wanted: mode.wanted,
      applied: mode.applied,
      assurance: status.assurance,
      behind: status,
    }),
    `cause      ${plain(mode.cause)}`,
    `since      ${plain(mode.since)}${mode.until === "" ? "" : `, until ${plain(mode.until)}${mode.confirmable ? " unless confirmed" : ""}`}`,
    ...renderHold(status, paint),
    ...(status.frozen === "" ? [] : [paint("red", `frozen     ${plain(status.frozen)}`)]),
    ...renderCeremony(status),
    "",
    paint("bold", "controls"),
    ...renderTable(status.controls.map((control) => controlRow(control, paint))),
    paint("bold", "sensors"),
    ...renderTable(status.sensors.map((sensor) => sensorRow(sensor, paint))),
    ...renderDrops(status),
    ...renderSelftest(status, paint),
    ...status.changedFiles.map((path) => paint("yellow", `changed    ${plain(path)}`)),
    paint("bold", "log"),
    ...renderLog(status),
    `daemon     ${plain(status.daemon.version)}, pid ${plain(status.daemon.pid)}, since ${plain(status.daemon.startedAt)}`,
  ];
}

/** Said only where it is out of the ordinary. A trip while released moves the mode, and nothing else. */
function renderHold({ mode }: Status, paint: Paint): readonly string[] {
  const until = mode.holdLasts === "boot" ? ", until the next boot" : "";
  const holds = {
    enforcing: [],
    shadow: [paint("yellow", "hold       shadow: nothing is refused; what would be is counted")],
    released: [
      paint(
        "yellow",
        `hold       released${until}: nothing is refused, whatever the mode; \`boundaryctl enforce\``,
      ),
    ],
  } as const;
  return [
    ...(holds[mode.hold] ?? [`hold       ${plain(mode.hold)}`]),
    ...(mode.trialUntil
      ? [paint("yellow", `trial      until ${plain(mode.trialUntil)} unless confirmed`)]
      : []),
    ...(mode.keep ? [paint("yellow", `keeps      ${plain(mode.keep)}`)] : []),
  ];
}

function renderCeremony(status: Status): readonly string[] {
  if (status.ceremony === null) return [];
  const { id, purpose, by, readyInMs } = status.ceremony;
  const ready = readyInMs > 0 ? `ready in ${Math.ceil(readyInMs / 1_000)} s` : "waits for its confirmation";
  const what = purpose === "release" ? " to release" : "";
  return [`ceremony   ${plain(id)}${what}, begun by ${plain(by)}, ${ready}`];
}

const STATE_COLOUR: Readonly<Record<string, Colour>> = {
  enforced: "green",
  watching: "green",
  observed: "yellow",
  absent: "dim",
  failed: "red",
  blind: "red",
};

function controlRow(control: Control, paint: Paint): readonly string[] {
  const checked = control.checkedAt === "" ? "never checked" : `checked ${plain(control.checkedAt)}`;
  return [`  ${plain(control.name)}`, state(control.state, paint), `${plain(control.detail)} (${checked})`];
}

function sensorRow(sensor: Status["sensors"][number], paint: Paint): readonly string[] {
  const what = sensor.state === "watching" ? sensor.via : sensor.why;
  return [`  ${plain(sensor.name)}`, state(sensor.state, paint), plain(what)];
}

// padded before it is painted, so that the columns stay straight
function state(text: string, paint: Paint): string {
  return paint(STATE_COLOUR[text] ?? "yellow", plain(text).padEnd("enforced".length));
}

function renderSelftest({ selftest }: Status, paint: Paint): readonly string[] {
  if (!selftest) return ["self-test  not run yet"];
  const failed = selftest.results.filter(({ outcome }) => outcome === "failed");
  const passed = selftest.results.filter(({ outcome }) => outcome === "passed").length;
  const line = `self-test  ${passed} passed, ${failed.length} failed; ${plain(selftest.at)}`;
  return [failed.length === 0 ? line : paint("red", line)];
}

function renderDrops(status: Status): readonly string[] {
  const drops = Object.entries(status.drops ?? {});
  if (drops.length === 0) return [];
  return [`dropped    ${drops.map(([name, packets]) => `${plain(name)} ${plain(packets)}`).join(", ")}`];
}

function renderLog({ log }: Status): readonly string[] {
  return [
    `  state    ${plain(log.state)}, ${plain(log.size)} records in ${plain(log.dir)}`,
    `  root     ${plain(log.root)}${log.sealedAt === "" ? "" : `, sealed ${plain(log.sealedAt)}`}`,
    `  key      ${plain(log.vkey)}`,
  ];
}
