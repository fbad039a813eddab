import type { PolicyReloadReply } from "../../daemon/protocol/messages.ts";
import { askAndShow } from "../ask.ts";
import { defineBare, group } from "../command.ts";
import { plain } from "../output.ts";
import { check, test } from "../policy/check.ts";
import { diff } from "../policy/diff.ts";
import { explain } from "../policy/explain.ts";
import { replay } from "../policy/replay.ts";

/** As long as the daemon gives Cedar for a set, and some more. */
const RELOAD_DEADLINE_MS = 60_000;

const reload = defineBare({
  usage: "reload",
  describe: "Have the daemon read its policies anew; a set with a fault changes nothing",
  examples: [["boundaryctl policy reload", "after `boundaryctl policy check`"]],
  run: (args) =>
    askAndShow(
      args,
      { verb: "policy.reload", params: {}, deadlineMs: RELOAD_DEADLINE_MS },
      { render: renderReload },
    ),
});

function renderReload({ digest, policies, changed }: PolicyReloadReply): readonly string[] {
  return [
    `${policies} policies, ${changed ? "another set than before" : "the same set as before"}`,
    `digest ${plain(digest)}`,
  ];
}

/** `boundaryctl policy …`: what people do with policies. */
export const command = group({
  usage: "policy",
  describe: "Work with the policies",
  examples: [
    ["boundaryctl policy check ./policies", "before they are taken up"],
    ["boundaryctl policy explain question.json --mode AIRGAP", "why, and what would change it"],
  ],
  children: [check, test, explain, diff, replay, reload],
  alone: null,
});
