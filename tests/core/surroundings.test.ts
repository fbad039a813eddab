import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { posture } from "../../daemon/core/posture.ts";
import {
  aroundKey,
  lookAround,
  parseLinks,
  plainLinks,
  presentLists,
} from "../../daemon/core/surroundings.ts";

const DEV = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 1234 5 0 0 0 0 0 0 1234 5 0 0 0 0 0 0
  eth0:   99 1 0 0 0 0 0 0  99 1 0 0 0 0 0 0
veth@odd.1:   0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
`;
const none = { trustedInterfaces: [], deny: [], allow: [] };

describe("parseLinks", () => {
  test("reads the names of /proc/net/dev", () => {
    expect(parseLinks(DEV)).toEqual(["lo", "eth0", "veth@odd.1"]);
  });

  test("whatever the text, what it gives is a name as the kernel allows it", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        for (const name of parseLinks(`a\nb\n${text}`)) expect(name).toMatch(/^[^\s:/]{1,15}$/);
      }),
    );
  });
});

describe("lookAround", () => {
  const look = {
    links: () => ["lo", "eth0"],
    linkNumber: (name: string) => name.length,
    cgroup: (path: string) => (path === "a" ? "7" : null),
  };

  test("looks at links only where they are closed, at cgroups only where lists count", () => {
    const lists = { ...none, deny: [{ cgroup: "a" }], allow: [{ cgroup: "b" }, "10.0.0.1"] };
    expect(lookAround(posture("TRUSTED"), lists, look)).toEqual({
      links: [],
      numbers: [],
      cgroups: new Map([
        ["a", "7"],
        ["b", null],
      ]),
    });
    expect(lookAround(posture("AIRGAP"), none, look).links).toEqual(["eth0", "lo"]);
    expect(lookAround(posture("OPEN"), lists, look)).toEqual({
      links: [],
      numbers: [],
      cgroups: new Map(),
    });
  });

  test("another link of the same name is another link", () => {
    const as = (number: number) =>
      aroundKey(lookAround(posture("AIRGAP"), none, { ...look, linkNumber: () => number }));
    expect(as(2)).toBe(as(2));
    expect(as(2)).not.toBe(as(3));
  });

  test("another cgroup of the same path is another place", () => {
    const at = (id: string) =>
      aroundKey(
        lookAround(posture("TRUSTED"), { ...none, deny: [{ cgroup: "a" }] }, { ...look, cgroup: () => id }),
      );
    expect(at("7")).toBe(at("7"));
    expect(at("7")).not.toBe(at("8"));
  });
});

describe("presentLists", () => {
  test("leaves out entries whose cgroup is not there, and says so", () => {
    const lists = {
      ...none,
      deny: ["10.0.0.1", { cgroup: "gone" }],
      allow: [{ cgroup: "there" }, { cgroup: "gone" }],
    };
    const around = {
      links: [],
      numbers: [],
      cgroups: new Map([
        ["there", "7"],
        ["gone", null],
      ]),
    };
    expect(presentLists(lists, around)).toEqual({
      network: { ...none, deny: ["10.0.0.1"], allow: [{ cgroup: "there" }] },
      left: ["network.deny[1]: there is no cgroup gone", "network.allow[1]: there is no cgroup gone"].map(
        (what) => ({ what, opens: false, refused: false }),
      ),
    });
  });

  test("a link whose name could end a rule is not named in one, and that is said", () => {
    const around = { links: ["eth0", 'x";drop', "a b"], numbers: [2, 3, 4], cgroups: new Map() };
    expect(plainLinks(around)).toEqual(["eth0"]);
    expect(presentLists(none, around).left.map(({ opens }) => opens)).toEqual([true, true]);
  });
});
