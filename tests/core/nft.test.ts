import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BoundaryError } from "../../daemon/core/errors.ts";
import { MODES } from "../../daemon/core/mode.ts";
import { renderHeartbeat, renderRules } from "../../daemon/core/nft.ts";
import { compareRules } from "../../daemon/core/nft-compare.ts";
import { parseListings, parseRendered } from "../../daemon/core/nft-listing.ts";
import { posture } from "../../daemon/core/posture.ts";

const network = {
  trustedInterfaces: ["wg0", "tun0", "wg0"],
  deny: ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.7", "2001:db8::/32"],
  allow: [],
};
const extra = { keep: null, hold: "enforcing", links: ["lo", "eth0"] } as const;
const inetOf = (script: string) => {
  const [inet] = parseRendered(script);
  if (inet === undefined) throw new Error("no table");
  return inet;
};
const deadMan = { kind: "dead-man", timeoutMs: 2_000 } as const;
const vector = (name: string) => readFileSync(new URL(`../vectors/nft/${name}`, import.meta.url), "utf8");

describe("renderRules", () => {
  test.each(MODES)("the rules of %s are the frozen ones", (mode) => {
    const name = mode.toLowerCase();
    expect(renderRules(posture(mode), network, deadMan, extra)).toBe(vector(`${name}-dead-man.nft`));
    expect(renderRules(posture(mode), network, { kind: "settled" }, extra)).toBe(
      vector(`${name}-settled.nft`),
    );
  });

  test.each(MODES)(
    "every base chain of %s drops by default and is reached in both families only while alive",
    (mode) => {
      const { blocks } = inetOf(renderRules(posture(mode), network, deadMan, extra));
      for (const name of ["input", "output", "forward", "leaving"]) {
        const [declaration, policy, ...rules] = blocks.get(`chain ${name}`)?.statements ?? [];
        expect(declaration).toMatch(/^type filter hook (input|output|forward|postrouting) priority -?500$/);
        expect(policy).toBe("policy drop");
        expect(rules[0]).toMatch(/^meta nfproto @alive jump mode_(in|out|forward)$/);
        expect(rules.slice(1)).toEqual(["counter name no_heartbeat drop"]);
      }
    },
  );

  test.each(["AIRGAP", "COLDROOM", "LOCKDOWN"] as const)(
    "%s matches no address and no connection state",
    (mode) => {
      const lines = renderRules(posture(mode), network, deadMan, extra).split("\n");
      const own = lines.filter((line) => !/counter name "canary(_mode)?" drop/.test(line));
      expect(own.join("\n")).not.toMatch(/\bip6?\b|\bct\b|established/);
      expect(lines.length - own.length).toBe(4);
    },
  );

  test.each(MODES)("no rule of %s takes a link for loopback by its name", (mode) => {
    const script = renderRules(posture(mode), network, deadMan, extra);
    expect(script.replace(/ devices = \{.*?\}/g, "")).not.toMatch(/\blo\b/);
  });

  test("empty lists leave their sets empty, which lets through nothing more", () => {
    const none = { trustedInterfaces: [], deny: [], allow: [] };
    const { blocks } = inetOf(renderRules(posture("TRUSTED"), none, deadMan, extra));
    expect(blocks.get("set trusted")?.elements).toEqual([]);
    expect(blocks.get("chain mode_in")?.statements.at(-1)).toBe("counter name refused_in drop");
  });

  test("a denied network that is none is refused, not left out", () => {
    expect(() =>
      renderRules(posture("RESTRICTED"), { ...network, deny: ["10.0.0.0/99"] }, deadMan, extra),
    ).toThrow(expect.objectContaining({ code: "config-invalid" }));
  });

  test("a heartbeat is one script that renews both families", () => {
    expect(renderHeartbeat(750, ["inet"])).toBe(
      "flush set inet boundary alive\nadd element inet boundary alive { ipv4 timeout 750ms, ipv6 timeout 750ms }\n",
    );
  });
});

/** As nft 1.0.6 lists AIRGAP: counters first, quotes, tabs, priorities by name where they have one. */
const LISTED = `table inet boundary {
	comment "boundary-daemon mode TEST"
	counter refused_in {
		packets 7 bytes 420
	}

	set alive {
		type nf_proto
		flags timeout
		elements = { ipv4 timeout 2s expires 1s980ms, ipv6 timeout 2s expires 1s980ms }
	}

	set deny4 {
		type ipv4_addr
		flags interval
		elements = { 1.2.3.0/24, 8.8.4.4,
			     8.8.8.8 }
	}

	chain input {
		type filter hook input priority raw - 10; policy drop;
		meta nfproto @alive jump mode_in
	}

	chain mode_in {
		meta iiftype loopback accept
		counter name "refused_in" drop
	}
}
`;
const WANTED = `table inet boundary {
comment "boundary-daemon mode TEST"
counter refused_in {
}
chain mode_in {
meta iiftype loopback accept
counter name "refused_in" drop
}
chain input {
type filter hook input priority -310; policy drop;
meta nfproto @alive jump mode_in
}
set alive {
type nf_proto
flags timeout
elements = { ipv4 timeout 2000ms, ipv6 timeout 2000ms }
}
set deny4 {
type ipv4_addr
flags interval
elements = { 8.8.8.8, 8.8.4.4, 1.2.3.0-1.2.3.255 }
}
}`;
const compare = (listing: string | null) => compareRules(parseListings(WANTED), parseListings(listing ?? ""));

describe("compareRules", () => {
  test("a listing with other spelling, order and counts is the same, and its counts are read", () => {
    expect(compare(LISTED)).toEqual({ same: true, drops: { refused_in: 7 } });
  });

  test.each(["tcp flags & (syn | ack) == syn", "tcp flags syn / syn,ack"])(
    "a flag of TCP is the same in the spelling of every nft: %s",
    (spelling) => {
      const rule = (flags: string) =>
        parseListings(`table inet boundary {\nchain a {\nip saddr 10.0.0.1 ${flags} drop\n}\n}`);
      const ours = rule("tcp flags & (syn | ack) == syn");
      expect(compareRules(ours, rule(spelling))).toMatchObject({ same: true });
      expect(compareRules(ours, rule("tcp flags != syn / syn,ack"))).toMatchObject({ same: false });
      expect(compareRules(ours, rule("tcp flags syn / fin,syn"))).toMatchObject({ same: false });
    },
  );

  test("no table is missing", () => {
    expect(compare(null)).toMatchObject({ same: false, what: "missing" });
  });

  test.each([
    ["one expired", "{ ipv4 timeout 2s expires 1s980ms }"],
    ["in its last moment", "{ ipv6 timeout 2s }"],
    ["rounded to a tick of the kernel's clock", "{ ipv4 timeout 2s8ms expires 2s4ms }"],
  ])("elements of alive that run out are the same: %s", (_, elements) => {
    expect(compare(withAlive(`elements = ${elements}`))).toMatchObject({ same: true });
  });

  test("all elements of alive expired is the same", () => {
    expect(compare(withAlive(""))).toMatchObject({ same: true });
  });

  test.each([
    "ipv4",
    "ipv4, ipv6",
    "ipv4 timeout 1h expires 59m",
    "ipv4 timeout 2s expires 3s",
    "ipv4 timeout 0s",
    "ipv4 timeout never",
    "arp timeout 2s expires 1s",
    "ipv4 timeout 2s expires 1s comment hello",
    "2 timeout 2s expires 1s",
  ])("an element of alive that is not ours defeats the dead-man: %s", (elements) => {
    expect(compare(withAlive(`elements = { ${elements} }`))).toMatchObject({ same: false, what: "dead-man" });
  });

  test.each([
    ["a rule added", "meta iiftype loopback accept\n", "meta iiftype loopback accept\n\t\taccept\n"],
    ["a rule removed", "meta iiftype loopback accept\n", "\n"],
    ["a rule changed", "meta iiftype loopback accept", 'iif "eth0" accept'],
    [
      "rules in another order",
      LISTED.slice(LISTED.indexOf("\t\tmeta iiftype"), -4),
      '\t\tcounter name "refused_in" drop\n\t\tmeta iiftype loopback accept\n\t',
    ],
    ["another policy", "policy drop", "policy accept"],
    ["another priority", "raw - 10", "raw - 11"],
    ["another unknown priority", "raw - 10", "odd - 10"],
    ["another hook", "hook input", "hook output"],
    ["a dormant table", "\tcomment", "\tflags dormant\n\tcomment"],
    ["another comment", "mode TEST", "mode OPEN"],
    ["an element removed", "8.8.4.4,\n", "\n"],
    ["an element added", "8.8.8.8 }", "8.8.8.8, 9.9.9.9 }"],
    ["another flag of a set", "flags timeout", "flags timeout,dynamic"],
    ["a timeout of a whole set", "flags timeout", "flags timeout\n\t\ttimeout 1d"],
    ["another set", "\tchain mode_in", "\tset more {\n\t\ttype mark\n\t}\n\tchain mode_in"],
    ["another chain", "\tchain mode_in", "\tchain more {\n\t}\n\tchain mode_in"],
    ["a chain gone", LISTED.slice(LISTED.indexOf("\tchain mode_in"), -2), ""],
    ["a chain renamed", "chain mode_in", "chain mode_inn"],
    ["another table", "inet boundary", "ip boundary"],
  ])("%s differs", (_, from, to) => {
    const changed = LISTED.replace(from, to);
    expect(changed).not.toBe(LISTED);
    expect(compare(changed)).toMatchObject({ same: false, what: "differs" });
  });

  test("what a difference quotes is short and printable", () => {
    const changed = LISTED.replace("mode TEST", `\u{1f600}\u0007${"x".repeat(1_000)}`);
    const result = compare(changed);
    expect(result.same ? "" : result.detail).toMatch(/^[ -~]{1,200}$/);
  });

  test.each(MODES)("the rules of %s are the same as themselves and as those of no other mode", (mode) => {
    const listing = (of: (typeof MODES)[number]) =>
      parseRendered(renderRules(posture(of), network, deadMan, extra));
    for (const other of MODES) {
      expect(compareRules(listing(mode), listing(other)).same).toBe(mode === other);
    }
    const settled = parseRendered(renderRules(posture(mode), network, { kind: "settled" }, extra));
    expect(compareRules(listing(mode), settled).same).toBe(false);
    expect(compareRules(settled, listing(mode)).same).toBe(false);
  });
});

describe("parseListings", () => {
  test("reads no table, and tables one after the other", () => {
    expect(parseListings("\n")).toEqual([]);
    const two = parseListings("table inet boundary {\n}\ntable arp boundary {\n}\n");
    expect(two.map(({ family }) => family)).toEqual(["inet", "arp"]);
  });

  test.each([
    "table",
    "table inet boundary",
    "table inet boundary {",
    "table inet boundary { chain a {",
    "table inet boundary { chain a { } ",
    "table inet boundary { } }",
    "table inet boundary { } table inet boundary { }",
    "table inet boundary { } chain",
    "table inet boundary { chain a { }\n chain a { } }",
    "table inet boundary { { } }",
    'table inet boundary { comment "x }',
    `table inet boundary { set a { elements = ${"{".repeat(50)} } }`,
    "chain a { }",
  ])("refuses %j", (text) => {
    expect(() => parseListings(text)).toThrow(expect.objectContaining({ code: "nft-unreadable" }));
  });

  test("refuses a listing that is too long", () => {
    expect(() => parseListings(" ".repeat(5_000_000))).toThrow(
      expect.objectContaining({ code: "nft-unreadable" }),
    );
  });

  const listings = [
    LISTED,
    WANTED,
    ...MODES.map((mode) => renderRules(posture(mode), network, deadMan, extra)),
  ];
  const anyWord = fc.constantFrom(
    "{",
    "}",
    "\n",
    ";",
    ",",
    '"',
    '"a b"',
    "table",
    "inet",
    "chain",
    "set",
    "elements",
    "=",
    "x",
    " ",
    "#",
  );
  const texts = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.array(anyWord, { maxLength: 200 }).map((words) => `table inet boundary { ${words.join(" ")}`),
    fc
      .tuple(fc.constantFrom(...listings), fc.nat(), fc.nat(20), fc.string())
      .map(
        ([text, at, gone, put]) =>
          text.slice(0, at % text.length) + put + text.slice((at % text.length) + gone),
      ),
  );

  test("throws nothing but nft-unreadable", () => {
    fc.assert(
      fc.property(texts, (text) => {
        expect(["read", "nft-unreadable"]).toContain(outcomeOf(text));
      }),
      { numRuns: 2_000 },
    );
  });

  test("no changed word of a listing goes unnoticed, but in the counts", () => {
    const words = [...LISTED.matchAll(/[A-Za-z_]+/g)].filter(
      ([word]) => !/^(ms|s|packets|bytes|expires|timeout)$/.test(word),
    );
    expect(words.length).toBeGreaterThan(40);
    for (const match of words) {
      const changed = `${LISTED.slice(0, match.index)}q${LISTED.slice(match.index + 1)}`;
      expect([changed, isSame(changed)]).toEqual([changed, false]);
    }
  });
});

function outcomeOf(listing: string): string {
  try {
    compare(listing);
    return "read";
  } catch (error) {
    return error instanceof BoundaryError ? error.code : String(error);
  }
}

function isSame(listing: string): boolean {
  try {
    return compare(listing).same;
  } catch {
    return false;
  }
}

function withAlive(elements: string): string {
  return LISTED.replace(/elements = \{ ipv4.*\}/, elements);
}
