import type { TripwireList } from "../../daemon/protocol/messages.ts";
import { askAndShow } from "../ask.ts";
import { defineBare, group } from "../command.ts";
import { plain, renderTable } from "../output.ts";

const list = defineBare({
  usage: "list",
  describe: "Show every tripwire, whether it is armed now, and how often it fired",
  examples: [["boundaryctl tripwire list", "all of them"]],
  run: (common) =>
    askAndShow(
      common,
      { verb: "tripwire.list", params: {} },
      { render: ({ tripwires }) => renderTripwires(tripwires) },
    ),
});

/** The tripwires as a table, safe for a terminal. */
export function renderTripwires(tripwires: TripwireList["tripwires"]): readonly string[] {
  if (tripwires.length === 0) return ["no tripwires"];
  const head = ["ID", "NOW", "ON", "MATCH", "ACTION", "FIRED", "WHEN BLIND", "ARMED IN"];
  const rows = tripwires.map((wire) => [
    plain(wire.id),
    wire.armedNow ? "armed" : "-",
    plain(wire.on),
    wire.match === "" ? "any" : plain(wire.match),
    plain(wire.action),
    plain(wire.fired),
    plain(wire.whenBlind),
    wire.armed.map((mode) => plain(mode)).join(" "),
  ]);
  return renderTable([head, ...rows]);
}

/** `boundaryctl tripwire list`. */
export const command = group({
  usage: "tripwire",
  describe: "Look at the tripwires",
  examples: [["boundaryctl tripwire list --json", "for a script"]],
  children: [list],
  alone: null,
});
