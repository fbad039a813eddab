import { withDaemon } from "../ask.ts";
import { type Common, defineBare, group } from "../command.ts";
import { renderProposal } from "../network-proposal.ts";
import { printJson, printLines } from "../output.ts";
import { networkInUse } from "../own-network.ts";

const propose = defineBare({
  usage: "propose",
  describe: "Propose what TRUSTED should let pass, from what is in use now, as YAML for the configuration",
  examples: [["boundaryctl network propose > allow.yaml", "read it before you use it"]],
  run: async (common) => {
    const inUse = networkInUse();
    const { blocked, notes } = await wouldBlock(common);
    const lines = renderProposal(inUse, blocked, notes);
    if (common.json) printJson({ yaml: `${lines.join("\n")}\n` });
    else printLines(lines);
    return 0;
  },
});

/** Empty without a daemon, or where it does not answer us: the proposal is made of what is in use then. */
async function wouldBlock(common: Common) {
  try {
    const outcome = await withDaemon(common, (client) => client.call("enforcement.shadow", {}));
    if (!outcome.ok) return NOT_TOLD;
    const { blocked, more, notes } = outcome.data;
    return { blocked, notes: more > 0 ? [`${more} more are not in the list`, ...notes] : notes };
  } catch {
    return NOT_TOLD;
  }
}

const NOT_TOLD = { blocked: [], notes: [] };

/** `boundaryctl network propose`. */
export const command = group({
  usage: "network",
  describe: "Look at what the network is used for",
  examples: [["boundaryctl network propose", "a fragment of the configuration"]],
  children: [propose],
  alone: null,
});
