import type { Assurance, ModeReply } from "../daemon/protocol/messages.ts";
import { plain } from "./output.ts";

type Held = Pick<ModeReply, "wanted" | "applied" | "assurance">;

/** What may honestly be said of a mode: "in force" only for what the kernel confirmed. */
export function describeMode(held: Held): readonly string[] {
  return [
    `wanted     ${plain(held.wanted)}`,
    `applied    ${held.applied === null ? "nothing confirmed" : plain(held.applied)}`,
    `assurance  ${plain(held.assurance)}: ${judge(held)}`,
  ];
}

function judge(held: Held): string {
  const wanted = plain(held.wanted);
  switch (held.assurance satisfies Assurance) {
    case "enforced":
      return held.applied === held.wanted
        ? `${wanted} is in force; the kernel confirmed it`
        : `${wanted} is wanted, but not what the kernel holds yet`;
    case "observed":
      return `${wanted} is recorded and watched, but nothing in the kernel holds it (see \`boundaryctl doctor\`)`;
    case "failed":
      return `${wanted} could NOT be applied; what isolation protects is denied`;
  }
}
