/**
 * Secrets that are known by their own form, whatever stands around them. A shape fails early or takes what it saw: none
 * reads far and then gives up, so that searching is linear. Lengths are the least that is taken for a secret, lower than
 * what is issued: a cut one is one.
 *
 * The commit scanner (tests/support/credential-rules.ts) has rules of its own, on purpose: it has to let placeholders and
 * test credentials pass and to name a severity; here nothing may be missed and a false alarm costs a word of a record.
 * A test holds that whatever the scanner stops is redacted.
 */
export type Found = { readonly start: number; readonly end: number; readonly kind: string };

type Shape = {
  readonly kind: string;
  readonly prefixes: readonly string[];
  /** What follows the prefix, as the inside of a character class. */
  readonly body: string;
  readonly least: number;
  /** False: a word that only looks like one. Given without line breaks. */
  readonly accept?: (text: string) => boolean;
};

const WORD = "A-Za-z0-9_\\-";
const BASE64 = "A-Za-z0-9+/=_\\-";
/** A line break within a secret: "\n", or "\v" for one that was written as an escape (core/plain-text.ts). */
const BREAK = "\\n\\v";

const SHAPES: readonly Shape[] = [
  { kind: "boundary-token", prefixes: ["bd_"], body: WORD, least: 20, accept: isRandomToken },
  { kind: "jwt", prefixes: ["eyJ"], body: `${WORD}.=`, least: 15 },
  { kind: "aws-key", prefixes: ["AKIA", "ASIA", "ABIA", "ACCA"], body: "A-Z0-9", least: 12 },
  { kind: "gcp-key", prefixes: ["AIza", "ya29.", "GOCSPX-"], body: WORD, least: 16 },
  {
    kind: "github-token",
    prefixes: ["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"],
    body: WORD,
    least: 16,
  },
  {
    kind: "gitlab-token",
    prefixes: [
      "glpat-",
      "gldt-",
      "glrt-",
      "glptt-",
      "gloas-",
      "glcbt-",
      "glsoat-",
      "glft-",
      "glimt-",
      "glagent-",
    ],
    body: `${WORD}.`,
    least: 16,
  },
  {
    kind: "slack-token",
    prefixes: "abcdeoprs"
      .split("")
      .map((letter) => `xox${letter}-`)
      .concat("xapp-", "xoxe.xoxp-"),
    body: WORD,
    least: 10,
  },
  { kind: "slack-webhook", prefixes: ["hooks.slack.com/services/"], body: `${WORD}/`, least: 8 },
  {
    kind: "stripe-key",
    prefixes: ["sk_live_", "rk_live_", "sk_test_", "rk_test_", "whsec_"],
    body: WORD,
    least: 10,
  },
  {
    kind: "llm-key",
    prefixes: ["sk-ant-", "sk-proj-", "sk-svcacct-", "sk-or-", "xai-", "gsk_"],
    body: WORD,
    least: 16,
  },
  { kind: "llm-key", prefixes: ["sk-"], body: "A-Za-z0-9", least: 20, accept: isMixedCase },
  {
    kind: "registry-token",
    prefixes: ["npm_", "pypi-AgE", "dckr_pat_", "rubygems_", "hf_"],
    body: WORD,
    least: 16,
    accept: isRandomToken,
  },
  {
    kind: "service-token",
    prefixes: [
      "dop_v1_",
      "doo_v1_",
      "dor_v1_",
      "shpat_",
      "shpss_",
      "hvs.",
      "hvb.",
      "tskey-",
      "ATATT3",
      "lin_api_",
      "SG.",
    ],
    body: `${WORD}.`,
    least: 16,
  },
  { kind: "age-key", prefixes: ["AGE-SECRET-KEY-1"], body: "0-9A-Z", least: 16 },
  { kind: "note-key", prefixes: ["PRIVATE+KEY+"], body: "!-~", least: 8 },
  // base64 of what every such file begins with: OpenSSH's magic, PKCS #8 with Ed25519, "-----BEGIN"
  {
    kind: "private-key",
    prefixes: ["b3BlbnNzaC1rZXktdjE", "MC4CAQAwBQYDK2Vw", "LS0tLS1CRUdJTi"],
    body: BASE64,
    least: 16,
  },
  {
    kind: "password-hash",
    prefixes: ["$2a$", "$2b$", "$2y$", "$5$", "$6$", "$y$", "$argon2"],
    body: "!-~",
    least: 16,
  },
];

/** All shapes in one expression: the group that took part says which. */
const SEARCH = new RegExp(SHAPES.map((shape) => `(${sourceOf(shape)})`).join("|"), "g");

/** For a quick look: how every shape begins. */
export const SHAPE_BEGINNINGS = SHAPES.flatMap(({ prefixes }) => prefixes);
export const SHAPE_HINT = SHAPE_BEGINNINGS.map(literally).join("|");

/** Every secret with a form of its own in a text that core/plain-text.ts has made plain. */
export function findShapes(text: string): readonly Found[] {
  const found: Found[] = [];
  for (const hit of text.matchAll(SEARCH)) {
    const shape = SHAPES[hit.slice(1).findIndex((group) => group !== undefined)];
    if (shape === undefined || shape.accept?.(hit[0].replace(/[\n\v]/g, "")) === false) continue;
    found.push({ start: hit.index, end: hit.index + hit[0].length, kind: shape.kind });
  }
  return found;
}

function sourceOf({ prefixes, body, least }: Shape): string {
  const beginnings = prefixes.map((prefix) => Array.from(prefix, literally).join(`[${BREAK}]?`));
  return `(?:${beginnings.join("|")})[${body}${BREAK}]{${least},}`;
}

function literally(literal: string): string {
  return literal.replace(/[$()*+.?[\\\]^{|}]/g, "\\$&");
}

/** Long, or with what words have not: `bd_` may begin a name too. */
function isRandomToken(text: string): boolean {
  return text.length >= 35 || /[0-9]/.test(text) || /[a-z]/.test(text.slice(3)) === /[A-Z]/.test(text);
}

/** "task-" before a name is not a key. */
function isMixedCase(text: string): boolean {
  return /[0-9]/.test(text) && /[A-Z]/.test(text) && /[a-z]/.test(text.slice(3));
}
