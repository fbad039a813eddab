import type { Ctl } from "./ctl.ts";
import type { Report } from "./report.ts";

export type Question = { readonly ask: readonly string[]; readonly allowed: boolean };

/** What a service asks, and what DESIGN's mode table says to it in RESTRICTED. */
export const IN_RESTRICTED: readonly Question[] = [
  { ask: ["recall", "note-1", "--class", "CONFIDENTIAL"], allowed: true },
  { ask: ["recall", "note-2", "--class", "SECRET"], allowed: false },
  { ask: ["tool.run", "fetch", "--reach", "network"], allowed: true },
  { ask: ["model.call", "some-model", "--location", "external"], allowed: true },
  { ask: ["io", "stick", "--reach", "usb-storage"], allowed: false },
];

export const IN_AIRGAP: readonly Question[] = [
  { ask: ["recall", "note-2", "--class", "SECRET"], allowed: true },
  { ask: ["recall", "note-3", "--class", "CROWN_JEWEL"], allowed: false },
  { ask: ["tool.run", "fetch", "--reach", "network"], allowed: false },
  { ask: ["model.call", "some-model", "--location", "external"], allowed: false },
];

/** Asks over the socket; every answer has to name its rule, mode and assurance. */
export async function askAll(
  report: Report,
  ctl: Ctl,
  mode: string,
  questions: readonly Question[],
): Promise<void> {
  for (const { ask, allowed } of questions) {
    const answer = (await ctl.json("check", ...ask)) as unknown as {
      decision: boolean;
      reason: string[];
      mode: string;
      assurance: string;
      wouldAllow: string;
    };
    const complete = answer.reason.length > 0 && answer.mode === mode && answer.assurance !== "failed";
    const told = allowed || answer.wouldAllow !== "";
    report.saw(
      `${mode}: ${ask.join(" ")} → ${answer.decision ? "allow" : "deny"}`,
      answer.decision === allowed && complete && told,
      `${answer.reason.join(", ")} [${answer.mode}, ${answer.assurance}]`,
    );
  }
}
