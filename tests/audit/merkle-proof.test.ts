import { hash } from "node:crypto";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { append, EMPTY_ROOT, emptyFrontier, leafHash, root } from "../../daemon/audit/merkle.ts";
import {
  advance,
  type Climb,
  climbFromEdge,
  climbFromNextLeaf,
  consistencyProof,
  inclusionProof,
  MAX_PROOF_HASHES,
  type Proof,
  type Tree,
  verifyConsistency,
  verifyInclusion,
} from "../../daemon/audit/merkle-proof.ts";

/** The eight leaves that implementations share, and proofs in their trees as transparency-dev/merkle publishes them. */
const LEAVES = [
  "",
  "00",
  "10",
  "2021",
  "3031",
  "40414243",
  "5051525354555657",
  "606162636465666768696a6b6c6d6e6f",
].map((hex) => leafHash(Buffer.from(hex, "hex")));
const [A, B, C, D, E, F, G] = [
  "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
  "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
  "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
  "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
  "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
  "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
  "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
] as const;
const [LEAF_1, LEAF_7] = [
  LEAVES[0] ?? "",
  "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
];

const INCLUSIONS: readonly (readonly [index: number, size: number, proof: Proof])[] = [
  [0, 1, []],
  [0, 8, [A, B, C]],
  [5, 8, [D, E, F]],
  [2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]],
  [1, 5, [LEAF_1, B, D]],
];
const CONSISTENCIES: readonly (readonly [older: number, newer: number, proof: Proof])[] = [
  [1, 1, []],
  [1, 8, [A, B, C]],
  [6, 8, [G, E, F]],
  [2, 5, [B, D]],
  [6, 7, [G, LEAF_7, F]],
];

describe("published proofs", () => {
  test.each(INCLUSIONS)("leaf %i in the tree of %i", (index, size, proof) => {
    expect(madeInclusion(LEAVES, index, size)).toEqual(proof);
    expect(verifyInclusion(LEAVES[index] ?? "", index, treeOf(LEAVES, size), proof)).toBe(true);
  });

  test.each(CONSISTENCIES)("the tree of %i in the tree of %i", (older, newer, proof) => {
    expect(madeConsistency(LEAVES, older, newer)).toEqual(proof);
    expect(verifyConsistency(treeOf(LEAVES, older), treeOf(LEAVES, newer), proof)).toBe(true);
  });

  test("consistency between trees whose leaves nobody knows (torchwood's witness tests)", () => {
    const base64 = (text: string) => Buffer.from(text, "base64").toString("hex");
    const one = { size: 1, root: base64("KgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=") };
    const three = { size: 3, root: base64("RcCI1Nk56ZcSmIEfIn0SleqtV7uvrlXNccFx595Iwl0=") };
    const five = { size: 5, root: base64("QrtXrQZCCvpIgsSmOsah7HdICzMLLyDfxToMql9WTjY=") };
    const second = base64("KgEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    const third = base64("KgIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    const pair = base64("+fUDV+k970B4I3uKrqJM4aP1lloPZP8mvr2Z4wRw2LI=");
    const fifth = base64("KgQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    expect(verifyConsistency(one, three, [second, third])).toBe(true);
    expect(verifyConsistency(one, five, [second, pair, fifth])).toBe(true);
    expect(verifyConsistency(three, five, [second, pair, fifth])).toBe(false);
  });
});

/** Up to 130 leaves: trees of up to eight levels, perfect ones among them. */
const trees = fc
  .integer({ min: 1, max: 130 })
  .chain((size) =>
    fc.tuple(fc.constant(numbered(size)), fc.nat(size - 1), fc.integer({ min: 1, max: size })),
  );

describe("proofs from a stream are those of the recursive definition, and verify", () => {
  test("inclusion", () => {
    fc.assert(
      fc.property(trees, ([leaves, index]) => {
        const proof = madeInclusion(leaves, index, leaves.length);
        expect(proof).toEqual(naiveInclusion(index, leaves));
        expect(verifyInclusion(leaves[index] ?? "", index, treeOf(leaves, leaves.length), proof)).toBe(true);
      }),
    );
  });

  test("consistency", () => {
    fc.assert(
      fc.property(trees, ([leaves, , older]) => {
        const proof = madeConsistency(leaves, older, leaves.length);
        expect(proof).toEqual(naiveConsistency(older, leaves, true));
        expect(verifyConsistency(treeOf(leaves, older), treeOf(leaves, leaves.length), proof)).toBe(true);
      }),
    );
  });

  test("at every size on the way, from one climb", () => {
    const leaves = numbered(70);
    const climb = climbAt(leaves, 21, climbFromNextLeaf);
    for (const [at, leaf] of leaves.entries()) {
      if (at < 21) continue;
      advance(climb, leaf);
      expect(inclusionProof(climb)).toEqual(naiveInclusion(21, leaves.slice(0, at + 1)));
    }
  });

  test("what is held grows with the tree's levels, not with its leaves", () => {
    const climb = climbAt([], 0, climbFromNextLeaf);
    for (const leaf of numbered(4_097)) advance(climb, leaf);
    expect(climb.siblings.length + climb.frontier.subtrees.length).toBeLessThan(16);
  });
});

describe("what is no proof", () => {
  const other = "ab".repeat(32);

  test("another leaf, index, size, root, or any change of the hashes", () => {
    fc.assert(
      fc.property(trees, fc.nat(), fc.nat(), ([leaves, index], pick, by) => {
        const tree = treeOf(leaves, leaves.length);
        const leaf = leaves[index] ?? "";
        const proof = naiveInclusion(index, leaves);
        const good = (...[l, i, t, p]: Parameters<typeof verifyInclusion>) => verifyInclusion(l, i, t, p);
        expect(good(other, index, tree, proof)).toBe(false);
        expect(good(leaf, index, { ...tree, root: other }, proof)).toBe(false);
        for (const wrong of changed(proof, pick, other)) expect(good(leaf, index, tree, wrong)).toBe(false);
        const elsewhere = (index + 1 + (by % leaves.length)) % (leaves.length + 1);
        if (elsewhere !== index) expect(good(leaf, elsewhere, tree, proof)).toBe(false);
      }),
    );
  });

  test("another older tree, and any change of the hashes", () => {
    fc.assert(
      fc.property(trees, fc.nat(), fc.nat(), ([leaves, , olderSize], pick, by) => {
        const [older, newer] = [treeOf(leaves, olderSize), treeOf(leaves, leaves.length)];
        const proof = naiveConsistency(olderSize, leaves, true);
        expect(verifyConsistency({ ...older, root: other }, newer, proof)).toBe(false);
        expect(verifyConsistency(older, { ...newer, root: other }, proof)).toBe(false);
        for (const wrong of changed(proof, pick, other))
          expect(verifyConsistency(older, newer, wrong)).toBe(false);
        const size = by % (leaves.length + 2);
        if (size !== olderSize) expect(verifyConsistency({ ...older, size }, newer, proof)).toBe(false);
      }),
      { numRuns: 300 },
    );
  });

  test("a proof that ends below the root, or goes on above it", () => {
    const tree = treeOf(LEAVES, 8);
    const below = { size: 8, root: treeOf(LEAVES, 4).root };
    expect(verifyInclusion(tree.root, 0, tree, [])).toBe(false);
    expect(verifyInclusion(LEAF_1, 0, below, [A, B])).toBe(false);
    expect(verifyInclusion(LEAF_1, 0, { size: 4, root: tree.root }, [A, B, C])).toBe(false);
    expect(verifyConsistency(treeOf(LEAVES, 2), below, [B])).toBe(false);
    expect(verifyConsistency(treeOf(LEAVES, 2), { size: 4, root: tree.root }, [B, C])).toBe(false);
  });

  test("sizes that are none, a proof longer than any tree is high, and a tree that shrinks", () => {
    const tree = treeOf(LEAVES, 8);
    for (const bad of [-1, 0.5, Number.NaN, 2 ** 53]) {
      expect(verifyInclusion(LEAF_1, bad, tree, [A, B, C])).toBe(false);
      expect(verifyInclusion(LEAF_1, 0, { ...tree, size: bad }, [A, B, C])).toBe(false);
      expect(verifyConsistency({ size: bad, root: LEAF_1 }, tree, [A, B, C])).toBe(false);
    }
    const long = Array.from({ length: MAX_PROOF_HASHES + 1 }, () => A);
    expect(verifyInclusion(LEAF_1, 0, { size: 2 ** 53 - 1, root: tree.root }, long)).toBe(false);
    expect(verifyConsistency(tree, treeOf(LEAVES, 7), [])).toBe(false);
    expect(verifyConsistency({ size: 0, root: EMPTY_ROOT }, tree, [])).toBe(true);
    expect(verifyConsistency({ size: 0, root: tree.root }, tree, [])).toBe(false);
    expect(verifyConsistency({ size: 0, root: EMPTY_ROOT }, tree, [A])).toBe(false);
  });
});

function numbered(count: number): readonly string[] {
  return Array.from({ length: count }, (_, at) => leafHash(Buffer.from(String(at))));
}

function treeOf(leaves: readonly string[], size: number): Tree {
  return { size, root: naiveRoot(leaves.slice(0, size)) };
}

function climbAt(
  leaves: readonly string[],
  size: number,
  begin: (frontier: ReturnType<typeof emptyFrontier>) => Climb,
) {
  const frontier = emptyFrontier();
  for (const leaf of leaves.slice(0, size)) append(frontier, leaf);
  return begin(frontier);
}

function madeInclusion(leaves: readonly string[], index: number, size: number): Proof {
  const climb = climbAt(leaves, index, climbFromNextLeaf);
  for (const leaf of leaves.slice(index, size)) advance(climb, leaf);
  expect(root(climb.frontier)).toBe(naiveRoot(leaves.slice(0, size)));
  return inclusionProof(climb);
}

function madeConsistency(leaves: readonly string[], older: number, newer: number): Proof {
  const climb = climbAt(leaves, older, climbFromEdge);
  for (const leaf of leaves.slice(older, newer)) advance(climb, leaf);
  return consistencyProof(climb, older);
}

/** A hash changed, left out, put in, at the front and at the end. */
function changed(proof: Proof, pick: number, other: string): readonly Proof[] {
  const added = [
    [other, ...proof],
    [...proof, other],
  ];
  if (proof.length === 0) return added;
  const at = pick % proof.length;
  return [...added, proof.toSpliced(at, 1, other), proof.toSpliced(at, 1)];
}

/** RFC 6962, 2.1, 2.1.1 and 2.1.2, word by word, over leaf hashes. */
function naiveRoot(leaves: readonly string[]): string {
  if (leaves.length === 0) return hash("sha256", "");
  if (leaves.length === 1) return leaves[0] ?? "";
  const k = splitOf(leaves.length);
  const node = Buffer.from(`01${naiveRoot(leaves.slice(0, k))}${naiveRoot(leaves.slice(k))}`, "hex");
  return hash("sha256", node);
}

function naiveInclusion(m: number, leaves: readonly string[]): Proof {
  if (leaves.length <= 1) return [];
  const k = splitOf(leaves.length);
  const [left, right] = [leaves.slice(0, k), leaves.slice(k)];
  return m < k
    ? [...naiveInclusion(m, left), naiveRoot(right)]
    : [...naiveInclusion(m - k, right), naiveRoot(left)];
}

function naiveConsistency(m: number, leaves: readonly string[], whole: boolean): Proof {
  if (m === leaves.length) return whole ? [] : [naiveRoot(leaves)];
  const k = splitOf(leaves.length);
  const [left, right] = [leaves.slice(0, k), leaves.slice(k)];
  return m <= k
    ? [...naiveConsistency(m, left, whole), naiveRoot(right)]
    : [...naiveConsistency(m - k, right, false), naiveRoot(left)];
}

function splitOf(size: number): number {
  let k = 1;
  while (k * 2 < size) k *= 2;
  return k;
}
