import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseConfig, parseTripwires, renderProblems } from "../../daemon/core/config-parse.ts";

const problems = (text: string) => {
  const parsed = parseConfig(text);
  return parsed.ok ? [] : parsed.problems;
};

describe("lists of the network", () => {
  const problemsOf = (yaml: string) => {
    const parsed = parseConfig(`network: { allow: [${yaml}] }`);
    return parsed.ok ? [] : parsed.problems.map(({ problem }) => problem);
  };

  test.each([
    "10.0.0.0/8",
    "2001:db8::1",
    "{ protocol: tcp, port: 22 }",
    '{ protocol: udp, port: "1-1024", direction: out, interface: eth0 }',
    "{ uid: 1000 }, { cgroup: user.slice/agents.slice }",
  ])("takes %s", (yaml) => {
    expect(problemsOf(yaml)).toEqual([]);
  });

  test.each([
    ["10.0.0.0/33", /10\.0\.0\.0\/33 is no address/],
    ["{ port: 22 }", /needs protocol/],
    ["{ adress: 10.0.0.1 }", /unknown key/],
    ["{ uid: -1 }", /-1|>=0/],
    ["5", /give an address, a network, or/],
  ])("says what is wrong with %s", (yaml, why) => {
    expect(problemsOf(yaml).join("; ")).toMatch(why);
  });
});

describe("a token for the vault", () => {
  const problemsOf = (yaml: string) =>
    problems(`vault: { pkcs11: { ${yaml} } }`).map(({ problem }) => problem);

  test("needs its module and label, and nothing else", () => {
    expect(problemsOf("module: /usr/lib/m.so, tokenLabel: my token")).toEqual([]);
    expect(
      problemsOf("module: /m.so, tokenLabel: t, keyLabel: host-7, pinFile: /etc/boundary-daemon/pin"),
    ).toEqual([]);
  });

  test.each([
    ["module: m.so, tokenLabel: t", /absolute path/],
    ["module: /m.so", /tokenLabel|expected string/i],
    ['module: /m.so, tokenLabel: ""', /printable ASCII/],
    ['module: /m.so, tokenLabel: "t "', /blank/],
    [`module: /m.so, tokenLabel: ${"t".repeat(33)}`, /32/],
    ['module: /m.so, tokenLabel: t, pin: "1234"', /unknown key/],
    ["module: /m.so, tokenLabel: t, pinFile: pin", /absolute path/],
  ])("is refused as { %s }", (yaml, why) => {
    expect(problemsOf(yaml).join("; ")).toMatch(why);
  });
});

describe("parseConfig", () => {
  test("an empty file is the default configuration", () => {
    const parsed = parseConfig("");
    expect(parsed.ok && parsed.value.initialMode).toBe("RESTRICTED");
    expect(parsed.ok && parsed.value.enforcement.network).toBe(false);
    expect(parsed.ok && parsed.value.roles.operator.groups).toEqual(["boundary"]);
  });

  test.each([
    [
      "an unknown key at its line and column",
      "initialMode: OPEN\nenforcment:\n  network: true\n",
      2,
      1,
      "enforcment",
    ],
    [
      "an unknown nested key",
      "enforcement:\n  network: true\n  netwrok: true\n",
      3,
      3,
      "enforcement.netwrok",
    ],
    ["a wrong type", 'enforcement:\n  network: "yes"\n', 2, 12, "enforcement.network"],
    ["a mode that does not exist", "initialMode: SHUT\n", 1, 14, "initialMode"],
    [
      "a heartbeat too slow for its dead-man",
      "enforcement:\n  heartbeatMs: 1500\n",
      2,
      16,
      "enforcement.heartbeatMs",
    ],
    ["a number out of range", "log: { sealEveryMs: 0 }\n", 1, 21, "log.sealEveryMs"],
    ["an element of a list", "network:\n  deny:\n    - 10.0.0.0/8\n    - ten\n", 4, 7, "network.deny[1]"],
    ["a key used twice", "initialMode: OPEN\ninitialMode: OPEN\n", 2, 1, ""],
    ["broken YAML", "initialMode: [OPEN\n", 2, 1, ""],
    ["a list for a map", "- OPEN\n", 1, 1, ""],
  ])("names %s", (_name, text, line, column, at) => {
    const [first] = problems(text);
    expect({ line: first?.line, column: first?.column, at: first?.at }).toEqual({ line, column, at });
  });

  test("reports every fault, not only the first", () => {
    expect(problems("initialMode: SHUT\nfoo: 1\nlog: { sealEveryMs: x }\n")).toHaveLength(3);
  });

  test("refuses aliases, so that a few lines cannot stand for gigabytes", () => {
    const bomb = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n";
    expect(problems(bomb)[0]?.problem).toMatch(/alias/);
  });

  test("refuses a file over 1 MiB", () => {
    expect(problems(`# ${"x".repeat(1_048_576)}`)[0]?.problem).toMatch(/larger/);
  });

  test("renders file, line and column", () => {
    expect(renderProblems("c.yaml", problems("foo: 1\n"))).toBe("c.yaml:1:1: foo: unknown key");
  });

  test("never throws, whatever the text", () => {
    const yamlish = fc.stringMatching(/^[a-zA-Z0-9:\-{}[\],#&*!|>'"%@` \n\t]{0,200}$/);
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit: "binary" }), yamlish), (text) => {
        const parsed = parseConfig(text);
        return parsed.ok || parsed.problems.length > 0;
      }),
      { numRuns: 500 },
    );
  });
});

describe("parseTripwires", () => {
  const wire = (fields: string) => parseTripwires(`tripwires:\n  - { ${fields} }\n`);

  test.each([
    [
      "a fact that the signal does not have",
      "id: a, on: network.link, match: { chnage: up }, armed: [OPEN], action: note",
    ],
    [
      "an empty list of values",
      "id: a, on: network.link, match: { change: [] }, armed: [OPEN], action: note",
    ],
    ["a signal that does not exist", "id: a, on: network.lnik, armed: [OPEN], action: note"],
    ["no mode to be armed in", "id: a, on: network.link, armed: [], action: note"],
    ["an action that loosens or is unknown", "id: a, on: network.link, armed: [OPEN], action: open"],
    ["a file tripwire without paths", "id: a, on: file.changed, armed: [OPEN], action: note"],
    [
      "a file tripwire on everything but a path",
      "id: a, on: file.changed, match: { path: { not: [/x] } }, armed: [OPEN], action: note",
    ],
    ["a relative path", "id: a, on: file.changed, match: { path: etc/passwd }, armed: [OPEN], action: note"],
    [
      "a path with dots",
      "id: a, on: file.changed, match: { path: /etc/../root }, armed: [OPEN], action: note",
    ],
  ])("refuses %s", (_name, fields) => {
    expect(wire(fields).ok).toBe(false);
  });

  test("refuses an id used twice", () => {
    const one = "{ id: a, on: network.link, armed: [OPEN], action: note }";
    const parsed = parseTripwires(`tripwires:\n  - ${one}\n  - ${one}\n`);
    expect(parsed.ok ? [] : parsed.problems.map((p) => p.at)).toEqual(["tripwires[1].id"]);
  });
});
