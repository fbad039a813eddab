import type { Charge, Rate } from "./limit.ts";

/** As configured (`limits`). */
export type LimitSettings = {
  readonly token: Rate;
  readonly uid: Rate;
  readonly overall: Rate;
  readonly loosening: Rate;
  /** Of one caller, for one verb. */
  readonly verbs: Readonly<Record<string, Rate>>;
  readonly services: readonly ServiceRate[];
};
/** A caller's own row, by the label of his token or by his uid. */
export type ServiceRate = Rate & {
  readonly tokenLabel?: string | undefined;
  readonly uid?: number | undefined;
};

export type Asked = {
  readonly uid: number;
  /** The id of the token at the root of the tree of the one that was shown; null without one. */
  readonly token: string | null;
  /** That token's label; "" without one. */
  readonly tokenLabel: string;
  readonly verb: string;
  readonly kind: LimitClass;
};

/**
 * decision: a question, or one item of several. verb: anything else. loosening: opens something if it is granted, and
 * counts against the limit of mode changes too. tightening: closes something; it is never limited. stranger: with a token
 * that does not do, where anybody may ask: it takes nothing of what those have who may.
 */
export type LimitClass = "decision" | "verb" | "loosening" | "tightening" | "stranger";

/**
 * The limits that a request counts against, the caller's own first: what they refuse costs nobody else anything. A caller
 * with a row of his own counts against that, and neither against the usual ones nor against that of all together.
 */
export function chargesOf(settings: LimitSettings, asked: Asked): readonly Charge[] {
  if (asked.kind === "tightening") return [];
  if (asked.kind === "stranger") return usual(settings, asked);
  const caller = asked.token === null ? `uid ${asked.uid}` : `token ${asked.token}`;
  const perVerb = Object.hasOwn(settings.verbs, asked.verb) ? settings.verbs[asked.verb] : undefined;
  const verb: readonly Charge[] =
    perVerb === undefined ? [] : [{ kind: "verb", name: `${asked.verb} ${caller}`, rate: perVerb }];
  const loosening: readonly Charge[] =
    asked.kind === "loosening" ? [{ kind: "loosening", name: "all", rate: settings.loosening }] : [];
  return [...usual(settings, asked), ...verb, ...loosening];
}

function usual(settings: LimitSettings, asked: Asked): readonly Charge[] {
  const own = settings.services.find((row) => isOwn(row, asked));
  if (own !== undefined) {
    const name = own.tokenLabel === undefined ? `uid ${own.uid}` : `label ${own.tokenLabel}`;
    return [{ kind: "service", name, rate: own }];
  }
  if (asked.kind === "stranger") return [{ kind: "stranger", name: String(asked.uid), rate: settings.uid }];
  const token: readonly Charge[] =
    asked.token === null ? [] : [{ kind: "token", name: asked.token, rate: settings.token }];
  return [
    ...token,
    { kind: "uid", name: String(asked.uid), rate: settings.uid },
    { kind: "overall", name: "all", rate: settings.overall },
  ];
}

function isOwn({ tokenLabel, uid }: ServiceRate, asked: Asked): boolean {
  if (tokenLabel !== undefined) return asked.token !== null && asked.tokenLabel === tokenLabel;
  return uid === asked.uid;
}
