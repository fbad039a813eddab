import fc from "fast-check";
import { expect, test } from "vitest";
import type { AccessRequest, SearchQuery } from "../daemon/core/access.ts";
import { createSearch } from "../daemon/decide-search.ts";

const CALLER = { uid: 1, gid: 1, pid: 1, groups: [1], token: "t" };
const QUERY: SearchQuery = {
  kind: "resource",
  subject: { type: "user", id: "alice", properties: {} },
  action: { name: "read", properties: {} },
  resource: { type: "record", properties: { class: "PUBLIC" } },
  context: {},
};

type Search = ReturnType<typeof createSearch>;

async function everyPage(search: Search, limit: number): Promise<readonly (readonly string[])[]> {
  const pages: (readonly string[])[] = [];
  let after: string | null = null;
  for (let turn = 0; turn < 10_000; turn++) {
    const found = await search(CALLER, QUERY, { after, limit });
    if (!found.ok) throw new Error(found.why);
    pages.push(found.ids);
    if (found.next === null) return pages;
    after = found.next;
  }
  throw new Error("no end");
}

test("the pages are all that is allowed, each once, in order, none longer than its limit", async () => {
  const names = fc.uniqueArray(fc.string({ unit: "grapheme", maxLength: 6 }), { maxLength: 120 });
  await fc.assert(
    fc.asyncProperty(
      names,
      fc.func(fc.boolean()),
      fc.integer({ min: 1, max: 30 }),
      async (ids, allows, limit) => {
        const search = createSearch({
          candidates: () => ids,
          probe: (_, { resource }) => allows(resource.id),
        });
        const pages = await everyPage(search, limit);
        expect(pages.flat()).toEqual(ids.filter((id) => allows(id)).toSorted((a, b) => (a < b ? -1 : 1)));
        for (const page of pages) expect(page.length).toBeLessThanOrEqual(limit);
      },
    ),
    { numRuns: 60 },
  );
});

test("so many are tried for a page: where little is allowed the pages are short, and go on", async () => {
  const ids = Array.from({ length: 2_500 }, (_, n) => String(n).padStart(5, "0"));
  let tried = 0;
  const search = createSearch({
    candidates: () => ids,
    probe: (_, { resource }) => {
      tried++;
      return resource.id === "02400";
    },
  });
  expect(await search(CALLER, QUERY, { after: null, limit: 10 })).toEqual({
    ok: true,
    ids: [],
    next: "00999",
  });
  expect(tried).toBe(1_000);
  expect(await everyPage(search, 10)).toEqual([[], [], ["02400"]]);
});

test("a page of none is asked on", async () => {
  const search = createSearch({ candidates: () => ["a"], probe: () => true });
  const first = await search(CALLER, QUERY, { after: null, limit: 0 });
  expect(first).toEqual({ ok: true, ids: [], next: "" });
  expect(await search(CALLER, QUERY, { after: "", limit: 5 })).toEqual({ ok: true, ids: ["a"], next: null });
});

test("what comes and goes between two pages repeats nothing", async () => {
  let ids = ["b", "c", "d"];
  const search = createSearch({ candidates: () => ids, probe: () => true });
  expect(await search(CALLER, QUERY, { after: null, limit: 2 })).toEqual({
    ok: true,
    ids: ["b", "c"],
    next: "c",
  });
  ids = ["a", "d", "e"];
  expect(await search(CALLER, QUERY, { after: "c", limit: 2 })).toEqual({
    ok: true,
    ids: ["d", "e"],
    next: null,
  });
});

test.each([
  [
    "subject",
    { ...QUERY, kind: "subject", resource: { ...QUERY.resource, id: "r" } },
    { subject: "x", resource: "r" },
  ],
  ["resource", QUERY, { subject: "alice", resource: "x" }],
  [
    "action",
    { ...QUERY, kind: "action", resource: { ...QUERY.resource, id: "r" } },
    { action: "x", resource: "r" },
  ],
] as [string, SearchQuery, Record<string, string>][])(
  "what is tried is the question: %s",
  async (_kind, query, put) => {
    const asked: AccessRequest[] = [];
    const search = createSearch({
      candidates: () => ["x"],
      probe: (_caller, request) => {
        asked.push(request);
        return true;
      },
    });
    await search(CALLER, query, { after: null, limit: 5 });
    const [one] = asked;
    const flat = { subject: one?.subject.id, action: one?.action.name, resource: one?.resource.id };
    expect(flat).toMatchObject(put);
    expect(one?.resource.properties).toEqual({ class: "PUBLIC" });
  },
);
