import { describe, expect, test } from "vitest";
import { BoundaryError } from "../../daemon/core/errors.ts";
import { createEntities, type Entities } from "../../daemon/policy/cedar-entities.ts";
import { entityKey } from "../../daemon/policy/cedar-value.ts";

const uid = (id: string) => ({ type: "G", id });
const entity = (id: string, parents: readonly string[] = [], attrs: unknown = {}) => ({
  uid: uid(id),
  attrs,
  parents: parents.map(uid),
});
const above = (entities: Entities, id: string) =>
  [...(entities.find(entityKey("G", id))?.ancestors ?? [])].map((key) => key.slice(2)).sort();

function codeOf(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    return error instanceof BoundaryError ? error.code : String(error);
  }
  return "taken";
}

describe("the ancestors of entities", () => {
  test("are all above, also those that are only named", () => {
    const entities = createEntities([
      entity("a", ["b", "c"]),
      entity("c", ["d"]),
      entity("b", ["d", "x"]),
      entity("d", ["e"]),
    ]);
    expect(above(entities, "a")).toEqual(["b", "c", "d", "e", "x"]);
    expect(above(entities, "d")).toEqual(["e"]);
    expect(entities.find(entityKey("G", "e"))).toBeUndefined();
  });

  test("are found along a chain of any length, in time", () => {
    const chain = Array.from({ length: 1_000 }, (_, at) => entity(`e${at}`, [`e${at + 1}`]));
    expect(above(createEntities(chain), "e0")).toHaveLength(1_000);
    expect(above(createEntities(chain.toReversed()), "e0")).toHaveLength(1_000);
  });

  test.each([
    ["of one", [entity("a", ["a"])]],
    ["of two", [entity("a", ["b"]), entity("b", ["a"])]],
    [
      "below a good one",
      [entity("z", ["a"]), entity("a", ["b", "q"]), entity("b", ["c"]), entity("c", ["a"])],
    ],
  ])("are refused in a cycle %s", (_what, list) => {
    expect(codeOf(() => createEntities(list))).toBe("entities-invalid");
  });

  test("are limited in number", () => {
    const chain = Array.from({ length: 5_000 }, (_, at) => entity(`e${at}`, [`e${at + 1}`]));
    expect(codeOf(() => createEntities(chain))).toBe("entities-invalid");
  });
});

describe("an entity given twice", () => {
  test("is one when it is the same, and refused otherwise", () => {
    expect(above(createEntities([entity("a", ["b", "c"]), entity("a", ["c", "b", "c"])]), "a")).toEqual([
      "b",
      "c",
    ]);
    expect(codeOf(() => createEntities([entity("a", ["b"]), entity("a", ["c"])]))).toBe("entities-invalid");
    expect(codeOf(() => createEntities([entity("a", [], { x: 1 }), entity("a")]))).toBe("entities-invalid");
  });
});

describe("entities on top of others", () => {
  const base = createEntities([entity("team", ["staff"]), entity("staff", ["all"])]);

  test("have what is above those", () => {
    const entities = createEntities([entity("ann", ["team"])], { base });
    expect(above(entities, "ann")).toEqual(["all", "staff", "team"]);
    expect(above(entities, "team")).toEqual(["all", "staff"]);
    expect(base.find(entityKey("G", "ann"))).toBeUndefined();
  });

  test("cannot change them, nor put anything above them", () => {
    expect(codeOf(() => createEntities([entity("team")], { base }))).toBe("entities-invalid");
    expect(codeOf(() => createEntities([entity("all", ["more"])], { base }))).toBe("entities-invalid");
    expect(codeOf(() => createEntities([entity("all", ["team"])], { base }))).toBe("entities-invalid");
    expect(codeOf(() => createEntities([entity("all", [], { size: 3 })], { base }))).toBe("taken");
  });
});

describe("a key", () => {
  test("is of one type and id alone", () => {
    expect(entityKey("A", 'B"c')).not.toBe(entityKey("A::B", "c"));
    expect(entityKey("A", "")).not.toBe(entityKey("A", '"'));
  });
});
