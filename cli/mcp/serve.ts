import { setImmediate as nextTurn } from "node:timers/promises";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js";
import { z } from "zod";
import type { BoundaryClient } from "../../client/client.ts";
import { ACTIONS } from "../../daemon/core/access.ts";
import { BoundaryError } from "../../daemon/core/errors.ts";
import { check, requestApproval, showStatus, type ToolResult } from "./tools.ts";

const MAX_MESSAGE_BYTES = 1_048_576;
const Scalar = z.union([z.string().max(32_768), z.number().int(), z.boolean()]);
const Properties = z.record(z.string().min(1).max(64), z.union([Scalar, z.array(Scalar).max(64)]));
const Action = z.enum(ACTIONS).describe("What is to be done");
const Resource = z
  .strictObject({
    type: z
      .string()
      .min(1)
      .max(64)
      .describe("memory, tool, model, io, file, host, channel, command, stage, secret"),
    id: z
      .string()
      .min(1)
      .max(256)
      .describe("Which one: an absolute path, a host's name, a program, a tool's name"),
    properties: Properties.optional().describe("Such as class, reach, location, interface, port, command"),
  })
  .describe("What it is done to");
const Context = Properties.optional().describe("Such as taint: what kinds of data are involved");

const QUESTION = { action: Action, resource: Resource, context: Context };

/**
 * Serves the three tools on stdin and stdout until stdin ends. What they answer is the daemon's word or a denial; they
 * change nothing, but that a denied question may wait for a person.
 */
export async function serveMcp(client: BoundaryClient): Promise<void> {
  const server = new McpServer(
    { name: "boundary", version: "1" },
    { instructions: INSTRUCTIONS, jsonSchemaValidator: { getValidator: noValidator } },
  );
  const working = new Set<Promise<ToolResult>>();
  function track(work: Promise<ToolResult>): Promise<ToolResult> {
    working.add(work);
    return work.finally(() => working.delete(work));
  }
  server.registerTool(
    "boundary_status",
    {
      description:
        "The mode of this host's boundary: what is closed now, and whether the kernel has confirmed it.",
      inputSchema: z.strictObject({}),
      annotations: { readOnlyHint: true, openWorldHint: false },
    },
    () => track(showStatus(client)),
  );
  server.registerTool(
    "boundary_check",
    {
      description:
        "Ask whether one thing is allowed now. Only `decision: true` is a yes, for this one thing, once. A denial says what would be allowed instead. Every question is recorded.",
      inputSchema: z.strictObject(QUESTION),
      annotations: { readOnlyHint: true, openWorldHint: false },
    },
    ({ action, resource, context }) => track(check(client, questionOf(action, resource, context))),
  );
  server.registerTool(
    "boundary_request_approval",
    {
      description:
        "After a denial with `askPerson`: have a person asked, or wait for his answer. Give either `approval`, the id that the denial carried, or the same action, resource and context again. Nobody but a person approves.",
      inputSchema: z.strictObject({
        action: Action.optional(),
        resource: Resource.optional(),
        context: Context,
        approval: z.string().min(1).max(64).optional().describe("The id of a denial's approval"),
        waitMs: z.number().int().min(0).max(50_000).default(0).describe("How long to wait for the person"),
      }),
      annotations: { readOnlyHint: false, destructiveHint: false, openWorldHint: false },
    },
    ({ action, resource, context, approval, waitMs }) => {
      const question =
        action !== undefined && resource !== undefined ? questionOf(action, resource, context) : undefined;
      return track(requestApproval(client, { question, approval, waitMs }));
    },
  );
  const transport = new StdioServerTransport(process.stdin, process.stdout, {
    maxBufferSize: MAX_MESSAGE_BYTES,
  });
  const ended = new Promise<void>((resolve) => {
    process.stdin.once("end", resolve).once("close", resolve);
    // oxlint-disable-next-line unicorn/prefer-add-event-listener -- no event target: the SDK's only way
    server.server.onclose = resolve;
  });
  await server.connect(transport);
  await ended;
  // what was asked before the end is answered
  await Promise.allSettled(working);
  await nextTurn();
  await server.close();
}

const INSTRUCTIONS =
  "This host has a boundary that says what may be done. Ask boundary_check before an action that reaches beyond the conversation, and do not do what it denies.";

function questionOf(
  name: z.output<typeof Action>,
  { type, id, properties }: z.output<typeof Resource>,
  context: z.output<typeof Context>,
) {
  return {
    action: { name },
    resource: { type, id, ...(properties === undefined ? {} : { properties }) },
    ...(context === undefined ? {} : { context }),
  };
}

// for what a server may ask of the person at the client, which we do not; the SDK's own makes code from text
function noValidator(): never {
  throw new BoundaryError("internal", "nothing is asked of the client");
}
