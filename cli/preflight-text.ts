import type { CappedOutlooks, PreflightReply } from "../daemon/protocol/messages.ts";
import { plain } from "./output.ts";

/** What a mode would cut, safe for a terminal: what is cut first, and how much there is of each. */
export function renderPreflight(reply: PreflightReply): readonly string[] {
  const { session, usb } = reply;
  const held =
    reply.hold === "enforcing" ? "" : ` (the hold is ${plain(reply.hold)}: nothing is refused now)`;
  return [
    `${plain(reply.mode)} would cut, of what is in use now${held}:`,
    ...(session === null
      ? []
      : [`session    ${plain(session.what)}: ${plain(session.verdict)} (${plain(session.rule)})`]),
    ...renderList("flows", reply.flows),
    ...renderList("services", reply.listeners),
    ...usb.shown.map(
      ({ port, name, verdict }) => `usb        ${plain(port)} ${plain(name)}: ${plain(verdict)}`,
    ),
    ...(usb.more > 0 ? [`usb        … and ${usb.more} more`] : []),
    `leases     ${renderLeases(reply.leases)}`,
    ...(reply.unread > 0 ? [`unread     ${reply.unread} lines of the kernel's tables`] : []),
  ];
}

function renderList(name: string, { shown, cut, kept }: CappedOutlooks): readonly string[] {
  const cutOnes = shown.filter(({ verdict }) => verdict === "cut");
  const left = cut - cutOnes.length;
  return [
    `${name.padEnd(10)} ${cut} cut, ${kept} kept`,
    ...cutOnes.map(({ what, rule }) => `  cut      ${plain(what)} (${plain(rule)})`),
    ...(left > 0 ? [`  cut      … and ${left} more`] : []),
  ];
}

function renderLeases({ shown, more }: PreflightReply["leases"]): string {
  if (shown.length === 0) return "none would be suspended";
  return `suspended: ${shown.map(plain).join(", ")}${more > 0 ? `, and ${plain(more)} more` : ""}`;
}
