import { hash } from "node:crypto";

/**
 * RFC 6962 Merkle tree, append only, holding no more than its right edge: the roots of the perfect subtrees that
 * make up the tree, largest first, one for each bit set in `size`. Hashes are lower-case hex (node:crypto returns
 * a string three times as fast as a Buffer). A frontier is plain data and can be stored as it is.
 */
export type Frontier = { size: number; readonly subtrees: string[] };

/** The root of the tree with no leaves: SHA-256 of nothing. */
export const EMPTY_ROOT = hash("sha256", "", "hex");

export function emptyFrontier(): Frontier {
  return { size: 0, subtrees: [] };
}

export function copyFrontier(frontier: Frontier): Frontier {
  return { size: frontier.size, subtrees: [...frontier.subtrees] };
}

/** Whether this can be a tree's right edge: one hash for each bit set in the size. */
export function isFrontier({ size, subtrees }: Frontier): boolean {
  if (!Number.isSafeInteger(size) || size < 0 || !subtrees.every((each) => /^[0-9a-f]{64}$/.test(each)))
    return false;
  return subtrees.length === size.toString(2).replaceAll("0", "").length;
}

/** SHA-256(0x00 ‖ line). The line is without its "\n". */
export function leafHash(line: Uint8Array): string {
  const prefixed = Buffer.allocUnsafe(line.length + 1);
  prefixed[0] = 0x00;
  prefixed.set(line, 1);
  return hash("sha256", prefixed, "hex");
}

/** Adds a leaf. Changes the frontier in place: it has one owner, who copies it to keep an older state. */
export function append(frontier: Frontier, leaf: string): void {
  let node = leaf;
  // Each trailing 1 bit of the size is a perfect subtree that this leaf completes into one twice as large.
  for (let size = frontier.size; size % 2 === 1; size = (size - 1) / 2) {
    node = nodeHash(frontier.subtrees.pop() ?? "", node);
  }
  frontier.subtrees.push(node);
  frontier.size++;
}

/** The tree's root, hex. */
export function root(frontier: Frontier): string {
  const { subtrees } = frontier;
  let node = subtrees.at(-1) ?? EMPTY_ROOT;
  for (let i = subtrees.length - 2; i >= 0; i--) node = nodeHash(subtrees[i] ?? "", node);
  return node;
}

// One for the process: filled and hashed within one synchronous call.
const scratch = Buffer.alloc(65, 0x01);

/** SHA-256(0x01 ‖ left ‖ right), of two hashes in hex. */
export function nodeHash(left: string, right: string): string {
  scratch.write(left, 1, 32, "hex");
  scratch.write(right, 33, 32, "hex");
  return hash("sha256", scratch, "hex");
}
