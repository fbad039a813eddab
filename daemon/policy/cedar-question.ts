/** A value in Cedar's JSON form, as far as we make any. */
export type CedarJson =
  | string
  | number
  | boolean
  | readonly CedarJson[]
  | { readonly __entity: Uid }
  | { readonly __extn: { readonly fn: string; readonly arg: string } };

export type Uid = { readonly type: string; readonly id: string };

export type EntityJson = {
  readonly uid: Uid;
  readonly attrs: Readonly<Record<string, CedarJson>>;
  readonly parents: readonly Uid[];
};

/** A question in Cedar's words, with everything it needs to be answered: for the compiled set and for Cedar itself. */
export type CedarQuestion = {
  readonly principal: Uid;
  readonly action: Uid;
  readonly resource: Uid;
  readonly context: Readonly<Record<string, CedarJson>>;
  readonly entities: readonly EntityJson[];
};

/** An answer, as far as two engines have to agree: the ids that determined it and the policies that failed, sorted. */
export type Ruling = {
  readonly decision: "allow" | "deny";
  readonly reasons: readonly string[];
  readonly errors: readonly string[];
};

export function sameRuling(a: Ruling, b: Ruling): boolean {
  return a.decision === b.decision && sameTexts(a.reasons, b.reasons) && sameTexts(a.errors, b.errors);
}

/** For people: "deny by tools.agent-network; failed: x". */
export function describeRuling({ decision, reasons, errors }: Ruling): string {
  const by = reasons.length === 0 ? "" : ` by ${reasons.join(", ")}`;
  return `${decision}${by}${errors.length === 0 ? "" : `; failed: ${errors.join(", ")}`}`;
}

function sameTexts(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((text, at) => text === b[at]);
}
