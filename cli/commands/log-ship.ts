import { hash } from "node:crypto";
import { hostname } from "node:os";
import { join } from "node:path";
import { placeOf } from "../../client/places.ts";
import { define } from "../command.ts";
import { usageError } from "../exit.ts";
import { readKeyOrOwn } from "../key-argument.ts";
import { printJson } from "../output.ts";
import { readSmallFile } from "../read-file.ts";
import { openCursor } from "../ship/cursor.ts";
import { type Destination, parseDestination } from "../ship/destination.ts";
import { createFileSink } from "../ship/file-sink.ts";
import { PACE, type ShipEvent, shipLog } from "../ship/ship.ts";
import { renderShipEvent } from "../ship/ship-text.ts";
import type { Sink } from "../ship/sink.ts";
import { hostnameOf } from "../ship/syslog-message.ts";
import { createSyslogSink } from "../ship/syslog-sink.ts";
import { nameOf, openSession, type TlsTarget } from "../ship/tls-session.ts";

const MAX_PEM_BYTES = 1_048_576;
const MOST_CONFIRM_S = 3_600;

type TlsArguments = {
  readonly ca: string | undefined;
  readonly cert: string | undefined;
  readonly keyFile: string | undefined;
  readonly serverName: string | undefined;
  readonly insecure: boolean;
};

/** `boundaryctl log ship --to …`: 0 when all was handed over (--once) or we were told to stop. */
export const ship = define({
  usage: "ship",
  describe: "Send what is proven to a syslog server (TLS) or a file, at least once",
  examples: [
    ["boundaryctl log ship --to tls://logs.example:6514 --ca ca.pem --key @boundary.vkey", "until Ctrl-C"],
    ["boundaryctl log ship --to file:/mnt/copy/boundary.log --once", "what there is now"],
  ],
  options: (yargs) =>
    yargs
      .option("to", {
        type: "string",
        demandOption: true,
        requiresArg: true,
        describe: "tls://HOST:PORT or file:PATH",
      })
      .option("key", { type: "string", requiresArg: true, describe: "The log's public key, or @FILE" })
      .option("dir", { type: "string", requiresArg: true, describe: "The log's directory" })
      .option("state-dir", { type: "string", requiresArg: true, describe: "Where the key is without --key" })
      .option("cursor", {
        type: "string",
        requiresArg: true,
        describe: "File that remembers how far it came",
      })
      .option("ca", {
        type: "string",
        requiresArg: true,
        describe: "PEM: the only authorities to be believed",
      })
      .option("cert", { type: "string", requiresArg: true, describe: "PEM: our own certificate" })
      .option("key-file", { type: "string", requiresArg: true, describe: "PEM: its private key" })
      .option("server-name", {
        type: "string",
        requiresArg: true,
        describe: "The name in the server's certificate",
      })
      .option("insecure", {
        type: "boolean",
        default: false,
        describe: "Take any certificate (test bench only)",
      })
      .option("confirm-seconds", {
        type: "number",
        default: 10,
        requiresArg: true,
        describe: "How often to see to arrival",
      })
      .option("follow", { type: "boolean", default: false, describe: "Go on as the log grows (the default)" })
      .option("once", {
        type: "boolean",
        default: false,
        describe: "Up to the log's present end, in one attempt",
      }),
  run: async (args) => {
    if (args.follow && args.once) throw usageError("--follow or --once, not both");
    const vkey = readKeyOrOwn(args.key, placeOf("state", args.stateDir));
    const sink = sinkTo(parseDestination(args.to), args);
    await shipLog({
      directory: placeOf("log", args.dir),
      vkey,
      sink,
      cursor: openCursor(args.cursor ?? defaultCursor(args.stateDir, sink.name), sink.name),
      mode: args.once ? "once" : "follow",
      signal: untilTold(),
      tell: teller(args.json),
      pace: { ...PACE, confirmMs: confirmMs(args.confirmSeconds) },
    });
    return 0;
  },
});

function sinkTo(to: Destination, args: TlsArguments): Sink {
  if (to.kind === "file") return createFileSink(to.path);
  const target = { ...to, ...materialOf(args) };
  // on every start: a development override must not be forgotten
  if (args.insecure)
    process.stderr.write("boundaryctl: WARNING: --insecure: the server's certificate is not checked\n");
  const sender = { hostname: hostnameOf(hostname()), procId: String(process.pid) };
  return createSyslogSink(nameOf(target), sender, () => openSession(target));
}

function materialOf(args: TlsArguments): Omit<TlsTarget, "host" | "port"> {
  if ((args.cert === undefined) !== (args.keyFile === undefined))
    throw usageError("--cert and --key-file go together");
  return {
    serverName: args.serverName,
    ca: readPem(args.ca),
    cert: readPem(args.cert),
    key: readPem(args.keyFile),
    insecure: args.insecure,
  };
}

function readPem(path: string | undefined): Buffer | undefined {
  if (path === undefined) return undefined;
  let bytes: Buffer | null;
  try {
    bytes = readSmallFile(path, MAX_PEM_BYTES);
  } catch (error) {
    throw usageError(`${path} cannot be read: ${error instanceof Error ? error.message : "no reason given"}`);
  }
  // an empty list of authorities would mean none, or all: neither is what was asked for
  if (bytes === null || !bytes.includes("-----BEGIN ")) throw usageError(`${path} is no PEM file`);
  return bytes;
}

/** One for each destination: a cursor says how far *that* one came. */
function defaultCursor(stateDir: string | undefined, name: string): string {
  return join(placeOf("state", stateDir), `ship-${hash("sha256", name, "hex").slice(0, 8)}.cursor`);
}

function confirmMs(seconds: number): number {
  if (seconds > 0 && seconds <= MOST_CONFIRM_S) return seconds * 1_000;
  throw usageError(`--confirm-seconds is more than 0 and at most ${MOST_CONFIRM_S}`);
}

/** SIGTERM and SIGINT: what was sent is confirmed, then we end. A second one ends us at once. */
function untilTold(): AbortSignal {
  const told = new AbortController();
  process.once("SIGTERM", () => told.abort());
  process.once("SIGINT", () => told.abort());
  return told.signal;
}

function teller(json: boolean): (event: ShipEvent) => void {
  return (event) => {
    if (json) printJson(event);
    else process.stderr.write(`boundaryctl: ${renderShipEvent(event)}\n`);
  };
}
