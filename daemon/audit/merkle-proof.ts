import { copyFrontier, EMPTY_ROOT, type Frontier, nodeHash, root } from "./merkle.ts";

/**
 * RFC 6962 proofs (checked as RFC 9162, 2.1.3.2 and 2.1.4.2 say), and their making from a stream of leaves: the way
 * from one node up to the root is followed while the tree grows, so that no more is held than the tree's right edge.
 * Hashes are lower-case hex; sizes and indices are integers up to 2^53 - 1, so no bit operators here.
 */
export type Proof = readonly string[];

/** No tree of fewer than 2^53 leaves has a longer proof: 53 levels, and the node a consistency proof begins with. */
export const MAX_PROOF_HASHES = 54;

/** A tree by what a checkpoint says of it. */
export type Tree = { readonly size: number; readonly root: string };

/** True when `leaf` is the leaf number `index` of the tree. */
export function verifyInclusion(leaf: string, index: number, tree: Tree, proof: Proof): boolean {
  if (!isCount(index) || !isCount(tree.size) || index >= tree.size || proof.length > MAX_PROOF_HASHES)
    return false;
  const way = { node: index, last: tree.size - 1 };
  let hash = leaf;
  for (const sibling of proof) {
    const side = stepUp(way);
    if (side === "none") return false;
    hash = side === "left" ? nodeHash(sibling, hash) : nodeHash(hash, sibling);
  }
  return way.last === 0 && hash === tree.root;
}

/** True when the older tree's leaves are the first leaves of the newer one. Nothing is proven of an empty tree but its root. */
export function verifyConsistency(older: Tree, newer: Tree, proof: Proof): boolean {
  if (!isCount(older.size) || !isCount(newer.size) || older.size > newer.size) return false;
  if (older.size === 0) return proof.length === 0 && older.root === EMPTY_ROOT;
  if (older.size === newer.size) return proof.length === 0 && older.root === newer.root;
  if (proof.length > MAX_PROOF_HASHES) return false;
  const [first, ...rest] = isPowerOfTwo(older.size) ? [older.root, ...proof] : proof;
  return first !== undefined && climbs(first, rest, older, newer);
}

function climbs(first: string, siblings: Proof, older: Tree, newer: Tree): boolean {
  const way = { node: older.size - 1, last: newer.size - 1 };
  while (isOdd(way.node)) halve(way);
  let [olderHash, newerHash] = [first, first];
  for (const sibling of siblings) {
    const side = stepUp(way);
    if (side === "none") return false;
    if (side === "left") olderHash = nodeHash(sibling, olderHash);
    newerHash = side === "left" ? nodeHash(sibling, newerHash) : nodeHash(newerHash, sibling);
  }
  return way.last === 0 && olderHash === older.root && newerHash === newer.root;
}

/** A node's place on its level, and that of the level's last node. */
type Way = { node: number; last: number };

/** Goes up to the next level where the node has a sibling, and says on which side that is; "none" at the root. */
function stepUp(way: Way): "left" | "right" | "none" {
  if (way.last === 0) return "none";
  const side = isOdd(way.node) || way.node === way.last ? "left" : "right";
  // a last node without a sibling is its own parent
  while (side === "left" && !isOdd(way.node) && way.node !== 0) halve(way);
  halve(way);
  return side;
}

function halve(way: Way): void {
  way.node = Math.floor(way.node / 2);
  way.last = Math.floor(way.last / 2);
}

/** A node that is followed up a growing tree. Plain data; changed in place by `advance`. */
export type Climb = {
  readonly frontier: Frontier;
  /** The hash of the node followed; "" until its leaf is there. */
  start: string;
  /** Which of the frontier's subtrees it is in; -1 until its leaf is there. */
  place: number;
  /** Siblings on its way to the root of that subtree. */
  readonly siblings: string[];
};

/** Follows the leaf that is appended next. */
export function climbFromNextLeaf(frontier: Frontier): Climb {
  return { frontier: copyFrontier(frontier), start: "", place: -1, siblings: [] };
}

/** Follows the smallest subtree at the right edge: what a consistency proof from this tree begins with. The tree is not empty. */
export function climbFromEdge(frontier: Frontier): Climb {
  const place = frontier.subtrees.length - 1;
  return {
    frontier: copyFrontier(frontier),
    start: frontier.subtrees[place] ?? "",
    place,
    siblings: [],
  };
}

/** Adds a leaf to the climb's tree: `append` of merkle.ts, with an eye on one node. */
export function advance(climb: Climb, leaf: string): void {
  const { frontier, siblings } = climb;
  if (climb.place === -1) climb.start = leaf;
  let carried = climb.place === -1; // the new node holds the one that is followed
  let node = leaf;
  for (let size = frontier.size; isOdd(size); size = (size - 1) / 2) {
    const left = frontier.subtrees.pop() ?? "";
    const holds = climb.place === frontier.subtrees.length;
    if (carried) siblings.push(left);
    else if (holds) siblings.push(node);
    carried ||= holds;
    node = nodeHash(left, node);
  }
  if (carried) climb.place = frontier.subtrees.length;
  frontier.subtrees.push(node);
  frontier.size++;
}

/** A climb as it is now, to be kept while the other goes on. */
export function copyClimb(climb: Climb): Climb {
  return { ...climb, frontier: copyFrontier(climb.frontier), siblings: [...climb.siblings] };
}

/** The inclusion proof, in the climb's tree, of the leaf that `climbFromNextLeaf` followed. */
export function inclusionProof(climb: Climb): Proof {
  const { subtrees } = climb.frontier;
  const right = subtrees.slice(climb.place + 1);
  return [
    ...climb.siblings,
    // all that is to the right is one node of the whole tree
    ...(right.length === 0 ? [] : [root({ size: right.length, subtrees: right })]),
    ...subtrees.slice(0, climb.place).toReversed(),
  ];
}

/** The consistency proof between the tree of `olderSize` leaves that `climbFromEdge` began at and the climb's tree. */
export function consistencyProof(climb: Climb, olderSize: number): Proof {
  if (climb.frontier.size === olderSize) return [];
  const above = inclusionProof(climb);
  return isPowerOfTwo(olderSize) ? above : [climb.start, ...above];
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}

function isOdd(value: number): boolean {
  return value % 2 === 1;
}

function isPowerOfTwo(value: number): boolean {
  return Number.isInteger(Math.log2(value)) && 2 ** Math.log2(value) === value;
}
