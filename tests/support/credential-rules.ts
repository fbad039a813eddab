/**
 * What a credential looks like. critical and high block, medium has to be acknowledged, low warns (REQUIREMENTS B16).
 * Each pattern is anchored at a fixed prefix or a name and has bounded repetition, so that a scan stays linear.
 * Group 1, when there is one, is the secret itself; otherwise the whole match is.
 */
export type Severity = "critical" | "high" | "medium" | "low";

export type Rule = {
  readonly id: string;
  readonly severity: Severity;
  readonly pattern: RegExp;
  /** Looks at the secret; false drops the match. */
  readonly accept?: (secret: string) => boolean;
  /** Only for files that are no source code: there an unquoted word is a value, in code it is a name. */
  readonly notInCode?: true;
  /** Only for text: random bytes match by chance. */
  readonly textOnly?: true;
};

const SECRET_NAME = `(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|access[_-]?key|auth[_-]?key|private[_-]?key|credential|psk)[a-z0-9_]{0,20}`;
const ASSIGN = String.raw`["']?\s{0,8}(?:=>|:=|=|:)\s{0,8}`;

export const RULES: readonly Rule[] = [
  {
    id: "pem-private-key",
    severity: "critical",
    pattern: /-----BEGIN (?:[A-Z0-9]{1,20} ){0,4}PRIVATE KEY(?: BLOCK)?-----/g,
  },
  // base64 of "-----BEGIN", three alignments of what follows do not matter: the prefix alone plus a body is telling
  { id: "pem-in-base64", severity: "high", pattern: /LS0tLS1CRUdJTi[A-Za-z0-9+/]{60,}/g },
  { id: "putty-key", severity: "critical", pattern: /PuTTY-User-Key-File-[0-9]:/g },
  { id: "age-key", severity: "critical", pattern: /AGE-SECRET-KEY-1[0-9A-Z]{58}/g },
  {
    id: "note-signer-key",
    severity: "critical",
    pattern: /PRIVATE\+KEY\+[^\s+]{1,64}\+[0-9a-f]{8}\+\S{40,}/g,
  },
  {
    id: "private-jwk",
    severity: "critical",
    pattern: /"kty"\s{0,4}:\s{0,4}"(?:EC|RSA|OKP)"[^}]{0,2000}"d"\s{0,4}:\s{0,4}"([A-Za-z0-9_-]{32,})"/g,
  },
  { id: "aws-access-key", severity: "critical", pattern: /\b((?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16})\b/g },
  {
    id: "aws-secret-key",
    severity: "critical",
    pattern: /aws.{0,20}secret.{0,20}[=:]\s{0,4}["']?([A-Za-z0-9/+=]{40})(?![A-Za-z0-9/+=])/gi,
  },
  { id: "gcp-api-key", severity: "critical", pattern: /\bAIza[0-9A-Za-z_-]{35}/g },
  { id: "gcp-oauth-token", severity: "critical", pattern: /\bya29\.[0-9A-Za-z_-]{20,}/g },
  { id: "google-client-secret", severity: "critical", pattern: /\bGOCSPX-[0-9A-Za-z_-]{20,}/g },
  { id: "github-token", severity: "critical", pattern: /\bgh[pousr]_[A-Za-z0-9]{36,}/g },
  { id: "github-fine-token", severity: "critical", pattern: /\bgithub_pat_[A-Za-z0-9_]{22,}/g },
  { id: "gitlab-token", severity: "critical", pattern: /\bglpat-[A-Za-z0-9_-]{20,}/g },
  { id: "slack-token", severity: "critical", pattern: /\bxox[abeoprs]-[A-Za-z0-9-]{10,}/g },
  { id: "slack-app-token", severity: "critical", pattern: /\bxapp-[0-9]-[A-Za-z0-9-]{10,}/g },
  {
    id: "slack-webhook",
    severity: "high",
    pattern: /hooks\.slack\.com\/services\/T[A-Z0-9]{6,}\/B[A-Z0-9]{6,}\/[A-Za-z0-9]{16,}/g,
  },
  { id: "stripe-live-key", severity: "critical", pattern: /\b[sr]k_live_[A-Za-z0-9]{16,}/g },
  { id: "stripe-test-key", severity: "medium", pattern: /\b[sr]k_test_[A-Za-z0-9]{16,}/g },
  { id: "stripe-webhook-secret", severity: "high", pattern: /\bwhsec_[A-Za-z0-9]{24,}/g },
  { id: "npm-token", severity: "critical", pattern: /\bnpm_[A-Za-z0-9]{36}/g },
  {
    id: "npmrc-auth",
    severity: "critical",
    pattern: /_(?:authToken|auth|password)\s{0,4}=\s{0,4}([^\s$]{8,})/g,
  },
  { id: "llm-key", severity: "critical", pattern: /\bsk-(?:ant-|proj-)[A-Za-z0-9_-]{24,}/g },
  { id: "boundary-token", severity: "high", pattern: /\bbd_[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])/g },
  {
    id: "jwt",
    severity: "high",
    pattern: /\beyJ[A-Za-z0-9_-]{8,2000}\.eyJ[A-Za-z0-9_-]{8,4000}\.[A-Za-z0-9_-]{16,}/g,
  },
  {
    id: "oauth-client-secret",
    severity: "high",
    pattern: new RegExp(`client[_-]?secret${ASSIGN}["']?([A-Za-z0-9~._-]{16,})`, "gi"),
    accept: isMixed,
  },
  {
    id: "database-url",
    severity: "high",
    pattern:
      /\b(?:postgres(?:ql)?|mysql|mariadb|mongodb(?:\+srv)?|rediss?|amqps?|mssql|sqlserver|clickhouse|ldaps?):\/\/[^\s:@/"'`]{0,128}:([^\s:@/"'`]{1,256})@/g,
    accept: isNoPlaceholder,
  },
  {
    id: "url-password",
    severity: "medium",
    pattern: /\b(?:https?|ftps?|ssh):\/\/[^\s:@/"'`]{1,128}:([^\s:@/"'`]{3,256})@/g,
    accept: isNoPlaceholder,
  },
  {
    id: "quoted-secret",
    severity: "high",
    pattern: new RegExp(String.raw`${SECRET_NAME}${ASSIGN}(?:"([^"\s]{20,512})"|'([^'\s]{20,512})')`, "gi"),
    accept: isHighEntropy,
    textOnly: true,
  },
  {
    id: "unquoted-secret",
    severity: "high",
    pattern: new RegExp(
      String.raw`${SECRET_NAME}\s{0,8}[:=]\s{0,8}([A-Za-z0-9+/=_.~-]{20,512})(?=\s|$)`,
      "gi",
    ),
    accept: isHighEntropy,
    notInCode: true,
    textOnly: true,
  },
  {
    id: "weak-secret",
    severity: "medium",
    pattern: new RegExp(String.raw`${SECRET_NAME}${ASSIGN}(?:"([^"\s]{8,512})"|'([^'\s]{8,512})')`, "gi"),
    accept: (secret) => isMixed(secret) && !isHighEntropy(secret),
    textOnly: true,
  },
  {
    id: "password-literal",
    severity: "low",
    pattern: new RegExp(
      String.raw`passw(?:or)?d[a-z0-9_]{0,20}${ASSIGN}(?:"([^"\s]{6,512})"|'([^'\s]{6,512})')`,
      "gi",
    ),
    accept: (secret) => isNoPlaceholder(secret) && !isMixed(secret),
    textOnly: true,
  },
];

/** File names that hold credentials by custom, whatever is in them. */
export const SUSPECT_NAMES: readonly RegExp[] = [
  /(^|\/)id_(?:rsa|dsa|ecdsa|ed25519)$/,
  /\.(?:p12|pfx|jks|keystore|kdbx|ppk)$/,
  /(^|\/)\.env(?:\.[a-z]+)?$/,
];

/** Shannon entropy in bits per character. */
export function entropyBits(text: string): number {
  const counts = new Map<string, number>();
  for (const letter of text) counts.set(letter, (counts.get(letter) ?? 0) + 1);
  let bits = 0;
  for (const count of counts.values()) bits -= (count / text.length) * Math.log2(count / text.length);
  return bits;
}

function isHighEntropy(secret: string): boolean {
  // hexadecimal tops out at 4 bits: 32 random digits measure 3.5 to 3.8
  return isMixed(secret) && secret.length >= 20 && entropyBits(secret) >= 3.3;
}

function isMixed(secret: string): boolean {
  return isNoPlaceholder(secret) && /[0-9]/.test(secret) && /[A-Za-z]/.test(secret);
}

function isNoPlaceholder(secret: string): boolean {
  return !/[<>${}]|^\*+$|^\.+$|^x+$/i.test(secret);
}
