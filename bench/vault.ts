import { argon2Sync, createCipheriv, createDecipheriv, createHmac, randomBytes } from "node:crypto";
import nacl from "tweetnacl";
import type { Header } from "../daemon/vault/envelope.ts";
import { seal, unseal } from "../daemon/vault/envelope.ts";
import { localKek } from "../daemon/vault/kek-local.ts";
import { passphraseKek, RECOMMENDED } from "../daemon/vault/kek-passphrase.ts";
import { checkText } from "../daemon/vault/message.ts";
import { createWatchlist } from "../daemon/vault/watchlist.ts";
import type { BenchRow } from "./row.ts";

/** Sealing and opening a secret against the bare cipher, under a key that is at hand; unlocking; and a look at a message. */
const SIZES = [
  { bytes: 32, rounds: 4_000 },
  { bytes: 32_768, rounds: 400 },
];
const UNLOCKS = 5;
const MESSAGE_BYTES = 49_152;
const KNOWN = 100;
const MESSAGES = 30;
const HEADER: Header = {
  kind: "secret",
  workspace: "default",
  name: "deploy-token",
  version: 1,
  created: "2026-01-01T00:00:00.000Z",
  fingerprint: "0123456789abcdef",
};

export async function benchVault(): Promise<readonly BenchRow[]> {
  const rows: BenchRow[] = [];
  for (const size of SIZES) rows.push(...(await sealing(size)));
  return [...rows, await unlocking(), await looking()];
}

async function sealing({
  bytes,
  rounds,
}: {
  readonly bytes: number;
  readonly rounds: number;
}): Promise<readonly BenchRow[]> {
  const kek = localKek("kek-0123456789abcdef", randomBytes(32));
  const [key, plain] = [randomBytes(32), randomBytes(bytes)];
  const sealed = await seal(plain, HEADER, kek);
  if (!(await unseal(sealed, kek)).equals(plain)) throw new Error("it does not open");
  const box = bare(key, plain);
  const seals = await p50Us(rounds, () => seal(plain, HEADER, kek));
  const bareSeals = await p50Us(rounds, () => bare(key, plain));
  const unseals = await p50Us(rounds, () => unseal(sealed, kek));
  const bareOpens = await p50Us(rounds, () => open(key, box));
  const boxes = await p50Us(Math.ceil(rounds / 20), () => nacl.secretbox(plain, randomBytes(24), key));
  return [
    row(`seal ${bytes} bytes, p50`, seals, "µs", "AES-256-GCM alone", bareSeals),
    row(`seal ${bytes} bytes, p50`, seals, "µs", "tweetnacl's secretbox", boxes),
    row(`unseal ${bytes} bytes, p50`, unseals, "µs", "AES-256-GCM alone", bareOpens),
  ];
}

/** What takes the time when a passphrase is given: Argon2id, as it stands in RFC 9106's second recommendation. */
async function unlocking(): Promise<BenchRow> {
  const source = passphraseKek(RECOMMENDED);
  const { spec } = await source.create("kek-0123456789abcdef", Buffer.from("correct horse battery"));
  const ours = await p50Us(UNLOCKS, () =>
    source.open("kek-0123456789abcdef", spec, Buffer.from("correct horse battery")),
  );
  const { memoryKiB: memory, passes, parallelism } = RECOMMENDED;
  const rival = await p50Us(UNLOCKS, () =>
    argon2Sync("argon2id", {
      message: "correct horse battery",
      nonce: randomBytes(16),
      memory,
      passes,
      parallelism,
      tagLength: 32,
    }),
  );
  return row("unlock with a passphrase, p50", ours / 1_000, "ms", "Argon2id alone", rival / 1_000);
}

/** A text of the longest kind that is looked at, in words; with a hundred secrets known, against none known. */
async function looking(): Promise<BenchRow> {
  const watch = createWatchlist(createHmac("sha256", randomBytes(32)).digest());
  for (let at = 0; at < KNOWN; at++) watch.add(`secret default/${at}`, randomBytes(32));
  const words =
    randomBytes(MESSAGE_BYTES)
      .toString("hex")
      .match(/.{1,6}/g) ?? [];
  const text = words.join(" ").slice(0, MESSAGE_BYTES);
  const look = (open: readonly (typeof watch)[]) => () => {
    const seen = checkText(text, { open, sealed: [] }, MESSAGE_BYTES);
    if (seen.verdict !== "clean") throw new Error(`the text is ${seen.verdict}: ${seen.found.join()}`);
  };
  const ours = await p50Us(MESSAGES, look([watch]));
  const rival = await p50Us(MESSAGES, look([]));
  return row(
    `look for ${KNOWN} secrets in 48 KiB, p50`,
    ours / 1_000,
    "ms",
    "for shapes alone",
    rival / 1_000,
  );
}

function bare(key: Buffer, plain: Buffer): { nonce: Buffer; ciphertext: Buffer; tag: Buffer } {
  const nonce = randomBytes(12);
  const cipher = createCipheriv("aes-256-gcm", key, nonce);
  const ciphertext = Buffer.concat([cipher.update(plain), cipher.final()]);
  return { nonce, ciphertext, tag: cipher.getAuthTag() };
}

function open(key: Buffer, { nonce, ciphertext, tag }: ReturnType<typeof bare>): Buffer {
  const decipher = createDecipheriv("aes-256-gcm", key, nonce);
  decipher.setAuthTag(tag);
  return Buffer.concat([decipher.update(ciphertext), decipher.final()]);
}

async function p50Us(rounds: number, work: () => unknown): Promise<number> {
  for (let at = 0; at < Math.min(rounds, 50); at++) await work();
  const times: number[] = [];
  for (let at = 0; at < rounds; at++) {
    const start = performance.now();
    await work();
    times.push((performance.now() - start) * 1_000);
  }
  return times.toSorted((a, b) => a - b)[Math.floor(rounds / 2)] ?? 0;
}

function row(what: string, value: number, unit: string, rival: string, its: number): BenchRow {
  return { what, value: Math.round(value * 10) / 10, unit, rival, ratio: value / its, aim: "", met: null };
}
