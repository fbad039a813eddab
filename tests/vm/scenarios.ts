import { bootOfAnOpenHost } from "./scenarios/install.ts";
import type { Stage } from "./stage.ts";

/** Scenarios of one guest run in this order; guests run side by side. Each goes on from the installed daemon, in RESTRICTED. */
export type Scenario = {
  readonly name: string;
  readonly guest: string;
  readonly title: string;
  readonly run: (stage: Stage) => Promise<void>;
};

export const SCENARIOS: readonly Scenario[] = [
  { name: "open", guest: "boots", title: "x", run: bootOfAnOpenHost },
];
