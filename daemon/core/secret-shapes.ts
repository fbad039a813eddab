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

const HEX = "0-9a-f";
const ALPHANUMERIC = "A-Za-z0-9";

const SHAPES: readonly Shape[] = [
  { kind: "boundary-token", prefixes: ["bd_"], body: WORD, least: 20, accept: isRandomToken },
  { kind: "jwt", prefixes: ["eyJ"], body: `${WORD}.=`, least: 15 },
  // clouds
  { kind: "aws-key", prefixes: ["AKIA", "ASIA", "ABIA", "ACCA"], body: "A-Z0-9", least: 12 },
  { kind: "aws-bedrock-key", prefixes: ["ABSK", "bedrock-api-key-"], body: BASE64, least: 40 },
  { kind: "gcp-key", prefixes: ["AIza", "ya29.", "GOCSPX-"], body: WORD, least: 16 },
  { kind: "alibaba-key", prefixes: ["LTAI"], body: ALPHANUMERIC, least: 16, accept: isRandomToken },
  { kind: "yandex-key", prefixes: ["AQVN"], body: WORD, least: 30 },
  { kind: "digitalocean-token", prefixes: ["dop_v1_", "doo_v1_", "dor_v1_"], body: HEX, least: 16 },
  { kind: "heroku-key", prefixes: ["HRKU-"], body: WORD, least: 16 },
  { kind: "fly-token", prefixes: ["fo1_", "fm1a_", "fm1r_", "fm2_"], body: `${WORD}+/=,`, least: 30 },
  { kind: "cloudflare-key", prefixes: ["v1.0-"], body: "0-9a-f\\-", least: 100 },
  { kind: "vercel-token", prefixes: ["vcp_", "vca_", "vck_"], body: WORD, least: 40 },
  { kind: "netlify-token", prefixes: ["nfp_"], body: WORD, least: 36 },
  { kind: "supabase-key", prefixes: ["sbp_", "sb_secret_"], body: WORD, least: 22, accept: isRandomToken },
  {
    kind: "planetscale-key",
    prefixes: ["pscale_tkn_", "pscale_pw_", "pscale_oauth_"],
    body: `${WORD}.`,
    least: 16,
  },
  { kind: "databricks-token", prefixes: ["dapi"], body: HEX, least: 32 },
  // code and its registries
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
      "glffct-",
      "glimt-",
      "glwt-",
      "glagent-",
      "GR1348941",
    ],
    body: `${WORD}.`,
    least: 16,
  },
  {
    kind: "atlassian-token",
    prefixes: ["ATATT3", "ATCTT3", "ATBB"],
    body: `${WORD}=`,
    least: 16,
    accept: isRandomToken,
  },
  { kind: "circleci-token", prefixes: ["CCIPAT_", "CCIPRJ_"], body: WORD, least: 20 },
  { kind: "buildkite-token", prefixes: ["bkua_", "bkct_", "bkpat_"], body: WORD, least: 30 },
  {
    kind: "registry-token",
    prefixes: ["npm_", "pypi-AgE", "dckr_pat_", "dckr_oat_", "rubygems_", "hf_", "CLOJARS_"],
    body: WORD,
    least: 16,
    accept: isRandomToken,
  },
  { kind: "nuget-key", prefixes: ["oy2"], body: "a-z0-9", least: 43 },
  { kind: "crates-token", prefixes: ["cio"], body: ALPHANUMERIC, least: 32, accept: isMixedCase },
  { kind: "jfrog-key", prefixes: ["AKCp", "cmVmdGtuO"], body: ALPHANUMERIC, least: 50 },
  // people's tools
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
    kind: "discord-webhook",
    prefixes: ["discord.com/api/webhooks/", "discordapp.com/api/webhooks/"],
    body: `${WORD}/`,
    least: 20,
  },
  { kind: "teams-webhook", prefixes: ["webhook.office.com/webhookb2/"], body: `${WORD}/@`, least: 20 },
  { kind: "linear-key", prefixes: ["lin_api_", "lin_oauth_"], body: WORD, least: 16 },
  { kind: "notion-token", prefixes: ["ntn_"], body: WORD, least: 40 },
  { kind: "figma-token", prefixes: ["figd_"], body: WORD, least: 30 },
  { kind: "postman-key", prefixes: ["PMAK-"], body: WORD, least: 30 },
  { kind: "readme-key", prefixes: ["rdme_"], body: WORD, least: 40 },
  { kind: "contentful-token", prefixes: ["CFPAT-"], body: WORD, least: 30 },
  { kind: "frameio-token", prefixes: ["fio-u-"], body: `${WORD}=`, least: 40 },
  { kind: "typeform-token", prefixes: ["tfp_"], body: `${WORD}.=`, least: 40 },
  { kind: "adobe-secret", prefixes: ["p8e-"], body: WORD, least: 32 },
  // money
  {
    kind: "stripe-key",
    prefixes: ["sk_live_", "rk_live_", "sk_test_", "rk_test_", "whsec_"],
    body: WORD,
    least: 10,
  },
  { kind: "square-token", prefixes: ["sq0atp-", "sq0csp-"], body: WORD, least: 20 },
  { kind: "shopify-token", prefixes: ["shpat_", "shpss_", "shpca_", "shppa_"], body: WORD, least: 16 },
  {
    kind: "plaid-token",
    prefixes: ["access-sandbox-", "access-development-", "access-production-"],
    body: "0-9a-f\\-",
    least: 30,
  },
  { kind: "paddle-key", prefixes: ["pdl_live_", "pdl_sdbx_"], body: WORD, least: 20 },
  { kind: "flutterwave-key", prefixes: ["FLWSECK-", "FLWSECK_TEST-"], body: WORD, least: 12 },
  { kind: "easypost-key", prefixes: ["EZAK", "EZTK"], body: ALPHANUMERIC, least: 50 },
  { kind: "shippo-token", prefixes: ["shippo_live_", "shippo_test_"], body: HEX, least: 30 },
  { kind: "duffel-token", prefixes: ["duffel_live_", "duffel_test_"], body: `${WORD}=`, least: 40 },
  // mail
  { kind: "sendgrid-key", prefixes: ["SG."], body: `${WORD}.`, least: 16 },
  { kind: "brevo-key", prefixes: ["xkeysib-", "xsmtpsib-"], body: WORD, least: 40 },
  { kind: "mailersend-token", prefixes: ["mlsn."], body: HEX, least: 60 },
  // models
  {
    kind: "llm-key",
    prefixes: [
      "sk-ant-",
      "sk-proj-",
      "sk-svcacct-",
      "sk-admin-",
      "sk-or-",
      "xai-",
      "gsk_",
      "nvapi-",
      "pplx-",
      "tgp_v1_",
    ],
    body: WORD,
    least: 16,
  },
  { kind: "llm-key", prefixes: ["sk-"], body: ALPHANUMERIC, least: 20, accept: isMixedCase },
  { kind: "replicate-token", prefixes: ["r8_"], body: ALPHANUMERIC, least: 36, accept: isMixedCase },
  { kind: "langsmith-key", prefixes: ["lsv2_pt_", "lsv2_sk_"], body: WORD, least: 30 },
  // watching and running
  { kind: "sentry-token", prefixes: ["sntrys_", "sntryu_"], body: BASE64, least: 40 },
  { kind: "grafana-token", prefixes: ["glc_", "glsa_"], body: BASE64, least: 30 },
  { kind: "newrelic-key", prefixes: ["NRAK-", "NRII-", "NRSP-"], body: WORD, least: 16 },
  { kind: "dynatrace-token", prefixes: ["dt0c01.", "dt0s01.", "dt0s02."], body: `${WORD}.`, least: 24 },
  { kind: "posthog-key", prefixes: ["phx_"], body: WORD, least: 40 },
  {
    kind: "doppler-token",
    prefixes: ["dp.pt.", "dp.st.", "dp.ct.", "dp.sa.", "dp.scim."],
    body: `${WORD}.`,
    least: 30,
  },
  { kind: "pulumi-token", prefixes: ["pul-"], body: HEX, least: 40 },
  { kind: "prefect-key", prefixes: ["pnu_", "pnb_"], body: ALPHANUMERIC, least: 36 },
  { kind: "infracost-key", prefixes: ["ico-"], body: ALPHANUMERIC, least: 32, accept: isMixedCase },
  { kind: "terraform-token", prefixes: [".atlasv1."], body: WORD, least: 40 },
  { kind: "vault-token", prefixes: ["hvs.", "hvb.", "hvr."], body: `${WORD}.`, least: 16 },
  { kind: "tailscale-key", prefixes: ["tskey-"], body: WORD, least: 16 },
  { kind: "onepassword-token", prefixes: ["ops_eyJ"], body: BASE64, least: 60 },
  // keys
  { kind: "age-key", prefixes: ["AGE-SECRET-KEY-1"], body: "0-9A-Z", least: 16 },
  { kind: "note-key", prefixes: ["PRIVATE+KEY+"], body: "!-~", least: 8 },
  // base64 of what every such file begins with: OpenSSH's magic, PKCS #8 with Ed25519, RSA and P-256, PKCS #1, "-----BEGIN"
  {
    kind: "private-key",
    prefixes: [
      "b3BlbnNzaC1rZXktdjE",
      "MC4CAQAwBQYDK2Vw",
      "MIIEvQIBADANBgkqhkiG9w0B",
      "MIIEvgIBADANBgkqhkiG9w0B",
      "MIIJQwIBADANBgkqhkiG9w0B",
      "MIIEowIBAAKCAQEA",
      "MIIEpAIBAAKCAQEA",
      "MIGHAgEAMBMGByqGSM49",
      "LS0tLS1CRUdJTi",
    ],
    body: BASE64,
    least: 16,
  },
  {
    kind: "password-hash",
    prefixes: ["$2a$", "$2b$", "$2y$", "$5$", "$6$", "$y$", "$argon2"],
    // crypt(5): salts, hashes and parameters ("rounds=5000", "m=65536,t=3,p=4")
    body: "A-Za-z0-9./$=,+\\-",
    least: 16,
  },
];

/** How many forms of secrets are known. */
export const SHAPE_COUNT = SHAPES.length;

/** For a quick look: how every shape begins. */
export const SHAPE_BEGINNINGS = SHAPES.flatMap(({ prefixes }) => prefixes);
export const SHAPE_HINT = SHAPE_BEGINNINGS.map(literally).join("|");

const HINT = new RegExp(SHAPE_HINT);
const BREAKS = new RegExp(`[${BREAK}]`, "g");
/** By which shapes they look for: there are few of them at a time, and one for all takes longer to make than to use. */
const searches = new Map<string, Search>();
const MAX_SEARCHES = 256;

type Search = { readonly shapes: readonly Shape[]; readonly expression: RegExp };

/** Every secret with a form of its own in a text that core/plain-text.ts has made plain. */
export function findShapes(text: string): readonly Found[] {
  const dense = text.replace(BREAKS, "");
  // in most texts nothing begins as a shape does, and a hundred times as fast as to look for all of it
  if (!HINT.test(dense)) return [];
  const { shapes, expression } = searchFor(dense);
  const found: Found[] = [];
  for (const hit of text.matchAll(expression)) {
    const shape = shapes[hit.slice(1).findIndex((group) => group !== undefined)];
    if (shape === undefined || shape.accept?.(hit[0].replace(BREAKS, "")) === false) continue;
    found.push({ start: hit.index, end: hit.index + hit[0].length, kind: shape.kind });
  }
  return found;
}

/** All shapes that can be in a text, in one expression: the group that took part says which it was. */
function searchFor(dense: string): Search {
  const shapes = SHAPES.filter(({ prefixes }) => prefixes.some((prefix) => dense.includes(prefix)));
  const key = shapes.map((shape) => SHAPES.indexOf(shape)).join();
  const known = searches.get(key);
  if (known !== undefined) return known;
  const expression = new RegExp(shapes.map((shape) => `(${sourceOf(shape)})`).join("|"), "g");
  if (searches.size >= MAX_SEARCHES) searches.clear();
  const search = { shapes, expression };
  searches.set(key, search);
  return search;
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
