import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createNftEvents, type NftEvent } from "../../daemon/core/nft-events.ts";
import { createMarks, markIn } from "../../daemon/core/nft-marks.ts";

const MARK = "0123456789abcdef0123456789abcdef";
const generation = (n: number) => `# new generation ${n} by process 77 (nft)`;
const ADD_MARK = `add counter inet boundary mark_${MARK} { packets 0 bytes 0 } `;

/** What comes of lines, of which one mark is ours, once. */
function read(lines: readonly string[]): readonly NftEvent[] {
  const ours = new Set([MARK]);
  const next = createNftEvents((mark) => ours.delete(mark));
  return lines.flatMap(next);
}

describe("createNftEvents", () => {
  test.each([
    "insert rule inet boundary mode_out accept",
    "add table inet boundary",
    "add table inet boundary { flags dormant; }",
    "delete chain inet boundary mode_in",
    "add element inet boundary deny4 { 10.0.0.1 }",
    "add ct helper inet boundary h { }",
    "add flowtable inet boundary f { }",
  ])("touched by somebody else: %s", (line) => {
    expect(read([line, generation(5)])).toEqual([
      { kind: "foreign", what: "differs", detail: `process 77 (nft): ${line}` },
    ]);
  });

  test.each([
    "add table inet boundary_isolation",
    "add table inet boundary_isolation { flags dormant; }",
    "insert rule inet boundary_isolation forward accept",
    'delete element inet boundary_isolation domain_CT { "ct0" }',
    "add chain arp boundary_isolation x",
  ])("the domains' table touched by somebody else: %s", (line) => {
    expect(read([line, generation(5)])).toEqual([{ kind: "isolation", detail: `process 77 (nft): ${line}` }]);
    const ours = `add counter inet boundary_isolation mark_${MARK} { packets 0 bytes 0 } `;
    expect(read([ours, line, generation(5)])).toEqual([]);
    // a mark counts once
    expect(read([ours, line, generation(5), ours, line, generation(6)])).toHaveLength(1);
  });

  test("both tables touched in one transaction are two events; another table of a like name is none of ours", () => {
    const lines = ["delete table inet boundary", "delete table inet boundary_isolation"];
    expect(read([...lines, generation(5)]).map(({ kind }) => kind)).toEqual(["foreign", "isolation"]);
    expect(read(["add chain inet boundary_isolations x", generation(5)])).toEqual([]);
  });

  test("the marks of the domains' table are made in it", () => {
    const marks = createMarks(() => MARK, "boundary_isolation");
    const script = marks.mark("add table inet boundary_isolation\ndelete table inet boundary_isolation\n");
    expect(script.split("\n").slice(0, 2)).toEqual([
      "add table inet boundary_isolation",
      `add counter inet boundary_isolation mark_${MARK}`,
    ]);
    expect(markIn(`add counter inet boundary_isolation mark_${MARK} { packets 0 bytes 0 }`)).toBe(MARK);
    expect([marks.claim(MARK), marks.claim(MARK)]).toEqual([true, false]);
  });

  test("a touch of alive alone is the dead-man's, with anything else it is a difference", () => {
    const alive = "add element inet boundary alive { ipv4 timeout 2s expires 2s }";
    expect(read([alive, generation(5)])).toMatchObject([{ what: "dead-man" }]);
    expect(read([alive, "delete chain inet boundary x", generation(5)])).toMatchObject([{ what: "differs" }]);
  });

  test.each([
    "add chain arp boundary x",
    "delete table netdev boundary",
    "add element arp boundary other { arp }",
  ])("so are the tables below IP: %s", (line) => {
    expect(read([line, generation(5)])).toMatchObject([{ kind: "foreign", what: "differs" }]);
  });

  test.each([
    ["add table inet other", "table", "inet other"],
    ["add table inet boundary2", "table", "inet boundary2"],
    ["add table ip boundary", "table", "ip boundary"],
    ["add flowtable ip other f { hook ingress priority 0; devices = { eth0 }; }", "flowtable", "ip other"],
    ["add rule inet other c ip protocol tcp flow add @f", "forward", "inet other"],
    ['add rule netdev other c fwd to "eth1"', "forward", "netdev other"],
    ['insert rule netdev other c handle 4 dup to "eth1"', "forward", "netdev other"],
    ["add rule ip other c dup to 10.0.0.1 device eth1", "forward", "ip other"],
    [
      "add chain ip other c { type filter hook input priority -501; policy accept; }",
      "earlier-chain",
      "ip other",
    ],
    [
      "add chain ip other c { type filter hook input priority raw - 201; policy accept; }",
      "earlier-chain",
      "ip other",
    ],
    [
      "add chain netdev other c { type filter hook ingress priority filter; policy accept; }",
      "earlier-chain",
      "netdev other",
    ],
    [
      "add chain inet other c { type filter hook ingress device eth0 priority 5; policy accept; }",
      "earlier-chain",
      "inet other",
    ],
  ])("put beside ours: %s", (line, what, table) => {
    expect(read([line, generation(5)])).toEqual([
      { kind: "beside", what, table, detail: `process 77 (nft): ${line}` },
    ]);
  });

  test("one of each kind and table in a transaction, and a bounded number of them", () => {
    const rule = 'add rule netdev other c fwd to "eth1"';
    expect(read([rule, rule, "add table netdev other", generation(5)])).toHaveLength(2);
    const many = Array.from({ length: 1_000 }, (_, i) => `add table inet t${i}`);
    expect(read([...many, generation(5)])).toHaveLength(32);
  });

  test("what is beside a change of ours is told too", () => {
    expect(read(["add table inet other", "add chain inet boundary x", generation(5)])).toMatchObject([
      { kind: "foreign" },
      { kind: "beside" },
    ]);
  });

  test.each([
    "delete table inet other",
    "add chain inet other c",
    "add chain inet other c { type filter hook input priority filter; policy accept; }",
    "add chain inet other c { type filter hook input priority -500; policy accept; }",
    'add rule inet other c accept comment "fwd to eth1"',
    'add rule inet other c accept comment " hook input priority -600;"',
    'add rule inet other c accept comment " inet boundary "',
    'add rule ip inet boundary accept comment "x"',
    "add element inet other s { 10.0.0.1 }",
  ])("not ours to care about: %s", (line) => {
    expect(read([line, generation(5)])).toEqual([]);
  });

  test("a transaction with our mark is ours, a second one with it is not", () => {
    const lines = [ADD_MARK, "add chain inet boundary x"];
    expect(read([...lines, generation(5)])).toEqual([]);
    expect(read([...lines, generation(5), ...lines, generation(6)])).toMatchObject([{ kind: "foreign" }]);
  });

  test("a mark excuses its own transaction only", () => {
    const touch = "add chain inet boundary x";
    expect(read([touch, generation(5), ADD_MARK, generation(6)])).toHaveLength(1);
    expect(read([ADD_MARK, generation(5), touch, generation(6)])).toHaveLength(1);
  });

  test.each([
    ["a leap", [generation(5), generation(7)]],
    ["a generation told twice, as when the first is forged", [generation(5), generation(6), generation(6)]],
    ["nft says so", ["# ERROR: We lost some netlink events!"]],
  ])("events are lost: %s", (_, lines) => {
    expect(read(lines)).toMatchObject([{ kind: "lost" }]);
  });

  test("a generation forged in a comment does not hide whose transaction it was", () => {
    const lines = ['add rule inet boundary c accept comment "', generation(6), '"', generation(6)];
    expect(read([generation(5), ...lines])).toMatchObject([{ kind: "foreign" }, { kind: "lost" }]);
    expect(read([generation(9), ...lines])).toMatchObject([
      { kind: "foreign" },
      { kind: "lost" },
      { kind: "lost" },
    ]);
  });

  test("the count begins anew at one", () => {
    expect(read([generation(4_294_967_295), generation(1)])).toEqual([]);
  });

  test("a generation without a process still ends a transaction", () => {
    expect(read(["add chain inet boundary x", "# new generation 5"])).toMatchObject([
      { detail: "process ? (?): add chain inet boundary x" },
    ]);
  });

  test("whatever comes, it throws nothing, and what it quotes is short and printable", () => {
    const word = fc.constantFrom(
      "#",
      " new generation ",
      "1",
      " by process ",
      "(",
      "add ",
      "rule ",
      "chain ",
      "flowtable ",
      "inet other ",
      "hook input priority ",
      "-600; ",
      "fwd to ",
      " inet boundary",
      "\u0007",
    );
    const line = fc.oneof(
      fc.string({ unit: "binary" }),
      fc.array(word).map((words) => words.join("")),
    );
    fc.assert(
      fc.property(fc.array(line), (lines) => {
        for (const event of read(lines))
          expect(event.kind === "lost" ? event.why : event.detail).toMatch(/^[ -~]{1,200}$/);
      }),
    );
    expect(read([`add chain inet boundary ${"\u{1f600}".repeat(1_000)}`, generation(1)])[0]).toMatchObject({
      detail: expect.stringMatching(/^[ -~]{200}$/),
    });
  });
});

describe("createMarks", () => {
  const counting = () => {
    let n = 0;
    return createMarks(() => (n++).toString(16).padStart(32, "0"));
  };
  const markOf = (script: string) =>
    script
      .split("\n")
      .map(markIn)
      .find((mark) => mark !== null) ?? "";

  test("the mark comes after the table is made, and is gone with the transaction", () => {
    const mark = `counter inet boundary mark_${"0".repeat(32)}`;
    expect(counting().mark("add table inet boundary\nrest\n")).toBe(
      `add table inet boundary\nadd ${mark}\ndelete ${mark}\nadd table inet boundary\nrest\n`,
    );
    expect(counting().mark("rest\n")).toBe(`add ${mark}\ndelete ${mark}\nrest\n`);
  });

  test("a mark counts once, and voids the ones before it", () => {
    const marks = counting();
    const [first, second, third] = [marks.mark("a"), marks.mark("b"), marks.mark("c")].map(markOf);
    expect(marks.claim(second ?? "")).toBe(true);
    expect(marks.claim(second ?? "")).toBe(false);
    expect(marks.claim(first ?? "")).toBe(false);
    expect(marks.claim(third ?? "")).toBe(true);
    expect(marks.claim("f".repeat(32))).toBe(false);
  });

  test("marks that nobody claims are forgotten, oldest first", () => {
    const marks = counting();
    const made = Array.from({ length: 100 }, () => markOf(marks.mark("a")));
    expect(marks.claim(made[0] ?? "")).toBe(false);
    expect(marks.claim(made[40] ?? "")).toBe(true);
  });
});
