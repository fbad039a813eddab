import { readFileSync } from "node:fs";

const SHIPPED = new URL("../../policies/tripwires.yaml", import.meta.url);

/** The shipped tripwires, and one of the demo's own: a watched file, armed where the mode is not closed already. */
export function shippedTripwiresAnd(watched: string): string {
  return `${readFileSync(SHIPPED, "utf8")}
  - id: demo-file
    on: file.changed
    match: { path: ${JSON.stringify(watched)} }
    armed: [OPEN, RESTRICTED, TRUSTED, AIRGAP, COLDROOM, LOCKDOWN]
    action: { trip: LOCKDOWN }
`;
}
