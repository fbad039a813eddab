import type { Assurance } from "../daemon/core/assurance.ts";
import type { ModeReply, Status } from "../daemon/protocol/messages.ts";
import { plain } from "./output.ts";

/** What a reply says of the mode. `behind` is what only `status` tells: null for the other replies. */
type Held = Pick<ModeReply, "wanted" | "applied" | "assurance"> & {
  readonly behind: Pick<Status, "controls" | "sensors"> | null;
};

/** What may honestly be said of a mode: "in force" only for what the kernel confirmed. */
export function describeMode(held: Held): readonly string[] {
  return [
    `wanted     ${plain(held.wanted)}`,
    `applied    ${held.applied === null ? "nothing confirmed" : plain(held.applied)}`,
    `assurance  ${plain(held.assurance)}: ${judge(held)}`,
  ];
}

/** The mode in the answer to a change: it has no controls with it, so no more is said than is known. */
export function describeChange(reply: ModeReply): readonly string[] {
  const { wanted, applied, assurance } = reply;
  return describeMode({ wanted, applied, assurance, behind: null });
}

function judge(held: Held): string {
  const wanted = plain(held.wanted);
  switch (held.assurance satisfies Assurance) {
    case "enforced":
      return held.applied === held.wanted
        ? `${wanted} is in force; the kernel confirmed it`
        : `${wanted} is wanted, but not what the kernel holds yet`;
    case "observed":
      return judgeObserved(held);
    case "failed":
      return held.applied === held.wanted
        ? `${wanted} is applied, but something behind it failed (see \`boundaryctl status\`); what isolation protects is denied`
        : `${wanted} could NOT be applied; what isolation protects is denied`;
  }
}

/** The kernel holds nothing, or not all of it, or it does and a sensor that an armed tripwire needs does not see. */
function judgeObserved({ wanted, behind }: Held): string {
  const mode = plain(wanted);
  const network = behind?.controls.find((control) => control.name === "network");
  switch (network?.state) {
    case "enforced":
      return `the kernel holds the network rules of ${mode}, but a sensor behind an armed tripwire is blind${listBlind(behind)}`;
    case "observed":
      if (network.detail.startsWith("enforced"))
        return `the kernel holds ${mode}, but not all of it: ${plain(network.detail)}`;
      return `${mode} is recorded and watched, but nothing in the kernel holds it (see \`boundaryctl doctor\`)`;
    case "absent":
    case "failed":
    case undefined:
      return `${mode} is recorded, but not all of it is both held and watched (see \`boundaryctl status\`)`;
  }
}

/** All that are blind: which of them an armed tripwire needs, the reply does not say. */
function listBlind(behind: Held["behind"]): string {
  const blind = behind?.sensors.filter((sensor) => sensor.state === "blind") ?? [];
  return blind.length === 0 ? "" : ` (blind: ${blind.map((sensor) => plain(sensor.name)).join(", ")})`;
}
