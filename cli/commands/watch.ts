import type { Client } from "../../client/control.ts";
import { BoundaryError } from "../../daemon/core/errors.ts";
import { dataOr, withDaemon } from "../ask.ts";
import { type Common, defineBare } from "../command.ts";
import { renderEvent } from "../event-text.ts";
import type { ExitCode } from "../exit.ts";
import { printJson, printLines } from "../output.ts";

/** `boundaryctl watch`: events as they happen, until Ctrl-C. Ends with 3 when the connection is lost. */
export const command = defineBare({
  usage: "watch",
  describe: "Follow what happens, live, until Ctrl-C",
  examples: [["boundaryctl watch --json | jq .kind", "one JSON document a line"]],
  run: (common) => withDaemon(common, (client) => follow(common, client)),
});

async function follow(common: Common, client: Client): Promise<ExitCode> {
  client.onEvent((event) => {
    if (common.json) printJson(event);
    else printLines([renderEvent(event)]);
  });
  const stop = (): void => client.close();
  process.once("SIGINT", stop).once("SIGTERM", stop);
  try {
    const found = dataOr(common, await client.call("events.subscribe", {}));
    if ("code" in found) return found.code;
    await client.ended;
    return 0;
  } catch (cause) {
    if (!(cause instanceof BoundaryError) || cause.code !== "no-daemon") throw cause;
    throw new BoundaryError("no-daemon", "the connection was lost: nothing more is seen from here", {
      cause,
    });
  } finally {
    process.off("SIGINT", stop).off("SIGTERM", stop);
  }
}
