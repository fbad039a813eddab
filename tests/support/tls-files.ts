import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

/** Paths of PEM files. */
export type KeyPair = { readonly cert: string; readonly key: string };

export type Certificates = {
  readonly ca: string;
  /** For localhost and 127.0.0.1. */
  readonly server: KeyPair;
  readonly expired: KeyPair;
  /** For other.example. */
  readonly otherName: KeyPair;
  readonly selfSigned: KeyPair;
  /** By an authority that `ca` does not name. */
  readonly otherCa: KeyPair;
  readonly client: KeyPair;
};

const HERE = "subjectAltName=DNS:localhost,IP:127.0.0.1\n";

/** Makes certificates with openssl, as an administrator would. */
export function makeCertificates(directory: string): Certificates {
  const ca = authority(directory, "ca");
  const other = authority(directory, "other-ca");
  const issue = (name: string, extension: string, days = 2, by = ca): KeyPair =>
    signed(directory, name, extension, days, by);
  return {
    ca: ca.cert,
    server: issue("server", HERE),
    expired: issue("expired", HERE, -1),
    otherName: issue("other-name", "subjectAltName=DNS:other.example\n"),
    selfSigned: authority(directory, "localhost"),
    otherCa: issue("stranger", HERE, 2, other),
    client: issue("client", "extendedKeyUsage=clientAuth\n"),
  };
}

function authority(directory: string, name: string): KeyPair {
  const made = pathsOf(directory, name);
  const args = [
    "req",
    "-x509",
    ...FRESH_KEY,
    "-days",
    "2",
    "-subj",
    `/CN=${name}`,
    "-keyout",
    made.key,
    "-out",
    made.cert,
  ];
  openssl([...args, "-addext", HERE.trim()]);
  return made;
}

function signed(directory: string, name: string, extension: string, days: number, by: KeyPair): KeyPair {
  const made = pathsOf(directory, name);
  const request = join(directory, `${name}.csr`);
  const extensions = join(directory, `${name}.ext`);
  writeFileSync(extensions, extension);
  openssl(["req", ...FRESH_KEY, "-subj", `/CN=${name}`, "-keyout", made.key, "-out", request]);
  const issuer = ["-CA", by.cert, "-CAkey", by.key, "-CAcreateserial"];
  openssl([
    "x509",
    "-req",
    "-in",
    request,
    ...issuer,
    "-days",
    String(days),
    "-extfile",
    extensions,
    "-out",
    made.cert,
  ]);
  return made;
}

const FRESH_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

function pathsOf(directory: string, name: string): KeyPair {
  return { cert: join(directory, `${name}.pem`), key: join(directory, `${name}.key`) };
}

function openssl(args: readonly string[]): void {
  const ran = spawnSync("openssl", args, { encoding: "utf8", timeout: 20_000 });
  if (ran.status !== 0) throw new Error(`openssl ${args[0] ?? ""}: ${ran.error?.message ?? ran.stderr}`);
}
