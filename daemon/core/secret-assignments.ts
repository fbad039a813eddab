import type { Found } from "./secret-shapes.ts";

/** Secrets that are known by what stands before them: a name and "=", a header, an option, a URL's user. */

/** Words that name a secret, each with the kind that is told instead. Without blanks: "private key: ENOENT" is a message. */
const NAMES: readonly (readonly [kind: string, words: string])[] = [
  ["passphrase", "pass[_-]?phrase|mnemonic|seed[_ -]?phrase|recovery[_ -]?(?:code|phrase|key)"],
  ["password", "passw(?:or)?d|passwort|passcode|pwd|(?<![A-Za-z])pass(?![a-z])"],
  ["authorization", "authorization"],
  ["cookie", "cookie"],
  [
    "key",
    "(?:api|access|secret)[_. -]?key|(?:auth|private|encryption|signing|master|session|account|shared|storage|license|wrapping)[_.-]?key|pre[_-]?shared[_-]?key|psk",
  ],
  [
    "secret",
    "secret|cred(?:ential)?s?(?![a-z])|(?<![a-z])sig(?![a-z])|x-amz-signature|(?<![a-z0-9])_auth(?![a-z])",
  ],
  ["token", "token|jwt|(?<![a-z])t?otp(?![a-z])"],
];
const NAME = NAMES.map(([, words]) => `(${words})`).join("|");
const REST_OF_NAME = "([A-Za-z0-9_.\\-]{0,40})";
// looks ahead before it looks back: else a text that is made for it takes a hundred times as long
const HEAD = new RegExp(
  `(?:${NAME})${REST_OF_NAME}(?:[\\s"'\`\\\\\\])]{0,96}(?:=>|<-|->|[:=]{1,3})\\s{0,8}|(?=\\s)(?<=--[A-Za-z0-9_.\\-]{1,80})\\s{1,8})`,
  "gi",
);
const WHOLE_NAME = new RegExp(`(?:${NAME})${REST_OF_NAME}$`, "i");

/** For a quick look: what may follow where one of NAME_BEGINNINGS stands. */
export const ASSIGNMENT_HINT = `(?:${NAME})[\\w.\\-]{0,40}(?:[\\s"'\`\\])]{0,12}(?:[:=]|<-|->)|(?=[\\s"]|$)(?<=--?[\\w.\\-]{1,80}))`;
export const NAME_BEGINNINGS =
  "pass mnem seed reco pwd auth cook api acce secr priv encr sign mast sess acco shar stor lice wrap pre psk cred sig x-am _aut toke jwt otp totp".split(
    " ",
  );

/** The rest of a name that makes it one of something else: tokenDigest, secret_id, --password-file, token.ts. */
const HARMLESS =
  "digest|hash|ids?|names?|kinds?|types?|class(?:es)?|count|length|age|files?|paths?|dir|expir[a-z]*|policy|roles?|scopes?|uses|stdin|env|at|by|ref|fingerprint|sha[0-9]*|limit|bytes|ms|url|uri|version|alg";
const HARMLESS_REST = new RegExp(
  `(?:^|[_.-])(?:${HARMLESS}|(?:[cm]?[jt]s|md|py|json|ya?ml|txt|rs|go|sh|conf|toml))$`,
  "i",
);
const HARMLESS_CAMEL = new RegExp(
  `(?:${HARMLESS.replace(/(^|\|)([a-z])/g, (_, bar: string, first: string) => bar + first.toUpperCase())})$`,
);
const WHOLE_LINE: ReadonlySet<string> = new Set(["authorization", "cookie", "passphrase"]);
/** After one of these the secret is the next word. */
const SCHEME = /^(?:bearer|basic|digest|negotiate|token|apikey)$/i;

/** The kind of secret that a field of this name holds; null when it is no such name. */
export function secretNamed(name: string): string | null {
  const hit = WHOLE_NAME.exec(name);
  return hit === null ? null : kindOf(hit);
}

/** Every secret that is given to a name: password=…, "token": "…", --api-key …, Authorization: … */
export function findAssigned(text: string): readonly Found[] {
  const found: Found[] = [];
  HEAD.lastIndex = 0;
  for (let hit = HEAD.exec(text); hit !== null; hit = HEAD.exec(text)) {
    const kind = kindOf(hit);
    if (kind === null) continue;
    const start = hit.index + hit[0].length;
    if (/^PWD$/.test(hit[0].slice(0, 3)) && text[start] === "/") continue; // the working directory
    const value = valueAt(text, start, WHOLE_LINE.has(kind) ? "line" : "word");
    if (value.end > value.start) found.push({ ...value, kind });
    HEAD.lastIndex = Math.max(HEAD.lastIndex, value.end);
  }
  return found;
}

function kindOf(hit: RegExpExecArray): string | null {
  const rest = hit[NAMES.length + 1] ?? "";
  if (HARMLESS_REST.test(rest) || HARMLESS_CAMEL.test(rest)) return null;
  return NAMES.find((_, index) => hit[index + 1] !== undefined)?.[0] ?? null;
}

type Span = { readonly start: number; readonly end: number };

function valueAt(text: string, start: number, extent: "line" | "word"): Span {
  const opener = /\\{0,96}["'`]/y;
  opener.lastIndex = start;
  const quote = opener.exec(text)?.[0];
  if (quote !== undefined) return quotedAt(text, start + quote.length, quote);
  const bracket = text[start] ?? "";
  const inside = "[{(".includes(bracket) && bracket !== "" ? closingAt(text, start) : start;
  return { start, end: extent === "line" ? lineEnd(text, inside) : wordsEnd(text, inside) };
}

/** Up to the quote of the same depth of escaping; what is joined on without a blank belongs to it, as in a shell. */
function quotedAt(text: string, start: number, opener: string): Span {
  const quote = opener.at(-1) ?? '"';
  const depth = opener.length - 1;
  let end = text.indexOf(quote, start);
  while (end !== -1 && !closes(text, start, end, depth)) end = text.indexOf(quote, end + 1);
  if (end === -1) return { start, end: text.length };
  const after = text.slice(end + 1, end + 2);
  if (after === "" || /[\s,;&})\]\\]/.test(after))
    return { start, end: end - escapesBefore(text, start, end, depth) };
  return { start, end: wordEnd(text, end) };
}

function closes(text: string, start: number, quote: number, depth: number): boolean {
  const backslashes = escapesBefore(text, start, quote, Number.POSITIVE_INFINITY);
  return depth === 0 ? backslashes % 2 === 0 : backslashes <= depth;
}

function escapesBefore(text: string, start: number, end: number, most: number): number {
  let count = 0;
  while (count < most && end - count > start && text[end - count - 1] === "\\") count++;
  return count;
}

function closingAt(text: string, start: number): number {
  const opens = text[start];
  const shuts = opens === "[" ? "]" : opens === "{" ? "}" : ")";
  let depth = 0;
  for (let at = start; at < text.length; at++) {
    if (text[at] === opens) depth++;
    else if (text[at] === shuts && --depth === 0) return at;
  }
  return text.length;
}

function wordsEnd(text: string, start: number): number {
  const end = wordEnd(text, start);
  if (!SCHEME.test(text.slice(start, Math.min(end, start + 16)))) return end;
  const next = /[ \t]{0,8}/y;
  next.lastIndex = end;
  return wordEnd(text, end + (next.exec(text)?.[0].length ?? 0));
}

function wordEnd(text: string, start: number): number {
  let end = start;
  while (end < text.length && !" \t\n".includes(text[end] ?? "")) end++;
  return end;
}

function lineEnd(text: string, start: number): number {
  const end = text.indexOf("\n", start);
  return end === -1 ? text.length : end;
}

const BEARER = /\bbearer[\s:]{1,8}([A-Za-z0-9._~+/=\-\v]{6,})/dgi;
const BASIC = /\bbasic\s{1,8}([A-Za-z0-9+/_-]{4,}={0,2})/dgi;
/** A port is no password: the rest of that URL may hold an "@" of its own. */
const URL_USER = /:\/\/[^\s/:@"'<>]{0,256}:(?!\d{1,5}[/?#])([^\s"'<>]{1,256})@/dg;
const URL_TOKEN = /:\/\/([^\s/:@"'<>]{20,256})@/dg;
const NAMELESS_KEY =
  /(?<![A-Za-z0-9_-])key["'`\\\s]{0,8}[:=]{1,2}["'`\\\s]{0,8}((?:0x)?[0-9a-f]{32,}|[A-Za-z0-9+/]{43}=)/dgi;
const JWK_PART = /["']d["']\s{0,4}:\s{0,4}["']([A-Za-z0-9_-]{16,})/dg;

export const CREDENTIAL_HINT =
  "bearer[\\s:]|basic\\s|://[^\\s]{1,512}@|key[\"'`\\s]{0,8}[:=]{1,2}[\"'`\\s]{0,8}(?:(?:0x)?[0-9a-f]{32}|[a-z0-9+/]{43}=)|['\"]d['\"]\\s{0,4}:";
export const CREDENTIAL_BEGINNINGS = ["bear", "basi", "://", "key", '"d"', "'d'"];

/** Credentials in a scheme, a URL, or after a bare "key". */
export function findCredentials(text: string): readonly Found[] {
  return [
    ...groupsOf(text, BEARER, "bearer", (token) => token.length >= 16 || /[0-9]/.test(token)),
    ...groupsOf(text, BASIC, "basic", (token) => Buffer.from(token, "base64").includes(":")),
    ...groupsOf(text, URL_USER, "url-password", () => true),
    ...groupsOf(text, URL_TOKEN, "url-user", () => true),
    ...groupsOf(text, NAMELESS_KEY, "key", () => true),
    ...groupsOf(text, JWK_PART, "private-key", () => true),
  ];
}

/** True for a value that is a key when the field is called `key`: hex or base64 of 16 bytes and more, never a vkey. */
export function isBareKey(value: string): boolean {
  return /^(?:(?:0x)?[0-9a-f]{32,}|[A-Za-z0-9+/]{43}=)$/i.test(value);
}

function groupsOf(
  text: string,
  pattern: RegExp,
  kind: string,
  accept: (secret: string) => boolean,
): readonly Found[] {
  return [...text.matchAll(pattern)].flatMap((hit) => {
    const [start, end] = hit.indices?.[1] ?? [0, 0];
    return accept(text.slice(start, end)) ? [{ start, end, kind }] : [];
  });
}
