import { createHash } from "node:crypto";

/** Planted credentials are written with a "¦" in them: this file itself has to pass the scan. */
export const whole = (text: string) => text.replaceAll("¦", "");

/** Letters and digits that look random and are the same every time. */
export function noise(length: number, salt: string): string {
  let text = "";
  for (let round = 0; text.length < length; round++) {
    text += createHash("sha256").update(`${salt}${round}`).digest("base64").replace(/[+/=]/g, "");
  }
  return text.slice(0, length);
}

const upper = (length: number) =>
  noise(length * 4, "upper")
    .replace(/[^A-Z0-9]/g, "")
    .slice(0, length);
export const pem = (kind: string) => whole(`-----BEGIN ${kind}PRIVATE KEY¦-----\n${noise(64, kind)}\n`);
const base64 = (text: string) => Buffer.from(text).toString("base64url");

export const PLANTED: readonly (readonly [rule: string, what: string, content: string])[] = [
  ["pem-private-key", "a PKCS#8 PEM key", pem("")],
  ["pem-private-key", "an RSA PEM key", pem("RSA ")],
  ["pem-private-key", "an EC PEM key", pem("EC ")],
  ["pem-private-key", "an encrypted PEM key", pem("ENCRYPTED ")],
  ["pem-private-key", "an OpenSSH key", pem("OPENSSH ")],
  ["pem-private-key", "a PGP key", pem("PGP ").replace("KEY-----", "KEY BLOCK-----")],
  ["pem-in-base64", "a PEM key in base64", Buffer.from(pem("EC ")).toString("base64")],
  ["putty-key", "a PuTTY key", "PuTTY-User-Key¦-File-3: ssh-ed25519"],
  ["age-key", "an age key", `AGE-SECRET¦-KEY-1${upper(58)}`],
  ["note-signer-key", "a note signer's key", `PRIVATE+¦KEY+log+0123abcd+${noise(44, "n")}`],
  ["private-jwk", "a private JWK", `{"kty¦":"OKP","crv":"Ed25519","d":"${noise(43, "jwk")}"}`],
  ["aws-access-key", "an AWS access key", `AKIA¦${upper(16)}`],
  ["aws-secret-key", "an AWS secret key", `aws_secret¦_access_key = ${noise(40, "aws")}`],
  ["gcp-api-key", "a Google API key", `AIza¦${noise(35, "gcp")}`],
  ["gcp-oauth-token", "a Google OAuth token", `ya29.¦${noise(40, "ya")}`],
  ["google-client-secret", "a Google client secret", `GOCSPX-¦${noise(28, "gocspx")}`],
  ["github-token", "a GitHub token", `ghp_¦${noise(36, "gh")}`],
  ["github-fine-token", "a fine-grained GitHub token", `github_pat_¦${noise(60, "pat")}`],
  ["gitlab-token", "a GitLab token", `glpat-¦${noise(20, "gl")}`],
  ["slack-token", "a Slack token", `xoxb-¦${noise(30, "slack")}`],
  ["slack-app-token", "a Slack app token", `xapp-1-¦${noise(30, "app")}`],
  [
    "slack-webhook",
    "a Slack webhook",
    `https://hooks.slack.com¦/services/T${upper(8)}/B${upper(8)}/${noise(24, "w")}`,
  ],
  ["stripe-live-key", "a Stripe live key", `sk_live_¦${noise(24, "stripe")}`],
  ["stripe-test-key", "a Stripe test key", `sk_test_¦${noise(24, "stripe")}`],
  ["stripe-webhook-secret", "a Stripe webhook secret", `whsec_¦${noise(32, "wh")}`],
  ["npm-token", "an npm token", `npm_¦${noise(36, "npm")}`],
  ["npmrc-auth", "an .npmrc token", `//registry.example/:_authToken=¦${noise(36, "rc")}`],
  ["llm-key", "a model provider's key", `sk-ant-¦${noise(40, "llm")}`],
  ["boundary-token", "one of our own tokens", `bd_¦${noise(43, "bd")}`],
  [
    "jwt",
    "a signed JWT",
    `${base64('{"alg":"EdDSA","typ":"JWT"}')}.${base64('{"sub":"somebody"}')}.${noise(86, "jwt")}`,
  ],
  ["oauth-client-secret", "an OAuth client secret", `client_secret¦=${noise(24, "oauth")}`],
  ["database-url", "a PostgreSQL URL with a password", `postgres://app:${noise(12, "pg")}@db.example/app`],
  ["database-url", "a Redis URL with a password", `redis://:${noise(12, "redis")}@cache.example:6379`],
  ["database-url", "a MongoDB URL with a password", `mongodb+srv://app:${noise(9, "mongo")}@cluster.example`],
  ["url-password", "a web URL with a password", `https://me:${noise(10, "web")}@example.org/`],
  ["quoted-secret", "a random quoted password", `pass¦word: "${noise(24, "quoted")}"`],
  ["quoted-secret", "a random hexadecimal secret", `const sec¦ret = "${"3f9a1c07".repeat(4)}5be2d846"`],
  ["unquoted-secret", "a random unquoted secret", `API_TOK¦EN=${noise(32, "unquoted")}`],
  ["weak-secret", "a weak quoted password", `pass¦word = "Hunter-2-hunter"`],
];
