import type { Event } from "../daemon/protocol/messages.ts";
import { plain, renderJson } from "./output.ts";

/** One event as one line: time, number, kind, then its facts. */
export function renderEvent(event: Event): string {
  const facts = Object.entries(event.data).map(([name, value]) => `${plain(name)}=${renderValue(value)}`);
  return [plain(event.at), `#${event.seq}`, plain(event.kind), ...facts].join("  ");
}

function renderValue(value: unknown): string {
  // quoted where a blank would make it look like two facts
  return typeof value === "string" && /^[^\s"=]+$/.test(value) ? plain(value) : renderJson(value);
}
