import { readLine } from "../../daemon/audit/line.ts";
import type { LogRecord } from "../../daemon/audit/record.ts";
import { coreIn, type Span, spanIn } from "../../daemon/audit/spans.ts";
import { BoundaryError } from "../../daemon/core/errors.ts";
import { dataOr, withDaemon } from "../ask.ts";
import { auditLines } from "../audit-lines.ts";
import { define } from "../command.ts";
import { usageError } from "../exit.ts";
import { plain, printJson, printLines } from "../output.ts";

const MOST = 100_000;

/** `boundaryctl audit list`: the stream for a person. What is shown is not verified: fetch it for that. */
export const list = define({
  usage: "list",
  describe: "Show records of the audit stream, oldest first",
  examples: [
    ["boundaryctl audit list", "the newest 50"],
    ["boundaryctl audit list --from 0 --limit 10", "the first ten"],
  ],
  options: (yargs) =>
    yargs
      .option("from", {
        type: "number",
        requiresArg: true,
        describe: "The first record's number in the stream",
      })
      .option("limit", { type: "number", requiresArg: true, default: 50, describe: "How many, at most" }),
  run: async (args) => {
    const limit = wholeNumber("--limit", args.limit, 1);
    const from = args.from === undefined ? null : wholeNumber("--from", args.from, 0);
    return withDaemon(args, async (client) => {
      const head = dataOr(args, await client.call("audit.head", {}));
      if ("code" in head) return head.code;
      const first = from ?? Math.max(0, head.data.size + 1 - limit);
      for await (const outcome of auditLines(client, first, Math.min(head.data.size, first + limit - 1))) {
        const lines = dataOr(args, outcome);
        if ("code" in lines) return lines.code;
        const records = lines.data.map(recordOf);
        if (args.json) for (const record of records) printJson(record);
        else printLines(records.map(render));
      }
      return 0;
    });
  },
});

function wholeNumber(name: string, value: number, least: number): number {
  if (Number.isSafeInteger(value) && value >= least && (least === 0 || value <= MOST)) return value;
  throw usageError(`${name} takes a whole number of at least ${least}`);
}

function recordOf(line: string): LogRecord {
  const read = readLine(line);
  if (read.ok) return read.record;
  throw new BoundaryError("reply-invalid", `reading a line of the audit stream: ${read.why}`);
}

function render(record: LogRecord): string {
  const span = spanIn(record);
  const core = coreIn(record);
  const text = span ? renderRuns(span) : core ? `from record ${core.from}, key ${plain(core.key)}` : "";
  return `${plain(record.at)}  #${record.seq}  ${plain(record.kind)}${text === "" ? "" : `  ${text}`}`;
}

/** "records 12 to 80: 60 decision, 9 seal". */
function renderRuns({ first, last, runs }: Span): string {
  const counts = new Map<string, number>();
  for (const [kind, from, to] of runs) counts.set(kind, (counts.get(kind) ?? 0) + to - from + 1);
  const told = [...counts].map(([kind, count]) => `${count} ${plain(kind)}`);
  return `records ${first} to ${last}: ${told.join(", ")}`;
}
