import { createHash } from "node:crypto";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  append,
  copyFrontier,
  EMPTY_ROOT,
  emptyFrontier,
  leafHash,
  root,
} from "../../daemon/audit/merkle.ts";

/** The leaves and roots that Certificate Transparency implementations share as test data for RFC 6962. */
const LEAVES = [
  "",
  "00",
  "10",
  "2021",
  "3031",
  "40414243",
  "5051525354555657",
  "606162636465666768696a6b6c6d6e6f",
];
const ROOTS = [
  "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
  "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
  "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
  "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
  "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
  "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
  "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
  "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
  "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

describe("the RFC 6962 tree", () => {
  test("has the published roots after each of the well-known leaves", () => {
    const frontier = emptyFrontier();
    const roots = [root(frontier)];
    for (const leaf of LEAVES) {
      append(frontier, leafHash(Buffer.from(leaf, "hex")));
      roots.push(root(frontier));
    }
    expect(roots).toEqual(ROOTS);
    expect(EMPTY_ROOT).toBe(ROOTS[0]);
  });

  test("is the tree of the recursive definition, at every size", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 8 }), { maxLength: 70 }), (leaves) => {
        const frontier = emptyFrontier();
        for (const leaf of leaves) append(frontier, leafHash(leaf));
        expect(root(frontier)).toBe(naiveRoot(leaves).toString("hex"));
        expect(frontier.size).toBe(leaves.length);
        expect(frontier.subtrees.length).toBe(leaves.length.toString(2).replaceAll("0", "").length);
      }),
    );
  });

  test("goes on from a stored frontier, and a copy does not follow the original", () => {
    const frontier = emptyFrontier();
    for (const leaf of LEAVES.slice(0, 5)) append(frontier, leafHash(Buffer.from(leaf, "hex")));
    const stored = JSON.parse(JSON.stringify(frontier));
    const copy = copyFrontier(frontier);
    append(frontier, leafHash(Buffer.from("00")));
    expect(root(copy)).toBe(ROOTS[5]);
    for (const leaf of LEAVES.slice(5)) append(stored, leafHash(Buffer.from(leaf, "hex")));
    expect(root(stored)).toBe(ROOTS[8]);
  });
});

/** RFC 6962 section 2.1, word by word. */
function naiveRoot(leaves: readonly Uint8Array[]): Buffer {
  if (leaves.length === 0) return createHash("sha256").digest();
  if (leaves.length === 1)
    return createHash("sha256")
      .update(Buffer.of(0))
      .update(leaves[0] ?? "")
      .digest();
  let split = 1;
  while (split * 2 < leaves.length) split *= 2;
  const hash = createHash("sha256").update(Buffer.of(1));
  return hash
    .update(naiveRoot(leaves.slice(0, split)))
    .update(naiveRoot(leaves.slice(split)))
    .digest();
}
