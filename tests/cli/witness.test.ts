import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { createServer as createSecureServer } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import * as fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { sendToWitness } from "../../cli/witness-client.ts";
import { parseWitnessUrl } from "../../cli/witness-url.ts";
import { renderCertificate } from "../../daemon/audit/certificate.ts";
import { renderCheckpoint, signNote } from "../../daemon/audit/checkpoint.ts";
import type { LogProof } from "../../daemon/audit/proof.ts";
import { createProver, type Wanted } from "../../daemon/audit/prove.ts";
import { checkpointRequest } from "../../daemon/audit/witness-exchange.ts";
import { codeOf, ORIGIN, tempDirectory, testSigner } from "../audit/fixture.ts";
import { boundaryctl, type Ran } from "../support/boundaryctl.ts";
import { type RealLog, realLog } from "../support/real-log.ts";
import { isOnHost } from "../support/setup.ts";
import { startWitness, type Witness, type WitnessOptions } from "../support/witness.ts";

/** One log as it grows, and as somebody else would have it grow. */
const SHORT = await realLog([[1, 3]]);
const LONGER = await realLog([[1, 3, 2]]);
const LATER = await realLog([[1, 3, 2], [4], [2]]);
const FORK = await realLog([[1, 3, 2, 5]]);
const OTHER_PAST = await realLog([[2, 2, 5, 5]]);

let base: ReturnType<typeof tempDirectory>;
const started: Witness[] = [];
const servers: Server[] = [];
const at = (name: string): string => join(base.path, name);

beforeEach(() => {
  base = tempDirectory();
});
afterEach(async () => {
  for (const each of started.splice(0)) await each.stop();
  for (const each of servers.splice(0)) {
    each.closeAllConnections();
    await new Promise((resolve) => each.close(resolve));
  }
  base[Symbol.dispose]();
});

async function witness(options: Partial<WitnessOptions> = {}): Promise<Witness> {
  const made = await startWitness({ genesis: [SHORT.vkey], file: at("witness.json"), ...options });
  started.push(made);
  return made;
}

/** Puts the log into "log", in the place of what was there. */
function hold(log: RealLog): void {
  rmSync(at("log"), { recursive: true, force: true });
  mkdirSync(at("log"));
  for (const [file, bytes] of Object.entries(log.files)) writeFileSync(join(at("log"), file), bytes);
}

function ask(by: Witness, ...more: string[]): Promise<Ran> {
  const where = ["--url", by.url, "--witness", by.vkey];
  return boundaryctl(["log", "witness", at("log"), ...where, "--out", at("head.note"), ...more]);
}

function verify(by: Witness, ...more: string[]): Promise<Ran> {
  const head = ["--witness", by.vkey, "--head", at("head.note")];
  return boundaryctl(["verify-log", at("log"), "--key", SHORT.vkey, ...head, ...more]);
}

function proofOf(log: RealLog, wanted: Wanted): LogProof {
  const prover = createProver(wanted);
  for (const [file, bytes] of Object.entries(log.files)) prover.feed({ file, bytes });
  const made = prover.finish(null);
  if (!made.ok) throw new Error(made.why);
  return made.proof;
}

async function post(by: Witness, path: string, body: string) {
  const response = await fetch(new URL(path, by.url), { method: "POST", body });
  return { status: response.status, type: response.headers.get("content-type"), body: await response.text() };
}

const submit = (by: Witness, log: RealLog, older: number) =>
  post(
    by,
    "add-checkpoint",
    checkpointRequest(proofOf(log, { kind: "older", size: older, root: null })).body,
  );

describe("boundaryctl log witness", () => {
  test("keeps the cosigned note, and goes on from it; then a cut tail is caught by it", async () => {
    const by = await witness({ now: () => 1_790_000_000 });
    hold(SHORT);
    const first = await ask(by);
    expect(first).toMatchObject({ code: 0, stderr: "" });
    expect(first.stdout).toContain("cosigned by witness.example/w1 at 2026-09-21T");
    hold(LONGER);
    const second = await ask(by, "--json");
    expect(JSON.parse(second.stdout)).toMatchObject({
      size: LONGER.lines.length - 1,
      witness: "witness.example/w1",
    });
    expect(by.seen).toEqual(["/add-checkpoint 200", "/add-checkpoint 200"]);
    expect(readFileSync(at("head.note"), "utf8").split("\n— ")).toHaveLength(3);
    const sound = await verify(by);
    expect(sound).toMatchObject({ code: 0 });
    expect(sound.stdout).toContain(`witness.example/w1 cosigned ${LONGER.lines.length - 1} records at 2026-`);
    hold(SHORT);
    const cut = await verify(by, "--json");
    expect(cut.code).toBe(1);
    expect(JSON.parse(cut.stdout)).toMatchObject({
      bad: { code: "tail-cut" },
      witness: { at: 1_790_000_000 },
    });
  });

  test("without --out the note is in the state directory, and verify-log finds it there", async () => {
    const by = await witness();
    hold(SHORT);
    const [where, state] = [
      ["--url", by.url, "--witness", by.vkey],
      ["--state-dir", at("")],
    ];
    expect((await boundaryctl(["log", "witness", at("log"), ...where, ...state])).code).toBe(0);
    expect(existsSync(at("witness.witness.example%2Fw1"))).toBe(true);
    const args = ["verify-log", at("log"), "--key", SHORT.vkey, "--witness", by.vkey, ...state];
    expect((await boundaryctl(args)).code).toBe(0);
  });

  test("over a Unix socket, and below a path", async () => {
    const by = await witness({ socket: at("s") });
    hold(SHORT);
    expect((await ask(by)).code).toBe(0);
    const below = await witness({ file: at("second.json") });
    expect((await ask({ ...below, url: `${below.url}some/where/` })).code).toBe(0);
    expect(below.seen.at(-1)).toBe("/some/where/add-checkpoint 200");
  });

  test("what it kept is lost, or old: the witness says from where to prove", async () => {
    const by = await witness();
    hold(SHORT);
    expect((await ask(by)).code).toBe(0);
    rmSync(at("head.note"));
    hold(LONGER);
    expect((await ask(by)).code).toBe(0);
    expect(by.seen.slice(1)).toEqual(["/add-checkpoint 409", "/add-checkpoint 200"]);
  });

  test("the keys have moved on: it gives the certificates the witness lacks, and no others twice", async () => {
    const by = await witness();
    hold(LONGER);
    expect((await ask(by)).code).toBe(0);
    hold(LATER);
    expect((await ask(by)).code).toBe(0);
    const introduced = ["/add-key-certificate 409", "/add-key-certificate 200", "/add-key-certificate 200"];
    expect(by.seen.slice(1)).toEqual(["/add-checkpoint 403", ...introduced, "/add-checkpoint 200"]);
    expect(by.latest(ORIGIN).size).toBe(LATER.lines.length - 1);
    // verify-log of this branch knows one key: what the witness cosigned is checked by hand here
    expect(readFileSync(at("head.note"), "utf8")).toContain(LATER.notes.at(-1));
  });

  test.each([
    ["its past is another one", OTHER_PAST],
    ["it was cut", SHORT],
  ])("refused, 1, and the note stays: %s", async (_what, now) => {
    const by = await witness();
    hold(LONGER);
    await ask(by);
    const kept = readFileSync(at("head.note"), "utf8");
    hold(now);
    const ran = await ask(by);
    expect(ran).toMatchObject({ code: 1, stdout: "" });
    expect(ran.stderr).toContain("code: witness-refused");
    expect(readFileSync(at("head.note"), "utf8")).toBe(kept);
    expect(by.latest(ORIGIN).size).toBe(LONGER.lines.length - 1);
  });

  test("another tree of the same size, a log it does not know, a key it does not learn", async () => {
    const by = await witness();
    hold(await realLog([[3, 3]]));
    await ask(by);
    rmSync(at("head.note"));
    hold(await realLog([[2, 4]]));
    expect((await ask(by)).stderr).toContain("it has cosigned another tree of 8 records");
    const stranger = await witness({ genesis: [], file: at("b.json") });
    expect((await ask(stranger)).stderr).toContain("it does not know this log");
    const standard = await witness({ file: at("c.json"), standard: true });
    hold(LATER);
    expect((await ask(standard)).stderr).toContain("takes no certificates");
  });

  test("an answer that is none: another witness's cosignature, of another text, garbage, none at all", async () => {
    hold(SHORT);
    const by = await witness();
    const other = await witness({ name: "witness.example/w2", file: at("b.json") });
    const right = await submit(other, SHORT, 0);
    const bodies = [right.body, "", "— witness.example/w1 AAAA\n", "\u0000", right.body.replace("w2", "w1")];
    for (const body of bodies) {
      const ran = await ask({ ...by, url: await server(body) });
      expect(ran).toMatchObject({ code: 1, stdout: "" });
      expect(ran.stderr).toContain("code: witness-refused");
      expect(existsSync(at("head.note"))).toBe(false);
    }
  });

  test("one that names another size for ever, and one that is not there", async () => {
    hold(SHORT);
    const by = await witness();
    let size = 0;
    const url = await server(() => `${1 + (size++ % 2)}\n`, 409);
    const ran = await ask({ ...by, url });
    expect(ran.stderr).toContain("named another size 4 times");
    expect(size).toBe(4);
    const gone = await ask({ ...by, url: "http://127.0.0.1:1/" });
    expect(gone).toMatchObject({ code: 1, stdout: "" });
    expect(gone.stderr).toContain("code: witness-unreachable");
  });
});

/** A certificate for 127.0.0.1 that nobody vouches for; cert.pem. */
function selfSigned(): { readonly key: Buffer; readonly cert: Buffer } {
  const [key, cert] = [at("key.pem"), at("cert.pem")];
  const subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"];
  const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
  execFileSync("openssl", ["req", "-x509", ...kind, ...subject, "-keyout", key, "-out", cert], {
    stdio: "ignore",
  });
  return { key: readFileSync(key), cert: readFileSync(cert) };
}

/** An HTTP server that answers everything with one text. */
async function server(body: string | (() => string), status = 200): Promise<string> {
  const made = createServer((_request, response) => {
    response.writeHead(status).end(typeof body === "string" ? body : body());
  });
  servers.push(made);
  await new Promise<void>((resolve) => made.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${(made.address() as AddressInfo).port}`;
}

describe("the connection", () => {
  const request = { path: "/add-checkpoint", body: "x" } as const;

  test("an answer too long, too late, cut off, or a redirect, is none", async () => {
    const long = parseWitnessUrl(await server("x".repeat(200_000)));
    expect(await codeOf(() => sendToWitness(long, request))).toBe("witness-unreachable");
    const silent = createServer(() => undefined);
    const cutting = createServer((_, response) =>
      response.writeHead(200, { "content-length": "9" }).write("x", () => response.destroy()),
    );
    servers.push(silent, cutting);
    for (const each of [silent, cutting]) {
      await new Promise<void>((resolve) => each.listen(0, "127.0.0.1", resolve));
      const place = parseWitnessUrl(`http://127.0.0.1:${(each.address() as AddressInfo).port}`);
      expect(await codeOf(() => sendToWitness(place, request, 300))).toBe("witness-unreachable");
    }
    const moved = createServer((_, response) => response.writeHead(302, { location: "/elsewhere" }).end());
    servers.push(moved);
    await new Promise<void>((resolve) => moved.listen(0, "127.0.0.1", resolve));
    const place = parseWitnessUrl(`http://127.0.0.1:${(moved.address() as AddressInfo).port}`);
    expect(await sendToWitness(place, request)).toMatchObject({ status: 302 });
  });

  test.skipIf(!isOnHost("openssl"))(
    "over https the certificate has to be good, whatever the environment says (needs openssl)",
    async () => {
      hold(SHORT);
      const by = await witness();
      const certificate = selfSigned();
      const made = createSecureServer(certificate, (_request, response) => void response.end("none"));
      servers.push(made);
      await new Promise<void>((resolve) => made.listen(0, "127.0.0.1", resolve));
      const url = `https://127.0.0.1:${(made.address() as AddressInfo).port}`;
      const args = ["log", "witness", at("log"), "--url", url, "--witness", by.vkey, "--out", at("n")];
      const careless = { NODE_TLS_REJECT_UNAUTHORIZED: "0" };
      for (const env of [{}, careless]) {
        const ran = await boundaryctl(args, env);
        expect(ran.stderr).toContain("code: witness-unreachable");
        expect(ran.stderr).toContain("self-signed certificate");
      }
      const trusting = await boundaryctl(args, { NODE_EXTRA_CA_CERTS: at("cert.pem") });
      expect(trusting.stderr).toContain("code: witness-refused"); // it was reached, and its answer read
    },
  );

  test.each([
    ["https://witness.example/a/b/", { kind: "https", host: "witness.example", port: 443, base: "/a/b" }],
    ["http://localhost:8080", { kind: "http", host: "127.0.0.1", port: 8080, base: "" }],
    ["http://[::1]:81/x", { kind: "http", host: "::1", port: 81, base: "/x" }],
    ["unix:/run/w.sock", { kind: "unix", socket: "/run/w.sock", base: "" }],
  ])("%s", (text, place) => expect(parseWitnessUrl(text)).toEqual(place));

  test.each([
    "http://witness.example/",
    "http://10.0.0.1/",
    "http://127.0.0.1.example.com/",
    "https://user:example_password@witness.example/",
    "https://witness.example/?a",
    "https://witness.example/#a",
    "ftp://127.0.0.1/",
    "unix:w.sock",
    "unix:",
    "witness.example",
    "",
  ])("%j is refused", async (text) =>
    expect(await codeOf(() => parseWitnessUrl(text))).toBe("argument-invalid"),
  );
});

test("no URL leads over plain http to another host, whatever it is", async () => {
  const hosts = fc.oneof(
    fc.domain(),
    fc.ipV4(),
    fc.ipV6().map((ip) => `[${ip}]`),
    fc.string(),
  );
  const urls = fc.oneof(
    fc.string(),
    fc.webUrl(),
    hosts.map((host) => `http://${host}/`),
  );
  await fc.assert(
    fc.asyncProperty(urls, async (url) => {
      if ((await codeOf(() => parseWitnessUrl(url))) === "argument-invalid") return;
      const place = parseWitnessUrl(url);
      if (place.kind === "http") expect(place.host).toMatch(/^(::1|127\.\d+\.\d+\.\d+)$/);
    }),
    { numRuns: 500 },
  );
});

describe("the witness for tests keeps to c2sp.org/tlog-witness", () => {
  const small = 2; // the first checkpoint's size

  test("400, 403, 404, 409 with its type, 422, and 200", async () => {
    const by = await witness();
    const good = checkpointRequest(proofOf(SHORT, { kind: "older", size: 0, root: null })).body;
    const text = renderCheckpoint({ origin: ORIGIN, size: 3, root: "ab".repeat(32) });
    const forged = `old 0\n\n${signNote(text, testSigner("not the log's"))}`;
    const stranger = `old 0\n\n${signNote(text.replace(ORIGIN, "else"), testSigner("x", "else"))}`;
    const rows: readonly (readonly [number, string])[] = [
      [400, ""],
      [400, good.replace("old 0", "old 00")],
      [400, good.replace("old 0", "older 0")],
      [400, good.replace("old 0\n", `old 0\n${`${"A".repeat(43)}=\n`.repeat(64)}`)],
      [400, good.replace("old 0", "old 99")],
      [404, stranger],
      [403, forged],
      [422, good.replace("old 0\n", `old 0\n${"A".repeat(43)}=\n`)],
      [409, good.replace("old 0", "old 3")],
      [200, good],
    ];
    for (const [status, body] of rows)
      expect([status, (await post(by, "add-checkpoint", body)).status]).toEqual([status, status]);
    expect(await post(by, "add-checkpoint", good)).toEqual({
      status: 409,
      type: "text/x.tlog.size",
      body: `${SHORT.lines.length - 1}\n`,
    });
  });

  test("refuses a fork and a rollback, also after it was started again", async () => {
    const by = await witness();
    expect((await submit(by, LONGER, 0)).status).toBe(200);
    await by.stop();
    const again = await witness();
    const size = LONGER.lines.length - 1;
    expect(again.latest(ORIGIN).size).toBe(size);
    expect((await submit(again, SHORT, small)).status).toBe(409);
    expect((await submit(again, SHORT, 0)).status).toBe(409);
    expect((await submit(again, OTHER_PAST, size)).status).toBe(422);
    expect((await submit(again, FORK, size)).status).toBe(200); // no fork of what it saw: LONGER is its beginning
    expect((await submit(again, LONGER, size)).status).toBe(409);
  });

  test("requests for one log are taken in turn: of two from one size the second is told the new one", async () => {
    let waiting = 0;
    const stall = async () => {
      waiting++;
      await new Promise((resolve) => setTimeout(resolve, 50));
    };
    const by = await witness({ stall });
    await submit(by, await realLog([[1]]), 0);
    const answers = await Promise.all([submit(by, SHORT, small), submit(by, LONGER, small)]);
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200, 409]));
    const won = answers[0]?.status === 200 ? SHORT : LONGER;
    expect(by.latest(ORIGIN).size).toBe(won.lines.length - 1);
    expect(waiting).toBe(2);
  });

  test("takes a key by its certificate once, in order, from the key before, and no second successor", async () => {
    const by = await witness();
    const [first, second] = proofOf(LATER, { kind: "older", size: 0, root: null }).keys.map(
      renderCertificate,
    );
    // who had stolen the first key would certify another successor
    const rival = proofOf(await realLog([[1, 3, 2, 1], [4]]), {
      kind: "older",
      size: 0,
      root: null,
    }).keys.map(renderCertificate)[0];
    const give = async (body = "") => (await post(by, "add-key-certificate", body)).status;
    expect(await give(second)).toBe(409);
    expect(await give("nonsense")).toBe(400);
    expect(await give(first?.replace('"size":', '"size":1'))).toBe(400);
    expect(await give(first)).toBe(200);
    expect(await give(first)).toBe(200);
    expect(await give(rival)).toBe(422);
    expect(await give(second)).toBe(200);
    await by.stop();
    const again = await witness();
    expect((await submit(again, LATER, 0)).status).toBe(200);
    expect((await submit(again, FORK, 0)).status).toBe(403); // the old key's time is over
  });
});

describe("verify-log --witness", () => {
  test("a note counts only with that witness's good cosignature", async () => {
    const by = await witness();
    const other = await witness({ name: "witness.example/w2", file: at("b.json") });
    hold(SHORT);
    await ask(by);
    const note = readFileSync(at("head.note"), "utf8");
    const wrongs = [
      SHORT.notes.at(-1) ?? "",
      note.replace(/.{9}\n$/, "AAAAAAAA=\n"),
      `${SHORT.lines.length} x`,
    ];
    expect((await verify(by)).code).toBe(0);
    expect((await verify(other)).code).toBe(2);
    for (const wrong of wrongs) {
      writeFileSync(at("head.note"), wrong);
      const ran = await verify(by);
      expect(ran).toMatchObject({ code: 2, stdout: "" });
      expect(ran.stderr).toContain("code: head-invalid");
    }
    writeFileSync(at("head.note"), "5 ".concat("ab".repeat(32)));
    expect((await verify(by)).stderr).toContain("bear no cosignature");
  });
});
