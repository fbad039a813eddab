import type { LogRecord } from "../../daemon/audit/record.ts";

/** A line of the log that is proven: `text` is it without its "\n", byte for byte when encoded as UTF-8. */
export type ProvenLine = { readonly record: LogRecord; readonly text: string };

/**
 * Where the log goes. One caller, one call at a time, lines in the order of the log. When a call rejects
 * (BoundaryError "ship-failed", "ship-untrusted"), everything since the last `confirm` that resolved is written again:
 * what a sink keeps may hold lines twice, and never lacks one.
 */
export type Sink = {
  /** Where to, for a person. */
  readonly name: string;
  /** Resolves when the sink can take more; holds no more than one batch in memory. */
  write(lines: readonly ProvenLine[]): Promise<void>;
  /** Resolves when all that was written has arrived, as surely as this kind of sink can know. */
  confirm(): Promise<void>;
  /** Lets go of what is open. What was not confirmed may not have arrived. Never rejects. */
  close(): Promise<void>;
};
