import type { LogRecord } from "../../daemon/audit/record.ts";
import type { ProvenLine } from "./sink.ts";

/** Who sends: `hostname` and `procId` as RFC 5424 has them, "-" when not known. */
export type Sender = { readonly hostname: string; readonly procId: string };

/** Facility 13 of RFC 5424: log audit. */
const FACILITY = 13;
const APP_NAME = "boundary-daemon";
/** 32473 is IANA's enterprise number for examples: we have none of our own. */
const SD_ID = "boundary@32473";
const MAX_HOSTNAME = 255;
const MAX_MSG_ID = 32;
const BOM = Buffer.from([0xef, 0xbb, 0xbf]);

const ALERT = 1;
const CRITICAL = 2;
const WARNING = 4;
const NOTICE = 5;
const INFO = 6;
const DEBUG = 7;

const SEVERITIES: ReadonlyMap<string, number> = new Map([
  ["tripwire.fired", ALERT],
  ["mode.apply-failed", CRITICAL],
  ["policy.disagreed", CRITICAL],
  ["policy.refused", WARNING],
  ["sensor.blind", WARNING],
  ["clock.frozen", WARNING],
  ["gap", WARNING],
  ["log.recovered", WARNING],
  ["log.pruned", WARNING],
  ["decision", INFO],
  ["mode.applied", INFO],
  ["sensor.restored", INFO],
  ["seal", DEBUG],
  ["log.alive", DEBUG],
  ["log.snapshot", DEBUG],
]);

/** The severity (0 to 7) of a record's kind; notice (5) for kinds that are not in the table. */
export function severityOf(kind: string): number {
  return SEVERITIES.get(kind) ?? NOTICE;
}

/**
 * One record as an RFC 5424 message in RFC 5425 framing (its length in octets, a blank, the message). MSG is the log's
 * line, byte for byte; where it is not plain ASCII, RFC 5424 section 6.4 wants the byte order mark before it.
 */
export function renderFrame({ record, text }: ProvenLine, sender: Sender): Buffer {
  const line = Buffer.from(text, "utf8");
  // as many bytes as UTF-16 units: ASCII
  const ascii = line.length === text.length;
  const header = Buffer.from(`${renderHeader(record, sender)} `, "ascii");
  const message = ascii ? Buffer.concat([header, line]) : Buffer.concat([header, BOM, line]);
  return Buffer.concat([Buffer.from(`${message.length} `, "ascii"), message]);
}

/** PRI to STRUCTURED-DATA. */
function renderHeader(record: LogRecord, sender: Sender): string {
  const { at, boot, kind, mono, seq } = record;
  const priority = FACILITY * 8 + severityOf(kind);
  // a kind has up to 64 characters; whole it is in MSG
  const msgId = kind.slice(0, MAX_MSG_ID);
  const data = `[${SD_ID} seq="${seq}" boot="${escapeParam(boot)}" mono="${escapeParam(mono)}"]`;
  return `<${priority}>1 ${timestampOf(at)} ${sender.hostname} ${APP_NAME} ${sender.procId} ${msgId} ${data}`;
}

/** A record's time has the right form; a day that there is not (February 30) must not go into a TIMESTAMP. */
function timestampOf(at: string): string {
  const ms = Date.parse(at);
  return Number.isNaN(ms) || new Date(ms).toISOString() !== at ? "-" : at;
}

/** RFC 5424 section 6.3.3: `"`, `\` and `]` are escaped in a value. */
export function escapeParam(value: string): string {
  return value.replace(/["\\\]]/g, "\\$&");
}

/** A host's name as HOSTNAME: printable ASCII, at most 255; "-" when nothing of it can be used. */
export function hostnameOf(name: string): string {
  const usable = name.replace(/[^!-~]/g, "").slice(0, MAX_HOSTNAME);
  return usable === "" ? "-" : usable;
}
