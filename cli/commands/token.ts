import type { Params, Replies } from "../../client/control.ts";
import { MODES, parseMode } from "../../daemon/core/mode.ts";
import { ROLES, type Role } from "../../daemon/core/roles.ts";
import type { NewToken, TokenView } from "../../daemon/protocol/grants.ts";
import type { Verb } from "../../daemon/protocol/messages.ts";
import { askAndShow, dataOr, withDaemon } from "../ask.ts";
import { type Common, define, defineBare, group } from "../command.ts";
import { parseLife } from "../duration.ts";
import { type ExitCode, usageError } from "../exit.ts";
import { plain, printJson, printLines, renderTable } from "../output.ts";
import { prepareTokenPlace } from "../token-file.ts";

type Making = Extract<Verb, "token.bootstrap" | "token.mint" | "token.narrow">;

/** Makes a token, and gives its text into a new file or, once, onto the terminal. */
async function make<V extends Making>(
  args: Common & { readonly out: string | undefined },
  verb: V,
  params: Params<V>,
): Promise<ExitCode> {
  if (args.out === undefined && !process.stdout.isTTY)
    throw usageError("a token is shown on a terminal alone: give --out FILE");
  const place = args.out === undefined ? null : prepareTokenPlace(args.out);
  let isKept = false;
  try {
    const found = dataOr<Replies[Making]>(
      args,
      await withDaemon(args, (client) => client.call(verb, params)),
    );
    if ("code" in found) return found.code;
    isKept = true;
    place?.put(found.data.text);
    showNew(args, found.data);
    return 0;
  } finally {
    if (!isKept) place?.drop();
  }
}

function showNew(args: Common & { readonly out: string | undefined }, { text, token }: NewToken): void {
  if (args.json) printJson(args.out === undefined ? { text, token } : { token });
  else
    printLines([
      ...renderToken(token),
      args.out === undefined ? `token      ${plain(text)}` : `token      in ${plain(args.out)}`,
      ...(args.out === undefined ? ["It is shown this once: keep it where others cannot read it."] : []),
    ]);
}

const OUT = {
  type: "string",
  requiresArg: true,
  describe: "Write the token to this new file (0600)",
} as const;
const TEXT = { type: "string", requiresArg: true } as const;

const bootstrap = define({
  usage: "bootstrap",
  describe: "Make the first admin token: once, by root or the daemon's own user",
  examples: [["boundaryctl token bootstrap --out admin.token", "then mint others with it"]],
  options: (yargs) =>
    yargs
      .option("out", OUT)
      .option("for", { ...TEXT, describe: "How long it lives: 12h, 365d (default)" })
      .option("uid", { ...TEXT, describe: "Only this user may show it" })
      .option("label", { ...TEXT, describe: "A word for people" }),
  run: (args) =>
    make(args, "token.bootstrap", {
      ...(args.for === undefined ? {} : { forMs: parseLife(args.for) }),
      ...(args.uid === undefined ? {} : { uid: wholeNumber("--uid", args.uid) }),
      ...(args.label === undefined ? {} : { label: args.label }),
    }),
});

const TERMS = {
  out: OUT,
  role: { ...TEXT, describe: `Which verbs its holder may use: ${ROLES.join(" | ")}` },
  actions: { ...TEXT, describe: "What it may ask for: recall,tool.run" },
  resources: { ...TEXT, describe: 'Of what: "memory::note-*,tool::grep"' },
  subjects: { ...TEXT, describe: 'For whom besides its principal: "Agent::build-*"' },
  "max-mode": { ...TEXT, describe: `The strictest mode it works in: ${MODES.join(" | ")}` },
  for: { ...TEXT, describe: "How long it lives: 90s, 10m, 2h, 30d" },
  uses: { ...TEXT, describe: "How often it may be used" },
  uid: { ...TEXT, describe: "Only this user may show it" },
  label: { ...TEXT, describe: "A word for people" },
} as const;

type TermsArgs = { readonly [K in Exclude<keyof typeof TERMS, "out" | "max-mode">]: string | undefined } & {
  readonly maxMode: string | undefined;
};

function termsOf(args: TermsArgs): Params<"token.narrow"> {
  const { role, actions, resources, subjects, maxMode, uses, uid, label } = args;
  return {
    ...(role === undefined ? {} : { role: roleOf(role) }),
    ...(actions === undefined ? {} : { actions: words(actions) }),
    ...(resources === undefined ? {} : { resources: words(resources) }),
    ...(subjects === undefined ? {} : { subjects: words(subjects) }),
    ...(maxMode === undefined ? {} : { maxMode: modeOf(maxMode) }),
    ...(args.for === undefined ? {} : { forMs: parseLife(args.for) }),
    ...(uses === undefined ? {} : { uses: wholeNumber("--uses", uses) }),
    ...(uid === undefined ? {} : { uid: wholeNumber("--uid", uid) }),
    ...(label === undefined ? {} : { label }),
  };
}

const mint = define({
  usage: "mint <principal>",
  describe: "Make a token, with an admin token",
  examples: [
    [
      "boundaryctl token mint Agent::build --actions recall,tool.run --for 30d --token-file admin.token --out build.token",
      "for an agent",
    ],
  ],
  options: (yargs) =>
    yargs
      .positional("principal", {
        type: "string",
        demandOption: true,
        describe: "Agent::NAME, Service::NAME or User::NAME",
      })
      .option("out", TERMS.out)
      .option("role", TERMS.role)
      .option("actions", TERMS.actions)
      .option("resources", TERMS.resources)
      .option("subjects", TERMS.subjects)
      .option("max-mode", TERMS["max-mode"])
      .option("for", TERMS.for)
      .option("uses", TERMS.uses)
      .option("uid", TERMS.uid)
      .option("label", TERMS.label),
  run: (args) => make(args, "token.mint", { ...termsOf(args), principal: args.principal }),
});

const narrow = define({
  usage: "narrow",
  describe: "Make a child of a token, with less: for an hour, if nothing is said",
  examples: [
    [
      "boundaryctl token narrow --actions recall --uses 1 --token-file build.token --out once.token",
      "for one question",
    ],
  ],
  options: (yargs) =>
    yargs
      .option("principal", { ...TEXT, describe: "Whom it stands for" })
      .option("out", TERMS.out)
      .option("role", TERMS.role)
      .option("actions", TERMS.actions)
      .option("resources", TERMS.resources)
      .option("subjects", TERMS.subjects)
      .option("max-mode", TERMS["max-mode"])
      .option("for", TERMS.for)
      .option("uses", TERMS.uses)
      .option("uid", TERMS.uid)
      .option("label", TERMS.label),
  run: (args) =>
    make(args, "token.narrow", {
      ...termsOf(args),
      ...(args.principal === undefined ? {} : { principal: args.principal }),
    }),
});

const list = defineBare({
  usage: "list",
  describe: "Show all tokens: what they allow, never what they are",
  examples: [["boundaryctl token list", "whose, until when, in which state"]],
  run: (common) =>
    withDaemon(common, async (client) => {
      const tokens: TokenView[] = [];
      for (let after: string | undefined; ; after = tokens.at(-1)?.id) {
        const found = dataOr(common, await client.call("token.list", after === undefined ? {} : { after }));
        if ("code" in found) return found.code;
        tokens.push(...found.data.tokens);
        if (found.data.more === 0 || found.data.tokens.length === 0) break;
      }
      if (common.json) printJson({ tokens });
      else printLines(renderTable([HEADING, ...tokens.map(rowOf)]));
      return 0;
    }),
});

const HEADING = ["ID", "STATE", "PRINCIPAL", "ROLE", "UP TO", "EXPIRES", "USES", "PARENT", "LABEL"];

function rowOf(token: TokenView): readonly string[] {
  const { id, state, principal, role, maxMode, expires, uses, parent, label } = token;
  const left = uses === null ? "-" : String(uses);
  return [id, state, principal, role, maxMode, expires, left, parent === "" ? "-" : parent, label].map(plain);
}

const show = define({
  usage: "show [id]",
  describe: "Show a token; without an id, the one that is shown to the daemon",
  examples: [["boundaryctl token show --token-file build.token", "what may I?"]],
  options: (yargs) => yargs.positional("id", { type: "string", describe: "As `token list` shows it" }),
  run: (args) =>
    askAndShow(
      args,
      { verb: "token.show", params: args.id === undefined ? {} : { id: args.id } },
      { render: ({ token }) => renderToken(token) },
    ),
});

const revoke = define({
  usage: "revoke <id>",
  describe: "End a token, and all that grew from it, at once",
  examples: [["boundaryctl token revoke 0123456789abcdef --reason lost", "it is not to be used any more"]],
  options: (yargs) =>
    yargs
      .positional("id", { type: "string", demandOption: true, describe: "As `token list` shows it" })
      .option("reason", { ...TEXT, describe: "Goes into the log" }),
  run: (args) =>
    askAndShow(
      args,
      {
        verb: "token.revoke",
        params: { id: args.id, ...(args.reason === undefined ? {} : { reason: args.reason }) },
      },
      { render: ({ id, ended }) => [`revoked    ${plain(id)}: ${plain(ended)} tokens ended`] },
    ),
});

function renderToken(token: TokenView): readonly string[] {
  const listed = (some: readonly string[] | "all") =>
    some === "all" ? "all" : some.map(plain).join(", ") || "none";
  return [
    `id         ${plain(token.id)} (${plain(token.state)})`,
    ...(token.parent === "" ? [] : [`parent     ${plain(token.parent)}`]),
    `principal  ${plain(token.principal)}`,
    `role       ${plain(token.role)}`,
    `actions    ${listed(token.actions)}`,
    `resources  ${listed(token.resources)}`,
    `asks for   ${listed(token.subjects)}`,
    `works      up to ${plain(token.maxMode)}, until ${plain(token.expires)}`,
    ...(token.uses === null ? [] : [`uses       ${plain(token.uses)} left`]),
    ...(token.uid === null ? [] : [`bound to   uid ${plain(token.uid)}`]),
    ...(token.label === "" ? [] : [`label      ${plain(token.label)}`]),
    ...(token.below === 0 ? [] : [`below it   ${plain(token.below)} tokens`]),
  ];
}

function words(text: string): string[] {
  return text
    .split(",")
    .map((word) => word.trim())
    .filter((word) => word !== "");
}

function roleOf(text: string): Role {
  const role = ROLES.find((each) => each === text);
  if (role === undefined) throw usageError(`${JSON.stringify(text)} is no role: ${ROLES.join(", ")}`);
  return role;
}

function modeOf(text: string): (typeof MODES)[number] {
  const mode = parseMode(text);
  if (mode === null) throw usageError(`${JSON.stringify(text)} is no mode: ${MODES.join(", ")}`);
  return mode;
}

function wholeNumber(option: string, text: string): number {
  if (!/^[0-9]{1,10}$/.test(text)) throw usageError(`${option}: ${JSON.stringify(text)} is no whole number`);
  return Number(text);
}

/** `boundaryctl token`. */
export const command = group({
  usage: "token",
  describe: "Make, narrow, see and revoke capability tokens",
  examples: [["boundaryctl token list", "all of them"]],
  children: [bootstrap, mint, narrow, list, show, revoke],
  alone: null,
});
