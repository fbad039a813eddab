import fc from "fast-check";
import { noise, pem, whole } from "./planted-credentials.ts";

/** Secrets for property tests: `text` is how it is given, `secret` is what nothing that is kept may contain. */
export type Secret = { readonly text: string; readonly secret: string };

const random = (length: number): fc.Arbitrary<string> => fc.nat().map((salt) => noise(length, String(salt)));
const prefixed = (prefix: string, length: number): fc.Arbitrary<Secret> =>
  random(length).map((tail) => ({ text: prefix + tail, secret: prefix + tail }));

/** With a form of their own. "¦" is for the commit scan, which this file has to pass. */
export const SHAPED: fc.Arbitrary<Secret> = fc.oneof(
  ...[whole("gh¦p_"), whole("gh¦s_"), whole("github_¦pat_"), whole("npm¦_"), whole("hf¦_")].map((prefix) =>
    prefixed(prefix, 36),
  ),
  ...[whole("glp¦at-"), whole("xox¦b-"), whole("sk_¦live_"), whole("GOCS¦PX-"), whole("ya2¦9.")].map(
    (prefix) => prefixed(prefix, 26),
  ),
  ...[whole("sk-¦ant-api03-"), whole("sk-¦proj-"), whole("AI¦za")].map((prefix) => prefixed(prefix, 40)),
  prefixed(whole("bd¦_"), 43),
  fc
    .uint8Array({ minLength: 32, maxLength: 32 })
    .map((bytes) => `bd_${Buffer.from(bytes).toString("hex")}`)
    .map((secret) => ({ text: secret, secret })),
  random(80).map((tail) => {
    const secret = `${Buffer.from('{"alg":"none"}').toString("base64url")}.${tail.slice(0, 30)}.${tail.slice(30)}`;
    return { text: secret, secret };
  }),
);

/** Names of fields that hold secrets. */
export const NAMED: fc.Arbitrary<string> = fc.constantFrom(
  "password",
  "db_password",
  "PASSWD",
  "clientSecret",
  "accessToken",
  "api_key",
  "apiKey",
  "psk",
  "Authorization",
  "passphrase",
  "SECRET_KEY_BASE",
  "session-token",
  "private_key",
);

const assigned: fc.Arbitrary<Secret> = fc
  .tuple(NAMED, fc.constantFrom("=", ": ", " = ", '": "', "' => '", ":="), random(14))
  .map(([name, sign, secret]) => {
    const quote = /["']$/.exec(sign)?.[0] ?? "";
    return { text: `${quote}${name}${sign}${secret}${quote}`, secret };
  });

const armoured: fc.Arbitrary<Secret> = fc
  .tuple(fc.constantFrom("", "RSA ", "EC ", "OPENSSH "), fc.constantFrom("\n", "\\n", "\r\n"), fc.boolean())
  .map(([kind, breaks, cut]) => {
    const text = pem(kind);
    const whole = cut ? text : `${text}-----END ${kind}PRIVATE KEY-----`;
    return { text: whole.replaceAll("\n", breaks), secret: text.split("\n")[1] ?? "" };
  });

/** Every sort there is. */
export const SECRETS: fc.Arbitrary<Secret> = fc.oneof(
  { arbitrary: SHAPED, weight: 3 },
  { arbitrary: assigned, weight: 3 },
  armoured,
  random(16).map((secret) => ({ text: `postgres://app:${secret}@db.example/x`, secret })),
  random(30).map((secret) => ({ text: `Authorization: Bearer ${secret}`, secret })),
  random(30).map((secret) => ({ text: `Bearer ${secret}`, secret })),
  random(12)
    .map((password) => Buffer.from(`user:${password}`).toString("base64"))
    .map((secret) => ({ text: `Basic ${secret}`, secret })),
  random(15).map((secret) => ({ text: `--password ${secret}`, secret })),
);
