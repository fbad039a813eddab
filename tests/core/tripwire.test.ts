import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { parseTripwires } from "../../daemon/core/config-parse.ts";
import { MODES, type Mode } from "../../daemon/core/mode.ts";
import { SIGNAL_KINDS, type SignalKind } from "../../daemon/core/signal.ts";
import { behind, match, sensorOf, type Tripwire, watchedPaths } from "../../daemon/core/tripwire.ts";

const policy = (name: string) => readFileSync(new URL(`../../policies/${name}`, import.meta.url), "utf8");

function shipped(): readonly Tripwire[] {
  const parsed = parseTripwires(policy("tripwires.yaml"));
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems));
  return parsed.value;
}

type Case = { signal: SignalKind; facts: Record<string, string>; mode: Mode; fires: string[] };

describe("the shipped tripwires", () => {
  const cases = parse(policy("tripwires.cases.yaml")) as Case[];

  test.each(cases.map((c) => [c.signal, c.mode, JSON.stringify(c.facts), c] as const))(
    "%s in %s with %s",
    (_k, _m, _f, c) => {
      const fired = match(shipped(), { kind: c.signal, facts: c.facts, seenNs: 0n }, c.mode);
      expect(fired.map((wire) => wire.id)).toEqual(c.fires);
    },
  );

  test("each one is shown to fire by a case", () => {
    const shown = new Set(cases.flatMap((c) => c.fires));
    expect(
      shipped()
        .map((wire) => wire.id)
        .filter((id) => !shown.has(id)),
    ).toEqual([]);
  });

  test("our own files, rules and log are armed in every mode", () => {
    for (const id of ["own-files", "own-rules", "own-log"]) {
      expect(shipped().find((wire) => wire.id === id)?.armed).toEqual(MODES);
    }
  });
});

describe("match", () => {
  const wire = (over: Partial<Tripwire>): Tripwire => ({
    id: "w",
    on: "file.changed",
    match: {},
    armed: ["OPEN"],
    action: { kind: "note" },
    whenBlind: "degrade",
    acrossStop: "trip",
    ...over,
  });
  const changed = (path: string) =>
    ({ kind: "file.changed", facts: { path, change: "modified" }, seenNs: 0n }) as const;

  test.each([
    ["/srv/a/", "/srv/a/b", true],
    ["/srv/a/", "/srv/a", true],
    ["/srv/a/", "/srv/a/b/c", true],
    ["/srv/a/", "/srv/ab", false],
    ["/srv/a", "/srv/a", true],
    ["/srv/a", "/srv/a/b", false],
  ])("the path %s covers %s: %s", (wanted, path, expected) => {
    const wires = [wire({ match: { path: { values: [wanted], negate: false } } })];
    expect(match(wires, changed(path), "OPEN").length === 1).toBe(expected);
  });

  test("a negation matches anything but its values", () => {
    const wires = [wire({ on: "network.link", match: { interface: { values: ["lo"], negate: true } } })];
    const link = (name: string) =>
      ({ kind: "network.link", facts: { interface: name, change: "up" }, seenNs: 0n }) as const;
    expect(match(wires, link("eth0"), "OPEN")).toHaveLength(1);
    expect(match(wires, link("lo"), "OPEN")).toHaveLength(0);
  });

  test("a mode it is not armed in sets nothing off", () => {
    expect(match([wire({})], changed("/x"), "AIRGAP")).toEqual([]);
  });

  test("the paths to watch are those that file tripwires name, once each", () => {
    const wires = [
      wire({ match: { path: { values: ["/a", "/b/"], negate: false } } }),
      wire({ match: { path: { values: ["/a"], negate: false } } }),
      wire({ on: "network.link" }),
    ];
    expect(watchedPaths(wires)).toEqual(["/a", "/b/"]);
  });

  test("a blind sensor names the armed tripwires behind it", () => {
    const wires = [
      wire({ id: "files" }),
      wire({ id: "net", on: "network.link" }),
      wire({ id: "off", armed: ["AIRGAP"] }),
    ];
    expect(behind(wires, "files", "OPEN").map((w) => w.id)).toEqual(["files"]);
    expect(SIGNAL_KINDS.map(sensorOf)).not.toContain(undefined);
  });
});
