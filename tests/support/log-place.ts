import { logPlaceOf } from "../../daemon/compose/places.ts";
import type { LogPlace } from "../../daemon/open-log.ts";
import { FakeClock } from "./host.ts";

/** What a start needs of the disk, put together as daemon/main.ts does, for files that a test may change. */
export function logPlaceAt(places: { logDir: string; stateDir: string }): LogPlace {
  const clock = { ...new FakeClock(), wallMs: Date.now };
  return logPlaceOf(places, { protect: "plain", reserveBytes: 0 }, clock);
}
