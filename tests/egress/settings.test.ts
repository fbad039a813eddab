import { describe, expect, test } from "vitest";
import { ConfigSchema } from "../../daemon/core/config.ts";
import { judgeListed } from "../../daemon/egress/allowlist.ts";
import { parseHost } from "../../daemon/egress/host.ts";
import { listFaults, listsFor, parseLists, type RunScope } from "../../daemon/egress/settings.ts";

const config = (egress: object) => ConfigSchema.parse({ egress }).egress;
const NOTHING: RunScope = { project: null, blueprint: null, session: null };

function passes(egress: object, scope: Partial<RunScope>, name: string): boolean {
  const host = parseHost(name);
  if (host === null) throw new Error("a host of the test");
  const lists = parseLists(listsFor(config(egress), { ...NOTHING, ...scope }));
  return judgeListed(lists, { host, port: 443 }).ok;
}

describe("the configuration", () => {
  const lists = {
    allow: ["a.example", "b.example", "c.example"],
    projects: { web: ["a.example", "b.example"], empty: [] },
    blueprints: { build: ["b.example", "c.example"] },
  };

  test.each([
    [{}, "a.example", true],
    [{ project: "web" }, "a.example", true],
    [{ project: "web" }, "c.example", false],
    [{ project: "empty" }, "a.example", false],
    [{ project: "unknown" }, "a.example", false],
    [{ project: "constructor" }, "a.example", false],
    [{ blueprint: "build" }, "c.example", true],
    [{ project: "web", blueprint: "build" }, "b.example", true],
    [{ project: "web", blueprint: "build" }, "a.example", false],
    [{ session: ["a.example"] }, "a.example", true],
    [{ session: ["a.example"] }, "b.example", false],
    [{ session: [] }, "a.example", false],
    [{ session: ["z.example"] }, "z.example", false],
  ])("for %j: %s is %s", (scope, name, allowed) => {
    expect(passes(lists, scope, name)).toBe(allowed);
  });

  test("without any list nothing passes, with a project's alone what is in that", () => {
    expect(passes({}, {}, "a.example")).toBe(false);
    expect(passes({ projects: { web: ["a.example"] } }, {}, "a.example")).toBe(false);
    expect(passes({ projects: { web: ["a.example"] } }, { project: "web" }, "a.example")).toBe(true);
    // who asks names a session's list: it gives nothing that nobody listed
    expect(passes({}, { project: "web", session: ["a.example"] }, "a.example")).toBe(false);
    expect(passes({ blueprints: { one: [] } }, { session: ["a.example"] }, "a.example")).toBe(false);
  });

  test.each([
    [{ allow: ["*.com"] }, ["egress", "allow", 0]],
    [{ projects: { web: ["ok.example", "*.co.uk"] } }, ["egress", "projects", "web", 1]],
    [{ blueprints: { one: ["127.1"] } }, ["egress", "blueprints", "one", 0]],
  ])("an entry that cannot be read is named: %j", (egress, path) => {
    expect(listFaults(config(egress))).toEqual([{ path, problem: expect.any(String) }]);
  });

  test("every fault is told, and of lists that can be read none", () => {
    expect(listFaults(config({ allow: ["*.com", "a.example", "x..y"] })).map(({ path }) => path)).toEqual([
      ["egress", "allow", 0],
      ["egress", "allow", 2],
    ]);
    expect(listFaults(config(lists))).toEqual([]);
    expect(listFaults(config({}))).toEqual([]);
  });

  test("a list that cannot be read is the caller's mistake, and named", () => {
    const read = () => parseLists(listsFor(config({}), { ...NOTHING, session: ["*.com"] }));
    expect(read).toThrow(expect.objectContaining({ code: "argument-invalid" }) as Error);
    expect(read).toThrow("the session list[0]");
  });

  test.each([
    { allow: "example.com" },
    { allow: [""] },
    { unknown: 1 },
    { projects: { "Not a name": [] } },
    { addresses: ["example.com"] },
    { addresses: ["10.0.0.0/33"] },
    { plainPorts: [0] },
    { resolvers: ["example.com"] },
    { limits: { connections: 0 } },
    { limits: { idleMs: 5 } },
  ])("%j is refused by its schema", (egress) => {
    expect(ConfigSchema.safeParse({ egress }).success).toBe(false);
  });
});
