import { closeSync, existsSync, fsyncSync, openSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import {
  checkCertificate,
  genesisStanding,
  parseCertificate,
  type Standing,
} from "../../daemon/audit/certificate.ts";
import { parseCheckpoint, parseNote, verifyNote } from "../../daemon/audit/checkpoint.ts";
import { cosign } from "../../daemon/audit/cosignature.ts";
import { EMPTY_ROOT } from "../../daemon/audit/merkle.ts";
import { type Tree, verifyConsistency } from "../../daemon/audit/merkle-proof.ts";
import { testWitnessKey } from "./witness-key.ts";

/**
 * A witness as c2sp.org/tlog-witness says, for tests: POST /add-checkpoint. What it cosigned is in a file, synced
 * before the answer. `genesis`: the logs it knows, by their first keys. Beyond the specification it takes
 * POST /add-key-certificate: the three lines of docs/LOG_FORMAT.md, "Pruning", from a key that it knows; 200, or 409
 * with the number of the segment it waits for.
 */
export type Witness = {
  readonly vkey: string;
  readonly url: string;
  /** Every request: path and status. */
  readonly seen: readonly string[];
  /** What it has cosigned of a log. */
  latest(origin: string): Tree;
  stop(): Promise<void>;
};

export type WitnessOptions = {
  readonly genesis: readonly string[];
  /** Where its state is. */
  readonly file: string;
  readonly name?: string;
  readonly socket?: string;
  /** Runs between the checks and the writing of the state. */
  readonly stall?: () => Promise<void>;
  /** Seconds since 1970. */
  readonly now?: () => number;
  /** Without certificates, as a standard witness is. */
  readonly standard?: boolean;
};

type Known = { standing: Standing; latest: Tree; certificates: string[] };
type Answer = { readonly status: number; readonly body: string; readonly type?: string };

const MAX_BODY = 256 * 1024;
const NOTHING: Tree = { size: 0, root: EMPTY_ROOT };

export async function startWitness(options: WitnessOptions): Promise<Witness> {
  const signer = testWitnessKey(options.name ?? "witness.example/w1");
  const logs = load(options);
  const seen: string[] = [];
  const queues = new Map<string, Promise<unknown>>();

  function save(): void {
    const state = [...logs].map(([origin, { latest, certificates }]) => ({ origin, latest, certificates }));
    const beside = `${options.file}.new`;
    writeFileSync(beside, JSON.stringify(state));
    const fd = openSync(beside, "r");
    fsyncSync(fd);
    closeSync(fd);
    renameSync(beside, options.file);
  }

  async function addCheckpoint(body: string): Promise<Answer> {
    const request = parseRequest(body);
    if (request === null) return { status: 400, body: "" };
    const known = logs.get(request.origin);
    if (!known) return { status: 404, body: "" };
    // one at a time for each log: what was checked has to be what is still there when it is written
    return await inTurn(queues, request.origin, () => judge(request, known));
  }

  async function judge(request: AddCheckpoint, known: Known): Promise<Answer> {
    const signed = verifyNote(known.standing.key, request.note);
    if (!signed.ok || request.tree.size <= known.standing.tree.size) return { status: 403, body: "" };
    if (request.old > request.tree.size) return { status: 400, body: "" };
    const { latest } = known;
    const conflict = { status: 409, body: `${latest.size}\n`, type: "text/x.tlog.size" };
    if (request.old !== latest.size) return conflict;
    if (latest.size === request.tree.size && latest.root !== request.tree.root) return conflict;
    if (!verifyConsistency(latest, request.tree, request.proof)) return { status: 422, body: "" };
    await options.stall?.();
    known.latest = request.tree;
    save();
    const at = options.now?.() ?? Math.floor(Date.now() / 1_000);
    return { status: 200, body: `${cosign(request.note.text, signer, at)}\n` };
  }

  async function addCertificate(body: string): Promise<Answer> {
    const certificate = parseCertificate(body);
    if (!certificate.ok) return { status: 400, body: "" };
    const origin = certificate.value.seal.match(/"note":"(.*?)\\n/)?.[1] ?? "";
    const known = logs.get(origin);
    if (!known) return { status: 404, body: "" };
    return await inTurn(queues, origin, async () => {
      const { segment } = certificate.value;
      if (segment < known.certificates.length)
        return { status: known.certificates[segment] === body ? 200 : 422, body: "" };
      if (segment > known.certificates.length) return { status: 409, body: `${known.certificates.length}\n` };
      const next = checkCertificate(known.standing, certificate.value);
      if (!next.ok) return { status: 422, body: next.why };
      known.certificates.push(body);
      known.standing = next.value;
      save();
      return { status: 200, body: "" };
    });
  }

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url ?? "";
    const answer = await answerTo(request.method ?? "", path, await bodyOf(request));
    seen.push(`${path} ${answer.status}`);
    response.writeHead(answer.status, { "content-type": answer.type ?? "text/plain; charset=utf-8" });
    response.end(answer.body);
  }

  async function answerTo(method: string, path: string, body: string | null): Promise<Answer> {
    const verb = path.slice(path.lastIndexOf("/"));
    const verbs = ["/add-checkpoint", ...(options.standard === true ? [] : ["/add-key-certificate"])];
    if (!verbs.includes(verb)) return { status: 404, body: "" };
    if (method !== "POST") return { status: 405, body: "" };
    if (body === null) return { status: 413, body: "" };
    return verb === "/add-checkpoint" ? addCheckpoint(body) : addCertificate(body);
  }

  const server = createServer((request, response) => void handle(request, response));
  await new Promise<void>((resolve) => {
    if (options.socket === undefined) server.listen(0, "127.0.0.1", resolve);
    else server.listen(options.socket, resolve);
  });
  const port = (server.address() as AddressInfo).port;
  return {
    vkey: signer.vkey,
    url: options.socket === undefined ? `http://127.0.0.1:${port}/` : `unix:${options.socket}`,
    seen,
    latest: (origin) => logs.get(origin)?.latest ?? NOTHING,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function load({ genesis, file }: WitnessOptions): Map<string, Known> {
  const logs = new Map<string, Known>();
  for (const vkey of genesis) {
    const standing = genesisStanding(vkey);
    if (!standing.ok) throw new Error(standing.why);
    logs.set(standing.value.key.name, { standing: standing.value, latest: NOTHING, certificates: [] });
  }
  if (!existsSync(file)) return logs;
  type Saved = { origin: string; latest: Tree; certificates: string[] };
  for (const { origin, latest, certificates } of JSON.parse(readFileSync(file, "utf8")) as Saved[]) {
    const known = logs.get(origin);
    if (!known) continue;
    const standing = certificates.reduce((before, text) => standingAfter(before, text), known.standing);
    logs.set(origin, { standing, latest, certificates });
  }
  return logs;
}

function standingAfter(before: Standing, text: string): Standing {
  const certificate = parseCertificate(text);
  const next = certificate.ok ? checkCertificate(before, certificate.value) : certificate;
  if (!next.ok) throw new Error(`the witness's own state: ${next.why}`);
  return next.value;
}

type AddCheckpoint = {
  readonly old: number;
  readonly proof: readonly string[];
  readonly origin: string;
  readonly tree: Tree;
  readonly note: {
    readonly text: string;
    readonly signatures: Parameters<typeof verifyNote>[1]["signatures"];
  };
};

/** Null for what has not the form of the specification. */
function parseRequest(body: string): AddCheckpoint | null {
  const split = body.indexOf("\n\n");
  const [old = "", ...lines] = body.slice(0, Math.max(split, 0)).split("\n");
  const size = /^old (0|[1-9][0-9]{0,15})$/.exec(old)?.[1];
  const note = parseNote(body.slice(split + 2));
  const checkpoint = note.ok ? parseCheckpoint(note.value.text) : note;
  if (size === undefined || lines.length > 63 || !note.ok || !checkpoint.ok) return null;
  if (!lines.every((line) => /^[A-Za-z0-9+/]{43}=$/.test(line))) return null;
  const proof = lines.map((line) => Buffer.from(line, "base64").toString("hex"));
  const { origin, ...tree } = checkpoint.value;
  return { old: Number(size), proof, origin, tree, note: note.value };
}

async function bodyOf(request: IncomingMessage): Promise<string | null> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > MAX_BODY) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function inTurn<T>(queues: Map<string, Promise<unknown>>, name: string, work: () => Promise<T>): Promise<T> {
  const mine = (queues.get(name) ?? Promise.resolve()).then(work);
  queues.set(
    name,
    mine.catch(() => undefined),
  );
  return mine;
}
