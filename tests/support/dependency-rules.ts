/** What the lock file and package.json have to be. Pure: the tests feed it doctored ones. */
export type Manifest = Readonly<
  Record<"dependencies" | "optionalDependencies" | "devDependencies", Versions>
>;
type Versions = Readonly<Record<string, string>>;
export type LockEntry = {
  readonly version?: string;
  readonly integrity?: string;
  readonly resolved?: string;
  readonly hasInstallScript?: boolean;
  readonly dependencies?: Versions;
};
export type Lock = { readonly packages: Readonly<Record<string, LockEntry>> };
export type Pin = { readonly name: string; readonly version: string; readonly integrity: string };

/** Versions of node-ipc that carried something hostile. The reason is shown when one turns up. */
export const REFUSED_NODE_IPC: readonly { readonly version: RegExp; readonly why: string }[] = [
  { version: /^10\.1\.[123]$/, why: "belongs to CVE-2022-23812, which overwrote files" },
  { version: /^9\.2\.2$/, why: "brought peacenotwar" },
  { version: /^11\./, why: "brings peacenotwar" },
  { version: /^(?:9\.1\.6|9\.2\.3|12\.0\.1)$/, why: "carried a credential stealer" },
];

export function lockProblems(
  lock: Lock,
  pins: readonly Pin[],
  scripts: readonly string[],
): readonly string[] {
  const entries = Object.entries(lock.packages).filter(([path]) => path !== "");
  return [
    ...entries.flatMap(([path, entry]) => entryProblems(path, entry, scripts)),
    ...entries.flatMap(([path, entry]) => pinProblems(path, entry, pins)),
    ...pins.flatMap((pin) =>
      lock.packages[`node_modules/${pin.name}`] ? [] : [`${pin.name} is not in the lock`],
    ),
  ];
}

export function manifestProblems(manifest: Manifest): readonly string[] {
  return Object.entries(allVersions(manifest))
    .filter(([, version]) => !/^\d+\.\d+\.\d+(?:-[a-z0-9.]+)?$/.test(version))
    .map(([name, version]) => `${name} ${version} is not an exact version`);
}

export function allVersions(manifest: Manifest): Versions {
  return { ...manifest.dependencies, ...manifest.optionalDependencies, ...manifest.devDependencies };
}

/** The rows of the table below a heading: a list of cells each, without header and rule. */
export function tableBelow(markdown: string, heading: string): readonly (readonly string[])[] {
  const section = markdown.split(/^## /m).find((part) => part.startsWith(`${heading}\n`)) ?? "";
  return section
    .split("\n")
    .filter((line) => line.startsWith("|"))
    .slice(2)
    .map((line) =>
      line
        .split("|")
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf("node_modules/") + "node_modules/".length);
}

function entryProblems(path: string, entry: LockEntry, scripts: readonly string[]): readonly string[] {
  const problems: string[] = [];
  if (!entry.integrity?.startsWith("sha512-")) problems.push(`${path} has no sha512 integrity`);
  if (entry.resolved !== undefined && !entry.resolved.startsWith("https://registry.npmjs.org/")) {
    problems.push(`${path} comes from ${entry.resolved}`);
  }
  if (entry.hasInstallScript && !scripts.includes(nameOf(path)))
    problems.push(`${path} has an install script`);
  return problems;
}

function pinProblems(path: string, entry: LockEntry, pins: readonly Pin[]): readonly string[] {
  const name = nameOf(path);
  if (name === "peacenotwar") return [`${path} is refused`];
  const refused = REFUSED_NODE_IPC.find(
    (one) => name === "node-ipc" && one.version.test(entry.version ?? ""),
  );
  if (refused) return [`${path} ${entry.version} is refused: it ${refused.why}`];
  const pin = pins.find((one) => one.name === name);
  if (pin === undefined) return [];
  if (entry.version !== pin.version) return [`${path} is ${entry.version}, not ${pin.version}`];
  if (entry.integrity !== pin.integrity) return [`${path} has another integrity than docs/DEPENDENCIES.md`];
  const unknown = Object.keys(entry.dependencies ?? {}).filter(
    (need) => !pins.some((one) => one.name === need),
  );
  return unknown.map((need) => `${path} brings ${need}, which is not pinned`);
}
