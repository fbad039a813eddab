/**
 * `ip` shows a link as "name@other" when it is attached to another one: "veth0@veth1", "veth0@if7" (in another
 * namespace), "veth0@NONE". The kernel allows "@" in names as well, so the text alone does not tell where a name ends.
 */

/** All names that the text may mean, the shortest first. More than one: only a listing can tell. */
export function readingsOf(shown: string): readonly string[] {
  const prefixes = [...shown.matchAll(/@/g)].map(({ index }) => shown.slice(0, index));
  return [...prefixes.filter((name) => name !== ""), shown];
}

/**
 * The name that a text most likely means: the one this link is known by, else the longest before something a link can be
 * attached to, else all of it. A guess when there are several readings.
 */
export function guessName(
  shown: string,
  known: string | undefined,
  isLink: (name: string) => boolean,
): string {
  const readings = readingsOf(shown);
  if (known !== undefined && readings.includes(known)) return known;
  const attached = (name: string) => {
    const other = shown.slice(name.length + 1);
    return other === "NONE" || /^if\d{1,10}$/.test(other) || isLink(other);
  };
  return readings.findLast((name) => attached(name)) ?? shown;
}

/** A link as `ip` would show it, from its JSON listing: `link` or `linkIndex` is what it is attached to. */
export function renderShown(
  name: string,
  link: string | null | undefined,
  linkIndex: number | undefined,
): string {
  if (linkIndex !== undefined) return `${name}@if${linkIndex}`;
  if (link === undefined) return name;
  return `${name}@${link ?? "NONE"}`;
}
