import { PROTOCOLS, type Protocol, readEntry } from "./net-entry.ts";

/** Domains, and what passes between them, as the configuration has it. */
export type IsolationInput = {
  readonly domains: readonly {
    readonly name: string;
    readonly interfaces: readonly string[];
    readonly host: boolean;
    readonly unaffected: boolean;
  }[];
  readonly passes: readonly PassInput[];
};
export type PassInput = {
  readonly between?: readonly string[] | undefined;
  readonly from?: string | undefined;
  readonly to?: string | undefined;
  readonly protocol: Protocol;
  readonly port?: number | string | undefined;
};

/** A domain that is confined: nothing passes between it and anything else but what a pass names. */
export type Domain = {
  readonly name: string;
  readonly interfaces: readonly string[];
  /** Whether this host itself is of it. */
  readonly host: boolean;
};

/**
 * One way from one domain to another, by protocol and destination port (both ends included; null: it has none).
 * `answers`: what comes back on its connections passes too; two ways without answers are what `between` says.
 */
export type Pass = {
  readonly from: string;
  readonly to: string;
  readonly protocol: number;
  readonly ports: { readonly first: number; readonly last: number } | null;
  readonly answers: boolean;
};

export type Isolation = {
  readonly confined: readonly Domain[];
  /** Domains whose packets are nobody's business here. */
  readonly unaffected: readonly Domain[];
  readonly passes: readonly Pass[];
};

/** Where in the configuration, and what is wrong there. */
export type IsolationProblem = { readonly path: readonly (string | number)[]; readonly problem: string };

/** What can stand in a script of nft, and comes back in a listing, as it is. */
export const DOMAIN_NAME = /^[A-Za-z][A-Za-z0-9_]{0,15}$/;
export const DOMAIN_INTERFACE = /^[A-Za-z0-9_.@-]{1,15}$/;

/** Reads domains and passes; every problem is told, and with any there is nothing to load. */
export function readIsolation(
  input: IsolationInput,
):
  | { readonly ok: true; readonly value: Isolation }
  | { readonly ok: false; readonly problems: readonly IsolationProblem[] } {
  const passes = input.passes.map((pass) => readPass(pass, input));
  const problems = [
    ...domainProblems(input),
    ...passes.flatMap((read, at) =>
      typeof read === "string" ? [{ path: ["passes", at], problem: read }] : [],
    ),
  ];
  if (problems.length > 0) return { ok: false, problems };
  const plain = ({ name, interfaces, host }: Domain): Domain => ({ name, interfaces, host });
  return {
    ok: true,
    value: {
      confined: input.domains.filter(({ unaffected }) => !unaffected).map(plain),
      unaffected: input.domains.filter(({ unaffected }) => unaffected).map(plain),
      passes: unique(passes.flatMap((read) => (typeof read === "string" ? [] : read))),
    },
  };
}

function domainProblems({ domains }: IsolationInput): readonly IsolationProblem[] {
  const problems: IsolationProblem[] = [];
  const names = new Set<string>();
  const owners = new Map<string, string>();
  let host: string | null = null;
  for (const [at, domain] of domains.entries()) {
    const tell = (field: string, problem: string) => problems.push({ path: ["domains", at, field], problem });
    if (!DOMAIN_NAME.test(domain.name))
      tell("name", "a domain's name begins with a letter: letters, digits and _, 16 at most");
    if (names.has(domain.name)) tell("name", `the name ${domain.name} is used twice`);
    names.add(domain.name);
    if (domain.interfaces.length === 0 && !domain.host)
      tell("interfaces", "a domain without interfaces is nowhere: name them");
    if (domain.host && domain.unaffected)
      tell("host", "an unaffected domain has no rules: say nothing of the host");
    if (domain.host && host !== null) tell("host", `the host is in ${host} already`);
    if (domain.host) host ??= domain.name;
    for (const link of domain.interfaces) {
      if (!DOMAIN_INTERFACE.test(link)) tell("interfaces", `${JSON.stringify(link)} is no plain name`);
      if (link === "lo") tell("interfaces", "loopback is in no domain");
      const owner = owners.get(link);
      if (owner !== undefined) tell("interfaces", `${link} is in ${owner} already`);
      owners.set(link, domain.name);
    }
  }
  return problems;
}

function readPass(pass: PassInput, { domains }: IsolationInput): readonly Pass[] | string {
  const ends = endsOf(pass);
  if (typeof ends === "string") return ends;
  for (const name of [ends.from, ends.to]) {
    const domain = domains.find((each) => each.name === name);
    if (domain === undefined) return `there is no domain ${JSON.stringify(name)}`;
    if (domain.unaffected) return `${name} is unaffected: what is to or from it passes in any case`;
  }
  if (ends.from === ends.to) return "within a domain everything passes: name two";
  const { protocol, port } = pass;
  if ((protocol === "tcp" || protocol === "udp") && port === undefined)
    return `${protocol} needs a port; "1-65535" is all of them`;
  const entry = readEntry({ protocol, port });
  if (typeof entry === "string") return entry;
  const way = { ...ends, protocol: PROTOCOLS[protocol], ports: entry.ports };
  if (pass.between === undefined) return [{ ...way, answers: true }];
  const back = { ...way, from: ends.to, to: ends.from };
  return [
    { ...way, answers: false },
    { ...back, answers: false },
  ];
}

function endsOf({ between, from, to }: PassInput): Pick<Pass, "from" | "to"> | string {
  const usual = "name both ends: either between: [A, B], or from: A and to: B";
  if (between !== undefined) {
    const [one, other] = between;
    if (from !== undefined || to !== undefined || one === undefined || other === undefined) return usual;
    return between.length === 2 ? { from: one, to: other } : usual;
  }
  return from === undefined || to === undefined ? usual : { from, to };
}

function unique(passes: readonly Pass[]): readonly Pass[] {
  const seen = new Map(passes.map((pass) => [JSON.stringify(pass), pass]));
  return [...seen.values()];
}

/** The interfaces that are to be there, and are not. */
export function missingInterfaces(isolation: Isolation, links: readonly string[]): readonly string[] {
  const all = [...isolation.confined, ...isolation.unaffected].flatMap(({ interfaces }) => interfaces);
  return all.filter((name) => !links.includes(name));
}

/** "PT > CT udp 500", for a person. */
export function renderPass({ from, to, protocol, ports, answers }: Pass): string {
  const name = Object.entries(PROTOCOLS).find(([, number]) => number === protocol)?.[0] ?? String(protocol);
  const port = ports === null ? "" : ` ${ports.first}${ports.last === ports.first ? "" : `-${ports.last}`}`;
  return `${from} > ${to} ${name}${port}${answers ? " and its answers" : ""}`;
}
