import { plain } from "../output.ts";
import type { ShipEvent } from "./ship.ts";
import type { Unshipped } from "./unship.ts";

/** An event of shipping as a line of text, safe for a terminal. */
export function renderShipEvent(event: ShipEvent): string {
  switch (event.event) {
    case "from-start":
      return `from the start of what there is: ${plain(event.why)}`;
    case "from-cursor":
      return `from record ${event.next} on`;
    case "gap":
      return `gap: records ${event.from} to ${event.to} were pruned here, and are not sent`;
    case "confirmed":
      return `confirmed up to record ${event.through} (${event.records} records)`;
    case "unconfirmed":
      return `the last of it may not have arrived (${plain(event.why)}); the next start sends it again`;
    case "retry":
      return `not handed over: ${plain(event.why)}; again in ${Math.ceil(event.inMs / 1_000)} s`;
  }
}

/** What `log unship` found, as lines of text, safe for a terminal. */
export function renderUnshipped(found: Unshipped): readonly string[] {
  const span = found.first === null ? "" : `, ${found.first} to ${found.last}`;
  return [
    `records     ${found.records}${span}`,
    `duplicates  ${found.duplicates} removed`,
    `other lines ${found.foreign}`,
    ...found.missing.map(({ from, to }) => `MISSING     records ${from} to ${to}`),
    ...found.conflicts.map((seq) => `CONFLICT    two different records are numbered ${seq}`),
    ...found.unreadable.map(
      ({ file, byte, why }) => `UNREADABLE  ${plain(file)}, byte ${byte}: ${plain(why)}`,
    ),
    "            proven is nothing yet: run verify-log on what was written",
  ];
}
