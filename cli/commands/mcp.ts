import { agentClient } from "../agent-client.ts";
import { define } from "../command.ts";
import { parseDuration } from "../duration.ts";

/** `boundaryctl mcp`: an MCP server on stdin and stdout, until stdin ends. */
export const command = define({
  usage: "mcp",
  describe: "Serve status, check and request-approval to an agent as MCP tools, over stdin and stdout",
  examples: [["claude mcp add boundary -- boundaryctl mcp", "to put it before Claude Code"]],
  options: (yargs) =>
    yargs
      .option("deadline", {
        type: "string",
        default: "5s",
        requiresArg: true,
        describe: "How long one answer of the daemon may take",
      })
      .option("token-file", {
        type: "string",
        requiresArg: true,
        describe: "The agent's token (also BOUNDARY_TOKEN_FILE)",
      }),
  run: async (args) => {
    const client = agentClient(args, {
      deadlineMs: parseDuration(args.deadline),
      tokenFile: args.tokenFile,
    });
    try {
      // the SDK takes longer to load than other commands to answer
      const { serveMcp } = await import("../mcp/serve.ts");
      await serveMcp(client);
      return 0;
    } finally {
      client.close();
    }
  },
});
