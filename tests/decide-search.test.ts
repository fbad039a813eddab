import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { AccessRequest, SearchQuery } from "../daemon/core/access.ts";
import { createSearch } from "../daemon/decide-search.ts";
import { openDoor } from "./support/open-door.ts";

const CALLER = { uid: 1, gid: 1, pid: 1, groups: [1], token: "t" };
const QUERY: SearchQuery = {
  kind: "resource",
  subject: { type: "user", id: "alice", properties: {} },
  action: { name: "read", properties: {} },
  resource: { type: "record", properties: { class: "PUBLIC" } },
  context: {},
};

type Search = ReturnType<typeof createSearch>;

function nextOf(found: Awaited<ReturnType<Search>>): string {
  if (!found.ok || found.next === null) throw new Error("no next page");
  return found.next;
}

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
          door: openDoor,
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
    door: openDoor,
    candidates: () => ids,
    probe: (_, { resource }) => {
      tried++;
      return resource.id === "02400";
    },
  });
  expect(await search(CALLER, QUERY, { after: null, limit: 10 })).toMatchObject({ ok: true, ids: [] });
  expect(tried).toBe(1_000);
  expect(await everyPage(search, 10)).toEqual([[], [], ["02400"]]);
});

test("a page of none is asked on", async () => {
  const search = createSearch({ door: openDoor, candidates: () => ["a"], probe: () => true });
  const first = await search(CALLER, QUERY, { after: null, limit: 0 });
  expect(first).toMatchObject({ ok: true, ids: [] });
  const after = nextOf(first);
  expect(await search(CALLER, QUERY, { after, limit: 5 })).toEqual({ ok: true, ids: ["a"], next: null });
});

test("what comes and goes between two pages repeats nothing", async () => {
  let ids = ["b", "c", "d"];
  const search = createSearch({ door: openDoor, candidates: () => ids, probe: () => true });
  const first = await search(CALLER, QUERY, { after: null, limit: 2 });
  expect(first).toMatchObject({ ok: true, ids: ["b", "c"] });
  ids = ["a", "d", "e"];
  expect(await search(CALLER, QUERY, { after: nextOf(first), limit: 2 })).toEqual({
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
      door: openDoor,
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

test("where it goes on is sealed: for its own question, and for nobody to read or make up", async () => {
  const search = createSearch({ door: openDoor, candidates: () => ["hidden", "seen"], probe: () => true });
  const after = nextOf(await search(CALLER, QUERY, { after: null, limit: 1 }));
  expect(Buffer.from(after, "base64url").toString("latin1")).not.toContain("hidden");
  const other = { ...QUERY, context: { other: true } };
  expect(await search(CALLER, other, { after, limit: 1 })).toMatchObject({ code: "page-invalid" });
  const another = createSearch({ door: openDoor, candidates: () => ["hidden"], probe: () => true });
  expect(await another(CALLER, QUERY, { after, limit: 1 })).toMatchObject({ code: "page-invalid" });
  await fc.assert(
    fc.asyncProperty(fc.oneof(fc.string(), fc.base64String()), async (made) => {
      expect(await search(CALLER, QUERY, { after: made, limit: 1 })).toMatchObject({ code: "page-invalid" });
    }),
    { numRuns: 50 },
  );
});

describe("at the door", () => {
  const ids = Array.from({ length: 100 }, (_, n) => String(n).padStart(3, "0"));
  const no = { ok: false, code: "rate-limited", retryAfterMs: 5, why: "too many" } as const;

  test("so many that are tried count as one question; where a limit is met the page ends", async () => {
    let left = 2;
    const told: unknown[] = [];
    const search = createSearch({
      candidates: () => ids,
      probe: (_, { resource }) => resource.id !== "001",
      door: () => ({
        take: () => (left-- > 0 ? { ok: true } : no),
        told: (came) => {
          told.push(came);
          return Promise.resolve(null);
        },
      }),
    });
    const first = await search(CALLER, QUERY, { after: null, limit: 100 });
    expect(first).toMatchObject({ ok: true, ids: ids.slice(0, 64).filter((id) => id !== "001") });
    expect(told).toEqual([{ tried: 64, found: 63 }]);
    expect(await search(CALLER, QUERY, { after: nextOf(first), limit: 100 })).toEqual(no);
  });

  test("who is over his limit has nothing looked through", async () => {
    let looked = 0;
    const candidates = () => {
      looked++;
      return ids;
    };
    const door = () => ({ ...openDoor(CALLER, QUERY), take: () => no });
    const search = createSearch({ candidates, probe: () => true, door });
    expect(await search(CALLER, QUERY, { after: null, limit: 1 })).toEqual(no);
    expect(looked).toBe(0);
  });

  test("what cannot be recorded is not told; a search for nothing that is known counts too", async () => {
    let taken = 0;
    const parts = { probe: () => true, candidates: () => ids };
    const untold = { ok: false, code: "log-unavailable", why: "", retryAfterMs: 0 } as const;
    const door = () => ({ take: () => ({ ok: true }) as const, told: () => Promise.resolve(untold) });
    const search = createSearch({ ...parts, door });
    expect(await search(CALLER, QUERY, { after: null, limit: 1 })).toEqual(untold);
    const counting = () => ({
      ...openDoor(CALLER, QUERY),
      take: () => (taken++ < 0 ? no : ({ ok: true } as const)),
    });
    const none = createSearch({ ...parts, candidates: () => [], door: counting });
    expect(await none(CALLER, QUERY, { after: null, limit: 1 })).toEqual({ ok: true, ids: [], next: null });
    expect(taken).toBe(1);
  });
});
